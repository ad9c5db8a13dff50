//! `qemu-img`, which reads the formats that are not read here. It writes raw disks and nothing else.

use super::confined::{inherited, own_files_and};
use super::{CommandError, Output, find, prepared, run, run_silent};
use crate::sys::{ChildLimits, LandlockRuleset, Permission};
use nix::sys::stat::SFlag;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

/// Whether `qemu-img` is there.
///
/// # Errors
/// [`CommandError::Missing`], with the package to install.
pub fn qemu_img() -> Result<PathBuf, CommandError> {
    find("qemu-img", "qemu-utils (Debian, Ubuntu) or qemu-img (RHEL and kin)")
}

/// Writes the disk in the image `source`, of the QEMU driver `format`, into `target` as a raw disk: a file that is one large hole, or
/// a device that reads as zero, neither of them smaller than the disk.
///
/// Raw is all that qemu-img may write: it has no tables that would be written when the file is closed, where
/// qemu-img only prints an error and ends with 0. Whatever it prints on standard error is a failure.
///
/// The source is untrusted: its format is given and never guessed, and qemu-img runs under limits on
/// memory, processor time and the size of what it writes (`largest`, bytes), without a network, and, where
/// the kernel has Landlock, without any file but these two: what the image names can't be opened.
///
/// # Errors
/// Where qemu-img is missing, fails, or prints an error.
pub fn qemu_img_to_raw(
    source: &File,
    format: &str,
    target: &File,
    largest: u64,
) -> Result<(), CommandError> {
    let call = Call::new(source, &[(target, Permission::Write)], Some(largest))?;
    let target = inherited(target)
        .map_err(|source| CommandError::NotStarted { program: call.program.clone(), source })?;
    let verb = ["convert", "-n", "--target-is-zero", "-W", "--target-image-opts"];
    let mut arguments = call.arguments(&verb, format);
    arguments.push(format!("driver=raw,{}", opened(&target)).into());
    run_silent(call.program, &arguments, call.limits)
}

/// Calls `visit` with the parts of the disk in the image `source`, of the QEMU driver `format`, that hold data, as `start..end`
/// in bytes, in the order of the disk. Returns the size of the disk, bytes. Limits are as for [`qemu_img_to_raw`].
///
/// # Errors
/// As [`qemu_img_to_raw`], and where qemu-img prints something else.
pub fn qemu_img_map(
    source: &File,
    format: &str,
    mut visit: impl FnMut(u64, u64),
) -> Result<u64, CommandError> {
    /// A line of its report is shorter, bytes.
    const LONGEST_LINE: u64 = 4 << 10;
    let call = Call::new(source, &[], None)?;
    let arguments = call.arguments(&["map", "--output=json"], format);
    let command = prepared(&call.program, &arguments, call.limits);
    let mut report = BufReader::new(Output::of(call.program.clone(), arguments, command)?);
    let not_read = |source| CommandError::NotStarted { program: call.program.clone(), source };
    let (mut line, mut size) = (Vec::new(), 0);
    loop {
        line.clear();
        (&mut report).take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(not_read)?;
        let text = String::from_utf8_lossy(&line);
        match extent(&text) {
            _ if line.is_empty() => return Ok(size),
            None => {
                return Err(CommandError::Unexpected {
                    program: "qemu-img",
                    output: text.into_owned(),
                });
            }
            Some((start, end, data)) => {
                if data {
                    visit(start, end);
                }
                size = end;
            }
        }
    }
}

/// One line of the report of `qemu-img map --output=json`: where the extent starts and ends, bytes, and whether it
/// holds data.
fn extent(line: &str) -> Option<(u64, u64, bool)> {
    let value = |name: &str| {
        let (_, rest) = line.split_once(&format!("\"{name}\": "))?;
        rest.split([',', '}']).next()
    };
    let start: u64 = value("start")?.parse().ok()?;
    let length: u64 = value("length")?.parse().ok()?;
    let data = value("data")? == "true" && value("zero")? == "false";
    Some((start, start.checked_add(length)?, data))
}

