//! Checksum lists: their forms, where they are, and what is in them.

use crate::{KEY, KEYRING, LIST, SIGNATURE, World, text, verifies};
use ferrostore_tests::{Page, Rule, SshHost, Web, digest, same_bytes, same_content, wrong_digest};
use std::fs;
use std::path::Path;

#[test]
fn every_form_of_a_list_is_taken() {
    let world = World::new();
    let (sha256, other) = (&world.sha256, "5".repeat(64));
    let sha512 = digest("sha512sum", &world.disk);
    for (list, digest) in [
        (format!("{other}  other.img\n{sha256}  disk.img\n"), sha256),
        (format!("{sha256} *./disk.img\r\n"), sha256),
        (format!("# disk.img: 5 bytes\nSHA256 (disk.img) = {sha256}\n"), sha256),
        (format!("SHA2-512(disk.img)= {}\n", sha512.to_uppercase()), &sha512),
        (format!("{sha256}  disk.img\n{sha512}  disk.img\n"), &sha512),
        (sha256.clone(), sha256),
        (format!("{sha512}\n"), &sha512),
    ] {
        println!("{list}");
        world.put("SUMS", &list);
        for call in world.both() {
            same_bytes(&world.disk, verifies(call.set(LIST, "SUMS"), digest));
        }
    }
}

#[test]
fn a_list_is_named_by_url_by_path_or_relative_to_the_image() {
    let world = World::new();
    let path = world.put("SUMS", world.list());
    fs::create_dir(world.cloud.images().join("sums")).unwrap();
    fs::write(world.cloud.images().join("sums/SUMS"), world.list()).unwrap();
    world.web.page("sums/SUMS", Page::of(&path));
    world.web.page("a%20b", Page::of(&path));
    for name in
        ["SUMS", "./SUMS", "sums/SUMS", "sums/../SUMS", &text(&path), &world.web.url("SUMS")]
    {
        for call in world.both() {
            println!("{name}");
            verifies(call.set(LIST, name), &world.sha256);
        }
    }
    let [by_http, _] = world.both();
    verifies(by_http.set(LIST, "a b"), &world.sha256);
    // The image's query is not the list's, and its name is that without the query.
    let url = world.web.url("disk.img?token=1");
    verifies(world.cloud.cp(url).set(LIST, "SUMS"), &world.sha256);
}

#[test]
fn an_image_that_is_not_as_listed_is_refused_with_both_digests() {
    let world = World::new();
    let wrong = wrong_digest(&world.sha256);
    world.put("SUMS", format!("{wrong}  disk.img\n"));
    for driver in ["", "raw", "qcow2"] {
        for call in world.both() {
            call.driver(driver)
                .set(LIST, "SUMS")
                .run()
                .refused(Rule::DigestMismatch)
                .naming(LIST)
                .saying(&wrong)
                .saying(&world.sha256);
        }
    }
    // One that is right in the template does not make up for it.
    let [call, _] = world.both();
    let call = call.set(LIST, "SUMS").set("IMAGE/TEMPLATE/SHA256", &world.sha256);
    call.run().refused(Rule::DigestMismatch).naming(LIST);
}

#[test]
fn a_digest_in_a_list_is_of_the_bytes_as_they_come() {
    let world = World::new();
    let packed = world.cloud.compressed(&world.disk, "xz");
    world.web.serve(&packed);
    let name = packed.file_name().unwrap().to_str().unwrap();
    world.put("SUMS", format!("{}  {name}\n", digest("sha256sum", &packed)));
    for path in [text(&packed), world.web.url(name)] {
        let call = world.cloud.cp(path).driver("qcow2").set(LIST, "SUMS");
        same_content(&world.disk, "raw", call.run().succeeds().image("qcow2"), "qcow2");
    }
}

