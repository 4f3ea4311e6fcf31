//! Working with configuration from the command line: apply, diff, edit, history, rollback, and the wait for the proxies.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::stage::mesh::Mesh;
use crate::stage::place::Place;
use crate::stage::process::{Done, Process, run_with};
use crate::stage::program;
use crate::stage::wait::{seconds, until};

fn intention(name: &str, destination: &str) -> String {
    format!(
        "apiVersion: mesh/v1\nkind: Intention\nmetadata:\n  name: {name}\n  labels: {{ app: shop }}\nspec:\n  destination: \
         {destination}\n  sources:\n    - service: shop\n  action: allow\n"
    )
}

/// A control plane, and a directory of manifests.
struct Desk {
    mesh: Mesh,
    files: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let mesh = Mesh::start(&Place::here());
        let files = mesh.folder().join("manifests");
        fs::create_dir_all(files.join("below/.hidden")).unwrap();
        Self { mesh, files }
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.files.join(file), text).unwrap();
    }

    /// Runs a command on the manifests.
    fn on_files(&self, command: &[&str]) -> Done {
        self.mesh.cli(&[command, &["-f", self.files.to_str().unwrap()]].concat())
    }

    /// Runs `mesh edit` with a shell command as the editor; `$1` is the file.
    fn edit(&self, object: &str, editor: &str) -> Done {
        let script = self.mesh.folder().join("editor.sh");
        fs::write(&script, format!("#!/bin/sh\nset -e\n{editor}\n")).unwrap();
        let control = format!("unix://{}", self.mesh.data().join("control.sock").display());
        run_with(&Place::here(), seconds(30), program::mesh(), &["edit", object], |command| {
            command
                .env("MESH_CONTROL", control)
                .env("HOME", self.mesh.folder())
                .env("TMPDIR", self.mesh.folder());
            command.env_remove("VISUAL").env("EDITOR", format!("sh {}", script.display()));
        })
    }

    fn kept(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.mesh.folder()).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("mesh-edit-")).collect()
    }
}

#[test]
fn a_directory_is_applied_with_all_below_it_and_what_left_it_is_pruned() {
    let desk = Desk::new();
    desk.write("a.yaml", &intention("a", "web"));
    desk.write("below/b.yml", &intention("b", "web"));
    desk.write("below/.hidden/c.yaml", "not: [a manifest");
    let pruning = ["apply", "--prune", "-l", "app=shop"];

    let first = desk.on_files(&pruning).ok();
    fs::remove_file(desk.files.join("a.yaml")).unwrap();
    desk.write(
        "below/d.json",
        &serde_json::to_string(&serde_json::json!({
            "apiVersion": "mesh/v1", "kind": "Intention", "metadata": { "name": "d" },
            "spec": { "destination": "api", "sources": [{ "service": "*" }], "action": "deny" },
        }))
        .unwrap(),
    );
    let tried = desk.on_files(&[&pruning[..], &["--dry-run=server"]].concat());
    let second = desk.on_files(&pruning);

    assert_eq!(
        first.lines().map(|line| line.split(" (r").next().unwrap()).collect::<Vec<_>>(),
        ["intention/a created", "intention/b created"]
    );
    assert!(
        tried.out.contains("intention/a pruned") && tried.out.contains("(server dry run)"),
        "{}",
        tried.out
    );
    assert!(second.err.contains("1 created, 1 unchanged, 1 pruned"), "{}", second.err);
    assert!(second.err.contains("Intention/d has not the labels"), "{}", second.err);
    assert_eq!(desk.mesh.cli(&["get", "intentions", "-o", "name"]).ok(), "intention/b\nintention/d\n");
    assert_eq!(desk.mesh.cli(&["get", "intentions", "-l", "app=shop", "-o", "name"]).ok(), "intention/b\n");
    desk.mesh.cli(&["apply", "--prune", "-f", "x.yaml"]).failed(2);
}

