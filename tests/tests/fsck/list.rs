//! A datastore held against what oned knows.

use crate::{name, two_images};
use ferrostore_tests::layouts::Copies;
use ferrostore_tests::{Cloud, MIB};
use serde_json::json;
use std::fs::{self};
use std::os::unix::fs::symlink;

/// One `IMAGE` of an `IMAGE_POOL`.
pub(crate) fn image(id: u32, source: &str, more: &str) -> String {
    format!(
        "<IMAGE><ID>{id}</ID><NAME><![CDATA[an image]]></NAME><TYPE>0</TYPE>\
         <SOURCE><![CDATA[{source}]]></SOURCE><STATE>1</STATE><DATASTORE_ID>104</DATASTORE_ID>\
         <DATASTORE>default</DATASTORE><VMS><ID>3</ID></VMS>{more}</IMAGE>"
    )
}

pub(crate) fn pool(images: &[String]) -> String {
    format!("<IMAGE_POOL>\n{}\n</IMAGE_POOL>\n", images.concat())
}

#[test]
fn a_list_that_agrees_is_clean() {
    let cloud = Cloud::new();
    let [raw, qcow2] = two_images(&cloud);
    let list = pool(&[
        image(3, &raw, "<FORMAT>raw</FORMAT>"),
        image(4, &qcow2, "<FORMAT>qcow2</FORMAT>"),
        image(5, "/var/lib/one//datastores/1/00", "").replace(">104<", ">1<"),
        image(6, "", ""),
    ]);
    let examination = cloud.fsck().knowing(&list).run().clean();
    assert_eq!(examination.entry(&name(1))["ids"], json!([3]));
    let names = format!("{}\n{qcow2}\n", name(1));
    cloud.fsck().knowing(names).run().clean();
    let file = cloud.file("list.xml", list);
    cloud.fsck().with(["--images".as_ref(), file.as_os_str()]).run().clean();
}

#[test]
fn an_image_that_oned_does_not_know_is_an_orphan() {
    let cloud = Cloud::new();
    let [raw, qcow2] = two_images(&cloud);
    for list in [pool(&[image(3, &raw, "")]), format!("{raw}\n")] {
        cloud.fsck().knowing(list).run().finds("warning", &name(2), "orphan");
    }
    for list in [pool(&[image(3, &qcow2, "")]), name(2)] {
        cloud.fsck().knowing(list).run().finds("warning", &name(1), "orphan");
    }
}

#[test]
fn an_image_that_only_oned_knows_is_missing() {
    let cloud = Cloud::new();
    let [raw, qcow2] = two_images(&cloud);
    let gone = cloud.source(9);
    let all = [image(3, &raw, ""), image(4, &qcow2, ""), image(77, &gone, "")];
    let examination = cloud.fsck().knowing(pool(&all)).run();
    let examination = examination.finds("damage", &name(9), "image 77 of oned is not in");
    assert_eq!(examination.entry(&name(9))["role"], "missing");
    let list = format!("{raw}\n{qcow2}\n{gone}\n");
    cloud.fsck().knowing(list).run().finds("damage", &name(9), "is not in").images(2);
    // oned itself says that it is being made (LOCKED) or deleted (DELETE).
    for state in ["4", "7"] {
        let mut all = all.clone();
        all[2] = all[2].replace("<STATE>1<", &format!("<STATE>{state}<"));
        cloud.fsck().knowing(pool(&all)).run().clean();
    }
}

#[test]
fn an_image_of_any_name_is_one_where_oned_says_so() {
    let cloud = Cloud::new();
    let raw = cloud.raw("disk.img", MIB);
    fs::copy(raw, cloud.datastore().join("golden.img")).unwrap();
    cloud.fsck().knowing("golden.img").run().clean().images(1);
}

