//! Whatever a disk holds, it holds the same after it was written, and `qemu-img` and `qemu-io` agree.
//!
//! Every run tries the same cases; `DISK_IMAGE_CASES=10` tries ten times as many.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use disk_image::qcow2::{Chain, Layer, overlay};
use disk_image::raw::RawDisk;
use disk_image::target::Target;
use disk_image::{Disk, convert, stream};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Sectors of the largest disk, 512 bytes each: several tables of small clusters.
const SECTORS: u64 = 4096;
const SECTOR: u64 = 512;

/// A part of a disk that is written: its first byte (modulo the size), its length, and the byte it is filled with.
type Write = (u64, u64, u8);

fn writes(most: u64) -> impl Strategy<Value = Vec<Write>> {
    prop::collection::vec((0..SECTORS * SECTOR, 1..most, any::<u8>()), 0..10)
}

/// Tries a property on so many cases.
fn for_all<S: Strategy>(cases: u32, strategy: &S, property: impl Fn(S::Value)) {
    let factor = std::env::var("DISK_IMAGE_CASES").map_or(1, |text| text.parse().unwrap());
    let config = Config {
        cases: cases * factor,
        max_shrink_iters: 60,
        failure_persistence: None,
        ..Config::default()
    };
    let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let result = TestRunner::new_with_rng(config, seed).run(strategy, |case| {
        property(case);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// Where a write lies on a disk of `size` bytes.
fn place(write: Write, size: u64) -> Range<usize> {
    let start = write.0 % size;
    start as usize..(start + write.1).min(size) as usize
}

fn content(size: u64, writes: &[Write]) -> Vec<u8> {
    let mut bytes = vec![0; size as usize];
    for &write in writes {
        bytes[place(write, size)].fill(write.2);
    }
    bytes
}

fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) {
    let output = Command::new(program).args(arguments).output().expect("qemu-utils is installed");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An empty file that can be read too.
fn created(path: &Path) -> File {
    File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap()
}

/// The disk's bytes; checks that its extents leave no gap and don't overlap.
fn bytes_of(disk: &dyn Disk) -> Vec<u8> {
    let mut position = 0;
    disk.extents(&mut |extent| {
        assert_eq!(extent.start, position, "extents leave no gap and don't overlap");
        position += extent.length;
        Ok(())
    })
    .unwrap();
    assert_eq!(position, disk.virtual_size(), "extents cover the disk");
    let file = tempfile::tempfile().unwrap();
    convert(disk, Target::raw(&file, true)).unwrap();
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[track_caller]
fn same(disk: &[u8], expected: &[u8]) {
    assert_eq!(disk.len(), expected.len(), "bytes of the disk");
    let differs = disk.iter().zip(expected).position(|(one, other)| one != other);
    assert_eq!(differs, None, "the first byte that differs");
}

/// Checks the qcow2 image at `path` by its own reader and by qemu-img; it must hold `expected`, up to a whole sector.
#[track_caller]
fn holds(path: &Path, mut expected: Vec<u8>) {
    expected.resize(expected.len().next_multiple_of(SECTOR as usize), 0);
    let layer = Layer::open(File::open(path).unwrap()).unwrap();
    layer.verify().unwrap();
    same(&bytes_of(&Chain::new(vec![layer], None)), &expected);
    let raw = path.with_extension("expected");
    fs::write(&raw, expected).unwrap();
    run("qemu-img", ["check".as_ref(), "-q".as_ref(), path.as_os_str()]);
    let compare = ["compare", "-q", "-f", "qcow2", "-F", "raw"].map(OsStr::new);
    run("qemu-img", compare.into_iter().chain([path.as_os_str(), raw.as_os_str()]));
}

#[test]
fn a_raw_disk_becomes_qcow2_and_stays_the_same() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("image");
    let cases = (1..SECTORS * SECTOR, writes(200_000));
    for_all(48, &cases, |(size, writes)| {
        let raw = tempfile::tempfile().unwrap();
        raw.set_len(size).unwrap();
        for &write in &writes {
            let place = place(write, size);
            raw.write_all_at(&vec![write.2; place.len()], place.start as u64).unwrap();
        }
        convert(&RawDisk::open(raw).unwrap(), Target::qcow2(&created(&path))).unwrap();
        holds(&path, content(size, &writes));
    });
}

#[test]
fn a_stream_becomes_raw_and_qcow2_and_stays_the_same() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("image");
    let cases = (1..SECTORS * SECTOR, writes(200_000));
    for_all(32, &cases, |(size, writes)| {
        let bytes = content(size, &writes);
        let raw = tempfile::tempfile().unwrap();
        let length = stream::write(&mut &bytes[..], Target::raw(&raw, true), None).unwrap();
        assert_eq!(length, size);
        same(&bytes_of(&RawDisk::open(raw).unwrap()), &bytes);
        stream::write(&mut &bytes[..], Target::qcow2(&created(&path)), None).unwrap();
        holds(&path, bytes);
    });
}

/// What qemu-io writes over a raw base, into an overlay of ours or into qemu's own of any cluster size.
#[test]
fn a_chain_that_qemu_has_written_to_reads_as_qemu_wrote_it() {
    let directory = TempDir::new().unwrap();
    let (base, top) = (directory.path().join("base"), directory.path().join("top"));
    let sectors = 1..SECTORS;
    let cases = (sectors.clone(), sectors, writes(200_000), writes(200_000), 8..=21_u32);
    for_all(24, &cases, |(below, above, lower, upper, cluster_bits)| {
        let (below, above) = (below * SECTOR, above * SECTOR);
        let mut expected = content(below, &lower);
        fs::write(&base, &expected).unwrap();
        if cluster_bits < 9 {
            overlay(&created(&top), above, b"base", "raw").unwrap();
        } else {
            let size = above.to_string();
            let options = format!("cluster_size={}", 1_u64 << cluster_bits);
            let create = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base", "-o", &options];
            let create = create.map(OsStr::new).into_iter();
            run("qemu-img", create.chain([top.as_os_str(), OsStr::new(&size)]));
        }
        expected.resize(above as usize, 0);
        let mut commands = vec!["-f".to_owned(), "qcow2".to_owned()];
        for &write in &upper {
            let place = place(write, above);
            expected[place.clone()].fill(write.2);
            commands.push("-c".to_owned());
            commands.push(format!("write -q -P {} {} {}", write.2, place.start, place.len()));
        }
        if !upper.is_empty() {
            let commands = commands.iter().map(OsStr::new);
            run("qemu-io", commands.chain([top.as_os_str()]));
        }
        let layer = Layer::open(File::open(&top).unwrap()).unwrap();
        layer.verify().unwrap();
        let raw = RawDisk::open(File::open(&base).unwrap()).unwrap();
        same(&bytes_of(&Chain::new(vec![layer], Some(raw))), &expected);
    });
}
