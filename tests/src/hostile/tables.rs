//! qcow2 images with tables that must not be followed.

use super::layout::{
    COMPRESSED, COPIED, DATA, Image, L1, L2, REFCOUNT_BLOCK, REFCOUNT_TABLE, SPARE,
};
use super::{Corpus, When};

const BITMAPS: u32 = 0x2385_2875;
/// Fields of the header.
const INCOMPATIBLE: u64 = 72;
const AUTOCLEAR: u64 = 88;
const EXTENDED_L2: u64 = 1 << 4;
/// Clusters that [`Image::healthy`] does not have.
const SNAPSHOT_TABLE: u64 = 8;
const SNAPSHOT_L1: u64 = 9;
const BITMAP_DIRECTORY: u64 = 8;
const BITMAP_TABLE: u64 = 9;

fn healthy() -> Image {
    Image::healthy(3, 12)
}

/// L1 and L2 tables and reference counts that point where they must not.
pub(super) fn tables(corpus: &mut Corpus) {
    let places = [
        ("outside the file", 1 << 40),
        ("at the end of the address space", 0x00ff_ffff_ffff_f000),
        ("between clusters", 0x4200),
        ("in the refcount table", REFCOUNT_TABLE << 12),
        ("in a block of reference counts", REFCOUNT_BLOCK << 12),
    ];
    for (name, offset) in places.into_iter().chain([
        ("in the header", 0),
        ("beyond all files", u64::MAX << 12),
        ("in an L2 table", L2 << 12),
        ("in the data", DATA << 12),
    ]) {
        let mut image = healthy();
        image.put64(40, offset);
        // Whatever stands there now says that all of the disk is a hole, but for the data.
        corpus.image("qcow2", format!("L1 table {name}"), &image.bytes).when(When::Registered);
    }
    for (name, offset) in places.into_iter().chain([("in the L1 table", L1 << 12)]) {
        let mut image = healthy();
        image.put64(image.at(L1), offset | COPIED);
        corpus.image("qcow2", format!("L2 table {name}"), &image.bytes).when(When::Registered);
        let mut image = healthy();
        image.put64(image.at(L2) + 8, offset | COPIED);
        corpus.image("qcow2", format!("data {name}"), &image.bytes).when(When::Registered);
    }
    let mut image = healthy();
    image.put64(image.at(L2), (L2 << 12) | COPIED);
    corpus.image("qcow2", "data in its own L2 table", &image.bytes).when(When::Registered);

    let mut image = healthy();
    image.put32(36, 2).put64((L1 << 12) + 8, (L2 << 12) | COPIED);
    corpus.image("qcow2", "an L2 table twice", &image.bytes).when(When::Registered);
    let mut image = healthy();
    image.put64(24, 512 << 12);
    for entry in 3..512 {
        image.put64(image.at(L2) + entry * 8, (SPARE << 12) | COPIED);
    }
    corpus.image("qcow2", "a cluster many times", &image.bytes).when(When::Registered);
    let mut image = healthy();
    image.put64(image.at(L2), 0x5200 | 1);
    corpus.image("qcow2", "a zero cluster between clusters", &image.bytes).when(When::Registered);
    let mut image = Image::healthy(2, 12);
    image.put64(image.at(L2), (DATA << 12) | COPIED | 1);
    corpus.image("qcow2", "a zero cluster in version 2", &image.bytes).when(When::Registered);
    for (name, offset, sectors) in [
        ("outside the file", 1 << 40, 0),
        ("across the end of the file", (SPARE << 12) + 4000, 15),
        ("in the header", 100, 0),
        ("in the L1 table", L1 << 12, 0),
        ("in its own L2 table", L2 << 12, 1),
    ] {
        let mut image = healthy();
        // Offsets take 62 - (12 - 8) bits.
        image.put64(image.at(L2), COMPRESSED | sectors << 58 | offset);
        if sectors == 15 {
            image.cut((SPARE << 12) + 4001 - 4096);
        }
        let title = format!("a compressed cluster {name}");
        corpus.image("qcow2", title, &image.bytes).when(When::Registered);
    }
    refcounts(corpus);
    extended(corpus);
}

