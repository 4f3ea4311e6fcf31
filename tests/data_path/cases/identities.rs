//! Who a proxy speaks for, and to whom: nobody gets a call who does not prove to be whom it is for, and certificates change
//! under calls.

use std::net::SocketAddr;
use std::time::Duration;

use ::mesh::identity::wallet::{Wallet, update};
use ::mesh::model::identity::Subject;
use ::mesh::model::service::LocalService;
use futures_util::future::join_all;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::data_path::app;
use crate::data_path::cases::ask::{ask, get, grpc, is_grpc, is_told};
use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::service::{Answer, Heard, Speaks, serve};
use crate::data_path::cases::two::{Two, wanted, whole};
use crate::data_path::cases::wire::{Ending, Wire};
use crate::data_path::mesh::{Mesh, Node, within};

fn named(name: &str) -> Subject {
    Subject::Service(name.parse().unwrap())
}

fn local(text: &str) -> LocalService {
    text.parse().unwrap()
}

/// Calls `web` in every way, and fails the test if anybody is there, or anything else is told than this failure.
async fn reaches_nobody(caller: &Node, heard: &mut mpsc::UnboundedReceiver<Heard>, status: u16, why: &str) {
    for speaks in Speaks::BOTH {
        let told = ask(speaks, caller.outbound(), get()).await;
        assert!(is_told(&told, status, "UF") && told.text().contains(why), "{speaks:?}: {}", told.text());
        let told = ask(speaks, caller.outbound(), grpc()).await;
        assert!(is_grpc(&told, "14", "UF"), "{speaks:?}: {told:?}");
    }
    // The reset may come before the caller has noticed that it is connected.
    if let Ok(stream) = within(TcpStream::connect(caller.port("web"))).await {
        let mut wire = Wire::new(stream);
        wire.send("\0hello").await;
        assert_eq!(wire.rest().await, (String::new(), Ending::Reset), "{why}");
    }
    assert!(heard.try_recv().is_err(), "{why}");
}

/// Whose proxy answers in place of the one that was meant.
#[derive(Debug, Clone, Copy)]
enum Impostor {
    Stranger,
    Expired,
    Early,
    Other,
    Elsewhere,
    Banned,
}

/// Starts a proxy that answers for `web` and should not.
fn impostor(mesh: &mut Mesh, which: Impostor, app: SocketAddr) -> Node {
    let web = [format!("web={app}")];
    match which {
        Impostor::Stranger => Mesh::new().node("callee", &web, &[]),
        Impostor::Expired | Impostor::Early => {
            let hour = 3_600;
            mesh.valid =
                Some(if matches!(which, Impostor::Early) { [hour, 2 * hour] } else { [-2 * hour, -hour] });
            let node = mesh.node("callee", &web, &[]);
            mesh.valid = None;
            node
        }
        Impostor::Other => {
            let node = mesh.node("callee", &web, &[]);
            let svid = mesh.svid(&node.shared.node, named("db"));
            update(&node.wallet, |mut wallet| {
                wallet.svids.insert(named("web"), svid);
                wallet
            });
            node
        }
        Impostor::Elsewhere => mesh.node("callee", &[format!("db={app}")], &[]),
        Impostor::Banned => mesh.node("callee", &web, &[]),
    }
}

// cases 81, 68
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_does_not_prove_to_be_whom_it_is_called_for_gets_no_call() {
    for which in [
        Impostor::Stranger,
        Impostor::Expired,
        Impostor::Early,
        Impostor::Other,
        Impostor::Elsewhere,
        Impostor::Banned,
    ] {
        let (app, mut heard) = serve(Speaks::One, Answer::ok(&["secret"])).await;
        let mut mesh = Mesh::new();
        let callee = impostor(&mut mesh, which, app);
        let caller = mesh.node("caller", &[], &["web"]);
        if let Impostor::Banned = which {
            update(&caller.wallet, |mut wallet| {
                wallet.banned.insert("callee".parse().unwrap());
                wallet
            });
        }
        let (inbound, web) = (callee.workers.addresses().inbound, local(&format!("web={app}")));
        mesh.announce(&"callee".parse().unwrap(), inbound, &[web]);
        reaches_nobody(&caller, &mut heard, 502, "mutual TLS failed").await;
        assert_eq!(callee.counted(|total| total.requests), 0, "{which:?}");
    }
}

