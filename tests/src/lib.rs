//! The harness of the black-box tests: a message in; a reply, files and an exit code out.
//!
//! A test makes a [`Cloud`] (a throw-away front-end with one datastore), puts images where users
//! put them, and calls a driver the way oned does:
//!
//! ```no_run
//! use ferrostore_tests::{Cloud, MIB, Rule, same_content};
//!
//! let cloud = Cloud::new();
//! let disk = cloud.raw("disk.img", 4 * MIB);
//! let image = cloud.cp(&disk).driver("qcow2").run().succeeds().image("qcow2");
//! same_content(&disk, "raw", &image, "qcow2");
//!
//! cloud.cp("/etc/passwd").run().refused(Rule::Restricted).naming("IMAGE/PATH").saying("/etc/passwd");
//! ```
//!
//! Every failing call is checked for what the contract asks of all of them: exit code 1, an empty
//! standard output, exactly one line for the user, and a datastore that is as it was before.
//!
//! The executables are built once per test program (in the profile of the test). Set
//! `FERROSTORE_BIN` to a directory with ready executables to test those instead.

mod admin;
pub mod archive;
mod binaries;
mod bridge;
mod call;
mod ceph;
mod ceph_programs;
mod certificate;
mod check;
mod cloud;
mod contents;
mod device;
mod digests;
pub mod docs;
mod fault_matrix;
pub mod faults;
pub mod hostile;
mod images;
pub mod layouts;
mod left_overs;
mod listing;
mod lvm;
mod machines;
mod message;
mod mount;
mod namespace;
mod nfs;
mod oned;
mod outcome;
mod pause;
mod program_faults;
mod publisher;
pub mod random;
mod record;
mod referee;
mod rules;
mod ssh;
mod trash;
mod vm;
pub mod vmdk;
mod web;
mod wire;

pub use admin::Said;
pub use binaries::{debuggable, executable, stripped};
pub use bridge::{BridgeHost, Bridges};
pub use call::{Call, Convention};
pub use ceph::Ceph;
pub use ceph_programs::ProgramFault;
pub use certificate::Authority;
pub use check::{Examination, Fsck};
pub use cloud::Cloud;
pub use contents::Contents;
pub use device::LoopDevice;
pub use digests::{DIGESTS, wrong_digest};
pub use fault_matrix::{FaultMatrix, Holds};
pub use images::pattern;
pub use left_overs::WORK_DIRECTORY;
pub use listing::Listing;
pub use lvm::{Lvm, Volume, persistent, volumes};
pub use machines::Machines;
pub use message::Message;
pub use mount::{Disk, Mount};
pub use nfs::NfsCloud;
pub use oned::{Answer, Oned};
pub use outcome::{Failure, Outcome, Reply};
pub use program_faults::ProgramFaults;
pub use publisher::{MinisignKey, Publisher};
pub use referee::{
    allocated, digest, info, qemu_img_check, same_bytes, same_content, virtual_size,
};
pub use rules::Rule;
pub use ssh::SshHost;
pub use trash::TRASH;
pub use vm::{ignored_tests_in_a_virtual_machine, is_virtual_machine};
pub use vmdk::Vmdk;
pub use web::{Fault, Page, Web};
pub use wire::Request;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// Bytes in a kibibyte.
pub const KIB: u64 = 1024;
/// Bytes in a mebibyte, the unit of `IMAGE/SIZE`.
pub const MIB: u64 = 1024 * KIB;

/// The ten actions, in the order of the contract.
pub const ACTIONS: [&str; 10] = [
    "cp",
    "mkfs",
    "clone",
    "rm",
    "stat",
    "snap_revert",
    "snap_flatten",
    "snap_delete",
    "monitor",
    "export",
];

/// Runs a program that the test needs (not one that is tested) and panics with its output if it
/// fails.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Output {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} can't be started: {error}"));
    assert!(
        output.status.success(),
        "{program} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The formats that other hypervisors use, each with options of qemu-img.
pub const FOREIGN_FORMATS: [(&str, &str); 5] = [
    ("vmdk", "subformat=monolithicSparse"),
    ("vmdk", "subformat=streamOptimized"),
    ("vdi", ""),
    ("vhdx", ""),
    ("vpc", "subformat=dynamic,force_size=on"),
];

/// Writes a shell script that anyone may run, in a directory that is made where need be.
pub fn write_script(path: impl AsRef<Path>, script: &str) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().expect("a file in a directory")).unwrap();
    fs::write(path, format!("#!/bin/bash\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
