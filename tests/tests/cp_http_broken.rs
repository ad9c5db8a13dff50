//! `cp` over connections that break, stall or lie.

use ferrostore_tests::{
    Cloud, Fault, MIB, Page, Request, Rule, Web, digest, pattern, same_bytes, same_content,
};
use std::time::{Duration, Instant};

/// Where each request after the first one began to read the file.
fn resumed_at(requests: &[Request]) -> Vec<u64> {
    requests[1..]
        .iter()
        .map(|request| request.range(u64::MAX).expect("a retry asks for a range").start)
        .collect()
}

#[test]
fn a_broken_transfer_goes_on_where_it_broke() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 5 * MIB + 512);
    let qcow2 = cloud.qcow2(&disk, "disk.qcow2", "");
    let packed = cloud.compressed(&disk, "gzip");
    for (file, driver) in
        [(&disk, ""), (&disk, "qcow2"), (&qcow2, ""), (&qcow2, "raw"), (&packed, "raw")]
    {
        for page in [Page::of(file), Page::of(file).without_etag()] {
            println!("{} to {driver:?}", file.display());
            let page = page.first(Fault::CutAfter(300_000)).first(Fault::CutAfter(200_000));
            let call = cloud.cp(web.page("disk", page)).driver(driver);
            let reply = call.set("IMAGE/TEMPLATE/SHA1", digest("sha1sum", file)).run().succeeds();
            let format = reply.line().rsplit(' ').next().unwrap().to_owned();
            same_content(&disk, "raw", reply.image(&format), &format);
            assert_eq!(resumed_at(&web.requests()), [300_000, 500_000]);
        }
    }
}

#[test]
fn a_server_without_ranges_is_asked_for_all_of_it_again() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 5 * MIB + 512);
    let page = Page::of(&disk).without_ranges().first(Fault::CutAfter(2 * MIB));
    let call = cloud.cp(web.page("disk", page));
    let copy =
        call.set("IMAGE/TEMPLATE/MD5", digest("md5sum", &disk)).run().succeeds().image("raw");
    same_bytes(&disk, copy);
    assert_eq!(web.requests().len(), 2);
}

#[test]
fn a_chunked_transfer_that_breaks_goes_on_too() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 3 * MIB);
    let page = Page::of(&disk).chunked().first(Fault::CutAfter(MIB));
    let copy = cloud.cp(web.page("disk", page)).run().succeeds().image("raw");
    same_bytes(&disk, copy);
    assert_eq!(resumed_at(&web.requests()), [MIB]);
}

#[test]
fn a_connection_that_breaks_before_the_answer_is_tried_again() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    let url = web.page("disk", Page::of(&disk).first(Fault::HangUp));
    same_bytes(&disk, cloud.cp(url).run().succeeds().image("raw"));
    let url = web.page("disk", Page::of(&disk).always(Fault::HangUp));
    web.requests();
    cloud.cp(&url).run().refused(Rule::NoResponse).naming("IMAGE/PATH").saying(&url);
    assert_eq!(web.requests().len(), 4, "three retries");
}

#[test]
fn trouble_of_the_server_in_a_retry_is_waited_out() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 3 * MIB);
    let page =
        Page::of(&disk).first(Fault::CutAfter(MIB)).first(Fault::Status(503)).first(Fault::HangUp);
    same_bytes(&disk, cloud.cp(web.page("disk", page)).run().succeeds().image("raw"));
}

#[test]
fn a_file_that_can_not_be_told_from_another_one_is_not_pieced_together() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 3 * MIB);
    for page in [Page::of(&disk), Page::of(&disk).without_ranges()] {
        let page = page.without_validators().first(Fault::CutAfter(MIB));
        let url = web.page("disk", page);
        let failure = cloud.cp(&url).run().fails();
        failure.naming("IMAGE/PATH").saying(&url).saying("ETag").saying(&MIB.to_string());
    }
}

