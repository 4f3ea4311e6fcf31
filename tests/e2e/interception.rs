//! Applications that know nothing of the mesh: they use plain names, and the kernel leads their connections to the proxy.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::stage::mesh::{Mesh, ProxyPlan};
use crate::stage::peer::{self, answerer, has_rules};
use crate::stage::place::{Network, Place};
use crate::stage::process::{Done, Process, curl, run, run_with};
use crate::stage::program::{self, python, script};
use crate::stage::wait::{meanwhile, seconds, until};

/// Three hosts: control on the first, services behind the second's proxy, applications on the third.
struct Hosts {
    mesh: Mesh,
    token: String,
    network: Network,
}

impl Hosts {
    fn new() -> Self {
        let network = Network::new(3);
        let mesh = Mesh::start(&network.host(1));
        let token = mesh.token(&["--uses", "9"]);
        Self { mesh, token, network }
    }

    fn proxy(&self, host: u8, node: &str) -> ProxyPlan {
        self.mesh.proxy(&self.network.host(host), node).join(&self.token)
    }

    fn servers(&self) -> Place {
        self.network.host(2)
    }

    fn here(&self) -> Place {
        self.network.host(3)
    }

    /// Waits until an application here reaches a service by its plain name.
    fn reaches(&self, url: &str, answer: &str) {
        until(&format!("{url} answers"), seconds(20), || {
            (curl(&self.here(), &[url]).out == answer).then_some(())
        });
    }
}

/// Everything of a host's network that interception could change, as its own tools write it.
pub(crate) fn network_state(place: &Place) -> String {
    let commands: [&[&str]; 7] = [
        &["nft", "list", "ruleset"],
        &["ip", "route", "show", "table", "all"],
        &["ip", "-6", "route", "show", "table", "main"],
        &["ip", "link"],
        &["ip", "rule"],
        &["ip", "-6", "rule"],
        &["cat", "/etc/resolv.conf"],
    ];
    let text = commands.map(|words| run(place, seconds(5), words[0], &words[1..]).ok()).concat();
    // The kernel takes its time to settle on these, whatever we do.
    let settled = |line: &&str| !line.contains("fe80::");
    text.lines().filter(settled).collect::<Vec<_>>().join("\n")
}

#[test]
fn plain_names_reach_services_of_every_protocol_on_any_port() {
    let mut hosts = Hosts::new();
    let (servers, folder) = (hosts.servers(), hosts.mesh.folder().to_owned());
    let web = peer::nginx(&servers, &folder, "from-nginx");
    let redis = peer::redis(&servers, &folder);
    let postgres = peer::postgres(&servers, &folder);
    let grpc = peer::script_server(&servers, &folder, "grpc_calls.py");
    let mail = peer::greeter(&servers, "mail");
    let mut server = hosts.proxy(2, "server");
    for service in [
        format!("web={}", web.port),
        format!("cache={}", redis.port),
        format!("db={}", postgres.port),
        format!("api={}", grpc.port),
        format!("mail={}", mail.port()),
    ] {
        server = server.service(&service);
    }
    let _server = server.start();
    let mut caller = hosts.proxy(3, "caller").intercept("on").start();
    let here = hosts.here();
    hosts.reaches("http://web.mesh/", "from-nginx\n");

    for url in ["http://web.default.mesh/", "http://WEB.Mesh:8080/", "http://web.mesh:443/"] {
        assert_eq!(curl(&here, &[url]).ok(), "from-nginx\n", "{url}");
    }
    assert_eq!(curl(&here, &["http://web.mesh/echo-host"]).ok(), "web.mesh\n");
    let unknown = curl(&here, &["http://nobody.mesh/"]);
    assert_eq!(unknown.code, Some(6), "curl could not resolve: {}", unknown.err);
    let v6 = curl(&here, &["-6", "http://web.mesh/"]);
    assert_eq!(v6.ok(), "from-nginx\n", "by IPv6");
    let psql = |sql: &str| {
        let flags = ["-h", "db.mesh", "-U", "mesh", "-d", "postgres", "-XqAt", "-c", sql];
        run(&here, seconds(20), "psql", &flags)
    };
    assert_eq!(psql("select 40 + 2").ok(), "42\n");
    assert_eq!(run(&here, seconds(20), "redis-cli", &["-h", "cache.mesh", "ping"]).ok(), "PONG\n");
    let script = script("grpc_calls.py");
    let code = run(
        &here,
        seconds(60),
        python(),
        &["-u", script.to_str().unwrap(), "code", "api.mesh:50051", "api.mesh"],
    );
    assert_eq!(code.out, "OK\n", "{}", code.err);
    let address_of = |name: &str| -> Ipv4Addr {
        let found = run(&here, seconds(5), "getent", &["ahostsv4", name]).ok();
        found.split_whitespace().next().unwrap().parse().unwrap()
    };
    let mail = address_of("mail.mesh");
    let mut mail = here.inside(|| TcpStream::connect((mail, 25)).unwrap());
    mail.set_read_timeout(Some(seconds(10))).unwrap();
    let mut greeting = [0; 22];
    mail.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 mail speaks first\r", "the server speaks first");

    // What is not of the mesh is left alone, and a connection that was not captured is not taken for one that was.
    let direct = answerer(&servers, "direct");
    assert_eq!(curl(&here, &[&format!("http://{}:{direct}/", servers.ip())]).ok(), "direct");
    let stranger = curl(&here, &[&format!("http://{}/", caller.address("capture"))]);
    assert_ne!(stranger.code, Some(0), "{}", stranger.out);
    let web = address_of("web.mesh");
    let refused = here.inside(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        socket.send_to(b"x", (web, 53)).is_err()
    });
    assert!(refused, "datagrams for virtual addresses leave the host");
    let edge = hosts.mesh.edge("node/caller", "db.default");
    assert_eq!((&edge["protocol"], &edge["mtls"]), (&"tcp".into(), &true.into()), "{edge}");

    // Without a control plane, and with a proxy that starts from its own disk.
    hosts.mesh.control.kill();
    caller.restart();
    hosts.reaches("http://web.mesh/", "from-nginx\n");
}

