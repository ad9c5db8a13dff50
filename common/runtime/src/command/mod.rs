//! Every external program that the drivers start: one typed function each.
//!
//! Programs are looked up in fixed directories, never in `PATH`; arguments are a list that nothing
//! parses; the environment is empty but for a fixed `PATH` and locale; standard input is empty. A
//! child dies with its driver.

pub mod cluster;
mod cluster_error;
mod confined;
mod filesystem;
mod gpgv;
pub mod librbd;
pub mod lvm;
mod mount;
mod output;
mod qemu;
pub mod rbd;
mod rbd_import;
mod remote;
mod running;
mod session;
mod sudo;
pub mod thin;
mod wording;
mod xml;

use crate::process;
use crate::sys::{self, ChildLimits};
use crate::text::shown;
pub use filesystem::{mkfs, mkfs_on_device, mkswap};
pub use gpgv::{Signed, gpgv_status, gpgv_text};
pub use mount::mount_nfs;
use nix::sys::memfd::{MFdFlags, memfd_create};
pub use output::Output;
pub use qemu::{qemu_img, qemu_img_is_same, qemu_img_map, qemu_img_to_raw};
pub use remote::{Part, downloader, ssh_file, ssh_survey};
pub use session::{Session, ssh_script};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
pub use sudo::sudo_allows;
use wording::{failure, name_of};

const DIRECTORIES: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A program that could not be run or failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It is not installed.
    #[error("{program} is not installed (looked in {}): install {package}", DIRECTORIES.join(", "))]
    Missing {
        /// Its name.
        program: String,
        /// The package that holds it.
        package: String,
    },
    /// It could not be started.
    #[error("{program} could not be started: {source}")]
    NotStarted {
        /// Its path.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It did not end in the time that it was given.
    #[error("{} timed out after {seconds} s", name_of(program))]
    TimedOut {
        /// Its path.
        program: PathBuf,
        /// How long it had, s.
        seconds: u64,
    },
    /// It ended with a failure.
    #[error("{}", failure(program, arguments, *status, stderr))]
    Failed {
        /// Its path.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<OsString>,
        /// How it ended.
        status: ExitStatus,
        /// What it printed on standard error.
        stderr: String,
    },
    /// It ended well, and yet not all is there.
    #[error(
        "{program} ended without an error, but delivered {what}: try again; if that doesn't help, the program is faulty"
    )]
    Incomplete {
        /// Its name.
        program: &'static str,
        /// What there is.
        what: String,
    },
    /// It printed what it should not have.
    #[error("{program} printed unexpected output: {}", shown(output))]
    Unexpected {
        /// Its name.
        program: &'static str,
        /// What it printed, or the beginning of it.
        output: String,
    },
}

impl CommandError {
    /// Whether the program says that there was no space for what it wrote.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        self.says("No space left on device")
    }

    /// Whether the program failed and said `text`.
    #[must_use]
    pub fn says(&self, text: &str) -> bool {
        matches!(self, Self::Failed { stderr, .. } if stderr.contains(text))
    }
}

fn find(program: &str, package: &str) -> Result<PathBuf, CommandError> {
    DIRECTORIES
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| CommandError::Missing {
            program: program.to_owned(),
            package: package.to_owned(),
        })
}

