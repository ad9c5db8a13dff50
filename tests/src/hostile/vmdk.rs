//! vmdk images whose descriptor, header, tables or grains are not what they should be.

use super::{Corpus, When};
use crate::pattern;
use crate::vmdk::{Made, Vmdk, compressed_grain, zlib};

const SECTOR: usize = 512;
const GRAIN: usize = 64 << 10;
/// Offsets in the header: flags, capacity, size of a grain, entries of a table, grain directory, compression.
const FLAGS: usize = 8;
const CAPACITY: usize = 12;
const GRAIN_SIZE: usize = 20;
const ENTRIES: usize = 44;
const DIRECTORY: usize = 56;
const COMPRESSION: usize = 77;

/// A disk of eight grains, of which the third and the fifth are holes.
pub(super) fn disk() -> Vec<u8> {
    let mut disk = pattern(77, 8 * GRAIN);
    for hole in [2, 4] {
        disk[hole * GRAIN..(hole + 1) * GRAIN].fill(0);
    }
    // Not all of it is noise.
    disk[GRAIN..2 * GRAIN].fill(b'x');
    disk
}

/// The images that those of [`streams`] and the like differ from in one thing.
pub(super) fn healthy() -> Vec<(&'static str, Vec<u8>)> {
    let disk = disk();
    let stream = Vmdk::stream(&disk).grains(128, 4);
    let more = "ddb.comment = \"\u{e9}\"\nchangeTrackPath = \"disk-ctk.vmdk\"\n";
    vec![
        ("stream", stream.make().bytes),
        ("stream-rdonly", stream.clone().version(3).access("RDONLY").make().bytes),
        ("stream-crlf", stream.clone().line_end(" \t\r\n").saying(more).make().bytes),
        ("stream-end", stream.clone().tables_at_the_end().make().bytes),
        ("stream-first", stream.tables_first().make().bytes),
        ("sparse", Vmdk::sparse(&disk).grains(128, 4).make().bytes),
        ("sparse-backwards", Vmdk::sparse(&disk).grains(16, 512).backwards().make().bytes),
    ]
}

/// Adds `made`: `when` says when it must be refused.
#[allow(clippy::needless_pass_by_value)]
fn add(corpus: &mut Corpus, name: &str, when: When, made: Made) {
    corpus.image("vmdk", format!("vmdk {name}"), &made.bytes).when(when);
}

/// Descriptors that one reader could read differently from the next.
pub(super) fn descriptors(corpus: &mut Corpus) {
    let disk = disk();
    for (name, more) in [
        ("a tab before another extent", "\tRW 1024 SPARSE \"other.vmdk\""),
        ("a flat extent between tabs", "RW\t2048\tFLAT\t\"/etc/passwd\"\t0"),
        ("a read-only flat extent", "RDONLY 2048 FLAT \"/etc/passwd\" 0"),
        ("another read-only extent", "RDONLY 1024 SPARSE \"other.vmdk\""),
        ("an extent in small letters", "rdonly 1024 sparse \"other.vmdk\""),
        ("an extent of a data store", "RW 1024 VMFS \"x-flat.vmdk\""),
        ("a sparse extent of a data store", "RW 1024 VMFSSPARSE \"x-delta.vmdk\""),
        ("a raw device", "RW 1024 VMFSRAW \"/dev/sda\""),
        ("a space-efficient extent", "RW 1024 SESPARSE \"x-sesparse.vmdk\""),
        ("a parent between blanks", "parentFileNameHint \t = \t \"/etc/passwd\""),
        ("a parent in a comment behind blanks", "  # ParentFileNameHint=\"/etc/passwd\""),
        ("a native parent", "ddb.nativeParentHint = \"/vmfs/volumes/x\""),
        ("another native parent", "ddb.nativeParentCID = \"12345678\""),
        ("a parent's identity after a tab", "parentCID\t=\tabcdef01"),
        ("a parent's identity in capitals", "PARENTCID=ABCDEF01"),
        ("a second parent's identity", "parentCID=ffffffff"),
        ("a second type after a tab", "\tcreateType\t=\t\"vmfs\""),
        ("a line that says nothing", "RW1024SPARSE"),
        ("an escape", "ddb.x = \"\u{1b}[2J\""),
        ("a carriage return in front of an extent", "ddb.x = \"y\"\rRW 9 FLAT \"/etc/passwd\" 0"),
        ("an unknown version", "version = 77"),
    ] {
        let made = Vmdk::stream(&disk).saying(format!("{more}\n")).make();
        add(corpus, &format!("with {name}"), When::Measured, made);
    }
    for access in
        ["NOACCESS", "rw", "RDWR", "RW RW", "RW -1 RW", "RW 0x400", "RW 18446744073709552640"]
    {
        let made = Vmdk::stream(&disk).access(access).make();
        add(corpus, &format!("with access {access}"), When::Measured, made);
    }
    let wide: Vec<u8> =
        "# Disk DescriptorFile\nversion=1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut made = Vmdk::stream(&disk).make();
    made.bytes[SECTOR..SECTOR + wide.len()].copy_from_slice(&wide);
    add(corpus, "with a descriptor of two bytes each", When::Measured, made);
    let mut made = Vmdk::stream(&disk).make();
    made.bytes[SECTOR] = 0;
    add(corpus, "whose descriptor begins with its end", When::Measured, made);
    let mut made = Vmdk::stream(&disk).make();
    made.bytes[SECTOR..21 * SECTOR].fill(b'#');
    add(corpus, "whose descriptor is a comment without an end", When::Measured, made);
}

