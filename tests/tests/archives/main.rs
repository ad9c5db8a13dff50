//! Archives and appliances: the disk in them is the image.

#![allow(clippy::similar_names, clippy::type_complexity)]

mod appliances;

use appliances::{Appliance, ONE_DISK, one_disk};
use ferrostore_tests::archive::{Tar, ZipMember, ovf, zip_of};
use ferrostore_tests::{
    Call, Cloud, MIB, Page, Rule, Web, digest, pattern, run, same_bytes, same_content,
};
use std::fs;
use std::path::Path;

/// What `stat` over http may ask a server for.
const MOST_REQUESTS: usize = 6;
const COMPRESSORS: [&str; 4] = ["gzip", "bzip2", "xz", "zstd"];

/// `stat` and `cp` of `path`, a local one or a URL, give the raw disk `disk`.
fn gives(cloud: &Cloud, path: &str, disk: &Path) {
    let size = fs::metadata(disk).unwrap().len().div_ceil(MIB).to_string();
    println!("{path}");
    cloud.stat(path).run().succeeds().replies(&size);
    for driver in ["raw", "qcow2"] {
        let call = cloud.cp(path).driver(driver).set_escaped("IMAGE/SIZE", &size);
        same_content(disk, "raw", call.run().succeeds().image(driver), driver);
    }
}

/// As [`gives`], for a file and what a server makes of it, with ranges and without.
fn gives_everywhere(cloud: &Cloud, web: &Web, file: &Path, disk: &Path) {
    gives(cloud, file.to_str().unwrap(), disk);
    gives(cloud, &web.serve(file), disk);
    for request in web.requests() {
        assert_eq!(request.method, "GET");
    }
    gives(cloud, &web.page("whole", Page::of(file).without_ranges()), disk);
}

fn refuses(cloud: &Cloud, path: &str, told: &[&str]) {
    for call in [cloud.stat(path), cloud.cp(path), cloud.cp(path).driver("qcow2")] {
        let failure = call.run().fails().naming("IMAGE/PATH");
        told.iter().fold(failure, |failure, text| failure.saying(text));
    }
}

#[test]
fn the_disk_in_an_archive_of_any_kind_is_the_image() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("plain.img", 5 * MIB + 512);
    let readme = cloud.file("text", "about this disk\n");
    let members = [("README", &readme), ("disk.raw", &disk)];
    for format in ["v7", "oldgnu", "gnu", "ustar", "posix"] {
        let tar = cloud.tar("disk.tar", &["--format", format], &members);
        gives_everywhere(&cloud, &web, &tar, &disk);
    }
    for program in COMPRESSORS {
        let tar = cloud.tar("disk.tar", &[], &members);
        gives_everywhere(&cloud, &web, &cloud.compressed(&tar, program), &disk);
    }
    for (method, large) in [("STORED", false), ("DEFLATED", false), ("DEFLATED", true)] {
        let zip = cloud.zip("disk.zip", method, large, &members);
        gives_everywhere(&cloud, &web, &zip, &disk);
    }
    let content = fs::read(&disk).unwrap();
    let piped = zip_of(&[
        ZipMember::deflated("README", b"about").described_later(),
        ZipMember::deflated("disk.img", &content).described_later(),
    ]);
    gives_everywhere(&cloud, &web, &cloud.file("piped.zip", piped), &disk);
}

#[test]
fn a_disk_of_any_format_is_found_by_its_content() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("plain.img", 3 * MIB);
    let text = cloud.file("text", "no disk\n");
    let converted = |format, options| cloud.converted(&disk, "other", format, options);
    for (format, options) in [
        ("qcow2", ""),
        ("vmdk", ""),
        ("vmdk", "subformat=streamOptimized"),
        ("vdi", ""),
        ("vhdx", ""),
        ("vpc", "subformat=dynamic,force_size=on"),
    ] {
        println!("{format} {options}");
        let image = converted(format, options);
        let members = [("notes", &text), ("disk-of-the-machine", &image)];
        gives_everywhere(&cloud, &web, &cloud.tar("vm.tar", &[], &members), &disk);
        let zip = cloud.zip("vm.zip", "DEFLATED", false, &members);
        gives_everywhere(&cloud, &web, &zip, &disk);
    }
    let disc = cloud.iso("disc");
    let tar = cloud.tar("disc.tar", &[], &[("notes", &text), ("installation", &disc)]);
    let copy = cloud.cp(&tar).cdrom().run().succeeds().image("raw");
    same_bytes(&disc, copy);
    cloud.stat(&tar).without("IMAGE/SIZE").run().succeeds().replies("1");
    // Kept as they come, where the datastore keeps all formats.
    let image = converted("qcow2", "");
    let tar = cloud.tar("vm.tar", &[], &[("vm.qcow2", &image)]);
    same_bytes(&image, cloud.cp(&tar).run().succeeds().image("qcow2"));
}

