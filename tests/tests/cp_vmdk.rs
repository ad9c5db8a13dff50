//! `cp` and `stat` of vmdk images of every writer, as files and as streams: `qemu-img` says what is in them.

use ferrostore_tests::{
    Cloud, KIB, MIB, Vmdk, Web, qemu_img_check, same_bytes, same_content, virtual_size,
};
use std::fs;
use std::path::{Path, PathBuf};

/// In a mount namespace of its own, /usr/bin is empty: there is no `qemu-img`.
const WITHOUT_PROGRAMS: [&str; 5] =
    ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /usr/bin; exec \"$0\" \"$@\""];

/// What VirtualBox says of the parent that an image does not have.
const VIRTUAL_BOX: &str = "ddb.uuid.image=\"6f2c8b9e-1d44-4f0e-9a55-0d9f5f3c2b11\"
ddb.uuid.parent=\"00000000-0000-0000-0000-000000000000\"
ddb.uuid.modification=\"8c1f6b0a-2e55-41f7-8a10-5a7e1d9c3f22\"
ddb.uuid.parentmodification=\"00000000-0000-0000-0000-000000000000\"
";

/// One image in every layout that writers use.
fn every_layout(disk: &[u8]) -> Vec<(&'static str, Vmdk<'_>)> {
    let stream = Vmdk::stream(disk);
    let sparse = Vmdk::sparse(disk);
    let odd =
        "ddb.comment = \"\u{fc}ber\"\nchangeTrackPath=\"disk-ctk.vmdk\"\nencoding = \"UTF-8\"\n";
    vec![
        ("stream", stream.clone()),
        ("stream of version 3", stream.clone().version(3)),
        ("read-only stream", stream.clone().version(3).access("RDONLY").tables_at_the_end()),
        ("stream with many tables", stream.clone().grains(128, 3)),
        ("stream of small grains", stream.clone().grains(8, 512)),
        ("stream of large grains", stream.clone().grains(2048, 16)),
        ("stream of odd grains", stream.clone().grains(24, 7).tables_at_the_end()),
        ("stream with padding", stream.clone().padded(100)),
        ("stream with its tables first", stream.clone().tables_first()),
        ("stream in another order", stream.clone().tables_first().backwards()),
        ("of VirtualBox", stream.clone().access("RDONLY").saying(VIRTUAL_BOX)),
        ("CRLF, tabs and names", stream.line_end("\t \r\n").saying(odd)),
        ("file", sparse.clone()),
        ("read-only file", sparse.clone().version(2).access("RDONLY").grains(16, 512)),
        ("file in another order", sparse.clone().backwards()),
        ("CR, tabs and names", sparse.access("\tRW\t").line_end("\r").saying(odd)),
    ]
}

/// Every layout as a file, that QEMU reads as `disk`.
fn every_image(cloud: &Cloud, disk: &Path, mut check: impl FnMut(&'static str, PathBuf)) {
    let bytes = fs::read(disk).unwrap();
    for (name, image) in every_layout(&bytes) {
        println!("{name}");
        let path = cloud.file("image.vmdk", image.make().bytes);
        same_content(disk, "raw", &path, "vmdk");
        check(name, path);
    }
}

fn is_registered(cloud: &Cloud, disk: &Path, path: &str) {
    let raw = cloud.cp(path).driver("raw").under(WITHOUT_PROGRAMS).run().succeeds().image("raw");
    same_bytes(disk, raw);
    let qcow2 =
        cloud.cp(path).driver("qcow2").under(WITHOUT_PROGRAMS).run().succeeds().image("qcow2");
    qemu_img_check(&qcow2);
    same_content(disk, "raw", qcow2, "qcow2");
}

#[test]
fn every_vmdk_file_is_converted_without_qemu_img() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 5 * MIB + 17 * 512);
    every_image(&cloud, &disk, |_, image| is_registered(&cloud, &disk, image.to_str().unwrap()));
}

#[test]
fn every_vmdk_file_is_converted_out_of_a_download() {
    let cloud = Cloud::new();
    let web = Web::new();
    let disk = cloud.raw("disk.img", 5 * MIB + 17 * 512);
    every_image(&cloud, &disk, |_, image| is_registered(&cloud, &disk, &web.serve(image)));
}

#[test]
fn every_vmdk_file_is_converted_out_of_a_compressed_one() {
    let cloud = Cloud::new();
    let web = Web::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    let mut programs = ["gzip", "xz", "zstd", "bzip2"].into_iter().cycle();
    every_image(&cloud, &disk, |_, image| {
        let packed = cloud.compressed(&image, programs.next().unwrap());
        is_registered(&cloud, &disk, packed.to_str().unwrap());
        is_registered(&cloud, &disk, &web.serve(packed));
    });
}

