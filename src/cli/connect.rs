//! Finding the control plane, and what its refusals mean for the exit status.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};

use clap::Args;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};

use crate::api::client::{self, Client};
use crate::cli::exit::{Exit, Refusal, refuse};
use crate::cli::operator::Operator;
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
        help = "The control plane: unix:///PATH/control.sock or https://HOST:7443 [default: the one on this host, else where you logged in]"
    )]
    pub(crate) control: Option<String>,
}

impl ControlAddress {
    /// Returns the address that was given, if any was.
    fn named(&self) -> Option<&str> {
        self.control.as_deref().filter(|text| !text.is_empty())
    }

    /// Returns whether somebody has said which one is meant.
    pub(crate) fn is_named(&self) -> bool {
        self.named().is_some()
    }
}

/// The port of a control plane whose address has none.
const DEFAULT_PORT: u16 = 7443;

/// Returns the socket of the control plane on this host.
fn default_socket() -> PathBuf {
    data_dir::of("control").join(SOCKET_FILE)
}

/// Returns a client of the control plane that is named, else of the one on this host, else of the one where this user has
/// logged in.
///
/// # Errors
/// When the name is not one, there is none on this host and nobody has logged in, or the certificate is of no use.
pub(crate) async fn client(address: &ControlAddress) -> anyhow::Result<Client> {
    let Some(text) = address.named() else {
        let socket = default_socket();
        if socket.exists() {
            return Ok(Client::unix(&socket));
        }
        if let Some(operator) = Operator::load()? {
            return operator.client(None).await;
        }
        return Err(nowhere(&socket));
    };
    match text.split_once("://") {
        Some(("unix", path)) => Ok(Client::unix(Path::new(path))),
        Some(("https", authority)) => {
            let control = with_port(authority.trim_end_matches('/'));
            match Operator::load()? {
                Some(operator) => operator.client(Some(control)).await,
                None => Err(refuse(Exit::NotAllowed, not_logged_in(text))),
            }
        }
        Some(_) | None => {
            let expected = "expected unix:///PATH/control.sock or https://HOST:7443";
            Err(refuse(Exit::Usage, format!("'{text}' is not a control plane: {expected}")))
        }
    }
}

/// Says that there is no control plane to be found; one that root runs is no business of others.
fn nowhere(socket: &Path) -> anyhow::Error {
    if data_dir::system("control").exists() && !rustix::process::geteuid().is_root() {
        let text = "the control plane on this host is root's: use sudo, or log in with 'mesh login TOKEN' and a token \
                    from 'sudo mesh token create --role operator'";
        return refuse(Exit::NotAllowed, text.to_owned());
    }
    let text = format!(
        "there is no control plane on this host ({} does not exist): start one with 'mesh control', name it with \
         --control or MESH_CONTROL, or log in to one elsewhere with 'mesh login TOKEN'",
        socket.display()
    );
    refuse(Exit::Unreachable, text)
}

fn not_logged_in(control: &str) -> String {
    format!(
        "{control} asks who you are, and this user has not logged in: run 'mesh token create --role operator' on the \
         control plane's host, and 'mesh login TOKEN' here"
    )
}

/// Returns `host:port`, with the usual port where none is given.
fn with_port(authority: &str) -> String {
    let has_port = authority.rsplit_once(':').is_some_and(|(host, port)| {
        let whole = !host.contains(':') || host.ends_with(']');
        whole && port.parse::<u16>().is_ok()
    });
    if has_port { authority.to_owned() } else { format!("{authority}:{DEFAULT_PORT}") }
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

/// Returns the exit status that a failure stands for: that of whichever of its causes stands for one.
pub(crate) fn exit_of(error: &anyhow::Error) -> Exit {
    let refusal = error.chain().find_map(|cause| cause.downcast_ref::<Refusal>()).map(|refusal| refusal.exit);
    refusal.or_else(|| error.chain().find_map(exit_of_cause)).unwrap_or(Exit::Refused)
}

fn exit_of_cause(cause: &(dyn StdError + 'static)) -> Option<Exit> {
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

#[cfg(test)]
mod tests {
    use crate::cli::connect::with_port;

    #[test]
    fn an_address_without_a_port_gets_the_usual_one() {
        let addresses = ["host", "host:1", "10.0.0.1", "[::1]", "[::1]:8"].map(with_port);

        assert_eq!(addresses, ["host:7443", "host:1", "10.0.0.1:7443", "[::1]:7443", "[::1]:8"]);
    }
}
