//! Ways to virtual addresses, for hosts that have none: without a route, the kernel refuses a connection before any rule
//! sees it; and with one but no address to send from, the answers to it lead nowhere. Most hosts have a default route for
//! IPv4 and none for IPv6; one behind a firewall may have none at all.
//!
//! A way leads to the loopback interface, and is our own: it is taken away with the rules.

use std::net::SocketAddr;

use crate::logic::naming::book::{PREFIX_V4, PREFIX_V6, RANGE_V4, RANGE_V6};
use crate::net::{interface, tool};

/// The number by which `ip route` tells who made a route (rtnetlink(7), `rtm_protocol`): one that nobody has.
const MADE_BY_US: &str = "229";

/// Returns whether this host has a way to virtual addresses of IPv4, and to those of IPv6.
pub(crate) fn open_ways() -> (bool, bool) {
    // Connections that begin at no address are as good as none.
    let is_open = |addr: SocketAddr| interface::towards(addr).is_some_and(|from| !from.is_unspecified());
    (is_open((RANGE_V4, 80).into()), is_open((RANGE_V6, 80).into()))
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

/// Makes the ways that are missing; returns which are open then.
pub(crate) async fn open() -> (bool, bool) {
    for words in missing() {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        match tool::run("ip", &words, "").await {
            Ok(_) => tracing::info!(way = words.join(" "), "this host had no way to virtual addresses"),
            Err(error) => {
                tracing::debug!(way = words.join(" "), %error, "no way to these virtual addresses could be made");
            }
        }
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
}

fn range_v4() -> String {
    format!("{RANGE_V4}/{PREFIX_V4}")
}

fn range_v6() -> String {
    format!("{RANGE_V6}/{PREFIX_V6}")
}
