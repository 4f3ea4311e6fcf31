//! `mesh check`: before mesh is there, on a host that runs a proxy, and when something is in the way.

use serde_json::Value;

use crate::stage::mesh::{Mesh, Proxy};
use crate::stage::peer::answerer;
use crate::stage::place::{Network, Place};
use crate::stage::process::{Done, run, run_with};
use crate::stage::program;
use crate::stage::wait::{seconds, until};

/// Runs `mesh check` on a host on which nobody has logged in and no control plane runs.
fn check(place: &Place, words: &[&str], control: Option<&str>) -> Done {
    run_with(place, seconds(60), program::mesh(), &[&["check"], words].concat(), |command| {
        let home = std::env::temp_dir().join("mesh-e2e-nobody");
        command.env("HOME", &home).env("XDG_STATE_HOME", &home).env("XDG_CONFIG_HOME", &home);
        if let Some(control) = control {
            command.env("MESH_CONTROL", control);
        }
    })
}

/// Returns the mark, the findings and the hint of one check.
fn told(done: &Done, description: &str) -> (String, String, String) {
    let all: Value = serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {}", done.out));
    let checks =
        all["categories"].as_array().unwrap().iter().flat_map(|one| one["checks"].as_array().unwrap());
    let found = checks.clone().find(|check| check["description"].as_str().unwrap().starts_with(description));
    let found = found.unwrap_or_else(|| panic!("no '{description}' in {}", done.out));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = found["findings"].as_array().cloned().unwrap_or_default();
    let findings = findings.iter().map(text).collect::<Vec<_>>().join("\n");
    (text(&found["result"]), findings, text(&found["hint"]))
}

fn mark(done: &Done, description: &str) -> String {
    told(done, description).0
}

#[test]
fn a_host_is_checked_before_anything_is_installed() {
    let network = Network::new(2);
    let mesh = Mesh::start(&network.host(1));
    let (here, token) = (network.host(2), mesh.token(&["--uses", "7"]));

    let fit = check(&here, &["--pre", "--join", &token, "-o", "json"], None);

    for description in [
        "the host's name can be its node's",
        "there is room on the disk",
        "the ports of a proxy are free",
        "connections can be intercepted",
        "the control plane is reached",
        "the clocks agree",
    ] {
        assert_eq!(mark(&fit, description), "success", "{description}: {}", fit.out);
    }
    assert_eq!(fit.code, Some(0));
    assert!(run(&here, seconds(5), "nft", &["list", "tables"]).ok().is_empty(), "something was installed");
    // The token stays unused, and somebody else has a port.
    let _taken = here.inside(|| std::net::TcpListener::bind("0.0.0.0:15008").unwrap());
    let unfit = check(&here, &["--pre", "-o", "json"], None);
    let (mark, findings, hint) = told(&unfit, "the ports of a proxy are free");
    assert_eq!((mark.as_str(), unfit.code), ("error", Some(1)));
    assert!(findings.starts_with("15008: ") && hint.contains("--inbound"), "{findings} {hint}");
    let tokens = mesh.json(&["token", "list", "-o", "json"]);
    assert!(tokens.as_array().unwrap().iter().any(|token| token["usesLeft"] == 7), "{tokens}");
    let gone =
        check(&here, &["--pre", "--join", &token.replace("10.88.0.1", "10.88.0.9"), "-o", "json"], None);
    assert_eq!((self::mark(&gone, "the control plane is reached").as_str(), gone.code), ("error", Some(1)));
}

