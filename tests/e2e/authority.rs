//! The control plane's own life: what survives a restart, and what is refused.

use std::fs;

use mesh::net::clock;

use crate::stage::mesh::Mesh;
use crate::stage::place::Place;
use crate::stage::process::{curl, run, status_of};
use crate::stage::program;
use crate::stage::wait::seconds;

/// SHA-256 of the key that the API serves with.
fn serving_key(mesh: &Mesh) -> String {
    let command = format!(
        "openssl s_client -connect {} </dev/null 2>/dev/null | openssl x509 -pubkey -noout | sha256sum",
        mesh.listen()
    );
    run(&Place::here(), seconds(10), "sh", &["-c", &command]).ok()
}

#[test]
fn it_restarts_within_a_second_as_the_same_mesh() {
    let here = Place::here();
    let mut mesh = Mesh::start(&here);
    let token = mesh.token(&["--uses", "5"]);
    let identity = mesh.view()["mesh"].clone();
    let key = serving_key(&mesh);

    let begun = clock::now();
    mesh.restart_control();
    let took = begun.elapsed();

    assert!(took < seconds(1), "{took:?}");
    assert_eq!(mesh.view()["mesh"], identity);
    assert_eq!(serving_key(&mesh), key, "lines that were printed before would no longer work");
    assert_eq!(mesh.token(&[]).split('.').nth(1), token.split('.').nth(1));
    mesh.proxy(&here, "a").join(&token).start();
}

#[test]
fn what_was_acknowledged_is_there_after_kill_9() {
    let here = Place::here();
    let mut mesh = Mesh::start(&here);

    for round in 0..3 {
        let name = format!("rule-{round}");
        mesh.apply(&format!(
            "apiVersion: mesh/v1\nkind: Intention\nmetadata:\n  name: {name}\nspec:\n  destination: web\n  \
             sources:\n    - service: shop\n  action: deny\n"
        ))
        .ok();
        mesh.restart_control();

        let listed = mesh.cli(&["get", "intentions", "-o", "name"]).ok();
        assert!(listed.contains(&name), "round {round}: {listed}");
    }
    assert_eq!(mesh.json(&["get", "intentions", "-o", "json"]).as_array().unwrap().len(), 3);
}

#[test]
fn data_that_is_in_use_or_damaged_is_refused_and_left_alone() {
    let here = Place::here();
    let mut mesh = Mesh::start(&here);
    let data = mesh.data();
    let control = |data: &str| {
        let ports = ["--listen", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let flags = [&["control", "--data-dir", data, "--advertise", "127.0.0.1"], &ports[..]].concat();
        run(&here, seconds(10), program::mesh(), &flags)
    };

    let in_use = control(data.to_str().unwrap());
    assert!(!matches!(in_use.code, Some(0 | 124)), "a second process on the same data:\n{}", in_use.err);
    assert!(mesh.cli(&["token", "list"]).code == Some(0), "the first one goes on");

    mesh.control.kill();
    let mut damaged = 0;
    let mut folders = vec![data.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() == "db" {
                let length = entry.metadata().unwrap().len();
                fs::write(entry.path(), vec![0x5a; usize::try_from(length).unwrap()]).unwrap();
                damaged += 1;
            }
        }
    }
    assert!(damaged > 0, "no database found in {}", data.display());
    let refused = control(data.to_str().unwrap());
    assert!(!matches!(refused.code, Some(0 | 124)), "damaged data was taken:\n{}", refused.err);
    assert!(refused.err.contains(data.to_str().unwrap()), "where is missing:\n{}", refused.err);
}

#[test]
fn strangers_get_nothing_from_the_api() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let api = format!("https://{}", mesh.listen());
    let status = |path: &str, flags: &[&str]| {
        let url = format!("{api}{path}");
        curl(&here, &[&["-k", "-o", "/dev/null", "-w", "%{http_code}"], flags, &[&url]].concat()).out
    };

    for path in ["/v1/view", "/v1/tokens", "/v1/resources/httproutes", "/v1/catalog"] {
        assert!(["401", "403"].contains(&status(path, &[]).as_str()), "{path}: {}", status(path, &[]));
    }
    assert_eq!(
        status("/v1/tokens", &["-X", "POST", "-H", "content-type: application/json", "-d", "{}"]),
        "401"
    );
    assert_eq!(status("/openapi.json", &[]), "200");
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(status_of(&here, mesh.admin(), "localhost", path), Some(200), "{path}");
    }
}

#[test]
fn what_happened_and_the_root_outlive_a_restart() {
    let here = Place::here();
    let mut mesh = Mesh::start(&here);
    mesh.cli(&["default", "deny"]).ok();
    let root = mesh.cli(&["ca", "export"]).ok();

    mesh.control.terminate();
    mesh.restart_control();

    let events = mesh.cli(&["events"]).ok();
    assert!(events.contains("calls that no intention speaks of: deny"), "{events}");
    assert!(events.contains("a join token was made"), "{events}");
    assert_eq!(mesh.cli(&["ca", "export"]).ok(), root);
    let file = mesh.folder().join("root.pem");
    fs::write(&file, &root).unwrap();
    let fingerprint = ["x509", "-noout", "-fingerprint", "-sha256", "-in", file.to_str().unwrap()];
    let told = run(&here, seconds(10), "openssl", &fingerprint).ok().replace(':', "").to_lowercase();
    let info = mesh.json(&["ca", "show", "-o", "json"]);
    assert!(told.contains(info["root"]["fingerprint"].as_str().unwrap()), "{told} {info}");
    assert_eq!((&info["valid"]["control"], &info["hasRootKey"]), (&2.into(), &true.into()));
    assert_eq!(mesh.cli(&["ca", "export", "--chain"]).ok().matches("BEGIN CERTIFICATE").count(), 2);
}
