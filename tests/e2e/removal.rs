//! Nodes that are drained, removed or banned: how soon others stop calling them, and what a ban survives.

use std::time::{Duration, Instant};

use mesh::net::clock;

use crate::failure::{Hosts, pause};
use crate::stage::mesh::{Mesh, Proxy};
use crate::stage::peer::{self, Peer};
use crate::stage::place::{Network, Place};
use crate::stage::process::run;
use crate::stage::wait::{meanwhile, seconds, until};

/// How long others may go on calling a node, from when the command has returned.
const STOPPED_WITHIN: Duration = Duration::from_secs(1);

/// Has `verb` done to the host that gets the calls, while they go on; returns when it was, and when each call was sent and who
/// answered it: nobody, where it failed.
fn answers_around(hosts: &Hosts, verb: &str) -> (String, Instant, Vec<(Instant, String)>) {
    let node = format!("copy-{}", hosts.favourite());
    let call = || {
        let sent = clock::now();
        let answer = hosts.caller.get("web", "/", &["-f"]);
        (sent, if answer.code == Some(0) { answer.out.trim().to_owned() } else { String::new() })
    };
    let (done, answers) = meanwhile(call, || {
        pause(seconds(1));
        hosts.mesh.cli(&[verb, &node]).ok();
        let done = clock::now();
        pause(seconds(4));
        done
    });
    (node, done, answers)
}

#[test]
fn others_stop_calling_a_node_within_a_second_of_its_drain_leave_or_ban() {
    for verb in ["drain", "leave", "ban"] {
        let hosts = Hosts::new(2);

        let (node, done, answers) = answers_around(&hosts, verb);

        let last = answers.iter().filter(|(_, who)| *who == node).map(|(sent, _)| *sent).max().unwrap();
        let late = last.saturating_duration_since(done);
        eprintln!("mesh {verb}: last call {late:?} after it returned; {} calls", answers.len());
        assert!(late < STOPPED_WITHIN, "mesh {verb}: called {late:?} later");
        let after: Vec<_> = answers.iter().filter(|(sent, _)| *sent > done + STOPPED_WITHIN).collect();
        assert!(after.len() > 2 && after.iter().all(|(_, who)| !who.is_empty() && *who != node), "{after:?}");
        let failed = answers.iter().filter(|(_, who)| who.is_empty()).count();
        // A ban cuts what is under way: one call at a time is.
        let may_fail = usize::from(verb == "ban");
        assert!(failed <= may_fail, "mesh {verb}: {failed} of {} calls failed", answers.len());
    }
}

#[test]
fn a_node_that_was_removed_serves_again_once_it_has_joined_again() {
    let mut hosts = Hosts::new(1);
    hosts.mesh.cli(&["leave", "copy-0"]).ok();
    // Nobody else serves: calls go on for as long as its certificates last.
    pause(seconds(1));
    hosts.caller.reaches("web");

    let token = hosts.mesh.token(&[]);
    let (proxy, nginx) = hosts.servers.remove(0);
    drop(proxy);
    let place = hosts.network.host(2);
    let again =
        hosts.mesh.proxy(&place, "copy-0").join(&token).service(&format!("web={}", nginx.port)).start();
    hosts.servers.push((again, nginx));

    hosts.knows(0);
    hosts.caller.reaches("web");
}

/// Starts a service and the proxy of its node.
fn serving(mesh: &Mesh, token: &str, place: &Place, (node, service): (&str, &str)) -> (Proxy, Peer) {
    let nginx = peer::nginx(place, mesh.folder(), service);
    let plan = mesh.proxy(place, node).join(token).service(&format!("{service}={}", nginx.port));
    (plan.start(), nginx)
}

// case 86
#[test]
fn a_ban_holds_while_control_is_down_and_after_restarts_from_disk() {
    let network = Network::new(3);
    let mut mesh = Mesh::start(&network.host(1));
    let token = mesh.token(&["--uses", "2"]);
    let start = |host, node, service| serving(&mesh, &token, &network.host(host), (node, service));
    let (mut good, _web) = start(2, "good", "web");
    let (mut bad, _api) = start(3, "bad", "api");
    good.reaches("api");
    bad.reaches("web");

    mesh.cli(&["ban", "bad"]).ok();
    pause(seconds(1));
    let is_cut = |from: &Proxy, service: &str| {
        (0..10).all(|_| {
            pause(Duration::from_millis(100));
            from.quick_status(service) != Some(200)
        })
    };
    assert!(is_cut(&good, "api"), "the banned node is called");
    assert!(is_cut(&bad, "web"), "the banned node calls");
    let is_told = |bad: &Proxy| {
        let told = "this node (bad) is banned from the mesh";
        until("its callers are told why", seconds(20), || {
            bad.get("web", "/", &[]).out.contains(told).then_some(())
        });
        let admin = bad.address("admin").to_string();
        let words = ["check", "--proxy", &admin];
        let checked = run(&network.host(3), seconds(20), crate::stage::program::mesh(), &words);
        let found =
            checked.out.contains("× others take this node for a member") && checked.out.contains(told);
        assert!(found && checked.code == Some(1), "{}", checked.out);
    };
    is_told(&bad);
    assert!(bad.process.log().contains("'mesh ban --undo bad'"), "{}", bad.process.log());

    mesh.control.kill();
    assert!(is_cut(&good, "api") && is_cut(&bad, "web"), "without control");
    good.restart();
    assert!(is_cut(&good, "api"), "the banned node is called, after a restart from disk");
    assert!(is_cut(&bad, "web"), "the banned node calls one that was restarted from disk");
    bad.restart();
    assert!(is_cut(&good, "api") && is_cut(&bad, "web"), "the banned node was restarted");
    is_told(&bad);

    mesh.restart_control();
    mesh.cli(&["ban", "--undo", "bad"]).ok();
    good.reaches("api");
    bad.reaches("web");
}