#[test]
fn every_vmdk_file_is_measured_and_kept() {
    let cloud = Cloud::new();
    let web = Web::new();
    let disk = cloud.raw("disk.img", 5 * MIB + 17 * 512);
    every_image(&cloud, &disk, |_, image| {
        cloud.stat(&image).run().succeeds().replies("6");
        cloud.stat(web.serve(&image)).run().succeeds().replies("6");
        same_bytes(&image, cloud.cp(&image).run().succeeds().image("vmdk"));
        same_bytes(&image, cloud.cp(web.serve(&image)).run().succeeds().image("vmdk"));
    });
}

#[test]
fn what_qemu_img_writes_is_converted_without_it() {
    let cloud = Cloud::new();
    let web = Web::new();
    for size in [512, 64 * KIB, 33 * MIB + 512] {
        let disk = cloud.raw("disk.img", size);
        for kind in ["monolithicSparse", "streamOptimized"] {
            for adapter in ["ide", "lsilogic"] {
                println!("{kind}, {adapter}, {size}");
                let options = format!("subformat={kind},adapter_type={adapter}");
                let image = cloud.converted(&disk, "image.vmdk", "vmdk", &options);
                is_registered(&cloud, &disk, image.to_str().unwrap());
                is_registered(&cloud, &disk, &web.serve(image));
            }
        }
    }
}

#[test]
fn a_disk_that_no_grain_fills_keeps_its_size() {
    let cloud = Cloud::new();
    let web = Web::new();
    let empty = vec![0; 3 * MIB as usize + 512];
    let disk = cloud.file("disk.img", &empty);
    for (name, image) in every_layout(&empty) {
        println!("{name}");
        let image = cloud.file("image.vmdk", image.make().bytes);
        is_registered(&cloud, &disk, image.to_str().unwrap());
        is_registered(&cloud, &disk, &web.serve(image));
    }
}

#[test]
fn a_stream_is_converted_in_one_pass_without_staging() {
    let cloud = Cloud::new();
    let web = Web::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    let bytes = fs::read(&disk).unwrap();
    // A file that is much longer than its disk: no copy of it could be made below this limit.
    let image = Vmdk::stream(&bytes).padded(40 << 11).make().bytes;
    let path = cloud.file("image.vmdk", image);
    same_content(&disk, "raw", &path, "vmdk");
    for path in [web.serve(&path), web.serve(cloud.compressed(&path, "gzip"))] {
        for format in ["raw", "qcow2"] {
            let limited = ["prlimit", "--fsize=8388608"];
            let image = cloud.cp(&path).driver(format).under(limited).run().succeeds();
            same_content(&disk, "raw", image.image(format), format);
        }
    }
}

#[test]
fn a_stream_whose_grains_go_back_is_refused_with_the_remedy() {
    let cloud = Cloud::new();
    let web = Web::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    let bytes = fs::read(&disk).unwrap();
    let image = Vmdk::stream(&bytes).tables_at_the_end().backwards().make().bytes;
    let path = cloud.file("image.vmdk", image);
    // Where all of it is at hand, the order does not matter.
    is_registered(&cloud, &disk, path.to_str().unwrap());
    let call = cloud.cp(web.serve(&path)).driver("raw");
    call.run().fails().naming("IMAGE/PATH").saying("out of order").saying("qemu-img convert");
}

#[test]
fn a_size_that_is_rounded_up_to_grains_is_what_qemu_says() {
    let cloud = Cloud::new();
    let web = Web::new();
    // VirtualBox has whole grains in the header, and the real size in the descriptor.
    let bytes = fs::read(cloud.raw("disk.img", 2 * MIB)).unwrap();
    let mut image = Vmdk::stream(&bytes).make().bytes;
    let text = b"RW 4096 ";
    let place = image.windows(text.len()).position(|window| window == text).unwrap();
    image[place..place + text.len()].copy_from_slice(b"RW 4093 ");
    let path = cloud.file("image.vmdk", image);
    assert_eq!(virtual_size(&path, "vmdk"), 2 * MIB);
    for path in [path.to_str().unwrap(), &web.serve(&path)] {
        let raw = cloud.cp(path).driver("raw").run().succeeds().image("raw");
        assert_eq!(fs::metadata(&raw).unwrap().len(), 2 * MIB);
        same_content(&raw, "raw", cloud.images().join("image.vmdk"), "vmdk");
    }
}

#[test]
fn a_clone_is_converted_without_qemu_img() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    every_image(&cloud, &disk, |_, image| {
        let source = cloud.stored(9, &image);
        let call = cloud.clone_of(&source, "vmdk").driver("raw").under(WITHOUT_PROGRAMS);
        same_bytes(&disk, call.run().succeeds().image("raw"));
        let call = cloud.clone_of(&source, "vmdk").driver("qcow2").under(WITHOUT_PROGRAMS);
        same_content(&disk, "raw", call.run().succeeds().image("qcow2"), "qcow2");
        same_bytes(&image, cloud.clone_of(&source, "vmdk").run().succeeds().image("vmdk"));
        fs::remove_file(source).unwrap();
    });
}
