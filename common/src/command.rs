//! Every external program that the drivers start: one typed function each.
//!
//! Programs are looked up in fixed directories, never in `PATH`; arguments are a list that nothing
//! parses; the environment is empty but for a fixed `PATH` and locale; standard input is empty. A
//! child dies with its driver.

use crate::message::text::{one_line, shown};
use crate::staging::interrupt;
use crate::sys::{self, ChildLimits};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// So much of what a program prints on standard error is kept, bytes.
const LONGEST_REASON: u64 = 16 << 10;

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
    /// It ended with a failure.
    #[error("`{}` failed ({status}): {}", shown_command(program, arguments), reason(stderr))]
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
}

impl CommandError {
    /// Whether the program says that there was no space for what it wrote.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Self::Failed { stderr, .. } if stderr.contains("No space left on device"))
    }
}

fn shown_command(program: &Path, arguments: &[OsString]) -> String {
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
    arguments.iter().fold(name.into_owned(), |line, argument| {
        let argument = argument.to_string_lossy();
        let plain = !argument.is_empty()
            && argument.chars().all(|c| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c));
        line + " " + &if plain { argument.into_owned() } else { shown(&argument) }
    })
}

fn reason(stderr: &str) -> String {
    // Some print their whole usage behind the reason.
    const LONGEST: usize = 300;
    let text = one_line(stderr);
    match text.char_indices().nth(LONGEST) {
        _ if text.is_empty() => "it printed no reason".to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
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

fn prepared<A: AsRef<OsStr>>(program: &Path, arguments: &[A], limits: ChildLimits) -> Command {
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
    sys::confine(&mut command, limits);
    command
}

fn run<A: AsRef<OsStr>>(
    program: PathBuf,
    arguments: &[A],
    limits: ChildLimits,
) -> Result<Vec<u8>, CommandError> {
    let mut command = prepared(&program, arguments, limits);
    let not_started = |source| CommandError::NotStarted { program: program.clone(), source };
    let child = interrupt::spawn(&mut command).map_err(not_started)?;
    let id = child.id();
    let output = child.wait_with_output();
    interrupt::reaped(id);
    let output = output.map_err(not_started)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(CommandError::Failed {
        program,
        arguments: arguments.iter().map(|a| a.as_ref().to_owned()).collect(),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Makes a file system of type `fs` in the file `image` (`mkfs.<fs>`), with the administrator's
/// `options`.
///
/// # Errors
/// Where there is no `mkfs.<fs>`, or it fails: too small a file, options that it doesn't know.
pub fn mkfs(fs: &str, options: &[String], image: &Path) -> Result<(), CommandError> {
    let package = match fs {
        "ext2" | "ext3" | "ext4" => "e2fsprogs".to_owned(),
        "xfs" => "xfsprogs".to_owned(),
        "btrfs" => "btrfs-progs".to_owned(),
        "vfat" | "fat" | "msdos" => "dosfstools".to_owned(),
        "ntfs" => "ntfs-3g".to_owned(),
        other => format!("the package with mkfs.{other}"),
    };
    let program = find(&format!("mkfs.{fs}"), &package)?;
    // Their own ways to say "never ask, there is no device behind this".
    let quiet: &[&str] = match fs {
        "ext2" | "ext3" | "ext4" => &["-F", "-q"],
        "xfs" | "btrfs" => &["-f", "-q"],
        _ => &[],
    };
    let mut arguments: Vec<OsString> = quiet.iter().map(OsString::from).collect();
    arguments.extend(options.iter().map(OsString::from));
    arguments.push(image.into());
    run(program, &arguments, ChildLimits::default()).map(drop)
}

/// Makes swap space of the file `image` (`mkswap(8)`).
///
/// # Errors
/// Where `mkswap` is missing or fails (a file under 40 KiB).
pub fn mkswap(image: &Path) -> Result<(), CommandError> {
    run(find("mkswap", "util-linux")?, &[image.as_os_str()], ChildLimits::default()).map(drop)
}

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

/// What a program prints, as a stream: it ends well only where the program does.
#[derive(Debug)]
pub struct Output {
    program: PathBuf,
    arguments: Vec<OsString>,
    child: Child,
    stdout: ChildStdout,
    stderr: Option<JoinHandle<String>>,
    ended: Arc<AtomicBool>,
    timed_out: Arc<AtomicBool>,
    /// What must not be shown, and what is shown in its place.
    secret: Option<(String, String)>,
}

impl Output {
    fn of(
        program: PathBuf,
        arguments: Vec<OsString>,
        mut command: Command,
    ) -> Result<Self, CommandError> {
        let not_started = |source| CommandError::NotStarted { program: program.clone(), source };
        // A group of its own, so that what it starts can be stopped with it.
        command.process_group(0);
        let mut child = interrupt::spawn(&mut command).map_err(not_started)?;
        let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(not_started(std::io::ErrorKind::BrokenPipe.into()));
        };
        // Read beside the output, so that a talkative program doesn't wait for us for ever.
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.by_ref().take(LONGEST_REASON).read_to_end(&mut text);
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self {
            program,
            arguments,
            child,
            stdout,
            stderr: Some(stderr),
            ended: Arc::default(),
            timed_out: Arc::default(),
            secret: None,
        })
    }

    /// Stops the program, and what it has started, at `until`.
    #[must_use]
    pub fn until(self, until: Instant) -> Self {
        let (ended, timed_out) = (Arc::clone(&self.ended), Arc::clone(&self.timed_out));
        let group = Pid::from_raw(self.child.id() as i32);
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if Instant::now() >= until {
                    timed_out.store(true, Ordering::Relaxed);
                    let _ = killpg(group, Signal::SIGKILL);
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        self
    }

    fn end(&mut self) -> std::io::Result<()> {
        if self.ended.load(Ordering::Relaxed) {
            return Ok(());
        }
        let status = self.child.wait()?;
        self.ended.store(true, Ordering::Relaxed);
        interrupt::reaped(self.child.id());
        let stderr = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        if self.timed_out.load(Ordering::Relaxed) {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        if status.success() {
            return Ok(());
        }
        let stderr = match &self.secret {
            Some((secret, shown)) => stderr.replace(secret, shown),
            None => stderr,
        };
        Err(std::io::Error::other(CommandError::Failed {
            program: self.program.clone(),
            arguments: self.arguments.clone(),
            status,
            stderr,
        }))
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stdout.read(buffer)?;
        if self.timed_out.load(Ordering::Relaxed) {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        if count == 0 && !buffer.is_empty() {
            self.end()?;
        }
        Ok(count)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.ended.swap(true, Ordering::Relaxed) {
            let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
            let _ = self.child.kill();
            let _ = self.child.wait();
            interrupt::reaped(self.child.id());
        }
    }
}

/// Environment that ssh and OpenNebula's downloader need: their own configuration is found by it.
const PERSONAL: [&str; 4] = ["HOME", "SSH_AUTH_SOCK", "ONE_LOCATION", "ONE_AUTH"];

fn personal(command: &mut Command) {
    for name in PERSONAL {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}

/// A path as one word for the shell that sshd starts on the other side.
fn quoted(path: &[u8]) -> Vec<u8> {
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
    let program = find("ssh", "openssh-client (Debian, Ubuntu) or openssh-clients (RHEL and kin)")?;
    let path = quoted(path);
    let remote: Vec<u8> = match part {
        Part::Whole => [b"exec cat -- ", &*path].concat(),
        Part::SizeAndStart(count) => {
            let head = format!(" && exec head -c {count} -- ");
            [b"stat -L -c %s -- ", &*path, head.as_bytes(), &*path].concat()
        }
        Part::End(count) => [format!("exec tail -c {count} -- ").as_bytes(), &*path].concat(),
    };
    let mut arguments: Vec<OsString> = [
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=15",
        "-o",
        "ServerAliveInterval=15",
        "-o",
        "ServerAliveCountMax=4",
        "-T",
        "--",
    ]
    .map(OsString::from)
    .to_vec();
    arguments.push(host.into());
    arguments.push(OsString::from_vec(remote));
    let mut command = prepared(&program, &arguments, ChildLimits::default());
    personal(&mut command);
    Output::of(program, arguments, command)
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
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_error_names_program_arguments_status_and_reason_in_one_line() {
        let program = find("ls", "coreutils").unwrap();
        let error = run(program, &["--", "/no such\nfile"], ChildLimits::default()).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(r#"`ls -- "/no such\nfile"` failed (exit status: 2): "#),
            "{text}"
        );
        assert!(!text.contains('\n'));
    }

    #[test]
    fn a_missing_program_names_the_package_to_install() {
        let text = find("mkfs.nothing", "the package").unwrap_err().to_string();
        assert!(text.contains("mkfs.nothing") && text.contains("install the package"), "{text}");
    }

    #[test]
    fn a_path_for_another_host_is_one_word_whatever_is_in_it() {
        assert_eq!(quoted(b"/a b/$(x)'y\n"), b"'/a b/$(x)'\\''y\n'");
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
