//! `gpgv`, which verifies OpenPGP signatures by the keys that it is given, and by no others.

use super::confined::{inherited, own_files_and};
use super::{CommandError, find, output_of, printed};
use crate::sys::{ChildLimits, Permission};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

/// More memory than gpgv needs for a list of 1 MiB and all keys of a distribution, bytes.
const MEMORY: u64 = 512 << 20;
/// As [`MEMORY`], processor time, seconds.
const PROCESSOR_TIME: u64 = 20;

/// What gpgv is asked about. It sees these bytes, whatever becomes of the files that they are from.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'b> {
    /// Keyrings: binary OpenPGP keys one after the other, or a keybox.
    pub keyrings: &'b [Vec<u8>],
    /// What is signed; with the signature in it where there is none in `signature`.
    pub content: &'b [u8],
    /// The signature, where it is apart from the content.
    pub signature: Option<&'b [u8]>,
}

/// What gpgv says of a signature: the lines that it writes for programs (`--status-fd`, GnuPG's `doc/DETAILS`), and whether it ended
/// with 0.
///
/// # Errors
/// Where gpgv is missing, can't be started, or is ended by a signal.
pub fn gpgv_status(signed: Signed) -> Result<(String, bool), CommandError> {
    let call = Call::new(signed)?;
    let arguments = call.arguments(&["--status-fd", "1"]);
    let output = output_of(&call.program, &arguments, call.limits)?;
    if output.status.code().is_none() {
        printed(call.program, &arguments, output)?;
        return Ok((String::new(), false));
    }
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success()))
}

/// The text of a clear-signed file that its signature is for, without what stands around it.
///
/// # Errors
/// As [`gpgv_status`], and where the signature is not good.
pub fn gpgv_text(signed: Signed) -> Result<Vec<u8>, CommandError> {
    let call = Call::new(signed)?;
    let arguments = call.arguments(&["--output", "-"]);
    let output = output_of(&call.program, &arguments, call.limits)?;
    // Its exit code is that of the last signature: the caller has judged all of them by the status.
    match output.status.code() {
        Some(0 | 2) => Ok(output.stdout),
        _ => printed(call.program, &arguments, output),
    }
}

/// What every call of gpgv has: the files that it inherits, and the limits that it lives under.
struct Call {
    program: PathBuf,
    keyrings: Vec<OwnedFd>,
    files: Vec<OwnedFd>,
    limits: ChildLimits,
}

impl Call {
    fn new(signed: Signed) -> Result<Self, CommandError> {
        let program = find("gpgv", "gpgv (Debian, Ubuntu) or gnupg2 (RHEL and kin)")?;
        let prepare = || -> io::Result<_> {
            let keyrings = signed.keyrings.iter().map(|bytes| in_memory(bytes));
            let files = signed.signature.into_iter().chain([signed.content]).map(in_memory);
            let random = File::open("/dev/urandom").ok();
            let random = random.iter().map(|file| (file, Permission::Read));
            let limits = ChildLimits {
                memory: Some(MEMORY),
                processor_seconds: Some(PROCESSOR_TIME),
                file_size: Some(0),
                no_network: true,
                ruleset: own_files_and(random)?,
            };
            Ok((keyrings.collect::<io::Result<_>>()?, files.collect::<io::Result<_>>()?, limits))
        };
        match prepare() {
            Ok((keyrings, files, limits)) => Ok(Self { program, keyrings, files, limits }),
            Err(source) => Err(CommandError::NotStarted { program, source }),
        }
    }

    fn arguments(&self, wanted: &[&str]) -> Vec<String> {
        let path = |file: &OwnedFd| format!("/proc/self/fd/{}", file.as_raw_fd());
        // Without a home directory there are no keys but those that are given.
        let mut arguments = vec!["--homedir".to_owned(), "/nonexistent".to_owned()];
        arguments.extend(wanted.iter().map(|&word| word.to_owned()));
        for keyring in &self.keyrings {
            arguments.extend(["--keyring".to_owned(), path(keyring)]);
        }
        arguments.push("--".to_owned());
        arguments.extend(self.files.iter().map(path));
        arguments
    }
}

/// A file in memory, which the child inherits.
fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file: File = memfd_create("gpgv", MFdFlags::MFD_CLOEXEC)?.into();
    file.write_all(bytes)?;
    file.rewind()?;
    inherited(&file)
}
