//! What happens to hosts: they stand still, move, are renamed, run full, lose their data, have a wrong clock. Each ends in
//! recovery, or in words that say what to do.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use mesh::logic::pki::lapse::GRACE;
use rustix::process::{Signal, kill_process};

use crate::stage::mesh::{Mesh, Proxy};
use crate::stage::peer::{answerer, greeter};
use crate::stage::place::{Network, Place};
use crate::stage::process::{Process, curl, run};
use crate::stage::program;
use crate::stage::wait::{seconds, until};

/// Control on the first of three hosts, a service behind the second's proxy, a caller on the third.
struct Hosts {
    caller: Proxy,
    server: Proxy,
    mesh: Mesh,
    network: Network,
}

impl Hosts {
    fn new() -> Self {
        let network = Network::new(3);
        let mesh = Mesh::start(&network.host(1));
        let token = mesh.token(&["--uses", "2"]);
        let web = answerer(&network.host(2), "web");
        let server = mesh.proxy(&network.host(2), "server").join(&token).service(&format!("web={web}"));
        let server = server.anywhere().start();
        let caller = mesh.proxy(&network.host(3), "caller").join(&token).anywhere().start();
        caller.reaches("web");
        Self { caller, server, mesh, network }
    }

    fn state_of(&self, node: &str) -> String {
        let view = self.caller.view();
        let found = view["nodes"].as_array().unwrap().iter().find(|other| other["name"] == node).cloned();
        found.unwrap_or_default()["state"].as_str().unwrap_or_default().to_owned()
    }
}

#[test]
fn a_host_that_stood_still_until_it_was_taken_for_dead_is_back_within_seconds() {
    let hosts = Hosts::new();
    let server = hosts.server.process.pid();
    kill_process(server, Signal::STOP).unwrap();
    until("it is taken for dead", seconds(30), || (hosts.state_of("server") == "dead").then_some(()));

    kill_process(server, Signal::CONT).unwrap();

    until("it is back", seconds(10), || (hosts.state_of("server") == "alive").then_some(()));
    hosts.caller.reaches("web");
}

#[test]
fn a_host_that_gets_another_address_is_found_there() {
    let hosts = Hosts::new();

    hosts.network.move_to(2, 22);

    until("others know the new address", seconds(20), || {
        let view = hosts.caller.view();
        let node = view["nodes"].as_array()?.iter().find(|node| node["name"] == "server")?.clone();
        let is_there = node["addr"].as_str()?.starts_with("10.88.0.22:") && node["state"] == "alive";
        is_there.then_some(())
    });
    hosts.caller.reaches("web");
    hosts.mesh.cli(&["check", "--wait", "30s"]).ok();
}

#[test]
fn a_renamed_host_is_the_same_node_unless_somebody_insists() {
    let mesh = Mesh::start(&Place::here());
    let folder = mesh.folder().to_owned();
    let token = mesh.token(&[]);
    let start = |host: &str, log: &str, flags: &str| {
        let data = folder.join("renamed");
        let _ = fs::remove_file(data.join("addresses.json"));
        let text = format!(
            "hostname {host}; exec {} proxy --data-dir {} --join {token} --dns off --outbound 127.0.0.1:0 --inbound \
             127.0.0.1:0 --gossip 127.0.0.1:0 --admin 127.0.0.1:0 {flags}",
            program::mesh().display(),
            data.display()
        );
        let mut command = Command::new("unshare");
        command.args(["--uts", "sh", "-c", &text]);
        Process::start(&Place::here(), &folder, log, command)
    };
    let serves = |process: &mut Process| {
        until("it serves", seconds(20), || {
            process.assert_alive();
            process.log().contains(" serving ").then_some(())
        });
    };
    let mut first = start("vm-old", "first", "");
    serves(&mut first);
    assert!(first.terminate().success());

    let mut renamed = start("vm-new", "renamed", "");
    serves(&mut renamed);
    assert!(renamed.log().contains("another name by now"), "{}", renamed.log());
    let nodes = mesh.view()["nodes"].to_string();
    assert!(nodes.contains("vm-old") && !nodes.contains("vm-new"), "{nodes}");
    assert!(renamed.terminate().success());

    let mut insists = start("vm-new", "insists", "--node vm-new");
    let status = until("it gives up", seconds(20), || insists.ended());
    assert_eq!(status.code(), Some(1));
    assert!(insists.log().contains("start with --node vm-old"), "{}", insists.log());
}

