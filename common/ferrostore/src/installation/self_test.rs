//! A call or two of drivers that are about to be used, as oned makes them.

use super::owner::give_to_oneadmin;
use super::{DsMad, FrontEnd, InstallError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::unistd::{User, geteuid};
use runtime::process;
use runtime::text::one_line;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The beginning of the name of a test's directory; the process number follows.
const SCRATCH: &str = "ferrostore-selftest.";
/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// More of what a driver prints is not looked at, bytes.
const LONGEST_OUTPUT: u64 = 4096;
/// Size of the image that `stat` measures, bytes, and its reply, MiB.
const IMAGE_SIZE: u64 = 3 << 20;

/// What a call should come to.
enum Expected {
    /// A reply for which this holds.
    Reply(fn(&str) -> bool),
    /// A failure whose line contains this.
    Failure(&'static str),
}

use Expected::{Failure, Reply};

/// Runs the drivers in `directory`: a call that writes nothing, one that looks at something.
pub(super) fn run(front_end: &FrontEnd, mad: &DsMad, directory: &Path) -> Result<(), InstallError> {
    let scratch = Scratch::new(front_end)?;
    let test = Test { front_end, mad, directory, scratch: &scratch.0 };
    let image = scratch.0.join("image");
    let image = image.to_string_lossy();
    for (action, path, expected) in calls(mad.kind, &image) {
        let what = test.call(action, &path, &expected)?;
        if let Some(what) = what {
            return Err(InstallError::SelfTest { action, what });
        }
    }
    Ok(())
}

/// Action, `IMAGE/PATH`, and what it should come to.
fn calls(kind: &str, image: &str) -> Vec<(&'static str, String, Expected)> {
    let path = |path: &str| path.to_owned();
    let nothing = String::new;
    let is_usage = |reply: &str| usage(reply).is_some();
    let is_image = |reply: &str| reply == "3";
    let is_one = |reply: &str| usage(reply) == Some([0, 1, 1]);
    match kind {
        "fs" => {
            vec![("monitor", nothing(), Reply(is_usage)), ("stat", path(image), Reply(is_image))]
        }
        // The volume group is there only once the datastore is: monitor has nothing to tell yet.
        "lvm" => vec![("stat", path(image), Reply(is_image))],
        // The cluster is named by the datastore: what is tried needs none.
        "ceph" => vec![
            ("stat", path(image), Reply(is_image)),
            ("export", path(image), Failure("IMAGE/SOURCE")),
        ],
        "dev" => vec![
            ("monitor", nothing(), Reply(is_one)),
            ("stat", path(image), Failure("block device")),
        ],
        "iscsi_libvirt" => vec![
            ("monitor", nothing(), Reply(is_one)),
            ("stat", path("iqn.2001-04.com.example:disk/1"), Reply(|reply| reply == "0")),
        ],
        "virtiofs" => vec![
            ("monitor", nothing(), Reply(|reply| usage(reply) == Some([0, 0, 0]))),
            ("stat", image.replace("/image", "/datastore"), Reply(|r| r.parse::<u64>().is_ok())),
        ],
        "dummy" => vec![
            ("monitor", nothing(), Reply(is_usage)),
            ("stat", path("nothing"), Reply(|reply| reply == "1024")),
        ],
        _ => vec![],
    }
}

/// The numbers of a reply of `monitor`.
fn usage(reply: &str) -> Option<[u64; 3]> {
    let mut words = reply.split_whitespace();
    let mut number = |name: &str| words.next()?.strip_prefix(name)?.parse().ok();
    let numbers = [number("USED_MB=")?, number("TOTAL_MB=")?, number("FREE_MB=")?];
    words.next().is_none().then_some(numbers)
}

struct Test<'a> {
    front_end: &'a FrontEnd,
    mad: &'a DsMad,
    directory: &'a Path,
    scratch: &'a Path,
}

impl Test<'_> {
    /// Makes a call. What is wrong with what it came to, if anything.
    fn call(
        &self,
        action: &str,
        path: &str,
        expected: &Expected,
    ) -> Result<Option<String>, InstallError> {
        let failed = InstallError::at("start", &self.directory.join(action));
        let ended = self.start(action, path).map_err(failed)?;
        let reply = ended.reply.trim_end();
        Ok(match expected {
            _ if ended.timed_out => {
                Some(format!("failed: it timed out after {} s", TIMEOUT.as_secs()))
            }
            Reply(_) if !ended.success => Some(format!("failed: {}", ended.error)),
            Reply(is_good) if !is_good(reply) => Some(format!("replied '{reply}'")),
            Failure(_) if ended.success => Some(format!("replied '{reply}'")),
            Failure(words) if !ended.error.contains(words) => {
                Some(format!("failed: {}", ended.error))
            }
            _ => None,
        })
    }

    fn start(&self, action: &str, path: &str) -> io::Result<Ended> {
        const DATASTORE_ID: &str = "100";
        let [input, output, error] =
            ["stdin", "stdout", "stderr"].map(|name| self.scratch.join(name));
        File::create(&input)?.write_all(STANDARD.encode(self.message(path)).as_bytes())?;
        let mut command = Command::new(self.directory.join(action));
        command
            .arg(DATASTORE_ID)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            // What is tried is no call of oned, and not recorded.
            .env("CALL_LOG", "no")
            .current_dir("/")
            .stdin(Stdio::from(File::open(&input)?))
            .stdout(Stdio::from(File::create(&output)?))
            .stderr(Stdio::from(File::create(&error)?));
        self.as_oned_would(&mut command);
        let mut child = process::spawn(&mut command)?;
        let until = Instant::now() + TIMEOUT;
        let mut status = process::try_wait(&mut child)?;
        while status.is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
            status = process::try_wait(&mut child)?;
        }
        if status.is_none() {
            process::kill_child(child.id());
            process::wait(&mut child)?;
        }
        Ok(Ended {
            success: status.is_some_and(|status| status.success()),
            timed_out: status.is_none(),
            reply: beginning(&output)?,
            error: one_line(&beginning(&error)?),
        })
    }

    /// The user and the environment that oned has.
    fn as_oned_would(&self, command: &mut Command) {
        let oneadmin = User::from_name("oneadmin").ok().flatten();
        match oneadmin {
            Some(user) if self.front_end.root.is_none() && geteuid().is_root() => {
                command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).env("HOME", user.dir);
            }
            _ => {
                command.envs(std::env::var_os("HOME").map(|home| ("HOME", home)));
            }
        }
        if self.front_end.root.is_some() {
            // The drivers look for their configuration below ONE_LOCATION/var.
            command.env("ONE_LOCATION", self.scratch.join("one"));
        } else if let Some(location) = &self.front_end.one_location {
            command.env("ONE_LOCATION", location);
        }
    }

    /// A message as oned sends it.
    fn message(&self, path: &str) -> String {
        let (name, scratch) = (&self.mad.name, self.scratch.display());
        let image = match path {
            "" => String::new(),
            _ => format!("<IMAGE><PATH><![CDATA[{path}]]></PATH><SIZE></SIZE></IMAGE>"),
        };
        format!(
            "<DS_DRIVER_ACTION_DATA>{image}<DATASTORE><ID>100</ID><NAME>self-test</NAME>\
             <DS_MAD><![CDATA[{name}]]></DS_MAD><TM_MAD><![CDATA[shared]]></TM_MAD>\
             <BASE_PATH><![CDATA[{scratch}/datastore]]></BASE_PATH><TYPE>0</TYPE>\
             <DISK_TYPE>0</DISK_TYPE><STATE>0</STATE><TEMPLATE><DS_MAD><![CDATA[{name}]]></DS_MAD>\
             <RESTRICTED_DIRS><![CDATA[/]]></RESTRICTED_DIRS>\
             <SAFE_DIRS><![CDATA[{scratch}]]></SAFE_DIRS></TEMPLATE></DATASTORE>\
             </DS_DRIVER_ACTION_DATA>"
        )
    }
}

