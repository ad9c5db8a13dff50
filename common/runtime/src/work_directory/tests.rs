#![allow(clippy::unwrap_used)]
use super::*;
use std::cell::Cell;
use std::fs::File;

fn datastore() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn it_is_made_for_the_first_entry_and_goes_with_the_last() {
    let datastore = datastore();
    let entry = |name: &'static str| move |area: &Path| File::create(area.join(name)).map(drop);
    enter(datastore.path(), entry("one")).unwrap();
    enter(datastore.path(), entry("two")).unwrap();
    for name in ["one", "two"] {
        leave(datastore.path());
        assert!(of(datastore.path()).exists(), "{name} is in it");
        fs::remove_file(of(datastore.path()).join(name)).unwrap();
    }
    leave(datastore.path());
    assert!(!of(datastore.path()).exists());
}

#[test]
fn another_driver_may_remove_it_before_the_entry_is_made() {
    let datastore = datastore();
    let turns = Cell::new(0);
    let made = enter(datastore.path(), |area| {
        turns.set(turns.get() + 1);
        if turns.get() < 5 {
            leave(datastore.path());
        }
        File::create(area.join("entry")).map(drop)
    });
    made.unwrap();
    assert_eq!(turns.get(), 5);
    assert!(of(datastore.path()).join("entry").exists());
}

#[test]
fn what_another_host_has_removed_is_gone_too() {
    let datastore = datastore();
    let turns = Cell::new(0);
    let made = enter(datastore.path(), |_| {
        turns.set(turns.get() + 1);
        if turns.get() == 1 { Err(io::ErrorKind::StaleNetworkFileHandle.into()) } else { Ok(7) }
    });
    assert_eq!((made.unwrap(), turns.get()), (7, 2));
}

#[test]
fn a_directory_that_always_vanishes_is_given_up() {
    let datastore = datastore();
    let turns = Cell::new(0);
    let made = enter(datastore.path(), |_| -> io::Result<()> {
        turns.set(turns.get() + 1);
        Err(io::ErrorKind::NotFound.into())
    });
    assert_eq!(made.unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!((ATTEMPTS - 1..=ATTEMPTS).contains(&turns.get()), "{turns:?}");
}

#[test]
fn an_entry_that_can_not_be_made_leaves_nothing() {
    let datastore = datastore();
    let made =
        enter(datastore.path(), |_| -> io::Result<()> { Err(io::ErrorKind::StorageFull.into()) });
    assert_eq!(made.unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(!of(datastore.path()).exists());
}

#[test]
fn what_is_no_directory_is_not_entered() {
    let datastore = datastore();
    let elsewhere = tempfile::tempdir().unwrap();
    let entry = |area: &Path| File::create(area.join("entry")).map(drop);
    std::os::unix::fs::symlink(elsewhere.path(), of(datastore.path())).unwrap();
    let error = enter(datastore.path(), entry).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0, "a link is not followed");
    fs::remove_file(of(datastore.path())).unwrap();
    File::create(of(datastore.path())).unwrap();
    let error = enter(datastore.path(), entry).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
}

#[test]
fn a_datastore_that_is_not_there_is_not_made() {
    let datastore = datastore();
    let missing = datastore.path().join("missing");
    let error = enter(&missing, |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(!missing.exists());
}
