//! `mesh drain`, `mesh leave` and `mesh ban`: nodes that get no calls, are removed, or put out of the mesh.

use clap::Args;

use crate::api::client::Client;
use crate::api::nodes::Spread;
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
    client.drain(&node, !undo).await?;
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

/// Carries out `mesh ban`. That some have not heard of it yet is no failure: it is on the control plane's disk.
///
/// # Errors
/// Those of the control plane.
pub(crate) async fn ban(args: BanArgs, client: &Client) -> anyhow::Result<()> {
    let BanArgs { node, undo } = args;
    let spinner = output::Spinner::start("waiting for the other nodes to hear of it");
    let spread = client.ban(&node, !undo).await?;
    drop(spinner);
    let (done, doubt) = tell_ban(&node, undo, spread.as_ref());
    output::note(&done);
    if let Some(doubt) = doubt {
        output::warn(&doubt);
    }
    Ok(())
}

/// Returns what was done, and what is doubtful about it: who acts on a ban, or on its end, and who does not yet.
fn tell_ban(node: &NodeName, undo: bool, spread: Option<&Spread>) -> (String, Option<String>) {
    let done = if undo {
        format!("node {node} is no longer banned")
    } else {
        format!("node {node} is banned; 'mesh ban --undo {node}' takes it back")
    };
    let Some(Spread { heard, unheard, .. }) = spread else {
        let doubt = "the control plane is of a version that does not say how many nodes have heard of it";
        return (done, Some(doubt.to_owned()));
    };
    let (told, all) = (heard.len(), heard.len() + unheard.len());
    let until = if undo { "goes on to refuse it" } else { "goes on to accept its certificates" };
    let again = format!(
        "keep this control plane running, see 'mesh check' for what is in the way, and ask again with \
         'mesh ban {}{node}'",
        if undo { "--undo " } else { "" }
    );
    if all == 0 {
        let doubt = format!(
            "no other node is there that could hear of it: until one has, every node that comes back {until}; {again}"
        );
        return (done, Some(doubt));
    }
    if unheard.is_empty() {
        let whom = if told == 1 {
            "the one node that is there has".to_owned()
        } else {
            format!("all {told} nodes that are there have")
        };
        return (format!("{done}; {whom} heard of it"), None);
    }
    let missing = named(unheard);
    let doubt = if heard.is_empty() {
        format!(
            "it is on the control plane's disk, but no node that is there has heard of it yet ({missing}): \
             until then each of them {until}; {again}"
        )
    } else {
        format!(
            "{told} of the {all} nodes that are there have heard of it, not yet: {missing}; they tell it to each other, and \
             until then each of these {until}; {again}"
        )
    };
    (done, Some(doubt))
}

/// Most nodes that are named in one sentence.
const NAMED_MAX: usize = 8;

fn named(nodes: &[NodeName]) -> String {
    let first = nodes.iter().take(NAMED_MAX).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match nodes.len().saturating_sub(NAMED_MAX) {
        0 => first,
        rest => format!("{first} and {rest} more"),
    }
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

#[cfg(test)]
mod tests {
    use crate::api::nodes::Spread;
    use crate::cli::node::tell_ban;

    fn told(undo: bool, heard: &[&str], unheard: &[&str]) -> (String, Option<String>) {
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let spread = Spread { revision: 7, heard: names(heard), unheard: names(unheard) };
        tell_ban(&"bad".parse().unwrap(), undo, Some(&spread))
    }

    #[test]
    fn a_ban_that_everybody_has_heard_of_is_no_doubt() {
        let (done, doubt) = told(false, &["a", "b"], &[]);

        assert!(done.contains("node bad is banned") && done.contains("all 2 nodes"), "{done}");
        assert_eq!(doubt, None);
    }

    #[test]
    fn who_has_not_heard_is_named_with_what_to_do() {
        let some = told(false, &["a"], &["b", "c"]).1.unwrap();
        assert!(some.contains("1 of the 3 nodes") && some.contains("not yet: b, c"), "{some}");
        let none = told(false, &[], &["a"]).1.unwrap();
        assert!(none.contains("has heard of it yet (a)"), "{none}");
        let nobody = told(true, &[], &[]).1.unwrap();
        assert!(nobody.contains("no other node is there"), "{nobody}");
        for doubt in [some, none] {
            assert!(
                doubt.contains("keep this control plane running") && doubt.contains("'mesh ban bad'"),
                "{doubt}"
            );
        }
        assert!(nobody.contains("'mesh ban --undo bad'"), "{nobody}");
    }

    #[test]
    fn a_crowd_is_counted_and_not_listed() {
        let many: Vec<_> = (0..20).map(|number| format!("n{number}")).collect();
        let doubt = told(false, &[], &many.iter().map(String::as_str).collect::<Vec<_>>()).1.unwrap();

        assert!(doubt.contains("n7 and 12 more") && !doubt.contains("n8,"), "{doubt}");
    }
}
