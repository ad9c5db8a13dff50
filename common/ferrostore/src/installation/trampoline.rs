//! How a driver takes the place of a script while calls of it begin.
//!
//! The kernel starts the shell of a script, and the shell opens the script by its path. Where a driver has taken the
//! script's place in between, the shell refuses it (`cannot execute binary file`), and the call is lost. A trampoline
//! stands between them for a moment: a script that starts the driver, whose interpreter is the driver as well.
//! A shell that opens it passes the call on. Where the kernel has read it, it starts the driver, whatever stands at
//! the path by then.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

/// How long a trampoline stands: every shell that was started for the script has opened it by then.
pub(super) const SHELL_START: Duration = Duration::from_secs(1);

/// How much of a script the kernel reads for its interpreter (`BINPRM_BUF_SIZE`, 256 since Linux 5.1).
const FIRST_LINE: usize = 127;

/// What tells a trampoline from a script of OpenNebula's.
const MARK: &str = "# A trampoline of ferrostore's: a driver is about to take this place.";

/// The text of a trampoline that starts `driver`; none for a path that can't be an interpreter's.
pub(super) fn text(driver: &Path) -> Option<String> {
    // From wherever a call comes.
    let driver = driver.to_str().filter(|_| driver.is_absolute())?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let first = format!("#!{driver} --script");
    let fits = first.len() <= FIRST_LINE && driver.chars().all(plain);
    fits.then(|| format!("{first}\n{MARK}\nexec {driver} \"$@\"\n"))
}

/// Whether the file at `path` is a trampoline.
pub(super) fn is_trampoline(path: &Path) -> bool {
    let second_line = || -> io::Result<String> {
        let file =
            BufReader::new(File::open(path)?.take(FIRST_LINE as u64 + MARK.len() as u64 + 2));
        file.lines().nth(1).unwrap_or_else(|| Ok(String::new()))
    };
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
        && second_line().is_ok_and(|line| line == MARK)
}

/// Whether the file at `path` is a script of a shell, which can read a trampoline.
pub(super) fn is_shell_script(path: &Path) -> bool {
    let first_line = || -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        BufReader::new(File::open(path)?.take(FIRST_LINE as u64)).read_until(b'\n', &mut line)?;
        Ok(line)
    };
    let Ok(line) = first_line() else { return false };
    let Some(line) = line.strip_prefix(b"#!") else { return false };
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let name = |word: &[u8]| {
        Path::new(std::ffi::OsStr::from_bytes(word))
            .file_name()
            .map(|name| name.as_bytes().to_vec())
    };
    let interpreter = match words.next().and_then(name) {
        Some(env) if env == b"env" => words.next().and_then(name),
        interpreter => interpreter,
    };
    interpreter.is_some_and(|interpreter| interpreter.ends_with(b"sh"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_trampoline_is_for_a_path_that_the_kernel_and_a_shell_read_alike() {
        let text = text(Path::new("/var/lib/one/remotes/datastore/.fs.ferrostore/run/cp")).unwrap();
        assert!(
            text.starts_with("#!/var/lib/one/remotes/datastore/.fs.ferrostore/run/cp --script\n")
        );
        assert!(
            text.ends_with("\nexec /var/lib/one/remotes/datastore/.fs.ferrostore/run/cp \"$@\"\n")
        );
        for path in [
            "one/cp",
            "/two words/cp",
            "/o'ne/cp",
            "/$one/cp",
            "/one\n/cp",
            &format!("/{}/cp", "a".repeat(120)),
        ] {
            assert_eq!(super::text(Path::new(path)), None, "{path:?}");
        }
    }

    #[test]
    fn a_script_of_a_shell_is_told_by_its_first_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("script");
        for (line, shell) in [
            ("#!/bin/bash\n", true),
            ("#!/bin/sh -e\n", true),
            ("#! /usr/bin/env bash\n", true),
            ("#!/usr/bin/env ruby\n", false),
            ("#!/usr/bin/python3\n", false),
            ("#!\n", false),
            ("# bash\n", false),
            ("\x7fELF bash", false),
            ("", false),
        ] {
            fs::write(&path, line).unwrap();
            assert_eq!(is_shell_script(&path), shell, "{line:?}");
            assert!(!is_trampoline(&path), "{line:?}");
        }
        fs::write(&path, text(Path::new("/one/cp")).unwrap()).unwrap();
        assert!(is_trampoline(&path));
        assert!(!is_shell_script(&path));
    }
}
