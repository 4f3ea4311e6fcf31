//! `mesh login` and `mesh logout`: administer the mesh from another host than the control plane's.

use clap::Args;

use crate::cli::exit::{Exit, refuse};
use crate::cli::operator::{self, Operator};
use crate::cli::output;
use crate::model::name::NodeName;
use crate::model::token::Token;
use crate::net::{interface, owner};

/// Flags of `mesh login`.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoginArgs {
    /// A token from 'mesh token create --role operator'
    #[arg(value_name = "TOKEN", env = "MESH_JOIN", hide_env_values = true)]
    token: Token,
    /// What you are called in the mesh [default: your user name and this host's]
    #[arg(long, env = "MESH_NAME", value_name = "NAME")]
    name: Option<NodeName>,
}

/// Gets an operator's certificate, and keeps it for the commands that follow.
///
/// # Errors
/// When the token is refused, or the certificate cannot be kept.
pub(crate) async fn run(args: LoginArgs) -> anyhow::Result<Exit> {
    let Some(name) = args.name.or_else(default_name) else {
        let text = "your user name and this host's make no name for an operator: say who you are with --name";
        return Err(refuse(Exit::Usage, text.to_owned()));
    };
    let operator = Operator::join(&args.token, name).await?;
    let controls = operator.controls().join(", ");
    output::note(&format!(
        "logged in as operator/{} at {controls}; 'mesh logout' ends it here",
        operator.name()
    ));
    output::note(&format!("to end it everywhere: mesh leave {}", operator.name()));
    Ok(Exit::Done)
}

/// Forgets the certificate on this host.
///
/// # Errors
/// When its file cannot be removed.
pub(crate) fn logout() -> anyhow::Result<Exit> {
    let text = if operator::forget()? { "logged out on this host" } else { "nobody was logged in" };
    output::note(text);
    Ok(Exit::Done)
}

fn default_name() -> Option<NodeName> {
    let user = user();
    let host = interface::host_name()?;
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let user: String = user.chars().map(allowed).collect();
    format!("{}.{host}", user.trim_matches('-')).parse().ok()
}

/// Returns who this user is: as the environment says, which a service or a container may lack, else as the host does.
fn user() -> String {
    let said = |name| std::env::var(name).ok().filter(|user| !user.is_empty());
    let uid = rustix::process::geteuid().as_raw();
    let known = || owner::user(uid, &std::fs::read_to_string("/etc/passwd").ok()?).map(str::to_owned);
    said("USER").or_else(|| said("LOGNAME")).or_else(known).unwrap_or_else(|| format!("user-{uid}"))
}
