//! The control plane kept in a file and put back from it, while calls go on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::stage::mesh::{Mesh, Proxy};
use crate::stage::peer::{self, Peer};
use crate::stage::place::Place;
use crate::stage::process::{Done, run};
use crate::stage::program;
use crate::stage::wait::{meanwhile, seconds, until};

/// A mesh on this host: two proxies, one of them with a service.
struct Scene {
    mesh: Mesh,
    caller: Proxy,
    _server: Proxy,
    _nginx: Peer,
}

impl Scene {
    fn new() -> Self {
        let here = Place::here();
        let mesh = Mesh::start(&here);
        let token = mesh.token(&["--uses", "5"]);
        let nginx = peer::nginx(&here, mesh.folder(), "web");
        let service = format!("web={}", nginx.port);
        let server = mesh.proxy(&here, "server").join(&token).service(&service).start();
        let caller = mesh.proxy(&here, "caller").join(&token).start();
        caller.reaches("web");
        Self { mesh, caller, _server: server, _nginx: nginx }
    }

    fn write(&self, name: &str) {
        let manifest = format!(
            "apiVersion: mesh/v1\nkind: Intention\nmetadata:\n  name: {name}\nspec:\n  destination: web\n  sources:\n    \
             - service: {name}\n  action: deny\n"
        );
        self.mesh.apply(&manifest).ok();
    }

    fn written(&self) -> String {
        self.mesh.cli(&["get", "intentions", "-o", "name"]).ok()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.mesh.folder().join(name)
    }

    fn save(&self, name: &str) -> PathBuf {
        let file = self.file(name);
        self.mesh.cli(&["snapshot", "save", file.to_str().unwrap()]).ok();
        file
    }

    fn restore(&self, file: &Path, flags: &[&str]) -> Done {
        let data = self.mesh.data();
        let words = ["snapshot", "restore", file.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
        run(&Place::here(), seconds(60), program::mesh(), &[&words, flags].concat())
    }

    fn revision(&self) -> u64 {
        self.mesh.view()["revision"].as_u64().unwrap()
    }

    /// Waits until both proxies have the newest revision in force.
    fn agrees(&self) {
        until("both proxies have the newest revision", seconds(30), || {
            let view = self.mesh.view();
            let has = |name: &str| {
                let node = view["nodes"].as_array()?.iter().find(|node| node["name"] == name)?.clone();
                (node["revision"] == view["revision"]).then_some(())
            };
            has("server").and(has("caller"))
        });
    }

    /// Asks for the service again and again while `work` runs; returns how often, and what failed.
    fn calling(&self, work: impl FnOnce()) -> (u32, Vec<Option<u16>>) {
        let ((), seen) = meanwhile(|| self.caller.quick_status("web"), work);
        (seen.len() as u32, seen.into_iter().filter(|status| *status != Some(200)).collect())
    }
}

fn verify(file: &Path, flags: &[&str]) -> Done {
    let words = [&["snapshot", "verify", file.to_str().unwrap()], flags].concat();
    run(&Place::here(), seconds(20), program::mesh(), &words)
}

// case 86
#[test]
fn a_lost_control_plane_goes_on_from_a_snapshot_while_calls_go_on() {
    let mut scene = Scene::new();
    scene.write("before");
    let file = scene.save("kept");
    let taken = scene.revision();
    scene.write("after");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    scene.mesh.control.kill();
    let summary: serde_json::Value = serde_json::from_str(&verify(&file, &["-o", "json"]).ok()).unwrap();
    assert_eq!((&summary["objects"]["intentions"], &summary["proxies"]), (&1.into(), &2.into()));
    assert_eq!(summary["hasRootKey"], true);
    assert!(!verify(&file, &[]).ok().contains("PRIVATE KEY"));
    fs::remove_dir_all(scene.mesh.data()).unwrap();
    let told = scene.restore(&file, &[]);
    assert!(told.code == Some(0) && told.err.contains("mesh control --data-dir"), "{}", told.err);
    assert!(!scene.mesh.data().join("restore.pending").exists());
    scene.mesh.restart_control();
    let (count, failed) = scene.calling(|| scene.agrees());

    assert!(failed.is_empty(), "{} of {count} calls failed: {failed:?}", failed.len());
    let names = scene.written();
    assert!(names.contains("before") && !names.contains("after"), "{names}");
    assert!(scene.revision() > taken + 1000, "revisions must go on, beyond any that was lost");
    // A certificate that is issued by the restored authority is good for those that were there before.
    scene.mesh.proxy(&Place::here(), "third").join(&scene.mesh.token(&[])).start().reaches("web");
}

#[test]
fn a_running_control_plane_takes_a_snapshot_only_when_told_to_and_keeps_what_was() {
    let scene = Scene::new();
    scene.write("first");
    let file = scene.save("kept");
    scene.write("second");
    let (before, listen) = (scene.revision(), scene.mesh.listen());

    let refused = scene.restore(&file, &[]).failed(1);
    assert!(refused.contains("--yes") && refused.contains("running"), "{refused}");
    assert!(scene.written().contains("second"));
    let (count, failed) = scene.calling(|| {
        let done = scene.restore(&file, &["--yes"]);
        assert!(done.code == Some(0), "{}", done.err);
        scene.agrees();
    });

    assert!(count > 20 && failed.is_empty(), "{} of {count} calls failed: {failed:?}", failed.len());
    let names = scene.written();
    assert!(names.contains("first") && !names.contains("second"), "{names}");
    assert!((before + 1..before + 20).contains(&scene.revision()), "{before} -> {}", scene.revision());
    assert_eq!(scene.mesh.listen(), listen);
    scene.restore(&scene.mesh.data().join("before-restore.snapshot"), &["--yes"]).ok();
    assert!(scene.written().contains("second"));
    scene.agrees();
}

#[test]
fn damaged_foreign_and_other_meshes_files_are_refused_and_change_nothing() {
    let scene = Scene::new();
    scene.write("mine");
    let file = scene.save("kept");
    let whole = fs::read(&file).unwrap();
    let spoilt = |name: &str, content: &[u8]| {
        let path = scene.file(name);
        fs::write(&path, content).unwrap();
        path
    };
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let other = Mesh::start(&Place::here());
    let theirs = other.folder().join("theirs");
    other.cli(&["snapshot", "save", theirs.to_str().unwrap()]).ok();

    for (path, reason) in [
        (spoilt("flipped", &flipped), "damaged"),
        (spoilt("short", &whole[..whole.len() - 100]), "cut short"),
        (spoilt("text", b"apiVersion: mesh/v1\n"), "no snapshot of a control plane"),
        (spoilt("empty", b""), "no snapshot of a control plane"),
        (spoilt("newer", &[b"mesh control snapshot 9", &whole[23..]].concat()), "newer mesh"),
    ] {
        assert!(verify(&path, &[]).failed(1).contains(reason), "{reason}");
        assert!(scene.restore(&path, &["--yes"]).failed(1).contains(reason), "{reason}");
    }
    verify(&theirs, &[]).ok();
    let refused = scene.restore(&theirs, &["--yes"]).failed(1);
    assert!(refused.contains("holds the mesh"), "{refused}");

    assert!(scene.written().contains("mine"));
    assert!(!scene.mesh.data().join("restore.pending").exists());
    scene.mesh.cli(&["token", "create", "--role", "operator"]).ok();
}
