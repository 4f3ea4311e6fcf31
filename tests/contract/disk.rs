//! The map on disk: what was acknowledged stays, and what cannot be opened says why and is left alone.

use std::fs::{self, OpenOptions};

use mesh::net::disk::{Batch, Db, Error};

fn filled(dir: &std::path::Path) {
    let db = Db::open(dir, 1).unwrap();
    for index in 0..200u32 {
        db.put(format!("row/{index:03}").as_bytes(), &[7; 3000]).unwrap();
    }
}

#[test]
fn rows_come_back_sorted_and_a_batch_is_one_change() {
    let dir = tempfile::tempdir().unwrap();
    {
        let db = Db::open(dir.path(), 1).unwrap();
        db.put(b"b/2", b"two").unwrap();
        db.put(b"gone", b"x").unwrap();
        let mut batch = Batch::default();
        batch.put(b"b/1", b"one");
        batch.remove(b"gone");
        db.batch(batch).unwrap();
    }

    let db = Db::open(dir.path(), 1).unwrap();

    let rows = db.scan(b"b/").unwrap();
    assert_eq!(rows, [(b"b/1".to_vec(), b"one".to_vec()), (b"b/2".to_vec(), b"two".to_vec())]);
    assert_eq!(db.get(b"gone").unwrap(), None);
    assert_eq!(db.scan(b"").unwrap().len(), 2);
}

#[test]
fn a_second_opener_is_told_that_it_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let first = Db::open(dir.path(), 1).unwrap();

    let second = Db::open(dir.path(), 1);

    assert!(matches!(second, Err(Error::Locked(_))), "{second:?}");
    drop(first);
    Db::open(dir.path(), 1).unwrap();
}

#[test]
fn a_newer_format_is_refused_and_an_older_one_is_read() {
    let dir = tempfile::tempdir().unwrap();
    drop(Db::open(dir.path(), 2).unwrap());

    let newer = Db::open(dir.path(), 1);

    assert!(matches!(newer, Err(Error::Newer { found: 2, known: 1, .. })), "{newer:?}");
    Db::open(dir.path(), 3).unwrap();
}

#[test]
fn an_unfinished_index_snapshot_does_not_keep_it_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    fs::write(dir.path().join("snap.0000000000001234.generating"), b"half").unwrap();

    let db = Db::open(dir.path(), 1).unwrap();

    assert_eq!(db.scan(b"row/").unwrap().len(), 200);
}

#[test]
fn a_damaged_index_snapshot_is_set_aside_and_all_rows_are_there() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("snap.") {
            fs::write(&path, b"damaged").unwrap();
        }
    }
    fs::write(dir.path().join("snap.0000000000FFFFFF"), b"damaged").unwrap();

    let db = Db::open(dir.path(), 1).unwrap();

    assert_eq!(db.scan(b"row/").unwrap().len(), 200);
}

/// A cut at any place either opens with whole rows or says that it is damaged: never a panic, never a new, empty map.
#[test]
fn a_truncated_log_is_told_as_damage_and_never_taken_for_a_new_map() {
    let dir = tempfile::tempdir().unwrap();
    let original = dir.path().join("original");
    filled(&original);
    let length = fs::metadata(original.join("db")).unwrap().len();
    let mut refused = 0;
    for (index, cut) in
        [0, 1, length / 4, length / 3, length / 2, length - length / 8].into_iter().enumerate()
    {
        let copy = dir.path().join(format!("copy{index}"));
        fs::create_dir(&copy).unwrap();
        for name in ["conf", "db", "initialised"] {
            fs::copy(original.join(name), copy.join(name)).unwrap();
        }
        OpenOptions::new().write(true).open(copy.join("db")).unwrap().set_len(cut).unwrap();

        match Db::open(&copy, 1) {
            Ok(db) => assert!(db.scan(b"row/").unwrap().iter().all(|(_, row)| *row == [7; 3000])),
            Err(error) => {
                assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
                assert!(error.to_string().contains("is damaged"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
}

#[test]
fn a_directory_that_cannot_be_made_is_named_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"not a directory").unwrap();

    let error = Db::open(&file.join("state"), 1).unwrap_err();

    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains("--data-dir"), "{error}");
}
