//! `cp` and `stat` by https: whom a server must be known to.

use ferrostore_tests::{Authority, Call, Cloud, Fault, MIB, Page, Rule, Web, same_bytes};
use std::fs;

const TEMPLATE: &str = "DATASTORE/TEMPLATE/TLS_VERIFY";

fn driver_conf(cloud: &Cloud, text: &str) {
    let folder = cloud.one_location().join("var/remotes/etc/datastore/fs");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("fs.conf"), text).unwrap();
}

#[test]
fn a_server_is_trusted_if_the_machine_trusts_its_authority() {
    let (cloud, authority) = (Cloud::new(), Authority::new());
    let web = Web::secure(authority.good());
    let disk = cloud.raw("disk.img", 3 * MIB);
    let trusting = |call: Call<'_>| call.environment("SSL_CERT_FILE", authority.file()).run();
    let url = web.serve(&disk);
    let by_name = url.replace("127.0.0.1", "localhost");
    for url in [&url, &by_name] {
        same_bytes(&disk, trusting(cloud.cp(url)).succeeds().image("raw"));
        assert_eq!(web.requests().len(), 1);
        trusting(cloud.stat(url)).succeeds().replies("3");
        web.requests();
    }
    let broken = Page::of(&disk).first(Fault::CutAfter(MIB));
    same_bytes(&disk, trusting(cloud.cp(web.page("cut", broken))).succeeds().image("raw"));
    let untold = Page::of(&disk).without_length();
    same_bytes(&disk, trusting(cloud.cp(web.page("untold", untold))).succeeds().image("raw"));
}

#[test]
fn a_server_with_an_untrusted_certificate_is_refused_with_the_remedy() {
    let (cloud, authority, stranger) = (Cloud::new(), Authority::new(), Authority::new());
    let disk = cloud.raw("disk.img", MIB);
    for (what, certificate) in [
        ("of an unknown authority", stranger.good()),
        ("self-signed", authority.self_signed()),
        ("expired", authority.expired()),
        ("of another host", authority.of_another_host()),
    ] {
        println!("{what}");
        let web = Web::secure(certificate);
        let url = web.serve(&disk);
        for action in ["cp", "stat"] {
            let call = cloud.call(action).path(&url).environment("SSL_CERT_FILE", authority.file());
            let failure = call.run().fails();
            failure.naming("IMAGE/PATH").saying(&url).saying("certificate").saying("TLS_VERIFY");
        }
        assert_eq!(web.requests().len(), 0, "nothing is asked of a stranger");
    }
}

#[test]
fn a_self_signed_certificate_is_trusted_if_it_is_among_the_trusted_ones() {
    let (cloud, authority) = (Cloud::new(), Authority::new());
    let disk = cloud.raw("disk.img", 3 * MIB);
    let (certificate, file) = authority.plain_self_signed("IP:127.0.0.1", "20991231");
    let web = Web::secure(certificate);
    let url = web.serve(&disk);
    let trusting = |call: Call<'_>| call.environment("SSL_CERT_FILE", &file).run();
    same_bytes(&disk, trusting(cloud.cp(&url)).succeeds().image("raw"));
    trusting(cloud.stat(&url)).succeeds().replies("3");
    // Its name must be right all the same.
    let by_name = url.replace("127.0.0.1", "localhost");
    trusting(cloud.cp(by_name)).fails().saying("not valid for").saying("TLS_VERIFY");
    // Another one of the same name is not this one.
    let other = Authority::new();
    let stranger = other.plain_self_signed("IP:127.0.0.1", "20991231").1;
    for file in [stranger, authority.file()] {
        let call = cloud.cp(&url).environment("SSL_CERT_FILE", file);
        call.run().fails().saying("signed it itself").saying("update-ca-certificates");
    }
}

#[test]
fn a_trusted_self_signed_certificate_must_be_in_time() {
    let (cloud, authority) = (Cloud::new(), Authority::new());
    let (certificate, file) = authority.plain_self_signed("IP:127.0.0.1", "20210101");
    let web = Web::secure(certificate);
    let call = cloud.cp(web.serve(cloud.raw("disk.img", MIB)));
    call.environment("SSL_CERT_FILE", file).run().fails().saying("expired").saying("renew");
}

#[test]
fn what_is_wrong_with_a_certificate_is_told() {
    let (cloud, authority) = (Cloud::new(), Authority::new());
    let disk = cloud.raw("disk.img", MIB);
    for (certificate, words) in [
        (authority.expired(), &["expired"][..]),
        (authority.of_another_host(), &["not valid for", "name"]),
        (authority.self_signed(), &["unknown", "issuer", "self"]),
    ] {
        let web = Web::secure(certificate);
        let call = cloud.cp(web.serve(&disk)).environment("SSL_CERT_FILE", authority.file());
        call.run().fails().saying_any(words);
    }
}

