//! Hosts that know no way to virtual addresses: without a default route, or without any address but the loopback one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::interception::network_state;
use crate::stage::mesh::{Mesh, Proxy};
use crate::stage::peer::answerer;
use crate::stage::place::{Network, Place};
use crate::stage::process::{curl, run};
use crate::stage::program;
use crate::stage::wait::{seconds, until};

/// Calls a service at its virtual addresses, as an application does that has asked for its name; returns what was answered
/// at that of IPv4, and at that of IPv6.
fn call(place: &Place, proxy: &Proxy) -> [String; 2] {
    let tables = curl(place, &[&format!("http://{}/config", proxy.address("admin"))]).ok();
    let tables: serde_json::Value = serde_json::from_str(&tables).unwrap();
    let addresses = &tables["tables"]["services"]["web.default"]["addresses"];
    [0, 1].map(|family| {
        let Some(address) = addresses[family].as_str() else { return "it has no address".to_owned() };
        let address = if family == 0 { address.to_owned() } else { format!("[{address}]") };
        let done = curl(place, &["--max-time", "3", &format!("http://{address}/")]);
        if done.code == Some(0) { done.out } else { done.err }
    })
}

fn reaches(place: &Place, proxy: &Proxy) {
    let mut last = Default::default();
    let start = mesh::net::clock::now();
    while start.elapsed() < seconds(20) {
        last = call(place, proxy);
        if last == ["web", "web"] {
            return;
        }
    }
    panic!("by IPv4 and by IPv6: {last:?}");
}

#[test]
fn a_host_without_a_default_route_calls_by_virtual_addresses_and_keeps_no_route_of_ours() {
    let network = Network::new(3);
    let mesh = Mesh::start(&network.host(1));
    let token = mesh.token(&["--uses", "2"]);
    let web = answerer(&network.host(2), "web");
    let server = mesh.proxy(&network.host(2), "server").join(&token).service(&format!("web={web}"));
    let _server = server.start();
    let here = network.host(3);
    network.default_route(3, "del");
    let before = network_state(&here);
    let planned = run(&here, seconds(10), program::mesh(), &["proxy", "--intercept", "--dry-run"]).ok();
    assert!(planned.contains("#   ip route replace 240.0.0.0/5 dev lo"), "{planned}");
    let mut caller = mesh.proxy(&here, "caller").join(&token).intercept("on").start();

    reaches(&here, &caller);
    let data = caller.data().to_str().unwrap().to_owned();
    let checked = mesh_check(&here, &data);
    assert!(checked.contains("connections by name have a way to the proxy"), "{checked}");

    // It comes by a default route, and loses it again; somebody flushes what was made.
    network.default_route(3, "add");
    reaches(&here, &caller);
    network.default_route(3, "del");
    run(&here, seconds(5), "ip", &["route", "flush", "proto", "229"]).ok();
    reaches(&here, &caller);

    assert!(caller.process.terminate().success());
    assert_eq!(network_state(&here), before);
    // Killed, with nobody to come.
    drop(caller);
    let mut caller = mesh.proxy(&here, "caller").join(&token).intercept("on").start();
    reaches(&here, &caller);
    caller.process.kill();
    until("what it left is removed", seconds(20), || (network_state(&here) == before).then_some(()));
}

fn mesh_check(place: &Place, data: &str) -> String {
    run(place, seconds(40), program::mesh(), &["check", "--data-dir", data]).out
}

#[test]
fn a_host_that_has_the_loopback_interface_alone_calls_by_virtual_addresses() {
    let network = Network::new(1);
    let here = network.isolate(1);
    let before = network_state(&here);
    let mesh = Mesh::start(&here);
    let web = answerer(&here, "web");
    let plan =
        mesh.proxy(&here, "only").join(&mesh.token(&[])).service(&format!("web={web}")).intercept("on");
    let mut only = plan.start();

    reaches(&here, &only);

    assert!(only.process.terminate().success());
    assert_eq!(network_state(&here), before);
}

