//! Images of other hypervisors that read other files, and formats that no driver converts.

use super::{Corpus, When};
use crate::run;
use std::fs;

fn put(bytes: &mut [u8], offset: usize, content: &[u8]) {
    bytes[offset..offset + content.len()].copy_from_slice(content);
}

/// Formats that no driver converts, and parts of images.
pub(super) fn unwanted(corpus: &mut Corpus) {
    let padded = |start: &[u8], length: usize| {
        let mut bytes = start.to_vec();
        bytes.resize(length, 0);
        bytes
    };
    for (name, start) in [
        ("qed", &b"QED\0\0\0\x01\0\x04\0\0\0\x01\0\0\0"[..]),
        ("parallels", b"WithoutFreeSpace\x02\0\0\0"),
        ("parallels 2", b"WithouFreSpacExt\x02\0\0\0"),
        ("bochs", b"Bochs Virtual HD Image\0\0\0\0\0\0\0\0\0\0Redolog"),
        ("cloop", b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n"),
        ("qcow 1", b"QFI\xfb\0\0\0\x01\0\0\0\0\0\0\0\0"),
        ("qcow 1 with a backing file", b"QFI\xfb\0\0\0\x01\0\0\0\0\0\0\0\x30\0\0\0\x0b"),
        ("ESX sparse", b"COWD\x01\0\0\0\x03\0\0\0"),
        ("ESX space-efficient sparse", b"\xbe\xba\xfe\xca\0\0\0\0\x01\0\0\0\x02\0\0\0"),
        ("sparse dmg", b"sprs\0\0\0\x03"),
        ("EWF", b"EVF\t\r\n\xff\0\x01\x01\0"),
        ("EWF 2", b"EVF2\r\n\x81\0\x02\x01"),
        ("LUKS 3", b"LUKS\xba\xbe\0\x03"),
        ("LUKS 0", b"LUKS\xba\xbe\0\0"),
    ] {
        corpus.add(name, &padded(start, 8192));
    }
    for (name, text) in [
        ("page", "<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"),
        ("page without a head", "\r\n<HTML>"),
        ("document", "<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code></Error>"),
        ("document without a head", "<Error><Code>AccessDenied</Code></Error>"),
        ("object", "{\"message\": \"Not Found\"}"),
        ("list", "[{\"id\": 7}]\n"),
    ] {
        corpus.add(format!("a {name}"), text.as_bytes());
        corpus.add(format!("a long {name}"), (text.to_owned() + &"x ".repeat(9000)).as_bytes());
    }
    corpus.add("LUKS cut off", b"LUKS\xba\xbe\0\x01aes");
    for (name, start) in [
        ("dmg", &b"koly\0\0\0\x04\0\0\x02\0\0\0\0\x01"[..]),
        ("dmg with data", b"koly\0\0\0\x04\0\0\x02\0\0\0\0\x03\0\0\0\0\0\0\0\x80"),
    ] {
        let bytes = [vec![7; 9000], padded(start, 512)].concat();
        // Its only mark is at its end.
        corpus.add(name, &bytes).when(When::Registered);
    }
    for (name, text) in [
        ("with its first line", "# Disk DescriptorFile\nversion=1\n"),
        ("without its first line", "version=1\nCID=1\n"),
        ("behind comments", "# a\n#b\n\n# c\nversion=1\n"),
        ("behind blanks", " \n\t\r\n version=1\r\n"),
        ("of version 3", "version=3\n"),
        ("of a chain", "# Disk DescriptorFile\nversion=1\nparentFileNameHint=\"/etc/passwd\"\n"),
    ] {
        for (kind, extent) in [
            ("FLAT", "RW 2048 FLAT \"/etc/passwd\" 0"),
            ("SPARSE", "RW 2048 SPARSE \"/var/lib/one/x.vmdk\""),
        ] {
            let text = format!("{text}parentCID=ffffffff\ncreateType=\"custom\"\n{extent}\n");
            corpus.add(format!("descriptor {name}, {kind}"), text.as_bytes());
        }
    }
}

const DESCRIPTOR: usize = 512;
const DESCRIPTOR_LENGTH: usize = 20 * 512;
const CAPACITY: u64 = 256;
const GRAIN: u64 = 128;
const GRAIN_DIRECTORY: u64 = 56;
const EXTENT: &str = "RW 256 SPARSE \"disk.vmdk\"";

fn descriptor(more: &str) -> String {
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n\
         createType=\"monolithicSparse\"\n\n# Extent description\n{EXTENT}\n\n\
         #DDB\nddb.adapterType = \"ide\"\n{more}"
    )
}

