//! `cp` and `stat` where a bridge host has the storage: whose files, and whose network.

use ferrostore_tests::{
    Bridges, Call, Cloud, MIB, Rule, Web, allocated, digest, pattern, qemu_img_check, run,
    same_bytes, same_content, virtual_size, write_script,
};
use std::fs;
use std::path::Path;

#[test]
fn files_of_the_front_end_of_every_kind_arrive() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 1);
    let disk = cloud.raw("disk.img", 5 * MIB + 512);
    let qcow2 = cloud.qcow2(&disk, "disk.qcow2", "");
    let packed = cloud.compressed_qcow2(&disk, "packed.qcow2", "");
    let vmdk = cloud.converted(&disk, "disk.vmdk", "vmdk", "");
    let files = ["gzip", "xz", "zstd", "bzip2"].map(|program| cloud.compressed(&disk, program));
    let images = [(&disk, "raw"), (&qcow2, "qcow2"), (&packed, "qcow2"), (&vmdk, "vmdk")];
    let images = images.into_iter().chain(files.iter().map(|file| (file, "raw")));
    for (file, format) in images {
        for driver in ["", "raw", "qcow2"] {
            println!("{} to {driver:?}", file.display());
            let expected = if driver.is_empty() { format } else { driver };
            let call = bridges.bridged(cloud.cp(file)).driver(driver);
            let call = call.set("IMAGE/TEMPLATE/SHA256", digest("sha256sum", file));
            let image = call.run().succeeds().image(expected);
            assert!(image.starts_with(bridges.host(1).datastore()));
            same_content(&disk, "raw", &image, expected);
            if expected == "qcow2" {
                qemu_img_check(image);
            }
        }
    }
    let kernel = cloud.file("kernel", pattern(3, 123_457));
    let call = bridges.bridged(cloud.cp(&kernel)).files_datastore().set("IMAGE/TYPE", "3");
    same_bytes(&kernel, call.run().succeeds().image("raw"));
    let luks = cloud.luks("disk.luks", 4 * MIB);
    let image = bridges.bridged(cloud.cp(&luks)).driver("qcow2").run().succeeds().image("raw");
    same_bytes(luks, image);
}

#[test]
fn sparse_areas_stay_sparse() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 1);
    let disk = cloud.images().join("sparse.img");
    let file = fs::File::create(&disk).unwrap();
    file.set_len(300 * MIB + 1000).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &pattern(1, 100_000), 77 * MIB).unwrap();
    let image = bridges.bridged(cloud.cp(&disk)).run().succeeds().image("raw");
    same_bytes(&disk, &image);
    assert!(allocated(&image) < MIB, "{} bytes are allocated", allocated(&image));
}

/// No connection is made for what is refused anyway.
#[test]
fn the_front_end_decides_what_may_be_registered() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 1);
    let host = bridges.host(1);
    let connections = host.connections();
    let outside = cloud.outside().join("secret.img");
    fs::write(&outside, pattern(1, 4096)).unwrap();
    let link = cloud.images().join("link.img");
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    for path in [outside.as_path(), &link, Path::new("/etc/hostname"), Path::new("relative")] {
        for call in [cloud.cp(path), cloud.stat(path)] {
            let refusal =
                bridges.bridged(call).run().refused_by_any(&[Rule::Restricted, Rule::NotAbsolute]);
            refusal.naming("IMAGE/PATH").saying_path(path);
        }
    }
    // What is there on the bridge host only is not there.
    let there = cloud.images().join("there.img");
    fs::create_dir_all(host.path(cloud.images())).unwrap();
    fs::write(host.path(&there), pattern(2, 4096)).unwrap();
    bridges.bridged(cloud.cp(&there)).run().fails().naming("IMAGE/PATH").saying("No such file");
    let call = bridges.bridged(cloud.cp("gopher://x/y"));
    call.run().fails().naming("IMAGE/PATH").saying("gopher");
    assert_eq!(host.connections(), connections);
}

#[test]
fn digests_are_checked_and_what_fails_leaves_nothing() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 1);
    let disk = cloud.raw("disk.img", 4 * MIB);
    let wrong = digest("md5sum", cloud.file("other", "other"));
    for (name, value) in [("MD5", wrong.clone()), ("SHA1", "abc".to_owned())] {
        let call = bridges.bridged(cloud.cp(&disk)).set(&format!("IMAGE/TEMPLATE/{name}"), &value);
        let refusal = call.run().refused_by_any(&[Rule::DigestMismatch, Rule::NotValid]);
        refusal.naming(&format!("IMAGE/TEMPLATE/{name}")).saying(&value);
    }
    let failure = |call: Call| bridges.bridged(call).run().fails().saying("host1: ");
    failure(cloud.cp(cloud.file("empty", ""))).naming("IMAGE/PATH").saying("empty");
    let mut bytes = fs::read(cloud.compressed(&disk, "gzip")).unwrap();
    bytes.truncate(bytes.len() / 2);
    failure(cloud.cp(cloud.file("short.gz", bytes))).naming("IMAGE/PATH").saying("short.gz");
    let base = cloud.qcow2(&disk, "base.qcow2", "");
    let overlay = cloud.images().join("overlay.qcow2");
    let words = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"].map(Path::new);
    run("qemu-img", words.into_iter().chain([base.as_path(), overlay.as_path()]));
    failure(cloud.cp(&overlay)).naming("IMAGE/PATH").saying("overlay.qcow2");
    let zeros = cloud.file("zeros.img", vec![0; 40 * MIB as usize]);
    let call = cloud.cp(cloud.compressed(&zeros, "gzip")).set_escaped("IMAGE/SIZE", "10");
    cloud.datastore_conf("MAX_VIRTUAL_SIZE=10M\n");
    failure(call).naming("IMAGE/PATH").saying("MAX_VIRTUAL_SIZE");
}

