//! What a proxy keeps: it is there after a restart, only its owner can read it, and damage is said, not hidden.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use mesh::identity::vault::{Error, Vault};
use mesh::net::{clock, disk};
use serde::{Deserialize, Serialize};

use crate::contract::ca::{Ca, HOUR_MS, Spec, subject};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    text: String,
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_was_put_is_there_after_a_restart_and_gone_once_removed() {
    let dir = tempfile::tempdir().unwrap();
    let note = Note { text: "remember".to_owned() };

    let vault = Vault::open(dir.path()).unwrap();
    vault.put("note", &note).unwrap();
    drop(vault);
    let vault = Vault::open(dir.path()).unwrap();

    assert_eq!(vault.get::<Note>("note").unwrap(), Some(note));
    vault.remove("note").unwrap();
    assert_eq!(vault.get::<Note>("note").unwrap(), None);
    assert!(matches!(vault.get::<Note>("other"), Ok(None)));
}

#[test]
fn one_that_is_closed_can_be_opened_by_another_and_is_opened_again_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let note = |text: &str| Note { text: text.to_owned() };
    let vault = Vault::open(dir.path()).unwrap();
    vault.put("note", &note("first")).unwrap();

    vault.close();
    assert!(matches!(vault.put("note", &note("lost")), Err(Error::Lent)));
    let other = Vault::open(dir.path()).unwrap();
    other.put("note", &note("second")).unwrap();
    assert!(matches!(vault.reopen(), Err(Error::Disk(disk::Error::Locked(_)))));
    drop(other);
    vault.reopen().unwrap();

    assert_eq!(vault.get::<Note>("note").unwrap(), Some(note("second")));
    vault.reopen().unwrap();
}

#[test]
fn svids_come_back_with_their_keys_expired_ones_too() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    let now_ms = clock::wall_ms();
    let valid = ca.svid(&Spec::of("web", "host-1", now_ms));
    let expired = ca.svid(&Spec::of("node/host-1", "host-1", now_ms - 5 * HOUR_MS));
    let older = ca.svid(&Spec::of("web", "host-1", now_ms));

    let vault = Vault::open(dir.path()).unwrap();
    vault.put_svids(&[older]).unwrap();
    vault.put_svids(&[valid.clone(), expired.clone()]).unwrap();
    drop(vault);
    let vault = Vault::open(dir.path()).unwrap();
    let kept = vault.svids().unwrap();

    assert_eq!(kept.iter().map(|svid| &svid.serial).collect::<Vec<_>>(), [&valid.serial, &expired.serial]);
    assert_eq!(kept[0].chain(), valid.chain());
    assert_eq!(kept[0].key().fingerprint(), valid.key().fingerprint());
    vault.remove_svid(&subject("web")).unwrap();
    assert_eq!(vault.svids().unwrap().len(), 1);
}

#[test]
fn only_its_owner_can_read_it_even_if_others_could_before() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();

    let vault = Vault::open(&state).unwrap();

    assert_eq!(mode(&state), 0o700);
    let mut files = 0;
    for entry in fs::read_dir(&state).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            assert_eq!(mode(&entry.path()), 0o600, "{}", entry.path().display());
            files += 1;
        }
    }
    assert!(files > 0);
    drop(vault);
}

#[test]
fn a_row_that_is_something_else_is_told_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path()).unwrap();
    vault.put("note", &7).unwrap();
    vault.put("svid/web.default", &Note { text: "no certificate".to_owned() }).unwrap();

    assert!(matches!(vault.get::<Note>("note"), Err(Error::Row { key, .. }) if key == "note"));
    assert!(matches!(vault.svids(), Err(Error::Row { key, .. }) if key == "svid/web.default"));
}

#[test]
fn an_open_vault_is_not_opened_twice() {
    let dir = tempfile::tempdir().unwrap();
    let _vault = Vault::open(dir.path()).unwrap();

    let second = Vault::open(dir.path());

    assert!(matches!(second, Err(Error::Disk(disk::Error::Locked(_)))), "{second:?}");
}