/// A host whose `resolv.conf` names this server, to which there is no way: returns a file that runs mesh there, and what runs
/// something else there.
fn asking(server: &str, folder: &Path) -> (PathBuf, PathBuf) {
    let conf = folder.join("resolv.conf");
    fs::write(&conf, format!("nameserver {server}\noptions timeout:1 attempts:1\n")).unwrap();
    let script = |name: &str, program: &str| {
        let inside = format!("mount --bind {} /etc/resolv.conf && exec {program} \"$@\"", conf.display());
        let file = folder.join(name);
        fs::write(&file, format!("#!/bin/sh\nexec unshare --mount sh -c '{inside}' sh \"$@\"\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        file
    };
    (script("mesh-there", &program::mesh().display().to_string()), script("there", "env"))
}

#[test]
fn names_resolve_where_no_way_leads_to_the_name_server_that_the_host_asks() {
    let network = Network::new(1);
    let here = network.isolate(1);
    let before = network_state(&here);
    let mesh = Mesh::start(&here);
    let (mesh_there, there) = asking("192.0.2.53", mesh.folder());
    let planned = run(&here, seconds(10), &mesh_there, &["proxy", "--intercept", "--dry-run"]).ok();
    assert!(
        planned.contains("#   ip -4 rule add not fwmark") && planned.contains("192.0.2.53 dev lo"),
        "{planned}"
    );
    let web = answerer(&here, "web");
    let plan =
        mesh.proxy(&here, "only").join(&mesh.token(&[])).service(&format!("web={web}")).intercept("on");
    let mut only = plan.program(&mesh_there).start();

    until("the name leads to the service", seconds(20), || {
        let done = run(&here, seconds(10), &there, &["curl", "-sS", "--max-time", "5", "http://web.mesh/"]);
        (done.out == "web").then_some(())
    });
    // What the server itself would have to know is refused, and not waited for.
    let begin = mesh::net::clock::now();
    let other = run(&here, seconds(20), &there, &["getent", "ahosts", "example.org"]);
    assert_ne!(other.code, Some(0));
    assert!(begin.elapsed() < seconds(4), "{:?}", begin.elapsed());
    // What was made is made again.
    run(&here, seconds(5), "ip", &["rule", "del", "pref", "32800"]).ok();
    until("it resolves again", seconds(10), || {
        (run(&here, seconds(10), &there, &["getent", "ahosts", "web.mesh"]).code == Some(0)).then_some(())
    });

    assert!(only.process.terminate().success());
    assert_eq!(network_state(&here), before);
}

#[test]
fn a_way_of_the_hosts_own_to_its_name_server_comes_before_ours() {
    let network = Network::new(1);
    let here = network.host(1);
    network.default_route(1, "del");
    let before = network_state(&here);
    let mesh = Mesh::start(&here);
    let (mesh_there, _) = asking("192.0.2.53", mesh.folder());
    let plan = mesh.proxy(&here, "only").join(&mesh.token(&[])).intercept("on");
    let mut only = plan.program(&mesh_there).start();
    let way = || run(&here, seconds(5), "ip", &["route", "get", "192.0.2.53"]).ok();
    assert!(way().contains("dev lo"), "{}", way());

    network.default_route(1, "add");
    assert!(way().contains("via 10.88.0.254"), "{}", way());
    network.default_route(1, "del");
    assert!(way().contains("dev lo"), "{}", way());

    // Another server, and the way to the first is gone.
    let conf = mesh.folder().join("resolv.conf");
    fs::write(&conf, "nameserver 192.0.2.54\n").unwrap();
    let table = || run(&here, seconds(5), "ip", &["route", "show", "table", "229"]).out;
    until("the other is reached", seconds(15), || {
        (table().contains("192.0.2.54") && !table().contains("192.0.2.53")).then_some(())
    });

    // Killed, with nobody to come.
    only.process.kill();
    until("what it left is removed", seconds(20), || (network_state(&here) == before).then_some(()));
}