/// Headers that contradict themselves, or ask for too much.
pub(super) fn headers(corpus: &mut Corpus) {
    let disk = disk();
    let stream = Vmdk::stream(&disk).grains(128, 4).make();
    let sparse = Vmdk::sparse(&disk).grains(128, 4).make();
    let made: [(&str, Made); 15] = [
        ("of version 0", stream.clone().header32(4, 0)),
        ("of version 4", stream.clone().header32(4, 4)),
        ("of version 4 billion", stream.clone().header32(4, u32::MAX)),
        ("with a flag that must be known", stream.clone().header32(FLAGS, 0x7_0001)),
        ("with all flags", sparse.clone().header32(FLAGS, u32::MAX)),
        ("compressed by its flags only", sparse.clone().header32(FLAGS, 0x3_0001)),
        ("compressed by its algorithm only", sparse.clone().set32(COMPRESSION, 1)),
        ("of an unknown compression", stream.clone().header32(COMPRESSION, 2)),
        ("with compressed grains of 4 MiB", stream.clone().header64(GRAIN_SIZE, 8192)),
        ("with grains of 2 GiB", sparse.clone().header64(GRAIN_SIZE, 1 << 22)),
        ("with grains of 8 ZiB", sparse.clone().header64(GRAIN_SIZE, u64::MAX)),
        ("with tables of no entries", sparse.clone().header32(ENTRIES, 0)),
        ("with tables of 513 entries", sparse.clone().header32(ENTRIES, 513)),
        ("with tables of 4 billion entries", stream.clone().header32(ENTRIES, u32::MAX)),
        ("without grains", stream.clone().header64(GRAIN_SIZE, 0)),
    ];
    for (name, made) in made {
        add(corpus, name, When::Measured, made);
    }
    // The descriptor must say the same, or that were the reason.
    for (name, made) in [("stream", stream), ("file", sparse)] {
        let mut made = made.header64(CAPACITY, 1 << 27);
        let text = String::from_utf8_lossy(&made.bytes[SECTOR..2 * SECTOR]).into_owned();
        let text = text.replace(" 1024 ", " 134217728 ");
        made.bytes[SECTOR..2 * SECTOR].copy_from_slice(&text.as_bytes()[..SECTOR]);
        let name = format!("{name} of 64 GiB with the tables of a small one");
        add(corpus, &name, When::Registered, made);
    }
}

/// Tables that lead elsewhere.
pub(super) fn tables(corpus: &mut Corpus) {
    let disk = disk();
    let kinds = [
        ("stream", Vmdk::stream(&disk).grains(128, 4)),
        (
            "stream with its tables at its end",
            Vmdk::stream(&disk).grains(128, 4).tables_at_the_end(),
        ),
        ("stream with its tables first", Vmdk::stream(&disk).grains(128, 4).tables_first()),
        ("file", Vmdk::sparse(&disk).grains(128, 4)),
    ];
    for (kind, image) in kinds {
        let made = image.make();
        let sector = |offset: usize| (offset / SECTOR) as u32;
        let end = sector(made.bytes.len());
        for (name, place) in [
            ("behind its end", end + 9),
            ("2 TiB away", u32::MAX),
            ("in its header", 1),
            ("in its descriptor", 20),
            ("in its directory", sector(made.directory)),
            ("in another table", sector(made.tables[1])),
        ] {
            let table = made.clone().set32(made.directory, place);
            add(corpus, &format!("{kind} with a table {name}"), When::Registered, table);
            let grain = made.clone().set32(made.tables[0], place);
            add(corpus, &format!("{kind} with a grain {name}"), When::Registered, grain);
        }
        let mut same = made.clone();
        for entry in 0..4 {
            same = same.set32(made.tables[0] + entry * 4, sector(made.grains[0]));
            same = same.set32(made.tables[1] + entry * 4, sector(made.grains[0]));
        }
        let when = if kind == "file" { When::Registered } else { When::MadeRaw };
        add(corpus, &format!("{kind} with one grain everywhere"), when, same);
        let length = made.grains[made.grains.len() - 1] + 100;
        let mut cut = made.clone();
        cut.bytes.truncate(length);
        let when =
            if kind == "stream with its tables first" { When::MadeRaw } else { When::Registered };
        add(corpus, &format!("{kind} cut off in its last grain"), when, cut);
    }
}