#[test]
fn a_full_disk_of_the_host_is_told_in_one_line() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 1);
    let host = bridges.host(1);
    let there = cloud.datastore();
    let mount = format!("mount -t tmpfs -o size=2m tmpfs {}", there.display());
    assert!(host.run(&mount).status.success());
    let noise = cloud.file("noise.img", pattern(1, 9 * MIB as usize));
    let failure = bridges.bridged(cloud.cp(&noise)).run().fails();
    failure.saying("host1: ").naming("DATASTORE/BASE_PATH").saying("space");
    let left = host.run(&format!("ls -A {}", there.display())).stdout;
    assert_eq!(String::from_utf8_lossy(&left), "");
}

#[test]
fn what_the_front_end_downloads_arrives_too() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 1);
    let web = Web::new();
    let disk = cloud.raw("disk.img", 3 * MIB + 512);
    let packed = cloud.compressed(&disk, "xz");
    for download_on_bridge in ["NO", "YES"] {
        for driver in ["raw", "qcow2"] {
            let url = web.serve(&packed);
            let call = bridges.bridged(cloud.cp(&url)).driver(driver);
            let call = call.set("DATASTORE/TEMPLATE/DOWNLOAD_ON_BRIDGE", download_on_bridge);
            let call = call.set("IMAGE/TEMPLATE/MD5", digest("md5sum", &packed));
            let image = call.run().succeeds().image(driver);
            same_content(&disk, "raw", &image, driver);
            assert_eq!(virtual_size(&image, driver), 3 * MIB + 512);
        }
        let call = bridges.bridged(cloud.cp(web.serve(&packed)));
        let call = call.set("DATASTORE/TEMPLATE/DOWNLOAD_ON_BRIDGE", download_on_bridge);
        let wrong = "0".repeat(32);
        call.set("IMAGE/TEMPLATE/MD5", &wrong)
            .run()
            .refused(Rule::DigestMismatch)
            .naming("IMAGE/TEMPLATE/MD5");
        let missing = web.url("missing.img");
        let call = bridges.bridged(cloud.cp(&missing));
        let call = call.set("DATASTORE/TEMPLATE/DOWNLOAD_ON_BRIDGE", download_on_bridge);
        call.run().refused(Rule::HttpStatus).naming("IMAGE/PATH").saying("404").saying(&missing);
    }
}

fn downloader(path: &Path, source: &Path) {
    write_script(path, &format!("exec cat {}", source.display()));
}

/// OpenNebula's downloader is on one side only: what it fetches tells who downloads.
#[test]
fn the_datastore_says_who_downloads_and_measures() {
    let cloud = Cloud::new();
    let bridges = Bridges::of(&cloud, 1);
    let host = bridges.host(1);
    let here = cloud.raw("here.img", 2 * MIB);
    let there = cloud.raw("there.img", 7 * MIB);
    fs::copy(&there, host.path("/var/tmp/there.img")).unwrap();
    let calls = |on_bridge: &str| {
        [cloud.cp("s3://bucket/image"), cloud.stat("s3://bucket/image")].map(|call| {
            bridges.bridged(call).set("DATASTORE/TEMPLATE/DOWNLOAD_ON_BRIDGE", on_bridge)
        })
    };
    for on_bridge in ["NO", "YES"] {
        for call in calls(on_bridge) {
            call.run().fails().naming("IMAGE/PATH").saying("downloader.sh");
        }
    }
    downloader(&host.path("/var/tmp/one/datastore/downloader.sh"), Path::new("/var/tmp/there.img"));
    for call in calls("NO") {
        call.run().fails().naming("IMAGE/PATH").saying("downloader.sh");
    }
    let [cp, stat] = calls("YES");
    same_bytes(&there, cp.run().succeeds().image("raw"));
    stat.run().succeeds().replies("7");
    downloader(&cloud.downloader(), &here);
    let [cp, stat] = calls("NO");
    same_bytes(&here, cp.run().succeeds().image("raw"));
    let before = host.connections();
    stat.run().succeeds().replies("2");
    assert_eq!(host.connections(), before, "stat needs no storage, so no host");
}
