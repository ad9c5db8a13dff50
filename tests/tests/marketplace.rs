//! Images out of a marketplace: oned takes their SIZE from the app and never calls `stat`.

use ferrostore_tests::{Call, Cloud, MIB, Rule, Web, qemu_img_check, same_bytes, same_content};
use std::path::Path;

/// The call for an image whose app says that it has `size` MiB.
fn from_app<'c>(cloud: &'c Cloud, path: impl AsRef<Path>, size: &str) -> Call<'c> {
    cloud.cp(path).set("IMAGE/TEMPLATE/FROM_APP", "17").set_escaped("IMAGE/SIZE", size)
}

#[test]
fn the_size_of_the_app_is_no_limit() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 5 * MIB);
    let packed = ["gzip", "bzip2", "xz", "zstd"].map(|program| cloud.compressed(&disk, program));
    for file in [&disk].into_iter().chain(&packed) {
        let url = web.serve(file);
        for path in [file.to_str().unwrap(), &url] {
            println!("{path}");
            let reply = from_app(&cloud, path, "1").run().succeeds();
            same_bytes(&disk, reply.image("raw"));
            let log = reply.outcome.log_lines();
            let told = log.iter().any(|line| {
                line.starts_with("WARN: ") && line.contains("5 MiB") && line.contains("1 MiB")
            });
            assert!(told, "{log:?}");
        }
        let qcow2 = from_app(&cloud, &url, "1").driver("qcow2").run().succeeds().image("qcow2");
        qemu_img_check(&qcow2);
        same_content(&disk, "raw", qcow2, "qcow2");
    }
    // Nor is any other image refused for its SIZE alone, and nothing is said of it.
    let reply = cloud.cp(&packed[0]).set_escaped("IMAGE/SIZE", "1").run().succeeds();
    same_bytes(&disk, reply.image("raw"));
    assert!(reply.outcome.log_lines().iter().all(|line| !line.contains("marketplace")));
}

#[test]
fn a_qcow2_image_is_taken_with_the_size_that_it_has() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 5 * MIB);
    let qcow2 = cloud.qcow2(&disk, "disk.qcow2", "");
    let reply = from_app(&cloud, &qcow2, "1").run().succeeds();
    same_bytes(&qcow2, reply.image("qcow2"));
    assert!(reply.outcome.log_lines().iter().any(|line| line.contains("5 MiB")));
}

#[test]
fn the_right_size_is_worth_no_word() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 5 * MIB);
    let reply = from_app(&cloud, &disk, "5").run().succeeds();
    assert_eq!(reply.outcome.log_lines(), [""; 0]);
}

#[test]
fn the_administrator_s_limit_holds() {
    let cloud = Cloud::new();
    cloud.datastore_conf("MAX_VIRTUAL_SIZE=4M\n");
    let disk = cloud.raw("disk.img", 6 * MIB);
    for path in [cloud.compressed(&disk, "gzip"), disk] {
        from_app(&cloud, path, "1")
            .run()
            .refused_by_any(&[Rule::VirtualSizeLimit, Rule::LargerThanAllowed])
            .naming("IMAGE/PATH")
            .saying("MAX_VIRTUAL_SIZE");
    }
}
