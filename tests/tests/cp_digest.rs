//! `cp`: the digests that a user gives with an image.

use ferrostore_tests::{Cloud, DIGESTS, MIB, Rule, digest, same_bytes, same_content, wrong_digest};

fn attribute(name: &str) -> String {
    format!("IMAGE/TEMPLATE/{name}")
}

#[test]
fn every_digest_is_accepted_in_either_case() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB + 100);
    for (name, program) in DIGESTS {
        let right = digest(program, &disk);
        let mixed: String = right
            .char_indices()
            .map(|(at, digit)| if at % 2 == 0 { digit.to_ascii_uppercase() } else { digit })
            .collect();
        for value in [right.clone(), right.to_uppercase(), mixed] {
            println!("{name} {value}");
            let copy = cloud.cp(&disk).set(&attribute(name), value).run().succeeds().image("raw");
            assert!(copy.exists());
        }
    }
}

#[test]
fn a_wrong_digest_is_named_with_both_values() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB + 100);
    for (name, program) in DIGESTS {
        let right = digest(program, &disk);
        let wrong = wrong_digest(&right);
        cloud
            .cp(&disk)
            .set(&attribute(name), &wrong)
            .run()
            .refused(Rule::DigestMismatch)
            .naming(&attribute(name))
            .saying(&wrong)
            .saying(&right);
    }
}

#[test]
fn all_digests_together_are_all_checked() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    let all = DIGESTS.iter().fold(cloud.cp(&disk), |call, (name, program)| {
        call.set(&attribute(name), digest(program, &disk))
    });
    all.clone().run().succeeds().image("raw");
    for (name, program) in DIGESTS {
        // One wrong among right ones: none hides another.
        all.clone()
            .set(&attribute(name), wrong_digest(&digest(program, &disk)))
            .run()
            .refused(Rule::DigestMismatch)
            .naming(&attribute(name));
    }
}

#[test]
fn a_digest_is_of_the_bytes_as_they_come() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let packed = cloud.compressed(&disk, program);
        println!("{program}");
        for driver in ["", "raw", "qcow2"] {
            let copy = cloud
                .cp(&packed)
                .driver(driver)
                .set("IMAGE/TEMPLATE/SHA256", digest("sha256sum", &packed))
                .run()
                .succeeds()
                .image(if driver.is_empty() { "raw" } else { driver });
            same_content(&disk, "raw", copy, if driver.is_empty() { "raw" } else { driver });
            cloud
                .cp(&packed)
                .driver(driver)
                .set("IMAGE/TEMPLATE/SHA256", digest("sha256sum", &disk))
                .run()
                .refused(Rule::DigestMismatch)
                .naming("IMAGE/TEMPLATE/SHA256");
        }
    }
}

#[test]
fn a_digest_covers_what_follows_the_compressed_data() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    let empty = cloud.file("empty", "");
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let packed = cloud.compressed(&disk, program);
        let before = digest("md5sum", &packed);
        // One more piece with nothing in it: the disk is the same, the file is not.
        let nothing = std::fs::read(cloud.compressed(&empty, program)).unwrap();
        let longer = [std::fs::read(&packed).unwrap(), nothing].concat();
        std::fs::write(&packed, longer).unwrap();
        println!("{program}");
        let call = cloud.cp(&packed);
        let after = digest("md5sum", &packed);
        let copy = call.clone().set("IMAGE/TEMPLATE/MD5", after).run().succeeds().image("raw");
        same_bytes(&disk, copy);
        call.set("IMAGE/TEMPLATE/MD5", before)
            .run()
            .refused(Rule::DigestMismatch)
            .naming("IMAGE/TEMPLATE/MD5");
    }
}

#[test]
fn a_digest_holds_for_images_that_are_converted() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    for (image, format) in [
        (disk.clone(), "raw"),
        (cloud.qcow2(&disk, "plain.qcow2", ""), "qcow2"),
        (cloud.compressed_qcow2(&disk, "packed.qcow2", ""), "qcow2"),
        (cloud.converted(&disk, "disk.vdi", "vdi", ""), "vdi"),
    ] {
        for driver in ["raw", "qcow2"] {
            println!("{format} to {driver}");
            let right = digest("sha1sum", &image);
            let call = cloud.cp(&image).driver(driver);
            let copy =
                call.clone().set("IMAGE/TEMPLATE/SHA1", &right).run().succeeds().image(driver);
            same_content(&disk, "raw", copy, driver);
            call.set("IMAGE/TEMPLATE/SHA1", wrong_digest(&right))
                .run()
                .refused(Rule::DigestMismatch)
                .naming("IMAGE/TEMPLATE/SHA1");
        }
    }
}

#[test]
fn a_digest_holds_in_files_datastores_and_for_discs() {
    let cloud = Cloud::new();
    let iso = cloud.iso("disc.iso");
    let right = digest("md5sum", &iso);
    for call in
        [cloud.cp(&iso).cdrom(), cloud.cp(&iso).files_datastore().set_escaped("IMAGE/TYPE", "3")]
    {
        let copy = call.clone().set("IMAGE/TEMPLATE/MD5", &right).run().succeeds().image("raw");
        same_bytes(&iso, copy);
        call.set("IMAGE/TEMPLATE/MD5", wrong_digest(&right))
            .run()
            .refused(Rule::DigestMismatch)
            .naming("IMAGE/TEMPLATE/MD5");
    }
}

#[test]
fn what_can_t_be_a_digest_is_refused() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    for (name, program) in DIGESTS {
        let right = digest(program, &disk);
        for value in [
            "abc",
            "$(id)",
            &right[1..],
            &format!("{right}00"),
            &right.replace(char::is_numeric, "g"),
        ] {
            println!("{name}={value}");
            cloud
                .cp(&disk)
                .set(&attribute(name), value)
                .run()
                .refused(Rule::NotValid)
                .naming(&attribute(name));
        }
    }
}

#[test]
fn a_digest_of_the_datastore_is_none_of_the_image() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    cloud
        .cp(&disk)
        .set("DATASTORE/TEMPLATE/MD5", "0".repeat(32))
        .set("IMAGE/MD5", "0".repeat(32))
        .run()
        .succeeds()
        .image("raw");
}
