//! Disks larger than the administrator allows, and files that unpack to more than they may.

use ferrostore_tests::{Cloud, Disk, MIB, Rule, Web, pattern, run, same_content};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const COMPRESSORS: [&str; 4] = ["gzip", "bzip2", "xz", "zstd"];

#[test]
fn no_disk_is_larger_than_the_configuration_allows() {
    let (cloud, web) = (Cloud::new(), Web::new());
    cloud.datastore_conf("SUPPORTED_FS=\"ext4\"\nMAX_VIRTUAL_SIZE=\"4M\"\n");
    for (size, fits) in [(4 * MIB, true), (4 * MIB + 512, false)] {
        let disk = cloud.raw("disk.img", size);
        let mut files = vec![disk.clone()];
        for (format, options) in
            [("qcow2", "compat=0.10"), ("qcow2", ""), ("vmdk", ""), ("vdi", "")]
        {
            files.push(cloud.converted(
                &disk,
                &format!("disk-{options}.{format}"),
                format,
                options,
            ));
        }
        for program in COMPRESSORS {
            files.push(cloud.compressed(&disk, program));
            files.push(cloud.compressed(&files[2], program));
        }
        for file in files {
            for path in [file.to_str().unwrap().to_owned(), web.serve(&file)] {
                println!("{path}, {size} bytes");
                let calls = [
                    cloud.cp(&path).set_escaped("IMAGE/SIZE", ""),
                    cloud.cp(&path).driver("qcow2").set_escaped("IMAGE/SIZE", ""),
                ];
                for call in calls.into_iter().chain([cloud.call("stat").path(&path)]) {
                    let outcome = call.run();
                    if fits {
                        outcome.succeeds();
                    } else {
                        outcome
                            .refused_by_any(&[Rule::VirtualSizeLimit, Rule::LargerThanAllowed])
                            .naming("IMAGE/PATH")
                            .saying(&path)
                            .saying("MAX_VIRTUAL_SIZE");
                    }
                }
            }
        }
    }
    for format in ["raw", "qcow2"] {
        cloud.mkfs(format, "4").run().succeeds();
        cloud
            .mkfs(format, "5")
            .run()
            .refused(Rule::VirtualSizeLimit)
            .naming("IMAGE/SIZE")
            .saying("MAX_VIRTUAL_SIZE");
    }
}

#[test]
fn a_size_in_the_message_is_no_reason_to_refuse_an_image() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 10 * MIB);
    let qcow2 = cloud.qcow2(&disk, "disk.qcow2", "");
    let mut files = vec![disk.clone(), qcow2.clone()];
    for program in COMPRESSORS {
        files.extend([cloud.compressed(&disk, program), cloud.compressed(&qcow2, program)]);
    }
    for file in files {
        for path in [file.to_str().unwrap().to_owned(), web.serve(&file)] {
            for size in ["1", "5", "10", "100", "0", ""] {
                println!("{path}, {size} MiB");
                cloud.stat(&path).set_escaped("IMAGE/SIZE", size).run().succeeds().replies("10");
                let call = cloud.cp(&path).driver("qcow2").set_escaped("IMAGE/SIZE", size);
                let copy = call.run().succeeds().image("qcow2");
                same_content(&disk, "raw", copy, "qcow2");
            }
        }
    }
}

#[test]
fn the_limit_is_64_tib_unless_it_is_raised() {
    let cloud = Cloud::new();
    let image = cloud.images().join("huge.qcow2");
    let path = image.to_str().unwrap();
    for (size, fits) in [("64T", true), ("65T", false)] {
        run("qemu-img", ["create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", path, size]);
        if fits {
            cloud.stat(path).run().succeeds();
            cloud.cp(path).run().succeeds().image("qcow2");
        } else {
            cloud
                .stat(path)
                .run()
                .refused(Rule::VirtualSizeLimit)
                .naming("IMAGE/PATH")
                .saying("MAX_VIRTUAL_SIZE");
            cloud
                .cp(path)
                .run()
                .refused(Rule::VirtualSizeLimit)
                .naming("IMAGE/PATH")
                .saying("MAX_VIRTUAL_SIZE");
        }
    }
    cloud.datastore_conf("MAX_VIRTUAL_SIZE=65T\n");
    cloud.stat(path).run().succeeds().replies("68157440");
    cloud.cp(path).run().succeeds().image("qcow2");
}

#[test]
fn a_limit_that_makes_no_sense_is_named() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    for value in ["lots", "-1", "0", "10E", "\"\""] {
        cloud.datastore_conf(&format!("MAX_VIRTUAL_SIZE={value}\n"));
        cloud.cp(&disk).run().fails().naming("MAX_VIRTUAL_SIZE").saying("datastore.conf");
    }
}

