//! A throw-away front-end with stock scripts in it, and `install.sh` as its administrator runs it.

use ferrostore_tests::{ACTIONS, executable, write_script};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

pub(crate) const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The names of all that is built: the drivers and the tools that stand beside those of `fs`.
pub(crate) fn built_names() -> impl Iterator<Item = &'static str> {
    ACTIONS.into_iter().chain(["fsck", "ferrostore"])
}

/// A self-contained OpenNebula: stock drivers for `fs`, `dev` and `ceph`, and an `oned.conf`.
pub(crate) struct FrontEnd {
    pub(crate) world: TempDir,
}

impl FrontEnd {
    pub(crate) fn new() -> Self {
        let front_end = Self::bare();
        for ds_mad in ["fs", "dev", "ceph", "netapp"] {
            let folder = front_end.datastores().join(ds_mad);
            fs::create_dir_all(&folder).unwrap();
            for action in ACTIONS {
                write_script(folder.join(action), &format!("echo stock {ds_mad} {action}"));
            }
        }
        fs::write(front_end.fs().join("notes.txt"), "not a driver").unwrap();
        // Stock shares some scripts by links.
        fs::remove_file(front_end.fs().join("export")).unwrap();
        symlink("../ceph/export", front_end.fs().join("export")).unwrap();
        fs::create_dir_all(front_end.one().join("etc")).unwrap();
        fs::write(
            front_end.one().join("etc/oned.conf"),
            "# DATASTORE_MAD = [ ARGUMENTS = \"-t 1 -d commented,out\" ]\n\
             TM_MAD = [ EXECUTABLE = \"one_tm\", ARGUMENTS = \"-t 9 -d dummy,ssh\" ]\n\
             DATASTORE_MAD = [\n    EXECUTABLE = \"one_datastore\",\n    \
             ARGUMENTS  = \"-t 20 -d dummy,fs,dev,ceph -s shared,ssh\"\n]\n\
             DS_MAD_CONF = [\n    NAME = \"dev\", REQUIRED_ATTRS = \"DISK_TYPE\", PERSISTENT_ONLY = \"YES\"\n]\n",
        )
        .unwrap();
        front_end
    }

    /// Without any OpenNebula in it, but with the drivers that a build left.
    pub(crate) fn bare() -> Self {
        let world =
            tempfile::Builder::new().prefix("ferrostore-install.").tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(world.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let front_end = Self { world };
        fs::create_dir_all(front_end.built()).unwrap();
        fs::create_dir(front_end.temporary()).unwrap();
        for name in built_names() {
            fs::copy(stripped(name), front_end.built().join(name)).unwrap();
        }
        front_end
    }

    pub(crate) fn one(&self) -> PathBuf {
        self.world.path().join("one")
    }

    pub(crate) fn datastores(&self) -> PathBuf {
        self.one().join("var/remotes/datastore")
    }

    pub(crate) fn fs(&self) -> PathBuf {
        self.datastores().join("fs")
    }

    /// The configuration file of a DS_MAD.
    pub(crate) fn conf(&self, name: &str) -> PathBuf {
        self.one().join(format!("var/remotes/etc/datastore/{name}/{name}.conf"))
    }

    pub(crate) fn stock(&self) -> PathBuf {
        self.datastores().join("fs.stock")
    }

    pub(crate) fn built(&self) -> PathBuf {
        self.world.path().join("target/release")
    }

    pub(crate) fn temporary(&self) -> PathBuf {
        self.world.path().join("tmp")
    }

    /// `install.sh` with these arguments, for the drivers that are built already.
    pub(crate) fn script(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(format!("{REPOSITORY}/install.sh"));
        command
            .arg("--no-build")
            .args(arguments)
            .env("ONE_LOCATION", self.one())
            .env("CARGO_TARGET_DIR", self.world.path().join("target"))
            .env("TMPDIR", self.temporary())
            .current_dir("/");
        command
    }

    pub(crate) fn install(&self, arguments: &[&str]) -> String {
        succeeds(&mut self.script(arguments))
    }

    pub(crate) fn refuses(&self, arguments: &[&str]) -> String {
        fails(&mut self.script(arguments))
    }

    /// Every file of the front-end: kind, mode, owner, time and content.
    pub(crate) fn picture(&self) -> BTreeMap<String, String> {
        let mut picture = BTreeMap::new();
        look_at(&self.one(), &mut picture);
        look_at(&self.temporary(), &mut picture);
        picture
    }

    pub(crate) fn break_driver(&self, action: &str, script: &str) {
        write_script(self.built().join(action), script);
    }
}

/// A driver as a release has it: without the debugging information, which is nine tenths of it.
fn stripped(action: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("install");
        fs::create_dir_all(&directory).unwrap();
        for name in built_names() {
            let arguments = ["-o".into(), directory.join(name), executable(name)];
            ferrostore_tests::run("strip", arguments);
        }
        directory
    });
    directory.join(action)
}

pub(crate) fn holds_our_drivers(folder: &Path) {
    for action in ACTIONS {
        let file = folder.join(action);
        assert_eq!(
            fs::read(&file).unwrap(),
            fs::read(stripped(action)).unwrap(),
            "{} is the driver that was built",
            file.display()
        );
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o755);
    }
}

fn look_at(folder: &Path, picture: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let what = if metadata.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if metadata.is_dir() {
            look_at(&path, picture);
            "folder".to_owned()
        } else {
            format!("{} {:?}", metadata.mtime(), fs::read(&path).unwrap())
        };
        let (mode, uid) = (metadata.mode(), metadata.uid());
        picture.insert(path.display().to_string(), format!("{mode:o} {uid} {what}"));
    }
}

fn run(command: &mut Command) -> (bool, String, String) {
    let output = command.output().expect("the script can be started");
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

pub(crate) fn succeeds(command: &mut Command) -> String {
    let (success, stdout, stderr) = run(command);
    assert!(success, "{command:?} failed:\n{stdout}{stderr}");
    stdout
}

pub(crate) fn fails(command: &mut Command) -> String {
    let (success, stdout, stderr) = run(command);
    assert!(!success, "{command:?} should have failed:\n{stdout}");
    stderr
}