/// A small file system of its own; unmounted when dropped.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mount(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        let words = ["-t", "tmpfs", "-o", "size=80m", "none", path.to_str().unwrap()];
        run(&Place::here(), seconds(5), "mount", &words).ok();
        Self(path.to_owned())
    }

    /// Fills it, but for less than mesh wants to have left.
    fn fill(&self) {
        let words = ["-l", "60M", self.0.join("ballast").to_str().unwrap()].map(str::to_owned);
        run(&Place::here(), seconds(10), "fallocate", &words.each_ref().map(String::as_str)).ok();
    }

    fn clear(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", self.0.to_str().unwrap()]).status();
    }
}

const ROUTE: &str = "apiVersion: mesh/v1\nkind: Intention\nmetadata: { name: web }\nspec:\n  destination: web\n  \
                     sources: [{ service: shop }]\n  action: allow\n";

#[test]
fn a_full_disk_refuses_writes_in_words_and_takes_them_when_there_is_room_again() {
    let folder = tempfile::Builder::new().prefix("mesh-e2e-disk-").tempdir().unwrap();
    let (control_disk, proxy_disk) =
        (Disk::mount(&folder.path().join("control")), Disk::mount(&folder.path().join("server")));
    let here = Place::here();
    let mesh = Mesh::start_in(&here, folder, &[]);
    let web = answerer(&here, "web");
    let server = mesh.proxy(&here, "server").join(&mesh.token(&[])).service(&format!("web={web}")).start();
    server.reaches("web");

    // The control plane's.
    control_disk.fill();
    let refused = mesh.apply(ROUTE);
    assert!(refused.err.contains("make room"), "{:?} {}", refused.code, refused.err);
    refused.failed(1);
    assert_eq!(server.quick_status("web"), Some(200), "calls go on");
    control_disk.clear();
    mesh.apply(ROUTE).ok();

    // A proxy's: it keeps what it has, says so, and takes what it missed by itself.
    until("the intention is in force", seconds(15), || {
        (server.quick_status("web") == Some(403)).then_some(())
    });
    proxy_disk.fill();
    mesh.cli(&["delete", "intention/web"]).ok();
    let checked = until("the check says so", seconds(20), || {
        Some(mesh.cli(&["check"])).filter(|checked| checked.out.contains("cannot be kept"))
    });
    assert!(checked.out.contains("make room"), "{}", checked.out);
    let data = server.data().to_str().unwrap().to_owned();
    let host = mesh.cli(&["check", "--data-dir", &data]);
    assert!(host.out.contains("MiB are left on the file system of"), "{}", host.out);
    proxy_disk.clear();
    until("the change is in force", seconds(30), || (server.quick_status("web") == Some(200)).then_some(()));
}

#[test]
fn a_data_directory_that_is_removed_under_a_running_process_is_said_and_nothing_is_acknowledged() {
    let mesh = Mesh::start(&Place::here());
    let server = mesh.proxy(&Place::here(), "server").join(&mesh.token(&[])).start();
    let admin = server.address("admin").to_string();
    fs::remove_dir_all(server.data()).unwrap();

    let checked = mesh.cli(&["check", "--proxy", &admin]);
    assert!(checked.out.contains("was removed while the proxy ran"), "{}", checked.out);
    assert_eq!(checked.code, Some(1));

    fs::remove_dir_all(mesh.data().join("store")).unwrap();
    let refused = mesh.apply(ROUTE);
    assert!(refused.err.contains("was removed or replaced"), "{:?} {}", refused.code, refused.err);
    refused.failed(1);
    assert_eq!(mesh.json(&["get", "intentions", "-o", "json"]), serde_json::json!([]), "it was not written");
}

