//! What is wrong with a list or a signature, each told in its own words; nothing is registered.

use super::{KEY, KEYRING, LIST, SIGNATURE, World, text};
use ferrostore_tests::{Page, Rule, Web, digest, wrong_digest};

const REVOKED: &str = "revoked@example.org";
const EXPIRED: &str = "expired@example.org";
const OLD: &str = "old@example.org";
const UNKNOWN: &str = "unknown@example.org";

#[test]
fn each_fault_of_a_list_has_its_own_words() {
    let world = World::new();
    let sha256 = &world.sha256;
    let (wrong, other) = (wrong_digest(sha256), "5".repeat(64));
    let elsewhere = Web::new();
    for (list, said) in [
        (format!("{wrong}  disk.img\n"), "does not match"),
        (format!("{sha256}  disk.img\n{wrong}  disk.img\n"), "is ambiguous"),
        (format!("{sha256}\n{wrong}\n"), "is ambiguous"),
        (format!("{other}  other.img\n"), "doesn't list \"disk.img\""),
        (format!("{sha256}  disk.img.xz\n"), "doesn't list \"disk.img\""),
        ("<html><body>Not here</body></html>\n".to_owned(), "is no checksum list"),
        (String::new(), "is no checksum list"),
        (format!("{sha256}  disk.img\n{}", "#\n".repeat(1 << 19)), "is larger than 1 MiB"),
    ] {
        let path = world.put("SUMS", &list);
        println!("{said}: {} bytes", list.len());
        for call in world.both() {
            call.set(LIST, "SUMS").run().fails().naming(LIST).saying(said).saying("SUMS");
        }
        let moved = elsewhere.page("moved", Page::redirect(world.web.serve(path)));
        let [by_http, _] = world.both();
        let failure = by_http.set(LIST, moved).run().fails().naming(LIST);
        failure.saying("redirects to another host");
    }
    let [by_http, local] = world.both();
    by_http.set(LIST, "missing").run().refused(Rule::HttpStatus).naming(LIST).saying("404");
    local.set(LIST, "missing").run().refused(Rule::CantBeOpened).naming(LIST);
}

#[test]
fn each_fault_of_a_signature_has_its_own_words() {
    let world = World::new();
    let publisher = &world.publisher;
    publisher.make_key(REVOKED);
    publisher.make_key(UNKNOWN);
    publisher.make_expired_key(EXPIRED);
    publisher.make_old_key(OLD);
    let list = world.list();
    let past = ["--faked-system-time", "20200102T000000", "--detach-sign"];
    let short = [&past[..], &["--default-sig-expire", "2d"]].concat();
    let revoked = publisher.detached(REVOKED, &list);
    publisher.revoke_key(REVOKED);
    let weak = ["--digest-algo", "SHA1", "--detach-sign"];
    let keyring = text(publisher.keyring(&[KEY, REVOKED, EXPIRED, OLD]));
    let of = |key: &str| publisher.fingerprint(key);
    for (signature, said, key) in [
        (publisher.detached(KEY, b"another list\n"), "wrong signature by", of(KEY)),
        (publisher.detached(UNKNOWN, &list), "which is not in KEYRING", of(UNKNOWN)),
        (publisher.signed(EXPIRED, &list, &past), "which has expired", of(EXPIRED)),
        (publisher.signed(OLD, &list, &short), "that has expired", of(OLD)),
        (revoked, "has revoked", of(REVOKED)),
        (publisher.signed(KEY, &list, &weak), "MD5, SHA1 or RIPEMD160", of(KEY)),
        (b"<html>\n".to_vec(), "holds no signature", String::new()),
        (Vec::new(), "holds no signature", String::new()),
        (vec![b'x'; (1 << 20) + 1], "is larger than 1 MiB", String::new()),
    ] {
        println!("{said}");
        world.put("SUMS", &list);
        world.put("SUMS.sign", signature);
        for call in world.both() {
            let call = call.set(LIST, "SUMS").set(SIGNATURE, "SUMS.sign").set(KEYRING, &keyring);
            let failure = call.run().fails().naming(SIGNATURE).saying(said);
            // Of a key that it has not, gpgv tells the last digits at least.
            let shown = key.get(key.len().saturating_sub(16)..).unwrap_or_default();
            assert!(failure.text.contains(shown), "{shown}: {}", failure.text);
        }
    }
    // Signed, but by a digest for which another image could be made.
    let weak = format!("{}  disk.img\n", digest("sha1sum", &world.disk));
    world.put("SUMS", &weak);
    world.put("SUMS.sign", publisher.detached(KEY, weak.as_bytes()));
    for call in world.both() {
        let call = call.set(LIST, "SUMS").set(SIGNATURE, "SUMS.sign").set(KEYRING, &keyring);
        call.run().fails().naming(LIST).saying("has only the SHA1 digest");
    }
}

/// The list beside an image has the image's name and the algorithm's.
#[test]
fn a_file_with_the_digest_of_one_image_is_a_list() {
    let world = World::new();
    for (program, suffix) in [("sha256sum", "sha256"), ("sha512sum", "sha512"), ("sha1sum", "sha1")]
    {
        let name = format!("disk.img.{suffix}");
        let digest = digest(program, &world.disk);
        for form in [format!("{digest}\n"), format!("{digest}  disk.img\n"), digest.clone()] {
            world.put(&name, form);
            for call in world.both() {
                super::verifies(call.set(LIST, &name), &digest);
            }
        }
        world.put(&name, wrong_digest(&digest));
        for call in world.both() {
            call.set(LIST, &name).run().fails().naming(LIST).saying("does not match");
        }
    }
}
