//! `cp` of remote files that turn out larger than they may.

use ferrostore_tests::{Cloud, Disk, MIB, Page, Rule, Web, pattern};
use std::fs::File;
use std::path::PathBuf;

/// A file of zeros, by name and MiB.
fn zeros(cloud: &Cloud, name: &str, size: u64) -> PathBuf {
    let path = cloud.images().join(name);
    File::create(&path).unwrap().set_len(size * MIB).unwrap();
    path
}

#[test]
fn a_bomb_is_stopped_long_before_it_is_through() {
    let (cloud, web) = (Cloud::new(), Web::new());
    cloud.datastore_conf("MAX_VIRTUAL_SIZE=10M\n");
    let bomb = zeros(&cloud, "bomb", 2000);
    for program in ["gzip", "xz", "zstd"] {
        let packed = cloud.compressed(&bomb, program);
        for driver in ["raw", "qcow2"] {
            let url = web.serve(&packed);
            let call = cloud.cp(&url).driver(driver).set_escaped("IMAGE/SIZE", "10");
            // A second of processor time is not enough to unpack all of it.
            let call = call.under(["prlimit", "--cpu=1"]);
            call.run().refused(Rule::LargerThanAllowed).naming("MAX_VIRTUAL_SIZE").saying(&url);
        }
    }
}

#[test]
fn a_raw_file_larger_than_it_may_be_is_not_fetched_to_its_end() {
    let (cloud, web) = (Cloud::new(), Web::new());
    cloud.datastore_conf("MAX_VIRTUAL_SIZE=10M\n");
    let disk = zeros(&cloud, "disk.img", 400);
    for page in [Page::of(&disk), Page::of(&disk).without_length(), Page::of(&disk).chunked()] {
        let url = web.page("disk.img", page);
        let call = cloud.cp(&url).set_escaped("IMAGE/SIZE", "10");
        call.run().refused(Rule::LargerThanAllowed).naming("MAX_VIRTUAL_SIZE").saying(&url);
        let sent = web.requests().pop().unwrap().sent;
        assert!(sent < 100 * MIB, "{sent} bytes were sent");
    }
}

#[test]
fn a_size_of_zero_or_none_sets_no_limit() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 5 * MIB);
    let url = web.serve(cloud.compressed(&disk, "gzip"));
    for size in ["0", ""] {
        cloud.cp(&url).set_escaped("IMAGE/SIZE", size).run().succeeds();
    }
}

#[test]
fn what_does_not_fit_into_the_datastore_is_stopped_and_leaves_nothing() {
    let web = Web::new();
    let cloud = Cloud::with_datastore_on(Disk::Tmpfs(4 * MIB));
    let noise = cloud.file("noise.img", pattern(1, 12 * MIB as usize));
    let qcow2 = cloud.qcow2(&noise, "noise.qcow2", "");
    for file in [
        noise.clone(),
        cloud.compressed(&noise, "gzip"),
        cloud.compressed(&noise, "xz"),
        cloud.compressed(&noise, "zstd"),
        qcow2,
    ] {
        for driver in ["raw", "qcow2"] {
            println!("{} to {driver}", file.display());
            let url = web.serve(&file);
            cloud
                .cp(&url)
                .driver(driver)
                .run()
                .fails()
                .naming("DATASTORE/BASE_PATH")
                .saying("space");
        }
    }
    let small = cloud.raw("small.img", MIB);
    cloud.cp(web.serve(small)).run().succeeds().image("raw");
}

#[test]
fn holes_need_no_space() {
    let web = Web::new();
    let cloud = Cloud::with_datastore_on(Disk::Tmpfs(4 * MIB));
    let disk = zeros(&cloud, "holes.img", 100);
    for file in [disk.clone(), cloud.compressed(&disk, "gzip")] {
        for driver in ["raw", "qcow2"] {
            cloud.cp(web.serve(&file)).driver(driver).run().succeeds().image(driver);
        }
    }
}
