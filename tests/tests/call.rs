//! How a driver is called and how it answers, whatever the action.

use ferrostore_tests::{ACTIONS, Cloud, Convention, MIB, Rule};

/// Elements that no driver knows, so many that no pipe holds them.
fn ten_megabytes() -> String {
    "<NOTE>0123456789</NOTE>".repeat(10 * MIB as usize / 23)
}

#[test]
fn every_convention_carries_the_same_call() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    for convention in Convention::ALL {
        println!("{convention:?}");
        cloud.stat(&disk).by(convention).run().succeeds().replies("3");
    }
}

#[test]
fn every_convention_carries_a_failure() {
    let cloud = Cloud::new();
    for convention in Convention::ALL {
        println!("{convention:?}");
        cloud
            .stat("/etc/passwd")
            .by(convention)
            .run()
            .refused(Rule::Restricted)
            .naming("IMAGE/PATH");
    }
}

#[test]
fn base64_may_have_windows_line_ends_and_blank_lines_around_it() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    let call = cloud.stat(&disk);
    let line = call.message().base64();
    let (first, second) = line.split_at(line.len() / 2);
    call.input(format!("\n{first}\r\n{second}\r\n\n")).run().succeeds().replies("3");
}

#[test]
fn the_id_is_no_more_than_a_number() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    for id in ["0", "4294967296", "99999999999999999999999999"] {
        cloud.stat(&disk).arguments([id]).run().succeeds().replies("3");
    }
}

#[test]
fn a_large_message_is_read_to_its_end_before_a_call_fails() {
    let cloud = Cloud::new();
    for action in ACTIONS.into_iter().filter(|action| *action != "monitor") {
        let attribute = if matches!(action, "stat" | "cp" | "clone") {
            "IMAGE/PATH"
        } else if action == "mkfs" {
            "IMAGE/FORMAT"
        } else {
            "IMAGE/SOURCE"
        };
        // `fails` checks that the whole input was taken.
        cloud
            .call(action)
            .set_escaped("IMAGE/TARGET_SNAPSHOT", "1")
            .set(attribute, "/nonsense")
            .set_xml("IMAGE/NOTES", ten_megabytes())
            .run()
            .refused_by_any(&[Rule::Restricted, Rule::CantBeMade, Rule::NotInTheDatastore])
            .naming(attribute);
    }
}

#[test]
fn ten_megabytes_of_garbage_are_read_before_they_are_refused() {
    let cloud = Cloud::new();
    for action in ACTIONS {
        let garbage = vec![b'!'; 10 * MIB as usize];
        cloud.call(action).input(garbage).run().refused(Rule::NotBase64);
    }
}

#[test]
fn broken_base64_is_named() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    for action in ACTIONS {
        let call = cloud.call(action).set("IMAGE/PATH", disk.to_str().unwrap());
        let mut line = call.message().base64();
        line.replace_range(100..101, "*");
        call.input(line).run().fails().saying("base64");
    }
}

#[test]
fn base64_that_is_cut_short_is_refused() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    for length in [101, 400, 1001] {
        let call = cloud.stat(&disk);
        let line = call.message().base64();
        call.input(&line[..length]).run().refused_by_any(&[Rule::NotBase64, Rule::NotXml]);
    }
}

#[test]
fn an_empty_message_is_refused() {
    let cloud = Cloud::new();
    for action in ACTIONS {
        for input in ["", "\n", "   \n\n"] {
            cloud.call(action).input(input).run().fails().saying("message");
        }
    }
}

#[test]
fn an_empty_message_of_the_old_convention_is_refused() {
    let cloud = Cloud::new();
    for action in ACTIONS {
        cloud.call(action).arguments(["", "7"]).input("").run().refused(Rule::EmptyMessage);
    }
}