/// A disk of two grains, of which the first holds data.
pub(super) fn healthy_vmdk(more: &str) -> Vec<u8> {
    let mut bytes = vec![0; (2 * GRAIN * 512) as usize];
    put(&mut bytes, 0, b"KDMV\x01\0\0\0\x03\0\0\0");
    for (offset, number) in
        [(12, CAPACITY), (20, GRAIN), (28, 1), (36, 20), (48, 21), (56, 26), (64, GRAIN)]
    {
        put(&mut bytes, offset, &number.to_le_bytes());
    }
    put(&mut bytes, 44, &512_u32.to_le_bytes());
    put(&mut bytes, 73, b"\n \r\n");
    put(&mut bytes, DESCRIPTOR, descriptor(more).as_bytes());
    for directory in [21_u32, 26] {
        let at = directory as usize * 512;
        put(&mut bytes, at, &(directory + 1).to_le_bytes());
        put(&mut bytes, at + 512, &(GRAIN as u32).to_le_bytes());
    }
    bytes[(GRAIN * 512) as usize..].fill(9);
    bytes
}

/// The same with its grain directory described at its end.
pub(super) fn vmdk_with_footer() -> Vec<u8> {
    let mut bytes = healthy_vmdk("");
    let mut footer = bytes[..512].to_vec();
    put(&mut bytes, GRAIN_DIRECTORY as usize, &u64::MAX.to_le_bytes());
    let mut marker = vec![0; 512];
    marker[12] = 3;
    footer = [marker, footer, vec![0; 512]].concat();
    [bytes, footer].concat()
}

