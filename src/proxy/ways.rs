//! Ways to virtual addresses, for hosts that have none: without a route, the kernel refuses a connection before any rule
//! sees it; and with one but no address to send from, the answers to it lead nowhere. Most hosts have a default route for
//! IPv4 and none for IPv6; one behind a firewall may have none at all.
//!
//! The same goes for name servers: a host whose `resolv.conf` names one that it knows no way to asks nobody, so that nothing
//! is led to ours. Such a server may be reached some time later by a route of the host's own, a wider one mostly. So our ways
//! to name servers are in a table of their own, which the kernel looks at after all others, and never for packets of ours:
//! what we ask a server ourselves goes there or is refused at once, as before.
//!
//! A way leads to the loopback interface, and is our own: it is taken away with the rules.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::logic::naming::book::{PREFIX_V4, PREFIX_V6, RANGE_V4, RANGE_V6};
use crate::net::dns::resolvers::PORT;
use crate::net::mark::MARK;
use crate::net::{interface, tool};

/// The number by which `ip route` tells who made a route (rtnetlink(7), `rtm_protocol`): one that nobody has.
const MADE_BY_US: &str = "229";

/// The table of routes to name servers, and the place of the rule that leads there: hosts have their last one at 32767.
const TABLE: &str = MADE_BY_US;
const PLACE: &str = "32800";

/// Returns whether this host has a way to virtual addresses of IPv4, and to those of IPv6.
pub(crate) fn open_ways() -> (bool, bool) {
    (is_open((RANGE_V4, 80).into()), is_open((RANGE_V6, 80).into()))
}

fn is_open(addr: SocketAddr) -> bool {
    // Connections that begin at no address are as good as none.
    interface::towards(addr).is_some_and(|from| !from.is_unspecified())
}

/// Returns the words for `ip` that make the ways which are missing: none, mostly.
pub(crate) fn missing() -> Vec<Vec<String>> {
    let (v4, v6) = open_ways();
    let make = |is_open: bool, range: String, from: &[&str]| {
        let words = ["route", "replace", &range, "dev", "lo"].into_iter().chain(from.iter().copied());
        let words = words.chain(["proto", MADE_BY_US]).map(str::to_owned);
        (!is_open).then(|| words.collect())
    };
    // A host may have no address but this one, which has to be asked for: it is good within the host alone.
    let v4 = make(v4, range_v4(), &["scope", "host", "src", "127.0.0.1"]);
    v4.into_iter().chain(make(v6, range_v6(), &[])).collect()
}

/// Returns the words for `ip` that make ways to those of some name servers that applications have none to: none, mostly.
pub(crate) fn missing_to(servers: &BTreeSet<IpAddr>) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for (family, is_v4) in [("-4", true), ("-6", false)] {
        let closed = |server: &&IpAddr| server.is_ipv4() == is_v4 && !is_open((**server, PORT).into());
        let closed: Vec<_> = servers.iter().filter(closed).collect();
        if closed.is_empty() {
            continue;
        }
        let mark = format!("{MARK:#x}");
        let rule = [family, "rule", "add", "not", "fwmark", &mark, "lookup", TABLE, "pref", PLACE];
        all.push(rule.map(str::to_owned).to_vec());
        // As for virtual addresses: a host may have no other address to send from.
        let from: &[&str] = if is_v4 { &["scope", "host", "src", "127.0.0.1"] } else { &[] };
        all.extend(closed.into_iter().map(|server| {
            let server = server.to_string();
            let words = [family, "route", "replace", &server, "dev", "lo"].into_iter();
            let words = words.chain(from.iter().copied()).chain(["proto", MADE_BY_US, "table", TABLE]);
            words.map(str::to_owned).collect()
        }));
    }
    all
}

/// Makes ways to name servers, for those that have none: their questions are led to ours before they leave. Returns what is
/// missing still, and was tried in vain.
pub(crate) async fn open_to(servers: &BTreeSet<IpAddr>) -> Vec<Vec<String>> {
    let missing = missing_to(servers);
    for words in &missing {
        // The rule may be there already, for another server.
        make(words, "applications of this host had no way to its name server").await;
    }
    let missing = if missing.is_empty() { missing } else { missing_to(servers) };
    if let Some(words) = missing.last() {
        tracing::warn!(
            "this host has no way to a name server that it asks, so that names below .mesh are not found: 'ip {}' makes one",
            words.join(" ")
        );
    }
    missing
}

/// Takes away the ways to name servers.
pub(crate) async fn close_to_servers() {
    for family in ["-4", "-6"] {
        // Mostly there are none.
        if tool::run("ip", &[family, "rule", "del", "lookup", TABLE, "pref", PLACE], "").await.is_ok() {
            _ = tool::run("ip", &[family, "route", "flush", "table", TABLE], "").await;
        }
    }
}

/// Makes the ways that are missing; returns which are open then.
pub(crate) async fn open() -> (bool, bool) {
    for words in missing() {
        make(&words, "this host had no way to virtual addresses").await;
    }
    let open = open_ways();
    if !open.0 {
        tracing::warn!(
            "this host has no way to {}, so that calls by name go nowhere: 'ip {}' makes one",
            range_v4(),
            missing().first().map(|words| words.join(" ")).unwrap_or_default()
        );
    }
    open
}

async fn make(words: &[String], why: &'static str) {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match tool::run("ip", &words, "").await {
        Ok(_) => tracing::info!(way = words.join(" "), "{why}"),
        Err(error) => tracing::debug!(way = words.join(" "), %error, "it could not be made: {why}"),
    }
}

/// Makes again what has gone since it was `open`, as when somebody has flushed the routes or a default route was lost;
/// returns which are open then.
pub(crate) async fn keep(open: (bool, bool)) -> (bool, bool) {
    let now = open_ways();
    if open.0 && !now.0 || open.1 && !now.1 { self::open().await } else { now }
}

/// Takes away what was made.
pub(crate) async fn close() {
    for range in [range_v4(), range_v6()] {
        // Mostly there is none.
        _ = tool::run("ip", &["route", "del", &range, "dev", "lo", "proto", MADE_BY_US], "").await;
    }
    close_to_servers().await;
}

fn range_v4() -> String {
    format!("{RANGE_V4}/{PREFIX_V4}")
}

fn range_v6() -> String {
    format!("{RANGE_V6}/{PREFIX_V6}")
}
