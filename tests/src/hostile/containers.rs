//! More archives made to harm: headers that contradict each other, appliances that lie, and hostile images inside.

use super::archives::disk;
use super::{Corpus, Hostile, When, corpus};
use crate::archive::{Tar, ZipMember, ovf, zip_of};
use crate::pattern;
use std::fs;
use std::io::Write as _;
use std::path::Path;

/// Every so many of the hostile images are put into an archive as well.
const STEP: usize = 3;

/// Adds those that [`super::archives`] has besides its own.
pub(super) fn containers(corpus: &mut Corpus) {
    tar_headers(corpus);
    sparse(corpus);
    zip_members(corpus);
    zip_ends(corpus);
    descriptions(corpus);
    parts(corpus);
    manifests(corpus);
    contents(corpus);
    images_inside(corpus);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

fn tar_headers(corpus: &mut Corpus) {
    let disk = disk();
    let start = || Tar::new().file("notes", "text");
    for (name, other) in [("./disk.raw", "disk.raw"), ("././/disk.raw", "./disk.raw")] {
        let twice = start().file(name, &disk).file(other, pattern(2, 200_000)).end();
        corpus.add(format!("tar with a disk as {name} and as {other}"), &twice);
    }
    let long = start().of_kind(b'L', "long", "disk.raw\0").file("a", &disk);
    corpus.add("tar with two disks of one long name", &long.file("disk.raw", &disk).end());
    let pax = start().pax(&[("path", "disk.raw")]).file("a", &disk).file("disk.raw", &disk);
    corpus.add("tar with two disks of one pax name", &pax.end());
    // What a hard link says of a length counts for nothing, so its data is taken for headers.
    corpus
        .add("tar with a hard link that has data", &start().of_kind(b'1', "disk.raw", &disk).end());
    for (name, kind) in [("an x", b'x'), ("an L", b'L'), ("a K", b'K'), ("a g", b'g')] {
        let block = Tar::header("h", "77777777777\0", kind);
        corpus.add(format!("tar with {name} header of 8 GiB"), &start().raw(block).end());
        let block = Tar::header("h", "00000000000\0", kind);
        corpus.add(format!("tar that ends with {name} header"), &start().raw(block).bytes());
    }
    for size in ["0", "400000", "99999999999999999999", "-1", "0x30d40", " 5"] {
        let tar = start().pax(&[("size", size)]).file("disk.raw", &disk).file("more", "text");
        corpus.add(format!("tar with a pax size of {size:?}"), &tar.end());
    }
    let none: [(&str, &[u8]); 3] =
        [("blanks", b"            "), ("a minus", b"-0000000001\0"), ("a sign", b"+0000606500\0")];
    for (name, size) in none {
        let mut block = Tar::header("disk.raw", "00000606500\0", b'0');
        block[124..136].copy_from_slice(size);
        let tar = start().raw(Tar::summed(block)).padded(&disk).end();
        corpus.add(format!("tar with a size of {name}"), &tar);
    }
    let checksum = |text: &[u8; 8]| {
        let mut block = Tar::header("disk.raw", "00000606500\0", b'0');
        block[148..156].copy_from_slice(text);
        start().raw(block).padded(&disk).end()
    };
    for text in
        [b"\0\0\0\0\0\0\0\0", b"777777\0 ", b"99999999", b"\xff\xff\xff\xff\xff\xff\xff\xff"]
    {
        corpus.add(
            format!("tar with the checksum {:?}", text.escape_ascii().to_string()),
            &checksum(text),
        );
    }
}

fn sparse(corpus: &mut Corpus) {
    let disk = disk();
    let with = |records: &[(&str, &str)]| {
        Tar::new().file("notes", "x").pax(records).file("disk.raw", &disk).end()
    };
    let (size, many) = (("GNU.sparse.size", "400000"), "0,0,".repeat(60_000) + "0,200000");
    for (name, records) in [
        ("an offset without a length", vec![size, ("GNU.sparse.offset", "0")]),
        ("a length of 2^63", vec![size, ("GNU.sparse.map", "0,9223372036854775808")]),
        (
            "a sum that wraps round",
            vec![size, ("GNU.sparse.map", "0,9223372036854775807,9223372036854775807,2")],
        ),
        ("an empty map", vec![size, ("GNU.sparse.map", "")]),
        ("a map of commas", vec![size, ("GNU.sparse.map", ",,,,")]),
        ("a size of letters", vec![("GNU.sparse.size", "abc"), ("GNU.sparse.map", "0,200000")]),
        ("a size of 2^63", vec![("GNU.sparse.size", "9223372036854775808")]),
        (
            "data behind its end",
            vec![("GNU.sparse.size", "400000"), ("GNU.sparse.map", "300000,200000")],
        ),
        (
            "a map of 60,000 and too little data",
            vec![size, ("GNU.sparse.map", &many), ("size", "100")],
        ),
    ] {
        corpus.add(format!("sparse member with {name}"), &with(&records));
    }
    let inside =
        [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "400000")];
    for (name, map) in [
        ("runs that overlap", "2\n0\n150000\n100000\n50000\n"),
        ("runs out of order", "2\n300000\n50000\n0\n50000\n"),
        ("more data than there is", "1\n0\n399999\n"),
        ("less data than there is", "1\n0\n512\n"),
        ("a line of blanks", "1\n   \n5\n"),
        ("no numbers", "zero\n"),
    ] {
        let content = [map.as_bytes(), &vec![0; 512 - map.len()], &disk].concat();
        let tar = Tar::new().file("n", "x").pax(&inside).file("disk.raw", content).end();
        corpus.add(format!("sparse member with {name} in front"), &tar);
    }
}

