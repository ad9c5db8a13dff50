//! `cp`: files that come compressed.

use ferrostore_tests::{
    Cloud, KIB, MIB, Rule, Web, allocated, digest, pattern, qemu_img_check, run, same_bytes,
    same_content, virtual_size,
};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const COMPRESSORS: [&str; 4] = ["gzip", "bzip2", "xz", "zstd"];

/// The standard output of a shell-less command, as a file among the users' images.
fn output_of(cloud: &Cloud, name: &str, program: &str, arguments: &[&str]) -> PathBuf {
    cloud.file(name, run(program, arguments).stdout)
}

#[test]
fn every_compression_of_every_format_is_undone() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB + 512);
    let images = [
        (disk.clone(), "raw"),
        (cloud.qcow2(&disk, "plain.qcow2", ""), "qcow2"),
        (cloud.compressed_qcow2(&disk, "packed.qcow2", ""), "qcow2"),
        (cloud.luks("disk.luks", MIB), "raw"),
        (cloud.iso("disc.iso"), "raw"),
    ];
    for program in COMPRESSORS {
        for (image, format) in &images {
            println!("{} by {program}", image.display());
            let packed = cloud.compressed(image, program);
            let copy = cloud.cp(&packed).run().succeeds().image(format);
            same_bytes(image, copy);
        }
    }
}

#[test]
fn a_compressed_disk_is_converted_on_the_way() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 20 * MIB + 512);
    let images = [
        (disk.clone(), "raw"),
        (cloud.qcow2(&disk, "plain.qcow2", ""), "qcow2"),
        (cloud.qcow2(&disk, "small.qcow2", "cluster_size=512"), "qcow2"),
        (cloud.compressed_qcow2(&disk, "packed.qcow2", "compression_type=zstd"), "qcow2"),
        (cloud.converted(&disk, "disk.vdi", "vdi", ""), "vdi"),
    ];
    for program in COMPRESSORS {
        for (image, format) in &images {
            let packed = cloud.compressed(image, program);
            for driver in ["raw", "qcow2"] {
                println!("{format} by {program} to {driver}");
                let copy = cloud.cp(&packed).driver(driver).run().succeeds().image(driver);
                same_content(&disk, "raw", &copy, driver);
                assert_eq!(virtual_size(&copy, driver), 20 * MIB + 512);
                if driver == "qcow2" {
                    qemu_img_check(copy);
                }
            }
        }
    }
}

#[test]
fn no_decompress_keeps_the_file() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    for program in COMPRESSORS {
        let packed = cloud.compressed(&disk, program);
        for word in ["yes", "YES"] {
            let copy = cloud
                .cp(&packed)
                .set("DATASTORE/TEMPLATE/NO_DECOMPRESS", word)
                .run()
                .succeeds()
                .image("raw");
            same_bytes(&packed, copy);
        }
        let copy = cloud
            .cp(&packed)
            .set("DATASTORE/TEMPLATE/NO_DECOMPRESS", "no")
            .run()
            .succeeds()
            .image("raw");
        same_bytes(&disk, copy);
    }
}

#[test]
fn a_file_in_pieces_is_joined() {
    let cloud = Cloud::new();
    let first = cloud.raw("first.img", MIB);
    let second = cloud.file("second.img", pattern(7, 300_000));
    let third = cloud.file("third.img", vec![0; 70_000]);
    let whole: Vec<u8> =
        [&first, &second, &third].into_iter().flat_map(|part| fs::read(part).unwrap()).collect();
    let whole = cloud.file("whole.img", whole);
    for program in COMPRESSORS {
        let packed: Vec<u8> = [&first, &second, &third]
            .into_iter()
            .flat_map(|part| fs::read(cloud.compressed(part, program)).unwrap())
            .collect();
        let packed = cloud.file("packed", packed);
        println!("{program}");
        let copy = cloud.cp(&packed).run().succeeds().image("raw");
        starts_with(&copy, &whole);
        let image = cloud.cp(&packed).driver("qcow2").run().succeeds().image("qcow2");
        same_content(&whole, "raw", image, "qcow2");
    }
}

/// The copy is the original, perhaps with zeros up to the next sector.
fn starts_with(copy: &Path, original: &Path) {
    let (copy, original) = (fs::read(copy).unwrap(), fs::read(original).unwrap());
    assert!(copy[..original.len()] == original);
    assert!(copy.len() <= original.len().next_multiple_of(512));
}

