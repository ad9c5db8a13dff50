//! `cp`: checksum lists of publishers, their signatures, and what a datastore requires.

use ferrostore_tests::{
    Bridges, Call, Cloud, MIB, MinisignKey, Oned, Page, Publisher, Rule, SshHost, Web, digest,
    pattern, same_bytes, same_content, wrong_digest,
};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const LIST: &str = "IMAGE/TEMPLATE/CHECKSUM_URL";
const SIGNATURE: &str = "IMAGE/TEMPLATE/SIGNATURE_URL";
const KEYRING: &str = "DATASTORE/TEMPLATE/KEYRING";
const KEY: &str = "releases@example.org";

/// A cloud with a disk, a server that has it, and a publisher with a key.
struct World {
    cloud: Cloud,
    web: Web,
    publisher: Publisher,
    disk: PathBuf,
    sha256: String,
}

impl World {
    fn new() -> Self {
        let (cloud, web, publisher) = (Cloud::new(), Web::new(), Publisher::with_key(KEY));
        let disk = cloud.raw("disk.img", 3 * MIB + 512);
        web.serve(&disk);
        let sha256 = digest("sha256sum", &disk);
        Self { cloud, web, publisher, disk, sha256 }
    }

    /// A list as `sha256sum` writes it.
    fn list(&self) -> Vec<u8> {
        format!("{}  other.img\n{} *disk.img\n", "5".repeat(64), self.sha256).into_bytes()
    }

    /// Puts a file beside the disk, on the server and in the directory.
    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.cloud.file(name, bytes);
        self.web.serve(&path);
        path
    }

    /// Registers the disk by http, and as a file.
    fn both(&self) -> [Call<'_>; 2] {
        [self.cloud.cp(self.web.url("disk.img")), self.cloud.cp(&self.disk)]
    }

    /// As [`Self::both`], with a signed list beside the disk.
    fn signed(&self) -> [Call<'_>; 2] {
        self.put("SHA256SUMS", self.list());
        self.put("SHA256SUMS.gpg", self.publisher.detached(KEY, &self.list()));
        let keyring = text(self.publisher.keyring(&[KEY]));
        self.both().map(|call| {
            call.set(LIST, "SHA256SUMS").set(SIGNATURE, "SHA256SUMS.gpg").set(KEYRING, &keyring)
        })
    }
}

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_str().unwrap().to_owned()
}

/// Checks that the call succeeds and says `said` in the log.
#[track_caller]
fn verifies(call: Call, said: &str) -> PathBuf {
    let outcome = call.run();
    let log = outcome.log_lines();
    let image = outcome.succeeds().image("raw");
    let found = log.iter().any(|line| line.starts_with("INFO: verified: ") && line.contains(said));
    assert!(found, "{said:?} should be in {log:?}");
    image
}

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
fn a_signed_list_names_the_key_in_the_log() {
    let world = World::new();
    let said = format!("sha256 {}, signed by {}", world.sha256, world.publisher.fingerprint(KEY));
    for call in world.signed() {
        same_bytes(&world.disk, verifies(call, &said));
    }
    let armored = world.publisher.signed(KEY, &world.list(), &["--armor", "--detach-sign"]);
    world.put("SHA256SUMS.asc", armored);
    for call in world.signed() {
        let call = call.set("DATASTORE/TEMPLATE/REQUIRE_SIGNATURE", "yes");
        verifies(call.set(SIGNATURE, "SHA256SUMS.asc"), &said);
    }
}