fn zip_members(corpus: &mut Corpus) {
    let disk = disk();
    let length = u32::try_from(disk.len()).expect("a small disk");
    let stored = || ZipMember::stored("disk.raw", &disk);
    let deflated = || ZipMember::deflated("disk.raw", &disk);
    for method in [1, 2, 3, 4, 5, 6, 7, 10, 18, 19, 20, 95, 96, 97, 98, 99, 0xffff] {
        corpus.add(format!("zip with the method {method}"), &zip_of(&[stored().method(method)]));
    }
    for (name, member) in [
        ("strong encryption", deflated().flags(0x41)),
        ("masked headers", deflated().flags(0x2001)),
        ("a name that ends differently in front", stored().local_name("disk.rax")),
        ("no name in front", stored().local_name("")),
        ("a longer name in front", stored().local_name(&"x".repeat(60_000))),
    ] {
        corpus.add(format!("zip with {name}"), &zip_of(&[member]));
    }
    for (name, member) in [
        ("a byte less of content than there is", deflated().told(length, length - 1)),
        ("no content by its header", deflated().told(length, 1)),
        ("4 GiB of content by its header", deflated().told(length, u32::MAX - 1)),
        ("the data of the next member too", stored().told(length + 500, length + 500)),
        ("a checksum of zero", deflated().crc(0)),
        ("a checksum of all ones", stored().crc(u32::MAX)),
    ] {
        let members = [member, ZipMember::stored("notes", &[b'x'; 5000])];
        corpus.add(format!("zip with {name}"), &zip_of(&members)).when(When::Registered);
    }
    let whole = zip_of(&[deflated()]);
    for at in [40, 100, 5000, 100_000] {
        let mut bytes = whole.clone();
        for byte in &mut bytes[at..at + 16] {
            *byte ^= 0x5a;
        }
        corpus
            .add(format!("zip whose data is damaged at byte {at}"), &bytes)
            .when(When::Registered);
    }
}

fn zip_ends(corpus: &mut Corpus) {
    let disk = disk();
    let good = zip_of(&[ZipMember::stored("notes", b"text"), ZipMember::stored("disk.raw", &disk)]);
    let start = good.windows(4).rposition(|w| w == b"PK\x01\x02").expect("a directory");
    let name = |at: usize| format!("zip with a directory that is damaged at {at}");
    // Signature, method, offset of the member of the disk.
    for (at, value) in [(0, 0x55), (1, 0x55), (10, 12), (42, 0xff), (43, 0xff), (45, 0x7f)] {
        let mut bytes = good.clone();
        bytes[start + at] = value;
        corpus.add(name(at), &bytes);
    }
}

