#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;

const USAGE: Usage = Usage { name: "cp", about: "Copies.", reads: "IMAGE/PATH", replies: "a path" };

fn parsed(arguments: &[&str]) -> Result<Parsed, String> {
    parse(&USAGE, ["cp"].iter().chain(arguments).map(OsString::from))
}

fn source(arguments: &[&str]) -> MessageSource {
    match parsed(arguments) {
        Ok(Parsed::Action(request)) => request.message,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

#[test]
fn without_a_message_among_the_arguments_it_is_on_standard_input() {
    for arguments in [&[][..], &["7"], &["-1"], &["7", "8"], &[""], &["--message", "-"]] {
        let from = source(arguments);
        assert!(matches!(from, MessageSource::StandardInput), "{arguments:?}: {from:?}");
    }
}

#[test]
fn the_old_convention_has_the_message_before_the_id() {
    for message in ["PERTPg==", "<DS_DRIVER_ACTION_DATA/>", "7a", "PERT\nPg==\n", "-x"] {
        match source(&[message, "7"]) {
            MessageSource::Argument(bytes) => assert_eq!(bytes, message.as_bytes()),
            other => panic!("{message:?}: {other:?}"),
        }
    }
}

#[test]
fn a_file_may_hold_the_message() {
    for arguments in [&["--message", "a file"][..], &["--message=a file"]] {
        match source(arguments) {
            MessageSource::File(path) => assert_eq!(path, PathBuf::from("a file")),
            other => panic!("{arguments:?}: {other:?}"),
        }
    }
}

#[test]
fn the_script_that_a_driver_is_the_interpreter_of_changes_nothing() {
    let script = "/var/lib/one/remotes/datastore/fs/cp";
    assert!(matches!(source(&["--script", script, "7"]), MessageSource::StandardInput));
    match source(&["--script", script, "PERTPg==", "7"]) {
        MessageSource::Argument(bytes) => assert_eq!(bytes, b"PERTPg=="),
        other => panic!("{other:?}"),
    }
    assert!(matches!(parsed(&["--script", script, "--bridged"]), Ok(Parsed::Bridged)));
}

#[test]
fn a_driver_on_another_machine_says_so() {
    assert!(matches!(parsed(&["--bridged"]), Ok(Parsed::Bridged)));
}

#[test]
fn help_tells_what_is_read_and_replied() {
    for arguments in [["--help"], ["-h"]] {
        let Ok(Parsed::Help(text)) = parsed(&arguments) else { panic!("{arguments:?}") };
        for words in [USAGE.about, USAGE.reads, USAGE.replies, "cp --message <FILE>"] {
            assert!(text.contains(words), "{words} should be in {text}");
        }
        assert!(!text.contains("bridged"), "{text}");
    }
    let Ok(Parsed::Help(text)) = parsed(&["--version"]) else { panic!("--version") };
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
}

#[test]
fn a_mistake_is_told_in_one_line() {
    for arguments in [&["--message"][..], &["--message", "a", "--message", "b"], &["--bridged=x"]] {
        let text = parsed(arguments).unwrap_err();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("--help") && !text.starts_with("error"), "{text}");
    }
}
