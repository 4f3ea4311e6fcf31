//! Which endpoint takes a call: in turn, by key, by session, and slowly at first.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::data_path::app::{self, bare, scripted};
use crate::data_path::caller::{Got, h1, read, request};
use crate::data_path::mesh::{Mesh, Node, within};

/// Instances of `web` on nodes of their own, and a node to call them from.
async fn scene(names: &[&'static str], spec: Value) -> (Mesh, Vec<Node>, Node) {
    let mesh = Mesh::new();
    let mut nodes = Vec::new();
    for name in names {
        nodes.push(instance(&mesh, name).await);
    }
    let caller = mesh.node("caller", &[], &[]);
    mesh.traffic(spec);
    (mesh, nodes, caller)
}

async fn instance(mesh: &Mesh, name: &'static str) -> Node {
    let (app, _seen) = scripted(move |_, _| bare(200, &format!("x-app: {name}\r\n"))).await;
    mesh.node(name, &[format!("web={app}/http")], &[])
}

/// Calls `count` times over one connection, with one field more.
async fn calls(caller: &Node, count: usize, (name, value): (&'static str, &str)) -> Vec<Got> {
    let mut sender = h1(caller.outbound()).await;
    let mut answers = Vec::new();
    for _ in 0..count {
        within(sender.ready()).await.unwrap();
        let mut wanted = request("GET", "web", "/", Bytes::new());
        wanted.headers_mut().insert(name, value.parse().unwrap());
        answers.push(read(within(sender.send_request(wanted)).await.unwrap()).await);
    }
    answers
}

fn counts(answers: &[Got]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for got in answers {
        *counts.entry(got.header("x-app").to_owned()).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_turn_each_takes_the_same() {
    let policy = json!({ "loadBalancing": { "policy": "RoundRobin" } });
    let (_mesh, _nodes, caller) = scene(&["one", "two", "three"], policy).await;

    let counts = counts(&calls(&caller, 30, ("x-any", "y")).await);

    assert_eq!(counts.values().copied().collect::<Vec<_>>(), [10, 10, 10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_comes_to_the_same_endpoint_while_it_is_there() {
    let policy =
        json!({ "loadBalancing": { "policy": "ConsistentHash", "consistentHash": { "header": "X-User" } } });
    let (mesh, _nodes, caller) = scene(&["one", "two", "three"], policy).await;

    let mut apps = BTreeSet::new();
    for user in 0..20 {
        let user = format!("user-{user}");
        let counts = counts(&calls(&caller, 3, ("x-user", &user)).await);
        assert_eq!(counts.len(), 1, "{user}: {counts:?}");
        apps.extend(counts.into_keys());
    }
    assert_eq!(apps.len(), 3);
    let without = counts(&calls(&caller, 60, ("x-other", "same")).await);
    assert!(without.len() > 1, "{without:?}");

    let mine = calls(&caller, 1, ("x-user", "me")).await[0].header("x-app").to_owned();
    mesh.bury(&mine);
    let other = counts(&calls(&caller, 5, ("x-user", "me")).await);
    assert!(other.len() == 1 && !other.contains_key(&mine), "{other:?} without {mine}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_source_comes_to_the_same_endpoint() {
    let policy =
        json!({ "loadBalancing": { "policy": "ConsistentHash", "consistentHash": { "source": {} } } });
    let (_mesh, _nodes, caller) = scene(&["one", "two", "three"], policy).await;

    let mut apps = BTreeSet::new();
    for _ in 0..10 {
        apps.extend(counts(&calls(&caller, 1, ("x-any", "y")).await).into_keys());
    }

    assert_eq!(apps.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_stays_with_its_endpoint_until_that_is_gone() {
    let policy =
        json!({ "sessionAffinity": { "sessionName": "sid" }, "loadBalancing": { "policy": "Random" } });
    let (mesh, _nodes, caller) = scene(&["one", "two", "three"], policy).await;

    let first = calls(&caller, 1, ("x-any", "y")).await.remove(0);
    let given = first.header("set-cookie").to_owned();
    assert!(given.starts_with("sid=") && given.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{given}");
    let cookie = format!("other=1; {}", given.split(';').next().unwrap());
    let home = first.header("x-app").to_owned();

    let stays = calls(&caller, 20, ("cookie", &cookie)).await;
    assert_eq!(counts(&stays), BTreeMap::from([(home.clone(), 20)]));
    assert!(stays.iter().all(|got| got.header("set-cookie").is_empty()));
    let strangers = calls(&caller, 40, ("cookie", "sid=made-up")).await;
    assert!(counts(&strangers).len() > 1);
    assert!(strangers.iter().all(|got| got.header("set-cookie").starts_with("sid=")));

    mesh.bury(&home);
    let moved = calls(&caller, 1, ("cookie", &cookie)).await.remove(0);
    assert_eq!(moved.status.as_u16(), 200);
    assert!(moved.header("x-app") != home && moved.header("set-cookie").starts_with("sid="));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_can_travel_in_a_field_which_the_service_never_sees() {
    let (app, _heard) = app::echo("web").await;
    let mesh = Mesh::new();
    let _callee = mesh.node("callee", &[format!("web={app}/http")], &[]);
    let caller = mesh.node("caller", &[], &[]);
    mesh.traffic(json!({ "sessionAffinity": { "type": "Header" } }));

    let token = calls(&caller, 1, ("x-any", "y")).await[0].header("mesh-session").to_owned();
    assert_eq!(token.len(), 24);
    let again = calls(&caller, 1, ("mesh-session", &token)).await.remove(0);

    assert_eq!(again.header("mesh-session"), "");
    assert!(!again.header("x-seen").contains("mesh-session"), "{}", again.header("x-seen"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_endpoint_starts_slowly_where_a_policy_says_so() {
    let random = json!({ "policy": "Random" });
    let slow = json!({ "loadBalancing": random, "slowStart": { "window": "1h", "minWeightPercent": 1 } });
    let (mesh, _nodes, caller) = scene(&["old"], slow).await;
    let _new = instance(&mesh, "new").await;

    let slowly = counts(&calls(&caller, 100, ("x-any", "y")).await);
    mesh.traffic(json!({ "loadBalancing": random }));
    let at_once = counts(&calls(&caller, 100, ("x-any", "y")).await);

    // 0.5 % and 50 % are expected.
    assert!(slowly.get("new").copied().unwrap_or(0) <= 10, "{slowly:?}");
    assert!(at_once["new"] >= 20, "{at_once:?}");
}