fn descriptions(corpus: &mut Corpus) {
    let file = ["id='f' href='disk.vmdk'"];
    let plain = ovf(&file, &["fileRef='f'"]);
    let of = |text: &[u8]| Tar::new().file("vm.ovf", text).file("disk.vmdk", disk()).end();
    let deep = "<a>".repeat(200_000);
    let laughs = "<!DOCTYPE a [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;&a;&a;'><!ENTITY c '&b;&b;&b;&b;&b;'>]>\
        <File id='f' href='&c;'/><Disk fileRef='f'/>";
    let many =
        (0..11_000).map(|n| format!("<File id='{n}' href='{n}'/>")).collect::<Vec<_>>().concat();
    let disks = "<Disk fileRef='f'/>".repeat(11_000);
    for (name, text) in [
        ("a disk that is the OVF file", ovf(&["id='f' href='vm.ovf'"], &["fileRef='f'"])),
        ("an empty name", ovf(&["id='f' href=''"], &["fileRef='f'"])),
        ("a name of a folder", ovf(&["id='f' href='./'"], &["fileRef='f'"])),
        ("an absolute name", ovf(&["id='f' href='/etc/passwd'"], &["fileRef='f'"])),
        ("a file URL", ovf(&["id='f' href='file:///etc/passwd'"], &["fileRef='f'"])),
        (
            "a name with an encoded way out",
            ovf(&["id='f' href='%2e%2e/disk.vmdk'"], &["fileRef='f'"]),
        ),
        ("two disks in one file", ovf(&file, &["fileRef='f'", "fileRef='f'"])),
        ("a parent and a child", ovf(&file, &["fileRef='f' parentRef='f'"])),
        ("a reference to nothing", ovf(&file, &["fileRef='g'"])),
        ("an unknown entity", plain.replace("disk.vmdk", "&what;")),
        ("an open tag", plain.replace("/>", ">").replace("</Envelope>", "</Envelope")),
        ("tags that cross", plain.replace("</References>", "</DiskSection>")),
        ("a hundred entities of entities", laughs.to_owned()),
        ("11,000 files", plain.replace("<References>", &format!("<References>{many}"))),
        ("11,000 disks", plain.replace("<DiskSection>", &format!("<DiskSection>{disks}"))),
        ("200,000 open tags", plain.replace("<References>", &format!("{deep}<"))),
    ] {
        corpus.add(format!("OVF with {name}"), &of(text.as_bytes()));
    }
    let half: Vec<u8> = "\u{feff}<a".encode_utf16().flat_map(u16::to_le_bytes).collect();
    corpus.add("OVF in UTF-16 that is cut off", &of(&half));
    corpus.add("OVF in UTF-16 with half a pair", &of(b"\xff\xfe<\0\x00\xd8<\0"));
}

fn parts(corpus: &mut Corpus) {
    let disk = disk();
    let file = format!("id='f' href='d.img' size='{}' chunkSize='100000'", disk.len());
    let text = ovf(&[&file], &["fileRef='f'"]);
    let of = |members: &[(&str, &[u8])]| {
        let tar = Tar::new().file("vm.ovf", &text);
        members.iter().fold(tar, |tar, (name, bytes)| tar.file(name, bytes)).end()
    };
    let (one, two) = disk.split_at(100_000);
    for (name, members) in [
        ("no first one", vec![("d.img.000000001", two)]),
        ("no second one", vec![("d.img.000000000", one)]),
        ("a gap", vec![("d.img.000000000", one), ("d.img.000000002", two)]),
        ("short numbers", vec![("d.img.0", one), ("d.img.1", two)]),
        ("numbers from 1 on", vec![("d.img.000000001", one), ("d.img.000000002", two)]),
        (
            "one too many",
            vec![("d.img.000000000", one), ("d.img.000000001", two), ("d.img.000000002", two)],
        ),
        ("one that is too short", vec![("d.img.000000000", one), ("d.img.000000001", &two[1..])]),
        ("none", vec![("other", one)]),
    ] {
        corpus.add(format!("appliance in parts with {name}"), &of(&members));
    }
}

