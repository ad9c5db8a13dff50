//! `stat`: what a file would take once registered, in MiB.

use ferrostore_tests::{
    Cloud, FOREIGN_FORMATS, KIB, MIB, Rule, Web, pattern, run, same_bytes, virtual_size,
};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

const COMPRESSORS: [&str; 4] = ["gzip", "bzip2", "xz", "zstd"];

#[test]
fn a_plain_file_counts_its_size_rounded_up() {
    let cloud = Cloud::new();
    for (size, expected) in [
        (1, "1"),
        (512, "1"),
        (MIB - 1, "1"),
        (MIB, "1"),
        (MIB + 1, "2"),
        (4 * MIB, "4"),
        (4 * MIB + 1, "5"),
    ] {
        let disk = cloud.raw("disk.img", size);
        cloud.stat(&disk).run().succeeds().replies(expected).changing_nothing();
    }
}

#[test]
fn holes_count_like_data() {
    let cloud = Cloud::new();
    let disk = cloud.images().join("disk.img");
    File::create(&disk).unwrap().set_len(10 * 1024 * MIB).unwrap();
    cloud.stat(&disk).run().succeeds().replies("10240");
}

#[test]
fn a_qcow2_file_counts_its_virtual_size() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 20 * MIB + 512);
    for options in [
        "compat=0.10",
        "compat=1.1",
        "cluster_size=512",
        "cluster_size=4096",
        "cluster_size=2M",
        "extended_l2=on",
        "lazy_refcounts=on",
        "refcount_bits=1",
        "preallocation=metadata",
    ] {
        let image = cloud.qcow2(&disk, "disk.qcow2", options);
        println!("{options}");
        cloud.stat(&image).run().succeeds().replies("21");
    }
}

#[test]
fn an_empty_qcow2_file_of_a_terabyte_counts_a_terabyte() {
    let cloud = Cloud::new();
    let image = cloud.images().join("disk.qcow2");
    run("qemu-img", ["create", "-q", "-f", "qcow2", image.to_str().unwrap(), "1T"]);
    cloud.stat(&image).run().succeeds().replies("1048576");
}

#[test]
fn other_formats_with_a_header_count_their_virtual_size() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 20 * MIB);
    for (format, options) in FOREIGN_FORMATS {
        let image = cloud.converted(&disk, &format!("disk.{format}"), format, options);
        println!("{format} {options}");
        let expected = virtual_size(&image, format).div_ceil(MIB);
        cloud.stat(&image).run().succeeds().replies(&expected.to_string());
    }
}

#[test]
fn a_vhd_of_fixed_size_counts_its_file() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 20 * MIB);
    let image = cloud.converted(&disk, "disk.vhd", "vpc", "subformat=fixed,force_size=on");
    let outcome = cloud.stat(&image).run().succeeds();
    // With or without the footer of 512 bytes, which is not part of the disk.
    assert!(["20", "21"].contains(&outcome.line()), "{}", outcome.line());
}

#[test]
fn an_encrypted_disk_counts_as_the_file_or_as_what_is_inside() {
    let cloud = Cloud::new();
    let disk = cloud.luks("disk.luks", 8 * MIB);
    let file = fs::metadata(&disk).unwrap().len().div_ceil(MIB).to_string();
    let reply = cloud.stat(&disk).run().succeeds();
    assert!(["8", &file].contains(&reply.line()), "{}", reply.line());
}

#[test]
fn a_luks_container_of_version_2_counts_as_a_whole() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.luks2("disk.luks", 20 * MIB);
    let packed = cloud.compressed(&disk, "gzip");
    for path in [&disk, &packed] {
        cloud.stat(path).run().succeeds().replies("20");
        cloud.stat(web.serve(path)).run().succeeds().replies("20");
    }
    let copy = cloud.cp(&disk).driver("qcow2").set_escaped("IMAGE/SIZE", "20").run().succeeds();
    same_bytes(&disk, copy.image("raw"));
}

