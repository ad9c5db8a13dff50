//! `cp` by http: passwords, and the proxy that the environment names.

use ferrostore_tests::{Authority, Cloud, Fault, MIB, Page, Rule, Web, same_bytes};

#[test]
fn a_password_in_the_url_is_presented() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    for (given, expected) in [
        ("tom:secret", "tom:secret"),
        ("t%40m:p%3Aa%2Fss%25", "t@m:p:a/ss%"),
        ("tom:a@b", "tom:a@b"),
        ("tom:", "tom:"),
    ] {
        println!("{given}");
        let url = web.page("disk.img", Page::of(&disk).with_password(expected));
        let url = url.replace("://", &format!("://{given}@"));
        same_bytes(&disk, cloud.cp(url).run().succeeds().image("raw"));
    }
}

#[test]
fn a_password_is_never_shown() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 3 * MIB);
    let page = Page::of(&disk);
    for (name, page) in [
        ("refused", page.clone().with_password("tom:other")),
        ("missing", page.clone().always(Fault::Status(404))),
        ("down", page.clone().always(Fault::Status(503))),
        ("cut", page.clone().always(Fault::CutAfter(5000))),
        ("untold", page.clone().without_validators().first(Fault::CutAfter(5000))),
        ("short", page.claiming(4 * MIB)),
        ("empty", Page::of(cloud.file("empty", ""))),
        ("loop", Page::redirect("/loop")),
    ] {
        println!("{name}");
        let url = web.page(name, page);
        let secret = url.replace("://", "://tom:hunter2@");
        for action in ["cp", "stat"] {
            let outcome = cloud.call(action).path(&secret).set_escaped("IMAGE/SIZE", "").run();
            let stderr = outcome.stderr_text();
            assert!(!stderr.contains("hunter2"), "{stderr}");
            assert!(!stderr.contains("dG9tOmh1bnRlcjI"), "nor in base64: {stderr}");
            if action == "cp" {
                let host = url.trim_start_matches("http://");
                outcome
                    .refused_by_any(&[
                        Rule::HttpStatus,
                        Rule::ConnectionBroke,
                        Rule::Empty,
                        Rule::CantBeFetched,
                    ])
                    .naming("IMAGE/PATH")
                    .saying(host);
            }
        }
    }
}

#[test]
fn a_wrong_password_is_told() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    let url = web.page("disk.img", Page::of(&disk).with_password("tom:secret"));
    for wrong in [url.clone(), url.replace("://", "://tom:wrong@")] {
        cloud.cp(&wrong).run().fails().naming("IMAGE/PATH").saying("401").saying("password");
    }
}

#[test]
fn a_password_follows_a_redirect_only_to_the_same_server() {
    let (cloud, web, mirror) = (Cloud::new(), Web::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    web.page("disk.img", Page::of(&disk).with_password("tom:secret"));
    let url = web.page("latest", Page::redirect("/disk.img").with_password("tom:secret"));
    let url = url.replace("://", "://tom:secret@");
    same_bytes(&disk, cloud.cp(&url).run().succeeds().image("raw"));
    web.page("latest", Page::redirect(mirror.serve(&disk)).with_password("tom:secret"));
    same_bytes(&disk, cloud.cp(&url).run().succeeds().image("raw"));
    let requests = mirror.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("authorization"), None, "another server learns no password");
}

#[test]
fn a_broken_transfer_with_a_password_goes_on() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 3 * MIB);
    let page = Page::of(&disk).with_password("tom:secret").first(Fault::CutAfter(MIB));
    let url = web.page("disk.img", page).replace("://", "://tom:secret@");
    same_bytes(&disk, cloud.cp(url).run().succeeds().image("raw"));
}