#[test]
fn the_check_is_off_where_the_datastore_says_so() {
    let (cloud, authority) = (Cloud::new(), Authority::new());
    let disk = cloud.raw("disk.img", MIB);
    for certificate in [
        authority.good(),
        authority.self_signed(),
        authority.expired(),
        authority.of_another_host(),
    ] {
        let web = Web::secure(certificate);
        let url = web.serve(&disk);
        for word in ["no", "NO"] {
            same_bytes(&disk, cloud.cp(&url).set(TEMPLATE, word).run().succeeds().image("raw"));
            cloud.stat(&url).set(TEMPLATE, word).run().succeeds().replies("1");
        }
        for word in ["yes", "YES", ""] {
            cloud
                .cp(&url)
                .set(TEMPLATE, word)
                .run()
                .refused(Rule::CantBeFetched)
                .saying("TLS_VERIFY");
        }
    }
}

#[test]
fn the_check_is_off_where_the_driver_s_configuration_says_so() {
    let (cloud, authority) = (Cloud::new(), Authority::new());
    let web = Web::secure(authority.self_signed());
    let url = web.serve(cloud.raw("disk.img", MIB));
    for text in ["TLS_VERIFY=no\n", "# why\nTLS_VERIFY=\"no\"\n", "TLS_VERIFY=NO"] {
        driver_conf(&cloud, text);
        cloud.cp(&url).run().succeeds().image("raw");
        cloud.stat(&url).run().succeeds().replies("1");
    }
    for text in ["TLS_VERIFY=yes\n", "#TLS_VERIFY=no\n", ""] {
        driver_conf(&cloud, text);
        cloud.cp(&url).run().refused(Rule::CantBeFetched).saying("TLS_VERIFY");
    }
}

#[test]
fn the_datastore_has_the_last_word_on_the_check() {
    let (cloud, authority) = (Cloud::new(), Authority::new());
    let web = Web::secure(authority.self_signed());
    let url = web.serve(cloud.raw("disk.img", MIB));
    driver_conf(&cloud, "TLS_VERIFY=no\n");
    cloud.cp(&url).set(TEMPLATE, "yes").run().refused(Rule::CantBeFetched).saying("TLS_VERIFY");
    driver_conf(&cloud, "TLS_VERIFY=yes\n");
    cloud.cp(&url).set(TEMPLATE, "no").run().succeeds().image("raw");
}

#[test]
fn another_driver_s_configuration_does_not_count() {
    let (cloud, authority) = (Cloud::new(), Authority::new());
    let web = Web::secure(authority.self_signed());
    let url = web.serve(cloud.raw("disk.img", MIB));
    driver_conf(&cloud, "TLS_VERIFY=no\n");
    // A driver under a name of its own, which is of this kind all the same.
    let folder = cloud.one_location().join("var/remotes/etc/datastore/mine");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("mine.conf"), "KIND=fs\n").unwrap();
    let mine = || cloud.cp(&url).set("DATASTORE/DS_MAD", "mine");
    mine().run().refused(Rule::CantBeFetched).saying("TLS_VERIFY");
    fs::write(folder.join("mine.conf"), "KIND=fs\nTLS_VERIFY=no\n").unwrap();
    mine().run().succeeds().image("raw");
}

#[test]
fn a_redirect_leads_to_a_server_that_must_be_known_too() {
    let (cloud, authority) = (Cloud::new(), Authority::new());
    let (web, secure) = (Web::new(), Web::secure(authority.good()));
    let disk = cloud.raw("disk.img", MIB);
    let url = web.page("latest", Page::redirect(secure.serve(&disk)));
    cloud.cp(&url).run().refused(Rule::CantBeFetched).saying(&url).saying("TLS_VERIFY");
    let call = cloud.cp(&url).environment("SSL_CERT_FILE", authority.file());
    same_bytes(&disk, call.run().succeeds().image("raw"));
    let url = secure.page("back", Page::redirect(web.serve(&disk)));
    cloud.cp(&url).environment("SSL_CERT_FILE", authority.file()).run().succeeds();
}

#[test]
fn a_server_that_speaks_no_tls_is_told_as_such() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let url = web.serve(cloud.raw("disk.img", MIB)).replace("http:", "https:");
    cloud.cp(&url).run().refused(Rule::CantBeFetched).naming("IMAGE/PATH").saying(&url);
}