#[test]
fn a_validator_that_may_stay_as_it_is_while_bytes_change_is_not_trusted() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 3 * MIB);
    let other = cloud.file("other.img", pattern(8, 3 * MIB as usize));
    let (may, later) = ("Wed, 20 May 2020 10:00:00 GMT", "Wed, 20 May 2020 10:00:01 GMT");
    let cut = |headers: &[(&str, &str)]| {
        let page = Page::of(&disk).without_validators().first(Fault::CutAfter(MIB));
        headers.iter().fold(page, |page, (name, value)| page.header(name, value))
    };
    for headers in [
        &[("ETag", "W/\"1\"")][..],
        &[("ETag", "W/\"1\""), ("Last-Modified", may), ("Date", later)],
        &[("Last-Modified", may), ("Date", may)],
        &[("Last-Modified", later), ("Date", may)],
    ] {
        for page in [cut(headers), cut(headers).without_ranges(), cut(headers).changing_to(&other)]
        {
            println!("{headers:?}");
            let url = web.page("disk", page);
            let failure = cloud.cp(&url).run().fails();
            failure.naming("IMAGE/PATH").saying(&url).saying("strong ETag").saying("Last-Modified");
        }
    }
    let trusted = cut(&[("Last-Modified", may), ("Date", later)]);
    same_bytes(&disk, cloud.cp(web.page("disk", trusted)).run().succeeds().image("raw"));
}

#[test]
fn a_file_that_changes_between_retries_is_refused() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 3 * MIB);
    let other = cloud.file("other.img", pattern(8, 3 * MIB as usize));
    for page in [Page::of(&disk), Page::of(&disk).without_ranges(), Page::of(&disk).without_etag()]
    {
        let page = page.changing_to(&other).first(Fault::CutAfter(MIB));
        let url = web.page("disk", page);
        cloud.cp(&url).run().fails().naming("IMAGE/PATH").saying(&url).saying("changed");
    }
}

#[test]
fn a_file_that_is_gone_in_a_retry_is_told_with_the_status() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 3 * MIB);
    let page = Page::of(&disk).first(Fault::CutAfter(MIB)).always(Fault::Status(404));
    let url = web.page("disk", page);
    cloud.cp(&url).run().refused(Rule::HttpStatus).naming("IMAGE/PATH").saying(&url).saying("404");
}

#[test]
fn a_connection_that_always_breaks_is_given_up() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 3 * MIB);
    for driver in ["", "qcow2"] {
        let url = web.page("disk", Page::of(&disk).always(Fault::CutAfter(1000)));
        cloud
            .cp(&url)
            .driver(driver)
            .run()
            .refused(Rule::ConnectionBroke)
            .naming("IMAGE/PATH")
            .saying(&url);
        assert_eq!(web.requests().len(), 4, "three retries");
    }
}

#[test]
fn a_long_file_may_break_more_often_than_a_short_one() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 12 * MIB);
    // A bit more than 2 MiB at a time: progress each time.
    let url = web.page("disk", Page::of(&disk).always(Fault::CutAfter(2 * MIB + 1)));
    same_bytes(&disk, cloud.cp(url).run().succeeds().image("raw"));
}

#[test]
fn a_length_that_is_never_reached_is_refused() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 2 * MIB);
    let packed = cloud.compressed(&disk, "gzip");
    for file in [&disk, &packed] {
        for driver in ["", "qcow2"] {
            let page = Page::of(file).claiming(5 * MIB);
            let url = web.page("disk", page);
            cloud
                .cp(&url)
                .driver(driver)
                .run()
                .refused(Rule::ConnectionBroke)
                .naming("IMAGE/PATH")
                .saying(&url);
        }
    }
}

#[test]
fn a_compressed_file_that_ends_too_early_is_refused() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 2 * MIB);
    for program in ["gzip", "bzip2", "xz", "zstd"] {
        let packed = cloud.compressed(&disk, program);
        let mut bytes = std::fs::read(&packed).unwrap();
        bytes.truncate(bytes.len() - 500);
        let short = cloud.file("short", bytes);
        // Without a length, this is how a broken transfer looks.
        let url = web.page("short", Page::of(short).without_length());
        for driver in ["", "qcow2"] {
            println!("{program} to {driver:?}");
            cloud
                .cp(&url)
                .driver(driver)
                .run()
                .refused(Rule::Unreadable)
                .naming("IMAGE/PATH")
                .saying(&url);
        }
    }
}

#[test]
fn a_stalled_server_is_left_and_asked_for_the_rest() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 2 * MIB);
    let url = web.page("disk", Page::of(&disk).first(Fault::StallAfter(MIB)));
    let start = Instant::now();
    same_bytes(&disk, cloud.cp(url).run().succeeds().image("raw"));
    assert!(start.elapsed() < Duration::from_secs(90), "{:?}", start.elapsed());
    assert_eq!(resumed_at(&web.requests()), [MIB]);
}