#[test]
fn the_host_of_a_proxy_is_checked_without_a_control_plane_or_an_operator() {
    let network = Network::new(3);
    let mut mesh = Mesh::start(&network.host(1));
    let token = mesh.token(&["--uses", "2"]);
    let web = answerer(&network.host(2), "web");
    let server = mesh.proxy(&network.host(2), "server").join(&token).service(&format!("web={web}")).start();
    let caller = mesh.proxy(&network.host(3), "caller").join(&token).intercept("on").start();
    let here = network.host(3);
    let look =
        |proxy: &Proxy| check(&here, &["--proxy", &proxy.address("admin").to_string(), "-o", "json"], None);

    let well = until("all is well", seconds(30), || Some(look(&caller)).filter(|done| done.code == Some(0)));
    for description in [
        "it would serve traffic",
        "it reaches the control plane",
        "its clock agrees with the control plane's",
        "it runs the control plane's version",
        "there is room on the disk",
        "every certificate is valid",
        "no renewal of a certificate has failed",
        "it reaches every member by TCP",
        "every member answers its packets",
        "members reach this host by TCP",
        "the rules for interception are in force (on)",
        "names below .mesh resolve on this host",
        "no node is dead",
        "every service has a ready instance",
    ] {
        assert_eq!(mark(&well, description), "success", "{description}: {}", well.out);
    }

    // Rules that are gone, and a resolver that does not ask by DNS any more.
    std::thread::sleep(seconds(2)); // What was found a moment ago is told again.
    run(&here, seconds(5), "nft", &["delete", "table", "inet", "mesh"]).ok();
    let found = look(&caller);
    let (_, findings, hint) = told(&found, "the rules for interception are in force");
    assert_eq!(findings, "somebody has removed them");
    assert!(hint.contains("systemctl restart mesh-proxy"), "{hint}");
    assert_eq!((mark(&found, "names below .mesh resolve").as_str(), found.code), ("error", Some(1)));
    until("the proxy mends it", seconds(30), || (look(&caller).code == Some(0)).then_some(()));

    // A firewall between the hosts: TCP from here, then packets from there.
    let gossip = server.address("gossip");
    let (port, ip) = (gossip.port(), gossip.ip());
    let rule = |text: &str| {
        let table =
            format!("table inet wall {{ chain c {{ type filter hook output priority 0; {text}; }}; }}");
        run(&here, seconds(5), "nft", &[&table]).ok();
    };
    rule(&format!("ip daddr {ip} tcp dport {port} reject with tcp reset"));
    // What was found a moment ago is told again.
    let found = until("it is refused", seconds(15), || {
        Some(look(&caller)).filter(|done| mark(done, "it reaches every member by TCP") == "warning")
    });
    let (_, findings, hint) = told(&found, "it reaches every member by TCP");
    assert!(findings.starts_with("server at 10.88.0.2:") && hint.contains("7946"), "{findings} {hint}");
    run(&here, seconds(5), "nft", &["delete", "table", "inet", "wall"]).ok();
    rule(&format!("ip daddr {ip} udp dport {port} drop"));
    until("packets are missed", seconds(60), || {
        let (mark, findings, _) = told(&look(&caller), "every member answers its packets");
        (mark == "warning" && findings.contains("server")).then_some(())
    });
    run(&here, seconds(5), "nft", &["delete", "table", "inet", "wall"]).ok();

    // Without the control plane: a warning, as calls go on; who names it gets status 3.
    mesh.control.kill();
    let found = until("it is missed", seconds(30), || {
        Some(look(&caller)).filter(|done| mark(done, "it reaches the control plane") == "warning")
    });
    assert_ne!(mark(&found, "names below .mesh resolve"), "error");
    let named = check(&here, &[], Some(&format!("unix://{}", mesh.data().join("control.sock").display())));
    assert_eq!(named.code, Some(3), "{}{}", named.out, named.err);

    // A proxy that was killed, with its rules still there.
    let admin = caller.address("admin").to_string();
    drop(caller);
    let found = check(&here, &["--proxy", &admin, "-o", "json"], None);
    let (mark_of_proxy, finding, hint) = told(&found, "the proxy of this host answers");
    assert_eq!(mark_of_proxy, "error");
    assert!(finding.starts_with("no proxy answers: ") && hint.contains("mesh proxy"), "{finding} {hint}");
    let (mark_of_rest, _, hint) = told(&found, "no rules for interception are left over");
    assert_eq!(mark_of_rest, "error");
    assert!(hint.contains("mesh intercept clear"), "{hint}");
}

