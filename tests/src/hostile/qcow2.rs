//! qcow2 images with a header that must not be trusted.

use super::layout::Image;
use super::{Corpus, When};

const BACKING_FORMAT: u32 = 0xe279_2aca;
const DATA_FILE: u32 = 0x4441_5441;
const ENCRYPTION: u32 = 0x0537_be77;

/// Where the fields of the header are.
const INCOMPATIBLE: u64 = 72;
const AUTOCLEAR: u64 = 88;

fn healthy(version: u32) -> Image {
    Image::healthy(version, 12)
}

/// Images that name other files.
pub(super) fn references(corpus: &mut Corpus) {
    let longest = "x".repeat(1023);
    let names: [&[u8]; 13] = [
        b"/etc/passwd",
        b"base.img",
        b"../outside/secret.img",
        b"json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"/etc/passwd\"}}",
        b"nbd://127.0.0.1:1/x",
        b"nbd:unix:/run/x",
        b"http://127.0.0.1:1/x",
        b"file:/etc/passwd",
        b"/proc/self/fd/0",
        b"x",
        b"caf\xe9\xff",
        b"a 'b' \"c\"\n$(id)",
        longest.as_bytes(),
    ];
    for name in names {
        let shown: String = String::from_utf8_lossy(name).chars().take(20).collect();
        for (version, format) in [(2, None), (3, None), (3, Some("raw")), (3, Some("qcow2"))] {
            let mut image = healthy(version);
            let extension = format.map(|format: &str| (BACKING_FORMAT, format.as_bytes()));
            image.backing(name, extension.as_slice());
            let title = format!("version {version} on {shown} ({format:?})");
            corpus.image("qcow2", title, &image.bytes);
        }
    }
    for (name, offset, length) in [
        ("beyond the cluster", 8192, 5),
        ("across the end of the cluster", 4090, 20),
        ("of 1024 bytes", 1024, 1024),
        ("of 4 GiB", 1024, u32::MAX),
        ("at the end of the address space", u64::MAX, 8),
        ("in the header itself", 8, 16),
    ] {
        let mut image = healthy(3);
        image.put64(8, offset).put32(16, length);
        corpus.image("qcow2", format!("backing name {name}"), &image.bytes);
    }
    let mut image = healthy(3);
    image.extend(&[(BACKING_FORMAT, b"raw"), (DATA_FILE, b"/etc/passwd")]);
    corpus.image("qcow2", "data file named behind another extension", &image.bytes);
    for (name, incompatible, autoclear, file) in [
        ("data file by its bit", 4, 0, None),
        ("data file by its name", 0, 0, Some("/etc/passwd")),
        ("data file by bit and name", 4, 0, Some("/etc/passwd")),
        ("relative data file", 4, 0, Some("data.raw")),
        ("raw data file", 4, 2, Some("data.raw")),
        ("raw data file by that bit alone", 0, 2, None),
        ("data file without a name", 4, 0, Some("")),
        ("data file in words of a program", 4, 0, Some("json:{\"driver\":\"null-co\"}")),
    ] {
        let mut image = healthy(3);
        image.put64(INCOMPATIBLE, incompatible).put64(AUTOCLEAR, autoclear);
        if let Some(file) = file {
            image.extend(&[(DATA_FILE, file.as_bytes())]);
        }
        corpus.image("qcow2", name, &image.bytes);
    }
    let mut image = healthy(2);
    image.extend(&[(DATA_FILE, b"/etc/passwd")]);
    corpus.image("qcow2", "version 2 with a data file", &image.bytes);
}