/// How a call ended.
struct Ended {
    success: bool,
    timed_out: bool,
    reply: String,
    error: String,
}

fn beginning(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST_OUTPUT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A directory with an image and a datastore in it, for as long as a test takes.
struct Scratch(PathBuf);

impl Scratch {
    fn new(front_end: &FrontEnd) -> Result<Self, InstallError> {
        let parent = std::env::var_os("TMPDIR").filter(|path| !path.is_empty());
        let parent = parent.map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let path = parent.join(format!("{SCRATCH}{}", std::process::id()));
        let error = InstallError::at("create", &path);
        clean_up(&parent);
        let fill = || -> io::Result<Self> {
            fs::create_dir(&path)?;
            let scratch = Self(path);
            let [datastore, image, one] =
                ["datastore", "image", "one"].map(|name| scratch.0.join(name));
            fs::create_dir(&datastore)?;
            fs::create_dir(&one)?;
            File::create(&image)?.set_len(IMAGE_SIZE)?;
            if front_end.root.is_some()
                && let Some(var) = front_end.remotes.parent()
            {
                symlink(var, one.join("var"))?;
            }
            fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o755))?;
            // Not the directory itself: this process, maybe root's, writes files into it.
            for path in [&datastore, &image] {
                give_to_oneadmin(path)?;
            }
            Ok(scratch)
        };
        fill().map_err(error)
    }
}

/// Removes the directories of killed runs. Those of other users can't be removed, and stay.
fn clean_up(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(SCRATCH)?.parse().ok());
        let is_own = |number: u32| number == std::process::id();
        if number.is_some_and(|number| is_own(number) || !process_lives(number)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn process_lives(number: u32) -> bool {
    Path::new("/proc").join(number.to_string()).exists()
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