/// ext4 has no files this large, however sparse.
#[test]
fn a_sparse_giant_is_refused() {
    let cloud = Cloud::on(Disk::Tmpfs(64 * MIB));
    let giant = cloud.images().join("giant.img");
    File::create(&giant).unwrap().set_len(65 << 40).unwrap();
    for driver in ["", "raw", "qcow2"] {
        cloud
            .cp(&giant)
            .driver(driver)
            .run()
            .refused(Rule::VirtualSizeLimit)
            .naming("IMAGE/PATH")
            .saying("MAX_VIRTUAL_SIZE");
    }
    cloud
        .stat(&giant)
        .run()
        .refused(Rule::VirtualSizeLimit)
        .naming("IMAGE/PATH")
        .saying("MAX_VIRTUAL_SIZE");
}

/// A file that begins as `start` says and goes on with zeros, 200 MiB in all.
fn bomb(cloud: &Cloud, name: &str, start: &[u8]) -> PathBuf {
    let path = cloud.images().join(name);
    let file = File::create(&path).unwrap();
    file.write_all_at(start, 0).unwrap();
    file.set_len(200 * MIB).unwrap();
    path
}

fn first_bytes(path: &Path, length: usize) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    bytes.truncate(length);
    bytes
}

#[test]
fn what_unpacks_to_more_than_the_limit_is_stopped_whatever_it_looks_like() {
    let (cloud, web) = (Cloud::new(), Web::new());
    cloud.datastore_conf("MAX_VIRTUAL_SIZE=16M\n");
    let disk = cloud.raw("disk.img", MIB);
    let qcow2 = first_bytes(&cloud.qcow2(&disk, "disk.qcow2", ""), 1 << 20);
    let vmdk = first_bytes(&cloud.converted(&disk, "disk.vmdk", "vmdk", ""), 1 << 20);
    let luks = first_bytes(&cloud.luks("disk.luks", MIB), 1 << 20);
    for (name, start) in [("raw", &b"x"[..]), ("qcow2", &qcow2), ("vmdk", &vmdk), ("luks", &luks)] {
        let bomb = bomb(&cloud, name, start);
        for program in COMPRESSORS {
            let packed = cloud.compressed(&bomb, program);
            println!("{}", packed.display());
            for path in [packed.to_str().unwrap().to_owned(), web.serve(&packed)] {
                for driver in ["", "raw"] {
                    let call = cloud.cp(&path).driver(driver).set_escaped("IMAGE/SIZE", "1");
                    let failure = call
                        .run()
                        .refused(Rule::LargerThanAllowed)
                        .naming("IMAGE/PATH")
                        .saying(&path);
                    failure.saying("MAX_VIRTUAL_SIZE");
                }
            }
        }
    }
}

#[test]
fn a_file_of_a_files_datastore_that_unpacks_to_more_than_the_limit_is_stopped() {
    let cloud = Cloud::new();
    cloud.datastore_conf("MAX_VIRTUAL_SIZE=16M\n");
    let bomb = bomb(&cloud, "kernel", b"x");
    for program in COMPRESSORS {
        let packed = cloud.compressed(&bomb, program);
        let call = cloud.cp(&packed).files_datastore().set_escaped("IMAGE/TYPE", "3");
        let call =
            call.set("DATASTORE/TEMPLATE/NO_DECOMPRESS", "no").set_escaped("IMAGE/SIZE", "1");
        call.run().refused(Rule::LargerThanAllowed).naming("IMAGE/PATH").saying("MAX_VIRTUAL_SIZE");
    }
}

#[test]
fn what_is_compressed_twice_is_refused_before_anything_is_unpacked() {
    let cloud = Cloud::new();
    let bomb = bomb(&cloud, "bomb", b"x");
    for inner in COMPRESSORS {
        let once = cloud.images().join("once");
        fs::rename(cloud.compressed(&bomb, inner), &once).unwrap();
        for outer in COMPRESSORS {
            let twice = cloud.compressed(&once, outer);
            cloud.cp(&twice).run().fails().naming("IMAGE/PATH").saying("another compressed file");
            cloud.stat(&twice).run().fails().naming("IMAGE/PATH").saying("another compressed file");
        }
    }
}

#[test]
fn a_local_file_that_does_not_fit_into_the_datastore_leaves_nothing() {
    let cloud = Cloud::with_datastore_on(Disk::Tmpfs(4 * MIB));
    let noise = cloud.file("noise.img", pattern(1, 12 * MIB as usize));
    let qcow2 = cloud.qcow2(&noise, "noise.qcow2", "");
    for file in [&noise, &qcow2] {
        for path in COMPRESSORS.map(|program| cloud.compressed(file, program)).iter().chain([file])
        {
            println!("{}", path.display());
            for driver in ["raw", "qcow2"] {
                let call = cloud.cp(path).driver(driver);
                call.run().fails().naming("DATASTORE/BASE_PATH").saying("space");
            }
        }
    }
}
