//! `cp` from a web server that does what it should, and from one that does so in its own way.

use ferrostore_tests::{
    Call, Cloud, DIGESTS, Fault, MIB, Page, Rule, Web, allocated, digest, pattern, qemu_img_check,
    run, same_bytes, same_content, wrong_digest,
};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const COMPRESSORS: [&str; 4] = ["gzip", "bzip2", "xz", "zstd"];

/// A disk in every form that users upload, and in which format it is kept as it is.
fn every_kind(cloud: &Cloud) -> Vec<(PathBuf, &'static str)> {
    let disk = cloud.raw("disk.img", 3 * MIB + 512);
    let mut kinds = vec![
        (cloud.qcow2(&disk, "plain.qcow2", ""), "qcow2"),
        (cloud.compressed_qcow2(&disk, "packed.qcow2", ""), "qcow2"),
        (cloud.converted(&disk, "disk.vdi", "vdi", ""), "vdi"),
        (cloud.converted(&disk, "disk.vmdk", "vmdk", ""), "vmdk"),
        (cloud.converted(&disk, "disk.vhdx", "vhdx", ""), "vhdx"),
        (cloud.luks("disk.luks", MIB), "raw"),
        (cloud.iso("disc.iso"), "raw"),
    ];
    kinds.push((disk, "raw"));
    kinds
}

#[test]
fn every_kind_of_image_is_kept_as_it_is_and_asked_for_once() {
    let (cloud, web) = (Cloud::new(), Web::new());
    for (file, format) in every_kind(&cloud) {
        println!("{}", file.display());
        let copy = cloud.cp(web.serve(&file)).run().succeeds().image(format);
        same_bytes(&file, copy);
        let requests = web.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        assert_eq!(requests[0].method, "GET");
    }
}

#[test]
fn every_kind_of_disk_is_converted_and_asked_for_once() {
    let (cloud, web) = (Cloud::new(), Web::new());
    for (file, format) in every_kind(&cloud) {
        for driver in ["raw", "qcow2"] {
            if file.ends_with("disk.luks") {
                continue;
            }
            println!("{} to {driver}", file.display());
            let image = cloud.cp(web.serve(&file)).driver(driver).run().succeeds().image(driver);
            same_content(&file, format, &image, driver);
            if driver == "qcow2" {
                qemu_img_check(image);
            }
            assert_eq!(web.requests().len(), 1);
        }
    }
}

#[test]
fn every_compression_is_undone_and_the_file_asked_for_once() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 3 * MIB + 512);
    let qcow2 = cloud.qcow2(&disk, "disk.qcow2", "");
    for program in COMPRESSORS {
        for (file, format) in [(&disk, "raw"), (&qcow2, "qcow2")] {
            let packed = cloud.compressed(file, program);
            println!("{}", packed.display());
            let copy = cloud.cp(web.serve(&packed)).run().succeeds().image(format);
            same_bytes(file, copy);
            assert_eq!(web.requests().len(), 1);
            for driver in ["raw", "qcow2"] {
                let url = web.serve(&packed);
                let image = cloud.cp(url).driver(driver).run().succeeds().image(driver);
                same_content(&disk, "raw", image, driver);
                assert_eq!(web.requests().len(), 1, "to {driver}");
            }
        }
    }
}

#[test]
fn digests_are_of_the_bytes_as_they_come() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 2 * MIB + 512);
    let qcow2 = cloud.qcow2(&disk, "disk.qcow2", "");
    let mut files = vec![disk.clone(), qcow2];
    files.extend(COMPRESSORS.map(|program| cloud.compressed(&disk, program)));
    for file in files {
        for driver in ["", "raw", "qcow2"] {
            println!("{} to {driver:?}", file.display());
            let call = DIGESTS.iter().fold(cloud.cp(web.serve(&file)), |call, (name, program)| {
                call.set(&format!("IMAGE/TEMPLATE/{name}"), digest(program, &file))
            });
            call.driver(driver).run().succeeds();
            assert_eq!(web.requests().len(), 1);
        }
    }
}