#[test]
fn a_format_that_is_recorded_wrongly_is_told() {
    let cloud = Cloud::new();
    let [raw, qcow2] = two_images(&cloud);
    let wrong =
        [image(3, &raw, "<FORMAT>qcow2</FORMAT>"), image(4, &qcow2, "<FORMAT>raw</FORMAT>")];
    let examination = cloud.fsck().knowing(pool(&wrong)).run();
    let examination = examination.finds_too("damage", &name(1), "is recorded as qcow2, but is raw");
    examination.finds_too("warning", &name(2), "is recorded as raw, but begins like a qcow2");
}

#[test]
fn two_images_in_one_file_are_damage() {
    let cloud = Cloud::new();
    let [raw, qcow2] = two_images(&cloud);
    let list = pool(&[image(3, &raw, ""), image(4, &raw, ""), image(5, &qcow2, "")]);
    cloud.fsck().knowing(list).run().finds("damage", &name(1), "image 3, 4 of oned");
}

#[test]
fn a_snapshot_that_only_oned_knows_is_missing() {
    let cloud = Cloud::new();
    let copies = Copies::of_three(&cloud, "raw");
    fs::remove_file(format!("{}.md5sum", copies.source())).unwrap();
    let neighbour = image(1, &format!("{}/{}", cloud.base_path(), "b".repeat(32)), "");
    let with = |ids: &[u32]| {
        let ids: Vec<String> =
            ids.iter().map(|id| format!("<SNAPSHOT><ID>{id}</ID></SNAPSHOT>")).collect();
        let more = format!("<FORMAT>raw</FORMAT><SNAPSHOTS>{}</SNAPSHOTS>", ids.concat());
        pool(&[neighbour.clone(), image(2, &copies.source(), &more)])
    };
    cloud.fsck().knowing(with(&[0, 1, 2])).run().clean();
    let examination = cloud.fsck().knowing(with(&[0, 5])).run();
    examination.finds("damage", copies.name(), "oned knows the snapshot 5");
    fs::remove_dir_all(copies.directory()).unwrap();
    let examination = cloud.fsck().knowing(with(&[0, 1])).run();
    examination.finds("damage", copies.name(), "oned knows the snapshots 0, 1");
}

#[test]
fn the_number_of_the_datastore_chooses_from_the_list() {
    let cloud = Cloud::new();
    let [raw, qcow2] = two_images(&cloud);
    // As on a host where the datastore is mounted elsewhere.
    let elsewhere = |source: &str| format!("/elsewhere/{}", source.rsplit_once('/').unwrap().1);
    let list = pool(&[image(3, &elsewhere(&raw), ""), image(4, &elsewhere(&qcow2), "")]);
    cloud.fsck().knowing(&list).run().clean();
    let list = list.replace(">104<", ">55<");
    cloud.fsck().knowing(&list).with(["--datastore", "55"]).run().clean();
    let examination = cloud.fsck().knowing(&list).run();
    assert_eq!(examination.json["problems"], 2, "both are orphans in 104: {}", examination.text);
}

#[test]
fn a_list_of_another_datastore_is_not_taken_for_this_ones() {
    let cloud = Cloud::new();
    two_images(&cloud);
    let list = pool(&[image(3, "/var/lib/one//datastores/1/00", "")]);
    let moved = cloud.root().join("moved");
    symlink(cloud.datastore(), &moved).unwrap();
    let why = cloud.fsck_with([&moved]).knowing(list).refuses();
    assert!(why.contains("no image of its 1") && why.contains("--datastore"), "{why}");
}

#[test]
fn a_list_that_is_none_is_refused() {
    let cloud = Cloud::new();
    for list in ["<VM_POOL/>", "<IMAGE_POOL><IMAGE>", "<html><IMAGE_POOL"] {
        let why = cloud.fsck().knowing(list).refuses();
        assert!(why.contains("--images") && why.contains("oneimage list -x"), "{why}");
    }
    let why = cloud.fsck().with(["--images", "/nowhere"]).refuses();
    assert!(why.contains("--images /nowhere"), "{why}");
}
