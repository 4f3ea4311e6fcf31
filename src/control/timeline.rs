//! What an operator would put on a timeline, in words: joins, writes, tokens, members that come and go.

use crate::control::collector::Events;
use crate::logic::state::{Event, Written};
use crate::model::endpoint::{Catalog, MemberState};
use crate::model::intention::Mode;
use crate::model::name::NodeName;
use crate::model::view::{EventView, Severity};
use crate::net::clock;

/// Puts something on the timeline, now.
pub fn note(
    events: &Events,
    severity: Severity,
    kind: &str,
    subject: &impl ToString,
    message: impl Into<String>,
) {
    events.push(EventView {
        at_ms: clock::wall_ms(),
        severity,
        kind: kind.to_owned(),
        subject: subject.to_string(),
        message: message.into(),
    });
}

/// Returns what a command did, as the timeline has it; `None` where that is no news.
pub fn entry(event: &Event, at_ms: u64) -> Option<EventView> {
    let (severity, kind, subject, message) = words(event)?;
    Some(EventView { at_ms, severity, kind: kind.to_owned(), subject, message })
}

/// Puts what a command of `by` did on the timeline, and in the log; `by` is empty for the control plane itself.
/// Certificates that were renewed as planned are not news.
pub fn tell(events: &Events, happened: &[Event], by: &str) {
    for event in happened {
        if let Some((severity, kind, subject, mut message)) = words(event) {
            if kind == "apply" && !by.is_empty() {
                message = format!("{message} by {by}");
            }
            tracing::info!(kind, subject, "{message}");
            note(events, severity, kind, &subject, message);
        }
    }
}

fn words(event: &Event) -> Option<(Severity, &'static str, String, String)> {
    use Severity::{Info, Warning};
    let said = match event {
        Event::Founded { trust_domain } => {
            (Info, "control", trust_domain.to_string(), "the mesh was founded".to_owned())
        }
        Event::Object { written, object } => {
            let message = match written {
                Written::Created => "created",
                Written::Updated => "changed",
                Written::Deleted => "deleted",
            };
            (Info, "apply", object.key().to_string(), message.to_owned())
        }
        Event::DefaultActionSet { action } => {
            let message = format!("calls that no intention speaks of: {action:?}").to_lowercase();
            (Info, "apply", "default action".to_owned(), message)
        }
        Event::ModeSet { mode } => {
            let message = match mode {
                Mode::Enforce => "what is not allowed is refused",
                Mode::Audit => "nothing is refused: what would be is counted",
            };
            (Info, "apply", "default action".to_owned(), message.to_owned())
        }
        Event::TokenCreated { id } => (Info, "token", id.clone(), "a join token was made".to_owned()),
        Event::TokenRevoked { id } => (Info, "token", id.clone(), "the join token was taken back".to_owned()),
        Event::Joined { node, .. } => (Info, "join", node.to_string(), "joined with a token".to_owned()),
        Event::Replaced { node, .. } => {
            let message = "joined with a token and a new key, in place of a host that is gone";
            (Warning, "join", node.to_string(), message.to_owned())
        }
        Event::Rejoined { node } => {
            (Info, "join", node.to_string(), "came once more, with a token".to_owned())
        }
        Event::Banned { node } => {
            (Warning, "join", node.to_string(), "banned: its certificates are refused everywhere".to_owned())
        }
        Event::Unbanned { node } => (Info, "join", node.to_string(), "the ban was taken back".to_owned()),
        Event::Draining { node } => {
            (Info, "drain", node.to_string(), "drains: its services get no new calls".to_owned())
        }
        Event::Undrained { node } => {
            (Info, "drain", node.to_string(), "its services get calls again".to_owned())
        }
        Event::Forgotten { node } => {
            (Info, "join", node.to_string(), "removed from the mesh: its name is free".to_owned())
        }
        Event::GossipKeyInstalled { id } => {
            (Info, "control", format!("gossip key {id}"), "given to every member".to_owned())
        }
        Event::GossipKeyPromoted { id } => {
            (Info, "control", format!("gossip key {id}"), "seals from now on".to_owned())
        }
        Event::GossipKeyRetired { id } => (Info, "control", format!("gossip key {id}"), "retired".to_owned()),
        Event::Resumed { taken_ms } => {
            let message = format!("restored from a snapshot that was taken {}", clock::rfc3339(*taken_ms));
            (Warning, "control", "snapshot".to_owned(), message)
        }
        Event::TokenUsed { .. } | Event::Rekeyed { .. } | Event::Issued { .. } => return None,
    };
    Some(said)
}

/// Puts the members that came, went, or fell silent between two catalogues on the timeline.
pub fn tell_members(events: &Events, me: &NodeName, before: &Catalog, after: &Catalog) {
    for (node, member) in after.members.iter().filter(|(node, _)| *node != me) {
        let was = before.members.get(node).map(|member| member.state);
        if was == Some(member.state) {
            continue;
        }
        let (severity, message) = match (was, member.state) {
            (Some(MemberState::Suspect), MemberState::Alive) => (Severity::Info, "answers again"),
            (Some(MemberState::Dead | MemberState::Left), MemberState::Alive) => (Severity::Info, "is back"),
            (_, MemberState::Alive) => (Severity::Info, "is a member"),
            (_, MemberState::Suspect) => (Severity::Warning, "does not answer"),
            (None, MemberState::Dead | MemberState::Left) => continue,
            (Some(_), MemberState::Dead) => (Severity::Error, "is dead: it is no longer called"),
            (Some(_), MemberState::Left) => (Severity::Info, "said good-bye"),
        };
        note(events, severity, "member", node, message);
    }
}
