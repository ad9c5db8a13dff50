#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// A datastore with the image `S`, which is a raw file, and `S.snap`.
struct Datastore(TempDir);

impl Datastore {
    fn new() -> Self {
        let datastore = Self(tempfile::tempdir().unwrap());
        fs::write(datastore.image(), "raw").unwrap();
        fs::create_dir(datastore.snap("")).unwrap();
        datastore
    }

    fn image(&self) -> PathBuf {
        self.0.path().join("S")
    }

    fn snap(&self, name: &str) -> PathBuf {
        self.0.path().join("S.snap").join(name)
    }

    /// Makes files of these names in `S.snap`.
    fn with(self, files: &[(&str, &[u8])]) -> Self {
        for (name, bytes) in files {
            fs::write(self.snap(name), bytes).unwrap();
        }
        self
    }

    fn read_as(&self, format: &str) -> Result<Option<Snapshots>, SnapshotError> {
        Snapshots::read(&self.image(), format, self.0.path())
    }

    fn read(&self) -> Snapshots {
        self.read_as("qcow2").unwrap().unwrap()
    }
}

/// A qcow2 image with clusters of 512 bytes and no data, upon the backing file `backing`.
fn overlay(backing: &str) -> Vec<u8> {
    let mut image = vec![0; 2048];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb\0\0\0\x02");
    if !backing.is_empty() {
        put(8, &128_u64.to_be_bytes());
        put(16, &(backing.len() as u32).to_be_bytes());
        put(128, backing.as_bytes());
    }
    put(20, &9_u32.to_be_bytes());
    put(24, &(64_u64 << 10).to_be_bytes());
    put(36, &2_u32.to_be_bytes());
    put(40, &512_u64.to_be_bytes());
    put(48, &1024_u64.to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    image
}

/// Snapshots 0 and 1, one upon the other, and the live disk 2.
fn chain() -> Datastore {
    let files = [overlay(""), overlay("0"), overlay("1")];
    Datastore::new().with(&[("0", &files[0]), ("1", &files[1]), ("2", &files[2])])
}

fn copies() -> Datastore {
    Datastore::new().with(&[("0", b"zero"), ("1", b"one")])
}

#[test]
fn without_files_there_are_no_snapshots() {
    let empty = Datastore::new();
    assert!(empty.read_as("raw").unwrap().is_none());
    fs::remove_dir(empty.snap("")).unwrap();
    assert!(empty.read_as("raw").unwrap().is_none());
    // What is none, though it bears the name, is not passed over.
    fs::write(empty.snap("").parent().unwrap().join("S.snap"), "file").unwrap();
    assert!(matches!(empty.read_as("raw"), Err(SnapshotError::Unreadable { .. })));
}

#[test]
fn only_numbers_as_they_are_written_are_snapshots() {
    let datastore = copies().with(&[
        ("01", b"x"),
        ("+2", b"x"),
        ("3a", b"x"),
        ("4294967296", b"x"),
        ("x", b"x"),
    ]);
    let snapshots = datastore.read();
    assert_eq!(snapshots.files().map(|(id, _)| id).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn files_that_stand_alone_are_copies_and_the_image_is_the_disk() {
    let datastore = copies();
    let snapshots = datastore.read();
    assert_eq!(snapshots.layout(), Layout::Copies);
    assert_eq!(snapshots.active_file(), datastore.image());
    assert_eq!(snapshots.file_of(1).unwrap(), datastore.snap("1"));
    assert_eq!(snapshots.removal_of(1).unwrap(), [datastore.snap("1")]);
    assert!(snapshots.link_to_base().is_none());
}

#[test]
fn files_that_back_on_each_other_are_a_chain_and_the_last_is_the_disk() {
    let datastore = chain();
    let snapshots = datastore.read();
    assert_eq!(snapshots.layout(), Layout::Chain);
    assert_eq!(snapshots.active_file(), datastore.snap("2"));
    assert!(matches!(snapshots.file_of(2), Err(SnapshotError::Live { id: 2, .. })));
}

#[test]
fn what_a_guest_wrote_into_a_raw_disk_makes_no_chain() {
    let snapshots = chain().read_as("raw").unwrap().unwrap();
    assert_eq!(snapshots.layout(), Layout::Copies);
}

#[test]
fn a_link_to_the_image_is_the_base_of_a_chain() {
    for target in ["../S", "absolute"] {
        let datastore = Datastore::new();
        let target = if target == "absolute" { datastore.image() } else { target.into() };
        symlink(target, datastore.snap("0")).unwrap();
        let datastore = datastore.with(&[("1", &overlay("0"))]);
        let snapshots = datastore.read();
        assert_eq!(snapshots.layout(), Layout::Chain);
        assert_eq!(snapshots.link_to_base(), Some(datastore.snap("0").as_path()));
    }
}

#[test]
fn a_missing_snapshot_is_told_with_those_that_are_there() {
    let datastore = chain();
    match datastore.read().file_of(7) {
        Err(SnapshotError::Missing { present, .. }) => assert_eq!(present, "0, 1"),
        other => panic!("{other:?}"),
    }
    // The live disk of a chain is none.
    let alone = Datastore::new();
    symlink("../S", alone.snap("0")).unwrap();
    match alone.read().file_of(7) {
        Err(SnapshotError::Missing { present, .. }) => assert_eq!(present, "no snapshot"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_another_file_backs_on_is_not_removed() {
    let datastore = chain();
    match datastore.read().removal_of(0) {
        Err(SnapshotError::InUse { dependent, file, .. }) => {
            assert_eq!((dependent, file), (datastore.snap("1"), datastore.snap("0")));
        }
        other => panic!("{other:?}"),
    }
    fs::remove_file(datastore.snap("1")).unwrap();
    let datastore = datastore.with(&[("2", &overlay("../S"))]);
    assert_eq!(datastore.read().removal_of(0).unwrap(), [datastore.snap("0")]);
}

#[test]
fn a_current_file_says_where_a_snapshot_is() {
    for place in ["7", "./7", "/var/lib/one/datastores/0/3/disk.1.snap/7", "own"] {
        let datastore = copies().with(&[("7", b"seven")]);
        let place = if place == "own" { datastore.snap("7") } else { place.into() };
        fs::write(datastore.snap("4.current"), format!("{}\n", place.display())).unwrap();
        let snapshots = datastore.read();
        assert_eq!(snapshots.file_of(4).unwrap(), datastore.snap("7"), "{}", place.display());
        // The file's own number is no snapshot any more.
        assert!(matches!(snapshots.file_of(7), Err(SnapshotError::Missing { .. })));
        // The file goes first: a pointer to nothing is no snapshot.
        let removal = snapshots.removal_of(4).unwrap();
        assert_eq!(removal, [datastore.snap("7"), datastore.snap("4.current")]);
    }
}

#[test]
fn a_file_of_two_snapshots_stays_for_the_other() {
    let datastore = copies().with(&[("7", b"seven"), ("4.current", b"7"), ("5.current", b"7")]);
    assert_eq!(datastore.read().removal_of(4).unwrap(), [datastore.snap("4.current")]);
}

#[test]
fn a_pointer_that_leads_elsewhere_is_an_error_for_its_own_snapshot_only() {
    for target in ["/etc/passwd", "../T", "..", "", "7/8", "/x/disk.a.snap/1", "../S.snapshot/1"] {
        let datastore = copies();
        fs::write(datastore.0.path().join("T"), "another image").unwrap();
        let datastore = datastore.with(&[("4.current", target.as_bytes())]);
        let snapshots = datastore.read();
        assert!(snapshots.file_of(4).is_err(), "{target}");
        assert!(snapshots.removal_of(4).is_err(), "{target}");
        assert_eq!(snapshots.invalid_pointers().count(), 1, "{target}");
        assert_eq!(snapshots.file_of(1).unwrap(), datastore.snap("1"));
    }
    // Nor is one that is no path at all.
    let datastore = copies().with(&[("4.current", &[b'7'; 5000])]);
    assert!(datastore.read().file_of(4).is_err());
}

#[test]
fn a_new_disk_knows_its_backing_file_in_the_way_of_the_old() {
    for (old, new) in [("1", "0"), ("./1", "./0"), ("../S.snap/1", "../S.snap/0")] {
        let files = [overlay(""), overlay("0"), overlay(old)];
        let datastore =
            Datastore::new().with(&[("0", &files[0]), ("1", &files[1]), ("2", &files[2])]);
        let snapshots = datastore.read();
        let name = snapshots.backing_name_for(&datastore.snap("0")).unwrap();
        assert_eq!(String::from_utf8(name).unwrap(), new);
    }
    // Where that way leads to no such file, by its whole path.
    let datastore = chain().with(&[("2", &overlay("../S"))]);
    let name = datastore.read().backing_name_for(&datastore.snap("0")).unwrap();
    assert_eq!(PathBuf::from(OsString::from_vec(name)), datastore.snap("0"));
}
