//! Names below `.mesh` for hosts whose names are the business of systemd-resolved: a link of our own, of which it is told
//! that these names, and no others, are asked of its name server (resolvectl(1)).
//!
//! With the link everything goes: resolved forgets what it was told of a link that is no more, so that nothing has to be
//! restored. Programs that ask resolved without a packet (nss-resolve) are reached by this way alone.

use std::net::SocketAddr;

use crate::model::name::MESH_DOMAIN;
use crate::net::tool;

/// The link.
const LINK: &str = "mesh0";
/// Its other end, on hosts that have only links with two ends.
const OTHER_END: &str = "mesh0-end";
/// The address of the link, without which resolved takes it for unused: one of the virtual addresses that are no
/// service's.
const ADDRESS: &str = "240.0.0.53/32";

/// Whether systemd-resolved knows where names below `.mesh` are asked.
pub(crate) async fn tell(server: SocketAddr) -> bool {
    if tool::run("resolvectl", &["dns"], "").await.is_err() {
        return false;
    }
    forget().await;
    match tell_of_link(server).await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "systemd-resolved was not told of names below .mesh; programs that ask by DNS find them");
            forget().await;
            false
        }
    }
}

async fn tell_of_link(server: SocketAddr) -> Result<(), tool::Error> {
    let ip = async |words: &[&str]| tool::run("ip", words, "").await.map(drop);
    // The usual kind of link that leads nowhere; small kernels have it not.
    if ip(&["link", "add", LINK, "type", "dummy"]).await.is_err() {
        ip(&["link", "add", LINK, "type", "veth", "peer", "name", OTHER_END]).await?;
        ip(&["link", "set", OTHER_END, "up"]).await?;
    }
    ip(&["addr", "add", ADDRESS, "dev", LINK]).await?;
    ip(&["link", "set", LINK, "up"]).await?;
    let (server, domain) = (server.to_string(), format!("~{MESH_DOMAIN}"));
    let commands: [&[&str]; 6] = [
        &["dns", LINK, &server],
        &["domain", LINK, &domain],
        &["default-route", LINK, "false"],
        // Nobody else is on the link.
        &["llmnr", LINK, "no"],
        &["mdns", LINK, "no"],
        // What has no signature of the world's root would be refused.
        &["dnssec", LINK, "no"],
    ];
    for words in commands {
        tool::run("resolvectl", words, "").await?;
    }
    Ok(())
}

/// Takes the link away.
pub(crate) async fn forget() {
    // Mostly there is none.
    _ = tool::run("ip", &["link", "del", LINK], "").await;
}
