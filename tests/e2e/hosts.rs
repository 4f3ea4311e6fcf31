//! Services on one host, their callers on another, the control plane on a third.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use crate::stage::mesh::{Mesh, Proxy};
use crate::stage::peer;
use crate::stage::place::{Network, Place};
use crate::stage::process::{curl, run};
use crate::stage::wait::{seconds, until};

/// Three hosts: control on the first; a service behind the second's proxy; a caller behind the third's.
struct Hosts {
    caller: Proxy,
    server: Proxy,
    mesh: Mesh,
    network: Network,
}

impl Hosts {
    fn new(services: impl FnOnce(&Place, &Mesh) -> Vec<String>, upstreams: &[&str]) -> Self {
        let network = Network::new(3);
        let mesh = Mesh::start(&network.host(1));
        let token = mesh.token(&["--uses", "2"]);
        let mut server = mesh.proxy(&network.host(2), "server").join(&token);
        for service in services(&network.host(2), &mesh) {
            server = server.service(&service);
        }
        let server = server.start();
        let mut caller = mesh.proxy(&network.host(3), "caller").join(&token);
        for upstream in upstreams {
            caller = caller.upstream(upstream);
        }
        let caller = caller.start();
        Self { caller, server, mesh, network }
    }

    fn here(&self) -> Place {
        self.network.host(3)
    }
}

#[test]
fn nginx_answers_curl_in_every_version_of_http() {
    let mut nginx = None;
    let hosts = Hosts::new(
        |place, mesh| {
            let (old, new) = (
                peer::nginx(place, mesh.folder(), "from-nginx"),
                peer::nginx_h2c(place, mesh.folder(), "from-nginx"),
            );
            let services = vec![
                format!("web={}", old.port),
                format!("old={}/http", old.port),
                format!("new={}/h2c", new.port),
                format!("found={}", new.port),
            ];
            nginx = Some((old, new));
            services
        },
        &["web", "old"],
    );
    for service in ["web", "old", "new"] {
        hosts.caller.reaches(service);
    }
    let by_port = format!("http://{}/", hosts.caller.upstream("old.default"));
    let proxy = format!("http://{}", hosts.caller.address("outbound"));
    let versions = ["--http1.0", "--http1.1", "--http2-prior-knowledge"];

    // What a service is declared to speak is spoken to it, whatever its caller speaks; else the caller's own.
    for version in versions {
        for service in ["old", "new"] {
            let answer = hosts.caller.get(service, "/", &[version]).ok();
            assert_eq!(answer, "from-nginx\n", "{version} to {service}");
        }
        assert_eq!(curl(&hosts.here(), &[version, &by_port]).ok(), "from-nginx\n", "{version} by port");
    }
    for (service, version) in [("web", versions[0]), ("web", versions[1]), ("found", versions[2])] {
        let shown = ["-w", "HTTP/%{http_version}", version];
        let answer = hosts.caller.get(service, "/", &shown).ok();
        let expected = if version == versions[2] { "HTTP/2" } else { "HTTP/1" };
        assert!(answer.starts_with(&format!("from-nginx\n{expected}")), "{version} to {service}: {answer}");
    }
    for name in ["web.mesh", "web", "web.default", "web.default.mesh"] {
        let url = format!("http://{name}/");
        assert_eq!(curl(&hosts.here(), &["-x", &proxy, &url]).ok(), "from-nginx\n", "{name} by http_proxy");
        let tunnel = curl(&hosts.here(), &["-p", "-x", &proxy, &format!("http://{name}:80/")]);
        assert_eq!(tunnel.ok(), "from-nginx\n", "{name} by CONNECT");
    }
    assert_eq!(hosts.caller.get("web", "/echo-host", &[]).ok(), "web.mesh\n");
    assert_eq!(hosts.caller.status("web", "/teapot", &[]), 418);
    assert_eq!(hosts.caller.status("web", "/missing", &[]), 404);
    assert_eq!(hosts.caller.status("web", "/", &["--head"]), 200);
    assert_eq!(hosts.caller.status("nobody", "/", &[]), 404);
}

#[test]
fn the_edge_between_two_hosts_is_seen_with_mutual_tls() {
    let mut nginx = None;
    let hosts = Hosts::new(
        |place, mesh| {
            let server = nginx.insert(peer::nginx(place, mesh.folder(), "from-nginx"));
            vec![format!("web={}", server.port)]
        },
        &[],
    );
    hosts.caller.reaches("web");
    for _ in 0..9 {
        hosts.caller.status("web", "/", &[]);
    }

    let edge = until("ten requests are counted", seconds(15), || {
        let edge = hosts.mesh.edge("node/caller", "web.default");
        (edge["requestsTotal"].as_u64()? >= 10 && edge["latencyMs"]["p50"].is_number()).then_some(edge)
    });

    assert_eq!(edge["mtls"], true, "{edge}");
    assert_eq!(edge["protocol"], "http", "{edge}");
    assert_eq!(edge["failuresTotal"], 0, "{edge}");
    assert_eq!(edge["successRate"], 1.0, "{edge}");
    assert!(edge["latencyMs"]["p50"].as_f64().is_some_and(|ms| ms > 0.0), "{edge}");
    hosts.mesh.cli(&["check"]).ok();
    for command in [&["edges"][..], &["stat"], &["top", "--once"]] {
        let text = hosts.mesh.cli(command).ok();
        assert!(text.contains("web"), "{command:?}:\n{text}");
    }
}