#[test]
fn other_names_are_asked_of_the_host_s_name_server_and_only_its_questions_are_led_away() {
    let hosts = Hosts::new();
    // A name server on the first host that says of every name that it is 192.0.2.1.
    let control = hosts.network.host(1);
    let socket = control.inside(|| UdpSocket::bind((control.ip(), 53)).unwrap());
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let end = 12 + packet[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
            let head = [&packet[..2], &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]].concat();
            let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
            let answer = [&head[..], &packet[12..end], &record].concat();
            socket.send_to(&answer, from).unwrap();
        }
    });
    let name_server = control.ip().to_string();
    let _caller = hosts.proxy(3, "caller").intercept("on").flag("--dns-forward", &name_server).start();
    let here = hosts.here();

    let by_name = run(&here, seconds(15), "getent", &["ahostsv4", "www.example.org"]).ok();

    assert!(by_name.starts_with("192.0.2.1 "), "{by_name}");
    let dig = run(&here, seconds(5), "nft", &["list", "chain", "inet", "mesh", "names"]).ok();
    assert!(!dig.contains(&name_server), "a server that is not in resolv.conf is asked directly: {dig}");
}

#[test]
fn strict_leaves_only_mutual_tls_to_other_hosts_but_for_exceptions() {
    let hosts = Hosts::new();
    let port = answerer(&hosts.servers(), "secret");
    let direct = format!("http://{}:{port}/", hosts.servers().ip());
    let outsider = hosts.network.host(1);
    let service = format!("web={port}");
    let reached = |from: &Place| curl(from, &["--max-time", "3", &direct]).out == "secret";
    assert!(reached(&outsider), "before");
    let server = hosts.proxy(2, "server").service(&service).intercept("strict").start();
    let _caller = hosts.proxy(3, "caller").service("loop=240.1.2.3:80").intercept("on").start();
    hosts.reaches("http://web.mesh/", "secret");
    // A service that is said to be at a virtual address is nowhere: the proxy's own calls are not captured.
    until("the loop is broken", seconds(20), || {
        let flags = ["-o", "/dev/null", "-w", "%{http_code}", "http://loop.mesh/"];
        ["502", "503"].contains(&curl(&hosts.here(), &flags).out.as_str()).then_some(())
    });

    assert!(!reached(&outsider) && !reached(&hosts.here()), "strict leaves it open");
    assert!(reached(&hosts.servers()), "the host itself is shut out");
    let other = answerer(&hosts.servers(), "other");
    let other = format!("http://{}:{other}/", hosts.servers().ip());
    assert_eq!(curl(&outsider, &[&other]).ok(), "other", "ports that are no service's");

    let except = format!("{}/32={port}", outsider.ip());
    drop(server);
    let _server = hosts
        .proxy(2, "server")
        .service(&service)
        .intercept("strict")
        .flag("--strict-except", &except)
        .start();
    assert!(reached(&outsider) && !reached(&hosts.here()), "the exception is one for others, or for nobody");
}

