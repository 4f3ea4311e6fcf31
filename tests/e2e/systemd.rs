//! A host with a real systemd (Debian's, as process 1 of a container that the test makes): from the installer over restarts,
//! a kill, and a boot to the uninstaller.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::stage::place::Place;
use crate::stage::process::{Done, Process, run};
use crate::stage::program;
use crate::stage::wait::{seconds, until};

/// Where `tests/e2e/peers.sh` makes a root with systemd.
const ROOT: &str = "/usr/local/lib/mesh-e2e/root";

/// An HTTP service, and a link to the rest of the world, as units; Perl is part of every Debian.
const WEB: &str = "[Service]\nExecStart=/usr/bin/perl /opt/web.pl\n[Install]\nWantedBy=multi-user.target\n";
const WEB_PROGRAM: &str = r#"use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalPort => 8080, Listen => 50, ReuseAddr => 1) or die;
while (my $call = $listener->accept) {
    while (defined(my $line = <$call>)) { last if $line =~ /^\r?\n$/ }
    print $call "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nweb";
    close $call;
}
"#;
const LINK: &str = "[Unit]\nBefore=network-online.target\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
                    ExecStart=/bin/sh -c 'ip link add veth0 type veth peer name veth1; ip addr add 10.77.0.1/24 dev veth0; \
                    ip link set veth0 up; ip link set veth1 up; ip route add default via 10.77.0.254'\n\
                    [Install]\nWantedBy=multi-user.target\nRequiredBy=network-online.target\n";

/// Returns the line of shell that prints all of a host that is to be as it was, but for what it writes down of its own life:
/// each file with its owner, mode and content, users, units, rules, routes, links, and whom it asks for names.
fn whole_host() -> String {
    let places = ["proc", "sys", "run", "tmp", "var", "opt", "dev"].map(|place| format!("-path /{place}"));
    let files = format!("find / -xdev \\( {} \\) -prune -o", places.join(" -o "));
    let commands = [
        format!("{files} -printf '%p %y %m %U:%G %l\\n' | sort"),
        format!("{files} -type f -print0 | sort -z | xargs -0 sha256sum"),
        "cat /etc/passwd /etc/group; getent passwd; getent group".to_owned(),
        "systemctl list-unit-files --no-pager".to_owned(),
        "ls -A /run/systemd/system /run/systemd/transient 2>/dev/null".to_owned(),
        "nft list ruleset; ip rule; ip -6 rule".to_owned(),
        // Links have other addresses after each boot.
        "ip route show table all | grep -v fe80; ip -6 route show table all | grep -v fe80".to_owned(),
        "ip -br link | cut -d' ' -f1".to_owned(),
        "resolvectl dns; resolvectl domain; cat /etc/resolv.conf".to_owned(),
    ];
    commands.join("; ")
}

/// A container that boots what is in its root; powered off when dropped.
struct Machine {
    root: PathBuf,
    folder: TempDir,
    boots: u32,
    nspawn: Option<Process>,
}