#[test]
fn holes_that_an_archive_leaves_out_are_holes_again() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("plain.img", 6 * MIB);
    fs::File::options().write(true).open(&disk).unwrap().set_len(90 * MIB).unwrap();
    for options in [
        &["-S", "--format=gnu"][..],
        &["-S", "--format=oldgnu"],
        &["-S", "--format=posix", "--sparse-version=0.0"],
        &["-S", "--format=posix", "--sparse-version=0.1"],
        &["-S", "--format=posix", "--sparse-version=1.0"],
    ] {
        println!("{options:?}");
        let tar = cloud.tar("disk.tar", options, &[("disk.raw", &disk)]);
        assert!(fs::metadata(&tar).unwrap().len() < 20 * MIB, "it has no holes");
        gives_everywhere(&cloud, &web, &tar, &disk);
        let copy = cloud.cp(cloud.compressed(&tar, "gzip")).run().succeeds().image("raw");
        assert!(ferrostore_tests::allocated(&copy) < 20 * MIB);
        same_bytes(&disk, copy);
    }
}

#[test]
fn names_however_long_are_names_only() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("plain.img", MIB);
    let long = format!("{}/disk.raw", ["directory-with-a-long-name"; 8].join("/"));
    for format in ["gnu", "posix"] {
        let tar = cloud.tar("long.tar", &["--format", format], &[(&long, &disk)]);
        gives_everywhere(&cloud, &web, &tar, &disk);
        gives(&cloud, &format!("{}#{long}", tar.display()), &disk);
    }
    let content = fs::read(&disk).unwrap();
    let tar = Tar::new()
        .of_kind(b'5', "./", "")
        .of_kind(b'2', "../../etc/passwd", "")
        .of_kind(b'1', "/etc/shadow", "")
        .of_kind(b'3', "dev", "")
        .file("/../../../../etc/disk.img", &content)
        .end();
    gives_everywhere(&cloud, &web, &cloud.file("out.tar", tar), &disk);
}

#[test]
fn of_several_disks_one_has_to_be_chosen() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let first = cloud.raw("a.img", 2 * MIB);
    let second = cloud.file("b.img", pattern(3, 3 * MIB as usize));
    let image = cloud.qcow2(&second, "b.qcow2", "");
    let text = cloud.file("text", "no disk\n");
    let members = [("one.img", &first), ("notes", &text), ("two (2).qcow2", &image)];
    let tar = cloud.tar("vm.tar", &[], &members);
    let archives = [
        tar.clone(),
        cloud.compressed(&tar, "zstd"),
        cloud.zip("vm.zip", "STORED", false, &members),
        cloud.zip("vm2.zip", "DEFLATED", false, &members),
    ];
    for archive in archives {
        let served = Page::of(&archive);
        for path in [
            archive.to_str().unwrap().to_owned(),
            web.serve(&archive),
            web.page("whole", served.without_ranges()),
        ] {
            refuses(&cloud, &path, &["2 disks", "#1 \"one.img\" (2 MiB)", "#2 \"two (2).qcow2\""]);
            for (choice, disk) in [
                ("1", &first),
                ("one.img", &first),
                ("./one.img", &first),
                ("2", &second),
                ("two (2).qcow2", &second),
            ] {
                if choice.contains(' ') && path.starts_with("http") {
                    let choice = choice.replace(' ', "%20");
                    gives(&cloud, &format!("{path}#{choice}"), disk);
                } else {
                    gives(&cloud, &format!("{path}#{choice}"), disk);
                }
            }
            for wrong in ["3", "0", "two.qcow2"] {
                refuses(&cloud, &format!("{path}#{wrong}"), &[wrong, "one.img"]);
            }
            // What is chosen by its name need not look like a disk.
            let call = cloud.cp(format!("{path}#notes"));
            same_bytes(&text, call.run().succeeds().image("raw"));
        }
    }
}