/// A digest that looks right and is not.
#[test]
fn a_wrong_digest_is_named_and_leaves_nothing() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 2 * MIB);
    for file in [disk.clone(), cloud.compressed(&disk, "gzip")] {
        let url = web.serve(&file);
        for driver in ["", "qcow2"] {
            for (name, program) in DIGESTS {
                let right = digest(program, &file);
                // What is right for the disk inside is wrong for the file.
                let wrong =
                    if file == disk { wrong_digest(&right) } else { digest(program, &disk) };
                let attribute = format!("IMAGE/TEMPLATE/{name}");
                let call = cloud.cp(&url).driver(driver).set(&attribute, &wrong);
                call.run()
                    .refused(Rule::DigestMismatch)
                    .naming(&attribute)
                    .saying(&wrong)
                    .saying(&right);
            }
        }
    }
}

#[test]
fn a_server_may_not_tell_the_length_or_send_chunks_or_know_no_ranges() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 3 * MIB + 512);
    let packed = cloud.compressed(&disk, "gzip");
    for file in [&disk, &packed] {
        let page = Page::of(file);
        for (name, page) in [
            ("untold", page.clone().without_length()),
            ("chunked", page.clone().chunked()),
            ("whole", page.clone().without_ranges().without_validators()),
            ("slow", page.clone().at_rate(2 * MIB)),
            ("late", page.after(Duration::from_secs(2))),
        ] {
            println!("{name} {}", file.display());
            let copy = cloud.cp(web.page(name, page)).run().succeeds().image("raw");
            same_bytes(&disk, copy);
            assert_eq!(web.requests().len(), 1);
        }
    }
}

#[test]
fn what_a_server_calls_an_encoding_is_still_part_of_the_file() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    let packed = cloud.compressed(&disk, "gzip");
    for encoding in ["gzip", "x-gzip"] {
        let page = Page::of(&packed).header("Content-Encoding", encoding);
        let url = web.page("disk.img.gz", page);
        let call = cloud.cp(&url).set("IMAGE/TEMPLATE/SHA256", digest("sha256sum", &packed));
        let copy = call.run().succeeds().image("raw");
        same_bytes(&disk, copy);
        let kept = cloud.cp(&url).set("DATASTORE/TEMPLATE/NO_DECOMPRESS", "yes").run();
        same_bytes(&packed, kept.succeeds().image("raw"));
    }
}

#[test]
fn redirects_are_followed() {
    let (cloud, web, mirror) = (Cloud::new(), Web::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    let there = mirror.serve(&disk);
    web.serve(&disk);
    for to in [there.as_str(), "/disk.img", "disk.img"] {
        let url = web.page("latest", Page::redirect(to));
        let copy = cloud.cp(url).run().succeeds().image("raw");
        same_bytes(&disk, copy);
        let requests = web.requests().len() + mirror.requests().len();
        assert_eq!(requests, 2, "one that redirects to {to}, one for the file");
    }
}

#[test]
fn redirects_without_end_or_to_elsewhere_are_refused() {
    let (cloud, web) = (Cloud::new(), Web::new());
    web.page("a", Page::redirect("/b"));
    web.page("b", Page::redirect("/a"));
    cloud
        .cp(web.url("a"))
        .run()
        .fails()
        .naming("IMAGE/PATH")
        .saying(&web.url("a"))
        .saying("redirect");
    assert!(web.requests().len() < 60, "it gives up in time");
    // A server must not make the front-end register its own files.
    let secret = cloud.raw("secret.img", MIB);
    for to in
        [format!("file://{}", secret.display()), format!("ssh://localhost:{}", secret.display())]
    {
        let url = web.page("trap", Page::redirect(&to));
        cloud.cp(&url).run().refused(Rule::CantBeFetched).naming("IMAGE/PATH").saying(&url);
    }
}

#[test]
fn a_refusal_is_told_with_the_url_and_the_status() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    for code in [403, 404, 410] {
        let url = web.page("disk.img", Page::of(&disk).always(Fault::Status(code)));
        let failure = cloud.cp(&url).run().refused(Rule::HttpStatus);
        failure.naming("IMAGE/PATH").saying(&url).saying(&code.to_string());
        assert_eq!(web.requests().len(), 1, "{code} won't go away by asking again");
    }
    cloud
        .cp(web.url("missing"))
        .run()
        .refused(Rule::HttpStatus)
        .saying(&web.url("missing"))
        .saying("404");
}

