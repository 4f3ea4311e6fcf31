//! A well-behaved service: says when it is ready, ends when asked, takes its settings from flags, environment and file.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use rustix::process::{Signal, kill_process};

use crate::stage::mesh::Mesh;
use crate::stage::peer;
use crate::stage::place::Place;
use crate::stage::process::{Process, run, run_with, status_of};
use crate::stage::program;
use crate::stage::wait::{seconds, until};

const PORTS: [&str; 6] = ["--listen", "127.0.0.1:0", "--gossip", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let here = Place::here();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("notify");
    let notified = UnixDatagram::bind(&socket).unwrap();
    notified.set_read_timeout(Some(seconds(20))).unwrap();
    let data = folder.path().join("control");
    let mut command = Command::new(program::mesh());
    command.args(["control", "--advertise", "127.0.0.1", "--data-dir", data.to_str().unwrap()]).args(PORTS);
    command.env("NOTIFY_SOCKET", &socket);
    let next = || {
        let mut buffer = [0; 1024];
        let length = notified.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };

    let mut control = Process::start(&here, folder.path(), "control", command);
    while !next().contains("READY=1") {}
    let addresses = fs::read_to_string(data.join("addresses.json")).unwrap();
    let addresses: serde_json::Value = serde_json::from_str(&addresses).unwrap();
    let admin = addresses["admin"].as_str().unwrap().parse().unwrap();
    let ready = status_of(&here, admin, "localhost", "/readyz");
    let status = control.terminate();

    assert_eq!(ready, Some(200), "it said that it was ready");
    assert!(status.success(), "{status}\n{}", control.log());
    while !next().contains("STOPPING=1") {}
}

#[test]
fn flags_win_over_environment_over_file() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let nginx = peer::nginx(&here, mesh.folder(), "configured");
    let data = mesh.folder().join("configured");
    let file = mesh.folder().join("proxy.yaml");
    fs::write(
        &file,
        format!(
            "data-dir: {}\nnode: from-file\nzone: zone-file\nservice:\n  - web=127.0.0.1:{}\noutbound: 127.0.0.1:0\n\
             inbound: 127.0.0.1:0\ngossip: 127.0.0.1:0\nadmin: 127.0.0.1:0\nadvertise: 127.0.0.1\n",
            data.display(),
            nginx.port
        ),
    )
    .unwrap();
    let mut command = Command::new(program::mesh());
    command.args(["proxy", "--config", file.to_str().unwrap(), "--node", "from-flag"]);
    command
        .env("MESH_JOIN", mesh.token(&[]))
        .env("MESH_NODE", "from-environment")
        .env("MESH_ZONE", "zone-env");

    let mut proxy = Process::start(&here, mesh.folder(), "configured", command);

    let node = until("the node is there", seconds(20), || {
        proxy.assert_alive();
        let view = mesh.view();
        view["nodes"].as_array()?.iter().find(|node| node["role"] == "proxy").cloned()
    });
    assert_eq!(node["name"], "from-flag", "{node}");
    until("its zone is known", seconds(10), || {
        let view = mesh.view();
        let zone = view["nodes"].as_array()?.iter().find(|node| node["name"] == "from-flag")?["zone"].clone();
        (zone == "zone-env").then_some(())
    });
}

#[test]
fn a_configuration_file_with_a_mistake_is_refused_with_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("control.yaml");
    fs::write(&file, "lisen: 127.0.0.1:0\n").unwrap();

    let refused =
        run(&Place::here(), seconds(10), program::mesh(), &["control", "--config", file.to_str().unwrap()])
            .failed(2);

    assert!(refused.contains("lisen") && refused.contains("listen"), "{refused}");
}

#[test]
fn a_hangup_reads_the_file_again_and_a_mistake_in_it_changes_nothing() {
    let here = Place::here();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("control.yaml");
    let write = |log: &str| {
        let data = folder.path().join("control");
        let ports = "listen: 127.0.0.1:0\ngossip: 127.0.0.1:0\nadmin: 127.0.0.1:0\nadvertise: 127.0.0.1\n";
        fs::write(&file, format!("data-dir: {}\n{ports}log: {log}\n", data.display())).unwrap();
    };
    write("info");
    let mut command = Command::new(program::mesh());
    command.args(["control", "--config", file.to_str().unwrap()]);
    let mut control = Process::start(&here, folder.path(), "control", command);
    let said = |control: &mut Process, part: &str| {
        until(&format!("it says '{part}'"), seconds(20), || {
            control.assert_alive();
            control.log().contains(part).then_some(())
        });
    };
    said(&mut control, "is ready");

    write("info,mesh=debug");
    kill_process(control.pid(), Signal::HUP).unwrap();
    said(&mut control, "info,mesh=debug");
    write("info\nlisten: [");
    kill_process(control.pid(), Signal::HUP).unwrap();
    said(&mut control, "the old configuration stays in force");

    assert!(control.terminate().success());
}

#[test]
fn a_port_in_use_is_named() {
    let here = Place::here();
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = folder.path().join("control");
    let flags = ["control", "--listen", &address, "--gossip", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

    let refused = run(
        &here,
        seconds(10),
        program::mesh(),
        &[&flags[..], &["--data-dir", data.to_str().unwrap()]].concat(),
    );

    assert_eq!(refused.code, Some(1), "{}", refused.err);
    assert!(refused.err.contains(&address), "{}", refused.err);
}

#[test]
fn the_demo_shows_a_shop_with_mutual_tls_everywhere_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let here = Place::here();

    let demo = run_with(
        &here,
        seconds(60),
        program::mesh(),
        &["demo", "--headless", "--duration", "8s"],
        |command| {
            command.env("TMPDIR", folder.path()).env("HOME", folder.path());
        },
    );

    let out = demo.ok();
    for service in ["web", "catalog", "cart", "payments"] {
        assert!(out.contains(service), "{service} is missing in:\n{out}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "files are left");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mesh = Mesh::start(&Place::here());
    let command = format!(
        "set -o pipefail; MESH_CONTROL=unix://{}/control.sock {} top --once -o json | head -c 1 >/dev/null",
        mesh.data().display(),
        program::mesh().display()
    );

    let quiet = run(&Place::here(), seconds(20), "bash", &["-c", &command]);

    assert_eq!((quiet.code, quiet.err.as_str()), (Some(0), ""));
}