#[test]
fn broken_xml_is_named() {
    let cloud = Cloud::new();
    let base_path = cloud.base_path();
    for xml in [
        "<DS_DRIVER_ACTION_DATA>".to_owned(),
        "<DS_DRIVER_ACTION_DATA><IMAGE></DS_DRIVER_ACTION_DATA>".to_owned(),
        format!("<DS_DRIVER_ACTION_DATA><DATASTORE><BASE_PATH>{base_path}</BASE_PATH>"),
        "<DS_DRIVER_ACTION_DATA><IMAGE><PATH>&nosuch;</PATH></IMAGE></DS_DRIVER_ACTION_DATA>"
            .to_owned(),
        "<DS_DRIVER_ACTION_DATA><IMAGE><![CDATA[</IMAGE></DS_DRIVER_ACTION_DATA>".to_owned(),
    ] {
        for action in ACTIONS {
            println!("{action}: {xml}");
            cloud.call(action).input_encoded(&xml).run().refused(Rule::NotXml);
        }
        cloud
            .call("stat")
            .input_encoded(&xml)
            .run()
            .refused(Rule::NotXml)
            .saying_any(&["XML", "message"]);
    }
}

#[test]
fn entities_of_a_document_type_are_not_expanded() {
    let cloud = Cloud::new();
    let secret = cloud.raw("secret.img", MIB);
    let name = secret.to_str().unwrap();
    let xml = String::from_utf8(cloud.stat("@").message().xml()).unwrap();
    let external = format!("<!DOCTYPE m [<!ENTITY x \"{name}\">]>{}", xml.replace('@', "&x;"));
    cloud.call("stat").input_encoded(external).run().refused(Rule::NotXml);
}

#[test]
fn a_missing_attribute_is_named() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    for (call, attribute) in [
        (cloud.cp(&disk), "IMAGE/PATH"),
        (cloud.cp(&disk), "DATASTORE/BASE_PATH"),
        (cloud.stat(&disk), "IMAGE/PATH"),
        (cloud.mkfs("raw", "4"), "IMAGE/SIZE"),
        (cloud.mkfs("raw", "4"), "DATASTORE/BASE_PATH"),
        (cloud.clone_of(cloud.source(1), "raw"), "IMAGE/PATH"),
        (cloud.clone_of(cloud.source(1), "raw"), "DATASTORE/BASE_PATH"),
        (cloud.rm(cloud.source(1)), "IMAGE/SOURCE"),
        (cloud.rm(cloud.source(1)), "DATASTORE/BASE_PATH"),
        (cloud.monitor(), "DATASTORE/BASE_PATH"),
        (cloud.export(cloud.source(1), "raw"), "IMAGE/SOURCE"),
        (cloud.snap("snap_revert", cloud.source(1), "raw", 1), "IMAGE/SOURCE"),
        (cloud.snap("snap_revert", cloud.source(1), "raw", 1), "IMAGE/TARGET_SNAPSHOT"),
        (cloud.snap("snap_flatten", cloud.source(1), "raw", 1), "IMAGE/SOURCE"),
        (cloud.snap("snap_flatten", cloud.source(1), "raw", 1), "IMAGE/TARGET_SNAPSHOT"),
        (cloud.snap("snap_delete", cloud.source(1), "raw", 1), "IMAGE/SOURCE"),
        (cloud.snap("snap_delete", cloud.source(1), "raw", 1), "IMAGE/TARGET_SNAPSHOT"),
    ] {
        println!("{attribute}: missing, then empty");
        call.clone().without(attribute).run().refused(Rule::MissingAttribute).naming(attribute);
        call.set_escaped(attribute, "").run().refused(Rule::MissingAttribute).naming(attribute);
    }
}

#[test]
fn a_missing_half_of_the_message_is_named() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    cloud.cp(&disk).without("IMAGE").run().refused(Rule::MissingAttribute).saying("IMAGE");
    cloud.cp(&disk).without("DATASTORE").run().refused(Rule::MissingAttribute).saying("DATASTORE");
    cloud.monitor().without("DATASTORE").run().refused(Rule::MissingAttribute).saying("DATASTORE");
    cloud
        .rm(cloud.source(1))
        .without("IMAGE")
        .run()
        .refused(Rule::MissingAttribute)
        .saying("IMAGE");
}