impl Machine {
    fn new() -> Self {
        assert!(Path::new(ROOT).is_dir(), "{ROOT} is missing: run tests/e2e/peers.sh");
        let folder = tempfile::Builder::new().prefix("mesh-e2e-systemd-").tempdir().unwrap();
        let root = folder.path().join("root");
        run(&Place::here(), seconds(60), "cp", &["-a", ROOT, root.to_str().unwrap()]).ok();
        let release = root.join("opt/release");
        fs::create_dir_all(&release).unwrap();
        fs::copy(program::mesh(), release.join("mesh")).unwrap();
        let installer = Path::new(env!("CARGO_MANIFEST_DIR")).join("install.sh");
        fs::copy(installer, release.join("install.sh")).unwrap();
        let sum =
            run(&Place::here(), seconds(20), "sha256sum", &[release.join("mesh").to_str().unwrap()]).ok();
        let sum = sum.split_whitespace().next().unwrap();
        fs::write(release.join("SHA256SUMS"), format!("{sum}  mesh\n")).unwrap();
        fs::write(root.join("opt/web.pl"), WEB_PROGRAM).unwrap();
        let wants = root.join("etc/systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wants).unwrap();
        for (name, text) in [("web", WEB), ("link", LINK)] {
            fs::write(root.join(format!("etc/systemd/system/{name}.service")), text).unwrap();
            let target = format!("/etc/systemd/system/{name}.service");
            std::os::unix::fs::symlink(target, wants.join(format!("{name}.service"))).unwrap();
        }
        Self { root, folder, boots: 0, nspawn: None }
    }

    /// Switches it on, and waits until systemd has started everything.
    fn boot(&mut self) {
        self.boots += 1;
        let mut command = Command::new("systemd-nspawn");
        let name = format!("meshe2e{}", std::process::id());
        command.args(["-q", "--register=no", "--keep-unit", "--private-network", "--boot", "--console=pipe"]);
        command.arg(format!("--machine={name}")).arg("-D").arg(&self.root);
        let log = format!("boot-{}", self.boots);
        self.nspawn = Some(Process::start(&Place::here(), self.folder.path(), &log, command));
        until("systemd runs", seconds(60), || {
            let state = self.try_inside("systemctl is-system-running")?;
            ["running", "degraded"].contains(&state.out.trim()).then_some(())
        });
    }

    /// Switches it off as an administrator does.
    fn power_off(&mut self) {
        self.inside("systemctl poweroff").ok();
        let mut nspawn = self.nspawn.take().unwrap();
        until("it is off", seconds(90), || nspawn.ended());
    }

    /// Process 1 of the machine, by its number here.
    fn leader(&self) -> Option<String> {
        let nspawn = self.nspawn.as_ref()?.pid().as_raw_pid();
        let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
        children.split_whitespace().next().map(str::to_owned)
    }

    fn try_inside(&self, text: &str) -> Option<Done> {
        let words = ["-t", &self.leader()?, "-a", "sh", "-c", text];
        Some(run(&Place::here(), seconds(120), "nsenter", &words))
    }

    /// Runs a line of shell in it, as root.
    fn inside(&self, text: &str) -> Done {
        self.try_inside(text).expect("it is on")
    }

    /// Waits until an application in it reaches the service by its plain name.
    fn reaches_web(&self, when: &str) {
        until(&format!("web answers {when}"), seconds(30), || {
            (self.inside("curl -s --max-time 3 http://web.mesh/").out == "web").then_some(())
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Process 1 goes with its parent's namespaces only when it is told so.
        if let Some(leader) = self.leader().and_then(|leader| leader.parse().ok()) {
            let leader = rustix::process::Pid::from_raw(leader).unwrap();
            let _ = rustix::process::kill_process(leader, rustix::process::Signal::KILL);
        }
    }
}

/// A pin that is no mesh's, as tokens have it: 32 bytes in 52 characters.
fn another_pin() -> String {
    mesh::model::token::base32().encode(&[7; 32])
}

#[test]
fn systemd_installs_starts_restarts_boots_and_removes_it() {
    let mut machine = Machine::new();
    machine.boot();
    let before = machine.inside(&whole_host()).ok();
    let control = "MESH_CONTROL=unix:///var/lib/mesh/control/control.sock";
    let installer = "sh /opt/release/install.sh --from /opt/release";
    machine.inside(&format!("{installer} --control")).ok();
    let join =
        format!("{installer} --join $({control} mesh token create) --service web=8080 --intercept strict");
    machine.inside(&join).ok();

    // The units are sound, closed, and say when they are ready.
    machine.inside("systemd-analyze verify mesh-control.service mesh-proxy.service 2>&1 | tee /dev/stderr | wc -c | grep -qx 0").ok();
    for unit in ["mesh-control", "mesh-proxy"] {
        let judged =
            machine.inside(&format!("systemd-analyze security --no-pager --threshold=20 {unit}.service"));
        assert_eq!(judged.code, Some(0), "{}", judged.out);
    }
    machine.reaches_web("at once, by nss-resolve");
    let domains = machine.inside("resolvectl domain").ok();
    assert!(domains.contains("mesh0") && domains.contains("~mesh"), "{domains}");
    machine.inside("mesh check --wait 30s").ok();

    // The host's settings say which mesh it is of, whatever a proxy says that runs as another user.
    let upgrade = machine.inside("mesh upgrade");
    assert!(upgrade.err.contains("version already"), "{} {}", upgrade.out, upgrade.err);
    let settings = "cp -p /etc/mesh/proxy.env /etc/kept.env; sed -i 's/mesh1\\.[a-z2-7]*/mesh1.SUM/' /etc/mesh/proxy.env";
    let pin = another_pin();
    machine.inside(&settings.replace("SUM", &pin)).ok();
    let foreign = machine.inside("mesh upgrade");
    assert!(foreign.err.contains("is not the control plane of this join token"), "{}", foreign.err);
    assert!(foreign.err.contains("/etc/mesh/proxy.env"), "{}", foreign.err);
    machine.inside("sed -i '/^MESH_JOIN/d' /etc/mesh/proxy.env").ok();
    let unsaid = machine.inside("mesh upgrade").failed(1);
    assert!(unsaid.contains("runs as another user"), "{unsaid}");
    machine.inside("mv /etc/kept.env /etc/mesh/proxy.env").ok();

    machine.inside("systemctl restart mesh-proxy").ok();
    machine.reaches_web("after a restart");
    machine.inside("systemctl reload mesh-proxy mesh-control").ok();
    machine.reaches_web("after a reload");

    // Killed: started again by systemd, with strict rules in force all the while.
    let killed = "kill -9 $(systemctl show -p MainPID --value mesh-proxy); for i in $(seq 60); do nft list tables | \
                  grep -q 'inet mesh' || { echo open after $i; exit 1; }; systemctl -q is-active mesh-proxy && exit 0; \
                  sleep 0.1; done; exit 2";
    machine.inside(killed).ok();
    machine.reaches_web("after it was killed");

    // Off and on again, and on without a control plane.
    machine.power_off();
    machine.boot();
    machine.reaches_web("after a boot");
    machine.inside("mesh check --wait 30s").ok();
    machine.inside("systemctl disable -q --now mesh-control").ok();
    machine.power_off();
    machine.boot();
    machine.reaches_web("after a boot without a control plane");
    let log = machine.inside("journalctl -b -u mesh-proxy --no-pager").ok();
    assert!(!log.contains("reception only permitted"), "somebody else speaks for it:\n{log}");

    machine.inside("sh /opt/release/install.sh --uninstall --purge").ok();
    let after = machine.inside(&whole_host()).ok();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    let (was, is) = (lines(&before), lines(&after));
    let different: Vec<_> = was.symmetric_difference(&is).collect();
    assert!(different.is_empty() && before == after, "something is left, or gone: {different:#?}");
    let left = machine.inside("ls -d /var/lib/mesh* /var/lib/private/mesh* /etc/mesh* 2>/dev/null").out;
    assert_eq!(left, "", "something is left");
    machine.power_off();
}
