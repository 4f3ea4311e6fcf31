//! The control plane's store: what it acknowledged survives the death of its process, restarts, and snapshots.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use mesh::control::store::{self, SNAPSHOT_EVERY, Store, SubmitError};
use mesh::logic::state::{Change, Expected, Refusal, Written};
use mesh::model::intention::Action;
use mesh::model::resource::Resource;
use mesh::net::clock;
use mesh::net::disk::Db;

/// Set in the process that is killed: where its store is.
const CHILD_DIR: &str = "MESH_TEST_STORE";

fn intention(name: &str, destination: &str) -> Box<Resource> {
    let text = format!(
        r#"{{"apiVersion":"mesh/v1","kind":"Intention","metadata":{{"name":"{name}"}},
            "spec":{{"destination":"{destination}","sources":[{{"service":"*"}}],"action":"allow"}}}}"#
    );
    Box::new(serde_json::from_str(&text).unwrap())
}

fn put(name: &str, destination: &str) -> Change {
    Change::Put { resource: intention(name, destination), expected: Expected::Any }
}

fn found() -> Change {
    Change::Found { trust_domain: "shop.test".parse().unwrap(), default_action: Action::Allow }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Writes without end, telling each acknowledgement on standard output.
fn write_until_killed(dir: &Path) {
    block_on(async {
        let store = Store::open(dir).unwrap();
        let _ = store.submit(found()).await;
        for round in 0u64.. {
            let committed =
                store.submit(put(&format!("i{}", round % 50), &format!("s{round}"))).await.unwrap();
            let told = format!("\nacknowledged {}\n", committed.state.revision());
            std::io::stdout().write_all(told.as_bytes()).unwrap();
        }
    });
}

#[test]
fn acknowledged_commands_survive_kill_9() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        return write_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for round in 1..=6u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "contract::store::acknowledged_commands_survive_kill_9", "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = 0;
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.map_while(Result::ok) {
            if let Some(revision) = line.strip_prefix("acknowledged ") {
                acknowledged = revision.parse().unwrap();
            }
            if acknowledged >= before + 17 * round {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let opened = clock::now();
        let store = Store::open(dir.path()).unwrap();
        let revision = store.state().revision();
        assert!(acknowledged > before, "round {round} wrote nothing");
        assert!(
            revision >= acknowledged,
            "round {round}: {acknowledged} was acknowledged, {revision} is left"
        );
        assert!(opened.elapsed() < Duration::from_secs(1));
        before = revision;
        block_on(store.close());
    }
}

#[test]
fn a_snapshot_replaces_the_log_and_the_state_stays_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let state = block_on(async {
        let store = Store::open(dir.path()).unwrap();
        store.submit(found()).await.unwrap();
        for round in 0..SNAPSHOT_EVERY + 5 {
            store.submit(put(&format!("i{}", round % 7), &format!("s{round}"))).await.unwrap();
        }
        store.close().await;
        store.state()
    });

    let rows = Db::open(dir.path(), store::FORMAT).unwrap().scan(b"log/").unwrap().len();
    let store = Store::open(dir.path()).unwrap();

    assert_eq!(rows, 6);
    assert_eq!(*store.state(), *state);
}

#[test]
fn a_refusal_and_an_idle_command_write_nothing() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let store = Store::open(dir.path()).unwrap();
        let early = store.submit(put("one", "web")).await.unwrap_err();
        store.submit(found()).await.unwrap();
        store.submit(put("one", "web")).await.unwrap();
        let idle = store.submit(put("one", "web")).await.unwrap();

        assert_eq!(early, SubmitError::Refused(Refusal::NotFounded));
        assert!(idle.events.is_empty());
        assert_eq!(idle.state.revision(), 2);
        store.close().await;
    });
    assert_eq!(Db::open(dir.path(), store::FORMAT).unwrap().scan(b"log/").unwrap().len(), 2);
}

#[test]
fn a_watcher_resumes_where_it_was_and_is_told_when_that_is_too_long_ago() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let store = Store::open(dir.path()).unwrap();
        store.submit(found()).await.unwrap();
        for round in 0..4100 {
            let written = store.submit(put("one", &format!("s{round}"))).await.unwrap();
            assert_eq!(written.state.revision(), round + 2);
        }

        let newer = store.changes_since(4099).unwrap();
        let seen: Vec<_> = newer.iter().map(|change| (change.revision, change.written)).collect();

        assert_eq!(seen, [(4100, Written::Updated), (4101, Written::Updated)]);
        assert!(store.changes_since(1).is_none());
        assert!(store.changes_since(5).is_some());
        store.close().await;
    });
}

#[test]
fn a_store_with_a_hole_in_its_log_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let store = Store::open(dir.path()).unwrap();
        store.submit(found()).await.unwrap();
        store.submit(put("one", "web")).await.unwrap();
        store.submit(put("one", "api")).await.unwrap();
        store.close().await;
    });
    let db = Db::open(dir.path(), store::FORMAT).unwrap();
    db.remove(&[&b"log/"[..], &2u64.to_be_bytes()].concat()).unwrap();
    drop(db);

    let error = Store::open(dir.path()).unwrap_err();

    let text = error.to_string();
    assert!(matches!(error, store::Error::Damaged { .. }), "{text}");
    assert!(text.contains(&*dir.path().to_string_lossy()) && text.contains("revision 2"), "{text}");
}
