//! A root directory of its own, into which packages are installed.

use ferrostore_tests::{ACTIONS, executable, run};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A root directory with a shell and dpkg's database in it, where rpm makes its own.
pub(crate) struct Root {
    world: TempDir,
}

impl Root {
    pub(crate) fn new() -> Self {
        let world =
            tempfile::Builder::new().prefix("ferrostore-root.").tempdir_in("/var/tmp").unwrap();
        let root = Self { world };
        for directory in [
            "bin",
            "usr/bin",
            "etc",
            "tmp",
            "var/tmp",
            "dev",
            "proc",
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
        ] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        // dpkg processes no trigger of a package whose dependencies are missing.
        let installed = ["libc6", "libgcc-s1"].map(|package| {
            format!(
                "Package: {package}\nStatus: install ok installed\nArchitecture: {}\nVersion: 99\n\
                 Maintainer: a test <a@example.com>\nDescription: a library\n\n",
                architecture()
            )
        });
        for (file, text) in [("status", installed.concat()), ("available", String::new())] {
            fs::write(root.path().join("var/lib/dpkg").join(file), text).unwrap();
        }
        fs::write(root.path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        for program in ["/bin/sh", "/bin/rm"] {
            root.copy_program(Path::new(program));
        }
        root.copy_libraries(&executable("ferrostore"));
        root.copy_libraries(&executable("cp"));
        root
    }

    pub(crate) fn path(&self) -> &Path {
        self.world.path()
    }

    pub(crate) fn copy_program(&self, program: &Path) {
        let copy = self.path().join(program.strip_prefix("/").unwrap());
        fs::copy(program, copy).unwrap();
        self.copy_libraries(program);
    }

    pub(crate) fn copy_libraries(&self, program: &Path) {
        let output = Command::new("ldd").arg(program).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
            let copy = self.path().join(library.strip_prefix('/').unwrap());
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(library, copy).unwrap();
        }
    }

    /// A program that sees `/proc` and `/dev` below the root.
    pub(crate) fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-ec"])
            .arg("mount --bind /proc \"$0/proc\"; mount --bind /dev \"$0/dev\"; exec \"$@\"")
            .arg(self.path())
            .arg(program)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env_remove("ONE_LOCATION");
        command
    }

    /// Runs `ferrostore` inside the root.
    #[track_caller]
    pub(crate) fn ferrostore(&self, arguments: &[&str]) -> String {
        let mut command = self.inside("chroot");
        let output =
            command.arg(self.path()).arg("/usr/bin/ferrostore").args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(output.status.success(), "{text}");
        text
    }

    pub(crate) fn remotes(&self) -> PathBuf {
        self.path().join("var/lib/one/remotes")
    }

    pub(crate) fn fs(&self) -> PathBuf {
        self.remotes().join("datastore/fs")
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.remotes().join("datastore").join(path)).unwrap()
    }

    /// What is in this directory below `$REMOTES/datastore`, in order.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.remotes().join("datastore").join(path)).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> =
            entries.map(|entry| name(entry).into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn enabled(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path().join("etc/ferrostore/enabled")).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    /// Mode, owner and content of every file of OpenNebula's.
    pub(crate) fn picture(&self) -> BTreeMap<PathBuf, String> {
        let mut picture = BTreeMap::new();
        look_at(&self.path().join("var/lib/one"), &mut picture);
        picture
    }

    /// Calls `stat` of the datastore all the time while `upgrade` is at work, from four loops: what each call printed.
    /// No call may fail. The shell of the stock scripts takes its time before it opens one, so that a call of one goes on
    /// after the script has been replaced; it says so (`a shell starts`).
    #[track_caller]
    pub(crate) fn calls_during(&self, upgrade: impl FnOnce()) -> Vec<String> {
        const LOOP: &str = "while [ ! -e /tmp/done ]; do \
            said=$(/var/lib/one/remotes/datastore/fs/stat --version 2>&1) || echo \"lost: $said\"; \
            echo \"$said\"; done";
        self.copy_program(Path::new("/bin/sleep"));
        self.copy_program(Path::new("/bin/bash"));
        let bin = self.path().join("bin");
        fs::rename(bin.join("bash"), bin.join("quick-bash")).unwrap();
        let slow = "#!/bin/sh\necho a shell starts\nsleep 0.3\nexec /bin/quick-bash \"$@\"\n";
        fs::write(bin.join("bash"), slow).unwrap();
        fs::set_permissions(bin.join("bash"), fs::Permissions::from_mode(0o755)).unwrap();
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let mut command = self.inside("chroot");
                command.arg(self.path()).args(["/bin/sh", "-c", LOOP]);
                command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap()
            })
            .collect();
        let readers =
            callers.into_iter().map(|caller| thread::spawn(|| caller.wait_with_output().unwrap()));
        let readers: Vec<_> = readers.collect();
        thread::sleep(Duration::from_millis(200));
        upgrade();
        fs::write(self.path().join("tmp/done"), "").unwrap();
        let mut said = Vec::new();
        for reader in readers {
            let output = reader.join().unwrap();
            assert!(output.status.success(), "{output:?}");
            said.extend(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned));
        }
        fs::remove_file(self.path().join("tmp/done")).unwrap();
        assert!(said.len() > 40, "{} calls", said.len());
        let lost: Vec<&String> = said.iter().filter(|line| line.starts_with("lost:")).collect();
        assert_eq!(lost, [""; 0], "of {} calls", said.len());
        said
    }

    /// Runs both upgrades while the datastore is called. No call is lost, not even of those that begin with a stock
    /// script between the unpacking of OpenNebula's package and the trigger.
    #[track_caller]
    pub(crate) fn loses_no_call(&self, of_ferrostore: impl FnOnce(), of_opennebula: impl FnOnce()) {
        let begun =
            |said: Vec<String>| said.iter().filter(|line| *line == "a shell starts").count();
        assert_eq!(begun(self.calls_during(of_ferrostore)), 0, "the drivers answer all the time");
        assert!(begun(self.calls_during(of_opennebula)) > 1, "no call began with a stock script");
    }

    #[track_caller]
    pub(crate) fn holds_our_drivers(&self) {
        for action in ACTIONS {
            let ours = fs::read(self.path().join("usr/lib/ferrostore").join(action)).unwrap();
            assert!(fs::read(self.fs().join(action)).unwrap() == ours, "{action} is ours");
        }
    }
}