#[test]
fn a_cdrom_counts_its_file() {
    let cloud = Cloud::new();
    let iso = cloud.iso("disc.iso");
    let expected = fs::metadata(&iso).unwrap().len().div_ceil(MIB).to_string();
    // For a CD-ROM, oned leaves the size out of the message.
    cloud.stat(&iso).without("IMAGE/SIZE").run().succeeds().replies(&expected);
    cloud.stat(&iso).run().succeeds().replies(&expected);
}

#[test]
fn a_compressed_file_counts_what_comes_out() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 5 * MIB + 1);
    for program in COMPRESSORS {
        let packed = cloud.compressed(&disk, program);
        println!("{program}");
        cloud.stat(&packed).run().succeeds().replies("6").changing_nothing();
    }
}

#[test]
fn a_compressed_qcow2_file_counts_its_virtual_size() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 20 * MIB + 512);
    let image = cloud.qcow2(&disk, "disk.qcow2", "");
    for program in COMPRESSORS {
        let packed = cloud.compressed(&image, program);
        println!("{program}");
        cloud.stat(&packed).run().succeeds().replies("21");
    }
}

#[test]
fn files_compressed_in_pieces_count_all_of_them() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    for program in COMPRESSORS {
        let piece = fs::read(cloud.compressed(&disk, program)).unwrap();
        let both = cloud.file("both", [piece.as_slice(), &piece].concat());
        println!("{program}");
        cloud.stat(&both).run().succeeds().replies("6");
    }
}

#[test]
fn a_gzip_file_of_more_than_4_gib_is_measured_to_its_end() {
    let cloud = Cloud::new();
    let zeros = cloud.images().join("zeros");
    File::create(&zeros).unwrap().set_len(64 * MIB).unwrap();
    // In 65 pieces, the size field at the end tells of the last alone (and of a single piece it
    // would tell the same, since it counts modulo 4 GiB).
    let piece = fs::read(cloud.compressed(&zeros, "gzip")).unwrap();
    let packed = cloud.file("packed", piece.repeat(65));
    cloud.stat(&packed).run().succeeds().replies("4160");
}

#[test]
fn a_compressed_file_that_is_kept_counts_as_it_is() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 5 * MIB);
    for program in COMPRESSORS {
        let packed = cloud.compressed(&disk, program);
        let expected = fs::metadata(&packed).unwrap().len().div_ceil(MIB).to_string();
        assert_ne!(expected, "5");
        println!("{program}");
        cloud
            .stat(&packed)
            .set("DATASTORE/TEMPLATE/NO_DECOMPRESS", "yes")
            .run()
            .succeeds()
            .replies(&expected);
        cloud.stat(&packed).files_datastore().run().succeeds().replies(&expected);
    }
}

#[test]
fn a_directory_counts_what_du_counts() {
    let cloud = Cloud::new();
    let folder = cloud.images().join("tree");
    fs::create_dir_all(folder.join("deep/deeper")).unwrap();
    fs::write(folder.join("a"), pattern(1, 3 * MIB as usize)).unwrap();
    fs::write(folder.join("deep/deeper/b"), pattern(2, 2 * MIB as usize + 1)).unwrap();
    fs::hard_link(folder.join("a"), folder.join("deep/the-same")).unwrap();
    let big = cloud.outside().join("big");
    fs::write(&big, pattern(3, 9 * MIB as usize)).unwrap();
    symlink(&big, folder.join("elsewhere")).unwrap();
    symlink(cloud.outside(), folder.join("elsewhere-too")).unwrap();
    symlink(&folder, folder.join("deep/loop")).unwrap();
    let output = run("du", ["-sm", folder.to_str().unwrap()]);
    let expected = String::from_utf8(output.stdout).unwrap();
    let expected = expected.split_whitespace().next().unwrap();
    assert_eq!(expected, "6");
    cloud.stat(&folder).run().succeeds().replies(expected);
}

