//! `qemu-img`.

use super::{CommandError, find, run};
use crate::sys::ChildLimits;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Whether `qemu-img` is there.
///
/// # Errors
/// [`CommandError::Missing`], with the package to install.
pub fn qemu_img() -> Result<PathBuf, CommandError> {
    find("qemu-img", "qemu-utils (Debian, Ubuntu) or qemu-img (RHEL and kin)")
}

/// Converts the image `source` of format `from` into the file `target` of format `to`.
///
/// The source is untrusted: its format is given and never guessed, and qemu-img runs under limits on
/// memory, processor time and the size of what it writes (`largest`, bytes), without a network.
///
/// # Errors
/// Where qemu-img is missing or fails.
pub fn qemu_img_convert(
    source: &Path,
    from: &str,
    target: &Path,
    to: &str,
    largest: u64,
) -> Result<(), CommandError> {
    let limits = ChildLimits {
        memory: Some(4 << 30),
        processor_seconds: Some(4 * 3600),
        file_size: Some(largest),
        no_network: true,
    };
    // Driver options in JSON-free form: the path is one of ours, without a comma or a colon.
    let arguments = [
        OsStr::new("convert"),
        OsStr::new("-f"),
        OsStr::new(from),
        OsStr::new("-O"),
        OsStr::new(to),
        OsStr::new("-W"),
        OsStr::new("--"),
        source.as_os_str(),
        target.as_os_str(),
    ];
    run(qemu_img()?, &arguments, limits).map(drop)
}
