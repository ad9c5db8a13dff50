//! Archives made to harm, or damaged: nothing of them may be registered.

use super::{Corpus, Hostile, When};
use crate::archive::{Tar, ZipMember, ovf, zip_of};
use crate::pattern;
use std::path::Path;

/// Makes all of them in `directory`.
pub fn archives(directory: &Path) -> Vec<Hostile> {
    let mut corpus = Corpus { directory, files: Vec::new() };
    tar_headers(&mut corpus);
    tar_extended(&mut corpus);
    tar_sparse(&mut corpus);
    zip_headers(&mut corpus);
    zip_directory(&mut corpus);
    appliances(&mut corpus);
    contents(&mut corpus);
    super::containers::containers(&mut corpus);
    corpus.files
}

pub(super) fn disk() -> Vec<u8> {
    pattern(1, 200_000)
}

fn good() -> Vec<u8> {
    Tar::new().file("notes", "text").file("disk.raw", disk()).end()
}

/// A header with some of its bytes changed, and the right checksum for that.
fn changed(name: &str, change: impl Fn(&mut [u8; 512])) -> [u8; 512] {
    let mut block = Tar::header(name, "00000606500\0", b'0');
    change(&mut block);
    Tar::summed(block)
}

fn tar_headers(corpus: &mut Corpus) {
    let good = good();
    for length in [600, 1024 + 100, 1536 + 512, good.len() / 2, good.len() - 1024 - 400] {
        corpus.add(format!("tar cut off after {length} bytes"), &good[..length]);
    }
    let behind = |bytes: &[u8]| Tar::new().file("notes", "text").raw(bytes).raw(disk()).end();
    let mut wrong = Tar::header("disk.raw", "00000606500\0", b'0');
    wrong[0] ^= 1;
    corpus.add("tar with a wrong checksum further on", &behind(&wrong));
    corpus.add("tar with garbage between its members", &behind(&pattern(9, 512)));
    for (name, size) in [
        ("no octal number", &b"8888888888\0\0"[..]),
        ("letters", b"size of it!\0"),
        ("a negative number", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("2^63", b"\x80\0\0\0\x80\0\0\0\0\0\0\0"),
        ("2^63 - 1", b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"),
        ("2^63 - 512", b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xfe\0"),
        ("more than there is", b"77777777777\0"),
        ("2^70", b"\x80\0\0\x40\0\0\0\0\0\0\0\0"),
    ] {
        let block = changed("disk.raw", |block| block[124..136].copy_from_slice(size));
        corpus.add(format!("tar with a size of {name}"), &behind(&block));
    }
    let volume = Tar::new().file("notes", "text").of_kind(b'M', "disk.raw", disk()).end();
    corpus.add("tar that begins in another file", &volume);
    let twice = Tar::new().file("disk.raw", disk()).file("disk.raw", pattern(2, 200_000)).end();
    corpus.add("tar with two disks of one name", &twice);
    let links = Tar::new().of_kind(b'2', "disk.raw", "").of_kind(b'1', "disk.img", "").end();
    corpus.add("tar of links only", &links);
    let special = [b'3', b'4', b'5', b'6'];
    let special = special.into_iter().fold(Tar::new(), |tar, kind| tar.of_kind(kind, "x.raw", ""));
    corpus.add("tar of devices only", &special.end());
    let nothing = Tar::new().file("disk.raw", "").end();
    corpus.add("tar with an empty disk", &nothing);
    let many = (0..10_100).fold(Tar::new(), |tar, number| tar.file(&format!("{number}"), ""));
    corpus.add("tar with too many members", &many.file("disk.raw", disk()).end());
}

fn tar_extended(corpus: &mut Corpus) {
    let extended = |text: &str| {
        Tar::new().file("notes", "x").of_kind(b'x', "pax", text).file("disk.raw", disk()).end()
    };
    for (name, text) in [
        ("no length", "path=disk.raw\n"),
        ("a length of 0", "0 path=disk.raw\n"),
        ("too long a length", "99 path=disk.raw\n"),
        ("a huge length", "99999999999999999999 path=disk.raw\n"),
        ("no value", "9 path123\n"),
        ("no line end", "17 path=disk.raw."),
        ("a size that is none", "12 size=xyz\n"),
        ("a negative size", "11 size=-5\n"),
        ("a size of 2^63", "28 size=9223372036854775808\n"),
        ("a size of 2^63 - 1", "28 size=9223372036854775807\n"),
        ("a size beyond the end", "16 size=9999999\n"),
    ] {
        corpus.add(format!("pax header with {name}"), &extended(text));
    }
    let long = "x".repeat((1 << 20) + 1);
    corpus.add("pax header that is too long", &extended(&long));
    let long = Tar::new().file("n", "x").of_kind(b'L', "long", &long).file("disk.raw", disk());
    corpus.add("long name that is too long", &long.end());
    let endless = (0..100).fold(Tar::new().file("n", "x"), |tar, _| tar.pax(&[("mtime", "1")]));
    let endless = (0..100).fold(endless, |tar, _| tar.of_kind(b'L', "long", "name\0"));
    corpus.add("headers without a member", &endless.bytes());
    let alone = Tar::new().file("n", "x").raw(&Tar::header("pax", "00000100000\0", b'x')[..]);
    corpus.add("pax header that is cut off", &alone.bytes());
}

fn tar_sparse(corpus: &mut Corpus) {
    let sparse = |records: &[(&str, &str)]| {
        Tar::new().file("notes", "x").pax(records).file("disk.raw", disk()).end()
    };
    for (name, size, map) in [
        ("out of order", "400000", "200000,100000,0,100000"),
        ("overlapping", "400000", "0,150000,100000,50000"),
        ("beyond its size", "100000", "0,200000"),
        ("that wraps round", "400000", "18446744073709551615,200000"),
        ("with half an entry", "400000", "0,200000,5"),
        ("with letters", "400000", "0,a"),
        ("of less than there is", "400000", "0,100000"),
        ("of more than there is", "900000", "0,300000"),
        ("of nothing", "400000", "0,0"),
    ] {
        let records = [("GNU.sparse.size", size), ("GNU.sparse.map", map)];
        corpus.add(format!("sparse map {name}"), &sparse(&records));
    }
    let records =
        [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "400000")];
    for (name, map) in [
        ("without an end", "7".repeat(2000)),
        ("with too many entries", "99999999999\n".to_owned()),
        ("that is empty", String::new()),
        ("with a negative number", "1\n-1\n5\n".to_owned()),
    ] {
        let tar = Tar::new().file("n", "x").pax(&records);
        let content = [map.as_bytes(), &[0; 512][..512 - map.len() % 512], &disk()].concat();
        corpus.add(format!("sparse map in front {name}"), &tar.file("disk.raw", content).end());
    }
    let old = |change: &dyn Fn(&mut [u8; 512])| {
        let block = changed("disk.raw", |block| {
            block[156] = b'S';
            block[257..265].copy_from_slice(b"ustar  \0");
            block[386..398].copy_from_slice(b"00000000000\0");
            block[398..410].copy_from_slice(b"00000606500\0");
            block[483..495].copy_from_slice(b"00002000000\0");
            change(block);
        });
        Tar::new().file("notes", "x").raw(block).padded(disk()).end()
    };
    corpus.add("old sparse header without a size", &old(&|block| block[483..495].fill(b'x')));
    corpus.add("old sparse header that goes on", &old(&|block| block[482] = 1));
    corpus.add(
        "old sparse header beyond its size",
        &old(&|block| {
            block[483..495].copy_from_slice(b"00000000010\0");
        }),
    );
    let size = (65_u64 << 40).to_string();
    let records = [("GNU.sparse.size", size.as_str()), ("GNU.sparse.map", "0,200000")];
    corpus.add("sparse disk of 65 TiB", &sparse(&records));
}

fn zip_headers(corpus: &mut Corpus) {
    let disk = disk();
    let whole = zip_of(&[ZipMember::deflated("disk.raw", &disk)]);
    for length in [20, 34, 1000, whole.len() / 2, whole.len() - 30, whole.len() - 1] {
        corpus.add(format!("zip cut off after {length} bytes"), &whole[..length]);
    }
    let length = u32::try_from(disk.len()).unwrap();
    let deflated = || ZipMember::deflated("disk.raw", &disk);
    let stored = || ZipMember::stored("disk.raw", &disk);
    for (name, member) in [
        ("a wrong checksum", deflated().crc(1)),
        ("a wrong checksum of a stored member", stored().crc(1)),
        ("too short a length", stored().told(length, length - 1)),
        ("too long a length", stored().told(length, length + 1)),
        ("too long a stored length", stored().told(length + 10_000, length + 10_000)),
        ("a length of 4 GiB", stored().told(u32::MAX - 1, u32::MAX - 1)),
        ("lengths of zip64 that are missing", stored().told(u32::MAX, u32::MAX)),
        ("another name in front", stored().local_name("../../etc/passwd")),
        ("encryption", stored().flags(1)),
        ("deflate64", deflated().method(9)),
        ("bzip2", deflated().method(12)),
        ("lzma", deflated().method(14)),
        ("zstd", deflated().method(93)),
        ("data that is not deflated", stored().method(8)),
        ("no data", ZipMember::stored("disk.raw", b"")),
    ] {
        // What only its data tells is found when it is read.
        let when = ["a wrong", "data", "too short", "too long a length"];
        let when = when.iter().any(|start| name.starts_with(start));
        corpus.add(format!("zip with {name}"), &zip_of(&[member])).when(if when {
            When::Registered
        } else {
            When::Measured
        });
    }
    let mut bytes = zip_of(&[deflated()]);
    let middle = bytes.len() / 2;
    bytes[middle..middle + 200].fill(0xaa);
    corpus.add("zip with damaged data", &bytes).when(When::Registered);
}

fn zip_directory(corpus: &mut Corpus) {
    let disk = disk();
    let member = || ZipMember::stored("disk.raw", &disk);
    corpus.add("zip with a member beyond its end", &zip_of(&[member().at(9_000_000)]));
    corpus.add("zip with a member in the data of another", &zip_of(&[member().at(77)]));
    corpus.add("zip with two disks of one name", &zip_of(&[member(), member()]));
    let good = zip_of(&[member()]);
    let end = good.len() - 22;
    for (name, at, value) in [
        ("directory beyond its end", 16, &[0xff, 0xff, 0xff, 0x7f][..]),
        ("zip64 end that is missing", 16, &[0xff; 4]),
    ] {
        let mut bytes = good.clone();
        bytes[end + at..end + at + value.len()].copy_from_slice(value);
        corpus.add(format!("zip with a {name}"), &bytes);
    }
    let overlapping: Vec<_> = (0..300).map(|_| member().at(0)).collect();
    corpus.add("zip of one member 300 times", &zip_of(&overlapping));
    let many: Vec<_> = (0..10_100).map(|n| ZipMember::stored(&n.to_string(), b"")).collect();
    corpus.add("zip with too many members", &zip_of(&many));
}

fn appliances(corpus: &mut Corpus) {
    let of = |text: &str| Tar::new().file("vm.ovf", text).file("disk.vmdk", disk()).end();
    let file = ["id='f' href='disk.vmdk'"];
    let disks = |attributes: &str| ovf(&file, &[attributes]);
    for (name, text) in [
        ("no XML", "<a".to_owned()),
        ("a tag with an attribute twice", "<File id='1' id='2'/>".to_owned()),
        ("an entity of its own", "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><File id='f' href='&x;'/><Disk fileRef='f'/>".to_owned()),
        ("a disk without a file", ovf(&[], &["fileRef='f'"])),
        ("a file that is not inside", ovf(&["id='f' href='../../etc/passwd'"], &["fileRef='f'"])),
        ("a file elsewhere", ovf(&["id='f' href='http://127.0.0.1/x.vmdk'"], &["fileRef='f'"])),
        ("a parent", disks("fileRef='f' parentRef='g'")),
        ("parts that are not all there", ovf(&["id='f' href='disk.vmdk' size='900000' chunkSize='5'"], &["fileRef='f'"])),
    ] {
        corpus.add(format!("OVF with {name}"), &of(&text));
    }
    let long = "<!-- -->".repeat(600_000);
    corpus.add("OVF that is too long", &of(&long));
    let manifest = |line: &str| {
        Tar::new()
            .file("vm.ovf", ovf(&file, &["fileRef='f'"]))
            .file("vm.mf", line)
            .file("disk.vmdk", disk())
            .end()
    };
    let zeros = "0".repeat(64);
    corpus.add(
        "manifest with a wrong digest of the OVF",
        &manifest(&format!("SHA256(vm.ovf)= {zeros}\n")),
    );
    corpus
        .add("manifest with a wrong digest", &manifest(&format!("SHA256(disk.vmdk)= {zeros}\n")))
        .when(When::Registered);
    corpus
        .add("manifest with a digest that is none", &manifest("SHA1(disk.vmdk)= zz\n"))
        .when(When::Registered);
    let long = "\n".repeat((1 << 20) + 1);
    corpus.add("manifest that is too long", &manifest(&long));
}

fn contents(corpus: &mut Corpus) {
    let tar = |name: &str, content: &[u8]| Tar::new().file(name, content).end();
    let inner = good();
    corpus.add("tar in a tar", &tar("disk.img", &inner));
    corpus
        .add("zip in a tar", &tar("disk.img", &zip_of(&[ZipMember::stored("disk.raw", &disk())])));
    corpus.add("tar in a zip", &zip_of(&[ZipMember::deflated("disk.img", &inner)]));
    let trap = |text: &str| format!("# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\n{text}");
    let descriptor = trap("RW 2048 FLAT \"/etc/passwd\" 0\n");
    corpus.add("descriptor of files elsewhere in a tar", &tar("disk.vmdk", descriptor.as_bytes()));
    let mut qcow2 = vec![0; 70_000];
    qcow2[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    corpus.add("broken qcow2 in a tar", &tar("disk", &qcow2));
    corpus.add("broken qcow2 in a zip", &zip_of(&[ZipMember::deflated("disk", &qcow2)]));
    corpus.add("7z in a tar", &tar("disk.img", b"7z\xbc\xaf\x27\x1c and more"));
    let mut both = Tar::header("disk.raw", "00000606500\0", b'0');
    both[..8].copy_from_slice(b"QFI\xfb\x01\x01\x01\x03");
    both[510..].copy_from_slice(b"\x55\xaa");
    corpus.add("tar that is a disk too", &Tar::new().raw(Tar::summed(both)).padded(disk()).end());
    let mut disc = good();
    disc[0x8001..0x8006].copy_from_slice(b"CD001");
    corpus.add("tar that is a disc too", &disc);
}