/// vmdk images that are not alone.
pub(super) fn vmdk(corpus: &mut Corpus) {
    let mut add = |name: &str, bytes: &[u8]| {
        corpus.image("vmdk", format!("vmdk {name}"), bytes).when(When::Measured);
    };
    for (name, line) in [
        ("with the name of a parent", "parentFileNameHint=\"/etc/passwd\"\n"),
        ("with a parent in a comment", "#parentFileNameHint=\"/etc/passwd\"\n"),
        ("with a parent in capitals", "PARENTFILENAMEHINT=\"/etc/passwd\"\n"),
        ("with another parent's identity", "parentCID=12345678\n"),
        ("with a second extent", "RW 256 SPARSE \"other.vmdk\"\n"),
        ("with a flat extent", "RW 2048 FLAT \"/etc/passwd\" 0\n"),
        ("with a device", "RW 2048 VMFSRDM \"/dev/sda\"\n"),
        ("with a read-only extent", "RDONLY 256 SPARSE \"other.vmdk\"\n"),
        ("with a zero extent", "RW 256 ZERO\n"),
        ("with no access", "NOACCESS 256 SPARSE \"x\"\n"),
        ("with a second type", "createType=\"monolithicFlat\"\n"),
        ("with a control character", "ddb.x = \"\x01\"\n"),
        ("with an indented extent", " RW 256 SPARSE \"other.vmdk\"\n"),
    ] {
        add(name, &healthy_vmdk(line));
    }
    for (name, from, to) in [
        ("whose extent is another file", EXTENT, "RW 256 FLAT \"/etc/shadow\""),
        ("of another length", EXTENT, "RW 999 SPARSE \"disk.vmdk\""),
        ("of type monolithicFlat", "monolithicSparse", "monolithicFlat\"\n#"),
        ("of type vmfsSparse", "monolithicSparse", "vmfsSparse\"\n#    "),
        ("of type seSparse", "monolithicSparse", "seSparse\"\n#      "),
        ("of type fullDevice", "monolithicSparse", "fullDevice\"\n#    "),
        ("with a parent by identity", "parentCID=ffffffff", "parentCID=12345678"),
        ("without an extent", EXTENT, ""),
        ("without a type", "createType", "c"),
    ] {
        let mut bytes = healthy_vmdk("");
        let text = descriptor("").replace(from, to);
        bytes[DESCRIPTOR..DESCRIPTOR + DESCRIPTOR_LENGTH].fill(0);
        put(&mut bytes, DESCRIPTOR, text.as_bytes());
        add(name, &bytes);
    }
    for (name, offset, number) in [
        ("without a descriptor", 28, 0),
        ("with its descriptor in sector 30", 28, 30),
        ("with its descriptor far away", 28, u64::MAX),
        ("with a descriptor of no length", 36, 0),
        ("with a descriptor of 16 EiB", 36, u64::MAX),
        ("without a capacity", 12, 0),
        ("of 8 ZiB", 12, u64::MAX),
        ("of 128 TiB", 12, 1 << 38),
        ("with grains of no size", 20, 0),
    ] {
        let mut bytes = healthy_vmdk("");
        put(&mut bytes, offset, &number.to_le_bytes());
        if name.contains("sector 30") {
            // One reader looks here, the next one where a descriptor usually is.
            put(&mut bytes, 30 * 512, descriptor("").as_bytes());
            put(
                &mut bytes,
                DESCRIPTOR,
                descriptor("parentFileNameHint=\"/etc/passwd\"\n").as_bytes(),
            );
        }
        add(name, &bytes);
    }
    let mut bytes = healthy_vmdk("");
    // Behind the end of the text, where a reader that takes lines and not strings goes on.
    put(&mut bytes, DESCRIPTOR + 4096, b"parentFileNameHint=\"/etc/passwd\"\n");
    add("with a parent behind the end of its descriptor", &bytes);

    let mut later = |name: &str, bytes: &[u8]| {
        corpus.image("vmdk", format!("vmdk {name}"), bytes).when(When::Registered);
    };
    for (name, offset) in [("grain directory", 56), ("second grain directory", 48)] {
        let mut bytes = healthy_vmdk("");
        put(&mut bytes, offset, &(1_u64 << 40).to_le_bytes());
        later(&format!("with its {name} outside the file"), &bytes);
    }
    let mut bytes = healthy_vmdk("");
    put(&mut bytes, GRAIN_DIRECTORY as usize, &u64::MAX.to_le_bytes());
    later("whose footer is missing", &bytes);
    for (name, offset) in [("capacity", 12), ("grains", 20), ("descriptor", 28)] {
        let mut bytes = vmdk_with_footer();
        let at = bytes.len() - 1024 + offset;
        put(&mut bytes, at, &(1_u64 << 30).to_le_bytes());
        later(&format!("whose footer has another {name}"), &bytes);
    }
    later("cut off", &healthy_vmdk("")[..20 * 512]);
}

/// A disk of 1 MiB, all of it a hole.
pub(super) fn healthy_vdi() -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    put(&mut bytes, 0, b"<<< a disk >>>\n");
    put(&mut bytes, 0x40, b"\x7f\x10\xda\xbe\x01\0\x01\0");
    for (offset, number) in [
        (0x48, 0x180_u32),
        (0x4c, 1),
        (0x154, 0x200),
        (0x158, 0x400),
        (0x168, 512),
        (0x170, 1 << 20),
        (0x178, 1 << 20),
        (0x180, 1),
        (0x188, 0x1234_5678),
    ] {
        put(&mut bytes, offset, &number.to_le_bytes());
    }
    bytes[0x200..0x204].fill(0xff);
    bytes
}

/// vdi images that are differences, or whose numbers make no sense.
pub(super) fn vdi(corpus: &mut Corpus) {
    for (name, when, offset, number) in [
        ("an undo image", When::Measured, 0x4c, 3_u32),
        ("a difference", When::Measured, 0x4c, 4),
        ("of type 0", When::Measured, 0x4c, 0),
        ("of type 99", When::Measured, 0x4c, 99),
        ("with a link to another image", When::Measured, 0x1a8, 1),
        ("with a parent", When::Measured, 0x1b8, 1),
        ("of version 0.1", When::Measured, 0x44, 1),
        ("of version 9.9", When::Measured, 0x44, 0x0009_0009),
        ("larger than its blocks", When::Measured, 0x174, 1),
        ("without blocks", When::Measured, 0x180, 0),
        ("with blocks of no size", When::Measured, 0x178, 0),
        ("with 4 billion blocks", When::Registered, 0x180, u32::MAX),
        ("with its map outside the file", When::Registered, 0x154, 0x7fff_fe00),
        ("with its data outside the file", When::Registered, 0x158, 0x7fff_fe00),
        ("with more data than it has", When::Registered, 0x184, 5),
    ] {
        let mut bytes = healthy_vdi();
        put(&mut bytes, offset, &number.to_le_bytes());
        corpus.image("vdi", format!("vdi {name}"), &bytes).when(when);
    }
    let mut bytes = healthy_vdi();
    put(&mut bytes, 0x174, &(1_u32 << 15).to_le_bytes());
    put(&mut bytes, 0x180, &(1_u32 << 28).to_le_bytes());
    corpus.image("vdi", "vdi of 128 TiB", &bytes);
    corpus.image("vdi", "vdi cut off", &healthy_vdi()[..0x100]);
}