#[test]
fn the_gossip_of_the_control_plane_is_judged_both_ways() {
    let network = Network::new(3);
    let mesh = Mesh::start(&network.host(1));
    let token = mesh.token(&["--uses", "2"]);
    let server = mesh.proxy(&network.host(2), "server").join(&token).start();
    let _other = mesh.proxy(&network.host(3), "other").join(&token).start();
    let here = network.host(1);
    let (udp, gossip) = ("every member answers the control plane's packets", server.address("gossip"));
    let look = || mesh.cli(&["check", "-o", "json"]);
    let well = until("all is well", seconds(30), || Some(look()).filter(|done| done.code == Some(0)));
    for description in [
        "the control plane's gossip knows other members",
        "the control plane reaches every member by TCP",
        udp,
        "members reach the control plane by TCP",
    ] {
        assert_eq!(mark(&well, description), "success", "{description}: {}", well.out);
    }
    // Who was reached, and who reached us, and how long ago.
    until("both have answered and called", seconds(60), || {
        let all: Value = serde_json::from_str(&look().out).unwrap();
        let category =
            all["categories"].as_array()?.iter().find(|one| one["categoryName"] == "control-gossip")?;
        let contacts = category["reach"]["contacts"].as_array()?;
        let names: Vec<_> = contacts.iter().map(|contact| contact["node"].as_str().unwrap()).collect();
        assert_eq!(names, ["other", "server"]);
        let is_told = |one: &Value| {
            ["answeredMsAgo", "heardMsAgo", "calledMsAgo"].iter().all(|what| one[what].is_u64())
        };
        contacts.iter().all(is_told).then_some(())
    });

    let wall = |hook: &str, rule: &str| {
        let table =
            format!("table inet wall {{ chain c {{ type filter hook {hook} priority 0; {rule}; }}; }}");
        run(&here, seconds(5), "nft", &[&table]).ok();
    };
    let opened = || _ = run(&here, seconds(5), "nft", &["delete", "table", "inet", "wall"]).ok();
    let finds = |words: &str| {
        until(words, seconds(60), || {
            let (mark, findings, hint) = told(&look(), udp);
            let is_found = mark == "warning" && findings.contains("server at") && findings.contains(words);
            assert!(
                !is_found || hint.contains("7946") && !findings.contains("other at"),
                "{findings} {hint}"
            );
            is_found.then_some(())
        });
    };

    // Packets are lost on the way there; on the way back; connections there.
    wall("output", &format!("ip daddr {} udp dport {} drop", gossip.ip(), gossip.port()));
    finds("but its own packets arrive: UDP from the control plane to");
    opened();
    until("all is well again", seconds(30), || (mark(&look(), udp) == "success").then_some(()));
    wall("input", &format!("ip saddr {} udp sport {} drop", gossip.ip(), gossip.port()));
    finds("UDP from there to the control plane is lost");
    opened();
    wall("output", &format!("ip daddr {} tcp dport {} reject with tcp reset", gossip.ip(), gossip.port()));
    until("it is refused", seconds(15), || {
        (mark(&look(), "the control plane reaches every member by TCP") == "warning").then_some(())
    });
    opened();
}

#[test]
fn what_is_wrong_with_the_command_line_is_usage_and_nobody_there_is_unreachable() {
    let network = Network::new(1);
    let here = network.host(1);

    let usage = check(&here, &[], Some("foo")).failed(2);
    assert!(usage.contains("unix:///PATH/control.sock or https://HOST:7443"), "{usage}");
    let wait = check(&here, &["--wait", "foo"], None).failed(2);
    assert!(wait.contains("a number and a unit, such as 500ms, 30s"), "{wait}");
    let nobody = check(&here, &["-o", "json"], Some("unix:///nowhere/control.sock"));
    assert_eq!((nobody.code, mark(&nobody, "control plane answers").as_str()), (Some(3), "error"));
    let duration =
        run(&here, seconds(10), program::mesh(), &["demo", "--headless", "--duration", "foo"]).failed(2);
    assert!(duration.contains("a number and a unit, such as 500ms, 30s"), "{duration}");
}
