#![allow(clippy::unwrap_used)]
use super::*;

fn xml(image: &str, datastore: &str) -> String {
    format!(
        "<DS_DRIVER_ACTION_DATA><IMAGE>{image}</IMAGE><DATASTORE>{datastore}</DATASTORE></DS_DRIVER_ACTION_DATA>"
    )
}

fn encoded(xml: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(xml)
}

#[test]
fn reads_base64_with_line_breaks_without_padding_and_plain_xml() {
    let plain = xml("<PATH>/a</PATH>", "<ID>1</ID>");
    let one_line = encoded(&plain);
    let broken: String = one_line
        .as_bytes()
        .chunks(60)
        .fold(String::new(), |lines, line| lines + std::str::from_utf8(line).unwrap() + "\r\n");
    for form in [plain.clone(), one_line.clone(), broken, one_line.trim_end_matches('=').into()] {
        let message = parse(form.as_bytes()).unwrap();
        assert_eq!(message.image().unwrap().path().unwrap(), "/a");
        assert_eq!(message.datastore().unwrap().id, Some(1));
    }
}

#[test]
fn the_datastore_of_an_image_is_only_a_name() {
    let message = parse(
        xml("<DATASTORE>default</DATASTORE><DATASTORE_ID>1</DATASTORE_ID>", "<ID>7</ID>")
            .as_bytes(),
    )
    .unwrap();
    assert_eq!(message.datastore().unwrap().id, Some(7));
}

#[test]
fn values_may_be_cdata_escaped_mixed_or_empty() {
    let message = parse(
        xml(
            "<PATH>/x&amp;y<![CDATA[ <z> ]]>&#228;</PATH><FS/><SOURCE></SOURCE><FORMAT><![CDATA[]]></FORMAT>",
            "",
        )
        .as_bytes(),
    )
    .unwrap();
    let image = message.image().unwrap();
    assert_eq!(image.path().unwrap(), "/x&y <z> ä");
    assert!(matches!(image.source(), Err(MessageError::Missing { attribute: "IMAGE/SOURCE", .. })));
}

#[test]
fn unknown_elements_and_any_order_are_normal() {
    let message = parse(
        b"<DS_DRIVER_ACTION_DATA><NEW><A/></NEW><DATASTORE><X>1</X><ID>4</ID></DATASTORE>\
          <IMAGE><LOCK><A>1</A></LOCK><TEMPLATE><MD5>0</MD5><Y/><SHA1>1</SHA1></TEMPLATE>\
          <PATH>/p</PATH></IMAGE>\
          </DS_DRIVER_ACTION_DATA>",
    )
    .unwrap();
    assert_eq!(message.image().unwrap().path().unwrap(), "/p");
    assert_eq!(message.image().unwrap().digests.len(), 2);
}

#[test]
fn an_attribute_that_cannot_be_parsed_is_named_with_its_value() {
    for (image, datastore, attribute) in [
        ("<SIZE>ten</SIZE>", "", "IMAGE/SIZE"),
        ("<TYPE>9</TYPE>", "", "IMAGE/TYPE"),
        ("<TARGET_SNAPSHOT>last</TARGET_SNAPSHOT>", "", "IMAGE/TARGET_SNAPSHOT"),
        ("<PERSISTENT>perhaps</PERSISTENT>", "", "IMAGE/PERSISTENT"),
        ("", "<TYPE>x</TYPE>", "DATASTORE/TYPE"),
        ("", "<TEMPLATE><CONVERT>si</CONVERT></TEMPLATE>", "DATASTORE/TEMPLATE/CONVERT"),
        (
            "",
            "<TEMPLATE><LIMIT_TRANSFER_BW>fast</LIMIT_TRANSFER_BW></TEMPLATE>",
            "DATASTORE/TEMPLATE/LIMIT_TRANSFER_BW",
        ),
    ] {
        let error = parse(xml(image, datastore).as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(attribute), "{error}");
        assert!(!error.contains('\n'));
    }
}

#[test]
fn broken_messages_are_refused_in_one_line() {
    for broken in [
        "",
        " \n ",
        "!!!",
        "<DS_DRIVER_ACTION_DATA><IMAGE>",
        "<OTHER/>",
        &encoded("no xml"),
        "<DS_DRIVER_ACTION_DATA><IMAGE></DATASTORE></DS_DRIVER_ACTION_DATA>",
    ] {
        let error = parse(broken.as_bytes()).unwrap_err().to_string();
        assert!(!error.is_empty() && !error.contains('\n'), "{broken}: {error}");
    }
}

#[test]
fn a_files_datastore_keeps_compressed_files_by_default() {
    let of_type = |n: &str| {
        let message = parse(xml("", &format!("<TYPE>{n}</TYPE>")).as_bytes()).unwrap();
        message.datastore().unwrap().no_decompress
    };
    assert!(of_type("2"));
    assert!(!of_type("0"));
}

#[test]
fn a_path_may_hold_bytes_that_are_not_utf8() {
    let mut bytes = b"<DS_DRIVER_ACTION_DATA><IMAGE><PATH>/caf".to_vec();
    bytes.push(0xe9);
    bytes.extend_from_slice(b"</PATH></IMAGE></DS_DRIVER_ACTION_DATA>");
    let message = parse(&bytes).unwrap();
    let path = text::path(message.image().unwrap().path().unwrap());
    assert_eq!(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()), b"/caf\xe9");
}