#[test]
fn all_that_xz_can_write_is_read() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    let name = disk.to_str().unwrap();
    for options in [
        &["--check=none"][..],
        &["--check=sha256"],
        &["--block-size=65536"],
        &["-T2", "--block-size=1MiB"],
        &["-0"],
        &["--delta=dist=4", "--lzma2"],
        &["--x86", "--lzma2"],
    ] {
        println!("{options:?}");
        let packed =
            output_of(&cloud, "disk.xz", "xz", &[&["-c", "-k"], options, &[name]].concat());
        let copy = cloud.cp(&packed).run().succeeds().image("raw");
        same_bytes(&disk, copy);
    }
}

#[test]
fn all_that_zstd_can_write_is_read() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    let name = disk.to_str().unwrap();
    for options in [
        &["-19"][..],
        &["--no-check"],
        &["--check"],
        &["-T2"],
        &["--fast=5"],
        &["--no-content-size"],
    ] {
        println!("{options:?}");
        let packed = output_of(
            &cloud,
            "disk.zst",
            "zstd",
            &[&["-q", "-c", "-k"], options, &[name]].concat(),
        );
        let copy = cloud.cp(&packed).run().succeeds().image("raw");
        same_bytes(&disk, copy);
    }
}

#[test]
fn a_gzip_file_with_every_optional_field_is_read() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let plain = fs::read(cloud.compressed(&disk, "gzip")).unwrap();
    // gzip itself writes only the file's name: cut the header off and write a full one.
    let name_end = 10 + plain[10..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let mut packed = vec![0x1f, 0x8b, 8, 0x1c, 0, 0, 0, 0, 0, 255];
    packed.extend(4_u16.to_le_bytes());
    packed.extend(b"extr");
    packed.extend(b"a name\0a comment\0");
    packed.extend(&plain[name_end..]);
    let packed = cloud.file("disk.gz", packed);
    let copy = cloud.cp(&packed).run().succeeds().image("raw");
    same_bytes(disk, copy);
}

#[test]
fn the_content_decides_and_not_the_name() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let packed = cloud.compressed(&disk, "xz");
    let misnamed = cloud.images().join("disk.raw");
    fs::rename(packed, &misnamed).unwrap();
    let copy = cloud.cp(&misnamed).run().succeeds().image("raw");
    same_bytes(&disk, copy);
    let misnamed = cloud.images().join("plain.gz");
    fs::copy(&disk, &misnamed).unwrap();
    let copy = cloud.cp(&misnamed).run().succeeds().image("raw");
    same_bytes(&disk, copy);
}

#[test]
fn a_truncated_file_is_refused() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    for program in COMPRESSORS {
        let packed = cloud.compressed(&disk, program);
        let whole = fs::read(&packed).unwrap();
        for length in [whole.len() - 1, whole.len() - 8, whole.len() / 2, 100] {
            fs::write(&packed, &whole[..length]).unwrap();
            for driver in ["", "qcow2"] {
                println!("{length} of {} bytes of {program}", whole.len());
                cloud
                    .cp(&packed)
                    .driver(driver)
                    .run()
                    .refused(Rule::Unreadable)
                    .naming("IMAGE/PATH")
                    .saying_path(&packed);
            }
        }
    }
}

#[test]
fn a_damaged_file_is_refused() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    for program in COMPRESSORS {
        let packed = if program == "zstd" {
            // Its checksum is optional.
            output_of(&cloud, "disk.zst", "zstd", &["-q", "-c", "--check", disk.to_str().unwrap()])
        } else {
            cloud.compressed(&disk, program)
        };
        let mut bytes = fs::read(&packed).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        fs::write(&packed, bytes).unwrap();
        println!("{program}");
        cloud.cp(&packed).run().refused(Rule::Unreadable).naming("IMAGE/PATH");
    }
}

#[test]
fn a_wrong_length_or_checksum_at_the_end_of_gzip_is_noticed() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let packed = cloud.compressed(&disk, "gzip");
    let right = fs::read(&packed).unwrap();
    for from_end in [1, 4, 5, 8] {
        let mut bytes = right.clone();
        let at = bytes.len() - from_end;
        bytes[at] ^= 1;
        fs::write(&packed, bytes).unwrap();
        cloud.cp(&packed).run().refused(Rule::Unreadable).naming("IMAGE/PATH");
    }
}

