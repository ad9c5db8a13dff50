//! The reader of snapshots, and the check of a datastore, on directories of any content.
//!
//! An input is a script that makes a datastore: for each step a byte that says what to make, one that
//! says where, and what that needs.

#![no_main]

use disk_image::admission::open_chain;
use disk_image::{Content, Disk as _};
use ferrostore::fsck::{self, Form, Report};
use ferrostore::snapshots::Snapshots;
use libfuzzer_sys::fuzz_target;
use runtime::staging::{PREFIXES, WORK_DIRECTORY};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

const IMAGE: &str = "0123456789abcdef0123456789abcdef";
/// Entries of the datastore, `S` being the image.
const PLACES: [&str; 14] = [
    "S",
    "S.snap",
    "S.snap/0",
    "S.snap/1",
    "S.snap/2",
    "S.snap/3",
    "S.snap/S.snap",
    "S.snap/0.current",
    "S.snap/1.current",
    "S.snap/2.current",
    "S.snap/01",
    "S.snap/x",
    "S.md5sum",
    "T",
];
/// What links, `.current` files and overlays name, `D` being the datastore: nothing outside the directory
/// that an input gets for itself, since steps may write through a link.
const NAMES: [&str; 16] = [
    "0",
    "1",
    "2",
    "3",
    ".",
    "..",
    "S.snap/0",
    "S.snap/1",
    "../S",
    "../../outside",
    "D/../../outside",
    "D/S",
    "D/S.snap/0",
    "D/S.snap/2",
    "json:{}",
    "/x/disk.0.snap/1",
];

struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(first)
    }

    /// One of [`PLACES`], or the work directory, or an entry of each kind in it.
    fn place(&mut self) -> String {
        let number = self.byte() % (PLACES.len() + 1 + PREFIXES.len());
        if let Some(place) = PLACES.get(number) {
            return place.replace('S', IMAGE);
        }
        match PREFIXES.get(number - PLACES.len()) {
            Some(prefix) => format!("{}/{prefix}{IMAGE}", WORK_DIRECTORY),
            None => WORK_DIRECTORY.to_owned(),
        }
    }

    fn name(&mut self, datastore: &Path) -> String {
        let name = NAMES[self.byte() % NAMES.len()].replace('S', IMAGE);
        name.replace('D', &datastore.display().to_string())
    }

    fn step(&mut self, datastore: &Path) {
        let kind = self.byte() % 7;
        let path = datastore.join(self.place());
        if (2..6).contains(&kind) {
            // Never through a link of an earlier step: it may lead to a file of this machine.
            let _ = fs::remove_file(&path);
        }
        let _ = match kind {
            0 => fs::create_dir(&path),
            1 => symlink(self.name(datastore), &path),
            2 => fs::write(&path, self.name(datastore)),
            3 => {
                let backing = self.name(datastore);
                fs::write(&path, qcow2(&backing, self.byte()))
            }
            4 => fs::write(&path, qcow2("", self.byte())),
            5 => {
                let length = (self.byte() * 8).min(self.0.len());
                let (bytes, rest) = self.0.split_at(length);
                self.0 = rest;
                fs::write(&path, bytes)
            }
            _ => fs::remove_file(&path),
        };
    }
}

/// An empty qcow2 image of 64 KiB with clusters of 512 bytes, upon `backing`; `flaw` may spoil a byte.
fn qcow2(backing: &str, flaw: usize) -> Vec<u8> {
    let mut image = vec![0; 2048];
    image[..8].copy_from_slice(b"QFI\xfb\0\0\0\x02");
    if !backing.is_empty() {
        image[8..16].copy_from_slice(&128_u64.to_be_bytes());
        image[16..20].copy_from_slice(&(backing.len() as u32).to_be_bytes());
        image[128..128 + backing.len()].copy_from_slice(backing.as_bytes());
    }
    image[20..24].copy_from_slice(&9_u32.to_be_bytes());
    image[24..32].copy_from_slice(&(64_u64 << 10).to_be_bytes());
    image[36..40].copy_from_slice(&2_u32.to_be_bytes());
    image[40..48].copy_from_slice(&512_u64.to_be_bytes());
    image[48..56].copy_from_slice(&1024_u64.to_be_bytes());
    image[56..60].copy_from_slice(&1_u32.to_be_bytes());
    if flaw >= 128 {
        image[flaw - 120] ^= 0x41;
    }
    image
}

fuzz_target!(|input: &[u8]| {
    let Ok(world) = tempfile::tempdir_in(ferrostore_fuzz::place()) else { return };
    let (datastore, outside) = (world.path().join("all/ds"), world.path().join("outside"));
    if fs::create_dir_all(&datastore).and_then(|()| fs::write(&outside, qcow2("", 0))).is_err() {
        return;
    }
    let mut script = Script(input);
    for _ in 0..40 {
        if script.0.is_empty() {
            break;
        }
        script.step(&datastore);
    }
    let image = datastore.join(IMAGE);
    for format in ["raw", "qcow2"] {
        if let Ok(Some(snapshots)) = Snapshots::read(&image, format, &datastore) {
            ask(&snapshots, &datastore, &outside);
        }
    }
    let mut report = match Report::begin(std::io::sink(), Form::Json, "ds") {
        Ok(report) => report,
        Err(_) => return,
    };
    if let Ok(verdict) = fsck::examine(&datastore, None, &mut |entry| report.entry(entry)) {
        let _ = report.end(&verdict);
    }
});

fn ask(snapshots: &Snapshots, datastore: &Path, outside: &Path) {
    let _ =
        (snapshots.link_to_base(), snapshots.backing_name_for(&snapshots.directory().join("0")));
    let mut files = vec![snapshots.active_file().to_owned()];
    for id in 0..5 {
        if let Ok(paths) = snapshots.removal_of(id) {
            for path in paths {
                assert!(path.starts_with(datastore), "{} would be removed", path.display());
            }
        }
        files.extend(snapshots.file_of(id));
    }
    let secret = fs::metadata(outside).map(|metadata| metadata.ino());
    for file in files {
        let Ok(chain) = open_chain(&file, datastore) else { continue };
        let _ = chain.extents(&mut |extent| {
            if let Content::Data { file, .. } = extent.content {
                let inode = file.metadata().map(|metadata| metadata.ino());
                assert!(inode.ok() != secret.as_ref().ok().copied(), "a file outside is read");
            }
            Ok(())
        });
    }
}
