//! A well-behaved service: says when it is ready, ends when asked, takes its settings from flags, environment and file.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use rustix::process::{Signal, kill_process};

use crate::stage::mesh::Mesh;
use crate::stage::peer;
use crate::stage::place::{Network, Place};
use crate::stage::process::{Process, curl, run, run_with, status_of};
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
    command.env("NOTIFY_SOCKET", &socket).env("JOURNAL_STREAM", "8:1");
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
    assert!(!control.log().contains("mesh1."), "a token is in the journal:\n{}", control.log());
    assert!(control.log().contains("mesh token create --install"), "{}", control.log());
}

#[test]
fn systemd_follows_a_proxy_to_the_process_that_takes_over() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let socket = mesh.folder().join("notify");
    let notified = UnixDatagram::bind(&socket).unwrap();
    notified.set_read_timeout(Some(seconds(40))).unwrap();
    let next = || {
        let mut buffer = [0; 1024];
        let length = notified.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let plan = mesh.proxy(&here, "followed").join(&mesh.token(&[]));
    let mut proxy = plan.env("NOTIFY_SOCKET", socket.to_str().unwrap()).start();
    while !next().contains("READY=1") {}

    proxy.hand_over(&[]);

    // The old process names the new one, which says that it is ready after that.
    let main = format!("MAINPID={}", proxy.process.pid().as_raw_nonzero());
    assert_eq!(next().trim(), main);
    assert!(next().contains("READY=1"));
    assert!(proxy.process.terminate().success());
    assert!(next().contains("STOPPING=1"), "the old process has not said that the service stops");
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
fn a_hangup_of_a_proxy_changes_its_services_and_names_what_needs_a_restart() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let page = |name: &str| peer::nginx(&here, mesh.folder(), name);
    let (first, second) = (page("first"), page("second"));
    let file = mesh.folder().join("proxy.yaml");
    let write = |services: &[String], more: &str| {
        fs::write(&file, format!("service: [{}]\n{more}\n", services.join(", "))).unwrap();
    };
    let (web, api) = (format!("web={}", first.port), format!("api={}", second.port));
    write(std::slice::from_ref(&web), "workers: 1");
    let token = mesh.token(&[]);
    let server = mesh.proxy(&here, "server").join(&token).flag("--config", file.to_str().unwrap()).start();
    let client = mesh.proxy(&here, "client").join(&token).start();
    client.reaches("web");
    let said = |part: &str| {
        until(&format!("it says '{part}'"), seconds(20), || {
            server.process.log().contains(part).then_some(())
        });
    };

    write(&[web, api.clone()], "workers: 2");
    kill_process(server.process.pid(), Signal::HUP).unwrap();
    said("only after a restart key=\"workers\"");
    client.reaches("api");
    client.reaches("web");

    write(&[api], "workers: 1");
    kill_process(server.process.pid(), Signal::HUP).unwrap();
    until("web is gone", seconds(20), || (client.quick_status("web") == Some(404)).then_some(()));
    client.reaches("api");
}

