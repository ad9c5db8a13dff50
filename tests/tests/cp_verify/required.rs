//! What a datastore requires, and where it is told what was verified.

use crate::{KEY, KEYRING, LIST, SIGNATURE, World, verifies};
use ferrostore_tests::{Bridges, Oned, Rule, digest, same_bytes, wrong_digest};
use std::fs;

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
fn what_was_verified_is_told_to_oned_and_recorded() {
    let world = World::new();
    let expected =
        format!("sha256 {}, signed by {}", world.sha256, world.publisher.fingerprint(KEY));
    let oned = Oned::listing(&[]);
    let [call, _] = world.signed();
    oned.known_to(call.clone()).run().succeeds().image("raw");
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
    oned.known_to(quiet).run().succeeds();
    let plain = call.without(LIST).without(SIGNATURE);
    oned.known_to(plain).run().succeeds();
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