#[test]
fn a_magic_number_and_nothing_else_is_refused() {
    let cloud = Cloud::new();
    for magic in [&b"\x1f\x8b\x08"[..], b"BZh91AY&SY", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"] {
        let stub = cloud.file("stub", magic);
        cloud.cp(&stub).run().refused(Rule::Unreadable).naming("IMAGE/PATH");
    }
}

#[test]
fn nothing_compressed_is_still_nothing() {
    let cloud = Cloud::new();
    let empty = cloud.file("empty", "");
    for program in COMPRESSORS {
        let packed = cloud.compressed(&empty, program);
        for driver in ["", "qcow2"] {
            cloud.cp(&packed).driver(driver).run().fails().naming("IMAGE/PATH").saying("empty");
        }
    }
}

#[test]
fn zeros_that_come_compressed_become_holes() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 64 * KIB);
    File::options().write(true).open(&disk).unwrap().set_len(100 * MIB).unwrap();
    for program in COMPRESSORS {
        let packed = cloud.compressed(&disk, program);
        println!("{program}");
        let copy = cloud.cp(&packed).run().succeeds().image("raw");
        same_bytes(&disk, &copy);
        assert!(allocated(copy) < MIB);
        let image = cloud.cp(&packed).driver("qcow2").run().succeeds().image("qcow2");
        same_content(&disk, "raw", &image, "qcow2");
        assert!(allocated(image) < 2 * MIB);
    }
}

#[test]
fn padding_with_zeros_is_no_data() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    // As gunzip and unxz see it: tapes and block devices pad.
    for program in ["gzip", "xz"] {
        let packed = cloud.compressed(&disk, program);
        let padded = [fs::read(&packed).unwrap(), vec![0; 512]].concat();
        fs::write(&packed, padded).unwrap();
        println!("{program}");
        let copy = cloud.cp(&packed).run().succeeds().image("raw");
        same_bytes(&disk, copy);
        cloud.stat(&packed).run().succeeds().replies("1");
    }
}

/// OpenWrt's images have metadata and a signature behind the gzip data.
#[test]
fn what_stands_behind_gzip_and_bzip2_data_is_left_out_with_a_warning() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 3 * MIB);
    let metadata =
        [b"FWx0 {\"metadata_version\": \"1.1\"}\n".as_slice(), &pattern(8, 700)].concat();
    for program in ["gzip", "bzip2"] {
        let packed = cloud.compressed(&disk, program);
        let whole = fs::read(&packed).unwrap();
        for (rest, warns) in [
            (&metadata[..], true),
            (&metadata[..1], true),
            (&[&[0; 700], &whole[..]].concat(), true),
            (&[0; 700][..], false),
        ] {
            let path = cloud.file("disk.img.packed", [&whole, rest].concat());
            for path in [path.to_str().unwrap().to_owned(), web.serve(&path)] {
                println!("{program}, {} bytes behind it, {path}", rest.len());
                cloud.stat(&path).run().succeeds().replies("3");
                for driver in ["raw", "qcow2"] {
                    let sum = digest("sha256sum", cloud.images().join("disk.img.packed"));
                    let call = cloud.cp(&path).driver(driver).set("IMAGE/TEMPLATE/SHA256", sum);
                    let outcome = call.run();
                    let log = outcome.log_lines();
                    assert_eq!(log.iter().any(|line| line.starts_with("WARN: ")), warns, "{log:?}");
                    let copy = outcome.succeeds().image(driver);
                    same_content(&disk, "raw", copy, driver);
                }
                let call = cloud.cp(&path).set("IMAGE/TEMPLATE/SHA1", digest("sha1sum", &disk));
                call.run().refused(Rule::DigestMismatch).naming("IMAGE/TEMPLATE/SHA1");
            }
        }
        // Another member that is cut off is damage.
        let cut = cloud.file("cut", [&whole[..], &whole[..whole.len() / 2]].concat());
        cloud.cp(&cut).run().fails().naming("IMAGE/PATH").saying("cut off");
    }
}

