//! URLs as users write them and as servers send them: taken as curl takes them, or refused with a true reason.

use ferrostore_tests::{Cloud, MIB, Page, Rule, Web, pattern, same_bytes};

#[test]
fn blanks_in_a_redirect_are_encoded() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    for (served, to) in [
        ("my%20image%20(1).raw", "my image (1).raw"),
        ("my%20image%20(1).raw", " /my%20image%20(1).raw"),
        ("a%7Bb%7D.raw", "/x/../a{b}.raw"),
        ("%C3%BC.raw", "/ü.raw"),
    ] {
        web.page(served, Page::of(&disk));
        let url = web.page("go", Page::redirect(to));
        println!("{to}");
        cloud.stat(&url).run().succeeds().replies("1");
        let copy = cloud.cp(&url).run().succeeds().image("raw");
        same_bytes(&disk, copy);
    }
}

#[test]
fn blanks_around_a_url_are_left_out_with_a_warning() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    let url = web.serve(&disk);
    for path in [format!(" {url}"), format!("{url} "), format!("\t{url}\t")] {
        for call in [cloud.stat(&path), cloud.cp(&path)] {
            let outcome = call.run();
            let log = outcome.log_lines();
            assert!(log.iter().any(|line| line.starts_with("WARN: ") && line.contains("blank")));
            outcome.succeeds();
        }
    }
}

#[test]
fn what_no_url_can_have_is_named_with_its_place() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let url = web.url("");
    let place = url.chars().count() + 3;
    for (path, told) in [
        (format!("{url}my image (1).raw"), "blank"),
        (format!("{url}my\u{1}image.raw"), "control character"),
    ] {
        for call in [cloud.stat(&path), cloud.cp(&path)] {
            let failure = call.run().refused(Rule::UrlCharacter).naming("IMAGE/PATH").saying(told);
            failure.saying(&format!("character {place}"));
        }
    }
    cloud.stat("http:///x").run().fails().naming("IMAGE/PATH").saying("host");
    cloud
        .stat("http://müsli.invalid/x")
        .run()
        .fails()
        .naming("IMAGE/PATH")
        .saying("'ü' at character 9");
    assert!(web.requests().is_empty());
}

#[test]
fn characters_that_a_request_cannot_have_are_encoded() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    for (served, path) in
        [("%C3%BC%7B1%7D.raw", "ü{1}.raw"), ("a%20b.raw", "a%20b.raw"), ("c.raw", "x/../c.raw")]
    {
        web.page(served, Page::of(&disk));
        cloud.stat(web.url(path)).run().succeeds().replies("1");
    }
}

#[test]
fn no_proxy_knows_addresses_and_networks() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.file("disk.img", pattern(1, MIB as usize));
    let url = web.serve(&disk);
    let stat = |no_proxy: &str| {
        let call = cloud.stat(&url).environment("http_proxy", "http://127.0.0.1:9");
        call.environment("no_proxy", no_proxy).run()
    };
    for direct in ["10.0.0.0/8,127.0.0.0/8", "127.0.0.1/32", "0.0.0.0/0", "x, 127.0.0.1", "*"] {
        println!("{direct}");
        stat(direct).succeeds().replies("1");
    }
    assert_eq!(web.requests().len(), 5);
    for not in ["", "10.0.0.0/8", "127.0.0.2/32", "[::]/0", "127.0.0.1/33", "127.0.0"] {
        println!("{not}");
        stat(not).refused(Rule::CantBeFetched).naming("IMAGE/PATH");
    }
    assert!(web.requests().is_empty());
}