#[test]
fn a_wrong_clock_is_measured_and_what_it_breaks_is_said_and_mends_itself_when_it_is_right_again() {
    let mesh = Mesh::start(&Place::here());
    let token = mesh.token(&["--uses", "9"]);
    let web = answerer(&Place::here(), "web");
    let mail = greeter(&Place::here(), "mail").port();
    let server = mesh.proxy(&Place::here(), "server").join(&token).service(&format!("web={web}"));
    let server = server.service(&format!("mail={mail}/tcp")).start();
    server.reaches("web");
    let config = mesh.folder().join("caller.yaml");
    let clock = |seconds: i64| fs::write(&config, format!("clock-offset: {seconds}\n")).unwrap();
    let checked = |proxy: &Proxy| mesh.cli(&["check", "--proxy", &proxy.address("admin").to_string()]).out;
    clock(3600);
    let caller = mesh.proxy(&Place::here(), "caller").join(&token).flag("--config", config.to_str().unwrap());
    let caller = caller.upstream("mail").start();

    // An hour ahead: it works, and both sides say so.
    caller.reaches("web");
    let found = until("both say so", seconds(15), || {
        Some(checked(&caller)).filter(|text| text.matches("the clock of").count() == 2)
    });
    assert!(found.contains("the clock of caller is 60m ahead of that of control/control-1"), "{found}");
    assert!(found.contains("is 60m behind that of this host"), "{found}");

    // Three days ahead: to this node every certificate is over.
    let mut talk = Talk::begin(&caller);
    let step = |seconds: i64| {
        clock(seconds);
        kill_process(caller.process.pid(), Signal::HUP).unwrap();
    };
    step(3 * 86_400);
    let found = until("the check says so", seconds(15), || {
        let is_said = |text: &String| {
            // By the connection that is still there, or as none comes about.
            text.contains("3d behind that of this host") || text.contains("do the clocks agree?")
        };
        Some(checked(&caller)).filter(is_said)
    });
    assert!(found.contains("timedatectl set-ntp true"), "{found}");

    // Nothing new begins on a connection that is there, and no other one comes about; what is under way ends after the grace.
    let failed = until("calls fail", seconds(15), || {
        let done = caller.get("web", "/", &["-i", "--max-time", "5"]);
        done.out.to_ascii_lowercase().contains("mesh-failure").then_some(done.out)
    });
    assert!(failed.contains("certificate") || failed.contains("mutual TLS"), "{failed}");
    assert!(talk.goes_on(), "it was cut at once");
    until("the connection is cut", GRACE + seconds(20), || (!talk.goes_on()).then_some(()));
    assert!(caller.process.log().contains("what is under way is cut"), "{}", caller.process.log());

    let identities = || {
        let text = curl(&Place::here(), &[&format!("http://{}/host", caller.address("admin"))]).ok();
        let host: serde_json::Value = serde_json::from_str(&text).unwrap();
        host["identities"].as_array().unwrap().clone()
    };
    until("renewing was tried in vain", seconds(15), || {
        identities().iter().any(|identity| identity["lastError"].is_string()).then_some(())
    });

    // And right again, backwards: what was planned by the wrong clock does not count.
    step(0);
    caller.reaches("web");
    until("it is renewed in time", seconds(15), || {
        let is_timely =
            |identity: &serde_json::Value| identity["renewMs"].as_u64() < identity["notAfterMs"].as_u64();
        identities().iter().all(is_timely).then_some(())
    });
    until("all is well", seconds(30), || {
        (mesh.cli(&["check", "--proxy", &caller.address("admin").to_string()]).code == Some(0)).then_some(())
    });
    assert!(
        curl(&Place::here(), &[&format!("http://{}/readyz", caller.address("admin"))]).ok().contains("true")
    );

    // One that starts so reaches nobody at all: what it measures all the same, and why calls fail, is said.
    drop(mesh.proxy(&Place::here(), "dated").join(&token).start());
    let dated = mesh.proxy(&Place::here(), "dated").flag("--clock-offset", "259200").start();
    // It is measured with the first answer that control gives, however it fails.
    let found = until("it has measured control's clock", seconds(15), || {
        let said = "the clock of the control plane is 3d behind that of this host";
        Some(checked(&dated)).filter(|text| text.contains(said))
    });
    assert!(found.contains("× its clock agrees"), "{found}");
    let failed = dated.get("web", "/", &[]).out;
    assert!(failed.contains("the clock of this host may be wrong"), "{failed}");
    drop(dated);

    // A host that is behind cannot join, and is told why.
    let late = mesh.proxy(&Place::here(), "late").join(&token).flag("--clock-offset", "-86400");
    let late = late.spawn();
    until("it says why", seconds(15), || late.log().contains("do the clocks agree?").then_some(()));
}

/// A connection that is talked on for as long as it goes on.
struct Talk(TcpStream);

impl Talk {
    /// Begins one to the service `mail`, by the port that the caller's proxy has for it.
    fn begin(caller: &Proxy) -> Self {
        until("the service greets", seconds(20), || {
            let stream = TcpStream::connect(caller.upstream("mail.default")).ok()?;
            stream.set_read_timeout(Some(seconds(5))).unwrap();
            let mut talk = Self(stream);
            let mut greeting = [0; 4];
            (talk.0.read_exact(&mut greeting).is_ok() && &greeting == b"220 ").then(|| talk.read_line())?;
            Some(talk)
        })
    }

    /// Reads up to the end of a line.
    fn read_line(&mut self) -> bool {
        let mut byte = [0];
        while self.0.read_exact(&mut byte).is_ok() {
            if byte == *b"\n" {
                return true;
            }
        }
        false
    }

    fn goes_on(&mut self) -> bool {
        self.0.write_all(b"still here\n").is_ok() && self.read_line()
    }
}

/// Control, a service and its caller, each with a clock of its own that can be set.
struct Clocks {
    server: Proxy,
    caller: Proxy,
    mesh: Mesh,
}

