//! Programs that bring the bytes of images from elsewhere: ssh and OpenNebula's downloader.

use super::{CommandError, Output, find, prepared, printed};
use crate::process;
use crate::sys::ChildLimits;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Environment that ssh and OpenNebula's downloader need: their own configuration is found by it.
const PERSONAL: [&str; 4] = ["HOME", "SSH_AUTH_SOCK", "ONE_LOCATION", "ONE_AUTH"];

pub(super) fn personal(command: &mut Command) {
    for name in PERSONAL {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}

/// A path as one word for the shell that sshd starts on the other side.
pub(super) fn quoted(path: &[u8]) -> Vec<u8> {
    let mut word = vec![b'\''];
    for &byte in path {
        if byte == b'\'' {
            word.extend(b"'\\''");
        } else {
            word.push(byte);
        }
    }
    word.push(b'\'');
    word
}

/// ssh that has the user's shell on `host` (`[user@]host`) run `remote`: the program, its arguments, and the command.
///
/// It is the system's client with its configuration. It never asks anything, and ends a connection of its own
/// that is silent for a minute.
pub(super) fn ssh(
    host: &str,
    remote: Vec<u8>,
) -> Result<(PathBuf, Vec<OsString>, Command), CommandError> {
    let program = find("ssh", "openssh-client (Debian, Ubuntu) or openssh-clients (RHEL and kin)")?;
    let options = [
        "BatchMode=yes",
        "ConnectTimeout=10",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=4",
        "ClearAllForwardings=yes",
    ];
    let options = options.into_iter().flat_map(|option| ["-o", option]);
    let mut arguments: Vec<OsString> = options.chain(["-T", "--", host]).map(Into::into).collect();
    arguments.push(OsString::from_vec(remote));
    let mut command = prepared(&program, &arguments, ChildLimits::default());
    personal(&mut command);
    Ok((program, arguments, command))
}

/// Which part of a file another host shall send.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    /// All of it.
    Whole,
    /// Its size in bytes as a line of text, then so many of its first bytes.
    SizeAndStart(usize),
    /// So many of its last bytes.
    End(u64),
}

/// The bytes of the file `path` on `host` (`[user@]host`), through the system's ssh and its
/// configuration.
///
/// # Errors
/// Where ssh is not there. What goes wrong later is told by the stream.
pub fn ssh_file(host: &str, path: &[u8], part: Part) -> Result<Output, CommandError> {
    let path = quoted(path);
    let remote: Vec<u8> = match part {
        Part::Whole => [b"exec cat -- ", &*path].concat(),
        Part::SizeAndStart(count) => {
            let head = format!(" && exec head -c {count} -- ");
            [b"stat -L -c %s -- ", &*path, head.as_bytes(), &*path].concat()
        }
        Part::End(count) => [format!("exec tail -c {count} -- ").as_bytes(), &*path].concat(),
    };
    let (program, arguments, command) = ssh(host, remote)?;
    Output::of(program, arguments, command)
}

/// What `host` has: SHA-256 digests of `files` as `sha256sum` prints them, without those that can't be read, and a
/// line `glibc VERSION`.
///
/// # Errors
/// Where the host can't be reached.
pub fn ssh_survey(host: &str, files: &[PathBuf]) -> Result<Vec<u8>, CommandError> {
    let mut remote = b"sha256sum --".to_vec();
    for file in files {
        remote.push(b' ');
        remote.extend(quoted(file.as_os_str().as_bytes()));
    }
    remote.extend(b" 2>/dev/null; getconf GNU_LIBC_VERSION 2>/dev/null; exit 0");
    let (program, arguments, mut command) = ssh(host, remote)?;
    let not_started = |source| CommandError::NotStarted { program: program.clone(), source };
    let child = process::spawn(&mut command).map_err(not_started)?;
    let output = process::wait_with_output(child).map_err(not_started)?;
    // The command is long, and the administrator did not write it.
    printed(program, &arguments[..arguments.len() - 1], output)
}

/// The bytes of `source` (in errors `shown_source`) as OpenNebula's `downloader` gets them. `message` is the driver's own message in
/// base64, out of which the downloader takes credentials.
///
/// # Errors
/// Where the downloader can't be started. What goes wrong later is told by the stream.
pub fn downloader(
    downloader: &Path,
    source: &OsStr,
    shown_source: &str,
    message: &str,
) -> Result<Output, CommandError> {
    // The digests are of the bytes as they come, and decompression is ours.
    let arguments = vec!["--nodecomp".into(), source.to_owned(), "-".into()];
    let mut command = prepared(downloader, &arguments, ChildLimits::default());
    personal(&mut command);
    command.env("DRV_ACTION", message);
    // Errors show no arguments, and nothing of the source that may be a secret.
    let mut output = Output::of(downloader.to_owned(), Vec::new(), command)?;
    let source = source.to_string_lossy();
    output.secret = Some((source.to_string(), shown_source.to_owned()));
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_for_another_host_is_one_word_whatever_is_in_it() {
        assert_eq!(quoted(b"/a b/$(x)'y\n"), b"'/a b/$(x)'\\''y\n'");
    }
}
