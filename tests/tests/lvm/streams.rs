//! Images that come as streams, and those that are not looked into.

use ferrostore_tests::{Lvm, MIB, Page, Vmdk, Web, persistent};
use std::fs;
use std::path::Path;

#[track_caller]
fn holds(lvm: &Lvm, id: u32, path: &Path) {
    let (content, bytes) = (lvm.content(&format!("img-one-{id}")), fs::read(path).unwrap());
    assert!(content[..bytes.len()] == bytes[..], "image {id}");
    assert!(content[bytes.len()..].iter().all(|&byte| byte == 0), "image {id}: the rest is zero");
}

#[test]
#[ignore = "runs in the virtual machine"]
fn a_stream_of_any_kind_becomes_a_volume() {
    let lvm = Lvm::new();
    let staging = lvm.cloud.root().join("staging");
    fs::create_dir(&staging).unwrap();
    let disk = lvm.cloud.raw("disk.img", 5 * MIB);
    let packed = lvm.cloud.compressed(&disk, "gzip");
    let qcow2 = lvm.cloud.compressed_qcow2(&disk, "disk.qcow2", "");
    let bytes = fs::read(&disk).unwrap();
    let stream = lvm.cloud.file("stream.vmdk", Vmdk::stream(&bytes).make().bytes);
    let sparse = lvm.cloud.file("sparse.vmdk", Vmdk::sparse(&bytes).make().bytes);
    let web = Web::new();
    let urls = [
        web.page("raw", Page::of(&disk)),
        web.page("endless", Page::of(&disk).without_length()),
        web.page("chunked", Page::of(&disk).chunked()),
        web.page("gz", Page::of(&packed).without_length()),
        web.page("qcow2", Page::of(&qcow2).chunked()),
        web.page("stream", Page::of(&stream).chunked()),
        web.page("sparse", Page::of(&sparse).without_length()),
    ];
    for (id, url) in (1..).zip(urls) {
        let call = lvm
            .cp(id, url)
            .set("DATASTORE/TEMPLATE/STAGING_DIR", staging.to_str().unwrap())
            .set_escaped("IMAGE/SIZE", if id % 2 == 0 { "" } else { "5" });
        let call = if id % 2 == 0 { persistent(call) } else { call };
        call.run().succeeds().replies(&format!("vg-one-104/img-one-{id} raw"));
        holds(&lvm, id, &disk);
    }
    lvm.is_at_rest();
    assert_eq!(fs::read_dir(staging).unwrap().count(), 0, "nothing stays staged");
}

#[test]
#[ignore = "runs in the virtual machine"]
fn an_encrypted_disk_stays_as_it_is() {
    let lvm = Lvm::new();
    let luks = lvm.cloud.luks("luks.img", 4 * MIB);
    let web = Web::new();
    lvm.cp(1, &luks).run().succeeds().replies("vg-one-104/img-one-1 raw");
    persistent(lvm.cp(2, web.serve(&luks))).run().succeeds().replies("vg-one-104/img-one-2 raw");
    lvm.clone_of(3, "vg-one-104/img-one-2").run().succeeds().replies("vg-one-104/img-one-3 raw");
    for id in 1..=3 {
        holds(&lvm, id, &luks);
    }
    lvm.is_at_rest();
}