#[test]
fn windows_are_as_large_as_the_administrator_allows() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 9 * MIB);
    let name = disk.to_str().unwrap();
    let zstd = |name: &str, options: &[&str], input: &str| {
        let words = [&["-c", "exec zstd -q -c \"$@\" < \"$0\"", input], options].concat();
        cloud.file(name, run("sh", words).stdout)
    };
    let wide = zstd("wide.zst", &["--long=27"], name);
    let wider = zstd("wider.zst", &["--long=31"], name);
    same_bytes(&disk, cloud.cp(&wide).run().succeeds().image("raw"));
    // What there is takes no more memory than that, whatever the header says.
    same_bytes(&disk, cloud.cp(&wider).run().succeeds().image("raw"));
    let larger = cloud.raw("larger.img", 17 * MIB);
    let more = zstd("more.zst", &["--long=27"], larger.to_str().unwrap());
    // A file that tells its length has no larger window than that.
    let told = output_of(&cloud, "told.zst", "zstd", &["-q", "-c", "--ultra", "-22", name]);
    cloud.datastore_conf("DECOMPRESS_MEMORY=16M\n");
    same_bytes(&disk, cloud.cp(&told).run().succeeds().image("raw"));
    same_bytes(&disk, cloud.cp(&wide).run().succeeds().image("raw"));
    let failure = cloud.cp(&more).run().refused(Rule::WindowTooLarge).naming("IMAGE/PATH");
    failure.saying("16 MiB that DECOMPRESS_MEMORY");
    cloud.datastore_conf("DECOMPRESS_MEMORY=2G\n");
    same_bytes(&larger, cloud.cp(&more).run().succeeds().image("raw"));
    cloud.datastore_conf("DECOMPRESS_MEMORY=lots\n");
    cloud.cp(&wide).run().fails().naming("DECOMPRESS_MEMORY").saying("datastore.conf");
}

#[test]
fn a_qcow2_file_may_be_larger_than_its_disk() {
    let cloud = Cloud::new();
    let disk = cloud.file("disk.img", pattern(1, 4 * MIB as usize));
    let image = cloud.qcow2(&disk, "disk.qcow2", "cluster_size=512");
    let name = image.to_str().unwrap();
    run("qemu-img", ["snapshot", "-c", "before", name]);
    run("qemu-io", ["-f", "qcow2", "-c", "write -P 7 0 4M", name]);
    assert!(fs::metadata(&image).unwrap().len() > 8 * MIB);
    for program in COMPRESSORS {
        let packed = cloud.compressed(&image, program);
        let call = cloud.cp(&packed).set_escaped("IMAGE/SIZE", "4");
        let copy = call.clone().run().succeeds().image("qcow2");
        same_bytes(&image, &copy);
        let raw = call.driver("raw").run().succeeds().image("raw");
        same_content(&image, "qcow2", raw, "raw");
    }
}

#[test]
fn a_qcow2_file_that_is_broken_inside_is_refused() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let image = cloud.qcow2(&disk, "disk.qcow2", "");
    let bytes = fs::read(&image).unwrap();
    let half = cloud.file("half.qcow2", &bytes[..bytes.len() / 2]);
    for program in COMPRESSORS {
        let packed = cloud.compressed(&half, program);
        for driver in ["", "raw", "qcow2"] {
            cloud.cp(&packed).driver(driver).run().refused(Rule::Corrupt).naming("IMAGE/PATH");
        }
    }
}

#[test]
fn a_bomb_needs_no_more_memory_than_any_image() {
    let cloud = Cloud::new();
    let zeros = cloud.images().join("zeros");
    File::create(&zeros).unwrap().set_len(1024 * MIB).unwrap();
    let packed = cloud.compressed(&zeros, "zstd");
    let report = cloud.root().join("report");
    let time = ["/usr/bin/env", "python3", "-c", MEASURE, report.to_str().unwrap()];
    for driver in ["", "qcow2"] {
        cloud.cp(&packed).driver(driver).under(time).run().succeeds().image(if driver.is_empty() {
            "raw"
        } else {
            driver
        });
        let peak: u64 = fs::read_to_string(&report).unwrap().trim().parse().unwrap();
        assert!(peak * KIB <= 64 * MIB, "{peak} KiB were resident");
    }
}

/// Runs a command and writes its peak of resident memory in KiB to a file.
const MEASURE: &str = "import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
open(sys.argv[1], 'w').write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)";
