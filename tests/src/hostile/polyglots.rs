//! Files that are more than one thing.

use super::layout::Image;
use super::others::{healthy_vdi, healthy_vhd, healthy_vhdx, healthy_vmdk};
use super::{Corpus, When};
use std::io::Write;
use std::process::{Command, Stdio};

/// Marks of a disc or of a partitioned disk.
const RAW: [(&str, usize, &[u8]); 4] = [
    ("an ISO 9660 disc", 0x8000, b"\x01CD001\x01"),
    ("a UDF disc", 0x8000, b"\0BEA01\x01"),
    ("an MBR", 510, b"\x55\xaa"),
    ("a GPT", 512, b"EFI PART\0\0\x01\0"),
];
const VDI: (usize, &[u8]) = (0x40, b"\x7f\x10\xda\xbe");

fn with(bytes: &[u8], offset: usize, mark: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().max(offset + 512), 0);
    bytes[offset..offset + mark.len()].copy_from_slice(mark);
    bytes
}

fn packed(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(["-1", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} can't be started: {error}"));
    // Less than a pipe holds: neither end waits for the other.
    assert!(bytes.len() <= 60_000);
    child.stdin.take().expect("a pipe").write_all(bytes).expect("the program reads");
    child.wait_with_output().expect("the program ends").stdout
}

/// The same compressed data behind a field for other data, where the format has such a field.
fn roomy(program: &str, packed: &[u8]) -> Vec<u8> {
    const FIELD: usize = 40_000;
    match program {
        // An extra field (RFC 1952, 2.3.1.1).
        "gzip" => {
            let mut header = packed[..10].to_vec();
            header[3] |= 4;
            [&header, &(FIELD as u16).to_le_bytes()[..], &vec![0; FIELD], &packed[10..]].concat()
        }
        // A skippable frame (RFC 8878, 3.1.2).
        "zstd" => [b"\x50\x2a\x4d\x18", &(FIELD as u32).to_le_bytes()[..], &vec![0; FIELD], packed]
            .concat(),
        _ => packed.to_vec(),
    }
}

const COMPRESSORS: [&str; 4] = ["gzip", "bzip2", "xz", "zstd"];

pub(super) fn polyglots(corpus: &mut Corpus) {
    let disks = [
        ("qcow2", Image::healthy(3, 16).bytes),
        ("qcow2", Image::healthy(2, 16).bytes),
        ("vmdk", healthy_vmdk("")),
        ("vdi", healthy_vdi()),
        ("vpc", healthy_vhd()),
        ("vhdx", healthy_vhdx()),
    ];
    for (format, bytes) in &disks {
        for (name, offset, mark) in RAW {
            corpus.add(format!("{format} and {name}"), &with(bytes, offset, mark));
        }
        if *format != "vdi" {
            corpus.add(format!("{format} and vdi"), &with(bytes, VDI.0, VDI.1));
        }
    }
    let mut luks = b"LUKS\xba\xbe\0\x01".to_vec();
    luks.resize(4096, 0);
    let plain: Vec<u8> = (0..10_000_u32)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let streams = COMPRESSORS.map(|program| (program, packed(program, &plain)));
    let roomy = streams.iter().map(|(name, bytes)| (*name, roomy(name, bytes)));
    for (name, bytes) in roomy.chain([("LUKS", luks)]) {
        corpus.add(format!("{name} and vdi"), &with(&bytes, VDI.0, VDI.1));
        for (raw, offset, mark) in RAW.iter().filter(|(name, ..)| *name != "an MBR") {
            corpus.add(format!("{name} and {raw}"), &with(&bytes, *offset, mark));
        }
    }
    // A boot sector in which one reader finds code and the next one a vdi.
    corpus.add("an MBR and vdi", &with(&with(&[0; 4096], 510, b"\x55\xaa"), VDI.0, VDI.1));
    // Compressed twice, and what follows the compressed data.
    for (outer, _) in &streams {
        for (inner, bytes) in &streams {
            corpus.add(format!("{inner} in {outer}"), &packed(outer, bytes));
        }
    }
    // `gzip` and `bzip2` ignore what follows the compressed data, and so does cp.
    for (name, bytes) in streams.iter().filter(|(name, _)| !["gzip", "bzip2"].contains(name)) {
        let behind = [bytes.as_slice(), b"and something else"].concat();
        corpus.add(format!("{name} and something behind it"), &behind).when(When::Registered);
    }
}
