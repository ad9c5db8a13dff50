//! Independent judges of images and bytes: qemu-img and coreutils.

use crate::run;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// Checks that qemu-img finds nothing wrong with a qcow2 file, not even a leaked cluster.
#[track_caller]
pub fn qemu_img_check(path: impl AsRef<Path>) {
    let output = Command::new("qemu-img")
        .args(["check", "-q", "-f", "qcow2"])
        .arg(path.as_ref())
        .output()
        .expect("qemu-img is installed");
    assert!(
        output.status.success(),
        "qemu-img check of {}: {}{}",
        path.as_ref().display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Checks that two disks hold the same, whatever their formats. Where one is longer, the rest of
/// it must be zeros.
#[track_caller]
pub fn same_content(a: impl AsRef<Path>, a_format: &str, b: impl AsRef<Path>, b_format: &str) {
    let (a, b) = (a.as_ref(), b.as_ref());
    let output = Command::new("qemu-img")
        .args(["compare", "-f", a_format, "-F", b_format])
        .args([a, b])
        .output()
        .expect("qemu-img is installed");
    assert!(
        output.status.success(),
        "{} ({a_format}) and {} ({b_format}) differ: {}{}",
        a.display(),
        b.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Checks that two files are the same byte for byte.
#[track_caller]
pub fn same_bytes(a: impl AsRef<Path>, b: impl AsRef<Path>) {
    let output =
        Command::new("cmp").args([a.as_ref(), b.as_ref()]).output().expect("cmp is installed");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What `qemu-img info` knows about an image read as `format`.
pub fn info(path: impl AsRef<Path>, format: &str) -> Value {
    let arguments = ["info", "--output=json", "-f", format].map(OsStr::new);
    let output = run("qemu-img", arguments.into_iter().chain([path.as_ref().as_os_str()]));
    serde_json::from_slice(&output.stdout).expect("qemu-img writes JSON")
}

/// The size in bytes of the disk inside an image.
pub fn virtual_size(path: impl AsRef<Path>, format: &str) -> u64 {
    info(path, format)["virtual-size"].as_u64().expect("a size")
}

/// Bytes that a file takes on the disk.
pub fn allocated(path: impl AsRef<Path>) -> u64 {
    fs::metadata(path).expect("the file is there").blocks() * 512
}

/// The digest of a file by `md5sum`, `sha1sum`, `sha256sum` or `sha512sum`, in lower case.
pub fn digest(program: &str, path: impl AsRef<Path>) -> String {
    let output = run(program, [path.as_ref()]);
    let text = String::from_utf8(output.stdout).expect("hex digits");
    text.split([' ', '\\']).find(|word| !word.is_empty()).expect("a digest").to_owned()
}