#[test]
fn a_clear_signed_list_needs_no_signature_apart() {
    let world = World::new();
    let list = format!("# disk.img: 5 bytes\nSHA256 (disk.img) = {}\n", world.sha256);
    world.put("CHECKSUM", world.publisher.clear_signed(KEY, list.as_bytes()));
    let said = format!("sha256 {}, signed by {}", world.sha256, world.publisher.fingerprint(KEY));
    let keyring = text(world.publisher.keyring(&[KEY]));
    for call in world.both() {
        let call = call.set(LIST, "CHECKSUM");
        let signed = call.clone().set(KEYRING, &keyring);
        verifies(signed.set("DATASTORE/TEMPLATE/REQUIRE_SIGNATURE", "yes"), &said);
        // Without keys it is a list like any other, and the log says what was not done.
        let outcome = call.run();
        let log = outcome.log_lines().join("\n");
        outcome.succeeds().image("raw");
        assert!(log.contains("is not verified, because KEYRING is not set"), "{log}");
        assert!(!log.contains("signed by"), "{log}");
    }
}

#[test]
fn keyrings_come_in_every_form_and_from_datastore_conf() {
    let world = World::new();
    world.publisher.make_key("another@example.org");
    let said = format!("signed by {}", world.publisher.fingerprint(KEY));
    let another = world.publisher.keyring(&["another@example.org"]);
    let armored = world.publisher.armored_keyring(&["another@example.org", KEY]);
    let plain = world.publisher.keyring(&[KEY]);
    let link = world.publisher.directory().join("link.gpg");
    symlink(&plain, &link).unwrap();
    let several = format!("{} {}", another.display(), plain.display());
    for keyring in [text(&armored), text(world.publisher.keybox()), text(&link), several] {
        println!("{keyring}");
        let [call, _] = world.signed();
        verifies(call.set(KEYRING, &keyring), &said);
    }
    world.cloud.datastore_conf(&format!("KEYRING={}\n", plain.display()));
    let [call, _] = world.signed();
    verifies(call.clone().without(KEYRING), &said);
    call.set(KEYRING, text(another)).run().fails().naming(SIGNATURE).saying("not in KEYRING");
}

#[test]
fn a_keyring_must_be_the_administrators() {
    let world = World::new();
    let [call, _] = world.signed();
    let outside = world.cloud.file("keys.gpg", world.publisher.exported(&[KEY], &[]));
    let link = world.publisher.directory().join("link.gpg");
    symlink(&outside, &link).unwrap();
    let open = world.publisher.etc("open.gpg", world.publisher.exported(&[KEY], &[]));
    fs::set_permissions(&open, fs::Permissions::from_mode(0o666)).unwrap();
    let dots = format!("{}/../..{}", world.publisher.directory().display(), outside.display());
    for (keyring, said) in [
        (text(&outside), "keep keyrings there"),
        (dots, "keep keyrings there"),
        ("keys.gpg".to_owned(), "keep keyrings there"),
        (text(&link), "is really"),
        (text(&open), "can be written by every user"),
        ("/etc/passwd".to_owned(), "is no keyring"),
        (text(world.publisher.directory()), "is no keyring"),
        ("/etc/ferrostore-missing.gpg".to_owned(), "can't be read"),
    ] {
        call.clone()
            .set(KEYRING, &keyring)
            .run()
            .fails()
            .naming(KEYRING)
            .saying(said)
            .saying(&keyring);
    }
}

#[test]
fn one_good_signature_among_several_is_enough() {
    let world = World::new();
    world.publisher.make_key("older@example.org");
    let list = world.list();
    let both = ["older@example.org", KEY].map(|key| world.publisher.detached(key, &list)).concat();
    let [call, _] = world.signed();
    world.put("SHA256SUMS.gpg", both);
    verifies(call, &format!("signed by {}", world.publisher.fingerprint(KEY)));
}

#[test]
fn minisign_keys_count_too() {
    let world = World::new();
    let (key, other) = (MinisignKey::new(), MinisignKey::new());
    world.put("SUMS", world.list());
    world.put("SUMS.minisig", key.sign(&world.list()));
    let keyring = text(world.publisher.minisign_keyring("two.pub", &[&other, &key]));
    let wrong = text(world.publisher.minisign_keyring("one.pub", &[&other]));
    for call in world.both() {
        let call = call.set(LIST, "SUMS").set(SIGNATURE, "SUMS.minisig");
        let call = call.set("DATASTORE/TEMPLATE/REQUIRE_SIGNATURE", "yes");
        let said = format!("sha256 {}, signed by {}", world.sha256, key.number());
        verifies(call.clone().set(KEYRING, &keyring), &said);
        let refused = call.set(KEYRING, &wrong).run().fails().naming(SIGNATURE);
        refused.saying("is not in KEYRING").saying(&key.number());
    }
}

