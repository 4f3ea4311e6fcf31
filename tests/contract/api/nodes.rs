//! Bans: what they end, how they are told on, and who is said to have heard of them.

use std::time::Duration;

use axum::http::StatusCode;
use mesh::control::http::access::Caller;
use mesh::model::endpoint::{Catalog, Member, MemberState};
use mesh::net::clock;
use serde_json::{Value, json};

use crate::contract::api::{line, tomorrow, world};

#[tokio::test]
async fn a_banned_node_gets_nothing_and_its_streams_end() {
    let world = world().await;
    let host = world.joined("host-1", &[]).await;
    let mut stream = world.follow(host.caller(tomorrow()), "/v1/snapshot?watch=true").await;
    let first = line(&mut stream).await.unwrap();

    let (banned, spread) = world.call(Caller::Local, "POST", "/v1/nodes/host-1/ban", None).await;
    let ended = line(&mut stream).await;
    let (renewal, _) = world.call(host.caller(tomorrow()), "POST", "/v1/renew", Some(host.renew(&[]))).await;
    let (unbanned, _) = world.call(Caller::Local, "DELETE", "/v1/nodes/host-1/ban", None).await;
    let (after, _) = world.call(host.caller(tomorrow()), "POST", "/v1/renew", Some(host.renew(&[]))).await;
    let (unknown, _) = world.call(Caller::Local, "POST", "/v1/nodes/nobody/ban", None).await;

    assert_eq!(first["banned"], json!([]));
    assert_eq!((banned, unbanned), (StatusCode::OK, StatusCode::OK));
    assert_eq!((&spread["heard"], &spread["unheard"]), (&json!([]), &json!([])), "itself does not count");
    assert!(ended.is_none(), "{ended:?}");
    assert_eq!((renewal, after), (StatusCode::FORBIDDEN, StatusCode::OK));
    assert_eq!(unknown, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn snapshots_carry_the_list_of_bans_which_is_signed_anew_when_it_changes_and_only_then() {
    let world = world().await;
    world.joined("host-1", &[]).await;
    let list = || {
        let newest = world.plane.publisher.newest();
        (newest.revision(), newest.snapshot.bans.clone().unwrap())
    };
    let (_, first) = list();
    let banned = world.call(Caller::Local, "POST", "/v1/nodes/host-1/ban", None).await.0;
    let (revision, second) = list();
    let drained = world.call(Caller::Local, "POST", "/v1/nodes/host-1/drain", None).await.0;
    let (later, third) = list();
    let unbanned = world.call(Caller::Local, "DELETE", "/v1/nodes/host-1/ban", None).await.0;
    let (_, last) = list();

    assert_eq!([banned, drained, unbanned], [StatusCode::OK, StatusCode::NO_CONTENT, StatusCode::OK]);
    assert_eq!((first.nodes.len(), second.nodes.len(), last.nodes.len()), (0, 1, 0));
    assert!(first.revision < second.revision && second.revision == revision && revision < last.revision);
    assert!(later > revision && third == second, "it was signed anew");
}

/// Returns a catalogue of members in these states, of which nothing else is known.
fn catalog(members: &[(&str, MemberState)]) -> Catalog {
    let gossip = "127.0.0.1:7946".parse().unwrap();
    let member = |state| Member { record: None, state, gossip, since_ms: 0, rtt_us: None, vouched_ms: None };
    let members = members.iter().map(|(node, state)| (node.parse().unwrap(), member(*state)));
    Catalog { members: members.collect() }
}

#[tokio::test]
async fn a_ban_tells_who_has_heard_of_it_and_waits_a_moment_for_the_others() {
    let world = world().await;
    let (there, bad) = (world.joined("there", &[]).await, world.joined("bad", &[]).await);
    world.catalog.send_replace(
        catalog(&[
            ("there", MemberState::Alive),
            ("apart", MemberState::Suspect),
            ("dead", MemberState::Dead),
            ("bad", MemberState::Alive),
            ("control", MemberState::Alive),
        ])
        .into(),
    );
    let mut stream = world.follow(there.caller(tomorrow()), "/v1/snapshot?watch=true").await;
    let acknowledge = async {
        loop {
            let snapshot: Value = line(&mut stream).await.unwrap();
            let ack = json!({ "revision": snapshot["revision"], "refused": null });
            world.call(there.caller(tomorrow()), "POST", "/v1/ack", Some(ack)).await;
        }
    };
    let asked = async {
        let begin = clock::now();
        let (status, ban) = world.call(Caller::Local, "POST", "/v1/nodes/bad/ban", None).await;
        (status, ban, begin.elapsed())
    };
    let (status, ban, time) = tokio::select! {
        answered = asked => answered,
        never = acknowledge => never,
    };

    assert_eq!(status, StatusCode::OK);
    assert_eq!((&ban["heard"], &ban["unheard"]), (&json!(["there"]), &json!(["apart"])));
    assert_eq!(ban["revision"], world.plane.publisher.newest().revision());
    assert!((2..4).contains(&time.as_secs()), "{time:?}");

    // Everybody who is left has heard: nobody is waited for.
    world.catalog.send_replace(catalog(&[("there", MemberState::Alive)]).into());
    let begin = clock::now();
    let (_, again) = world.call(Caller::Local, "POST", "/v1/nodes/bad/ban", None).await;
    assert_eq!((&again["heard"], &again["unheard"]), (&json!(["there"]), &json!([])));
    assert!(begin.elapsed() < Duration::from_secs(1), "it was waited for nobody");
    drop(bad);
}
