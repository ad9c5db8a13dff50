//! The kind `dummy`: every action succeeds, and nothing happens.

use ferrostore_tests::{Call, Cloud, Listing, Rule};

/// What an action of OpenNebula's own driver of that name replies, or would if it had it.
fn replies(cloud: &Cloud) -> Vec<(Call<'_>, &'static str)> {
    vec![
        (cloud.cp("/no/such/file"), "dummy_path dummy_format\n"),
        (cloud.mkfs("raw", "4"), "dummy_path\n"),
        (cloud.clone_of("dummy_path", ""), "dummy_path dummy_format\n"),
        (cloud.rm("dummy_path"), ""),
        (cloud.stat("/no/such/file"), "1024\n"),
        (cloud.snap("snap_revert", "dummy_path", "", 0), ""),
        (cloud.snap("snap_flatten", "dummy_path", "", 0), ""),
        (cloud.snap("snap_delete", "dummy_path", "", 0), ""),
        (cloud.monitor(), "USED_MB=9720\nTOTAL_MB=20480\nFREE_MB=20480\n"),
    ]
}

#[test]
fn every_action_succeeds_and_changes_nothing() {
    let cloud = Cloud::new();
    cloud.datastore_conf("CALL_LOG=no\n");
    let before = Listing::of(cloud.root());
    for (call, reply) in replies(&cloud) {
        assert_eq!(call.set("DATASTORE/DS_MAD", "dummy").run().succeeds().text, reply);
    }
    let export = cloud.export("dummy_path", "").set("DATASTORE/DS_MAD", "dummy").run().succeeds();
    assert!(export.line().contains("<IMPORT_SOURCE>dummy_path</IMPORT_SOURCE>"));
    assert_eq!(Listing::of(cloud.root()), before);
}

#[test]
fn a_message_must_be_one_all_the_same() {
    let cloud = Cloud::new();
    let cp = || cloud.cp("/no/such/file").set("DATASTORE/DS_MAD", "dummy");
    cp().input("nonsense!").run().fails().saying("base64");
    cp().without("IMAGE").run().refused(Rule::MissingAttribute).naming("IMAGE");
    cp().set_escaped("IMAGE/SIZE", "many").run().refused(Rule::NotValid).naming("IMAGE/SIZE");
}