impl Clocks {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("mesh-e2e-clocks-").tempdir().unwrap();
        let file = |name: &str| folder.path().join(format!("{name}.yaml")).to_str().unwrap().to_owned();
        let files = ["control", "server", "caller"].map(file);
        for file in &files {
            fs::write(file, "clock-offset: 0\n").unwrap();
        }
        let here = Place::here();
        let mesh = Mesh::start_in(&here, folder, &["--config", &files[0]]);
        let token = mesh.token(&["--uses", "2"]);
        let (web, mail) = (answerer(&here, "web"), greeter(&here, "mail").port());
        let plan = |node: &str, file: &str| mesh.proxy(&here, node).join(&token).flag("--config", file);
        let server = plan("server", &files[1]).service(&format!("web={web}"));
        let server = server.service(&format!("mail={mail}/tcp")).start();
        let caller = plan("caller", &files[2]).upstream("mail").start();
        caller.reaches("web");
        Self { server, caller, mesh }
    }

    fn set(&self, name: &str, seconds: i64) {
        let file = self.mesh.folder().join(format!("{name}.yaml"));
        fs::write(file, format!("clock-offset: {seconds}\n")).unwrap();
        let process = match name {
            "control" => &self.mesh.control,
            "server" => &self.server.process,
            _ => &self.caller.process,
        };
        kill_process(process.pid(), Signal::HUP).unwrap();
    }

    /// Waits until all that a proxy holds is valid for longer than until `past_ms`, Unix milliseconds.
    fn is_renewed(proxy: &Proxy, past_ms: u64) {
        until("its certificates are renewed", seconds(60), || {
            let done = curl(&Place::here(), &[&format!("http://{}/host", proxy.address("admin"))]);
            let host: serde_json::Value = serde_json::from_str(&done.out).ok()?;
            let identities = host["identities"].as_array()?;
            let is_fresh = |identity: &serde_json::Value| identity["notAfterMs"].as_u64() > Some(past_ms);
            (!identities.is_empty() && identities.iter().all(is_fresh)).then_some(())
        });
    }
}

const THREE_DAYS: i64 = 3 * 86_400;

#[test]
fn a_host_that_was_suspended_past_the_end_of_its_certificates_has_new_ones_within_seconds() {
    let clocks = Clocks::new();
    let later_ms = mesh::net::clock::wall_ms() + 3 * 86_400_000;

    // While it stands still the others live through three days.
    kill_process(clocks.caller.process.pid(), Signal::STOP).unwrap();
    clocks.set("control", THREE_DAYS);
    clocks.set("server", THREE_DAYS);
    Clocks::is_renewed(&clocks.server, later_ms);
    clocks.set("caller", THREE_DAYS);
    kill_process(clocks.caller.process.pid(), Signal::CONT).unwrap();

    Clocks::is_renewed(&clocks.caller, later_ms);
    clocks.caller.reaches("web");
    clocks.mesh.cli(&["ban", "server"]).ok();
    until("what control says arrives again", seconds(15), || {
        (clocks.caller.quick_status("web") != Some(200)).then_some(())
    });
}

// case 82
#[test]
fn clocks_that_are_set_past_the_end_of_every_certificate_and_back_again_leave_a_mesh_that_works() {
    let clocks = Clocks::new();
    let all = ["control", "server", "caller"];
    let later_ms = mesh::net::clock::wall_ms() + 3 * 86_400_000;
    let mut talk = Talk::begin(&clocks.caller);

    for name in all {
        clocks.set(name, THREE_DAYS);
    }
    for proxy in [&clocks.server, &clocks.caller] {
        Clocks::is_renewed(proxy, later_ms);
    }
    clocks.caller.reaches("web");
    // What was under way before goes on, as both have renewed.
    let begin = mesh::net::clock::now();
    while begin.elapsed() < GRACE + seconds(10) {
        assert!(talk.goes_on(), "cut after {:?}", begin.elapsed());
        std::thread::sleep(seconds(1));
    }

    // Back: what was issued meanwhile is not valid yet, control's own too.
    for name in all {
        clocks.set(name, 0);
    }
    until("the certificates are of now", seconds(60), || {
        let now_ms = mesh::net::clock::wall_ms();
        let is_of_now = |proxy: &Proxy| {
            let done = curl(&Place::here(), &[&format!("http://{}/host", proxy.address("admin"))]);
            let host: serde_json::Value = serde_json::from_str(&done.out).ok()?;
            let identities = host["identities"].as_array()?.clone();
            Some(identities.iter().all(|identity| identity["notBeforeMs"].as_u64() < Some(now_ms)))
        };
        [&clocks.server, &clocks.caller].iter().all(|proxy| is_of_now(proxy) == Some(true)).then_some(())
    });
    clocks.caller.reaches("web");
    clocks.mesh.cli(&["check", "--wait", "30s"]).ok();
}
