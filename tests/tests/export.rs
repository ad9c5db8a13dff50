//! `export`: where a marketplace can fetch an image from.

use ferrostore_tests::{Cloud, MIB, Rule, digest};

/// The text of one element of the reply, as a reader of XML has it.
fn element(reply: &str, name: &str) -> String {
    let start = format!("<{name}>");
    let from = reply.find(&start).unwrap_or_else(|| panic!("no {name} in {reply}")) + start.len();
    let length = reply[from..].find(&format!("</{name}>")).expect("the element ends");
    let inside = reply[from..from + length].trim();
    if let Some(text) = inside.strip_prefix("<![CDATA[") {
        return text.strip_suffix("]]>").expect("CDATA ends").to_owned();
    }
    assert!(!inside.contains(['<', '>']), "{inside}");
    let text = inside.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    text.replace("&apos;", "'").replace("&amp;", "&")
}

#[test]
fn the_reply_has_all_that_a_marketplace_needs() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 4 * MIB);
    let image = cloud.qcow2(&disk, "disk.qcow2", "");
    for (number, path, format) in [(1, &disk, "raw"), (2, &image, "qcow2")] {
        let source = cloud.stored(number, path);
        let reply = cloud.export(&source, format).run().succeeds();
        reply.changing_nothing();
        let text = reply.text.trim();
        assert!(text.starts_with("<IMPORT_INFO>") && text.ends_with("</IMPORT_INFO>"), "{text}");
        assert_eq!(element(text, "MD5"), digest("md5sum", path));
        assert_eq!(element(text, "SIZE"), "4");
        assert_eq!(element(text, "FORMAT"), format);
        assert_eq!(element(text, "DISPOSE"), "NO");
        assert!(element(text, "IMPORT_SOURCE").ends_with(&source), "{text}");
    }
}

#[test]
fn the_reply_is_one_line() {
    let cloud = Cloud::new();
    let source = cloud.stored(1, &cloud.raw("disk.img", MIB));
    let reply = cloud.export(&source, "raw").run().succeeds();
    assert!(reply.line().starts_with("<IMPORT_INFO>"));
}

#[test]
fn a_pretty_printed_message_is_read() {
    let cloud = Cloud::new();
    let source = cloud.stored(1, &cloud.raw("disk.img", MIB));
    let call = cloud.export(&source, "raw");
    let pretty = String::from_utf8(call.message().xml()).unwrap().replace("><", ">\n  <");
    // A line break never stands next to CDATA in what oned sends.
    let pretty = pretty.replace(">\n  <![CDATA[", "><![CDATA[").replace("]]>\n  </", "]]></");
    let reply = call.input_encoded(pretty).run().succeeds();
    assert_eq!(element(&reply.text, "FORMAT"), "raw");
}

#[test]
fn odd_characters_of_the_path_don_t_break_the_reply() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let base_path = format!("{}//a & b <c> ]]>", cloud.root().display());
    std::fs::create_dir(&base_path).unwrap();
    let source = format!("{base_path}/{:032x}", 1);
    std::fs::copy(&disk, &source).unwrap();
    let reply =
        cloud.export(&source, "raw").set("DATASTORE/BASE_PATH", &base_path).run().succeeds();
    assert_eq!(element(&reply.text, "IMPORT_SOURCE"), source);
    assert_eq!(element(&reply.text, "MD5"), digest("md5sum", &disk));
    assert_eq!(element(&reply.text, "FORMAT"), "raw");
}

#[test]
fn a_missing_image_is_named() {
    let cloud = Cloud::new();
    let missing = cloud.source(1);
    cloud
        .export(&missing, "raw")
        .run()
        .refused(Rule::CantBeRead)
        .naming("IMAGE/SOURCE")
        .saying(&missing);
}

#[test]
fn what_is_not_in_the_datastore_is_not_exported() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    for source in [disk.to_str().unwrap(), "/etc/passwd", "relative"] {
        cloud
            .export(source, "raw")
            .run()
            .refused(Rule::NotInTheDatastore)
            .naming("IMAGE/SOURCE")
            .saying(source);
    }
    let dotted = format!("{}/../../../../images/disk.img", cloud.base_path());
    cloud.export(dotted, "raw").run().refused(Rule::NotInTheDatastore).naming("IMAGE/SOURCE");
}

#[test]
fn an_image_behind_a_bridge_is_refused_in_words() {
    let cloud = Cloud::new();
    let source = cloud.stored(1, &cloud.raw("disk.img", MIB));
    cloud
        .export(&source, "raw")
        .set("DATASTORE/TEMPLATE/BRIDGE_LIST", "host1")
        .run()
        .refused(Rule::NoUsableHost)
        .naming("DATASTORE/TEMPLATE/BRIDGE_LIST");
}
