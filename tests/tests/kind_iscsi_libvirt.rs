//! The kind `iscsi_libvirt`: iSCSI targets that are registered by their names.

use ferrostore_tests::{Call, Cloud, Rule};

const TARGET: &str = "iqn.1992-01.com.example:storage:diskarrays-sn-a8675309";

trait InTargetDatastore {
    fn iscsi(self) -> Self;
}

impl InTargetDatastore for Call<'_> {
    fn iscsi(self) -> Self {
        self.set("DATASTORE/DS_MAD", "iscsi_libvirt")
            .set("DATASTORE/TEMPLATE/DISK_TYPE", "ISCSI")
            .set("DATASTORE/TEMPLATE/ISCSI_HOST", "127.0.0.1")
            .set_escaped("IMAGE/PERSISTENT", "1")
    }
}

#[test]
fn a_target_is_registered_by_its_name() {
    let cloud = Cloud::new();
    for target in [
        TARGET.to_owned(),
        format!("{TARGET}/0"),
        format!("{TARGET}/16383"),
        "IQN.2001-04.com.Example".to_owned(),
        "eui.02004567A425678D/1".to_owned(),
        "naa.62004567BA64678D0123456789ABCDEF".to_owned(),
    ] {
        let reply = cloud.cp(&target).iscsi().run().succeeds();
        reply.replies(&format!("{target} raw")).changing_nothing();
        cloud.stat(&target).iscsi().run().succeeds().replies("0");
    }
}

#[test]
fn the_size_of_a_target_is_never_told() {
    let cloud = Cloud::new();
    let stat = cloud.stat(TARGET).iscsi();
    stat.set("DATASTORE/TEMPLATE/DATASTORE_CAPACITY_CHECK", "NO").run().succeeds().replies("0");
}

#[test]
fn what_is_no_name_of_a_target_is_refused() {
    let cloud = Cloud::new();
    for path in [
        "/dev/sda",
        "disk",
        "iqn",
        "iqn.2001-04",
        "iqn.2001-13.com.example:x",
        "iqn.20010-4.com.example:x",
        "iqn.2001-04.com..example",
        "iqn.2001-04.com.example:a b",
        "iqn.2001-04.com.example:a\nb",
        "iqn.2001-04.com.example:'/><x",
        "iqn.2001-04.com.example:$(touch trap)",
        "-iqn.2001-04.com.example:x",
        " iqn.2001-04.com.example:x",
        "eui.02004567A425678",
        "naa.52004567BA64678D0",
        "wwn.50000",
        "iscsi://127.0.0.1/iqn.2001-04.com.example",
    ] {
        println!("{path}");
        for call in [cloud.cp(path), cloud.stat(path)] {
            call.iscsi().run().fails().naming("IMAGE/PATH").saying("iqn.<year>-<month>.<domain>");
        }
    }
    for unit in ["", "x", "-1", "+1", "1/2", "16384", "0x1", "1 "] {
        println!("{unit}");
        let call = cloud.cp(format!("{TARGET}/{unit}")).iscsi();
        call.run().fails().naming("IMAGE/PATH").saying("logical unit");
    }
    cloud.cp("").iscsi().run().refused(Rule::MissingAttribute).naming("IMAGE/PATH");
}

#[test]
fn deleting_the_image_contacts_no_server() {
    let cloud = Cloud::new();
    cloud.rm(TARGET).iscsi().run().succeeds().silently();
    cloud.rm("anything").iscsi().run().succeeds().silently();
}

#[test]
fn the_datastore_has_no_space_of_its_own() {
    let cloud = Cloud::new();
    let reply = cloud.monitor().iscsi().run().succeeds();
    assert_eq!(reply.text, "USED_MB=0\nTOTAL_MB=1\nFREE_MB=1\n");
}

#[test]
fn verbs_that_make_or_change_data_are_not_supported() {
    let cloud = Cloud::new();
    let calls = [
        ("mkfs", cloud.mkfs("raw", "4")),
        ("clone", cloud.clone_of(TARGET, "raw")),
        ("snap_revert", cloud.snap("snap_revert", TARGET, "raw", 0)),
        ("snap_delete", cloud.snap("snap_delete", TARGET, "raw", 0)),
        ("snap_flatten", cloud.snap("snap_flatten", TARGET, "raw", 0)),
        ("export", cloud.export(TARGET, "raw")),
    ];
    for (verb, call) in calls {
        let line = format!("{verb} is not supported by DS_MAD iscsi_libvirt");
        call.iscsi().run().refused(Rule::NotSupported).saying(&line);
    }
}