#[test]
fn a_second_proxy_that_would_intercept_is_refused_and_the_first_one_s_rules_are_its_own() {
    let hosts = Hosts::new();
    let (servers, outsider) = (hosts.servers(), hosts.network.host(1));
    let port = answerer(&servers, "secret");
    let direct = format!("http://{}:{port}/", servers.ip());
    let is_open = || curl(&outsider, &["--max-time", "3", &direct]).out == "secret";
    let mut first = hosts.proxy(2, "server").service(&format!("web={port}")).intercept("strict").start();

    let (code, said) = hosts.proxy(2, "second").intercept("on").refused();

    assert_eq!(code, Some(1), "{said}");
    let pid = first.process.pid().as_raw_nonzero();
    let data = first.data().canonicalize().unwrap();
    let named = [format!("process {pid}"), data.display().to_string(), "--intercept off".to_owned()];
    assert!(named.iter().all(|part| said.contains(part)), "{said}");
    assert!(has_rules(&servers) && !is_open(), "the second one has opened the first one's service");
    drop(hosts.proxy(2, "second").start());

    for change in ["delete table inet mesh; add table inet mesh", "flush table inet mesh"] {
        run(&servers, seconds(5), "nft", &[change]).ok();
        assert!(is_open(), "{change} has changed nothing");
        until(&format!("closed again after '{change}'"), seconds(10), || (!is_open()).then_some(()));
    }
    std::thread::sleep(seconds(9));
    let log = first.process.log();
    assert_eq!(log.matches("they are installed again").count(), 2, "what nobody has changed is left: {log}");

    // Once the first has gone, however it went, another may.
    first.process.kill();
    hosts.proxy(2, "second").intercept("on").start();
}

