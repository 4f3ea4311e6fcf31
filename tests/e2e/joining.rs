//! Who may become a member, and what the inbound port does with those who are none.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::{Signal, kill_process};

use crate::stage::mesh::Mesh;
use crate::stage::peer::{self, answerer};
use crate::stage::place::{Network, Place};
use crate::stage::process::{curl, run, run_with};
use crate::stage::program;
use crate::stage::wait::{seconds, until};

/// Replaces one of the parts of `mesh1.PIN.ID.SECRET@HOST`.
fn forge(token: &str, part: usize, with: &str) -> String {
    let (parts, host) = token.split_once('@').unwrap();
    let mut parts: Vec<_> = parts.split('.').collect();
    parts[part] = with;
    format!("{}@{host}", parts.join("."))
}

fn part(token: &str, part: usize) -> String {
    token.split('@').next().unwrap().split('.').nth(part).unwrap().to_owned()
}

#[test]
fn a_token_with_a_wrong_pin_keeps_its_secret() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let token = mesh.token(&[]);
    let other = Mesh::start(&here).token(&[]);

    let (code, said) = mesh.proxy(&here, "a").join(&forge(&token, 1, &part(&other, 1))).refused();

    assert_ne!(code, Some(0));
    assert!(said.to_lowercase().contains("pin"), "{said}");
    assert!(!said.contains(&part(&token, 3)), "the secret is in the log:\n{said}");
    // The token was not used up, so its secret never arrived.
    mesh.proxy(&here, "b").join(&token).start();
}

#[test]
fn used_up_expired_foreign_and_forged_tokens_are_refused_by_name() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let once = mesh.token(&["--uses", "1"]);
    let _member = mesh.proxy(&here, "first").join(&once).start();
    let short = mesh.token(&["--ttl", "1s"]);
    let foreign = forge(&Mesh::start(&here).token(&[]), 1, &part(&once, 1));
    let foreign = format!("{}@{}", foreign.split('@').next().unwrap(), once.split('@').nth(1).unwrap());
    let forged = forge(&mesh.token(&[]), 3, &"a".repeat(26));
    std::thread::sleep(seconds(2));

    for (name, token, reason) in
        [("used", once, "used"), ("late", short, "expired"), ("foreign", foreign, ""), ("forged", forged, "")]
    {
        let secret = part(&token, 3);
        let (code, said) = mesh.proxy(&here, name).join(&token).refused();

        assert_ne!(code, Some(0), "{name}");
        assert!(said.to_lowercase().contains(reason), "{name}:\n{said}");
        assert!(said.contains("mesh token create"), "{name}: what to do is missing:\n{said}");
        assert!(!said.contains(&secret), "{name}: the secret is in the log");
    }
}

#[test]
fn a_token_for_one_service_serves_no_other() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let token = mesh.token(&["--service", "web", "--uses", "3"]);

    let (code, said) = mesh.proxy(&here, "a").join(&token).service("db=5432").refused();
    let allowed = mesh.proxy(&here, "b").join(&token).service("web=8080");

    assert_ne!(code, Some(0));
    assert!(said.contains("db"), "{said}");
    allowed.start();
}

#[test]
fn a_token_is_needed_once() {
    let here = Place::here();
    let mut mesh = Mesh::start(&here);
    let token = mesh.token(&["--uses", "1"]);
    let nginx = peer::nginx(&here, mesh.folder(), "again");
    let mut proxy = mesh.proxy(&here, "a").join(&token).service(&format!("web={}", nginx.port)).start();
    proxy.reaches("web");

    proxy.restart();
    mesh.restart_control();

    proxy.reaches("web");
}

#[test]
fn who_says_that_it_is_ready_calls_and_is_called_at_once() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let token = mesh.token(&["--uses", "9"]);
    let port = answerer(&here, "first");
    let serve = |node: &str, service: &str| {
        mesh.proxy(&here, node).join(&token).service(&format!("{service}={port}/http")).start()
    };
    let _first = serve("server-1", "first");

    // Three that have never been there: what each is asked for first, the moment that it says that it is ready.
    let mut callers = Vec::new();
    for node in ["caller-1", "caller-2", "caller-3"] {
        let caller = mesh.proxy(&here, node).join(&token).start();
        assert_eq!(caller.quick_status("first"), Some(200), "{node} does not reach what was there before it");
        callers.push(caller);
    }
    let _late = serve("server-2", "late");
    for caller in &callers {
        assert_eq!(caller.quick_status("late"), Some(200), "what is ready is not known everywhere");
    }
}