fn refcounts(corpus: &mut Corpus) {
    for (name, offset, clusters) in [
        ("in the header", 0, 1),
        ("between clusters", 0x1200, 1),
        ("outside the file", 1 << 40, 1),
        ("beyond all files", u64::MAX << 12, 1),
        ("of no length", 0x1000, 0),
        ("of 4 billion clusters", 0x1000, u32::MAX),
        ("of 16 MiB", 0x1000, 4096),
        ("longer than the file", 0x1000, 100),
        ("in the L1 table", L1 << 12, 1),
        ("across other tables", 0x1000, 4),
    ] {
        let mut image = healthy();
        image.put64(48, offset).put32(56, clusters);
        corpus
            .image("qcow2", format!("refcount table {name}"), &image.bytes)
            .when(When::Registered);
    }
    for (name, entry) in [
        ("outside the file", 1 << 40),
        ("between clusters", 0x2200),
        ("in the refcount table", REFCOUNT_TABLE << 12),
        ("in the L1 table", L1 << 12),
        ("in an L2 table", L2 << 12),
        ("at the end of the address space", u64::MAX << 12),
    ] {
        let mut image = healthy();
        image.put64(image.at(REFCOUNT_TABLE), entry);
        let title = format!("a block of reference counts {name}");
        corpus.image("qcow2", title, &image.bytes).when(When::Registered);
    }
    let mut image = healthy();
    image.put64(image.at(REFCOUNT_TABLE) + 8, REFCOUNT_BLOCK << 12);
    corpus.image("qcow2", "a block of reference counts twice", &image.bytes).when(When::Registered);
}

/// A disk of one cluster with extended L2 entries: half of it data, half of it zero.
pub(super) fn subclusters() -> Image {
    let mut image = Image::healthy(3, 14);
    image.put64(INCOMPATIBLE, EXTENDED_L2).put64(24, 1 << 14);
    let entry = image.at(L2);
    image.put64(entry, image.at(DATA) | COPIED).put64(entry + 8, 0xffff_0000_0000_ffff);
    for rest in 2..6 {
        image.put64(entry + rest * 8, 0);
    }
    image
}

fn extended(corpus: &mut Corpus) {
    let mut image = healthy();
    image.put64(INCOMPATIBLE, EXTENDED_L2);
    corpus.image("qcow2", "subclusters of 128 bytes", &image.bytes);
    for (name, cluster, bitmap) in [
        ("both zero and allocated", Some(DATA), 0x0000_0001_0000_0001),
        ("allocated nowhere", None, 1),
        ("outside the file", Some(1 << 30), 1),
    ] {
        let mut image = subclusters();
        let place = cluster.map_or(0, |cluster| image.at(cluster) | COPIED);
        let entry = image.at(L2);
        image.put64(entry, place).put64(entry + 8, bitmap);
        corpus.image("qcow2", format!("subclusters {name}"), &image.bytes).when(When::Registered);
    }
    let mut image = subclusters();
    image.put64(image.at(L2), COMPRESSED | image.at(DATA));
    corpus
        .image("qcow2", "a compressed cluster with subclusters", &image.bytes)
        .when(When::Registered);
}

/// An image with a snapshot inside.
pub(super) fn with_snapshot() -> Image {
    let mut image = healthy();
    let (table, l1) = (image.at(SNAPSHOT_TABLE), image.at(SNAPSHOT_L1));
    image.put(image.at(SNAPSHOT_L1 + 1) - 1, &[0]);
    image.put32(60, 1).put64(64, table);
    image.put64(table, l1).put32(table + 8, 1);
    // A name of one byte, an identity of one byte, 16 bytes of extra data: the disk's size.
    image.put(table + 12, &[0, 1, 0, 1]).put32(table + 36, 16);
    image.put64(table + 48, 16 << 12).put(table + 56, b"1a");
    let l2 = image.at(L2);
    image.put64(l1, l2).put64(L1 << 12, l2);
    // The snapshot shares the L2 table and the data.
    for entry in 0..3 {
        image.put64(l2 + entry * 8, (DATA + entry) << 12);
    }
    for cluster in L2..=SPARE {
        image.put(image.at(REFCOUNT_BLOCK) + cluster * 2, &[0, 2]);
    }
    for cluster in [SNAPSHOT_TABLE, SNAPSHOT_L1] {
        image.put(image.at(REFCOUNT_BLOCK) + cluster * 2, &[0, 1]);
    }
    image
}