#[test]
fn rules_come_and_go_as_a_whole_and_leave_no_trace() {
    let hosts = Hosts::new();
    let here = hosts.here();
    let foreign = "table inet theirs { chain c { type filter hook input priority 0; tcp dport 9 drop; }; }";
    run(&here, seconds(5), "nft", &[foreign]).ok();
    let before = network_state(&here);
    let port = answerer(&hosts.servers(), "here");
    let _server = hosts.proxy(2, "server").service(&format!("web={port}")).start();

    let mut caller = hosts.proxy(3, "caller").service("own=4000").intercept("strict").start();
    hosts.reaches("http://web.mesh/", "here");
    assert!(network_state(&here).contains("table inet theirs"));
    assert!(caller.process.terminate().success());
    assert_eq!(network_state(&here), before, "after it has ended");

    // Flushed by somebody, as a firewall does that starts anew: they come back.
    drop(caller);
    let mut caller = hosts.proxy(3, "caller").intercept("on").start();
    hosts.reaches("http://web.mesh/", "here");
    run(&here, seconds(5), "nft", &["delete", "table", "inet", "mesh"]).ok();
    until("the rules are back", seconds(30), || has_rules(&here).then_some(()));
    hosts.reaches("http://web.mesh/", "here");

    // Killed, and started again at once: nothing is taken away under the new one.
    caller.process.kill();
    assert!(has_rules(&here), "they must not vanish while a new proxy may come");
    drop(caller);
    let mut caller = hosts.proxy(3, "caller").intercept("on").start();
    hosts.reaches("http://web.mesh/", "here");
    let start = mesh::net::clock::now();
    while start.elapsed() < seconds(14) {
        assert!(has_rules(&here), "the first one's guard has removed the second one's rules");
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    hosts.reaches("http://web.mesh/", "here");

    // Killed, and nobody comes.
    caller.process.kill();
    until("what it left is removed", seconds(20), || (!has_rules(&here)).then_some(()));
    until("all of it", seconds(5), || (network_state(&here) == before).then_some(()));
}

// case 85
#[test]
fn nobody_notices_that_the_proxy_goes_on_in_another_process() {
    let hosts = Hosts::new();
    let port = answerer(&hosts.servers(), "here");
    let _server = hosts.proxy(2, "server").service(&format!("web={port}")).start();
    let mut caller = hosts.proxy(3, "caller").intercept("on").start();
    hosts.reaches("http://web.mesh/", "here");
    let here = hosts.here();

    let answered = AtomicU32::new(0);
    let call = || {
        let answer = curl(&here, &["http://web.mesh/"]);
        answered.fetch_add(1, Ordering::Relaxed);
        (answer.out != "here").then_some(answer.err)
    };
    let more = |count: u32| {
        let before = answered.load(Ordering::Relaxed);
        until("calls go on", seconds(20), || {
            (answered.load(Ordering::Relaxed) >= before + count).then_some(())
        });
    };
    let ((), failures) = meanwhile(call, || {
        more(5);
        caller.hand_over(&[]);
        more(20);
        // Once more, and the one that has handed over is killed before it has ended: its guard must not take for granted
        // that the rules are its own. Both processes write to one log.
        let handed_over = |log: String| log.matches("handed over").count();
        let before = handed_over(caller.process.log());
        let successor = caller.successor(&[]);
        until("it takes over", seconds(30), || (handed_over(caller.process.log()) > before).then_some(()));
        caller.process.kill();
        caller.process = successor;
        let start = mesh::net::clock::now();
        while start.elapsed() < seconds(13) {
            assert!(has_rules(&here), "a guard has removed the rules of the process that went on");
            std::thread::sleep(std::time::Duration::from_millis(250));
        }
        more(5);
    });

    let failures: Vec<String> = failures.into_iter().flatten().collect();
    assert_eq!(failures, Vec::<String>::new());
    assert!(has_rules(&here));
    assert!(caller.process.terminate().success());
    assert!(!has_rules(&here), "the rules of the one that went on are left");
}

// case 83
#[test]
fn two_users_on_one_host_call_as_two_services() {
    let hosts = Hosts::new();
    let port = answerer(&hosts.servers(), "called");
    let _server = hosts.proxy(2, "server").service(&format!("web={port}")).start();
    let caller = hosts
        .proxy(3, "caller")
        .service("shop=4001@61001")
        .service("billing=4002@61002")
        .intercept("on")
        .start();
    let here = hosts.here();
    hosts.reaches("http://web.mesh/", "called");
    let call_as = |uid: u32, url: &str| -> Done {
        run_with(&here, seconds(20), "curl", &["-sS", "--max-time", "15", url], |command| {
            command.uid(uid).gid(uid).env("HOME", "/");
        })
    };
    until("both have certificates", seconds(20), || {
        let called = [61_001, 61_002].map(|uid| call_as(uid, "http://web.mesh/").out);
        (called == ["called", "called"]).then_some(())
    });

    for source in ["shop.default", "billing.default", "node/caller"] {
        let edge = hosts.mesh.edge(source, "web.default");
        assert_eq!(edge["mtls"], true, "{edge}");
    }
    // The same at the outbound port, where nothing is captured; and what one may, the other may not.
    let intention = "apiVersion: mesh/v1\nkind: Intention\nmetadata: { name: web }\nspec:\n  destination: web\n  \
                     sources: [{ service: shop }]\n  action: allow\n---\napiVersion: mesh/v1\nkind: Intention\n\
                     metadata: { name: rest }\nspec:\n  destination: web\n  sources: [{ service: billing }]\n  action: deny\n";
    hosts.mesh.apply(intention).ok();
    let address = caller.address("outbound");
    let status = |uid: u32| {
        let command = |command: &mut std::process::Command| {
            command.uid(uid).gid(uid).env("HOME", "/");
        };
        let url = format!("http://{address}/");
        let flags = ["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: web.mesh", &url];
        run_with(&here, seconds(20), "curl", &flags, command).out
    };
    until("billing is refused", seconds(20), || (status(61_002) == "403").then_some(()));
    assert_eq!(status(61_001), "200");
}

#[test]
fn the_rules_are_printed_before_they_are_installed_and_shown_and_removed_by_hand() {
    let network = Network::new(1);
    let here = network.host(1);
    let mesh = |words: &[&str]| run(&here, seconds(20), program::mesh(), words);

    let dry = mesh(&["proxy", "--intercept", "strict", "--service", "web=8080", "--dry-run"]).ok();

    assert!(dry.starts_with("table inet mesh {\n") && dry.contains("tcp dport { 8080 } reject"), "{dry}");
    assert!(!has_rules(&here), "a dry run has installed them");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &dry).unwrap();
    run(&here, seconds(5), "nft", &["-f", file.path().to_str().unwrap()]).ok();
    assert!(mesh(&["intercept", "show"]).ok().contains("240.0.0.0/5"));
    mesh(&["intercept", "clear"]).ok();
    mesh(&["intercept", "show"]).failed(4);
    mesh(&["intercept", "clear"]).ok();
    let wrong = mesh(&["proxy", "--intercept", "strict", "--strict-except", "nonsense"]).failed(2);
    assert!(wrong.contains("SOURCE=PORT"), "{wrong}");
}

