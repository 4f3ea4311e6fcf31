//! Which endpoint takes a call: in turn, by key, by load, by zone, by session, and slowly at first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::data_path::app::{self, bare, scripted};
use crate::data_path::caller::{Got, begin, h1, h2, name_all, read, request};
use crate::data_path::cases::scene::Layout;
use crate::data_path::cases::service::Speaks;
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

/// As [`scene`], with the caller on a node of its own or on that of the last instance.
async fn placed(layout: Layout, names: &[&'static str], spec: Value) -> (Mesh, Vec<Node>) {
    let mesh = Mesh::new();
    let mut nodes = Vec::new();
    for name in names {
        nodes.push(instance(&mesh, name).await);
    }
    if layout == Layout::Two {
        nodes.push(mesh.node("caller", &[], &[]));
    }
    mesh.traffic(spec);
    (mesh, nodes)
}

/// Where a caller is, and what it speaks.
fn callers() -> impl Iterator<Item = (Layout, Speaks)> {
    Layout::BOTH.into_iter().flat_map(|layout| Speaks::BOTH.map(|speaks| (layout, speaks)))
}

async fn instance(mesh: &Mesh, name: &'static str) -> Node {
    let (app, _seen) = scripted(move |_, _| bare(200, &format!("x-app: {name}\r\n"))).await;
    mesh.node(name, &[format!("web={app}/http")], &[])
}

/// Calls `count` times over one connection, with one field more.
async fn calls(caller: &Node, count: usize, field: (&'static str, &str)) -> Vec<Got> {
    calls_by(Speaks::One, caller, count, field).await
}

/// As [`calls`], in either version.
async fn calls_by(
    speaks: Speaks,
    caller: &Node,
    count: usize,
    (name, value): (&'static str, &str),
) -> Vec<Got> {
    let wanted = || {
        let mut wanted = request("GET", "web", "/", Bytes::new());
        wanted.headers_mut().insert(name, value.parse().unwrap());
        wanted
    };
    let mut answers = Vec::new();
    match speaks {
        Speaks::One => {
            let mut sender = h1(caller.outbound()).await;
            for _ in 0..count {
                within(sender.ready()).await.unwrap();
                answers.push(read(within(sender.send_request(wanted())).await.unwrap()).await);
            }
        }
        Speaks::Two => {
            let mut sender = h2(caller.outbound()).await;
            for _ in 0..count {
                let mut wanted = wanted();
                name_all(&mut wanted);
                answers.push(read(within(sender.send_request(wanted)).await.unwrap()).await);
            }
        }
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
    for (layout, speaks) in callers() {
        let policy = json!({ "loadBalancing": { "policy": "RoundRobin" } });
        let (_mesh, nodes) = placed(layout, &["one", "two", "three"], policy).await;

        let counts = counts(&calls_by(speaks, nodes.last().unwrap(), 30, ("x-any", "y")).await);

        assert_eq!(counts.values().copied().collect::<Vec<_>>(), [10, 10, 10], "{layout:?} {speaks:?}");
    }
}

// case 75
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_comes_to_the_same_endpoint_while_it_is_there() {
    for (layout, speaks) in callers() {
        let policy = json!({ "loadBalancing": {
            "policy": "ConsistentHash", "consistentHash": { "header": "X-User" }
        } });
        let (mesh, nodes) = placed(layout, &["one", "two", "three"], policy).await;
        let calls = async |count, field: (&'static str, &str)| {
            calls_by(speaks, nodes.last().unwrap(), count, field).await
        };

        let mut apps = BTreeSet::new();
        for user in 0..20 {
            let user = format!("user-{user}");
            let counts = counts(&calls(3, ("x-user", user.as_str())).await);
            assert_eq!(counts.len(), 1, "{user}: {counts:?}");
            apps.extend(counts.into_keys());
        }
        assert_eq!(apps.len(), 3);
        let without = counts(&calls(60, ("x-other", "same")).await);
        assert!(without.len() > 1, "{without:?}");

        let mine = calls(1, ("x-user", "me")).await[0].header("x-app").to_owned();
        mesh.bury(&mine);
        let other = counts(&calls(5, ("x-user", "me")).await);
        assert!(other.len() == 1 && !other.contains_key(&mine), "{other:?} without {mine}");
    }
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
    for (layout, speaks) in callers() {
        let policy =
            json!({ "sessionAffinity": { "sessionName": "sid" }, "loadBalancing": { "policy": "Random" } });
        let (mesh, nodes) = placed(layout, &["one", "two", "three"], policy).await;
        let calls = async |count, field: (&'static str, &str)| {
            calls_by(speaks, nodes.last().unwrap(), count, field).await
        };

        let first = calls(1, ("x-any", "y")).await.remove(0);
        let given = first.header("set-cookie").to_owned();
        assert!(given.starts_with("sid=") && given.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{given}");
        let cookie = format!("other=1; {}", given.split(';').next().unwrap());
        let home = first.header("x-app").to_owned();

        let stays = calls(20, ("cookie", cookie.as_str())).await;
        assert_eq!(counts(&stays), BTreeMap::from([(home.clone(), 20)]));
        assert!(stays.iter().all(|got| got.header("set-cookie").is_empty()));
        let strangers = calls(40, ("cookie", "sid=made-up")).await;
        assert!(counts(&strangers).len() > 1);
        assert!(strangers.iter().all(|got| got.header("set-cookie").starts_with("sid=")));

        mesh.bury(&home);
        let moved = calls(1, ("cookie", cookie.as_str())).await.remove(0);
        assert_eq!(moved.status.as_u16(), 200);
        assert!(moved.header("x-app") != home && moved.header("set-cookie").starts_with("sid="));
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_cookie_comes_to_the_same_endpoint_and_others_to_others() {
    for (layout, speaks) in callers() {
        let policy = json!({ "loadBalancing": {
            "policy": "ConsistentHash", "consistentHash": { "cookie": "user" }
        } });
        let (_mesh, nodes) = placed(layout, &["one", "two", "three"], policy).await;
        let calls = async |count, cookie: &str| {
            counts(&calls_by(speaks, nodes.last().unwrap(), count, ("cookie", cookie)).await)
        };

        let mut apps = BTreeSet::new();
        for user in 0..20 {
            let one = calls(2, &format!("a=b; user=u{user}")).await;
            let other = calls(2, &format!("user=u{user}; user2=x")).await;
            assert_eq!((one.len(), &one), (1, &other), "{user}");
            apps.extend(one.into_keys());
        }
        assert_eq!(apps.len(), 3);
        let without = calls(60, "user2=same").await;
        assert!(without.len() > 1, "{without:?}");
    }
}

/// Applications that can be kept busy, each on a node of its own, and the caller.
async fn busy_scene(layout: Layout, names: &[&'static str]) -> (Mesh, Vec<Node>, Vec<Heard>) {
    let mesh = Mesh::new();
    let (mut nodes, mut ears) = (Vec::new(), Vec::new());
    for name in names {
        let (app, heard) = app::echo(name).await;
        nodes.push(mesh.node(name, &[format!("web={app}/http")], &[]));
        ears.push(heard);
    }
    if layout == Layout::Two {
        nodes.push(mesh.node("caller", &[], &[]));
    }
    (mesh, nodes, ears)
}

type Heard = tokio::sync::mpsc::Receiver<&'static str>;

/// Begins a call that hangs, and returns when somebody has it.
async fn hang((speaks, caller): (Speaks, &Node), ears: &mut [Heard], key: &str) -> tokio::task::AbortHandle {
    let mut wanted = request("GET", "web", "/hang", Bytes::new());
    wanted.headers_mut().insert("x-user", key.parse().unwrap());
    let call = tokio::spawn(begin(speaks, caller.outbound(), wanted));
    let all = ears.iter_mut().map(|heard| Box::pin(heard.recv()));
    within(futures_util::future::select_all(all)).await;
    call.abort_handle()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_with_too_much_of_the_load_is_passed_over_where_a_policy_says_so() {
    for (layout, speaks) in callers() {
        let (mesh, nodes, mut ears) = busy_scene(layout, &["one", "two", "three"]).await;
        let caller = nodes.last().unwrap();
        let calls = async || counts(&calls_by(speaks, caller, 3, ("x-user", "me")).await);
        let policy =
            |hash: Value| json!({ "loadBalancing": { "policy": "ConsistentHash", "consistentHash": hash } });
        mesh.traffic(policy(json!({ "header": "x-user" })));
        let home = calls().await;
        assert_eq!(home.len(), 1);
        let _busy = hang((speaks, caller), &mut ears, "me").await;

        assert_eq!(calls().await, home);
        // Of two calls under way, 101 % of a third is less than the one that it has.
        mesh.traffic(policy(json!({ "header": "x-user", "maxLoadPercent": 101 })));
        let other = calls().await;
        assert!(other.keys().all(|app| !home.contains_key(app)), "{other:?} and not {home:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_endpoint_with_fewer_calls_under_way_is_called() {
    for (layout, speaks) in callers() {
        let (mesh, nodes, mut ears) = busy_scene(layout, &["one", "two"]).await;
        let caller = nodes.last().unwrap();
        let calls = async || counts(&calls_by(speaks, caller, 20, ("x-any", "y")).await);
        mesh.traffic(json!({ "loadBalancing": { "policy": "LeastRequest" } }));
        let _busy = hang((speaks, caller), &mut ears, "any").await;

        let idle = calls().await;
        assert_eq!(idle.len(), 1, "{layout:?} {speaks:?}: {idle:?}");

        mesh.traffic(json!({ "loadBalancing": { "policy": "RoundRobin" } }));
        assert_eq!(calls().await.values().collect::<Vec<_>>(), [&10, &10], "{layout:?} {speaks:?}");
    }
}

// case 74
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_endpoint_that_answers_sooner_is_called_more_by_default() {
    let mesh = Mesh::new();
    let quick = instance(&mesh, "quick").await;
    let app = app::raw(|mut stream| async move {
        while app::read_head(&mut stream).await.ends_with("\r\n\r\n") {
            tokio::time::sleep(Duration::from_millis(30)).await;
            if stream.write_all(bare(200, "x-app: slow\r\n").as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await;
    let slow = mesh.node("slow", &[format!("web={app}/http")], &[]);
    let caller = mesh.node("caller", &[], &[]);
    let share = |answers: &[Got]| counts(answers).get("slow").copied().unwrap_or(0);

    mesh.traffic(json!({ "loadBalancing": { "policy": "Random" } }));
    let at_random = share(&calls(&caller, 60, ("x-any", "y")).await);
    mesh.traffic(json!({ "loadBalancing": { "policy": "PeakEwma" } }));
    let by_expectation = share(&calls(&caller, 60, ("x-any", "y")).await);

    // 30 are expected at random, and hardly any once it is known to be slow.
    assert!(at_random >= 12 && by_expectation <= 6, "{at_random}, {by_expectation}");
    drop((quick, slow));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_own_zone_is_called_unless_a_policy_ignores_zones() {
    let policy =
        |mode: &str| json!({ "loadBalancing": { "policy": "RoundRobin", "locality": { "mode": mode } } });
    let (mesh, _nodes, caller) = scene(&["near", "far"], policy("Prefer")).await;
    mesh.zone("here", &["near", "caller"]);
    // As many nodes as there are here, so that nobody's zone is too small for its callers.
    mesh.zone("there", &["far", "idle"]);

    let preferred = counts(&calls(&caller, 20, ("x-any", "y")).await);
    mesh.traffic(policy("Ignore"));
    let ignored = counts(&calls(&caller, 20, ("x-any", "y")).await);
    mesh.traffic(json!({ "loadBalancing": { "policy": "RoundRobin" } }));
    let unsaid = counts(&calls(&caller, 20, ("x-any", "y")).await);

    let near = BTreeMap::from([("near".to_owned(), 20)]);
    assert_eq!((&preferred, &unsaid), (&near, &near));
    assert_eq!(ignored, BTreeMap::from([("near".to_owned(), 10), ("far".to_owned(), 10)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_own_zone_that_is_half_well_takes_what_a_policy_trusts_it_with() {
    let policy = |percent: u32| json!({ "loadBalancing": { "policy": "RoundRobin", "locality": { "overprovisioningPercent": percent } } });
    let (mesh, _nodes, caller) = scene(&["near", "sick", "far"], policy(200)).await;
    mesh.zone("here", &["near", "sick", "caller"]);
    mesh.zone("there", &["far", "idle", "idle-too"]);
    mesh.suspect("sick");

    let trusted = counts(&calls(&caller, 40, ("x-any", "y")).await);
    mesh.traffic(policy(100));
    let shared = counts(&calls(&caller, 200, ("x-any", "y")).await);

    assert_eq!(trusted, BTreeMap::from([("near".to_owned(), 40)]));
    // Half of it is well: half of 200 calls leave.
    assert!((50..=150).contains(&shared["far"]) && !shared.contains_key("sick"), "{shared:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_over_after_as_long_as_a_policy_says() {
    let policy =
        |limit: Value| json!({ "sessionAffinity": { "sessionName": "sid", "absoluteTimeout": limit } });
    let (mesh, _nodes, caller) = scene(&["one"], policy(json!("1h"))).await;
    let first = calls(&caller, 1, ("x-any", "y")).await.remove(0);
    let token = first.header("set-cookie").split(';').next().unwrap().to_owned();
    // The same endpoint, but a session that began in 1970.
    let old = format!("{}{}", &token[..token.len() - 8], "00000001");

    let given =
        async |cookie: &str| calls(&caller, 1, ("cookie", cookie)).await[0].header("set-cookie").to_owned();
    assert_eq!(given(&token).await, "");
    assert!(given(&old).await.starts_with("sid="));
    mesh.traffic(policy(Value::Null));
    assert_eq!(given(&old).await, "", "no session ends by its age where nothing is said of it");
}
