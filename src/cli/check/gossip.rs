//! How gossip reaches the members of the mesh from one node, and they it: packets and exchanges, both ways.

use crate::api::client::Error;
use crate::cli::check::finding::{Category, Check, Mark, check};
use crate::model::endpoint::{Contact, MemberState, Reach};

/// Members answer packets at least so often, milliseconds, and in a large mesh within so many for each member.
const ANSWER_AGE_MS: u64 = 10_000;
const ANSWER_AGE_EACH_MS: u64 = 1_500;
/// Within this time somebody exchanges everything with each node, milliseconds; the odds against it are 1 in 100,000.
const CALL_AGE_MS: u64 = 120_000;
const PORTS: &str = "open UDP and TCP port 7946 (or what --gossip says) between the hosts, both ways";

/// What each check is called.
struct Words {
    there: &'static str,
    tcp_out: &'static str,
    udp: &'static str,
    tcp_in: &'static str,
    whose: &'static str,
}

const HOST: Words = Words {
    there: "other members are there",
    tcp_out: "it reaches every member by TCP",
    udp: "every member answers its packets (UDP, there and back)",
    tcp_in: "members reach this host by TCP",
    whose: "this host",
};

const CONTROL: Words = Words {
    there: "the control plane's gossip knows other members",
    tcp_out: "the control plane reaches every member by TCP",
    udp: "every member answers the control plane's packets (UDP, there and back)",
    tcp_in: "members reach the control plane by TCP",
    whose: "the control plane",
};

/// Judges what this host's proxy found out; `None` when it could not.
pub(crate) fn of_host(reach: Option<&Reach>) -> Category {
    let checks = if let Some(reach) = reach {
        judge(reach, &HOST)
    } else {
        let found = ["the proxy could not find out in time".to_owned()];
        vec![check("gossip reaches the other members", Mark::Error, found, "look at its log")]
    };
    Category { reach: reach.cloned(), ..Category::new("host-gossip", checks) }
}

/// Judges what a control plane found out; nothing when it is of a version that does not look.
pub(crate) fn of_control(asked: Result<Reach, Error>) -> Option<Category> {
    let name = "control-gossip";
    match asked {
        Ok(reach) => {
            let checks = judge(&reach, &CONTROL);
            Some(Category { reach: Some(reach), ..Category::new(name, checks) })
        }
        Err(Error::Problem(problem)) if problem.status == 404 => None,
        Err(error) => {
            let found = [error.to_string()];
            let hint = "look at the log of the control plane";
            let unknown =
                check("the control plane knows how gossip reaches the members", Mark::Error, found, hint);
            Some(Category::new(name, vec![unknown]))
        }
    }
}

fn judge(reach: &Reach, words: &Words) -> Vec<Check> {
    let alive = || reach.contacts.iter().filter(|contact| contact.state == MemberState::Alive);
    let count = reach.contacts.len() as u64;
    let patience_ms = ANSWER_AGE_MS.max(ANSWER_AGE_EACH_MS.saturating_mul(count));
    let unreached = reach.contacts.iter().filter_map(|contact| {
        let error = contact.exchange_error.as_ref()?;
        Some(format!("{} at {}: {error}", contact.node, contact.gossip))
    });
    let unreached: Vec<_> = unreached.collect();
    let all = !unreached.is_empty() && unreached.len() == reach.contacts.len();
    let is_mute = |contact: &&Contact| {
        reach.speaking_ms > patience_ms && contact.answered_ms_ago.is_none_or(|age| age > patience_ms)
    };
    let mute = alive().filter(is_mute).map(|contact| mute(contact, patience_ms, words.whose));
    let called = reach.contacts.iter().filter_map(|contact| contact.called_ms_ago).min();
    let uncalled = count > 0 && reach.speaking_ms > CALL_AGE_MS && called.is_none_or(|age| age > CALL_AGE_MS);
    let uncalled =
        uncalled.then(|| format!("no member has opened a connection to {} for two minutes", words.whose));
    let alone = (count == 0).then(|| "it knows of no other member that is there".to_owned());
    vec![
        check(words.there, Mark::Warning, alone, PORTS),
        check(words.tcp_out, if all { Mark::Error } else { Mark::Warning }, unreached, PORTS),
        check(words.udp, Mark::Warning, mute, PORTS),
        check(words.tcp_in, Mark::Warning, uncalled, PORTS),
    ]
}

/// Says of a member that does not answer since when, and which way its packets or ours are lost.
fn mute(contact: &Contact, patience_ms: u64, whose: &str) -> String {
    let place = format!("{} at {}", contact.node, contact.gossip);
    let since = match contact.answered_ms_ago {
        Some(age) => format!("{place} last answered {} s ago", age / 1000),
        None => format!("{place} has never answered"),
    };
    match contact.heard_ms_ago {
        Some(age) if age <= patience_ms => {
            format!("{since}, but its own packets arrive: UDP from {whose} to {} is lost", contact.gossip)
        }
        Some(age) => format!(
            "{since}, and no packet of it has arrived for {} s: UDP from there to {whose} is lost, if not both ways",
            age / 1000
        ),
        None => {
            format!(
                "{since}, and no packet of it ever arrived: UDP from there to {whose} is lost, if not both ways"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::api::client::Error;
    use crate::api::problem::Problem;
    use crate::cli::check::finding::Mark;
    use crate::cli::check::gossip::of_control;
    use crate::model::endpoint::{Contact, MemberState, Reach};

    fn reach(answered_ms_ago: Option<u64>, heard_ms_ago: Option<u64>) -> Reach {
        let contact = Contact {
            node: "vm-1".parse().unwrap(),
            gossip: "10.0.0.1:7946".parse().unwrap(),
            state: MemberState::Alive,
            answered_ms_ago,
            heard_ms_ago,
            exchange_error: None,
            called_ms_ago: Some(1_000),
        };
        Reach { speaking_ms: 600_000, contacts: vec![contact] }
    }

    fn udp(reach: Reach) -> (Mark, String) {
        let category = of_control(Ok(reach)).unwrap();
        let found = category.checks.into_iter().find(|check| check.description.contains("UDP")).unwrap();
        (found.result, found.findings.join("\n"))
    }

    #[test]
    fn it_is_told_which_way_packets_are_lost() {
        assert_eq!(udp(reach(Some(900), Some(900))), (Mark::Success, String::new()));
        let (mark, out) = udp(reach(Some(30_000), Some(900)));
        assert_eq!(mark, Mark::Warning);
        assert!(
            out.contains("last answered 30 s ago")
                && out.contains("from the control plane to 10.0.0.1:7946 is lost"),
            "{out}"
        );
        let (_, back) = udp(reach(Some(30_000), Some(31_000)));
        assert!(back.contains("from there to the control plane is lost"), "{back}");
        let (_, never) = udp(reach(None, None));
        assert!(never.contains("never answered") && never.contains("ever arrived"), "{never}");
    }

    #[test]
    fn a_control_plane_that_cannot_look_is_told_from_one_that_did_not_find_out() {
        let refused = |status| {
            Err(Error::Problem(Problem {
                title: String::new(),
                status,
                detail: "late".to_owned(),
                errors: Vec::new(),
            }))
        };
        assert!(of_control(refused(404)).is_none());
        let category = of_control(refused(503)).unwrap();
        assert_eq!(category.checks[0].result, Mark::Error);
    }
}
