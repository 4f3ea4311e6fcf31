//! Proxies that become the version of their control plane, while callers of every kind are at work: on one host, and host by
//! host over the whole mesh.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::handover::{assert_nobody_missed, ends_well};
use crate::load::{Places, Scene};
use crate::stage::place::{Network, Place};
use crate::stage::process::{Done, run, run_with};
use crate::stage::program;
use crate::stage::wait::{seconds, until};

/// Another version than the one under test, which the control plane runs: bytes after the end of an executable change nothing
/// but its digest.
struct Other {
    folder: TempDir,
    bytes: Vec<u8>,
}

impl Other {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bytes = [&fs::read(program::mesh()).unwrap()[..], b"the version before"].concat();
        let other = Self { folder, bytes };
        fs::write(other.file(), &other.bytes).unwrap();
        fs::set_permissions(other.file(), fs::Permissions::from_mode(0o755)).unwrap();
        other
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("mesh")
    }
}

/// Returns the processes that have a folder on their command line.
fn processes_on(folder: &Path) -> Vec<Pid> {
    let folder = folder.display().to_string();
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let pid = entry.file_name().to_str()?.parse().ok()?;
        String::from_utf8_lossy(&line).contains(&folder).then_some(pid)
    });
    pids.filter_map(Pid::from_raw).collect()
}

/// Processes that the test did not start itself, but its own did, by their folder. Ended with it.
struct Foundlings(PathBuf);