#[test]
fn services_are_added_and_removed_while_the_proxy_runs_and_survive_its_restart() {
    let hosts = Hosts::new();
    let servers = hosts.servers();
    let (first, second) = (answerer(&servers, "first"), answerer(&servers, "second"));
    let mut server = hosts.proxy(2, "server").service(&format!("web={first}")).start();
    let _caller = hosts.proxy(3, "caller").intercept("on").start();
    hosts.reaches("http://web.mesh/", "first");
    let admin = server.address("admin").to_string();
    let service = |words: &[&str]| {
        run(&servers, seconds(20), program::mesh(), &[&["service"], words, &["--proxy", &admin]].concat())
    };

    service(&["add", &format!("late.shop={second}/http@root")]).ok();
    hosts.reaches("http://late.shop.mesh/", "second");
    let row = |rows: &str, name: &str| -> serde_json::Value {
        let rows: serde_json::Value = serde_json::from_str(rows).unwrap();
        rows.as_array().unwrap().iter().find(|row| row["name"] == name).cloned().unwrap_or_default()
    };
    let rows = service(&["list", "-o", "json"]).ok();
    let late = row(&rows, "late.shop");
    assert_eq!(
        (&late["added"], &late["owner"], &late["certificate"]),
        (&true.into(), &"root".into(), &true.into())
    );
    assert_eq!(row(&rows, "web.default")["added"], false);
    service(&["remove", "web"]).failed(6);
    let nobody = service(&["add", "y=80@nosuchuser"]).failed(4);
    assert!(
        nobody.contains("no user 'nosuchuser'") && !service(&["list"]).ok().contains("nosuchuser"),
        "{nobody}"
    );
    service(&["remove", "nobody"]).failed(4);
    let stranger = run_with(
        &servers,
        seconds(20),
        "curl",
        &[
            "-sS",
            "-X",
            "DELETE",
            "-w",
            "%{http_code}",
            "-o",
            "/dev/null",
            &format!("http://{admin}/services/late.shop"),
        ],
        |command| {
            command.uid(61_003).gid(61_003).env("HOME", "/");
        },
    );
    assert_eq!(stranger.out, "403");

    server.restart();
    hosts.reaches("http://late.shop.mesh/", "second");
    let admin = server.address("admin").to_string();
    run(&servers, seconds(20), program::mesh(), &["service", "remove", "late.shop", "--proxy", &admin]).ok();
    until("it is gone for others", seconds(15), || {
        (curl(&hosts.here(), &["http://late.shop.mesh/"]).code != Some(0)).then_some(())
    });
    hosts.reaches("http://web.mesh/", "first");
}

/// A control group that is removed when it is dropped; `None` where the host has none of version 2.
struct Group(PathBuf);