/// As dpkg calls it.
fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

fn look_at(directory: &Path, picture: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let what = if metadata.is_dir() {
            look_at(&path, picture);
            String::new()
        } else {
            format!("{} {:?}", metadata.mtime(), fs::read(&path).unwrap())
        };
        picture.insert(path, format!("{:o} {} {what}", metadata.mode(), metadata.uid()));
    }
}

/// The files of a package of OpenNebula with stock scripts of this version. They are of bash, as the real ones are: other
/// shells take the bytes of a driver for commands.
pub(crate) fn opennebula_tree(root: &Root, version: &str) -> PathBuf {
    let tree = root.path().join("tmp/opennebula").join(version);
    let remotes = tree.join("var/lib/one/remotes");
    for kind in ["fs", "dev"] {
        let directory = remotes.join("datastore").join(kind);
        fs::create_dir_all(&directory).unwrap();
        for action in ACTIONS {
            let script = directory.join(action);
            fs::write(&script, format!("#!/bin/bash\necho stock {version} {kind} {action}\n"))
                .unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o750)).unwrap();
        }
    }
    fs::write(remotes.join("VERSION"), version).unwrap();
    tree
}

/// Man pages and completions, made once.
pub(crate) fn manual() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    let directory = MADE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // With these of the cargo that runs the test, what depends on them would be built again.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "OUT_DIR"]
                .iter()
                .any(|part| name.starts_with(part))
            {
                cargo.env_remove(name.as_ref());
            }
        }
        let output = cargo
            .current_dir(REPOSITORY)
            .args(["run", "--quiet", "--locked", "-p", "drivers", "--example", "manual", "--"])
            .arg(directory.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        directory
    });
    directory.path()
}

/// The packages of ferrostore in this form (`deb` or `rpm`), versions 1.0 and 1.1, made once.
pub(crate) fn packages(form: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages").join(form);
    let bin = directory.join("bin");
    fs::create_dir_all(&bin).unwrap();
    for name in ACTIONS.into_iter().chain(["fsck", "ferrostore"]) {
        run("strip", ["-o".into(), bin.join(name), executable(name)]);
    }
    for version in ["1.0", "1.1"] {
        let output = Command::new(format!("{REPOSITORY}/packaging/build"))
            .args(["--version", version, "--quick", "--manual"])
            .arg(manual())
            .arg("--bin")
            .arg(&bin)
            .arg("--out")
            .arg(&directory)
            .arg(form)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    directory
}
