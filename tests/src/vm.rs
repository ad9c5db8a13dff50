//! The virtual machine of `tests/vm`, for what this machine's kernel may lack or should be spared:
//! device-mapper, LVM, NFS.

use crate::stripped;
use std::path::Path;
use std::process::Command;

const BED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vm");

/// Runs the tests of this program that are ignored otherwise and whose names are `wanted`, in one boot of a virtual
/// machine that sees this machine's files. Call it from a test of the program that is not ignored.
///
/// `FERROSTORE_VM_TESTS` chooses among them by parts of their names.
#[track_caller]
pub fn ignored_tests_in_a_virtual_machine(wanted: impl Fn(&str) -> bool) {
    let program = std::env::current_exe().expect("a test program knows where it is");
    let chosen = std::env::var("FERROSTORE_VM_TESTS").unwrap_or_default();
    let list = Command::new(&program)
        .args(["--ignored", "--list", "--format=terse"])
        .args(chosen.split_whitespace())
        .output()
        .expect("a test program lists its tests");
    let list = String::from_utf8(list.stdout).expect("names are text");
    let names: Vec<&str> = list
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .filter(|name| wanted(name))
        .collect();
    if names.is_empty() {
        return;
    }
    prepare();
    let status = command()
        .arg(program)
        .args(["--ignored", "--test-threads=1", "--exact"])
        .args(names)
        .env("FERROSTORE_BIN", drivers())
        .status()
        .expect("tests/vm/run can be started");
    assert!(status.success(), "in the virtual machine: {status}");
}

/// Whether this is the virtual machine.
pub fn is_virtual_machine() -> bool {
    std::env::var_os("FERROSTORE_VM").is_some()
}

/// Makes what the machine boots, where that is missing.
pub(crate) fn prepare() {
    let status = Command::new(Path::new(BED).join("prepare")).status();
    assert!(status.expect("tests/vm/prepare can be started").success(), "no virtual machine");
}

/// `tests/vm/run`, to which a command is to be added.
fn command() -> Command {
    let mut command = Command::new(Path::new(BED).join("run"));
    command.env("VM_TIMEOUT", std::env::var("VM_TIMEOUT").unwrap_or_else(|_| "1200".to_owned()));
    command
}

/// Without what only debuggers read: copies in the guest would fill its memory.
fn drivers() -> std::path::PathBuf {
    stripped("cp").parent().expect("drivers lie in a folder").to_path_buf()
}
