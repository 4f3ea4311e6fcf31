//! A host whose power is cut and comes back: of its network nothing is left, of its processes nothing, of its disk all.

use crate::stage::mesh::Mesh;
use crate::stage::peer::{answerer, answerer_at, has_rules};
use crate::stage::place::{Network, Place};
use crate::stage::process::{curl, run};
use crate::stage::wait::{seconds, until};

/// Where the service of the host listens, before and after.
const OWN: u16 = 4000;

// case 86
#[test]
fn a_host_that_boots_intercepts_resolves_and_calls_with_what_is_on_its_disk_though_no_control_plane_is_there()
{
    let mut network = Network::new(3);
    let mut mesh = Mesh::start(&network.host(1));
    let token = mesh.token(&["--uses", "2"]);
    let web = answerer(&network.host(2), "web");
    let server = mesh.proxy(&network.host(2), "server").join(&token).service(&format!("web={web}"));
    let _server = server.intercept("on").start();
    answerer_at(&network.host(3), OWN, "own");
    let caller = mesh.proxy(&network.host(3), "caller").join(&token).service(&format!("own={OWN}"));
    let mut caller = caller.intercept("strict").start();
    let reaches = |from: &Place, name: &'static str| {
        until(&format!("{name}.mesh answers"), seconds(20), || {
            (curl(from, &[&format!("http://{name}.mesh/")]).out == name).then_some(())
        });
    };
    reaches(&network.host(3), "web");
    reaches(&network.host(2), "own");
    let address = |place: &Place| run(place, seconds(5), "getent", &["ahostsv4", "web.mesh"]).ok();
    let before = address(&network.host(3));
    mesh.control.kill();

    caller.process.kill();
    let here = network.reboot(3);
    assert!(!has_rules(&here), "the new host has rules before anything was started");
    assert_ne!(curl(&here, &["--max-time", "3", "http://web.mesh/"]).code, Some(0));
    answerer_at(&here, OWN, "own");
    caller.boot(&here);

    assert!(has_rules(&here));
    assert_eq!(curl(&here, &["http://web.mesh/"]).ok(), "web", "the first call after the start");
    assert_eq!(address(&here), before, "its virtual address is another one");
    reaches(&network.host(2), "own");
    let direct = format!("http://{}:{OWN}/", here.ip());
    let past = curl(&network.host(2), &["--max-time", "3", &direct]);
    assert_ne!(past.code, Some(0), "strict leaves it open: {}", past.out);
}