#[test]
fn control_and_proxy_share_a_host_with_all_their_defaults() {
    let network = Network::new(1);
    let host = network.host(1);
    let folder = tempfile::tempdir().unwrap();
    let start = |name: &str, flags: &[&str]| {
        let mut command = Command::new(program::mesh());
        command.arg(name).arg("--data-dir").arg(folder.path().join(name)).args(flags);
        command.env("HOME", folder.path());
        Process::start(&host, folder.path(), name, command)
    };
    let socket = folder.path().join("control/control.sock");
    let client = |arguments: &[&str]| {
        run_with(&host, seconds(20), program::mesh(), arguments, |command| {
            command.env("MESH_CONTROL", format!("unix://{}", socket.display()));
        })
    };
    let serving = |process: &mut Process, port: u16| {
        until("it is ready", seconds(20), || {
            process.assert_alive();
            let admin = (std::net::Ipv4Addr::LOCALHOST, port).into();
            (status_of(&host, admin, "localhost", "/readyz") == Some(200)).then_some(())
        });
    };

    let mut control = start("control", &[]);
    serving(&mut control, 7440);
    let token = client(&["token", "create"]).ok();
    let mut proxy = start("proxy", &["--join", token.trim()]);
    serving(&mut proxy, 15_000);

    assert!(proxy.log().contains("usual=7946 port=7947"), "{}", proxy.log());
    let addresses = fs::read_to_string(folder.path().join("proxy/addresses.json")).unwrap();
    assert!(addresses.contains(r#""gossip":"0.0.0.0:7947""#), "{addresses}");
    client(&["check", "--wait", "20s"]).ok();
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

    let flags = ["control", "--listen", "127.0.0.1:0", "--gossip", &address, "--admin", "127.0.0.1:0"];
    let data = ["--data-dir", data.to_str().unwrap()];
    let refused = run(&here, seconds(10), program::mesh(), &[&flags[..], &data].concat()).failed(1);
    assert!(refused.contains(&address) && refused.contains("--gossip"), "{refused}");
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
fn a_demo_that_is_told_to_end_leaves_no_process_and_no_file() {
    let here = Place::here();
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("files");
        fs::create_dir(&files).unwrap();
        let mut command = Command::new(program::mesh());
        command.args(["demo", "--headless", "--duration", "1h"]);
        command.env("TMPDIR", &files).env("HOME", folder.path());
        let mut demo = Process::start(&here, folder.path(), "demo", command);
        let running = || processes_with(&files.display().to_string());
        until("half of its processes run", seconds(30), || (running() > 4).then_some(()));

        kill_process(demo.pid(), signal).unwrap();
        let status = until("it ends", seconds(20), || demo.ended());

        assert!(status.success(), "{signal:?}: {status}\n{}", demo.log());
        assert_eq!(running(), 0, "{signal:?}: processes are left");
        assert_eq!(fs::read_dir(&files).unwrap().count(), 0, "{signal:?}: files are left");
    }
}

#[test]
fn what_a_killed_demo_left_is_removed_by_the_next_one() {
    let here = Place::here();
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    fs::create_dir(&files).unwrap();
    let demo = |duration: &str| {
        let mut command = Command::new(program::mesh());
        command.args(["demo", "--headless", "--duration", duration]);
        command.env("TMPDIR", &files).env("HOME", folder.path());
        Process::start(&here, folder.path(), "demo", command)
    };
    let mut first = demo("1h");
    let running = || processes_with(&files.display().to_string());
    until("some of its processes run", seconds(30), || (running() > 2).then_some(()));
    first.kill();
    until("its processes end with it", seconds(10), || (running() == 0).then_some(()));
    assert_eq!(fs::read_dir(&files).unwrap().count(), 1);

    let mut second = demo("1s");

    until("it ends", seconds(40), || second.ended());
    assert_eq!(fs::read_dir(&files).unwrap().count(), 0, "files are left");
}

/// Returns how many processes have this text in their command line.
fn processes_with(text: &str) -> usize {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let lines = pids.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(text)).count()
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

// case 90
#[test]
fn metrics_are_compressed_for_clients_that_take_it() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let proxy = mesh.proxy(&here, "host-1").join(&mesh.token(&[])).start();

    for admin in [mesh.admin(), proxy.address("admin")] {
        let url = format!("http://{admin}/metrics");
        let get = |flags: &[&str]| {
            let answer = curl(&here, &[flags, &["-D", "-", "-w", "\n%{size_download}", &url]].concat()).ok();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let (text, size) = body.rsplit_once('\n').unwrap();
            let is_compressed = head.contains("\r\ncontent-encoding: gzip");
            (is_compressed, text.to_owned(), size.parse::<usize>().unwrap())
        };

        let (plain, compressed) = (get(&[]), get(&["--compressed"]));

        assert_eq!((plain.0, compressed.0), (false, true), "{admin}");
        for (_, text, _) in [&plain, &compressed] {
            assert!(text.contains("\nmesh_build_info{version="), "{text}");
        }
        assert_eq!(plain.1.len(), plain.2, "{admin}");
        assert!(compressed.2 * 2 < compressed.1.len(), "{} bytes of {}", compressed.2, compressed.1.len());
    }
}