/// Images that need features that do not exist.
pub(super) fn features(corpus: &mut Corpus) {
    for bit in 5..64 {
        let mut image = healthy(3);
        image.put64(INCOMPATIBLE, 1 << bit);
        corpus.image("qcow2", format!("incompatible feature {bit}"), &image.bytes);
    }
    for (name, bits) in [("corrupt", 2), ("corrupt and dirty", 3), ("all features", u64::MAX)] {
        let mut image = healthy(3);
        image.put64(INCOMPATIBLE, bits);
        corpus.image("qcow2", name, &image.bytes);
    }
    for (version, method) in [(2, 1), (3, 1), (2, 3), (3, 3), (3, u32::MAX)] {
        let mut image = healthy(version);
        image.put32(32, method);
        corpus.image("qcow2", format!("version {version}, encryption {method}"), &image.bytes);
    }
    let place = |offset: u64, length: u64| [offset.to_be_bytes(), length.to_be_bytes()].concat();
    for (name, method, extension) in [
        ("LUKS without a header", 2, None),
        ("LUKS header without encryption", 0, Some(place(0x7000, 0x1000))),
        ("LUKS header of a wrong length", 2, Some(vec![0; 8])),
    ] {
        let mut image = healthy(3);
        image.put32(32, method);
        if let Some(extension) = extension {
            image.extend(&[(ENCRYPTION, &extension)]);
        }
        corpus.image("qcow2", name, &image.bytes);
    }
    for (name, offset, length) in [
        ("outside the file", 1 << 40, 4096),
        ("between clusters", 0x7010, 512),
        ("in the header", 0, 4096),
        ("without an end", 0x7000, u64::MAX),
    ] {
        let mut image = healthy(3);
        image.put32(32, 2);
        image.extend(&[(ENCRYPTION, &place(offset, length))]);
        corpus.image("qcow2", format!("LUKS header {name}"), &image.bytes).when(When::Registered);
    }
    // What a guest would need its key for.
    let mut image = healthy(3);
    image.put32(32, 2);
    let end = image.bytes.len() as u64;
    image.put(end, &[0; 4096]);
    image.extend(&[(ENCRYPTION, &place(end, 4096))]);
    corpus.image("qcow2", "LUKS inside", &image.bytes).when(When::MadeRaw);
    for (name, bits, kind) in [
        ("compression by its bit alone", 8, None),
        ("compression by its type alone", 0, Some(1)),
        ("compression 2", 8, Some(2)),
        ("compression 255", 8, Some(255)),
    ] {
        let mut image = healthy(3);
        image.put64(INCOMPATIBLE, bits).put32(100, 112);
        image.put(104, &[kind.unwrap_or(0)]);
        corpus.image("qcow2", name, &image.bytes);
    }
}

/// Numbers that make no sense.
pub(super) fn headers(corpus: &mut Corpus) {
    for version in [0, 1, 4, 255, u32::MAX] {
        let mut image = healthy(3);
        image.put32(4, version);
        corpus.image("qcow2", format!("version {version}"), &image.bytes);
    }
    for bits in [0, 8, 22, 30, 63, 64, u32::MAX] {
        let mut image = healthy(3);
        image.put32(20, bits);
        corpus.image("qcow2", format!("clusters of 2^{bits}"), &image.bytes);
    }
    for order in [7, 64, u32::MAX] {
        let mut image = healthy(3);
        image.put32(96, order);
        corpus.image("qcow2", format!("refcounts of 2^{order} bits"), &image.bytes);
    }
    for length in [0, 72, 103, 4097, u32::MAX] {
        let mut image = healthy(3);
        image.put32(100, length);
        corpus.image("qcow2", format!("header of {length} bytes"), &image.bytes);
    }
    for (name, size) in [
        ("65 TiB", 65 << 40),
        ("8 EiB", 1 << 63),
        ("16 EiB", u64::MAX),
        ("more than its L1 table", 1 << 40),
    ] {
        let mut image = Image::healthy(3, 21);
        // 512 GiB for each entry.
        image.put64(24, size).put32(36, if size == 65 << 40 { 130 } else { 1 });
        corpus.image("qcow2", format!("a disk of {name}"), &image.bytes);
    }
    for entries in [0, (32 << 20) / 8 + 1, u32::MAX] {
        let mut image = healthy(3);
        image.put32(36, entries);
        corpus.image("qcow2", format!("L1 table of {entries} entries"), &image.bytes);
    }
    for (name, kind, length) in [
        ("longer than the header", 0x1234, 8000),
        ("without an end", 0x1234, u32::MAX),
        ("with a format of 16 bytes", BACKING_FORMAT, 16),
    ] {
        let mut image = healthy(3);
        image.put32(104, kind).put32(108, length);
        corpus.image("qcow2", format!("extension {name}"), &image.bytes);
    }
    let mut image = healthy(3);
    // The name of a backing file begins in the middle of the extension that names a data file.
    image.extend(&[(DATA_FILE, b"/etc/passwd")]);
    image.put64(8, 108).put32(16, 1);
    corpus.image("qcow2", "extension across the end of all extensions", &image.bytes);
}