/// Compares the disk in the image `source`, of the QEMU driver `format`, with the raw disk in the file `copy`: whether they are the
/// same. Limits are as for [`qemu_img_to_raw`].
///
/// # Errors
/// As [`qemu_img_to_raw`].
pub fn qemu_img_is_same(source: &File, format: &str, copy: &File) -> Result<bool, CommandError> {
    /// Exit code where the images differ (`qemu-img(1)`).
    const DIFFERENT: i32 = 1;
    let call = Call::new(source, &[(copy, Permission::Read)], None)?;
    let copy = inherited(copy)
        .map_err(|source| CommandError::NotStarted { program: call.program.clone(), source })?;
    let mut arguments = call.arguments(&["compare", "-q"], format);
    arguments.push(format!("driver=raw,{}", opened(&copy)).into());
    match run(call.program, &arguments, call.limits) {
        Ok(_) => Ok(true),
        Err(CommandError::Failed { status, .. }) if status.code() == Some(DIFFERENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What every call of qemu-img has: the image that is read, and the limits that it lives under.
struct Call {
    program: PathBuf,
    source: OwnedFd,
    limits: ChildLimits,
}

impl Call {
    /// A call that reads `source`, opens what `allow` lets it open besides, and writes no file that is larger than
    /// `largest` bytes.
    fn new(
        source: &File,
        allow: &[(&File, Permission)],
        largest: Option<u64>,
    ) -> Result<Self, CommandError> {
        let program = qemu_img()?;
        let prepared =
            || -> io::Result<_> { Ok((inherited(source)?, only_reading(source, allow)?)) };
        let (source, ruleset) = prepared()
            .map_err(|source| CommandError::NotStarted { program: program.clone(), source })?;
        let limits = ChildLimits {
            memory: Some(2 << 30),
            processor_seconds: Some(4 * 3600),
            file_size: largest,
            no_network: true,
            ruleset,
        };
        Ok(Self { program, source, limits })
    }

    /// The arguments that `verb` begins, up to the image of `format` that is read.
    fn arguments(&self, verb: &[&str], format: &str) -> Vec<OsString> {
        // Without this QEMU guesses by who made a vhd how large it is, and cuts off the end of some.
        let size = if format == "vpc" { "force_size_calc=current_size," } else { "" };
        let image = format!("driver={},{size}{}", format, opened(&self.source));
        let common = ["--image-opts", "--", &image];
        verb.iter().chain(&common).map(OsString::from).collect()
    }
}

/// A ruleset that lets qemu-img read `source`, do what `allow` says, and be itself.
fn only_reading(
    source: &File,
    allow: &[(&File, Permission)],
) -> io::Result<Option<LandlockRuleset>> {
    // It tries there which locks this kernel has.
    let nowhere = File::options().read(true).write(true).open("/dev/null").ok();
    let nowhere = nowhere.iter().map(|file| (file, Permission::Write));
    own_files_and(allow.iter().copied().chain([(source, Permission::Read)]).chain(nowhere))
}

/// How qemu-img opens the file or device that it has inherited. It takes no locks: the driver has them.
fn opened(file: &OwnedFd) -> String {
    let is_device = nix::sys::stat::fstat(file)
        .is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode).contains(SFlag::S_IFBLK));
    let driver = if is_device { "host_device" } else { "file" };
    format!(
        "file.driver={driver},file.locking=off,file.filename=/proc/self/fd/{}",
        file.as_raw_fd()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::Path;

    /// Should admission ever miss a reference, nothing follows it.
    #[test]
    fn qemu_img_opens_no_file_that_an_image_names() {
        if LandlockRuleset::allowing([]).unwrap().is_none() {
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
        let target = File::create_new(path("target")).unwrap();
        target.set_len(1 << 20).unwrap();
        let source = File::open(path("image")).unwrap();
        let result = qemu_img_to_raw(&source, "vmdk", &target, 1 << 21);
        let error = result.unwrap_err().to_string();
        assert!(error.contains("Permission denied") && error.contains("secret"), "{error}");
        let written = std::fs::read(path("target")).unwrap();
        assert!(!written.contains(&b's'), "the secret was read");
    }

    #[test]
    fn the_report_of_a_map_is_read_line_by_line() {
        let first = r#"[{ "start": 0, "length": 65536, "depth": 0, "present": true, "zero": false, "data": true, "compressed": false, "offset": 65536},"#;
        assert_eq!(extent(first), Some((0, 65536, true)));
        let last = r#"{ "start": 65536, "length": 512, "depth": 0, "zero": true, "data": false}]"#;
        assert_eq!(extent(last), Some((65536, 66048, false)));
        for line in [
            "",
            "[]",
            r#"{ "start": 1, "length": 18446744073709551615, "zero": false, "data": true}"#,
        ] {
            assert_eq!(extent(line), None, "{line}");
        }
    }
}