#[test]
fn a_file_that_may_not_be_registered_may_not_be_measured() {
    let cloud = Cloud::new();
    let secret = cloud.outside().join("secret.img");
    fs::write(&secret, pattern(1, 5000)).unwrap();
    cloud
        .stat(&secret)
        .run()
        .refused(Rule::Restricted)
        .naming("IMAGE/PATH")
        .saying_path(&secret)
        .saying("SAFE_DIRS");

    let link = cloud.images().join("link");
    symlink(&secret, &link).unwrap();
    cloud.stat(&link).run().refused(Rule::Restricted).naming("IMAGE/PATH");

    let dotted = cloud.images().join("../outside/secret.img");
    cloud.stat(dotted).run().refused(Rule::Restricted).naming("IMAGE/PATH");

    symlink(cloud.outside(), cloud.images().join("folder")).unwrap();
    cloud
        .stat(cloud.images().join("folder/secret.img"))
        .run()
        .refused(Rule::Restricted)
        .naming("IMAGE/PATH");
    cloud.stat(cloud.images().join("folder")).run().refused(Rule::Restricted).naming("IMAGE/PATH");
    cloud.stat(cloud.outside()).run().refused(Rule::Restricted).naming("IMAGE/PATH");
}

#[test]
fn a_missing_file_is_named() {
    let cloud = Cloud::new();
    let missing = cloud.images().join("nothing here.img");
    cloud
        .stat(&missing)
        .run()
        .refused(Rule::CantBeOpened)
        .naming("IMAGE/PATH")
        .saying_path(&missing);
}

#[test]
fn an_empty_file_is_refused() {
    let cloud = Cloud::new();
    let empty = cloud.file("empty.img", "");
    cloud.stat(&empty).run().fails().naming("IMAGE/PATH").saying("empty");
}

#[test]
fn a_file_that_the_driver_may_not_read_is_named() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    run("chmod", ["000", disk.to_str().unwrap()]);
    cloud.hand_over_to(12345);
    cloud.stat(&disk).as_user(12345).run().fails().naming("IMAGE/PATH").saying("permission");
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let cloud = Cloud::new();
    let fifo = cloud.images().join("fifo");
    run("mkfifo", [&fifo]);
    cloud.stat(&fifo).run().refused(Rule::WrongFileType).naming("IMAGE/PATH");

    let socket = cloud.images().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    cloud.stat(&socket).run().refused(Rule::WrongFileType).naming("IMAGE/PATH");

    cloud
        .stat("/dev/zero")
        .set("DATASTORE/TEMPLATE/SAFE_DIRS", "/dev")
        .run()
        .refused(Rule::WrongFileType)
        .naming("IMAGE/PATH");
}

#[test]
fn a_truncated_compressed_file_is_refused() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    for program in COMPRESSORS {
        let packed = cloud.compressed(&disk, program);
        let whole = fs::read(&packed).unwrap();
        fs::write(&packed, &whole[..whole.len() * 2 / 3]).unwrap();
        println!("{program}");
        cloud.stat(&packed).run().refused(Rule::Unreadable).naming("IMAGE/PATH");
    }
}

#[test]
fn an_image_that_cp_refuses_is_not_measured_either() {
    let cloud = Cloud::new();
    let image = cloud.images().join("overlay.qcow2");
    run(
        "qemu-img",
        [
            "create",
            "-q",
            "-f",
            "qcow2",
            "-u",
            "-F",
            "raw",
            "-b",
            "/etc/shadow",
            image.to_str().unwrap(),
            "1M",
        ],
    );
    cloud.stat(&image).run().fails().naming("IMAGE/PATH").saying("backing file");
}

#[test]
fn a_file_of_one_byte_less_than_a_qcow2_header_is_a_plain_file_or_refused() {
    let cloud = Cloud::new();
    let stub = cloud.file("stub", b"QFI\xfb\0\0\0\x03");
    // It claims to be qcow2: any doubt is refused.
    cloud.stat(&stub).run().refused(Rule::Corrupt).naming("IMAGE/PATH");
}

#[test]
fn a_small_block_of_a_large_disk_is_enough_to_measure_it() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 64 * KIB);
    File::options().write(true).open(&disk).unwrap().set_len(100 * 1024 * MIB).unwrap();
    let image = cloud.qcow2(&disk, "disk.qcow2", "");
    cloud.stat(&image).run().succeeds().replies("102400");
}
