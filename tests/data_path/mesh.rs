//! A small mesh: an authority, nodes with workers, and a catalogue written by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh::identity::key::Key;
use mesh::identity::svid::Svid;
use mesh::identity::wallet::{Wallet, update};
use mesh::logic::compile::compile;
use mesh::model::endpoint::{Announcement, Catalog, Member, MemberState, NodeRecord, Role};
use mesh::model::identity::{SpiffeId, Subject};
use mesh::model::intention::{Action, Mode};
use mesh::model::name::{NodeName, ServiceName};
use mesh::model::resource::Resource;
use mesh::model::service::{LocalService, UpstreamPort};
use mesh::model::snapshot::{GossipKeys, Snapshot};
use mesh::net::clock;
use mesh::net::patience::Patience;
use mesh::proxy::shared::Shared;
use mesh::proxy::worker::{WorkerConfig, Workers};
use mesh::telemetry::access::AccessLog;
use mesh::telemetry::metric::Registry;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use tokio::sync::watch;

const TRUST_DOMAIN: &str = "shop.test";

/// A test that waits longer than this has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for something that must happen.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it must not take so long")
}

/// Looks again and again until `look` finds something.
pub(crate) async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    within(async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// An authority and what it told the nodes.
pub(crate) struct Mesh {
    root: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
    state: Mutex<State>,
    /// How long proxies that are started from now on wait for others.
    pub(crate) patience: Patience,
    /// Where they record calls, if they do.
    pub(crate) log: Option<Log>,
    /// From when until when certificates are valid that are issued from now on, seconds from then; as good as always where
    /// nothing is said.
    pub(crate) valid: Option<[i64; 2]>,
}

/// The access logs of all nodes, as text.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[derive(Default)]
struct State {
    catalog: Catalog,
    resources: Vec<Resource>,
    banned: Vec<NodeName>,
    mode: Mode,
    revision: u64,
    nodes: BTreeMap<NodeName, Arc<Shared>>,
}

/// A running proxy.
pub(crate) struct Node {
    pub(crate) workers: Workers,
    pub(crate) shared: Arc<Shared>,
    pub(crate) wallet: watch::Sender<Arc<Wallet>>,
}

impl Mesh {
    /// Makes one whose nodes keep access logs.
    pub(crate) fn logged() -> (Self, Log) {
        let log = Log::default();
        (Self { log: Some(log.clone()), ..Self::new() }, log)
    }

    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key).unwrap().der().to_vec();
        Self {
            root,
            issuer: Issuer::new(params, key),
            state: Mutex::default(),
            patience: Patience::default(),
            log: None,
            valid: None,
        }
    }

    pub(crate) fn svid(&self, node: &NodeName, subject: Subject) -> Arc<Svid> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let id = SpiffeId::new(TRUST_DOMAIN.parse().unwrap(), subject);
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, node.as_str());
        params.subject_alt_names = vec![SanType::URI(id.to_string().as_str().try_into().unwrap())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if let Some(valid) = self.valid {
            let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(clock::wall_ms());
            [params.not_before, params.not_after] = valid.map(|seconds| {
                let away = Duration::from_secs(seconds.unsigned_abs());
                if seconds < 0 { now - away } else { now + away }
            });
        }
        let leaf = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        let key = Arc::new(Key::from_pkcs8(&key.serialize_der()).unwrap());
        Arc::new(Svid::new(vec![leaf], key).unwrap())
    }

    /// Starts a proxy with the given `--service` and `--upstream` arguments, and tells everybody of its services.
    pub(crate) fn node(&self, name: &str, services: &[String], upstreams: &[&str]) -> Node {
        let name: NodeName = name.parse().unwrap();
        let locals: Vec<LocalService> = services.iter().map(|text| text.parse().unwrap()).collect();
        let mut subjects: BTreeSet<Subject> =
            locals.iter().map(|local| Subject::Service(local.name.clone())).collect();
        subjects.insert(Subject::Node(name.clone()));
        let svids =
            subjects.into_iter().map(|subject| (subject.clone(), self.svid(&name, subject))).collect();
        let (sender, wallet) = watch::channel(Arc::new(Wallet {
            trust_domain: TRUST_DOMAIN.parse().unwrap(),
            bundle: vec![self.root.clone().into()],
            svids,
            banned: BTreeSet::new(),
        }));
        let policy = compile(&self.snapshot(), &Catalog::default(), &name);
        let access = self.log.clone().map(|log| AccessLog::start(log).unwrap());
        let shared = Shared::new(policy, wallet, Registry::new(), access);
        shared.set_locals(locals.clone());
        let upstreams = upstreams
            .iter()
            .map(|service| UpstreamPort { name: service.parse().unwrap(), listen: loopback() })
            .collect();
        let workers = Workers::start(WorkerConfig {
            inherited: None,
            outbound: loopback(),
            inbound: loopback(),
            upstreams,
            capture: None,
            workers: 2,
            reuse: true,
            patience: self.patience,
            shared: shared.clone(),
        })
        .unwrap();
        self.state.lock().unwrap().nodes.insert(name.clone(), shared.clone());
        self.announce(&name, workers.addresses().inbound, &locals);
        Node { workers, shared, wallet: sender }
    }

    /// Gives a node other certificates for all that it is.
    pub(crate) fn renew(&self, node: &Node) {
        update(&node.wallet, |mut wallet| {
            for (subject, svid) in &mut wallet.svids {
                *svid = self.svid(&node.shared.node, subject.clone());
            }
            wallet
        });
    }

    /// Says for a node, which need not exist, that it runs services.
    pub(crate) fn announce(&self, node: &NodeName, addr: SocketAddr, services: &[LocalService]) {
        let announcement = |local: &LocalService| Announcement {
            service: local.name.clone(),
            port: local.addr.port(),
            protocol: local.protocol,
            weight: 100,
            healthy: true,
        };
        let record = NodeRecord {
            node: node.clone(),
            epoch: 1,
            version: 1,
            role: Role::Proxy,
            addr,
            zone: None,
            build: "test".to_owned(),
            draining: false,
            services: services.iter().map(announcement).collect(),
        };
        let member = Member {
            record: Some(record),
            state: MemberState::Alive,
            gossip: addr,
            since_ms: 0,
            rtt_us: None,
            vouched_ms: None,
        };
        self.change(|state| _ = state.catalog.members.insert(node.clone(), member));
    }

    /// Says in which zone nodes are, which need not run: those that do not are there without any service.
    pub(crate) fn zone(&self, zone: &str, nodes: &[&str]) {
        for node in nodes {
            let node: NodeName = node.parse().unwrap();
            let known = self.state.lock().unwrap().catalog.members.contains_key(&node);
            if !known {
                self.announce(&node, nobody(), &[]);
            }
            self.change(|state| {
                let member = state.catalog.members.get_mut(&node).unwrap();
                member.record.as_mut().unwrap().zone = Some(zone.parse().unwrap());
            });
        }
    }

    /// Says that somebody has not heard of a node for a moment.
    pub(crate) fn suspect(&self, node: &str) {
        let node: NodeName = node.parse().unwrap();
        self.change(|state| state.catalog.members.get_mut(&node).unwrap().state = MemberState::Suspect);
    }

    /// Says that a node is dead.
    pub(crate) fn bury(&self, node: &str) {
        let node: NodeName = node.parse().unwrap();
        self.change(|state| state.catalog.members.get_mut(&node).unwrap().state = MemberState::Dead);
    }

    /// Puts objects into force, given as JSON with `kind`.
    pub(crate) fn apply(&self, objects: serde_json::Value) {
        let resources = serde_json::from_value(objects).unwrap();
        self.change(|state| state.resources = resources);
    }

    /// Puts one traffic policy for the service `web` into force, given without its target.
    pub(crate) fn traffic(&self, mut spec: serde_json::Value) {
        spec["targetRef"] = serde_json::json!({ "kind": "Service", "name": "web" });
        self.apply(serde_json::json!([{
            "apiVersion": "mesh/v1",
            "kind": "TrafficPolicy",
            "metadata": { "name": "web" },
            "spec": spec
        }]));
    }

    /// Refuses nothing from now on.
    pub(crate) fn audit(&self) {
        self.change(|state| state.mode = Mode::Audit);
    }

    /// Bans a node.
    pub(crate) fn ban(&self, node: &str) {
        self.change(|state| state.banned.push(node.parse().unwrap()));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap();
        change(&mut state);
        state.revision += 1;
        let snapshot = state.snapshot();
        for (name, shared) in &state.nodes {
            shared.install(compile(&snapshot, &state.catalog, name));
        }
    }

    fn snapshot(&self) -> Snapshot {
        self.state.lock().unwrap().snapshot()
    }
}

