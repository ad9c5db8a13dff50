//! Values that are refused, before anything is done.

use ferrostore_tests::{Call, Ceph, MIB, Rule};

#[test]
fn names_that_could_mean_something_else_are_refused() {
    let ceph = Ceph::new();
    ceph.image("one-5", "five");
    let wrong: [(&str, &[&str]); 6] = [
        ("POOL_NAME", &["--help", "a b", "a@b", "a/b/c", "a;b", "/", "a'", "$(id)", "a\nb"]),
        ("EC_POOL_NAME", &["-x", "a/b", "a b"]),
        ("CEPH_USER", &["--id", "a b", "x;y"]),
        ("CEPH_KEY", &["AQBkey==", "relative/file", "-k"]),
        ("CEPH_CONF", &["relative.conf", "--x"]),
        ("CEPH_TRASH", &["perhaps", "-1"]),
    ];
    for (name, values) in wrong {
        let attribute = format!("DATASTORE/TEMPLATE/{name}");
        for value in values {
            for call in [ceph.mkfs(6, "raw", 4), ceph.on_image("rm", 5), ceph.call("monitor", 0)] {
                call.set(&attribute, value).run().refused(Rule::NotValid).naming(&attribute);
            }
        }
    }
    assert_eq!(ceph.layout(), ["one-5 []"]);
}

#[test]
fn a_namespace_is_refused_where_opennebulas_transfer_driver_would_not_find_it() {
    let ceph = Ceph::new();
    let pool = format!("{}/tenant", ceph.pool());
    ceph.rbd(["namespace", "create", &pool]);
    let attribute = "DATASTORE/TEMPLATE/POOL_NAME";
    let failure = ceph.mkfs(5, "raw", 4).set(attribute, &pool).run().fails();
    failure.naming(attribute).saying("namespace").saying("TM_MAD");
    let own = |call: Call<'_>| {
        call.set(attribute, &pool).set("DATASTORE/TM_MAD", "own").run().succeeds().text
    };
    let file = ceph.cloud.raw("disk.img", 2 * MIB);
    assert_eq!(own(ceph.cp(5, &file)), format!("{pool}/one-5 raw\n"));
    let source = format!("{pool}/one-5");
    ceph.take_snapshot("tenant/one-5", "0");
    own(ceph.snap("snap_revert", 5, 0).set("IMAGE/SOURCE", &source));
    own(ceph.snap("snap_flatten", 5, 0).set("IMAGE/SOURCE", &source));
    own(ceph.call("monitor", 0));
    own(ceph.on_image("rm", 5).set("IMAGE/SOURCE", &source));
    assert_eq!(ceph.rbd(["ls", &pool]), "");
}

#[test]
fn the_old_format_of_images_is_refused_with_the_reason() {
    let ceph = Ceph::new();
    let attribute = "DATASTORE/TEMPLATE/RBD_FORMAT";
    ceph.mkfs(5, "raw", 4)
        .set(attribute, "1")
        .run()
        .fails()
        .naming(attribute)
        .saying("set it to 2");
    ceph.mkfs(5, "raw", 4).set(attribute, "3").run().refused(Rule::NotValid).naming(attribute);
    ceph.mkfs(5, "raw", 4).set(attribute, "2").run().succeeds();
}

#[test]
fn only_the_images_own_name_in_the_datastores_pool_is_touched() {
    let ceph = Ceph::new();
    for name in ["one-5", "one-6", "other", "one-5-0"] {
        ceph.image(name, "mine");
    }
    let before = ceph.layout();
    for source in ["one-6", "other", "one-5-0", "one-05", "one-5@x"] {
        let call = ceph.on_image("rm", 5).set("IMAGE/SOURCE", ceph.spec(source));
        call.run().refused(Rule::NotTheImagesOwn).naming("IMAGE/SOURCE");
    }
    for source in ["one-5", "/one-5", "data/one-5", "--all", "../one-5"] {
        ceph.on_image("rm", 5)
            .set("IMAGE/SOURCE", source)
            .run()
            .refused(Rule::NotTheImagesOwn)
            .naming("IMAGE/SOURCE");
    }
    assert_eq!(ceph.layout(), before);
}

#[test]
fn an_image_that_is_there_already_is_not_overwritten() {
    let ceph = Ceph::new();
    ceph.image("one-5", "mine");
    let file = ceph.cloud.raw("disk.img", 2 * MIB);
    ceph.image("one-6", "that");
    for call in [ceph.cp(5, &file), ceph.mkfs(5, "raw", 4), ceph.clone_of(5, &ceph.spec("one-6"))] {
        call.run().fails().naming("IMAGE/ID").saying("one-5");
    }
    assert_eq!(ceph.head("one-5"), "mine");
    ceph.is_at_rest();
}

#[test]
fn formats_and_sizes_that_rbd_has_not_are_refused() {
    let ceph = Ceph::new();
    ceph.mkfs(5, "qcow2", 4).run().fails().naming("IMAGE/FORMAT").saying("must be raw or swap");
    ceph.mkfs(5, "raw", 0).run().refused(Rule::NotValid).naming("IMAGE/SIZE");
    let largest = ceph.mkfs(5, "raw", u64::MAX >> 20).run().fails().naming("IMAGE/SIZE");
    largest.saying("is more MiB than an image can hold");
    ceph.mkfs(5, "raw", 4)
        .set("IMAGE/FS", "nofs")
        .run()
        .refused(Rule::FileSystemNotSupported)
        .naming("IMAGE/FS");
    ceph.mkfs(5, "raw", 1)
        .set("IMAGE/FS", "xfs")
        .run()
        .refused(Rule::FileSystemDoesNotFit)
        .naming("IMAGE/FS");
    assert_eq!(ceph.names(), [""; 0]);
    ceph.is_at_rest();
}
