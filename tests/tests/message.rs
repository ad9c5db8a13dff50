//! Reading the message: XML in all the forms in which oned and administrators write it.

use ferrostore_tests::{Cloud, MIB, Message, same_bytes};

#[test]
fn entities_in_a_value_are_resolved() {
    let cloud = Cloud::new();
    let disk = cloud.raw("a & b <c> \"d\" 'e'.img", 2 * MIB);
    let call = cloud.stat(&disk);
    assert!(call.message().xml().windows(5).any(|part| part == b"&amp;"));
    call.run().succeeds().replies("2");
}

#[test]
fn character_references_are_resolved() {
    let cloud = Cloud::new();
    cloud.raw("a&b.img", 2 * MIB);
    let folder = cloud.images().display().to_string();
    for reference in ["&#38;", "&#x26;", "&amp;"] {
        let path = format!("{folder}/a{reference}b.img");
        cloud.call("stat").set_xml("IMAGE/PATH", path).run().succeeds().replies("2");
    }
}

#[test]
fn cdata_is_taken_as_it_is() {
    let cloud = Cloud::new();
    for name in ["a &amp; b.img", "<b>.img", "end ]]> of cdata.img", "]].img"] {
        let disk = cloud.raw(name, 2 * MIB);
        let call = cloud.call("stat").path(&disk);
        assert!(call.message().xml().windows(9).any(|part| part == b"<![CDATA["));
        call.run().succeeds().replies("2");
    }
}

#[test]
fn text_and_cdata_in_one_value_are_glued() {
    let cloud = Cloud::new();
    cloud.raw("one&two three.img", 2 * MIB);
    let path =
        format!("{}/one&amp;<![CDATA[two ]]>three<![CDATA[.img]]>", cloud.images().display());
    cloud.call("stat").set_xml("IMAGE/PATH", path).run().succeeds().replies("2");
}

#[test]
fn blanks_in_a_value_belong_to_it() {
    let cloud = Cloud::new();
    for name in
        [" before.img", "after.img ", "in  side.img", "tab\t.img", "line\nbreak.img", "end\n"]
    {
        let disk = cloud.raw(name, 2 * MIB);
        println!("{disk:?}");
        let copy = cloud.cp(&disk).run().succeeds().image("raw");
        same_bytes(&disk, copy);
    }
}

#[test]
fn names_in_any_script_work() {
    let cloud = Cloud::new();
    for name in ["größe.img", "диск.img", "磁盘.img", "💾.img", "e\u{301}.img"] {
        let disk = cloud.raw(name, 2 * MIB);
        cloud.stat(&disk).run().succeeds().replies("2");
        cloud.call("stat").path(&disk).run().succeeds().replies("2");
        let copy = cloud.cp(&disk).run().succeeds().image("raw");
        same_bytes(&disk, copy);
    }
}

#[test]
fn bytes_that_are_no_utf8_don_t_matter_where_no_driver_looks() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    cloud
        .cp(&disk)
        .set("IMAGE/NAME", b"caf\xe9 \xff\xfe")
        .set_escaped("IMAGE/UNAME", b"\xc3")
        .set("DATASTORE/TEMPLATE/DESCRIPTION", b"\x80\x81")
        .run()
        .succeeds()
        .image("raw");
}

#[test]
fn the_image_s_datastore_is_a_name_and_not_the_datastore() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    for name in ["default", "", "<DATASTORE>", "/etc"] {
        cloud.cp(&disk).set("IMAGE/DATASTORE", name).run().succeeds().image("raw");
        cloud
            .cp(&disk)
            .set("IMAGE/DATASTORE", name)
            .edit(Message::reversed)
            .run()
            .succeeds()
            .image("raw");
    }
}

#[test]
fn the_order_of_the_halves_is_free() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    cloud.cp(&disk).edit(Message::reversed).run().succeeds().image("raw");
    cloud.stat(&disk).edit(Message::reversed).run().succeeds().replies("2");
    cloud.mkfs("raw", "2").edit(Message::reversed).run().succeeds().empty_image();
}

#[test]
fn unknown_elements_are_ignored_wherever_they_stand() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    let strange =
        "<DEEP a=\"1\"><BASE_PATH>/etc</BASE_PATH><PATH>/etc/passwd</PATH><DEEPER/></DEEP>";
    let copy = cloud
        .cp(&disk)
        .set_xml("STRANGE", strange)
        .set_xml("IMAGE/STRANGE", strange)
        .set_xml("IMAGE/TEMPLATE/STRANGE", strange)
        .set_xml("DATASTORE/STRANGE", strange)
        .set_xml("DATASTORE/TEMPLATE/STRANGE", strange)
        .run()
        .succeeds()
        .image("raw");
    same_bytes(&disk, copy);
}

