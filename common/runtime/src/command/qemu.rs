//! `qemu-img`.

use super::{CommandError, find, run};
use crate::sys::{ChildLimits, LandlockRuleset};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
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
/// memory, processor time and the size of what it writes (`largest`, bytes), without a network, and, where
/// the kernel has Landlock, without any file but these two: what the image names can't be opened.
///
/// # Errors
/// Where qemu-img is missing or fails.
pub fn qemu_img_convert(
    source: &File,
    from: &str,
    target: &Path,
    to: &str,
    largest: u64,
) -> Result<(), CommandError> {
    let program = qemu_img()?;
    let prepared = || -> io::Result<_> {
        // The child opens the very file that was judged, through a descriptor that it inherits.
        Ok((nix::unistd::dup(source)?, landlock_ruleset(source, target)?))
    };
    let (inherited, ruleset) = prepared()
        .map_err(|source| CommandError::NotStarted { program: program.clone(), source })?;
    let limits = ChildLimits {
        memory: Some(2 << 30),
        processor_seconds: Some(4 * 3600),
        file_size: Some(largest),
        no_network: true,
        ruleset,
    };
    let opened = format!("/proc/self/fd/{}", inherited.as_raw_fd());
    // The path of the target is one of ours and absolute: nothing in it is taken for a protocol.
    let arguments = [
        OsStr::new("convert"),
        OsStr::new("-f"),
        OsStr::new(from),
        OsStr::new("-O"),
        OsStr::new(to),
        OsStr::new("-W"),
        OsStr::new("--"),
        OsStr::new(&opened),
        target.as_os_str(),
    ];
    run(program, &arguments, limits).map(drop)
}

/// A ruleset that lets a program read `source`, write `target`, and be itself.
fn landlock_ruleset(source: &File, target: &Path) -> io::Result<Option<LandlockRuleset>> {
    /// Where programs and their libraries are; `/bin` and the like are mostly links to `/usr`.
    const PROGRAMS: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"];
    let Some(ruleset) = LandlockRuleset::new() else { return Ok(None) };
    for directory in PROGRAMS {
        if let Ok(directory) = File::open(directory) {
            ruleset.allow_programs(&directory)?;
        }
    }
    if let Ok(libraries) = File::open("/etc/ld.so.cache") {
        ruleset.allow_reading(&libraries)?;
    }
    ruleset.allow_reading(source)?;
    ruleset.allow_writing(&File::open(target)?)?;
    Ok(Some(ruleset))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Should the gate ever miss a reference, nothing follows it.
    #[test]
    fn qemu_img_opens_no_file_that_an_image_names() {
        if LandlockRuleset::new().is_none() {
            eprintln!("not tried: this kernel has no Landlock");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let secret = path("secret");
        std::fs::write(&secret, vec![b's'; 1 << 20]).unwrap();
        let extent = |name: &Path| format!("RW 2048 FLAT \"{}\" 0\n", name.display());
        let descriptor = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n\
                          createType=\"monolithicFlat\"\n";
        std::fs::write(path("image"), format!("{descriptor}{}", extent(&secret))).unwrap();
        std::fs::write(path("target"), "").unwrap();
        let source = File::open(path("image")).unwrap();
        let result = qemu_img_convert(&source, "vmdk", &path("target"), "raw", 1 << 21);
        let error = result.unwrap_err().to_string();
        assert!(error.contains("Permission denied") && error.contains("secret"), "{error}");
        let written = std::fs::read(path("target")).unwrap();
        assert!(!written.contains(&b's'), "the secret was read");
    }
}