#[test]
fn postgres_and_its_client_talk_through_an_upstream_port() {
    let mut postgres = None;
    let hosts = Hosts::new(
        |place, mesh| {
            let server = postgres.insert(peer::postgres(place, mesh.folder()));
            vec![format!("db={}", server.port)]
        },
        &["db"],
    );
    let port = hosts.caller.upstream("db.default").port().to_string();
    let psql = |sql: &str| {
        let flags = ["-h", "127.0.0.1", "-p", &port, "-U", "mesh", "-d", "postgres", "-XqAt", "-c", sql];
        run(&hosts.here(), seconds(20), "psql", &flags)
    };
    until("psql gets an answer", seconds(15), || (psql("select 1").code == Some(0)).then_some(()));

    psql("create table numbers (n int primary key, t text)").ok();
    psql("insert into numbers select n, repeat('x', 100) from generate_series(1, 50000) n").ok();

    assert_eq!(psql("select count(*), sum(length(t)) from numbers").ok(), "50000|5000000\n");
    assert_eq!(psql("select t from numbers").ok().len(), 50_000 * 101);
    assert!(psql("select no_such_column from numbers").err.contains("no_such_column"));
    let edge = hosts.mesh.edge("node/caller", "db.default");
    assert_eq!((&edge["protocol"], &edge["mtls"]), (&"tcp".into(), &true.into()), "{edge}");
}

#[test]
fn redis_and_its_client_talk_through_an_upstream_port() {
    let mut redis = None;
    let hosts = Hosts::new(
        |place, mesh| {
            let server = redis.insert(peer::redis(place, mesh.folder()));
            vec![format!("cache={}/tcp", server.port)]
        },
        &["cache"],
    );
    let port = hosts.caller.upstream("cache.default").port().to_string();
    let redis =
        |words: &[&str]| run(&hosts.here(), seconds(20), "redis-cli", &[&["-p", &port], words].concat());
    until("redis answers", seconds(15), || (redis(&["ping"]).out == "PONG\n").then_some(()));

    assert_eq!(redis(&["set", "colour", "grün"]).ok(), "OK\n");
    assert_eq!(redis(&["get", "colour"]).ok(), "grün\n");
    let many = run(
        &hosts.here(),
        seconds(60),
        "redis-benchmark",
        &["-p", &port, "-q", "-n", "20000", "-c", "20", "-P", "8", "-t", "set,get"],
    );
    assert_eq!(many.ok().matches("requests per second").count(), 2);
}

#[test]
fn a_server_that_speaks_first_is_heard_and_half_closing_works() {
    let mut greeter = None;
    let hosts = Hosts::new(
        |place, _| {
            let address = greeter.insert(peer::greeter(place, "mail"));
            vec![format!("mail={}", address.port())]
        },
        &["mail"],
    );
    let port = hosts.caller.upstream("mail.default");
    let connect = || {
        let stream = hosts.here().inside(|| TcpStream::connect(port)).ok()?;
        stream.set_read_timeout(Some(seconds(5))).unwrap();
        let mut greeting = String::new();
        let mut reader = BufReader::new(stream);
        reader.read_line(&mut greeting).ok()?;
        (greeting == "220 mail speaks first\r\n").then_some(reader)
    };
    // Nothing was sent: the greeting came because nobody waited for the client.
    let mut reader = until("the server is heard", seconds(15), connect);
    let sent = vec![b'm'; 3_000_000];

    let mut writer = reader.get_ref().try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut answer = Vec::new();
    reader.read_to_end(&mut answer).unwrap();
    writing.join().unwrap();

    assert_eq!(answer.len(), 3_000_000 + "\r\n221 3000000 bytes\r\n".len());
    assert!(answer.ends_with(b"\r\n221 3000000 bytes\r\n"));
}

#[test]
fn an_unused_upstream_of_an_unknown_service_refuses_at_once_and_disturbs_nothing() {
    let mut nginx = None;
    let hosts = Hosts::new(
        |place, mesh| {
            let server = nginx.insert(peer::nginx(place, mesh.folder(), "from-nginx"));
            vec![format!("web={}", server.port)]
        },
        &["nowhere"],
    );
    hosts.caller.reaches("web");

    let stream = hosts.here().inside(|| TcpStream::connect(hosts.caller.upstream("nowhere.default")));
    if let Ok(mut stream) = stream {
        stream.set_read_timeout(Some(seconds(5))).unwrap();
        let _ = stream.write_all(b"\x00\x01binary");
        let ended = stream.read(&mut [0; 64]);
        let still_open = ended.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!still_open && !matches!(ended, Ok(1..)), "{ended:?}");
    }

    assert_eq!(hosts.caller.get("web", "/", &[]).ok(), "from-nginx\n");
    assert!(File::open(hosts.server.data().join("addresses.json")).is_ok());
}

#[test]
fn a_call_that_two_proxies_hand_to_each_other_ends() {
    let network = Network::new(2);
    let (one, two) = (network.host(1), network.host(2));
    let mesh = Mesh::start(&one);
    let token = mesh.token(&["--uses", "2"]);
    let ports = [one.free_port(), two.free_port()];
    // Each takes the other's outbound listener for the service.
    let first = mesh.proxy(&one, "first").join(&token).open(ports[0]);
    let first = first.service(&format!("web={}:{}/http", two.ip(), ports[1])).start();
    let second = mesh.proxy(&two, "second").join(&token).open(ports[1]);
    let second = second.service(&format!("web={}:{}/http", one.ip(), ports[0])).start();

    for proxy in [&first, &second] {
        until("it is known", seconds(15), || (proxy.quick_status("web") != Some(404)).then_some(()));
        let told = proxy.get("web", "/", &["-i"]).ok();
        assert!(told.starts_with("HTTP/1.1 508"), "{told}");
        assert!(told.contains("handed on 16 times"), "{told}");
    }
}
