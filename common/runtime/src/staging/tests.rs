//! Tests of locks, transactions and recovery. A kill is what forgets a transaction: nothing of it is undone or ended.

#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;
use std::ffi::OsStr;
use std::time::Duration;
use tempfile::TempDir;

const NO_TIME: Duration = Duration::ZERO;

/// A datastore with the image `S`, its snapshots 0 and 1, and `T`.
fn datastore() -> TempDir {
    let datastore = tempfile::tempdir().unwrap();
    fs::create_dir(datastore.path().join("S.snap")).unwrap();
    for name in ["S", "T", "S.snap/0", "S.snap/1"] {
        fs::write(datastore.path().join(name), name).unwrap();
    }
    datastore
}

fn exclusive(datastore: &TempDir, image: &str) -> Result<ImageLock, LockError> {
    ImageLock::exclusive(datastore.path(), OsStr::new(image), NO_TIME)
}

fn shared(datastore: &TempDir, image: &str) -> Result<ImageLock, LockError> {
    ImageLock::shared(datastore.path(), OsStr::new(image), NO_TIME)
}

/// Checks that all is there as it was, and no work directory.
#[track_caller]
fn is_untouched(datastore: &TempDir) {
    for name in ["S", "T", "S.snap/0", "S.snap/1"] {
        assert_eq!(fs::read_to_string(datastore.path().join(name)).unwrap(), name);
    }
    assert!(!work_directory::of(datastore.path()).exists());
}

#[test]
fn an_exclusive_lock_excludes_all_others_and_leaves_nothing() {
    let datastore = datastore();
    let lock = exclusive(&datastore, "S").unwrap();
    for other in [exclusive(&datastore, "S"), shared(&datastore, "S")] {
        let Err(LockError::InUse { holder, waited }) = other else { panic!("it is held") };
        assert!(holder.contains(&std::process::id().to_string()), "{holder}");
        assert_eq!(waited, NO_TIME);
    }
    // Another image is free.
    drop(exclusive(&datastore, "T").unwrap());
    drop(lock);
    is_untouched(&datastore);
    drop(exclusive(&datastore, "S").unwrap());
}

#[test]
fn shared_locks_exclude_only_an_exclusive_one() {
    let datastore = datastore();
    let locks = [shared(&datastore, "S").unwrap(), shared(&datastore, "S").unwrap()];
    assert!(matches!(exclusive(&datastore, "S"), Err(LockError::InUse { .. })));
    let [one, other] = locks;
    drop(one);
    assert!(matches!(exclusive(&datastore, "S"), Err(LockError::InUse { .. })));
    drop(other);
    drop(exclusive(&datastore, "S").unwrap());
    is_untouched(&datastore);
}

#[test]
fn without_a_datastore_there_is_nothing_to_lock() {
    let missing = Path::new("/nowhere/at/all");
    drop(ImageLock::exclusive(missing, OsStr::new("S"), NO_TIME).unwrap());
}

fn begin(lock: &ImageLock, one_step: bool) -> Transaction<'_> {
    let transaction =
        if one_step { Transaction::atomic(lock) } else { Transaction::with_rollback(lock) };
    transaction.unwrap()
}

/// Moves the image and a snapshot into a transaction.
fn take_parts(transaction: &Transaction, datastore: &TempDir) {
    for name in ["S.snap/1", "S"] {
        assert!(transaction.take(&datastore.path().join(name)).unwrap());
    }
    assert!(!transaction.take(&datastore.path().join("missing")).unwrap());
    fs::write(datastore.path().join("S"), "half of a new image").unwrap();
}

#[test]
fn a_transaction_that_is_not_committed_is_rolled_back() {
    for one_step in [true, false] {
        let datastore = datastore();
        let lock = exclusive(&datastore, "S").unwrap();
        let transaction = begin(&lock, one_step);
        take_parts(&transaction, &datastore);
        drop(transaction);
        drop(lock);
        is_untouched(&datastore);
    }
}

#[test]
fn a_committed_transaction_has_removed_what_it_took() {
    for one_step in [true, false] {
        let datastore = datastore();
        let lock = exclusive(&datastore, "S").unwrap();
        let transaction = begin(&lock, one_step);
        take_parts(&transaction, &datastore);
        transaction.commit().unwrap();
        drop(lock);
        assert!(!work_directory::of(datastore.path()).exists());
        assert!(!datastore.path().join("S.snap/1").exists());
        assert_eq!(fs::read(datastore.path().join("S")).unwrap(), b"half of a new image");
    }
}

#[test]
fn the_next_lock_rolls_back_what_a_killed_driver_had_not_committed() {
    for recover in [
        |datastore: &TempDir| drop(exclusive(datastore, "S").unwrap()),
        |datastore: &TempDir| drop(shared(datastore, "S").unwrap()),
        |datastore: &TempDir| remove_stale(datastore.path()),
    ] {
        let datastore = datastore();
        let lock = exclusive(&datastore, "S").unwrap();
        let transaction = Transaction::with_rollback(&lock).unwrap();
        take_parts(&transaction, &datastore);
        std::mem::forget(transaction);
        drop(lock);
        // Another image's lock recovers nothing of this one.
        drop(exclusive(&datastore, "T").unwrap());
        assert!(!datastore.path().join("S.snap/1").exists());
        recover(&datastore);
        is_untouched(&datastore);
    }
}

#[test]
fn the_next_lock_deletes_what_a_killed_driver_had_to_delete() {
    let datastore = datastore();
    let lock = exclusive(&datastore, "S").unwrap();
    let transaction = Transaction::atomic(&lock).unwrap();
    assert!(transaction.take(&datastore.path().join("S")).unwrap());
    std::mem::forget(transaction);
    // While the driver lives, its entries are left to it.
    remove_stale(datastore.path());
    assert!(work_directory::of(datastore.path()).join("trash.S").exists());
    drop(lock);
    remove_stale(datastore.path());
    assert!(!work_directory::of(datastore.path()).exists());
    assert!(!datastore.path().join("S").exists());
}

#[test]
fn discarding_removes_all_parts_or_says_that_there_were_none() {
    let datastore = datastore();
    let lock = exclusive(&datastore, "S").unwrap();
    let parts = ["S", "S.snap", "S.md5sum"].map(|name| datastore.path().join(name));
    assert!(discard(lock, &parts).unwrap());
    assert!(!discard(exclusive(&datastore, "S").unwrap(), &parts).unwrap());
    let left: Vec<_> = fs::read_dir(datastore.path()).unwrap().flatten().collect();
    assert_eq!(left.iter().map(fs::DirEntry::file_name).collect::<Vec<_>>(), ["T"]);
}

#[test]
fn a_staged_file_of_a_live_driver_stays_and_goes_when_it_is_dropped() {
    let datastore = datastore();
    let staged = Staged::create(datastore.path()).unwrap();
    remove_stale(datastore.path());
    assert!(staged.path().exists());
    drop(staged);
    is_untouched(&datastore);
}