#[test]
fn a_removed_node_joins_again_with_a_new_token_on_its_old_data() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let nginx = peer::nginx(&here, mesh.folder(), "back");
    let service = format!("web={}", nginx.port);
    let first = mesh.token(&[]);
    let mut proxy = mesh.proxy(&here, "a").join(&first).service(&service).start();
    mesh.cli(&["leave", "a"]).ok();
    let what_to_do = "start the proxy with --join TOKEN of a new token";
    until("it is told what to do", seconds(10), || proxy.process.log().contains(what_to_do).then_some(()));
    let checked = mesh.cli(&["check"]);
    assert!(checked.out.contains("a was removed from the mesh"), "{}", checked.out);
    proxy.process.terminate();
    assert_eq!(proxy.process.log().matches("reports are refused").count(), 1, "{}", proxy.process.log());

    let second = mesh.token(&[]);
    let mut proxy = mesh.proxy(&here, "a").join(&second).service(&service).start();

    assert!(proxy.process.log().contains("joined again"), "{}", proxy.process.log());
    let other = mesh.proxy(&here, "b").join(&mesh.token(&[])).start();
    other.reaches("web");
    mesh.cli(&["check", "--wait", "20s"]).ok();
    proxy.process.terminate();
    // What is not needed is not used up.
    let third = mesh.token(&["--uses", "1"]);
    mesh.proxy(&here, "a").join(&third).service(&service).start();
    mesh.proxy(&here, "c").join(&third).start();
}

#[test]
fn a_host_that_was_set_up_anew_takes_its_name_up_again_at_once() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let token = mesh.token(&["--uses", "9"]);
    let mut first = mesh.proxy(&here, "a").join(&token).start();
    let data = first.data().to_owned();
    let anew = || fs::remove_dir_all(&data).unwrap();

    // It has said good-bye.
    assert!(first.process.terminate().success());
    drop(first);
    anew();
    let mut second = mesh.proxy(&here, "a").join(&token).start();
    let log = second.process.log();
    assert!(log.contains("joined") && !log.contains("another key"), "{log}");

    // It has not: it is waited for until it is missed, or somebody says that it is gone.
    second.process.kill();
    drop(second);
    anew();
    let plan = mesh.proxy(&here, "a").join(&token);
    let mut third = plan.spawn();
    until("it waits for its name", seconds(10), || {
        third.assert_alive();
        let log = third.log();
        (log.contains("cannot join yet") && log.contains("with another key")).then_some(())
    });
    mesh.cli(&["leave", "a"]).ok();
    until("it joins", seconds(10), || {
        third.assert_alive();
        data.join("addresses.json").exists().then_some(())
    });
}

#[test]
fn a_proxy_that_cannot_join_yet_ends_when_it_is_told_to() {
    let here = Place::here();
    let mut mesh = Mesh::start(&here);
    let token = mesh.token(&[]);
    mesh.control.kill();

    for (node, signal) in [("a", Signal::TERM), ("b", Signal::INT)] {
        let mut process = mesh.proxy(&here, node).join(&token).spawn();
        until("it tries", seconds(10), || process.log().contains("cannot join yet").then_some(()));
        kill_process(process.pid(), signal).unwrap();
        let status = until("it ends", seconds(1), || process.ended());
        let last = process.log();
        assert!(status.success() && last.contains("mesh check --pre --join"), "{status}: {last}");
    }
}

// case 81
#[test]
fn the_inbound_port_takes_mutual_tls_of_this_mesh_only() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let nginx = peer::nginx(&here, mesh.folder(), "secret");
    let proxy = mesh.proxy(&here, "a").join(&mesh.token(&[])).service(&format!("web={}", nginx.port)).start();
    proxy.reaches("web");
    let inbound = proxy.address("inbound");

    let mut plain = TcpStream::connect(inbound).unwrap();
    plain.set_read_timeout(Some(seconds(15))).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: web.mesh\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("secret"), "{answer:?}");

    let url = format!("https://{inbound}/");
    let without = curl(&here, &["-k", &url]);
    assert_ne!(without.code, Some(0), "without a certificate: {}", without.out);
    assert!(!without.out.contains("secret"));

    let (key, certificate) = (mesh.folder().join("foreign.key"), mesh.folder().join("foreign.pem"));
    let san = "subjectAltName=critical,URI:spiffe://another.mesh/ns/default/svc/web";
    let (key, certificate) = (key.to_str().unwrap(), certificate.to_str().unwrap());
    let make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=a";
    let make: Vec<_> = make.split(' ').chain(["-addext", san, "-keyout", key, "-out", certificate]).collect();
    run(&here, seconds(20), "openssl", &make).ok();
    let tls = format!(
        "printf 'GET / HTTP/1.1\\r\\nHost: web.mesh\\r\\n\\r\\n' | timeout 5 openssl s_client -connect {inbound} \
         -servername {}.web.default.mesh -alpn mesh-link/1 -cert {certificate} -key {key} -quiet 2>&1",
        nginx.port
    );
    let foreign = run(&here, seconds(10), "sh", &["-c", &tls]);
    assert!(!foreign.out.contains("secret"), "{}", foreign.out);
    assert!(foreign.out.contains("alert"), "the handshake was not refused:\n{}", foreign.out);

    assert_eq!(proxy.status("web", "/", &[]), 200);
}

