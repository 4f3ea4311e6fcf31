//! From a data directory to a store, an authority and a name: the mesh is founded at the first start, found at later ones.

use std::path::PathBuf;
use std::sync::Arc;

use data_encoding::BASE64;

use crate::control::authority::{self, Authority};
use crate::control::bootstrap::Options;
use crate::control::restore::{self, STORE_DIR};
use crate::control::root::Brought;
use crate::control::store::{self, Store, SubmitError};
use crate::logic::state::Change;
use crate::logic::state::command::Admission;
use crate::model::endpoint::Role;
use crate::model::identity::TrustDomain;
use crate::model::intention::Action;
use crate::model::name::NodeName;
use crate::model::token::base32;
use crate::net::{clock, interface};

/// Length of the random part of a trust domain, bytes: 80 bits.
const TRUST_DOMAIN_BYTES: usize = 10;
const GOSSIP_KEY_BYTES: usize = 32;
/// The id of the first gossip key.
const FIRST_GOSSIP_KEY: u8 = 1;

/// Why a control plane cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Its store, when written.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// Its authority.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// A snapshot that waits to be restored.
    #[error(
        "{0}; 'mesh snapshot restore' has placed it: restore another one, or remove restore.pending from the data \
             directory to go on with what was there"
    )]
    Restore(#[from] restore::Error),
    /// Asked to become a second one.
    #[error(
        "'mesh control --join' is not supported: a mesh has one control plane for now, and a second one cannot join it. To \
         move it, stop it, copy its data directory to the other host, and start it there; leave out --join (MESH_JOIN)"
    )]
    Join,
    /// Half a root.
    #[error("--root-cert and --root-key go together")]
    HalfRoot,
    /// The mesh in the store has another name.
    #[error(
        "{dir} holds the mesh {stored}, not {asked}: leave --trust-domain out, or give an empty --data-dir"
    )]
    TrustDomain {
        /// The data directory.
        dir: PathBuf,
        /// Its mesh.
        stored: TrustDomain,
        /// What was asked for.
        asked: TrustDomain,
    },
    /// The name is another node's.
    #[error("a proxy of this mesh is called {0}: give the control plane another --name")]
    Name(NodeName),
    /// A blocking task ended without a result.
    #[error("starting was interrupted")]
    Interrupted,
}

/// What a control plane stands on.
#[derive(Debug)]
pub struct Founded {
    /// What is remembered.
    pub store: Store,
    /// Who signs.
    pub authority: Arc<Authority>,
    /// The mesh.
    pub trust_domain: TrustDomain,
    /// This node.
    pub node: NodeName,
}

/// Opens the data directory, and founds the mesh when there is none.
pub async fn begin(options: &Options) -> Result<Founded, Error> {
    if options.join.is_some() {
        return Err(Error::Join);
    }
    let brought = match (&options.root_cert, &options.root_key) {
        (Some(certificate), Some(key)) => {
            Some(Brought { certificate: certificate.clone(), key: key.clone() })
        }
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(Error::HalfRoot),
    };
    let data_dir = options.data_dir.clone();
    let open = move || {
        restore::carry_out(&data_dir, clock::wall_ms())?;
        Ok::<_, Error>(Store::open(&data_dir.join(STORE_DIR))?)
    };
    let store = tokio::task::spawn_blocking(open).await.map_err(|_| Error::Interrupted)??;
    // A host that was renamed meanwhile is still the same control plane.
    let known = || {
        let nodes = store.state().nodes().clone();
        nodes.into_iter().find(|(_, node)| node.role == Role::Control).map(|(name, _)| name)
    };
    let node = options.name.clone().or_else(known).unwrap_or_else(default_name);
    match prepare(options, &store, &node, brought).await {
        Ok((authority, trust_domain)) => {
            Ok(Founded { store, authority: Arc::new(authority), trust_domain, node })
        }
        Err(error) => {
            store.close().await;
            Err(error)
        }
    }
}

async fn prepare(
    options: &Options,
    store: &Store,
    node: &NodeName,
    brought: Option<Brought>,
) -> Result<(Authority, TrustDomain), Error> {
    let stored = store.state().mesh().map(|mesh| mesh.trust_domain.clone());
    let first = stored.is_none();
    let trust_domain = match (stored, &options.trust_domain) {
        (Some(stored), Some(asked)) if stored != *asked => {
            return Err(Error::TrustDomain { dir: options.data_dir.clone(), stored, asked: asked.clone() });
        }
        (Some(stored), _) => stored,
        (None, Some(asked)) => asked.clone(),
        (None, None) => random_trust_domain(),
    };
    if first {
        let default_action = options.default_action.unwrap_or(Action::Allow);
        store.submit(Change::Found { trust_domain: trust_domain.clone(), default_action }).await?;
    }
    let held = store.state().mesh().map(|mesh| mesh.default_action);
    if !first && options.default_action.is_some_and(|asked| held.is_some_and(|held| held != asked)) {
        tracing::warn!(
            "--default-action is for the first start of a mesh: 'mesh default' changes it in one that exists"
        );
    }
    let (data_dir, db, domain) = (options.data_dir.clone(), store.db().clone(), trust_domain.clone());
    let open = move || Authority::open(&data_dir, &db, &domain, brought.as_ref(), clock::wall_ms());
    let authority = tokio::task::spawn_blocking(open).await.map_err(|_| Error::Interrupted)??;
    admit_self(store, node, authority.serving_fingerprint()).await?;
    if store.state().gossip().is_empty() {
        let key: [u8; GOSSIP_KEY_BYTES] = rand::random();
        store.submit(Change::InstallGossipKey { id: FIRST_GOSSIP_KEY, key: BASE64.encode(&key) }).await?;
    }
    Ok((authority, trust_domain))
}

/// The founder needs no token; what bears its name already must be itself.
async fn admit_self(store: &Store, node: &NodeName, key: String) -> Result<(), Error> {
    if store.state().nodes().get(node).is_some_and(|known| known.role != Role::Control) {
        return Err(Error::Name(node.clone()));
    }
    let admission = Admission {
        node: node.clone(),
        role: Role::Control,
        key,
        services: Vec::new(),
        token: None,
        replace: true,
    };
    store.submit(Change::Admit(admission)).await?;
    Ok(())
}

/// A proxy on the same host takes the host's name: the control plane is called otherwise.
fn default_name() -> NodeName {
    let host = interface::host_name();
    let name = host.and_then(|host| format!("control-{host}").parse().ok());
    name.unwrap_or_else(|| "control".parse().expect("a label is a node name"))
}

fn random_trust_domain() -> TrustDomain {
    let random: [u8; TRUST_DOMAIN_BYTES] = rand::random();
    let name = base32().encode(&random);
    format!("{name}.mesh").parse().expect("base32 in lower case and a dot make a trust domain")
}