/// A disk of 2 MiB, all of it a hole.
pub(super) fn healthy_vhd() -> Vec<u8> {
    let mut footer = vec![0; 512];
    put(&mut footer, 0, b"conectix\0\0\0\x02\0\x01\0\0");
    put(&mut footer, 16, &512_u64.to_be_bytes());
    put(&mut footer, 28, b"qem2\0\x05\0\x03Wi2k");
    put(&mut footer, 40, &(2_u64 << 20).to_be_bytes());
    put(&mut footer, 48, &(2_u64 << 20).to_be_bytes());
    put(&mut footer, 56, b"\0\x3c\x04\x11\0\0\0\x03");
    put(&mut footer, 68, b"sixteen bytes of");
    summed(&mut footer, 64);
    let mut header = vec![0; 1024];
    put(&mut header, 0, b"cxsparse\xff\xff\xff\xff\xff\xff\xff\xff");
    put(&mut header, 16, &1536_u64.to_be_bytes());
    put(&mut header, 24, b"\0\x01\0\0\0\0\0\x01\0\x20\0\0");
    summed(&mut header, 36);
    let mut table = vec![0; 512];
    table[..4].fill(0xff);
    [footer.clone(), header, table, footer].concat()
}

/// Writes the checksum of a part of a vhd.
fn summed(bytes: &mut [u8], at: usize) {
    bytes[at..at + 4].fill(0);
    let sum = bytes.iter().fold(0_u32, |sum, &byte| sum.wrapping_add(u32::from(byte)));
    put(bytes, at, &(!sum).to_be_bytes());
}

/// A vhdx of 8 MiB.
pub(super) fn healthy_vhdx() -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a place for an image");
    let path = directory.path().join("disk.vhdx");
    run("qemu-img", ["create", "-q", "-f", "vhdx", path.to_str().expect("UTF-8"), "8M"]);
    fs::read(path).expect("qemu-img made it")
}

const HEADERS: [usize; 2] = [64 << 10, 128 << 10];
const REGIONS: usize = 192 << 10;

