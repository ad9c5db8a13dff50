//! Sound images, and what is done to them.

use ferrostore_tests::{Cloud, KIB, pattern, run};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Numbers that are the same in every run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(crate) fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// A sound image.
pub(crate) struct Model {
    pub(crate) name: &'static str,
    pub(crate) format: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// Names and `-o` options of the qcow2 images, and whether their clusters are compressed.
const QCOW2: [(&str, &str, bool); 14] = [
    ("v2-512", "compat=0.10,cluster_size=512", false),
    ("v2-64k", "compat=0.10", false),
    ("v2-packed", "compat=0.10,cluster_size=4k", true),
    ("v3-512", "cluster_size=512", false),
    ("v3-4k", "cluster_size=4k", false),
    ("v3-64k", "", false),
    ("v3-1M", "cluster_size=1M", false),
    ("zlib-512", "cluster_size=512", true),
    ("zlib-64k", "", true),
    ("zstd-4k", "cluster_size=4k,compression_type=zstd", true),
    ("zstd-64k", "compression_type=zstd", true),
    ("subclusters", "cluster_size=16k,extended_l2=on", false),
    ("refcounts-1", "cluster_size=4k,refcount_bits=1", false),
    ("refcounts-64", "cluster_size=4k,refcount_bits=64", false),
];

const FOREIGN: [(&str, &str, &str); 6] = [
    ("vmdk", "vmdk", ""),
    ("vmdk-stream", "vmdk", "subformat=streamOptimized"),
    ("vdi", "vdi", ""),
    ("vdi-static", "vdi", "static=on"),
    ("vhdx", "vhdx", "block_size=1M"),
    ("vhd", "vpc", ""),
];

/// Makes all sound images of one family.
pub(crate) fn qcow2_models(cloud: &Cloud) -> Vec<Model> {
    let raw = disk(cloud, 600 * KIB + 512);
    let mut models: Vec<Model> = QCOW2
        .iter()
        .map(|&(name, options, packed)| {
            let path = if packed {
                cloud.compressed_qcow2(&raw, name, options)
            } else {
                cloud.qcow2(&raw, name, options)
            };
            zeros(&path);
            Model { name, format: "qcow2", bytes: fs::read(path).unwrap() }
        })
        .collect();
    let path = cloud.qcow2(&raw, "internal", "cluster_size=4k");
    run("qemu-img", ["snapshot", "-c", "one", path.to_str().unwrap()]);
    models.push(Model { name: "internal", format: "qcow2", bytes: fs::read(path).unwrap() });
    models
}

/// Makes all sound images of the formats that qemu-img converts.
pub(crate) fn foreign_models(cloud: &Cloud) -> Vec<Model> {
    let raw = disk(cloud, 1024 * KIB);
    FOREIGN
        .iter()
        .map(|&(name, format, options)| {
            let path = cloud.converted(&raw, name, format, options);
            Model { name, format, bytes: fs::read(path).unwrap() }
        })
        .collect()
}

/// Text, noise, zeros and holes in small pieces.
fn disk(cloud: &Cloud, size: u64) -> std::path::PathBuf {
    let mut bytes = vec![0; size as usize];
    for (number, piece) in bytes.chunks_mut(24 << 10).enumerate() {
        match number % 4 {
            0 => piece.fill(b'a' + (number % 26) as u8),
            1 => piece.copy_from_slice(&pattern(number as u64, piece.len())),
            2 => piece.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i / 100) as u8),
            _ => {}
        }
    }
    cloud.file(&format!("disk.{size}"), bytes)
}

/// Explicit zero clusters, where the version has them.
fn zeros(path: &Path) {
    let path = path.to_str().unwrap();
    run("qemu-io", ["-f", "qcow2", "-c", "write -q -z 96k 64k", path]);
}

/// A qcow2 image with nothing but a little data of its own upon `backing`, which must be there.
pub(crate) fn overlay(cloud: &Cloud, name: &str, options: &str, backing: &str) -> Vec<u8> {
    let file = cloud.images().join(name);
    let path = file.to_str().unwrap();
    let mut arguments = vec!["create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", backing];
    if !options.is_empty() {
        arguments.extend(["-o", options]);
    }
    run("qemu-img", arguments.into_iter().chain([path, "700k"]));
    for write in ["write -q -P 5 10k 30k", "write -q -P 6 600k 70k"] {
        run("qemu-io", ["-f", "qcow2", "-c", write, path]);
    }
    fs::read(file).unwrap()
}

/// Does something to an image; what it was.
pub(crate) fn mutate(model: &Model, bytes: &mut Vec<u8>, numbers: &mut Numbers) -> String {
    let mut changes = String::new();
    let qcow2 = model.format == "qcow2";
    for _ in 0..=numbers.below(3) {
        match numbers.below(if qcow2 { 10 } else { 4 }) {
            0 => {
                let length = numbers.below(bytes.len());
                // The head stays: without it the file is something else.
                bytes.truncate(length.max(128));
                let _ = write!(changes, "cut to {}; ", bytes.len());
            }
            1 => move_piece(bytes, numbers, &mut changes),
            2 | 3 => flip_bits(bytes, numbers, &mut changes),
            4..=6 => edit_header(bytes, numbers, &mut changes),
            _ => edit_table(bytes, numbers, &mut changes),
        }
    }
    if model.format == "vdi" {
        let mark = 0x40..0x44;
        bytes[mark.clone()].copy_from_slice(&model.bytes[mark]);
    }
    changes
}

