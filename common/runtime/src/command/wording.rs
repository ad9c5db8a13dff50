//! What a program says of its failure, as one plain sentence.

use crate::text::one_line;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

/// Longer reasons are cut, characters.
const LONGEST: usize = 300;

/// Parts of the paths that only the drivers know.
const INTERNAL: [&str; 2] = ["/.ferrostore-work/", "/proc/self/fd/"];

/// How the program with these arguments failed, by what it printed on standard error.
pub(super) fn failure(
    program: &Path,
    arguments: &[OsString],
    status: ExitStatus,
    stderr: &str,
) -> String {
    let name = name_of(program);
    let how = match status.signal() {
        Some(signal) => format!("was ended by signal {signal}"),
        None => "failed".to_owned(),
    };
    let reason = reason(&name, arguments, stderr);
    if reason.is_empty() {
        return format!("{name} {how} ({status}) and gave no reason");
    }
    format!("{name} {how}: {reason}")
}

pub(super) fn name_of(program: &Path) -> String {
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}

/// What a program printed, without its own name, its usage, and paths that mean nothing to a reader.
fn reason(name: &str, arguments: &[OsString], stderr: &str) -> String {
    let mut sentence = String::new();
    for line in stderr.lines().filter(|line| !line.trim().is_empty()) {
        let text = without_prefixes(name, line.trim());
        if text.to_lowercase().starts_with("usage") {
            break;
        }
        if !sentence.is_empty() {
            // An indented line goes on with the sentence before it.
            sentence += if line.starts_with(char::is_whitespace) { " " } else { "; " };
        }
        sentence += text;
    }
    for argument in arguments {
        let path = argument.to_string_lossy();
        if INTERNAL.iter().any(|part| path.contains(part)) {
            for quoted in [format!("'{path}'"), format!("\"{path}\""), path.into_owned()] {
                sentence = sentence.replace(&quoted, "the image");
            }
        }
    }
    let sentence = one_line(&sentence);
    let sentence = sentence.trim_end_matches(['.', ' ', ';', ':']);
    match sentence.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &sentence[..end]),
        None => sentence.to_owned(),
    }
}

/// A line without the program's name and the word for an error, both of which are said already.
fn without_prefixes<'l>(name: &str, mut line: &'l str) -> &'l str {
    loop {
        let before = line;
        for prefix in [name, "ERROR", "Error", "error", "FATAL", "fatal"] {
            let rest = line.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(':'));
            line = rest.map_or(line, str::trim_start);
        }
        if line == before {
            return line;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "/var/lib/one/datastores/1/.ferrostore-work/staging.0123.45-6";

    fn said(program: &str, arguments: &[&str], stderr: &str) -> String {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        failure(Path::new(program), &arguments, ExitStatus::from_raw(1 << 8), stderr)
    }

    #[test]
    fn the_reason_of_a_program_is_one_plain_sentence() {
        let small = "Filesystem must be larger than 300MB.\nUsage: mkfs.xfs\n/* blocksize */\t\t[-b size=num]\n\tdevicename\n";
        for (program, stderr, expected) in [
            ("mkfs.xfs", small, "mkfs.xfs failed: Filesystem must be larger than 300MB"),
            (
                "mkfs.ext4",
                "mkfs.ext4: inode_size (256) * inodes_count (0) too big for a\n\tfilesystem with 0 blocks, specify higher inode_ratio (-i)\n\tor lower inode count (-N).\n\n",
                "mkfs.ext4 failed: inode_size (256) * inodes_count (0) too big for a filesystem with 0 blocks, specify higher inode_ratio (-i) or lower inode count (-N)",
            ),
            (
                "mkswap",
                "mkswap: error: swap area needs to be at least 40 KiB\n",
                "mkswap failed: swap area needs to be at least 40 KiB",
            ),
            ("mkfs.x", "Usage: mkfs.x\n", "mkfs.x failed (exit status: 1) and gave no reason"),
            ("ls", "ls: a\nls: b\n", "ls failed: a; b"),
        ] {
            assert_eq!(said(&format!("/usr/sbin/{program}"), &["-q"], stderr), expected);
        }
    }

    #[test]
    fn paths_that_only_the_drivers_know_are_not_shown() {
        let stderr = format!("ERROR: '{IMAGE}' is too small to make a usable filesystem\n");
        let expected = "mkfs.btrfs failed: the image is too small to make a usable filesystem";
        assert_eq!(said("/sbin/mkfs.btrfs", &["-f", IMAGE], &stderr), expected);
        let image = "driver=vmdk,file.driver=file,file.filename=/proc/self/fd/7";
        let stderr = format!("qemu-img: Could not open '{image}': Invalid argument\n");
        let expected = "qemu-img failed: Could not open the image: Invalid argument";
        assert_eq!(said("/usr/bin/qemu-img", &["map", image], &stderr), expected);
    }

    #[test]
    fn a_long_reason_is_cut_and_a_signal_is_told() {
        let long = said("/bin/x", &[], &"é".repeat(1000));
        assert_eq!(long.chars().count(), "x failed: ".len() + LONGEST + 1);
        let killed = failure(Path::new("/bin/x"), &[], ExitStatus::from_raw(9), "");
        assert!(killed.starts_with("x was ended by signal 9"), "{killed}");
    }
}
