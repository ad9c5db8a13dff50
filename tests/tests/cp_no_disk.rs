//! What is no disk is not registered as one: pages and documents in the place of an image, and bodies that a server has
//! encoded.

use ferrostore_tests::{Cloud, MIB, Page, Web, digest, pattern, same_bytes};
use std::fs;

const PAGE: &str =
    "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body></body></html>\n";

#[test]
fn a_page_in_the_place_of_an_image_is_refused() {
    let (cloud, web) = (Cloud::new(), Web::new());
    for (text, name, kind) in [
        (PAGE, "HTML", "text/html; charset=utf-8"),
        ("<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code></Error>", "XML", "application/xml"),
        ("{\"error\": \"not found\"}", "JSON", "application/json"),
        (PAGE, "HTML", "application/octet-stream"),
    ] {
        let file = cloud.file("page", text.to_owned() + &" x".repeat(5000));
        let url = web.page("debian-12.qcow2", Page::of(&file).header("Content-Type", kind));
        let refused = |call: ferrostore_tests::Call| {
            call.run().fails().naming("IMAGE/PATH").saying(&format!("{name} text and no disk"));
        };
        refused(cloud.stat(&url));
        refused(cloud.stat(&file));
        refused(cloud.cp(&file));
        for driver in ["", "raw", "qcow2"] {
            refused(cloud.cp(&url).driver(driver));
        }
        refused(cloud.cp(&url).cdrom());
        let packed = cloud.compressed(&file, "gzip");
        refused(cloud.cp(web.serve(&packed)));
        refused(cloud.cp(&packed).driver("qcow2"));
    }
}

#[test]
fn a_disk_with_a_page_in_it_is_taken() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let mut disk = vec![0; MIB as usize];
    disk[512..512 + PAGE.len()].copy_from_slice(PAGE.as_bytes());
    let later = cloud.file("later.img", &disk);
    // Its first sector begins like one, but goes on like a disk.
    disk[..PAGE.len()].copy_from_slice(PAGE.as_bytes());
    let first = cloud.file("first.img", &disk);
    for disk in [later, first] {
        same_bytes(&disk, cloud.cp(&disk).run().succeeds().image("raw"));
        same_bytes(&disk, cloud.cp(web.serve(&disk)).run().succeeds().image("raw"));
        cloud.stat(web.serve(&disk)).run().succeeds().replies("1");
    }
}

#[test]
fn a_page_is_a_file_like_any_other_in_a_files_datastore() {
    let (cloud, web) = (Cloud::new(), Web::new());
    for text in [PAGE, "{\"a\": 1}", "<?xml version=\"1.0\"?><a/>"] {
        let file = cloud.file("page", text);
        for path in [file.to_str().unwrap(), &web.serve(&file)] {
            let call = cloud.cp(path).files_datastore().set_escaped("IMAGE/TYPE", "5");
            same_bytes(&file, call.run().succeeds().image("raw"));
        }
    }
}

#[test]
fn a_body_in_an_encoding_that_is_not_undone_is_refused() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let noise = cloud.file("noise", pattern(4, 90_000));
    for encoding in ["br", "deflate", "zstd", "compress", "gzip, br", "BR", "dcb"] {
        let url = web.page("disk.raw", Page::of(&noise).header("Content-Encoding", encoding));
        cloud.cp(&url).run().fails().naming("IMAGE/PATH").saying("Content-Encoding");
        cloud.stat(&url).run().fails().naming("IMAGE/PATH").saying("Content-Encoding");
    }
}

#[test]
fn a_body_in_an_encoding_that_is_the_file_s_own_is_taken() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    let packed = cloud.compressed(&disk, "zstd");
    let url = web.page("disk.zst", Page::of(&packed).header("Content-Encoding", "zstd"));
    let call = cloud.cp(&url).set("IMAGE/TEMPLATE/SHA256", digest("sha256sum", &packed));
    same_bytes(&disk, call.run().succeeds().image("raw"));
    cloud.stat(&url).run().succeeds().replies("1");
    for encoding in ["identity", "aws-chunked", "none", ""] {
        let url = web.page("disk.raw", Page::of(&disk).header("Content-Encoding", encoding));
        same_bytes(&disk, cloud.cp(&url).run().succeeds().image("raw"));
        cloud.stat(&url).run().succeeds().replies("1");
    }
    fs::remove_file(packed).unwrap();
}