#[test]
fn a_free_attribute_may_come_more_than_once() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    let twice = "<LABEL>a</LABEL><NOTE><X>1</X></NOTE><LABEL>b</LABEL><NOTE>text</NOTE>";
    cloud
        .cp(&disk)
        .set_xml("IMAGE/TEMPLATE", twice)
        .set_xml("IMAGE/VMS", "<ID>1</ID><ID>2</ID>")
        .set_xml("IMAGE/CLONES", "<ID>1</ID><ID>2</ID>")
        .run()
        .succeeds()
        .image("raw");
}

#[test]
fn comments_declarations_and_blanks_between_elements_are_no_trouble() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    let call = cloud.stat(&disk);
    let xml = String::from_utf8(call.message().xml()).unwrap();
    // Between elements only: blanks beside the CDATA of a value would be part of it.
    let between = ">\n  <!-- a comment -->\n  <";
    let pretty = xml
        .replace("><", between)
        .replace(&format!("{between}![CDATA["), "><![CDATA[")
        .replace(&format!("]]{between}/"), "]]></");
    let whole =
        format!("\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- hello -->\n{pretty}\n\n");
    call.clone().input_encoded(&whole).run().succeeds().replies("2");
    call.input(whole).run().succeeds().replies("2");
}

#[test]
fn elements_may_be_empty_in_either_notation() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    let call = cloud.cp(&disk).set_escaped("IMAGE/FORMAT", "").set_escaped("IMAGE/FS", "");
    let xml = String::from_utf8(call.message().xml()).unwrap();
    for name in ["FORMAT", "FS", "VMS", "BACKUP_INCREMENTS"] {
        let xml = xml.replace(&format!("<{name}></{name}>"), &format!("<{name}/>"));
        call.clone().input_encoded(xml).run().succeeds().image("raw");
    }
}

#[test]
fn empty_attributes_of_the_datastore_count_as_absent() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    let mut call = cloud.cp(&disk);
    for name in [
        "DRIVER",
        "CONVERT",
        "NO_DECOMPRESS",
        "SPARSE",
        "LIMIT_TRANSFER_BW",
        "BRIDGE_LIST",
        "STAGING_DIR",
        "NFS_AUTO_ENABLE",
        "NFS_AUTO_HOST",
    ] {
        call = call.set(&format!("DATASTORE/TEMPLATE/{name}"), "");
    }
    for name in ["MD5", "SHA1", "SHA256", "SHA512"] {
        call = call.set(&format!("IMAGE/TEMPLATE/{name}"), "");
    }
    let copy = call.run().succeeds().image("raw");
    same_bytes(&disk, copy);
}

#[test]
fn yes_and_no_are_understood_in_either_case() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    for no in ["no", "No", "NO"] {
        cloud
            .cp(&disk)
            .driver("qcow2")
            .set("DATASTORE/TEMPLATE/CONVERT", no)
            .run()
            .succeeds()
            .image("raw");
    }
    for yes in ["yes", "Yes", "YES"] {
        cloud
            .cp(&disk)
            .driver("qcow2")
            .set("DATASTORE/TEMPLATE/CONVERT", yes)
            .run()
            .succeeds()
            .image("qcow2");
    }
}

#[test]
fn ten_megabytes_are_fine() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    let snapshots = "<SNAPSHOT><ID><![CDATA[1]]></ID><NAME>a &amp; b</NAME></SNAPSHOT>"
        .repeat(10 * MIB as usize / 66);
    cloud
        .cp(&disk)
        .set_xml("IMAGE/NOTES", "<NOTE>a &amp; b</NOTE>".repeat(10 * MIB as usize / 22))
        .run()
        .succeeds()
        .image("raw");
    cloud
        .cp(&disk)
        .set("IMAGE/TEMPLATE/DESCRIPTION", "x".repeat(10 * MIB as usize))
        .run()
        .succeeds()
        .image("raw");
    cloud.cp(&disk).set_xml("IMAGE/SNAPSHOTS", snapshots).run().succeeds().image("raw");
}

#[test]
fn what_no_action_reads_may_hold_anything() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    for (attribute, xml) in [
        ("IMAGE/SNAPSHOTS", "<SNAPSHOT><ID>first</ID><ACTIVE>perhaps</ACTIVE></SNAPSHOT>"),
        ("IMAGE/SNAPSHOTS", "<SNAPSHOT/><SNAPSHOT><ID/></SNAPSHOT>"),
        ("IMAGE/SNAPSHOTS", "none"),
        ("IMAGE/NAME", "<A>1</A><B/>"),
        ("IMAGE/DISK_TYPE", "<A>1</A>"),
    ] {
        println!("{attribute}: {xml}");
        cloud.cp(&disk).set_xml(attribute, xml).run().succeeds().image("raw");
    }
}

#[test]
fn a_message_that_is_a_thousand_levels_deep_or_more_is_read() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 2 * MIB);
    for levels in [1000, 100_000] {
        let deep = format!("{}{}", "<A>".repeat(levels), "</A>".repeat(levels));
        let call = cloud.cp(&disk).set_xml("IMAGE/TEMPLATE/DEEP", deep);
        same_bytes(&disk, call.run().succeeds().image("raw"));
    }
}
