//! `mesh drain`, `mesh leave` and `mesh ban`: nodes that get no calls, are removed, or put out of the mesh.

use clap::Args;

use crate::api::client::Client;
use crate::api::wire::Mark;
use crate::cli::output;
use crate::model::name::NodeName;

/// Flags of `mesh ban`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BanArgs {
    /// The node: its certificates are refused everywhere from now on
    #[arg(value_name = "NODE")]
    node: NodeName,
    /// Take the ban back
    #[arg(long)]
    undo: bool,
}

/// Flags of `mesh leave`.
#[derive(Debug, Clone, Args)]
pub(crate) struct LeaveArgs {
    /// The node: it gets no calls that others can take, can no longer renew its certificates, and its name is free
    #[arg(value_name = "NODE")]
    node: NodeName,
}

/// Flags of `mesh drain`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DrainArgs {
    /// The node: its services get no new calls while other nodes serve them
    #[arg(value_name = "NODE")]
    node: NodeName,
    /// Let its services have calls again
    #[arg(long)]
    undo: bool,
}

/// Carries out `mesh drain`.
///
/// # Errors
/// Those of the control plane.
pub(crate) async fn drain(args: DrainArgs, client: &Client) -> anyhow::Result<()> {
    let DrainArgs { node, undo } = args;
    client.mark(&node, Mark::Drain, !undo).await?;
    output::note(&if undo {
        format!("the services of node {node} get calls again")
    } else {
        format!(
            "node {node} drains: other nodes get the calls of its services, and it keeps what is under way; \
             'mesh drain --undo {node}' takes it back"
        )
    });
    Ok(())
}

/// Carries out `mesh ban`.
///
/// # Errors
/// Those of the control plane.
pub(crate) async fn ban(args: BanArgs, client: &Client) -> anyhow::Result<()> {
    let BanArgs { node, undo } = args;
    client.mark(&node, Mark::Ban, !undo).await?;
    output::note(&if undo {
        format!("node {node} is no longer banned")
    } else {
        format!("node {node} is banned; 'mesh ban --undo {node}' takes it back")
    });
    Ok(())
}

/// Carries out `mesh leave`.
///
/// # Errors
/// Those of the control plane.
pub(crate) async fn leave(args: LeaveArgs, client: &Client) -> anyhow::Result<()> {
    let node = args.node;
    client.forget_node(&node).await?;
    output::note(&format!(
        "node {node} was removed: other nodes get the calls of its services; what only it serves, and its own calls, go on \
         until its certificates end ('mesh ban' cuts at once); it may join again with a new token"
    ));
    Ok(())
}