// case 81
#[test]
fn a_banned_node_neither_calls_nor_is_called_until_the_ban_is_taken_back() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let token = mesh.token(&["--uses", "2"]);
    let nginx = peer::nginx(&here, mesh.folder(), "open");
    let _server = mesh.proxy(&here, "a").join(&token).service(&format!("web={}", nginx.port)).start();
    let caller = mesh.proxy(&here, "b").join(&token).start();
    caller.reaches("web");

    mesh.cli(&["ban", "b"]).ok();
    until("its calls are refused", seconds(10), || (caller.quick_status("web") != Some(200)).then_some(()));
    mesh.cli(&["ban", "--undo", "b"]).ok();

    caller.reaches("web");
}

#[test]
fn hundreds_of_silent_connections_do_not_keep_members_out() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let token = mesh.token(&["--uses", "2"]);
    let nginx = peer::nginx(&here, mesh.folder(), "open");
    let server = mesh.proxy(&here, "a").join(&token).service(&format!("web={}", nginx.port)).start();
    let caller = mesh.proxy(&here, "b").join(&token).start();
    caller.reaches("web");

    let inbound = server.address("inbound");
    let silent: Vec<_> = (0..400).map(|_| TcpStream::connect(inbound).unwrap()).collect();

    until("members are served", seconds(5), || (caller.status("web", "/", &[]) == 200).then_some(()));
    drop(silent);
}

#[test]
fn an_operator_administers_from_another_host_until_removed() {
    let network = Network::new(2);
    let (first, second) = (network.host(1), network.host(2));
    let mesh = Mesh::start(&first);
    let home = tempfile::tempdir().unwrap();
    let remote = |arguments: &[&str]| {
        run_with(&second, seconds(30), program::mesh(), arguments, |command| {
            command.env("HOME", home.path()).env_remove("MESH_CONTROL").env_remove("XDG_CONFIG_HOME");
        })
    };
    let control = format!("https://{}", mesh.listen());
    let token = mesh.token(&["--role", "operator"]);

    let stranger = remote(&["token", "list", "--control", &control]).failed(5);
    assert!(stranger.contains("mesh login"), "{stranger}");
    let host = remote(&["login", &mesh.token(&[]), "--name", "eve"]).failed(5);
    assert!(host.contains("is for role proxy"), "{host}");
    remote(&["login", &token, "--name", "ann"]).ok();

    let file = home.path().join(".config/mesh/operator.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    remote(&["check", "--control", &control]).ok();
    let made = remote(&["token", "create"]).ok();
    mesh.proxy(&first, "a").join(made.trim()).start();
    let used_up = remote(&["login", &token, "--name", "bob"]).failed(5);
    assert!(
        used_up.contains("used up") && used_up.contains("mesh token create --role operator"),
        "{used_up}"
    );
    let (code, said) = mesh.proxy(&first, "ann").join(made.trim()).refused();
    assert_ne!(code, Some(0), "a host took the operator's name: {said}");

    mesh.cli(&["leave", "ann"]).ok();
    let removed = remote(&["token", "list"]).failed(5);
    assert!(removed.contains("ann was removed"), "{removed}");
    remote(&["logout"]).ok();
    assert!(!file.exists());
    remote(&["token", "list"]).failed(3);
}

#[test]
fn a_host_that_is_told_nothing_of_how_to_join_is_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("state/proxy");

    let words = ["proxy", "--data-dir", data.to_str().unwrap(), "--node", "a"];
    let refused = run(&Place::here(), seconds(10), program::mesh(), &words).failed(1);

    assert!(refused.contains("--join TOKEN"), "{refused}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was made");
}

#[test]
fn an_operator_has_a_name_also_where_the_environment_has_none() {
    let here = Place::here();
    let mesh = Mesh::start(&here);
    let token = mesh.token(&["--role", "operator"]);

    let done = run_with(&here, seconds(20), program::mesh(), &["login", &token], |command| {
        command
            .env_remove("USER")
            .env_remove("LOGNAME")
            .env("HOME", mesh.folder())
            .env_remove("XDG_CONFIG_HOME");
    });

    assert!(done.code == Some(0) && done.err.contains("operator/root."), "{}", done.err);
}

#[test]
fn a_second_control_plane_is_refused_plainly() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("control");

    let words = ["control", "--data-dir", data.to_str().unwrap(), "--join", "mesh1.a.b.c@127.0.0.1:7443"];
    let refused = run(&Place::here(), seconds(10), program::mesh(), &words).failed(1);

    assert!(refused.contains("is not supported: a mesh has one control plane"), "{refused}");
    assert!(!data.exists());
}