impl Group {
    fn new(name: &str) -> Option<Self> {
        let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
        let root = roots.into_iter().find(|root| root.join("cgroup.procs").exists())?;
        let path = root.join(format!("meshe2e-{}.slice", std::process::id())).join(name);
        std::fs::create_dir_all(&path).ok()?;
        Some(Self(path))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in [&*self.0, self.0.parent().unwrap()] {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

#[test]
fn a_unit_of_systemd_calls_as_its_service_also_after_it_has_been_started_anew() {
    let unit = format!("meshe2e-{}.service", std::process::id());
    let Some(first) = Group::new(&unit) else {
        eprintln!("not tried: this host has no control groups of version 2");
        return;
    };
    let hosts = Hosts::new();
    let port = answerer(&hosts.servers(), "called");
    let _server = hosts.proxy(2, "server").service(&format!("web={port}")).start();
    let _caller = hosts
        .proxy(3, "caller")
        .service(&format!("shop=4001@unit:{unit}"))
        .service("other=4002")
        .intercept("on")
        .start();
    hosts.reaches("http://web.mesh/", "called");
    let call_in = |group: &Group| {
        let text = format!("echo $$ >{}/cgroup.procs && exec curl -sS http://web.mesh/", group.0.display());
        run(&hosts.here(), seconds(20), "sh", &["-c", &text])
    };
    let count = || {
        let edge = hosts.mesh.edge("shop.default", "web.default");
        edge["requestsTotal"].as_u64().unwrap_or_default()
    };
    until("it has its certificate", seconds(20), || (call_in(&first).out == "called").then_some(()));
    let before = count();

    drop(first);
    let second = Group::new(&unit).unwrap();
    assert_eq!(call_in(&second).ok(), "called");

    until("the call of the new group is counted", seconds(15), || (count() > before).then_some(()));
    let rest = hosts.mesh.edge("node/caller", "web.default");
    assert_eq!(rest["mtls"], true, "everybody else, on a host with two services: {rest}");
}

/// Where `tests/e2e/peers.sh` unpacks systemd-resolved.
const RESOLVED: &str = "/usr/local/lib/mesh-e2e/systemd-resolved";

#[test]
fn systemd_resolved_is_told_of_the_names_and_forgets_them() {
    assert!(Path::new(RESOLVED).is_dir(), "{RESOLVED} is missing: run tests/e2e/peers.sh");
    let hosts = Hosts::new();
    let here = hosts.here();
    let folder = hosts.mesh.folder().join("resolved");
    std::fs::create_dir(&folder).unwrap();
    let mut command = std::process::Command::new("sh");
    command.arg(script("resolved.sh")).arg(&folder).arg(RESOLVED);
    let _resolved = Process::start(&here, hosts.mesh.folder(), "resolved", command);
    let bus = format!("unix:path={}", folder.join("bus").display());
    let path = format!("{RESOLVED}/usr/bin:{}", std::env::var("PATH").unwrap());
    let ask = |words: &[&str]| {
        run_with(&here, seconds(20), "resolvectl", words, |command| {
            command.env("PATH", &path).env("DBUS_SYSTEM_BUS_ADDRESS", &bus);
        })
    };
    until("resolved answers", seconds(20), || (ask(&["dns"]).code == Some(0)).then_some(()));
    let before = (network_state(&here), ask(&["domain"]).ok());
    let port = answerer(&hosts.servers(), "here");
    let _server = hosts.proxy(2, "server").service(&format!("web={port}")).start();
    let start = || {
        let plan = hosts.proxy(3, "caller").intercept("on");
        plan.env("PATH", &path).env("DBUS_SYSTEM_BUS_ADDRESS", &bus).start()
    };

    let mut caller = start();
    let answer = until("resolved knows the name", seconds(20), || {
        Some(ask(&["query", "web.mesh"])).filter(|answer| answer.code == Some(0))
    });
    assert!(
        answer.out.starts_with("web.mesh: 24") || answer.out.starts_with("web.mesh: fd6d:"),
        "{}",
        answer.out
    );
    let domains = ask(&["domain"]).ok();
    assert!(domains.contains("(mesh0): ~mesh"), "{domains}");
    hosts.reaches("http://web.mesh/", "here");
    assert!(caller.process.terminate().success());
    assert_eq!((network_state(&here), ask(&["domain"]).ok()), before, "after it has ended");

    drop(caller);
    let mut caller = start();
    assert_ne!(ask(&["domain"]).ok(), before.1);
    caller.process.kill();
    until("what it left is removed", seconds(20), || {
        // It refuses to answer in the moment in which a link is on its way out.
        ((network_state(&here), ask(&["domain"]).out) == before).then_some(())
    });
}
