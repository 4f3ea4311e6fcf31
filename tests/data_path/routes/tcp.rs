//! `TCPRoute`: connections, by weight.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::data_path::app;
use crate::data_path::mesh::{Mesh, Node, until, within};

/// Starts a service that says its name when it is connected to.
async fn greeter(name: &'static str) -> String {
    let addr = app::raw(move |mut stream| async move {
        _ = stream.write_all(name.as_bytes()).await;
        _ = stream.shutdown().await;
    })
    .await;
    format!("{name}={addr}/tcp")
}

async fn scene() -> (Mesh, Node, Node) {
    let locals = [greeter("db").await, greeter("v1").await, greeter("v2").await];
    let mesh = Mesh::new();
    let callee = mesh.node("callee", &locals, &[]);
    let caller = mesh.node("caller", &[], &["db"]);
    (mesh, caller, callee)
}

fn route(backends: &Value) -> Value {
    json!([{
        "apiVersion": "gateway.networking.k8s.io/v1alpha2", "kind": "TCPRoute", "metadata": { "name": "db" },
        "spec": { "parentRefs": [{ "name": "db" }], "rules": [{ "name": "split", "backendRefs": backends }] }
    }])
}

/// Connects, and returns what is said, or that the connection was refused.
async fn greeting(caller: &Node) -> String {
    let heard = within(async {
        let mut stream = TcpStream::connect(caller.port("db")).await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        std::io::Result::Ok(said)
    });
    match heard.await {
        Ok(said) => said,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => "reset".to_owned(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_shared_among_backends_by_weight_and_counted_by_rule() {
    let (mesh, caller, _callee) = scene().await;
    assert_eq!(greeting(&caller).await, "db");

    mesh.apply(route(&json!([{ "name": "v1", "port": 1, "weight": 3 }, { "name": "v2", "port": 1, "weight": 1 }, { "name": "db", "weight": 0 }])));
    let mut seen = BTreeMap::<String, usize>::new();
    for _ in 0..80 {
        *seen.entry(greeting(&caller).await).or_default() += 1;
    }

    assert_eq!(seen.keys().collect::<Vec<_>>(), ["v1", "v2"]);
    assert!(seen["v1"] > seen["v2"], "{seen:?}");
    until(|| {
        let totals = caller.shared.registry.totals();
        let by_rule: u64 =
            totals.iter().filter(|(key, _)| key.route == "db/split").map(|(_, total)| total.requests).sum();
        (by_rule == 80).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_share_of_a_backend_that_is_not_there_is_refused() {
    let (mesh, caller, _callee) = scene().await;
    mesh.apply(route(&json!([{ "name": "missing", "weight": 1 }, { "name": "v1", "weight": 1 }])));

    let mut seen = BTreeMap::<String, usize>::new();
    for _ in 0..30 {
        *seen.entry(greeting(&caller).await).or_default() += 1;
    }

    assert_eq!(seen.keys().collect::<Vec<_>>(), ["reset", "v1"]);
}
