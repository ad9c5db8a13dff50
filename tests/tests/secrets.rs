//! Passwords and keys in a URL: known to the server that they are for, and shown nowhere.
//!
//! Looked for in standard error (log lines and the line for the user), and in the arguments of every
//! program that a driver starts.

use ferrostore_tests::{Call, Cloud, Fault, MIB, Outcome, Page, Rule, Web, write_script};
use std::fs;

const SECRET: &str = "hunter2";

/// Makes a call under a trace of the programs that it starts, and checks that neither says the secret.
#[track_caller]
fn keeps_the_secret(cloud: &Cloud, call: Call) -> Outcome {
    let trace = cloud.root().join("trace");
    let strace = ["strace", "-f", "-qq", "-s", "9999", "-e", "trace=execve", "-o"];
    let outcome = call.under(strace.into_iter().chain([trace.to_str().unwrap()])).run();
    let stderr = outcome.stderr_text();
    assert!(!stderr.contains(SECRET), "{stderr}");
    let started = fs::read_to_string(&trace).unwrap();
    // The first one is the driver itself, which strace starts.
    assert!(started.contains("execve("), "{started}");
    assert!(!started.contains(SECRET), "{started}");
    outcome
}

fn pages(cloud: &Cloud) -> Vec<(&'static str, Page)> {
    let page = Page::of(cloud.raw("disk.img", 2 * MIB));
    vec![
        ("fine", page.clone()),
        ("refused", page.clone().with_password("tom:other")),
        ("missing", page.clone().always(Fault::Status(404))),
        ("down", page.clone().always(Fault::Status(503))),
        ("cut", page.clone().always(Fault::CutAfter(5000))),
        ("hang-up", page.always(Fault::HangUp)),
        ("empty", Page::of(cloud.file("empty", ""))),
    ]
}

#[test]
fn a_password_of_a_web_server_is_not_shown() {
    let (cloud, web) = (Cloud::new(), Web::new());
    for (name, page) in pages(&cloud) {
        println!("{name}");
        let url = web.page(name, page).replace("://", &format!("://tom:{SECRET}@"));
        for action in ["cp", "stat"] {
            let outcome = keeps_the_secret(&cloud, cloud.call(action).path(&url));
            if !outcome.status.success() {
                outcome.fails().naming("IMAGE/PATH").saying("tom:***@");
            }
        }
    }
}

#[test]
fn a_key_in_a_query_is_not_shown() {
    let (cloud, web) = (Cloud::new(), Web::new());
    for (name, page) in pages(&cloud) {
        println!("{name}");
        let query = format!("version=7&X-Amz-Signature={SECRET}&token={SECRET}&part=2");
        let url = format!("{}?{query}", web.page(name, page));
        for action in ["cp", "stat"] {
            let outcome = keeps_the_secret(&cloud, cloud.call(action).path(&url));
            if !outcome.status.success() {
                outcome.fails().naming("IMAGE/PATH").saying("?version=7&").saying("&part=2");
            }
        }
        assert!(web.requests().iter().all(|request| request.target.contains(SECRET)));
    }
}

#[test]
fn a_password_in_a_redirect_is_not_shown() {
    let (cloud, web) = (Cloud::new(), Web::new());
    for (name, page) in pages(&cloud) {
        println!("{name}");
        let target = web.page(name, page);
        for target in [
            target.replace("://", &format!("://tom:{SECRET}@")),
            format!("{target}?signature={SECRET}"),
            format!("http://tom:{SECRET}/@127.0.0.1:1/x"),
            format!("gopher://tom:{SECRET}@127.0.0.1:1/x"),
            format!("http://tom:{SECRET}@no-such-host.invalid/x"),
            format!("http://tom:{SECRET}@127.0.0.1:99999/x"),
        ] {
            let url = web.page("redirect", Page::redirect(target));
            for action in ["cp", "stat"] {
                let outcome = keeps_the_secret(&cloud, cloud.call(action).path(&url));
                if !outcome.status.success() {
                    outcome
                        .refused_by_any(&[Rule::CantBeFetched, Rule::HttpStatus])
                        .naming("IMAGE/PATH")
                        .saying(&url);
                }
            }
        }
        if name == "refused" {
            break;
        }
    }
}

/// Characters that belong into a URL only encoded must not turn a password into a part of a path.
#[test]
fn a_password_in_a_malformed_url_is_not_shown() {
    let cloud = Cloud::new();
    for path in [
        format!("http://tom:x/{SECRET}@127.0.0.1:1/y"),
        format!("http://tom:x?{SECRET}@127.0.0.1:1/y"),
        format!("http://tom:x#{SECRET}@127.0.0.1:1/y"),
        format!("http://tom:x@{SECRET}@127.0.0.1:1/y"),
        format!("http://tom:{SECRET} @127.0.0.1:1/y"),
        format!("http://tom:{SECRET}\n@127.0.0.1:1/y"),
        format!("http://tom:{SECRET}@"),
        format!("http://tom:{SECRET}@:1/y"),
        format!("http://tom:{SECRET}@[::1/y"),
        format!("gopher://tom:{SECRET}@127.0.0.1:1/y"),
        format!("HTTPS://tom:{SECRET}@127.0.0.1:1/y"),
    ] {
        println!("{path}");
        for action in ["cp", "stat"] {
            keeps_the_secret(&cloud, cloud.call(action).path(&path))
                .refused_by_any(&[
                    Rule::CantBeFetched,
                    Rule::UnknownScheme,
                    Rule::UrlCharacter,
                    Rule::UrlWithoutHost,
                ])
                .naming("IMAGE/PATH");
        }
    }
}

/// Who starts a program shows its arguments to every user of the machine.
#[test]
fn a_password_is_never_an_argument() {
    let cloud = Cloud::new();
    write_script(cloud.downloader(), "echo \"can't fetch $*\" >&2\nexit 1");
    for scheme in ["s3", "ftp", "rsync", "rbd", "docker", "restic+rbd", "SSH", "ssh"] {
        for user in [format!("tom:{SECRET}"), format!("tom:x@{SECRET}"), format!(":{SECRET}")] {
            let path = format!("{scheme}://{user}@127.0.0.1:/disk.img");
            println!("{path}");
            for action in ["cp", "stat"] {
                let outcome = keeps_the_secret(&cloud, cloud.call(action).path(&path));
                let failure = outcome.fails().naming("IMAGE/PATH");
                failure.saying_any(&["password", "no usable host"]);
            }
        }
    }
}

#[test]
fn a_password_of_a_proxy_is_not_shown() {
    let (cloud, web) = (Cloud::new(), Web::new());
    let url = web.page("disk.img", Page::of(cloud.raw("disk.img", MIB)));
    for proxy in [
        format!("http://tom:{SECRET}@127.0.0.1:1"),
        format!("http://tom:{SECRET}@no-such-host.invalid:1"),
        format!("gopher://tom:{SECRET}@127.0.0.1:1"),
        format!("tom:{SECRET}@"),
        format!("http://tom:{SECRET}@127.0.0.1:99999"),
        format!("http://tom:{SECRET}@ 127.0.0.1"),
    ] {
        println!("{proxy}");
        for action in ["cp", "stat"] {
            let call = cloud.call(action).path(&url).environment("http_proxy", proxy.as_str());
            let outcome = keeps_the_secret(&cloud, call);
            if !outcome.status.success() {
                outcome.refused(Rule::CantBeFetched).naming("IMAGE/PATH").saying(&url);
            }
        }
    }
}