#[test]
fn a_server_in_trouble_is_asked_again_some_times() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    let page = Page::of(&disk);
    for page in [
        page.clone().first(Fault::Status(500)),
        page.clone().first(Fault::Status(503)).first(Fault::Status(503)),
        page.clone().first(Fault::Status(429)),
    ] {
        let copy = cloud.cp(web.page("disk.img", page)).run().succeeds().image("raw");
        same_bytes(&disk, copy);
    }
    web.requests();
    for code in [500, 503] {
        let url = web.page("disk.img", page.clone().always(Fault::Status(code)));
        cloud
            .cp(&url)
            .run()
            .refused(Rule::HttpStatus)
            .naming("IMAGE/PATH")
            .saying(&url)
            .saying(&code.to_string());
        assert_eq!(web.requests().len(), 4, "three retries");
    }
}

#[test]
fn no_server_is_told_with_the_url() {
    let cloud = Cloud::new();
    // The client's end of a connection: its port is in use, and nothing listens there.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
    let url = format!("http://{}/disk.img", client.local_addr().unwrap());
    cloud.cp(&url).run().fails().naming("IMAGE/PATH").saying(&url).saying("refuse");
    for url in [
        "http://no-such-host.invalid/disk.img",
        "https://no-such-host.invalid/disk.img",
        "http:///disk.img",
        "http://",
        "http://[::1/disk.img",
        "http://127.0.0.1:99999/disk.img",
    ] {
        println!("{url}");
        let rules = [Rule::CantBeFetched, Rule::UrlWithoutHost, Rule::UrlCharacter];
        cloud.cp(url).run().refused_by_any(&rules).naming("IMAGE/PATH").saying(url);
    }
}

#[test]
fn the_target_reaches_the_server_as_it_was_written() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    web.serve(&disk);
    web.page("a%20b%2Fc%27$(id);%60.img", Page::of(&disk));
    for (target, expected) in [
        ("disk.img?token=a%2Bb&x=y", "/disk.img?token=a%2Bb&x=y"),
        ("a%20b%2Fc%27$(id);%60.img", "/a%20b%2Fc%27$(id);%60.img"),
        ("disk.img#fragment", "/disk.img"),
    ] {
        cloud.cp(web.url(target)).run().succeeds().image("raw");
        assert_eq!(web.requests()[0].target, expected);
    }
    let upper = web.url("disk.img").replace("http:", "HTTP:");
    cloud.cp(upper).run().succeeds().image("raw");
}

#[test]
fn a_line_break_in_a_url_starts_no_second_request() {
    let (cloud, web) = (Cloud::new(), Web::new());
    web.serve(cloud.raw("disk.img", MIB));
    let url = web.url("disk.img HTTP/1.1\r\nX-Forged: yes\r\n\r\nGET /disk.img");
    let outcome = cloud.cp(&url).run();
    let requests = web.requests();
    assert!(requests.iter().all(|request| request.header("x-forged").is_none()), "{requests:?}");
    outcome.refused(Rule::UrlCharacter).naming("IMAGE/PATH");
}