#[test]
fn a_datastore_can_require_signatures() {
    let world = World::new();
    for conf in ["REQUIRE_SIGNATURE=yes\n", ""] {
        world.cloud.datastore_conf(conf);
        let [mut signed, _] = world.signed();
        if conf.is_empty() {
            signed = signed.set("DATASTORE/TEMPLATE/REQUIRE_SIGNATURE", "YES");
        }
        signed.clone().run().succeeds().image("raw");
        let digest_only = signed.clone().without(LIST).without(SIGNATURE);
        let digest_only = digest_only.set("IMAGE/TEMPLATE/SHA256", &world.sha256);
        digest_only.run().refused(Rule::MissingAttribute).naming(LIST).saying("REQUIRE_SIGNATURE");
        let unsigned = signed.clone().without(SIGNATURE);
        unsigned
            .run()
            .refused(Rule::MissingAttribute)
            .naming(SIGNATURE)
            .saying("REQUIRE_SIGNATURE");
        signed.without(KEYRING).run().refused(Rule::MissingAttribute).naming(KEYRING);
    }
    // Clones come from datastores, and empty images from nowhere.
    world.cloud.mkfs("raw", "1").run().succeeds();
}

#[test]
fn a_datastore_can_require_digests() {
    let world = World::new();
    world.put("SUMS", world.list());
    world.cloud.datastore_conf("REQUIRE_DIGEST=yes\n");
    let md5 = digest("md5sum", &world.disk);
    for call in world.both() {
        call.clone()
            .run()
            .refused(Rule::MissingAttribute)
            .naming("IMAGE/TEMPLATE/SHA256")
            .saying("REQUIRE_DIGEST");
        // What is no digest is none.
        let none = call.clone().set("IMAGE/TEMPLATE/FROM_APP_MD5", "-");
        none.run().refused(Rule::MissingAttribute).saying("REQUIRE_DIGEST");
        call.clone().set(LIST, "SUMS").run().succeeds().image("raw");
        call.clone().set("IMAGE/TEMPLATE/MD5", &md5).run().succeeds().image("raw");
        call.set("IMAGE/TEMPLATE/FROM_APP_MD5", &md5).run().succeeds().image("raw");
    }
    world.cloud.datastore_conf("REQUIRE_DIGEST=perhaps\n");
    let [call, _] = world.both();
    call.run().refused(Rule::NotValid).saying("REQUIRE_DIGEST");
}

