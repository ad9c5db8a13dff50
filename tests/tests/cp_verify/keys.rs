//! Signatures, and the administrator's keys.

use crate::{KEY, KEYRING, LIST, SIGNATURE, World, text, verifies};
use ferrostore_tests::{MinisignKey, digest, pattern, same_bytes, same_content, write_script};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

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

#[test]
fn a_gpgv_that_fails_or_is_missing_verifies_nothing() {
    const IN_ITS_PLACE: &str = "mount --bind \"$1\" /usr/bin/gpgv && shift && exec \"$@\"";
    let world = World::new();
    let fake = world.cloud.outside().join("gpgv");
    let good = "echo '[GNUPG:] GOODSIG 1 x'\n";
    for (script, said) in [
        ("exit 0".to_owned(), "holds no signature"),
        (format!("{good}exit 0"), "holds no signature"),
        (format!("{good}kill -9 $$"), "was ended by signal 9"),
        (String::new(), "is not installed"),
    ] {
        println!("{script}");
        write_script(&fake, &script);
        let fake = if script.is_empty() { "/dev/null" } else { fake.to_str().unwrap() };
        for call in world.signed() {
            let call = call.under(["unshare", "--mount", "sh", "-c", IN_ITS_PLACE, "sh", fake]);
            call.run().fails().naming(SIGNATURE).saying(said);
        }
    }
}