/// An image with a bitmap inside.
pub(super) fn with_bitmap() -> Image {
    let mut image = healthy();
    let (directory, table) = (image.at(BITMAP_DIRECTORY), image.at(BITMAP_TABLE));
    image.put(image.at(BITMAP_TABLE + 1) - 1, &[0]);
    let mut place = [0; 24];
    place[3] = 1;
    place[8..16].copy_from_slice(&32_u64.to_be_bytes());
    place[16..].copy_from_slice(&directory.to_be_bytes());
    image.put64(AUTOCLEAR, 1).extend(&[(BITMAPS, &place)]);
    image.put64(directory, table).put32(directory + 8, 1);
    // Dirty tracking, granularity of 64 KiB, a name of one byte.
    image.put(directory + 16, &[1, 16, 0, 1]).put(directory + 24, b"b");
    for cluster in [BITMAP_DIRECTORY, BITMAP_TABLE] {
        image.put(image.at(REFCOUNT_BLOCK) + cluster * 2, &[0, 1]);
    }
    image
}

/// Internal snapshots and bitmaps that lead elsewhere.
pub(super) fn snapshots(corpus: &mut Corpus) {
    for (name, count, offset) in [
        ("beyond the limit", 65_537, SNAPSHOT_TABLE << 12),
        ("by the billion", u32::MAX, SNAPSHOT_TABLE << 12),
        ("between clusters", 1, 0x8100),
        ("outside the file", 1, 1 << 40),
        ("beyond all files", 1, u64::MAX << 12),
        ("in the header", 1, 0),
        ("in an L2 table", 1, L2 << 12),
        ("without an end", 60_000, SNAPSHOT_TABLE << 12),
    ] {
        let mut image = with_snapshot();
        image.put32(60, count).put64(64, offset);
        corpus.image("qcow2", format!("snapshots {name}"), &image.bytes).when(When::Registered);
    }
    for (name, field, value) in [
        ("outside the file", 0, 1 << 40),
        ("between clusters", 0, 0x9100),
        ("in the header", 0, 0),
        ("in the L1 table of the disk", 0, L1 << 12),
        ("beyond all files", 0, u64::MAX << 12),
    ] {
        let mut image = with_snapshot();
        image.put64(image.at(SNAPSHOT_TABLE) + field, value);
        let title = format!("L1 table of a snapshot {name}");
        corpus.image("qcow2", title, &image.bytes).when(When::Registered);
    }
    for (name, field, value) in
        [("an L1 table of 32 GiB", 8, u32::MAX), ("4 GiB of extra data", 36, u32::MAX)]
    {
        let mut image = with_snapshot();
        image.put32(image.at(SNAPSHOT_TABLE) + field, value);
        corpus
            .image("qcow2", format!("a snapshot with {name}"), &image.bytes)
            .when(When::Registered);
    }
    let mut image = with_snapshot();
    image.put64(image.at(SNAPSHOT_L1), 1 << 40);
    corpus
        .image("qcow2", "L2 table of a snapshot outside the file", &image.bytes)
        .when(When::Registered);

    for (name, at, value) in [
        ("a directory outside the file", 104 + 8 + 16, 1 << 40),
        ("a directory in the header", 104 + 8 + 16, 0),
        ("a directory of 16 EiB", 104 + 8 + 8, u64::MAX),
        ("a table outside the file", BITMAP_DIRECTORY << 12, 1 << 40),
        ("a table in the L1 table", BITMAP_DIRECTORY << 12, L1 << 12),
        ("a cluster outside the file", BITMAP_TABLE << 12, 1 << 40),
    ] {
        let mut image = with_bitmap();
        image.put64(at, value);
        corpus.image("qcow2", format!("bitmap with {name}"), &image.bytes).when(When::Registered);
    }
}

/// Images that end too early.
pub(super) fn truncated(corpus: &mut Corpus) {
    const LENGTHS: [u64; 13] =
        [8, 20, 48, 71, 100, 512, 0x1000, 0x1100, 0x2000, 0x3000, 0x4000, 0x5000, 0x7000];
    for (version, header) in [(2, 72), (3, 104)] {
        for length in LENGTHS {
            let mut image = Image::healthy(version, 12);
            image.cut(length);
            let name = format!("version {version}, first {length} bytes");
            let hostile = corpus.image("qcow2", name, &image.bytes);
            if length >= header {
                hostile.when(When::Registered);
            }
        }
    }
}