#[test]
fn the_digest_of_a_marketplaces_app_is_compared() {
    let world = World::new();
    let md5 = digest("md5sum", &world.disk);
    let wrong = wrong_digest(&md5);
    for call in world.both() {
        let call = call.set("IMAGE/TEMPLATE/FROM_APP", "12");
        verifies(call.clone().set("IMAGE/TEMPLATE/FROM_APP_MD5", &md5), &md5);
        let call = call.set("IMAGE/TEMPLATE/FROM_APP_MD5", &wrong);
        let outcome = call.clone().run();
        let log = outcome.log_lines().join("\n");
        outcome.succeeds().image("raw");
        assert!(log.contains("WARN: ") && log.contains(&wrong) && log.contains(&md5), "{log}");
        let failure = call.set("DATASTORE/TEMPLATE/REQUIRE_DIGEST", "yes").run();
        let failure = failure.refused(Rule::DigestMismatch).naming("IMAGE/TEMPLATE/FROM_APP_MD5");
        failure.saying(&wrong).saying(&md5);
    }
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

#[test]
fn what_was_verified_is_told_to_oned_and_recorded() {
    let world = World::new();
    let expected =
        format!("sha256 {}, signed by {}", world.sha256, world.publisher.fingerprint(KEY));
    let oned = Oned::listing(&[]);
    let [call, _] = world.signed();
    oned.known_to(call.clone(), &world.cloud.home()).run().succeeds().image("raw");
    let told = |oned: &Oned| {
        let requests = oned.requests();
        requests.into_iter().filter(|request| request.contains("VERIFIED")).collect::<Vec<_>>()
    };
    let requests = told(&oned);
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].contains(&format!("VERIFIED=&quot;{expected}&quot;")), "{}", requests[0]);
    let record =
        fs::read_to_string(world.cloud.one_location().join("var/ferrostore.jsonl")).unwrap();
    assert!(record.contains(&format!("\"verified\":\"{expected}\"")), "{record}");
    // Where progress is off, or nothing was verified, nothing is told.
    let oned = Oned::listing(&[]);
    let quiet = call.clone().set("DATASTORE/TEMPLATE/PROGRESS", "no");
    oned.known_to(quiet, &world.cloud.home()).run().succeeds();
    let plain = call.without(LIST).without(SIGNATURE);
    oned.known_to(plain, &world.cloud.home()).run().succeeds();
    assert_eq!(told(&oned), [""; 0]);
}

#[test]
fn bridge_hosts_get_what_was_verified() {
    let world = World::new();
    let bridges = Bridges::of(&world.cloud, 1);
    let said = format!("sha256 {}, signed by {}", world.sha256, world.publisher.fingerprint(KEY));
    let [by_http, local] = world.signed();
    for call in [
        by_http.clone(),
        local.clone(),
        by_http.clone().set("DATASTORE/TEMPLATE/DOWNLOAD_ON_BRIDGE", "yes"),
    ] {
        let outcome = bridges.bridged(call).run();
        let log = outcome.log_lines().join("\n");
        same_bytes(&world.disk, outcome.succeeds().image("raw"));
        assert!(log.contains(&said), "{log}");
    }
    let record =
        fs::read_to_string(world.cloud.one_location().join("var/ferrostore.jsonl")).unwrap();
    assert_eq!(record.matches(&format!("\"verified\":\"{said}\"")).count(), 3, "{record}");
    world.put("SHA256SUMS", format!("{}  disk.img\n", wrong_digest(&world.sha256)));
    for call in
        [by_http.clone(), local, by_http.set("DATASTORE/TEMPLATE/DOWNLOAD_ON_BRIDGE", "yes")]
    {
        let call = bridges.bridged(call);
        call.clone().run().fails().naming(SIGNATURE).saying("wrong signature");
        call.without(SIGNATURE).run().refused(Rule::DigestMismatch).naming(LIST);
    }
}

/// What its user could change between two readers is read once.
#[test]
fn a_signed_local_file_is_stored_as_it_was_verified() {
    let world = World::new();
    let [_, local] = world.signed();
    let qcow2 = world.cloud.qcow2(&world.disk, "disk.qcow2", "");
    let list = format!("{}  disk.qcow2\n", digest("sha256sum", &qcow2)).into_bytes();
    world.put("SHA256SUMS", &list);
    world.put("SHA256SUMS.gpg", world.publisher.detached(KEY, &list));
    for (driver, format) in [("", "qcow2"), ("qcow2", "qcow2"), ("raw", "raw")] {
        let image = local.clone().path(&qcow2).driver(driver).run().succeeds().image(format);
        same_content(&world.disk, "raw", image, format);
    }
    let plain = world.cloud.file("kernel", pattern(1, 70_001));
    let list = format!("{}  kernel\n", digest("sha512sum", &plain)).into_bytes();
    world.put("SHA256SUMS", &list);
    world.put("SHA256SUMS.gpg", world.publisher.detached(KEY, &list));
    let call = local.path(&plain).files_datastore().set_escaped("IMAGE/TYPE", "3");
    same_bytes(&plain, call.run().succeeds().image("raw"));
}