fn manifests(corpus: &mut Corpus) {
    let text = ovf(&["id='f' href='disk.raw'"], &["fileRef='f'"]);
    for (algorithm, digits) in
        [("SHA1", 40), ("SHA-1", 40), ("SHA256", 64), ("SHA-256", 64), ("sha512", 128)]
    {
        for (form, line) in [
            ("usual", format!("{algorithm}(disk.raw)= {}\n", "1".repeat(digits))),
            ("with blanks", format!("{algorithm} (./disk.raw) = {}\r\n", "1".repeat(digits))),
            ("short", format!("{algorithm}(disk.raw)= {}\n", "1".repeat(digits - 1))),
        ] {
            for place in ["in front", "behind"] {
                let tar = Tar::new().file("vm.ovf", &text);
                let tar = if place == "behind" {
                    tar.file("disk.raw", disk()).file("vm.mf", &line)
                } else {
                    tar.file("vm.mf", &line).file("disk.raw", disk())
                };
                let name = format!("manifest {place} with a wrong {algorithm}, {form}");
                corpus.add(name, &tar.end()).when(When::Registered);
            }
        }
    }
}

fn contents(corpus: &mut Corpus) {
    let tar = |name: &str, content: &[u8]| Tar::new().file("n", "x").file(name, content).end();
    let page = format!("<!DOCTYPE html>\n<html>{}</html>", "x".repeat(2000));
    let json = format!("{{\"error\": \"{}\"}}", "x".repeat(2000));
    let twice = gzip(&gzip(&disk()));
    let inner = gzip(&tar("disk.raw", &disk()));
    let zipped = gzip(&zip_of(&[ZipMember::deflated("disk.raw", &disk())]));
    for (what, name, content) in [
        ("a page", "disk.img", page.as_bytes()),
        ("an error in JSON", "disk.raw", json.as_bytes()),
        ("a disk that is compressed twice", "disk.img.gz", &twice),
        ("a compressed tar", "disk.img.gz", &inner),
        ("a compressed zip", "disk.img.gz", &zipped),
        ("rar", "disk.img", b"Rar!\x1a\x07\x01\0 and more"),
        ("lz4", "disk.img", b"\x04\x22\x4d\x18 and more"),
        ("cpio", "disk.img", b"070701 and more"),
        (
            "a bare descriptor",
            "disk.vmdk",
            b"\xef\xbb\xbf# x\rversion=1\rRW 9 FLAT \"/etc/passwd\" 0\r",
        ),
        ("what gzip begins with", "disk.img.gz", b"\x1f\x8b\x08\0 and more"),
    ] {
        corpus.add(format!("{what} in a tar"), &tar(name, content));
        corpus.add(format!("{what} in a zip"), &zip_of(&[ZipMember::deflated(name, content)]));
    }
}

/// Images that are refused on their own are refused inside of an archive too.
fn images_inside(corpus: &mut Corpus) {
    let folder = corpus.directory.join("inside");
    fs::create_dir_all(&folder).expect("a folder of the corpus can be made");
    let images: Vec<Hostile> = self::corpus(&folder);
    for (number, image) in images.iter().step_by(STEP).enumerate() {
        let bytes = read(&image.path);
        // What only its length tells, or takes long to pack, is of no use here.
        if bytes.is_empty() || bytes.len() > 4 << 20 {
            continue;
        }
        let (kind, archive) = if number % 2 == 0 {
            ("tar", Tar::new().file("disk.img", &bytes).end())
        } else {
            ("zip", zip_of(&[ZipMember::deflated("disk.img", &bytes)]))
        };
        corpus.add(format!("{kind} with {}", image.name), &archive).when(image.when);
    }
    fs::remove_dir_all(&folder).expect("a folder of the corpus can be removed");
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).expect("a file of the corpus can be read")
}