impl State {
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            revision: self.revision,
            trust_domain: TRUST_DOMAIN.parse().unwrap(),
            bundle: Vec::new(),
            resources: self.resources.clone(),
            default_action: Action::Allow,
            mode: self.mode,
            gossip: GossipKeys { ring: Vec::new(), seeds: Vec::new() },
            banned: self.banned.clone(),
            bans: None,
            draining: Vec::new(),
            controls: Vec::new(),
        }
    }
}

impl Node {
    pub(crate) fn outbound(&self) -> SocketAddr {
        self.workers.addresses().outbound
    }

    /// Returns the local port that leads to a service.
    pub(crate) fn port(&self, service: &str) -> SocketAddr {
        let service: ServiceName = service.parse().unwrap();
        self.workers.addresses().upstreams[&service]
    }

    /// Returns the sum over all edges of something counted.
    pub(crate) fn counted(&self, count: impl Fn(&mesh::logic::metric::total::EdgeTotal) -> u64) -> u64 {
        self.shared.registry.totals().iter().map(|(_, total)| count(total)).sum()
    }
}

pub(crate) fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Returns an address where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap()
}

/// A service `name` on a node of its own, and a node `caller` to call it from.
pub(crate) struct Pair {
    pub(crate) mesh: Mesh,
    pub(crate) caller: Node,
    pub(crate) callee: Node,
}

impl Pair {
    pub(crate) fn new(name: &str, app: SocketAddr, protocol: &str) -> Self {
        Self::of(Mesh::new(), name, app, protocol)
    }

    /// As [`Pair::new`], in a mesh that is there.
    pub(crate) fn of(mesh: Mesh, name: &str, app: SocketAddr, protocol: &str) -> Self {
        let slash = if protocol.is_empty() { "" } else { "/" };
        let callee = mesh.node("callee", &[format!("{name}={app}{slash}{protocol}")], &[]);
        let caller = mesh.node("caller", &[], &[name]);
        mesh.change(|_| {});
        Self { mesh, caller, callee }
    }
}