#[test]
fn a_difference_is_shown_before_it_is_made_and_ends_with_status_1() {
    let desk = Desk::new();
    desk.write("a.yaml", &intention("a", "web"));

    let new = desk.on_files(&["diff"]);
    desk.on_files(&["apply"]).ok();
    let none = desk.on_files(&["diff"]).ok();
    desk.write("a.yaml", &intention("a", "api"));
    let changed = desk.on_files(&["diff"]);

    assert_eq!((new.code, none.as_str(), changed.code), (Some(1), "", Some(1)));
    assert!(new.out.starts_with("--- /dev/null\n+++ intention/a\n@@ -0,0 +1,"), "{}", new.out);
    assert!(changed.out.contains("-  destination: web\n+  destination: api\n"), "{}", changed.out);
    assert!(!changed.out.contains('\x1b'), "no colour in a pipe");
    assert!(desk.mesh.cli(&["get", "intention/a", "-o", "yaml"]).ok().contains("destination: web"));
}

#[test]
fn an_edit_is_written_unless_somebody_else_wrote_and_a_refused_text_is_kept() {
    let desk = Desk::new();
    desk.write("a.yaml", &intention("a", "web"));
    desk.on_files(&["apply"]).ok();

    let edited = desk.edit("intention/a", "sed -i s/web/api/ \"$1\"").ok();
    let unchanged = desk.edit("intention/a", "true");
    let after_good = desk.kept();
    let failed = desk.edit("intention/a", "exit 3").failed(1);
    desk.kept().iter().for_each(|file| fs::remove_file(file).unwrap());
    let wrong =
        desk.edit("intention/a", "sed -i 's/destination: api/destination: No Name/' \"$1\"").failed(1);
    let after_wrong = fs::read_to_string(&desk.kept()[0]).unwrap();
    desk.kept().iter().for_each(|file| fs::remove_file(file).unwrap());
    let control = format!("unix://{}", desk.mesh.data().join("control.sock").display());
    let meanwhile = format!(
        "MESH_CONTROL={control} {} apply -f {}\nsed -i 's/destination: api/destination: db/' \"$1\"",
        program::mesh().display(),
        desk.files.join("a.yaml").display()
    );
    let conflict = desk.edit("intention/a", &meanwhile).failed(6);

    assert!(edited.starts_with("intention/a edited (r"), "{edited}");
    assert_eq!((unchanged.code, unchanged.err.trim()), (Some(0), "nothing was changed"));
    assert!(after_good.is_empty(), "{after_good:?}");
    assert!(failed.contains("nothing was written"), "{failed}");
    assert!(wrong.contains("spec.destination") && wrong.contains("Your text is kept in"), "{wrong}");
    assert!(after_wrong.contains("No Name"), "{after_wrong}");
    assert!(
        conflict.contains("somebody else wrote it") && conflict.contains("resourceVersion"),
        "{conflict}"
    );
    assert!(fs::read_to_string(&desk.kept()[0]).unwrap().contains("destination: db"));
    assert!(desk.mesh.cli(&["get", "intention/a", "-o", "yaml"]).ok().contains("destination: web"));
}

#[test]
fn a_history_survives_a_restart_and_leads_back() {
    let mut desk = Desk::new();
    for destination in ["web", "api"] {
        desk.write("a.yaml", &intention("a", destination));
        desk.on_files(&["apply"]).ok();
    }
    desk.mesh.restart_control();

    let history = desk.mesh.json(&["history", "intention/a", "-o", "json"]);
    let shown = desk.mesh.cli(&["history", "intention", "a", "--diff"]).ok();
    let tried = desk.mesh.cli(&["rollback", "intention/a", "--dry-run"]).ok();
    let back = desk.mesh.cli(&["rollback", "intention/a"]).ok();
    let first = format!("r{}", history[0]["revision"]);
    let same = desk.mesh.cli(&["rollback", "intention/a", "--to", &first]).ok();

    let by: Vec<_> = history.as_array().unwrap().iter().map(|one| one["by"].as_str().unwrap()).collect();
    assert_eq!(by, ["local administrator"; 2]);
    assert!(shown.contains("+  destination: api"), "{shown}");
    assert!(tried.contains("+  destination: web"), "{tried}");
    assert!(back.starts_with("intention/a rolled back (r"), "{back}");
    assert!(same.starts_with("intention/a unchanged"), "{same}");
    desk.mesh.cli(&["history", "intention/none"]).failed(4);
}

