//! Proxies that stop, or change what they do, while callers of every kind are at work: nothing is lost.

use std::fs;

use rustix::process::{Signal, kill_process};

use crate::load::{Places, Scene, assert_nobody_refused, assert_nothing_lost};
use crate::stage::mesh::ProxyPlan;
use crate::stage::peer;
use crate::stage::place::Place;
use crate::stage::wait::{seconds, until};

// case 84
#[test]
fn a_proxy_that_stops_serves_out_its_own_callers_and_then_refuses_them() {
    assert_caller_is_served_out(Scene::new());
}

// case 84
#[test]
fn a_proxy_that_stops_serves_out_calls_to_the_services_behind_itself() {
    assert_caller_is_served_out(Scene::alone());
}

/// Stops the proxy of the callers: nothing is lost, and then everybody is refused.
fn assert_caller_is_served_out(mut scene: Scene) {
    let load = scene.load();

    assert!(scene.caller.process.terminate().success());

    let tallies = load.stop();
    assert_nothing_lost(&tallies);
    // The slow streams are on the connection of the others.
    for (kind, tally) in tallies.iter().filter(|(kind, _)| **kind != "http/2, slow") {
        assert!(tally.refused > 0, "{kind}: not refused");
    }
}

// case 84
#[test]
fn when_a_proxy_of_a_service_stops_the_callers_of_another_host_go_elsewhere() {
    let mut scene = Scene::new();
    let load = scene.load();

    assert!(scene.servers[0].process.terminate().success());
    load.goes_on(2);

    let tallies = load.stop();
    assert_nothing_lost(&tallies);
    assert_nobody_refused(&tallies);
    scene.knows_instances(1);
}

#[test]
fn new_routes_policies_and_settings_take_effect_without_losing_a_call() {
    let files = tempfile::tempdir().unwrap();
    let config = files.path().join("proxy.yaml");
    fs::write(&config, "zone: one\n").unwrap();
    let scene = Scene::with(&Places::here(), |plan| plan.flag("--config", config.to_str().unwrap()));
    let load = scene.load();

    for round in 1..=6 {
        fs::write(&config, format!("zone: zone-{round}\ndrain: {round}s\nlog: info\n")).unwrap();
        for proxy in scene.servers.iter().chain([&scene.caller]) {
            kill_process(proxy.process.pid(), Signal::HUP).unwrap();
        }
        scene.mesh.apply(&route(round)).ok();
        scene.mesh.apply(&policy(round)).ok();
        if round % 3 == 0 {
            scene.mesh.cli(&["delete", "HTTPRoute", "web"]).ok();
            scene.mesh.cli(&["delete", "TrafficPolicy", "web"]).ok();
        }
        load.goes_on(1);
    }

    let tallies = load.stop();
    assert_nothing_lost(&tallies);
    assert_nobody_refused(&tallies);
    until("the last settings are in force", seconds(10), || {
        scene.caller.process.log().contains("configuration read again").then_some(())
    });
}

#[test]
fn services_that_come_and_go_with_the_file_disturb_no_calls_to_others() {
    let scene = Scene::with(&Places::here(), ProxyPlan::services_in_file);
    let load = scene.load();
    let extra = peer::answerer(&Place::here(), "extra");
    let of_server = [format!("extra={extra}/http")];
    let of_caller = [format!("shop={extra}/http")];

    for _ in 0..3 {
        scene.servers[0].also_runs(&of_server);
        scene.caller.also_runs(&of_caller);
        scene.caller.reaches("extra");
        scene.caller.reaches("shop");
        load.goes_on(1);
        scene.servers[0].also_runs(&[]);
        scene.caller.also_runs(&[]);
        for service in ["extra", "shop"] {
            until("it is gone", seconds(20), || {
                (scene.caller.quick_status(service) != Some(200)).then_some(())
            });
        }
        load.goes_on(1);
    }

    let tallies = load.stop();
    assert_nothing_lost(&tallies);
    assert_nobody_refused(&tallies);
}

fn route(round: usize) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: web}}\nspec:\n  parentRefs: [{{kind: Service, \
         group: '', name: web}}]\n  rules:\n    - filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: \
         [{{name: x-round, value: '{round}'}}]}}}}]\n      backendRefs: [{{name: web, weight: {round}}}]\n"
    )
}

fn policy(round: usize) -> String {
    let policy = ["RoundRobin", "LeastRequest", "PeakEwma"][round % 3];
    format!(
        "apiVersion: mesh/v1\nkind: TrafficPolicy\nmetadata: {{name: web}}\nspec: {{targetRef: {{kind: Service, name: web}}, \
         loadBalancing: {{policy: {policy}}}}}\n"
    )
}
