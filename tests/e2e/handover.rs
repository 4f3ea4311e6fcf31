//! A proxy that goes on in another process, while callers of every kind are at work: nothing is lost and nobody refused.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::time::Duration;

use mesh::net::clock;
use rustix::process::{Pid, Signal, kill_process};

use crate::load::{Load, Places, Scene, assert_nobody_refused, assert_nothing_lost};
use crate::stage::mesh::Proxy;
use crate::stage::wait::{seconds, until};

pub(crate) fn ends_well(load: Load) {
    let tallies = load.stop();
    assert_nothing_lost(&tallies);
    assert_nobody_refused(&tallies);
}

/// Fails the test if a member ever took another one for gone.
pub(crate) fn assert_nobody_missed(scene: &Scene) {
    for (name, proxy) in
        [("caller", &scene.caller), ("server-1", &scene.servers[0]), ("server-2", &scene.servers[1])]
    {
        let view = proxy.view();
        for node in view["nodes"].as_array().unwrap() {
            assert_eq!(node["state"], "alive", "{name} sees {node}");
        }
    }
    let events = scene.mesh.json(&["events", "-o", "json"]);
    let gone = events.as_array().unwrap().iter().filter(|event| {
        let text = event.to_string();
        ["left", "dead", "suspect"].iter().any(|word| text.contains(word))
    });
    assert_eq!(gone.collect::<Vec<_>>(), Vec::<&serde_json::Value>::new());
}

// case 85
#[test]
fn a_proxy_hands_its_own_callers_over() {
    let mut scene = Scene::new();
    let load = scene.load();
    let before = scene.caller.process.pid();

    scene.caller.hand_over(&["--workers", "3"]);
    load.goes_on(2);
    scene.caller.hand_over(&["--workers", "1"]);
    load.goes_on(2);

    ends_well(load);
    assert_ne!(scene.caller.process.pid(), before);
    assert_nobody_missed(&scene);
}

// case 85
#[test]
fn the_proxy_of_a_service_hands_the_callers_of_other_hosts_over() {
    let mut scene = Scene::new();
    let load = scene.load();

    for server in 0..2 {
        scene.servers[server].hand_over(&[]);
        load.goes_on(2);
    }

    ends_well(load);
    assert_nobody_missed(&scene);
    // What is written afterwards is taken, and kept.
    let policy = "apiVersion: mesh/v1\nkind: TrafficPolicy\nmetadata: {name: web}\nspec: {targetRef: {kind: Service, \
                  name: web}, retry: {attempts: 1}}\n";
    scene.mesh.apply(policy).ok();
    until("the new processes take what control says", seconds(10), || {
        let taken = |proxy: &Proxy| proxy.process.log().matches("snapshot taken").count();
        scene.servers.iter().all(|server| taken(server) >= 2).then_some(())
    });
    scene.servers[0].restart();
    scene.knows_instances(2);
}

// case 85
#[test]
fn a_proxy_goes_on_when_the_process_that_is_to_take_over_fails() {
    let scene = Scene::new();
    let load = scene.load();
    let folder = scene.mesh.folder();

    // One that is told nonsense does not even ask.
    let config = folder.join("nonsense.yaml");
    fs::write(&config, "no-such-flag: 1\n").unwrap();
    let mut fails = scene.caller.successor(&["--config", config.to_str().unwrap()]);
    assert!(!until("it ends", seconds(20), || fails.ended()).success());

    // One that cannot listen where it is told to gives everything back that it was given.
    let taken = scene.servers[0].address("outbound").to_string();
    for proxy in [&scene.caller, &scene.servers[1]] {
        let mut fails = proxy.successor(&["--upstream", &format!("web={taken}")]);
        assert!(!until("it ends", seconds(20), || fails.ended()).success());
        until("the old one goes on", seconds(10), || {
            proxy
                .process
                .log()
                .contains("the other process does not take over; this one goes on")
                .then_some(())
        });
    }
    load.goes_on(1);

    // And some are killed on their way, at one step or another.
    for after in [20, 60, 100, 150, 250] {
        let mut killed = scene.caller.successor(&["--upstream", &format!("web={taken}")]);
        std::thread::sleep(Duration::from_millis(after));
        killed.kill();
    }
    load.goes_on(1);

    ends_well(load);
    assert_nobody_missed(&scene);
}

/// What the files are that a process has open.
fn open_files(pid: Pid) -> Vec<PathBuf> {
    let files = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).collect()
}

// case 85
#[test]
fn a_proxy_goes_on_when_the_process_that_is_to_take_over_hangs() {
    let mut scene = Scene::with(&Places::here(), |plan| plan.flag("--ready-within", "2s"));
    let load = scene.load();

    // One that has asked for nothing yet is nobody's concern.
    let mut idle = scene.servers[0].successor(&[]);
    kill_process(idle.pid(), Signal::STOP).unwrap();
    load.goes_on(1);
    idle.kill();

    // One that has the store is ended when its time is over, and all comes back: on either side of a call.
    for proxy in [&scene.servers[0], &scene.caller] {
        let state = proxy.data().join("state");
        let has_store = |pid: Pid| open_files(pid).iter().any(|file| file.starts_with(&state));
        let mut hung = proxy.successor(&[]);
        let deadline = clock::now() + seconds(20);
        // Without a pause: it is ready a moment later.
        while !has_store(hung.pid()) {
            assert!(clock::now() < deadline && hung.ended().is_none(), "{}", hung.log());
        }
        kill_process(hung.pid(), Signal::STOP).unwrap();

        let status = until("it is ended", seconds(20), || hung.ended());
        let log = proxy.process.log();
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{log}");
        assert!(
            log.contains("it was not ready in time") && log.contains("hangs and does not let go"),
            "{log}"
        );
        until("the store is back", seconds(10), || has_store(proxy.process.pid()).then_some(()));
        load.goes_on(1);
    }
    scene.caller.hand_over(&[]);
    scene.servers[0].hand_over(&[]);
    load.goes_on(1);

    ends_well(load);
    assert_nobody_missed(&scene);
}
