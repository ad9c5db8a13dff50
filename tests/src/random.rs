//! Random cases for property tests: the same in every run, unless more are asked for.

use crate::{pattern, run};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tries a property on so many cases, or on as many times more as `FERROSTORE_CASES` says: `10`
/// for ten times as many. Each run tries the same ones, and a longer run begins with them.
#[track_caller]
pub fn for_all<S>(cases: u32, strategy: S, property: impl Fn(S::Value))
where
    S: Strategy,
    S::Value: std::fmt::Debug,
{
    let factor = std::env::var("FERROSTORE_CASES")
        .map_or(1, |text| text.parse().expect("FERROSTORE_CASES is a number"));
    let config = Config {
        cases: cases * factor,
        max_shrink_iters: 60,
        failure_persistence: None,
        ..Config::default()
    };
    let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, seed);
    let result = runner.run(&strategy, |case| {
        property(case);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// A raw disk.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its bytes.
    pub length: u64,
    /// What is in it, the later over the earlier, on holes.
    pub extents: Vec<Extent>,
}

/// A part of a raw disk.
#[derive(Clone, Debug)]
pub struct Extent {
    /// Where it starts, modulo the disk's length.
    pub start: u64,
    /// Bytes of it, at most up to the disk's end.
    pub length: u64,
    /// What it holds: allocated zeros, one byte repeated, or noise.
    pub kind: u8,
}

impl Disk {
    /// Writes the disk to `path`.
    pub fn write(&self, path: &Path) -> PathBuf {
        let file = File::create(path).unwrap();
        file.set_len(self.length).unwrap();
        for extent in &self.extents {
            let start = extent.start % self.length;
            let length = extent.length.min(self.length - start) as usize;
            let bytes = match extent.kind % 4 {
                0 => vec![0; length],
                1 => vec![extent.kind; length],
                _ => pattern(u64::from(extent.kind), length),
            };
            file.write_all_at(&bytes, start).unwrap();
        }
        path.to_path_buf()
    }
}

/// How a qcow2 file is laid out, and what qemu-io does to it.
#[derive(Clone, Debug)]
pub struct Shape {
    /// log2 of the bytes of a cluster, 9 to 21.
    pub cluster_bits: u32,
    /// 512-byte sectors of the disk.
    pub sectors: u64,
    /// Version 3 of the format, not 2.
    pub v3: bool,
    /// Compressed clusters are zstd, not zlib (v3 only).
    pub zstd: bool,
    /// Subclusters (v3, clusters of 16 KiB and more).
    pub extended_l2: bool,
    /// log2 of the bits of a refcount (v3 only).
    pub refcount_order: u32,
    /// What is done, in this order.
    pub writes: Vec<Write>,
}

/// One command of qemu-io.
#[derive(Clone, Debug)]
pub struct Write {
    /// What it does.
    pub kind: Kind,
    /// Its first sector, modulo the disk's.
    pub start: u64,
    /// Its sectors, at most up to the disk's end.
    pub sectors: u64,
    /// The byte that it writes.
    pub byte: u8,
}

/// What a command of qemu-io does.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Writes one byte all over.
    Fill,
    /// Writes bytes that don't compress.
    Noise,
    /// Writes a compressed cluster.
    Compress,
    /// Writes a compressed cluster of bytes that hardly compress.
    CompressNoise,
    /// Writes explicit zeros.
    Zero,
    /// Writes explicit zeros and frees the cluster.
    ZeroAndFree,
    /// Discards.
    Discard,
}

impl Shape {
    /// `-o` of qemu-img.
    pub fn options(&self) -> String {
        let cluster = 1_u64 << self.cluster_bits;
        if !self.v3 {
            return format!("compat=0.10,cluster_size={cluster}");
        }
        let mut options = format!(
            "compat=1.1,cluster_size={cluster},refcount_bits={}",
            1_u32 << self.refcount_order
        );
        if self.zstd {
            options += ",compression_type=zstd";
        }
        if self.extended_l2 && self.cluster_bits >= 14 {
            options += ",extended_l2=on";
        }
        options
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.sectors * 512
    }

    /// Makes the file `path`, upon `backing` if there is one; `noise` is a file of bytes that
    /// don't compress.
    pub fn make(&self, path: &Path, backing: Option<&str>, noise: &Path) {
        self.create(path, backing);
        // qemu itself trips over some orders of compressed writes to small clusters, and says so
        // by marking the image as corrupt.
        if !self.fill(path, noise, true) {
            self.create(path, backing);
            assert!(self.fill(path, noise, false), "qemu-io fails on {self:?}");
        }
    }

    fn create(&self, path: &Path, backing: Option<&str>) {
        let mut arguments = vec!["create", "-q", "-u", "-f", "qcow2"];
        let (options, size) = (self.options(), self.size().to_string());
        arguments.extend(["-o", &options]);
        if let Some(backing) = backing {
            arguments.extend(["-F", "qcow2", "-b", backing]);
        }
        arguments.extend([path.to_str().unwrap(), &size]);
        run("qemu-img", arguments);
    }

    /// Does the writes; whether all went well.
    fn fill(&self, path: &Path, noise: &Path, compress: bool) -> bool {
        if self.writes.is_empty() {
            return true;
        }
        let mut command = Command::new("qemu-io");
        command.args(["-f", "qcow2", "-d", "unmap"]);
        let mut used: Vec<Range<u64>> = Vec::new();
        for write in &self.writes {
            let (kind, place) = write.placed(self, &used, compress);
            command.args(["-c", &write.command(kind, &place, noise)]);
            used.push(place);
        }
        command.arg(path).output().expect("qemu-io is installed").status.success()
    }

    fn in_clusters(&self, place: &Range<u64>) -> Range<u64> {
        let cluster = 1 << self.cluster_bits;
        place.start / cluster * cluster..place.end.next_multiple_of(cluster)
    }
}

impl Write {
    /// What is written and where (bytes), given what was written before.
    fn placed(&self, shape: &Shape, used: &[Range<u64>], compress: bool) -> (Kind, Range<u64>) {
        let start = self.start % shape.sectors * 512;
        let place = start..(start + self.sectors * 512).min(shape.size());
        // Whole clusters can be compressed, and only where nothing is yet.
        let clusters = shape.in_clusters(&place);
        let free = used
            .iter()
            .map(|range| shape.in_clusters(range))
            .all(|range| range.end <= clusters.start || clusters.end <= range.start);
        match self.kind {
            Kind::Compress | Kind::CompressNoise if free && compress => {
                (self.kind, clusters.start..clusters.end.min(shape.size()))
            }
            Kind::Compress => (Kind::Fill, place),
            Kind::CompressNoise => (Kind::Noise, place),
            kind => (kind, place),
        }
    }

    fn command(&self, kind: Kind, place: &Range<u64>, noise: &Path) -> String {
        let (start, length) = (place.start, place.end - place.start);
        let (byte, noise) = (self.byte, noise.display());
        match kind {
            Kind::Fill => format!("write -q -P {byte} {start} {length}"),
            Kind::Noise => format!("write -q -s {noise} {start} {length}"),
            Kind::Compress => format!("write -q -c -P {byte} {start} {length}"),
            Kind::CompressNoise => format!("write -q -c -s {noise} {start} {length}"),
            Kind::Zero => format!("write -q -z {start} {length}"),
            Kind::ZeroAndFree => format!("write -q -z -u {start} {length}"),
            Kind::Discard => format!("discard -q {start} {length}"),
        }
    }
}