#[test]
fn a_wait_tells_of_each_proxy_and_ends_with_status_7_when_one_is_behind() {
    let desk = Desk::new();
    let here = Place::here();
    let token = desk.mesh.token(&["--uses", "2"]);
    let _prompt = desk.mesh.proxy(&here, "prompt").join(&token).start();
    let silent = desk.mesh.proxy(&here, "silent").join(&token).start();
    desk.write("a.yaml", &intention("a", "web"));

    let all = desk.on_files(&["apply", "--wait=20s"]);
    kill_process(silent.process.pid(), Signal::STOP).unwrap();
    desk.write("a.yaml", &intention("a", "api"));
    let late = desk.on_files(&["apply", "--wait=1s"]);
    kill_process(silent.process.pid(), Signal::CONT).unwrap();

    assert_eq!(all.code, Some(0), "{}", all.err);
    assert!(all.err.contains("2 of 2 proxies"), "{}", all.err);
    assert_eq!(late.code, Some(7), "{}", late.err);
    assert!(late.err.contains("√ prompt: r"), "{}", late.err);
    assert!(late.err.contains("‼ silent: behind, at r"), "{}", late.err);
}

#[test]
fn what_can_be_written_is_explained_without_a_control_plane() {
    let desk = Desk::new();

    let page = desk.mesh.cli(&["explain", "intention.spec.rules"]).ok();
    let field = desk.mesh.cli(&["explain", "int.spec.mode"]).ok();
    let tree = desk.mesh.cli(&["explain", "httproute", "--recursive"]).ok();
    let schema = desk.mesh.json(&["explain", "trafficpolicy", "-o", "json"]);
    let paths = desk.mesh.cli(&["explain", "intention.spec.rules.paths"]).ok();
    assert!(paths.contains("LIMITS:  entries at most 64\n"), "{paths}");
    let missing = desk.mesh.cli(&["explain", "intention.spec.nothing"]).failed(4);
    desk.mesh.cli(&["explain", "nothing"]).failed(2);

    assert!(
        page.contains("FIELD:    spec.rules <[]Object>") && page.contains("entries at most 64"),
        "{page}"
    );
    assert!(page.contains("methods  <[]string>"), "{page}");
    assert!(
        field.contains("DEFAULT:  enforce") && field.contains("audit\n      Nothing is refused"),
        "{field}"
    );
    assert!(tree.contains("      backendRefs  <[]Object>"), "{tree}");
    assert_eq!(schema["properties"]["kind"]["const"], "TrafficPolicy");
    assert!(missing.contains("destination, ") && missing.contains("Intention.spec"), "{missing}");
}

#[test]
fn the_default_is_chosen_at_the_first_start_and_changed_later() {
    let mut mesh = Mesh::start_with(&Place::here(), &["--default-action", "deny"]);

    let first = mesh.json(&["default", "-o", "json"]);
    let changed = mesh.cli(&["default", "allow", "--mode", "audit"]).ok();
    mesh.restart_control();
    let kept = mesh.cli(&["default", "-o", "name"]).ok();
    mesh.cli(&["default", "maybe"]).failed(2);

    assert_eq!((&first["action"], &first["mode"]), (&"deny".into(), &"enforce".into()));
    assert!(changed.contains("allow") && changed.contains("audit"), "{changed}");
    assert_eq!(kept, "allow\n");
}

#[test]
fn changes_are_followed_one_line_each() {
    let desk = Desk::new();
    desk.write("a.yaml", &intention("a", "web"));
    desk.on_files(&["apply"]).ok();
    let mut command = Command::new(program::mesh());
    command.args(["get", "intentions", "-w", "-o", "json"]);
    command.env("MESH_CONTROL", format!("unix://{}", desk.mesh.data().join("control.sock").display()));
    let watch = Process::start(&Place::here(), desk.mesh.folder(), "watch", command);
    let changes = |count: usize| {
        until(&format!("{count} changes"), seconds(15), || {
            let log = watch.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let changes: Vec<_> = lines.map(|line| line["change"].as_str().unwrap().to_owned()).collect();
            (changes.len() == count).then_some(changes)
        })
    };

    changes(1);
    desk.write("a.yaml", &intention("a", "api"));
    desk.on_files(&["apply"]).ok();
    changes(2);
    desk.mesh.cli(&["delete", "intention/a"]).ok();

    assert_eq!(changes(3), ["unchanged", "updated", "deleted"]);
}