#[test]
fn a_node_that_was_down_hears_of_bans_and_of_their_end_from_its_neighbours_while_control_is_down() {
    let network = Network::new(4);
    let mut mesh = Mesh::start(&network.host(1));
    let token = mesh.token(&["--uses", "3"]);
    let start = |host, node, service| serving(&mesh, &token, &network.host(host), (node, service));
    let (mut good, _web) = start(2, "good", "web");
    let (bad, _api) = start(3, "bad", "api");
    let (mut late, _shop) = start(4, "late", "shop");
    late.reaches("api");
    late.reaches("web");
    bad.reaches("shop");

    late.process.kill();
    mesh.cli(&["ban", "bad"]).ok();
    mesh.control.kill();
    late.restart();
    let is_cut = |late: &Proxy| {
        let is_refused = |from: &Proxy, service: &str| from.quick_status(service) != Some(200);
        (0..5).all(|_| is_refused(late, "api") && is_refused(&bad, "shop"))
    };
    until("the banned node is refused, and not called", seconds(5), || is_cut(&late).then_some(()));
    late.reaches("web");
    good.reaches("shop");

    // From its own disk, with nobody there to tell.
    good.process.kill();
    late.restart();
    assert!(is_cut(&late), "it has forgotten");

    // And back: taken back while it is down again.
    good.restart();
    late.process.kill();
    mesh.restart_control();
    mesh.cli(&["ban", "--undo", "bad"]).ok();
    good.reaches("api");
    mesh.control.kill();
    late.restart();
    late.reaches("api");
    bad.reaches("shop");
}

#[test]
fn a_ban_says_how_many_nodes_have_heard_of_it_and_warns_when_not_all_have() {
    let network = Network::new(4);
    let mesh = Mesh::start(&network.host(1));
    let token = mesh.token(&["--uses", "3"]);
    let start = |host, node, service| serving(&mesh, &token, &network.host(host), (node, service));
    let (good, _web) = start(2, "good", "web");
    let (_bad, _api) = start(3, "bad", "api");
    let (other, _shop) = start(4, "other", "shop");
    good.reaches("api");
    other.reaches("web");
    let told = |words: &[&str]| {
        let done = mesh.cli(words);
        assert_eq!(done.code, Some(0), "{}", done.err);
        done.err
    };
    let (ban, undo) = (["ban", "bad"], ["ban", "--undo", "bad"]);

    for words in [&ban[..], &undo] {
        let said = told(words);
        assert!(said.contains("all 2 nodes that are there have heard of it"), "{said}");
        assert!(!said.contains("keep this control plane running"), "{said}");
    }

    // One is kept from the control plane's API: it hears by gossip.
    let table = format!(
        "table inet wall {{ chain c {{ type filter hook input priority 0; ip saddr 10.88.0.2 tcp dport {} drop; }}; }}",
        mesh.listen().port()
    );
    run(&network.host(1), seconds(5), "nft", &[&table]).ok();
    let said = told(&ban);
    assert!(said.contains("all 2 nodes that are there have heard of it"), "{said}");
    assert_ne!(good.quick_status("api"), Some(200), "it has not heard");
    run(&network.host(1), seconds(5), "nft", &["delete", "table", "inet", "wall"]).ok();

    // The control plane is cut off: it must not be said that anybody knows.
    network.plug(1, "down");
    let begin = clock::now();
    let said = told(&undo);
    assert!(begin.elapsed() < seconds(5), "{:?}", begin.elapsed());
    assert!(said.contains("no node that is there") && said.contains("(good, other)"), "{said}");
    assert!(
        said.contains("keep this control plane running") && said.contains("mesh ban --undo bad"),
        "{said}"
    );
    network.plug(1, "up");
    until("all have heard of its end", seconds(30), || told(&undo).contains("all 2 nodes").then_some(()));
    good.reaches("api");
}
