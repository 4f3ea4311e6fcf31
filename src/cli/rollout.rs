//! A revision on its way to the proxies: each is told of once it has acknowledged or refused it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::api::client::Client;
use crate::cli::exit::Exit;
use crate::cli::output::{self, Tone};
use crate::model::endpoint::{MemberState, Role};
use crate::model::name::NodeName;
use crate::model::resource::Revision;
use crate::model::view::{MeshView, NodeView};
use crate::net::clock;

/// How often the proxies' progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Where one proxy stands with a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// It has it in force.
    Acknowledged,
    /// It has said nothing of it yet; what it has in force.
    Behind(Option<Revision>),
    /// It keeps the one before, and why.
    Refused(String),
    /// It is not there: nobody waits for it.
    Away,
}

impl Standing {
    fn of(node: &NodeView, revision: Revision) -> Self {
        if !matches!(node.state, MemberState::Alive | MemberState::Suspect) {
            return Self::Away;
        }
        if node.revision.is_some_and(|has| has >= revision) {
            return Self::Acknowledged;
        }
        // A refusal of an older revision says nothing of this one.
        match (&node.refused, node.refused_revision) {
            (Some(reason), Some(refused)) if refused >= revision => Self::Refused(reason.clone()),
            (Some(_) | None, _) => Self::Behind(node.revision),
        }
    }

    fn says(&self, node: &NodeName, revision: Revision) -> String {
        let colour = output::colour(&std::io::stderr());
        match self {
            Self::Acknowledged => {
                format!("  {} {node}: r{revision} is in force", Tone::Good.paint("√", colour))
            }
            Self::Behind(None) => {
                format!("  {} {node}: behind, nothing heard of it", Tone::Warning.paint("‼", colour))
            }
            Self::Behind(Some(has)) => {
                format!("  {} {node}: behind, at r{has}", Tone::Warning.paint("‼", colour))
            }
            Self::Refused(reason) => format!("  {} {node}: refused {reason}", Tone::Bad.paint("×", colour)),
            Self::Away => format!("  {} {node}: not there, not waited for", Tone::Dim.paint("-", colour)),
        }
    }
}

fn standings(view: &MeshView, revision: Revision) -> BTreeMap<NodeName, Standing> {
    let proxies = view.nodes.iter().filter(|node| node.role == Role::Proxy);
    proxies.map(|node| (node.name.clone(), Standing::of(node, revision))).collect()
}

/// Waits until every living proxy has `revision` in force, and tells of each once it has, or has refused it.
///
/// # Errors
/// When the control plane does not answer.
pub(crate) async fn follow(client: &Client, revision: Revision, limit: Duration) -> anyhow::Result<Exit> {
    let mut spinner = Some(output::Spinner::start("waiting for the proxies"));
    let deadline = clock::now() + limit;
    let mut told: BTreeMap<NodeName, Standing> = BTreeMap::new();
    loop {
        let standings = standings(&client.view().await?, revision);
        let late = clock::now() >= deadline;
        let count = |wanted: fn(&Standing) -> bool| standings.values().filter(|one| wanted(one)).count();
        let there = count(|one| *one == Standing::Acknowledged);
        let behind = count(|one| matches!(one, Standing::Behind(_)));
        let refused = count(|one| matches!(one, Standing::Refused(_)));
        let over = late || behind == 0;
        let news = standings.iter().filter(|(node, one)| {
            let settled = matches!(one, Standing::Acknowledged | Standing::Refused(_)) || over;
            settled && told.get(*node) != Some(*one)
        });
        let news: Vec<_> = news.map(|(node, one)| (node.clone(), one.clone())).collect();
        if over || !news.is_empty() {
            // A line among the frames of a spinner would be torn.
            spinner = None;
        }
        for (node, standing) in news {
            output::note(&standing.says(&node, revision));
            told.insert(node, standing);
        }
        let standing = format!("{there} of {} proxies at r{revision}", there + behind + refused);
        if over {
            drop(spinner);
            output::note(&standing);
            return Ok(match (refused, behind) {
                (0, 0) => Exit::Done,
                (_, 0) => Exit::Refused,
                (_, _) => Exit::TimedOut,
            });
        }
        spinner.get_or_insert_with(|| output::Spinner::start("waiting for the proxies")).say(standing);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