/// Grains that are not what their table, or their marker, says.
pub(super) fn grains(corpus: &mut Corpus) {
    let disk = disk();
    for (kind, image) in [
        ("stream", Vmdk::stream(&disk).grains(128, 4)),
        ("stream with its tables first", Vmdk::stream(&disk).grains(128, 4).tables_first()),
    ] {
        let made = image.make();
        let (first, second) = (made.grains[0], made.grains[1]);
        let mut add = |name: &str, made: Made| {
            add(corpus, &format!("{kind} whose first grain {name}"), When::MadeRaw, made);
        };
        for (name, sector) in [
            ("is for another place", 256),
            ("is for no place", 1 << 40),
            ("is for part of one", 64),
        ] {
            add(name, made.clone().set64(first, sector));
        }
        for (name, length) in
            [("has no length", 0), ("has 4 GiB", u32::MAX), ("has too much", 140_000)]
        {
            add(name, made.clone().set32(first + 8, length));
        }
        add("lacks its end", made.clone().set32(first + 8, 60_000));
        for (name, offset, value) in [
            ("is of another method", 0, 0x77),
            ("needs a dictionary", 1, 0xbb),
            ("is damaged", 5000, 0x5a),
        ] {
            let mut damaged = made.clone();
            damaged.bytes[first + 12 + offset] ^= value;
            add(name, damaged);
        }
        // The second grain holds one byte again and again, and there is space behind it for a little more.
        let mut replace = |name: &str, data: &[u8]| {
            let grain = compressed_grain(128, data);
            assert!(grain.len() <= SECTOR, "{name}");
            let mut other = made.clone();
            other.bytes[second..second + grain.len()].copy_from_slice(&grain);
            add(name, other);
        };
        replace("is followed by one that is too short", &zlib(&vec![b'x'; GRAIN - 1]));
        replace("is followed by one that is too long", &zlib(&vec![b'x'; GRAIN + 1]));
        replace("is followed by one of 256 KiB", &zlib(&vec![b'x'; 4 * GRAIN]));
        replace("is followed by nothing", &zlib(&[]));
        let mut sum = zlib(&vec![b'x'; GRAIN]);
        *sum.last_mut().expect("a checksum") ^= 1;
        replace("is followed by one with another checksum", &sum);
        replace(
            "is followed by one without its checksum",
            &zlib(&vec![b'x'; GRAIN])[..sum.len() - 4],
        );
        replace("is followed by one without a head", &zlib(&vec![b'x'; GRAIN])[2..]);
    }
    let plain = Vmdk::stream(&disk).grains(128, 4).make().header32(FLAGS, 0x1_0001);
    add(corpus, "stream without markers", When::MadeRaw, plain);
}

/// Ends of streams that are none.
pub(super) fn footers(corpus: &mut Corpus) {
    let disk = disk();
    let made = Vmdk::stream(&disk).grains(128, 4).make();
    let mut add = |name: &str, made: Made| {
        add(corpus, &format!("stream {name}"), When::Registered, made);
    };
    for (name, place) in [
        ("at its end again", u64::MAX),
        ("in its header", 0),
        ("in its descriptor", 2),
        ("far behind its end", 1 << 40),
    ] {
        add(
            &format!("whose footer says that its directory is {name}"),
            made.clone().set64(made.footer + DIRECTORY, place),
        );
    }
    for (name, offset, number) in [
        ("version", 4, 9),
        ("flags", FLAGS, 1),
        ("size", CAPACITY, 2048),
        ("size of grains", GRAIN_SIZE, 64),
        ("size of tables", ENTRIES, 8),
        ("compression", COMPRESSION, 0),
        ("magic", 0, 0),
    ] {
        add(
            &format!("whose footer has another {name}"),
            made.clone().set32(made.footer + offset, number),
        );
    }
    add("whose footer has no marker", made.clone().set32(made.footer - SECTOR + 12, 0));
    add("whose footer has a length", made.clone().set32(made.footer - SECTOR + 8, 512));
    add("that goes on behind its end", made.clone().set32(made.footer + SECTOR + 12, 1));
    let mut longer = made.clone();
    longer.bytes.extend([0; SECTOR]);
    add("with a sector behind its end", longer);
    let mut shorter = made.clone();
    shorter.bytes.truncate(made.footer + SECTOR);
    add("without the mark of its end", shorter);
}