#[test]
fn an_attribute_that_makes_no_sense_is_named_with_its_value() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", MIB);
    let snap = cloud.snap("snap_revert", cloud.source(1), "raw", 1);
    for (call, attribute) in [
        (cloud.mkfs("raw", "4"), "IMAGE/SIZE"),
        (cloud.mkfs("raw", "4"), "DATASTORE/TYPE"),
        (cloud.cp(&disk), "IMAGE/TYPE"),
        (cloud.cp(&disk), "DATASTORE/TYPE"),
        (cloud.cp(&disk), "DATASTORE/TEMPLATE/CONVERT"),
        (cloud.cp(&disk), "DATASTORE/TEMPLATE/NO_DECOMPRESS"),
        (cloud.cp(&disk), "DATASTORE/TEMPLATE/SPARSE"),
        (cloud.cp(&disk), "DATASTORE/TEMPLATE/DRIVER"),
        (cloud.cp(&disk), "DATASTORE/TEMPLATE/LIMIT_TRANSFER_BW"),
        (cloud.cp(&disk), "DATASTORE/TEMPLATE/NFS_AUTO_ENABLE"),
        (snap, "IMAGE/TARGET_SNAPSHOT"),
    ] {
        println!("{attribute}");
        call.set(attribute, "twelve").run().fails().naming(attribute).saying("twelve");
    }
}

#[test]
fn help_tells_what_a_driver_does_reads_and_replies() {
    let cloud = Cloud::new();
    for action in ACTIONS {
        let outcome = cloud.call(action).arguments(["--help"]).by(Convention::Old).run();
        assert_eq!(outcome.status.code(), Some(0), "{action} --help");
        let help = String::from_utf8(outcome.stdout).unwrap();
        for text in [action, "--message", "--version", "base64", "XML", "Replies", "Examples"] {
            assert!(help.contains(text), "{action} --help does not mention {text}: {help}");
        }
        assert_eq!(outcome.before, outcome.after);
    }
}

#[test]
fn version_is_that_of_the_package() {
    let cloud = Cloud::new();
    for action in ACTIONS {
        let outcome = cloud.call(action).arguments(["--version"]).by(Convention::Old).run();
        assert_eq!(outcome.status.code(), Some(0), "{action} --version");
        let version = String::from_utf8(outcome.stdout).unwrap();
        assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
        assert!(version.contains(action), "{version}");
    }
}

#[test]
fn an_unknown_option_fails_like_everything_else() {
    let cloud = Cloud::new();
    for action in ACTIONS {
        cloud
            .call(action)
            .arguments(["--nonsense"])
            .input("")
            .run()
            .fails()
            .saying_any(&["--nonsense", "message"]);
    }
}

#[test]
fn a_message_file_that_is_not_there_is_named() {
    let cloud = Cloud::new();
    for action in ACTIONS {
        cloud
            .call(action)
            .arguments(["--message", "/var/tmp/no/such/message.xml"])
            .input("")
            .run()
            .refused(Rule::CantBeRead)
            .saying("/var/tmp/no/such/message.xml");
    }
}

#[test]
fn a_value_with_line_breaks_still_gives_one_error_line() {
    let cloud = Cloud::new();
    cloud
        .stat("/nowhere/a\nINFO: b\r\n\u{1b}[31mred")
        .run()
        .refused(Rule::Restricted)
        .naming("IMAGE/PATH");
    cloud.mkfs("raw\nINFO: fine", "4").run().refused(Rule::CantBeMade).naming("IMAGE/FORMAT");
    cloud.rm("/nowhere/a\nERROR: b").run().refused(Rule::NotInTheDatastore).naming("IMAGE/SOURCE");
}

#[test]
fn a_very_long_value_is_an_error_like_others() {
    let cloud = Cloud::new();
    let long = format!("{}/{}", cloud.images().display(), "x".repeat(300));
    cloud.stat(&long).run().refused(Rule::CantBeOpened).naming("IMAGE/PATH");
    let longer = format!("{}{}", cloud.images().display(), "/x".repeat(5000));
    cloud.stat(&longer).run().refused(Rule::CantBeOpened).naming("IMAGE/PATH");
}

#[test]
fn drivers_need_no_environment() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 3 * MIB);
    cloud.stat(&disk).under(["env", "-i"]).run().succeeds().replies("3");
    cloud.mkfs("raw", "4").under(["env", "-i"]).run().succeeds().empty_image();
}

#[test]
fn the_locale_changes_nothing() {
    let cloud = Cloud::new();
    let disk = cloud.raw("größe.img", 3 * MIB);
    for locale in ["C", "tr_TR.UTF-8", "nonsense"] {
        cloud.stat(&disk).environment("LC_ALL", locale).run().succeeds().replies("3");
    }
}