#[test]
fn the_path_rules_hold_for_lists_and_signatures() {
    let world = World::new();
    let outside = world.cloud.outside().join("SUMS");
    fs::write(&outside, world.list()).unwrap();
    let keyring = text(world.publisher.keyring(&[KEY]));
    world.put("SUMS", world.list());
    for call in world.both() {
        let call = call.set(KEYRING, &keyring);
        let refused = call.clone().set(LIST, text(&outside)).run().refused(Rule::Restricted);
        refused.naming(LIST).saying_path(&outside);
        let call = call.set(LIST, "SUMS").set(SIGNATURE, text(&outside));
        call.run().refused(Rule::Restricted).naming(SIGNATURE).saying_path(&outside);
    }
    let [_, local] = world.both();
    local.clone().set(LIST, "../outside/SUMS").run().refused(Rule::Restricted).naming(LIST);
    local.clone().set(LIST, "/dev/zero").run().refused(Rule::Restricted).naming(LIST);
    local.set(LIST, "missing").run().refused(Rule::CantBeOpened).naming(LIST);
}

#[test]
fn each_file_is_asked_for_once_and_the_image_last() {
    let world = World::new();
    let [call, _] = world.signed();
    world.web.requests();
    call.run().succeeds().image("raw");
    let requests = world.web.requests();
    let targets: Vec<_> = requests.iter().map(|request| request.target.as_str()).collect();
    assert_eq!(targets, ["/SHA256SUMS", "/SHA256SUMS.gpg", "/disk.img"]);
    // What is refused by its list is not fetched at all.
    let [call, _] = world.signed();
    world.put("SHA256SUMS", "5".repeat(64) + "  other.img\n");
    call.run().fails().naming(SIGNATURE).saying("wrong signature");
    let requests = world.web.requests();
    assert!(!requests.iter().any(|request| request.target == "/disk.img"));
}

#[test]
fn what_can_t_be_fetched_is_named() {
    let world = World::new();
    let other = Web::new();
    let list = world.put("SUMS", world.list());
    let elsewhere = world.web.page("moved", Page::redirect(other.serve(&list)));
    let here = world.web.page("here", Page::redirect("/SUMS"));
    let large = world.put("LARGE", vec![b'\n'; (1 << 20) + 1]);
    world.web.page("LARGE-untold", Page::of(&large).chunked());
    let [by_http, _] = world.both();
    by_http.clone().set(LIST, &here).run().succeeds().image("raw");
    for call in world.both() {
        let with = |name: &str| call.clone().set(LIST, name).run();
        with(&elsewhere).fails().naming(LIST).saying("redirects to another host");
        with("LARGE").fails().naming(LIST).saying("is larger than 1 MiB");
        with(&world.web.url("LARGE-untold")).fails().naming(LIST).saying("is larger than 1 MiB");
        with(&world.web.url("missing")).refused(Rule::HttpStatus).naming(LIST).saying("404");
        with("s3://bucket/SUMS").fails().naming(LIST).saying("give a URL of http");
        with("gopher://h/SUMS").refused(Rule::UnknownScheme).naming(LIST);
        let secret = world.web.url("missing").replace("://", "://tom:hunter2@");
        let failure = with(&secret).refused(Rule::HttpStatus).naming(LIST);
        assert!(!failure.text.contains("hunter2"), "{}", failure.text);
        call.clone().set(SIGNATURE, "SUMS.gpg").run().refused(Rule::MissingAttribute).naming(LIST);
    }
}

#[test]
fn lists_and_signatures_come_by_ssh_too() {
    let (world, host) = (World::new(), SshHost::new());
    let said = format!("signed by {}", world.publisher.fingerprint(KEY));
    let url = |path: &Path| format!("ssh://elsewhere:{}", path.display());
    let [by_http, local] = world.signed();
    let list = url(&world.cloud.images().join("SHA256SUMS"));
    for call in [local.path(url(&world.disk)), by_http.set(LIST, &list)] {
        let call = call.under(host.neighbour());
        same_bytes(&world.disk, verifies(call.clone(), &said));
        let missing = call.set(LIST, url(&world.cloud.images().join("missing"))).run();
        missing.fails().naming(LIST).saying("No such file");
    }
}
