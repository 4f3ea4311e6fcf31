//! `TCPRoute`: connections, by weight.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use ::mesh::model::service::LocalService;
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
    scene_of(greeter("db").await).await
}

async fn scene_of(db: String) -> (Mesh, Node, Node) {
    let locals = [db, greeter("v1").await, greeter("v2").await];
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

// case 76
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

// case 76
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tcp_route_is_for_the_port_that_it_names() {
    let local = greeter("db").await;
    let db: LocalService = local.parse().unwrap();
    let (mesh, caller, _callee) = scene_of(local).await;
    let db = db.addr.port();
    let service = json!({
        "apiVersion": "mesh/v1", "kind": "Service", "metadata": { "name": "db" },
        "spec": { "ports": [{ "name": "main", "port": 5432, "targetPort": db }, { "name": "admin", "port": 5433, "targetPort": db }] }
    });
    for (part, heard) in [
        (json!({}), "v1"),
        (json!({ "port": 5432 }), "v1"),
        (json!({ "sectionName": "main" }), "v1"),
        (json!({ "port": 5433 }), "db"),
        (json!({ "sectionName": "admin" }), "db"),
        (json!({ "namespace": "shop" }), "db"),
    ] {
        let mut objects = route(&json!([{ "name": "v1", "namespace": "default" }]));
        let parent = objects[0]["spec"]["parentRefs"][0].as_object_mut().unwrap();
        parent.extend(part.as_object().unwrap().clone());
        objects.as_array_mut().unwrap().push(service.clone());
        mesh.apply(objects);
        assert_eq!(greeting(&caller).await, heard, "{part}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_rules_for_connections_the_first_takes_them_all() {
    let (mesh, caller, _callee) = scene().await;
    let mut objects = route(&json!([{ "name": "v1" }]));
    let more = json!({ "name": "never", "backendRefs": [{ "name": "v2" }] });
    objects[0]["spec"]["rules"].as_array_mut().unwrap().push(more);

    mesh.apply(objects);

    for _ in 0..10 {
        assert_eq!(greeting(&caller).await, "v1");
    }
}