#[test]
fn a_file_of_that_whole_name_is_meant_first() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let other = cloud.raw("other.img", 2 * MIB);
    let tar = cloud.tar("vm#2", &[], &[("disk.img", &disk), ("other#1.img", &other)]);
    let name = tar.display();
    gives(&cloud, &format!("{name}#1"), &disk);
    gives(&cloud, &format!("{name}#other#1.img"), &other);
    fs::copy(&other, cloud.images().join("vm#2#1")).unwrap();
    gives(&cloud, &format!("{name}#1"), &other);
    refuses(&cloud, &format!("{}#1", disk.display()), &["no archive"]);
    refuses(&cloud, &cloud.images().join("none#1").display().to_string(), &["No such file"]);
    let outside = cloud.tar("hidden.tar", &[], &[("disk.img", &disk)]);
    let hidden = cloud.outside().join("hidden.tar");
    fs::rename(outside, &hidden).unwrap();
    refuses(
        &cloud,
        &format!("{}#1", hidden.display()),
        &["lies in the restricted directory", "SAFE_DIRS"],
    );
}

#[test]
fn what_follows_a_hash_in_a_url_without_an_archive_is_left_out() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    for file in [disk.clone(), cloud.compressed(&disk, "gzip")] {
        let outcome = cloud.cp(format!("{}#top", web.serve(&file))).run();
        assert!(outcome.stderr_text().contains("WARN: "));
        same_bytes(&disk, outcome.succeeds().image("raw"));
    }
}

#[test]
fn an_archive_without_a_disk_is_told_with_what_is_inside() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let text = cloud.file("text", "no disk\n".repeat(1000));
    let members: Vec<_> = (0..30).map(|number| (format!("notes-{number}"), &text)).collect();
    let tar = cloud.tar("notes.tar", &[], &members);
    for archive in
        [tar.clone(), cloud.compressed(&tar, "xz"), cloud.zip("n.zip", "DEFLATED", false, &members)]
    {
        for path in [archive.to_str().unwrap(), &web.serve(&archive)] {
            refuses(&cloud, path, &["no disk", "\"notes-0\" (8000 bytes)", "and 20 more"]);
        }
    }
    for empty in [Tar::new().end(), zip_of(&[])] {
        let path = cloud.file("empty", empty);
        if fs::read(&path).unwrap().starts_with(b"PK") {
            refuses(&cloud, path.to_str().unwrap(), &["nothing is inside"]);
        }
    }
}

#[test]
fn a_zip_archive_on_a_server_is_read_by_its_directory() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.file("disk.img", pattern(3, 2 * MIB as usize));
    let content = fs::read(&disk).unwrap();
    let other = pattern(4, 30 * MIB as usize);
    // A stored member whose length comes later can't be found from the start, and a link is one by the directory only.
    let zip = zip_of(&[
        ZipMember::stored("notes.bin", &other),
        ZipMember::stored("disk.img", &content).described_later(),
        ZipMember::stored("latest.img", b"disk.img").link(),
    ]);
    let file = cloud.file("vm.zip", zip);
    gives(&cloud, file.to_str().unwrap(), &disk);
    let url = web.serve(&file);
    web.requests();
    gives(&cloud, &url, &disk);
    // Three calls, none of which fetches what is in front of the disk.
    let sent: u64 = web.requests().iter().map(|request| request.sent).sum();
    assert!(sent < 30 * MIB, "{sent} bytes");
    // A digest is of all of it.
    let packed = [ZipMember::deflated("disk.img", &content), ZipMember::stored("n", &other)];
    let file = cloud.file("vm.zip", zip_of(&packed));
    let call = cloud.cp(web.serve(&file)).driver("raw");
    let call = call.set("IMAGE/TEMPLATE/MD5", digest("md5sum", &file));
    same_bytes(&disk, call.run().succeeds().image("raw"));
    let nested = zip_of(&[ZipMember::deflated("disk.img.gz", &gzipped(&cloud, &file))]);
    let url = web.serve(cloud.file("nested.zip", nested));
    refuses(&cloud, &url, &["another archive"]);
}

fn gzipped(cloud: &Cloud, file: &Path) -> Vec<u8> {
    fs::read(cloud.compressed(file, "gzip")).unwrap()
}

#[test]
fn archives_are_kept_where_nothing_is_decompressed() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    let members = [("disk.img", &disk)];
    let tar = cloud.tar("vm.tar", &[], &members);
    for archive in [
        tar.clone(),
        cloud.compressed(&tar, "gzip"),
        cloud.zip("vm.zip", "DEFLATED", false, &members),
        cloud.file("vm.7z", [b"7z\xbc\xaf\x27\x1c".as_slice(), &pattern(1, 9000)].concat()),
    ] {
        for path in [archive.to_str().unwrap(), &web.serve(&archive)] {
            println!("{path}");
            let keep = |call: Call| {
                let call = call.set("DATASTORE/TEMPLATE/NO_DECOMPRESS", "yes");
                same_bytes(&archive, call.run().succeeds().image("raw"));
            };
            keep(cloud.cp(path));
            let file = cloud.cp(path).files_datastore().set_escaped("IMAGE/TYPE", "5");
            same_bytes(&archive, file.run().succeeds().image("raw"));
        }
    }
}

