//! What callers make up does not make the numbers more.

use std::collections::BTreeSet;

use ::mesh::model::view::Side;
use ::mesh::telemetry::metric::Process;
use ::mesh::telemetry::prometheus::{Exposition, render};

use crate::data_path::cases::scene::{Layout, Scene};
use crate::data_path::cases::service::{Answer, Speaks, serve};
use crate::data_path::cases::wire::Wire;
use crate::data_path::mesh::{self, Node};

/// The series that are exposed, without their numbers.
fn series(node: &Node) -> BTreeSet<String> {
    let edges = node.shared.registry.totals();
    let text = render(&Exposition { edges: &edges, proxies: &[], process: Process::default() });
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

/// Sends requests of this target and host each, over one connection, and returns their statuses.
async fn ask_all(scene: &Scene, asked: impl Iterator<Item = (String, String)>) -> Vec<u16> {
    let mut wire = Wire::to(scene.outbound()).await;
    let mut statuses = Vec::new();
    for (target, host) in asked {
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        statuses.push(wire.response().await.status());
    }
    statuses
}

// case 90
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_and_paths_at_random_make_no_series_of_their_own() {
    /// Names that are counted though they lead nowhere: of one worker, as all come over one connection.
    const NOWHERE_MAX: usize = 256;
    for layout in Layout::BOTH {
        let (app, _heard) = serve(Speaks::One, Answer::ok(&[])).await;
        let scene = Scene::new(layout, app, "http");
        let counted = async |count: u64| {
            for (node, side) in [(scene.caller(), Side::Outbound), (scene.callee(), Side::Inbound)] {
                mesh::until(|| {
                    let totals = node.shared.registry.totals();
                    let of_side = totals.iter().filter(|(key, _)| key.side == side);
                    (of_side.map(|(_, total)| total.requests).sum::<u64>() >= count).then_some(())
                })
                .await;
            }
        };
        assert_eq!(ask_all(&scene, [("/".to_owned(), "web".to_owned())].into_iter()).await, [200]);
        counted(1).await;
        let both = || &series(scene.caller()) | &series(scene.callee());
        let before = both();

        // Paths of a service, and its name in any form.
        let hosts = ["web", "WEB.mesh", "web.default", "web.default.mesh:80"];
        let asked = (0..200).map(|at| (format!("/{at:x}/{{a}}\"\\?{at}=\""), hosts[at % 4].to_owned()));
        assert_eq!(ask_all(&scene, asked).await, vec![200; 200]);
        // Hosts that are none of the mesh.
        let asked = (0..200).map(|at| ("/".to_owned(), format!("host-{at}.example.com")));
        assert_eq!(ask_all(&scene, asked).await, vec![404; 200]);
        counted(201).await;
        let more = &both() - &before;
        assert!(more.is_empty(), "{more:#?}");

        // Names that might be services are told, so that people see what is called in vain: some, and the others together.
        let edges = scene.caller().shared.registry.totals().len();
        let asked = (0..NOWHERE_MAX + 50).map(|at| ("/".to_owned(), format!("nobody-{at}")));
        assert_eq!(ask_all(&scene, asked).await, vec![404; NOWHERE_MAX + 50]);
        mesh::until(|| {
            let totals = scene.caller().shared.registry.totals();
            let others = totals.iter().find(|(key, _)| key.destination.to_string() == "other.overflow")?;
            (others.1.requests == 50).then_some(())
        })
        .await;
        let full = series(scene.caller());
        assert_eq!(scene.caller().shared.registry.totals().len(), edges + NOWHERE_MAX + 1);
        let asked = (0..200).map(|at| ("/".to_owned(), format!("stranger-{at}.mesh")));
        ask_all(&scene, asked).await;
        // Perhaps by the other worker.
        let now = scene.caller().shared.registry.totals().len();
        assert!((edges + NOWHERE_MAX + 1..=edges + 2 * NOWHERE_MAX + 1).contains(&now), "{now}");
        assert!(full.iter().all(|line| !line.contains("example")), "{full:#?}");
    }
}