// cases 81, 68
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_nobody_yet_or_no_longer_calls_nobody_and_is_not_called() {
    for layout in Layout::BOTH {
        let (app, mut heard) = serve(Speaks::One, Answer::ok(&["secret"])).await;
        let mut scene = Scene::new(layout, app, "");
        let reaches = async |scene: &Scene, heard: &mut mpsc::UnboundedReceiver<Heard>| {
            let told = ask(Speaks::One, scene.outbound(), get()).await;
            assert_eq!((told.status, told.text().as_str()), (200, "secret"));
            heard.recv().await.unwrap();
        };
        let nobody = |mut wallet: Wallet| {
            wallet.svids.clear();
            wallet
        };
        // Not even a link that is there carries the calls of whoever is nobody: so there is none before.
        let held = scene.caller().wallet.borrow().clone();
        update(&scene.caller().wallet, nobody);
        reaches_nobody(scene.caller(), &mut heard, 503, "this proxy has no valid certificate").await;
        // That the endpoint could not be called is not held against it.
        update(&scene.caller().wallet, |_| held.as_ref().clone());
        scene.mesh.valid = Some([-7_200, -3_600]);
        scene.mesh.renew(scene.caller());
        reaches_nobody(scene.caller(), &mut heard, 503, "has expired").await;
        scene.mesh.valid = None;
        if layout == Layout::Two {
            let held = scene.callee().wallet.borrow().clone();
            scene.mesh.renew(scene.caller());
            update(&scene.callee().wallet, nobody);
            reaches_nobody(scene.caller(), &mut heard, 502, "mutual TLS failed").await;
            update(&scene.callee().wallet, |_| held.as_ref().clone());
        }
        scene.mesh.renew(scene.caller());
        reaches(&scene, &mut heard).await;
    }
}

// case 82
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_a_few_seconds_are_renewed_and_no_call_notices() {
    const LIFE: i64 = 8;
    // These wait, so both layouts do at the same time.
    join_all(Layout::BOTH.map(async |layout| {
        let (app, _heard) = app::echo("web").await;
        let mut scene = Scene::new(layout, app, "");
        scene.mesh.valid = Some([-60, LIFE]);
        let renew = || scene.nodes().iter().for_each(|node| scene.mesh.renew(node));
        renew();
        let outbound = scene.outbound();
        let mut socket = Wire::to(outbound).await;
        socket
            .send("GET /upgrade HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        assert!(socket.head().await.unwrap().starts_with("HTTP/1.1 101 "));
        let mut one = Wire::to(outbound).await;
        let mut two = Two::to(outbound).await;

        // Longer than any certificate lives: each link is replaced by another one on its way.
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_secs(LIFE as u64 + 3) {
            renew();
            for _ in 0..5 {
                one.send("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\none").await;
                let told = one.response().await;
                assert_eq!((told.status(), told.text().as_str()), (200, "one"), "{:?}", began.elapsed());
                let mut response = within(two.get(wanted("GET", "/")).await).await.unwrap();
                assert_eq!(response.status().as_u16(), 200, "{:?}", began.elapsed());
                whole(response.body_mut()).await.unwrap();
                assert_eq!(ask(Speaks::Two, outbound, get()).await.status, 200, "{:?}", began.elapsed());
                socket.send("ping").await;
                assert_eq!(socket.take(4).await, b"ping", "{:?}", began.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for node in scene.nodes() {
            assert_eq!(node.counted(|total| total.failures), 0);
        }
    }))
    .await;
}

// case 83
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_made_for_one_identity_carries_no_call_of_another() {
    for layout in Layout::BOTH {
        let (app, mut heard) = serve(Speaks::One, Answer::ok(&["yes"])).await;
        let mesh = Mesh::new();
        let web = format!("web={app}/http");
        let callee = (layout == Layout::Two).then(|| mesh.node("callee", std::slice::from_ref(&web), &[]));
        // It speaks for the only service that it runs; for itself, where it runs several.
        let own = if layout == Layout::Two { "shop=127.0.0.1:9".to_owned() } else { web };
        let more = "mail=127.0.0.1:9".to_owned();
        let caller = mesh.node("caller", &[own.clone(), more.clone()], &["web"]);
        let alone = vec![local(&own)];
        let both = vec![local(&own), local(&more)];
        mesh.announce(&"caller".parse().unwrap(), caller.workers.addresses().inbound, &both);
        mesh.apply(json!([{
            "apiVersion": "mesh/v1", "kind": "Intention", "metadata": { "name": "no-nodes" },
            "spec": { "destination": "web", "sources": [{ "node": "*" }], "action": "deny" }
        }]));
        let mut one = Wire::to(caller.outbound()).await;
        let mut two = Two::to(caller.outbound()).await;
        let mut statuses = async || {
            one.send("GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
            let told = one.response().await.status();
            let response = within(two.get(wanted("GET", "/")).await).await.unwrap();
            (told, response.status().as_u16())
        };

        // Each identity has its links by the second round, and each worker its own.
        for _ in 0..3 {
            caller.shared.set_locals(alone.clone());
            assert_eq!(statuses().await, (200, 200));
            caller.shared.set_locals(both.clone());
            assert_eq!(statuses().await, (403, 403));
        }
        let arrived = std::iter::from_fn(|| heard.try_recv().ok()).count();
        assert_eq!(arrived, 6);
        let counted = callee.as_ref().unwrap_or(&caller);
        let inbound = counted.shared.registry.totals();
        let sources: Vec<_> = inbound.iter().map(|(key, _)| key.source.to_string()).collect();
        let name = if layout == Layout::Two { "shop.default" } else { "web.default" };
        for source in [name, "node/caller"] {
            assert!(sources.iter().any(|other| other == source), "{sources:?}");
        }
    }
}