#[test]
fn files_of_a_files_datastore_come_byte_for_byte() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    let kernel = cloud.file("vmlinuz", pattern(3, 700_001));
    for file in [kernel, cloud.qcow2(&disk, "init.qcow2", "")] {
        let call = cloud.cp(web.serve(&file)).files_datastore().set_escaped("IMAGE/TYPE", "3");
        same_bytes(&file, call.run().succeeds().image("raw"));
        assert_eq!(web.requests().len(), 1);
    }
}

#[test]
fn no_decompress_and_convert_hold_for_downloads() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    let packed = cloud.compressed(&disk, "xz");
    let call = cloud.cp(web.serve(&packed)).set("DATASTORE/TEMPLATE/NO_DECOMPRESS", "yes");
    same_bytes(&packed, call.run().succeeds().image("raw"));
    let call = cloud.cp(web.serve(&disk)).driver("qcow2").set("DATASTORE/TEMPLATE/CONVERT", "no");
    same_bytes(&disk, call.run().succeeds().image("raw"));
    let cd = cloud.iso("disc.iso");
    same_bytes(&cd, cloud.cp(web.serve(&cd)).driver("qcow2").cdrom().run().succeeds().image("raw"));
}

#[test]
fn a_download_is_sparse_unless_told_otherwise() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 10 * MIB);
    let url = web.serve(&disk);
    let sparse = cloud.cp(&url).run().succeeds().image("raw");
    assert!(allocated(&sparse) < 8 * MIB, "{} bytes", allocated(&sparse));
    let full = cloud.cp(&url).set("DATASTORE/TEMPLATE/SPARSE", "no").run().succeeds().image("raw");
    assert!(allocated(full) >= 10 * MIB);
}

#[test]
fn a_hostile_image_is_refused_as_if_it_were_local() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let secret = cloud.outside().join("secret.img");
    fs::write(&secret, pattern(1, 100_000)).unwrap();
    let trap = cloud.images().join("trap.qcow2");
    let arguments = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b"];
    let names = [secret.to_str().unwrap(), trap.to_str().unwrap()];
    run("qemu-img", arguments.into_iter().chain(names));
    let url = web.serve(&trap);
    for driver in ["", "raw", "qcow2"] {
        cloud
            .cp(&url)
            .driver(driver)
            .run()
            .fails()
            .naming("IMAGE/PATH")
            .saying(&url)
            .saying("backing");
    }
    let empty = cloud.file("empty", "");
    cloud.cp(web.serve(&empty)).run().fails().naming("IMAGE/PATH").saying("empty");
}

#[test]
fn the_bandwidth_limit_is_kept() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.file("disk.img", pattern(1, 8 * MIB as usize));
    let packed = cloud.compressed(&disk, "gzip");
    // The limit is on what comes over the network: noise doesn't shrink.
    for (file, driver) in [(&disk, "raw"), (&disk, "qcow2"), (&packed, "raw")] {
        let free = cloud.cp(web.serve(file)).driver(driver);
        let limited = free.clone().set("DATASTORE/TEMPLATE/LIMIT_TRANSFER_BW", "4M");
        let seconds = |call: &Call| {
            let start = Instant::now();
            call.clone().run().succeeds();
            start.elapsed().as_secs_f64()
        };
        // A busy machine may hold up one of them, not all, and needs its time without a limit too.
        let kept = (0..5).any(|_| {
            let (busy, seconds) = (seconds(&free), seconds(&limited));
            assert!(seconds >= 1.7, "8 MiB at 4M took {seconds} s");
            seconds <= 2.6 + 2.0 * busy
        });
        assert!(kept, "8 MiB at 4M takes longer than 2 s each time");
    }
    for wrong in ["fast", "-1", "4X"] {
        let call = cloud.cp(web.serve(&disk)).set("DATASTORE/TEMPLATE/LIMIT_TRANSFER_BW", wrong);
        call.run().refused(Rule::NotValid).naming("LIMIT_TRANSFER_BW").saying(wrong);
    }
}