#[test]
fn formats_that_are_not_read_are_refused_by_name() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let noise = pattern(1, 90_000);
    let disk = cloud.file("disk.img", &noise);
    let lzma = run("python3", [
        "-c",
        "import lzma, sys; sys.stdout.buffer.write(lzma.compress(open(sys.argv[1], 'rb').read(), lzma.FORMAT_ALONE))",
        disk.to_str().unwrap(),
    ])
    .stdout;
    for (name, start) in [
        ("7z", &b"7z\xbc\xaf'\x1c\0\x04"[..]),
        ("rar", b"Rar!\x1a\x07\x01\0"),
        ("lz4", b"\x04\x22\x4d\x18\x64\x40\xa7"),
        ("lzma", &lzma),
        ("lzip", b"LZIP\x01\x0c"),
        ("compress", b"\x1f\x9d\x90"),
        ("cpio", b"070701"),
    ] {
        let file = cloud.file("image", [start, &noise].concat());
        let told = format!("the format {name}, which is not read");
        refuses(&cloud, file.to_str().unwrap(), &[&told, "unpack it"]);
        refuses(&cloud, &web.serve(&file), &[&told]);
        refuses(&cloud, cloud.compressed(&file, "gzip").to_str().unwrap(), &[&told]);
        // Further on it is no mark of anything.
        let disk = cloud.file("disk.img", [&[0; 512], start, &noise].concat());
        same_bytes(&disk, cloud.cp(&disk).run().succeeds().image("raw"));
    }
}

#[test]
fn a_disk_with_the_mark_of_an_archive_in_its_boot_code_is_a_disk() {
    let cloud = Cloud::new();
    let mut bytes = pattern(1, MIB as usize);
    bytes[257..263].copy_from_slice(b"ustar\0");
    bytes[510..512].copy_from_slice(b"\x55\xaa");
    let disk = cloud.file("disk.img", &bytes);
    same_bytes(&disk, cloud.cp(&disk).run().succeeds().image("raw"));
    // With a header and its checksum it is neither the one nor the other.
    let mut block = Tar::header("disk.img", "00004000000\0", b'0');
    block[510..].copy_from_slice(b"\x55\xaa");
    let both = Tar::new().raw(Tar::summed(block)).padded(&bytes).end();
    refuses(&cloud, cloud.file("both", both).to_str().unwrap(), &["could be a tar archive"]);
}

#[test]
fn a_thousand_members_more_are_no_trouble() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    let content = fs::read(&disk).unwrap();
    let many = (0..1200).fold(Tar::new(), |tar, number| tar.file(&format!("f{number}"), "text"));
    let tar = cloud.file("many.tar", many.file("disk.img", &content).end());
    gives_everywhere(&cloud, &web, &tar, &disk);
    let mut members: Vec<_> =
        (0..1200).map(|number| ZipMember::deflated(&format!("f{number}"), b"text")).collect();
    members.push(ZipMember::deflated("disk.img", &content));
    gives_everywhere(&cloud, &web, &cloud.file("many.zip", zip_of(&members)), &disk);
}

#[test]
fn a_digest_is_of_the_whole_archive() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let (_, image) = one_disk(&cloud);
    let appliance = Appliance::new(&cloud, &ovf(&ONE_DISK.0, &ONE_DISK.1))
        .with("vm-disk1.vmdk", &image)
        .with("notes", &image);
    let tar = appliance.tar("vm.ova");
    for archive in [
        tar.clone(),
        cloud.compressed(&tar, "gzip"),
        cloud.zip("vm.zip", "DEFLATED", false, &appliance.members),
    ] {
        let sum = digest("sha256sum", &archive);
        for path in [archive.to_str().unwrap(), &web.serve(&archive)] {
            let call = cloud.cp(path).driver("raw").set("IMAGE/TEMPLATE/SHA256", &sum);
            call.run().succeeds();
            let call = cloud.cp(path).set("IMAGE/TEMPLATE/SHA1", digest("sha1sum", &image));
            call.run().refused(Rule::DigestMismatch).naming("IMAGE/TEMPLATE/SHA1");
        }
    }
}