#[test]
fn http_goes_through_http_proxy() {
    let (cloud, proxy) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", MIB);
    proxy.serve(&disk);
    let address = format!("http://{}", proxy.address());
    for (name, value) in [("http_proxy", &address), ("HTTP_PROXY", &address)] {
        println!("{name}");
        let call = cloud.cp("http://images.invalid/disk.img").environment(name, value);
        same_bytes(&disk, call.run().succeeds().image("raw"));
        // Many proxies allow tunnels to https servers only.
        let requests = proxy.requests();
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].method, "GET");
        assert_eq!(requests[0].target, "http://images.invalid/disk.img");
        assert_eq!(requests[0].header("host"), Some("images.invalid"));
        assert_eq!(requests[0].header("proxy-authorization"), None);
    }
}

#[test]
fn a_proxy_is_told_who_asks_and_the_server_is_not() {
    let (cloud, proxy) = (Cloud::new(), Web::new());
    let disk = cloud.raw("disk.img", 3 * MIB);
    proxy.page("disk.img", Page::of(&disk).first(Fault::CutAfter(MIB)));
    let address = format!("http://tom:s3cret@{}", proxy.address());
    let call = cloud.cp("http://images.invalid:8080/disk.img").environment("http_proxy", address);
    same_bytes(&disk, call.run().succeeds().image("raw"));
    let requests = proxy.requests();
    assert_eq!(requests.len(), 2, "the transfer broke, and went on");
    for request in requests {
        assert_eq!(request.target, "http://images.invalid:8080/disk.img");
        // "tom:s3cret" in base64.
        assert_eq!(request.header("proxy-authorization"), Some("Basic dG9tOnMzY3JldA=="));
        assert_eq!(request.header("authorization"), None);
    }
}

#[test]
fn a_redirect_to_https_leaves_the_proxy_for_http() {
    let (cloud, proxy, authority) = (Cloud::new(), Web::new(), Authority::new());
    let secure = Web::secure(authority.good());
    let disk = cloud.raw("disk.img", MIB);
    proxy.page("moved.img", Page::redirect(secure.serve(&disk)));
    let call = cloud
        .cp("http://images.invalid/moved.img")
        .environment("http_proxy", format!("http://{}", proxy.address()));
    let call = call.environment("SSL_CERT_FILE", authority.file());
    same_bytes(&disk, call.run().succeeds().image("raw"));
    assert_eq!(proxy.requests().len(), 1, "only for the first step");
}

#[test]
fn https_goes_through_https_proxy_and_http_does_not() {
    let (cloud, proxy, authority) = (Cloud::new(), Web::new(), Authority::new());
    let secure = Web::secure(authority.good());
    let disk = cloud.raw("disk.img", MIB);
    let address = format!("http://{}", proxy.address());
    let call = cloud.cp(secure.serve(&disk)).environment("SSL_CERT_FILE", authority.file());
    same_bytes(&disk, call.environment("https_proxy", &address).run().succeeds().image("raw"));
    let requests = proxy.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].method, "CONNECT");
    assert_eq!(requests[0].target, secure.address().to_string());

    let plain = Web::new();
    let call = cloud.cp(plain.serve(&disk)).environment("https_proxy", &address);
    call.run().succeeds().image("raw");
    assert_eq!(proxy.requests().len(), 0, "https_proxy is not for http");
    let call = cloud.cp(secure.serve(&disk)).environment("SSL_CERT_FILE", authority.file());
    call.environment("http_proxy", &address).run().succeeds().image("raw");
    assert_eq!(proxy.requests().len(), 0, "http_proxy is not for https");
}

#[test]
fn no_proxy_names_hosts_that_are_reached_directly() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let url = web.serve(cloud.raw("disk.img", MIB));
    // Nothing listens there: a request to this proxy fails.
    let call = |no_proxy| {
        let call = cloud.cp(&url).environment("http_proxy", "http://127.0.0.1:1");
        call.environment("no_proxy", no_proxy).run()
    };
    for direct in ["127.0.0.1", "localhost,127.0.0.1", "*"] {
        println!("{direct}");
        call(direct).succeeds().image("raw");
    }
    for other in ["example.org", "27.0.0.1"] {
        call(other).refused(Rule::CantBeFetched).naming("IMAGE/PATH").saying(&url);
    }
}