impl Drop for Foundlings {
    fn drop(&mut self) {
        for pid in processes_on(&self.0) {
            _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The program that the proxy of a data directory runs.
fn running(data: &Path) -> PathBuf {
    let proxies = processes_on(data);
    let file = |pid: &Pid| format!("/proc/{}/exe", pid.as_raw_nonzero()).into();
    let [pid] = proxies.as_slice() else { panic!("{} processes run on {}", proxies.len(), data.display()) };
    file(pid)
}

fn is_new(data: &Path) -> bool {
    fs::read(running(data)).unwrap() == fs::read(program::mesh()).unwrap()
}

/// Has every host upgraded, by the operator.
fn roll(scene: &Scene, flags: &[&str]) -> Done {
    let control = format!("unix://{}", scene.mesh.data().join("control.sock").display());
    let words = [&["upgrade", "--all"], flags].concat();
    run_with(&Place::here(), seconds(600), program::mesh(), &words, |command| {
        command.env("MESH_CONTROL", control);
    })
}

/// The lines of a roll, without their signs.
fn said(done: &Done) -> Vec<String> {
    done.out.lines().map(|line| line.trim().to_owned()).collect()
}

// case 85
#[test]
fn an_upgrade_takes_the_control_planes_program_and_loses_nothing() {
    let other = Other::new();
    let program = other.file();
    let mut scene = Scene::with(&Places::here(), |plan| plan.program(&program));
    let _foundlings = Foundlings(scene.mesh.folder().to_owned());
    let load = scene.load();
    let data = scene.caller.data().to_str().unwrap().to_owned();
    let upgrade = |flags: &[&str]| {
        let words = [&["upgrade", "--data-dir", data.as_str()], flags].concat();
        run(&Place::here(), seconds(180), program::mesh(), &words)
    };

    // Whoever owns the host may say which mesh it is of, whatever the proxy says.
    let mut foreign: mesh::model::token::Token = scene.mesh.token(&[]).parse().unwrap();
    foreign.pin = [7; 32];
    let foreign = upgrade(&["--join", &foreign.to_string()]);
    assert!(foreign.err.contains("is not the control plane of this join token"), "{}", foreign.err);
    assert_ne!(foreign.code, Some(0));
    assert!(fs::read(&program).unwrap() == other.bytes, "it takes a program from anybody");
    let planned = upgrade(&["--dry-run", "--join", &scene.mesh.token(&[])]);
    assert!(planned.code == Some(0) && planned.err.contains(program.to_str().unwrap()), "{}", planned.err);
    let planned = upgrade(&["--dry-run"]);
    assert!(planned.code == Some(0) && planned.err.contains(program.to_str().unwrap()), "{}", planned.err);
    assert!(fs::read(&program).unwrap() == other.bytes, "nothing was done");
    let done = upgrade(&[]);
    assert_eq!(done.code, Some(0), "{}\n{}", done.err, scene.caller.process.log());
    load.goes_on(1);
    ends_well(load);
    scene.caller.has_handed_over();

    assert!(fs::read(&program).unwrap() == fs::read(program::mesh()).unwrap());
    assert!(!other.folder.path().join("mesh.before").exists());
    assert!(upgrade(&[]).err.contains("already"));
    assert_nobody_missed(&scene);
}

// case 85
#[test]
fn a_roll_changes_every_host_one_of_a_service_at_a_time_and_loses_nothing() {
    let (network, other) = (Network::new(4), Other::new());
    let mut scene = Scene::with(&Places::apart(&network), |plan| plan.program(&other.file()));
    let _foundlings = Foundlings(scene.mesh.folder().to_owned());
    let load = scene.load();

    let planned = roll(&scene, &["--dry-run"]).ok();
    for (step, host) in [("1", "caller"), ("2", "server-1"), ("3", "server-2")] {
        let row = planned.lines().find(|line| line.contains(host));
        assert!(row.is_some_and(|row| row.starts_with(step)), "{planned}");
    }
    let done = roll(&scene, &[]);
    assert_eq!(done.code, Some(0), "{}\n{}\n{}", done.out, done.err, scene.caller.process.log());
    load.goes_on(2);
    ends_well(load);

    let order: Vec<_> = said(&done).iter().map(|line| line.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(order, ["… caller", "√ caller", "… server-1", "√ server-1", "… server-2", "√ server-2"]);
    scene.caller.has_handed_over();
    scene.servers.iter_mut().for_each(crate::stage::mesh::Proxy::has_handed_over);
    for proxy in [&scene.caller, &scene.servers[0], &scene.servers[1]] {
        assert!(is_new(proxy.data()), "{} runs the old program", proxy.data().display());
    }
    assert!(fs::read(other.file()).unwrap() == other.bytes, "what is installed is its owner's business");
    assert_nobody_missed(&scene);
    let again = roll(&scene, &[]);
    assert!(
        again.code == Some(0) && said(&again).iter().all(|line| line.contains("already")),
        "{}",
        again.out
    );

    // Whoever starts the installed program gets the one that took over.
    let data = scene.servers[0].data().to_owned();
    drop(Foundlings(data.clone()));
    scene.servers[0].restart();
    assert!(is_new(&data));
    // Unless another one was installed since.
    fs::write(data.join("program/base"), "another").unwrap();
    scene.servers[0].restart();
    assert!(!is_new(&data) && !data.join("program").exists());
    scene.knows_instances(2);
}

// case 85
#[test]
fn a_roll_stops_at_the_first_host_that_fails_which_keeps_its_version() {
    let (network, other) = (Network::new(4), Other::new());
    let settings = tempfile::tempdir().unwrap();
    let file = settings.path().join("proxy.yaml");
    fs::write(&file, "workers: 1\n").unwrap();
    let scene = Scene::with(&Places::apart(&network), |plan| {
        plan.program(&other.file()).flag("--config", file.to_str().unwrap())
    });
    let _foundlings = Foundlings(scene.mesh.folder().to_owned());
    let load = scene.load();
    let [first, second] = [scene.servers[0].data(), scene.servers[1].data()];
    assert_eq!(run_on(&scene, &["caller"]).code, Some(0));

    // From here on no process of these hosts could start.
    fs::write(&file, "no-such-flag: 1\n").unwrap();
    let stopped = roll(&scene, &[]);
    load.goes_on(2);

    assert_eq!(stopped.code, Some(1), "{}\n{}", stopped.out, stopped.err);
    let lines = said(&stopped);
    assert!(lines.iter().any(|line| line.starts_with("× server-1: keeps")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("server-2")), "{lines:?}");
    assert!(stopped.err.contains("1 more were not touched"), "{}", stopped.err);
    assert!(!is_new(first) && !is_new(second));
    let events = scene.mesh.cli(&["events"]).ok();
    assert!(events.contains("keeps its program"), "{events}");

    // Mended, the same command goes on from there.
    fs::write(&file, "workers: 1\n").unwrap();
    let done = roll(&scene, &["--at-once", "2"]);
    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    load.goes_on(1);
    ends_well(load);
    assert!(is_new(first) && is_new(second));
}

fn run_on(scene: &Scene, nodes: &[&str]) -> Done {
    scene.mesh.cli(&[&["upgrade"], nodes].concat())
}

#[test]
fn only_operators_may_have_hosts_upgraded_and_only_hosts_that_can_be_told() {
    let here = Place::here();
    let mesh = crate::stage::mesh::Mesh::start(&here);
    let other = Other::new();
    let mut proxy = mesh.proxy(&here, "a").join(&mesh.token(&[])).program(&other.file()).start();
    until("it listens for orders", seconds(10), || {
        mesh.cli(&["upgrade", "--all", "--dry-run"]).ok().starts_with("STEP").then_some(())
    });

    let unknown = mesh.cli(&["upgrade", "nobody"]).failed(4);
    assert!(unknown.contains("nobody"), "{unknown}");
    proxy.process.kill();
    let away = until("it is not there", seconds(10), || {
        let done = mesh.cli(&["upgrade", "--all"]);
        (done.code == Some(1)).then_some(done)
    });
    assert!(away.out.contains("left out: it is not there"), "{}", away.out);
}
