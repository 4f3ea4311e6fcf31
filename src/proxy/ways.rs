//! Ways to virtual addresses, for hosts that have none: without a route, the kernel refuses a connection before any rule
//! sees it. Most hosts have a default route for IPv4 and none for IPv6.

use std::net::SocketAddr;

use crate::logic::naming::book::{PREFIX_V4, PREFIX_V6, RANGE_V4, RANGE_V6};
use crate::net::{interface, tool};

/// The number by which `ip route` tells who made a route (rtnetlink(7), `rtm_protocol`): one that nobody has.
const MADE_BY_US: &str = "229";

/// Returns whether this host has a way to virtual addresses of IPv4, and to those of IPv6.
pub(crate) fn open_ways() -> (bool, bool) {
    let is_open = |addr: SocketAddr| interface::towards(addr).is_some();
    (is_open((RANGE_V4, 80).into()), is_open((RANGE_V6, 80).into()))
}

/// Makes the ways that are missing.
pub(crate) async fn open() {
    let (v4, v6) = open_ways();
    for (is_open, range) in [(v4, range_v4()), (v6, range_v6())] {
        if is_open {
            continue;
        }
        let words = ["route", "replace", &range, "dev", "lo", "proto", MADE_BY_US];
        if let Err(error) = tool::run("ip", &words, "").await {
            tracing::debug!(range, %error, "no way to these virtual addresses could be made");
        }
    }
    if !open_ways().0 {
        tracing::warn!("this host has no route to {}: it needs a default route", range_v4());
    }
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