/// A byte that is worth changing: not in the mark of the format, and not amid zeros as a rule.
fn place(bytes: &[u8], numbers: &mut Numbers) -> usize {
    let mut place = 8;
    for _ in 0..20 {
        place = 8 + numbers.below(bytes.len() - 8);
        if bytes[place] != 0 {
            break;
        }
    }
    place
}

fn flip_bits(bytes: &mut [u8], numbers: &mut Numbers, changes: &mut String) {
    for _ in 0..=numbers.below(4) {
        let (place, bit) = (place(bytes, numbers), numbers.below(8));
        bytes[place] ^= 1 << bit;
        let _ = write!(changes, "flip bit {bit} of byte {place}; ");
    }
}

fn move_piece(bytes: &mut [u8], numbers: &mut Numbers, changes: &mut String) {
    let length = numbers.one_of(&[8, 16, 64, 512, 4096]).min(bytes.len() / 2);
    let from = numbers.below(bytes.len() - length);
    let to = 8 + numbers.below(bytes.len() - length - 8);
    bytes.copy_within(from..from + length, to);
    let _ = write!(changes, "copy {length} bytes from {from} to {to}; ");
}

/// Values that stand at the edge of something, for a file of `length` bytes.
fn odd_value(length: usize, numbers: &mut Numbers) -> u64 {
    let length = length as u64;
    let edges = [
        0,
        1,
        2,
        8,
        511,
        512,
        4096,
        65536,
        length,
        length - 1,
        length.next_multiple_of(512),
        length / 2 / 512 * 512,
        1 << 31,
        (1 << 32) - 1,
        1 << 40,
        1 << 55,
        1 << 62,
        1 << 63,
        u64::MAX,
    ];
    let value = numbers.one_of(&edges);
    if numbers.below(4) == 0 { value.wrapping_add(numbers.next() % 1024) } else { value }
}

/// Offset and width of the fields of a qcow2 header, in bytes.
const FIELDS: [(usize, usize); 17] = [
    (8, 8),
    (16, 4),
    (20, 4),
    (24, 8),
    (32, 4),
    (36, 4),
    (40, 8),
    (48, 8),
    (56, 4),
    (60, 4),
    (64, 8),
    (72, 8),
    (80, 8),
    (88, 8),
    (96, 4),
    (100, 4),
    (104, 4),
];

fn edit_header(bytes: &mut [u8], numbers: &mut Numbers, changes: &mut String) {
    let (offset, width) = numbers.one_of(&FIELDS);
    let mut value = odd_value(bytes.len(), numbers);
    if numbers.below(2) == 0 {
        // Near what it was.
        let old = &bytes[offset..offset + width];
        let old = old.iter().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
        value = match numbers.below(6) {
            0 => old ^ 1,
            1 => old.wrapping_add(1),
            2 => old.wrapping_sub(1),
            3 => old.wrapping_mul(2),
            4 => old / 2,
            _ => old.wrapping_add(512),
        };
    }
    bytes[offset..offset + width].copy_from_slice(&value.to_be_bytes()[8 - width..]);
    let _ = write!(changes, "header byte {offset} = {value:#x}; ");
}

fn number_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..offset.checked_add(8)?)?.try_into().ok().map(u64::from_be_bytes)
}

/// Changes an entry of the L1 table or of an L2 table.
fn edit_table(bytes: &mut [u8], numbers: &mut Numbers, changes: &mut String) {
    const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
    let Some(l1) = number_at(bytes, 40).map(|offset| offset as usize) else { return };
    let entries = number_at(bytes, 32).unwrap_or(0) as u32 as usize;
    let entry = l1.saturating_add(8 * numbers.below(entries.min(64)));
    let Some(l2) = number_at(bytes, entry).map(|entry| (entry & OFFSET) as usize) else { return };
    let cluster = 1_usize << (bytes[23] & 31).min(21);
    let (table, offset) = if numbers.below(4) == 0 {
        ("L1", entry)
    } else {
        // The disk is small: only the first entries of a table are in use.
        ("L2", l2.saturating_add(8 * numbers.below((cluster / 8).min(160))))
    };
    let Some(old) = number_at(bytes, offset) else { return };
    let other = number_at(bytes, offset.saturating_add(8)).unwrap_or(0);
    let value = match numbers.below(9) {
        0 => old ^ 1,
        1 => old ^ 1 << 62,
        2 => old ^ 1 << 63,
        3 => old ^ 1 << numbers.below(64),
        4 => other,
        5 => old.wrapping_add(cluster as u64),
        6 => old.wrapping_add(512),
        7 => odd_value(bytes.len(), numbers) / cluster as u64 * cluster as u64,
        _ => odd_value(bytes.len(), numbers),
    };
    bytes[offset..offset + 8].copy_from_slice(&value.to_be_bytes());
    let _ = write!(changes, "{table} entry at byte {offset}: {old:#x} to {value:#x}; ");
}
