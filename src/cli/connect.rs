//! Finding the control plane, and what its refusals mean for the exit status.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};

use clap::Args;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};

use crate::api::client::{self, Client};
use crate::cli::exit::{Exit, refuse};
use crate::cli::{data_dir, stat};
use crate::control::bootstrap::SOCKET_FILE;
use crate::model::view::MeshView;

/// Where to find the control plane.
#[derive(Debug, Clone, Args)]
pub(crate) struct ControlAddress {
    /// The control plane
    #[arg(
        long,
        global = true,
        env = "MESH_CONTROL",
        value_name = "URL",
        help = "The control plane: unix:///PATH/control.sock or https://HOST:7443 [default: the one on this host]"
    )]
    pub(crate) control: Option<String>,
}

/// Returns the socket of the control plane on this host.
fn default_socket() -> PathBuf {
    data_dir::of("control").join(SOCKET_FILE)
}

/// Returns a client of the control plane that is named, or of the one on this host.
///
/// # Errors
/// When the name is not one, or there is none on this host.
pub(crate) fn client(address: &ControlAddress) -> anyhow::Result<Client> {
    let Some(text) = address.control.as_deref().filter(|text| !text.is_empty()) else {
        let socket = default_socket();
        if socket.exists() {
            return Ok(Client::unix(&socket));
        }
        let text = format!(
            "there is no control plane on this host ({} does not exist): start one with 'mesh control', or name it \
             with --control or MESH_CONTROL",
            socket.display()
        );
        return Err(refuse(Exit::Unreachable, text));
    };
    match text.split_once("://") {
        Some(("unix", path)) => Ok(Client::unix(Path::new(path))),
        Some(("https", _)) => {
            let text = format!(
                "'{text}' needs an operator's certificate, which this version does not issue yet: run the command on \
                 the control plane's host, or forward its socket (ssh -L /tmp/mesh.sock:{} HOST) and set \
                 MESH_CONTROL=unix:///tmp/mesh.sock",
                default_socket().display()
            );
            Err(refuse(Exit::NotAllowed, text))
        }
        Some(_) | None => {
            let expected = "expected unix:///PATH/control.sock or https://HOST:7443";
            Err(refuse(Exit::Usage, format!("'{text}' is not a control plane: {expected}")))
        }
    }
}

/// Returns one view, or with `watch` one a second.
///
/// # Errors
/// When the control plane does not answer or refuses.
pub(crate) async fn views(
    client: &Client,
    watch: bool,
) -> Result<BoxStream<'static, Result<MeshView, client::Error>>, client::Error> {
    if watch {
        return Ok(client.views().await?.boxed());
    }
    let view = client.view().await?;
    Ok(stream::iter([Ok(view)]).boxed())
}

/// Returns the exit status that a cause of a failure stands for; `None` when it stands for none.
pub(crate) fn exit_of(cause: &(dyn StdError + 'static)) -> Option<Exit> {
    if cause.is::<stat::NoSuchService>() {
        return Some(Exit::NotFound);
    }
    match cause.downcast_ref::<client::Error>()? {
        client::Error::Unreachable(_) | client::Error::Broken(_) => Some(Exit::Unreachable),
        client::Error::WrongPin(_) => Some(Exit::Refused),
        client::Error::TimedOut => Some(Exit::TimedOut),
        client::Error::Problem(problem) => Some(match problem.status {
            401 | 403 => Exit::NotAllowed,
            404 => Exit::NotFound,
            409 | 412 => Exit::Conflict,
            _ => Exit::Refused,
        }),
    }
}

/// Follows the view of one proxy, from its admin API.
///
/// # Errors
/// When the proxy does not answer.
pub(crate) async fn proxy_views(
    address: String,
) -> Result<BoxStream<'static, Result<MeshView, client::Error>>, client::Error> {
    Ok(Client::admin(&address).proxy_views().await?.boxed())
}