/// vhd and vhdx images that are differences, unfinished, or whose numbers make no sense.
pub(super) fn hyper_v(corpus: &mut Corpus) {
    for (name, when, offset, content) in [
        ("fixed, with its footer in front", When::Measured, 60, &b"\0\0\0\x02"[..]),
        ("a difference", When::Measured, 60, b"\0\0\0\x04"),
        ("of type 0", When::Measured, 60, b"\0\0\0\0"),
        ("of 16 EiB", When::Measured, 48, &[0xff; 8]),
        ("larger than its blocks", When::Measured, 48, b"\0\0\0\x01\0\0\0\0"),
        ("with its header elsewhere", When::Measured, 16, b"\0\0\x01\0\0\0\0\0"),
        ("without a header", When::Measured, 512, b"xxsparse"),
        ("with a parent's identity", When::Measured, 512 + 40, b"x"),
        ("with a parent's name", When::Measured, 512 + 64, b"\0/\0e\0t\0c"),
        ("with a place to look for a parent", When::Measured, 512 + 576, b"W2ku"),
        ("with its table outside the file", When::Registered, 512 + 16, b"\0\0\x01\0\0\0\0\0"),
        ("with 4 billion blocks", When::Registered, 512 + 28, &[0xff; 4]),
    ] {
        let mut bytes = healthy_vhd();
        put(&mut bytes, offset, content);
        summed(&mut bytes[..512], 64);
        summed(&mut bytes[512..1536], 36);
        corpus.image("vpc", format!("vhd {name}"), &bytes).when(when);
    }
    corpus.image("vpc", "vhd cut off", &healthy_vhd()[..600]);
    let mut fixed = healthy_vhd()[..512].to_vec();
    put(&mut fixed, 60, b"\0\0\0\x02");
    summed(&mut fixed, 64);
    corpus.add("vhd fixed", &[vec![7; 8192], fixed].concat()).when(When::Registered);

    let healthy = healthy_vhdx();
    let number = |at: usize| {
        u64::from_le_bytes(healthy[at..at + 8].try_into().expect("eight bytes")) as usize
    };
    let entries: Vec<usize> = (0..2).map(|entry| REGIONS + 16 + entry * 32).collect();
    let is_metadata = |entry: &usize| healthy[*entry..].starts_with(b"\x06\xa2\x7c\x8b");
    let metadata_entry = *entries.iter().find(|e| is_metadata(e)).expect("a metadata region");
    let other_entry = *entries.iter().find(|e| !is_metadata(e)).expect("another region");
    let metadata = number(metadata_entry + 16);
    let item = |id: &[u8]| {
        let items = (0..8).map(|index| metadata + 32 + index * 32);
        items.into_iter().find(|&at| healthy[at..].starts_with(id)).expect("an item")
    };
    let parameters = item(b"\x37\x67\xa1\xca");
    let at = |item: usize| metadata + number(item + 16) as u32 as usize;
    let twice = healthy[metadata_entry..metadata_entry + 16].to_vec();
    let flags = at(parameters) + 4;
    let size = at(item(b"\x24\x42\xa5\x2f"));
    let locator = b"\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c";
    let sector = at(item(b"\x1d\xbf\x41\x81"));
    let damaged: [(&str, When, usize, &[u8]); 12] = [
        ("with sectors of 4096 bytes", When::Measured, sector, b"\0\x10\0\0"),
        ("with sectors of no length", When::Measured, sector, b"\0\0\0\0"),
        ("with a parent", When::Measured, flags, b"\x02"),
        ("with a parent's locator", When::Measured, item(b"\x1d\xbf\x41\x81"), locator),
        ("of 16 EiB", When::Measured, size, &[0xff; 8]),
        ("of 128 TiB", When::Measured, size, b"\0\0\0\0\0\x80\0\0"),
        ("without regions", When::Measured, REGIONS, b"xxxx"),
        ("with two metadata regions", When::Measured, other_entry, &twice),
        ("without metadata", When::Measured, metadata, b"xxxxxxxx"),
        ("with its metadata far away", When::Measured, metadata_entry + 16, &[0, 0, 0, 0, 0, 1]),
        (
            "with its table outside the file",
            When::Registered,
            other_entry + 16,
            &[0, 0, 0, 0, 0, 1],
        ),
        ("with a log to replay", When::Measured, HEADERS[0] + 48, b"sixteen bytes of"),
    ];
    for (name, when, offset, content) in damaged {
        let mut bytes = healthy.clone();
        put(&mut bytes, offset, content);
        if name.contains("log") {
            put(&mut bytes, HEADERS[1] + 48, content);
        }
        let header = |at: usize| at..at + 4096;
        let regions = REGIONS..REGIONS + (64 << 10);
        for range in HEADERS.map(header).into_iter().chain(std::iter::once(regions)) {
            protect(&mut bytes[range]);
        }
        corpus.image("vhdx", format!("vhdx {name}"), &bytes).when(when);
    }
    let mut bytes = healthy.clone();
    for at in HEADERS {
        put(&mut bytes, at + 4, b"none");
    }
    corpus.image("vhdx", "vhdx without a valid header", &bytes);
    corpus.image("vhdx", "vhdx cut off", &healthy[..REGIONS + 100]);
}

/// Writes the checksum (CRC-32C) of a part of a vhdx.
fn protect(bytes: &mut [u8]) {
    bytes[4..8].fill(0);
    let mut sum = u32::MAX;
    for &byte in bytes.iter() {
        sum ^= u32::from(byte);
        for _ in 0..8 {
            sum = if sum & 1 == 0 { sum >> 1 } else { (sum >> 1) ^ 0x82f6_3b78 };
        }
    }
    put(bytes, 4, &(!sum).to_le_bytes());
}