fn plain<A: AsRef<OsStr>>(program: &Path, arguments: &[A]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", DIRECTORIES.join(":"))
        .env("LC_ALL", "C")
        // Arenas for each thread would only use up the address space that a child may have.
        .env("MALLOC_ARENA_MAX", "1")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn prepared<A: AsRef<OsStr>>(program: &Path, arguments: &[A], limits: ChildLimits) -> Command {
    let mut command = plain(program, arguments);
    sys::confine(&mut command, limits);
    command
}

fn run<A: AsRef<OsStr>>(
    program: PathBuf,
    arguments: &[A],
    limits: ChildLimits,
) -> Result<Vec<u8>, CommandError> {
    let output = output_of(&program, arguments, limits)?;
    printed(program, arguments, output)
}

/// As [`run`], of a program that prints errors without failing: anything on standard error is a failure.
fn run_silent<A: AsRef<OsStr>>(
    program: PathBuf,
    arguments: &[A],
    limits: ChildLimits,
) -> Result<(), CommandError> {
    let output = output_of(&program, arguments, limits)?;
    if output.status.success() && !output.stderr.is_empty() {
        return Err(failed(program, arguments, &output));
    }
    printed(program, arguments, output).map(drop)
}

/// As [`run_silent`], of a program that prints warnings, too: what calls itself an error on standard error is a
/// failure.
fn run_without_errors<A: AsRef<OsStr>>(
    program: PathBuf,
    arguments: &[A],
) -> Result<(), CommandError> {
    let output = output_of(&program, arguments, ChildLimits::default())?;
    let text = String::from_utf8_lossy(&output.stderr);
    let has_error = ["ERROR", "error:", "failed"].iter().any(|word| text.contains(word));
    if output.status.success() && has_error {
        return Err(failed(program, arguments, &output));
    }
    printed(program, arguments, output).map(drop)
}

fn output_of<A: AsRef<OsStr>>(
    program: &Path,
    arguments: &[A],
    limits: ChildLimits,
) -> Result<std::process::Output, CommandError> {
    let mut command = prepared(program, arguments, limits);
    let not_started = |source| CommandError::NotStarted { program: program.to_owned(), source };
    let child = process::spawn(&mut command).map_err(not_started)?;
    process::wait_with_output(child).map_err(not_started)
}

/// Runs a program that must come to its end whatever becomes of the driver: no signal to the driver or
/// its group, nor the driver's death, reaches it. It prints into memory, since a pipe without a reader any
/// more would end it.
fn run_unbroken<A: AsRef<OsStr>>(
    program: PathBuf,
    arguments: &[A],
) -> Result<Vec<u8>, CommandError> {
    let run = || -> std::io::Result<std::process::Output> {
        let memory = || memfd_create("output", MFdFlags::MFD_CLOEXEC).map(File::from);
        let (mut stdout, mut stderr) = (memory()?, memory()?);
        let status = plain(&program, arguments)
            .process_group(0)
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            .status()?;
        let mut output = std::process::Output { status, stdout: Vec::new(), stderr: Vec::new() };
        stdout.rewind()?;
        stdout.read_to_end(&mut output.stdout)?;
        stderr.rewind()?;
        stderr.read_to_end(&mut output.stderr)?;
        Ok(output)
    };
    match run() {
        Ok(output) => printed(program, arguments, output),
        Err(source) => Err(CommandError::NotStarted { program, source }),
    }
}

/// What a program that has ended well printed on standard output.
fn printed<A: AsRef<OsStr>>(
    program: PathBuf,
    arguments: &[A],
    output: std::process::Output,
) -> Result<Vec<u8>, CommandError> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(failed(program, arguments, &output))
}

fn failed<A: AsRef<OsStr>>(
    program: PathBuf,
    arguments: &[A],
    output: &std::process::Output,
) -> CommandError {
    CommandError::Failed {
        program,
        arguments: arguments.iter().map(|a| a.as_ref().to_owned()).collect(),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_error_names_program_and_reason_in_one_line() {
        let program = find("ls", "coreutils").unwrap();
        let error = run(program, &["--", "/no such\nfile"], ChildLimits::default()).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("ls failed: "), "{text}");
        assert!(!text.contains('\n'));
    }

    #[test]
    fn a_missing_program_names_the_package_to_install() {
        let text = find("mkfs.nothing", "the package").unwrap_err().to_string();
        assert!(text.contains("mkfs.nothing") && text.contains("install the package"), "{text}");
    }

    #[test]
    fn a_child_sees_none_of_the_drivers_environment() {
        let stdout = run(find("env", "coreutils").unwrap(), &[] as &[&str], ChildLimits::default());
        let stdout = String::from_utf8(stdout.unwrap()).unwrap();
        let mut names: Vec<_> = stdout.lines().filter_map(|l| l.split('=').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["LC_ALL", "MALLOC_ARENA_MAX", "PATH"]);
    }
}
