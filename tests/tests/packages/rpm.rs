//! The package on a real rpm, with a small package of OpenNebula beside it.

use crate::root::{Root, opennebula_tree, packages};
use ferrostore_tests::run;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

/// What every call of rpm begins with: a database in the root, libraries that no package there has, and packages that
/// may be older or the same.
const OPTIONS: [&str; 3] = ["--nodeps", "--oldpackage", "--replacepkgs"];

impl Root {
    fn rpm<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        self.inside("rpm")
            .args(["--dbpath", "/var/lib/rpm", "--root"])
            .arg(self.path())
            .args(arguments)
            .output()
            .unwrap()
    }

    /// What rpm and the scripts of the packages say where all goes well.
    #[track_caller]
    fn rpm_does<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        let output = self.rpm(arguments);
        let said = text(&output);
        // rpm itself goes on after a script that failed.
        assert!(output.status.success() && !said.contains("scriptlet failed"), "{said}");
        said
    }

    #[track_caller]
    fn upgrade(&self, packages: &[&Path]) -> String {
        self.rpm_does(&upgrading(packages))
    }

    #[track_caller]
    fn erase(&self, package: &str) -> String {
        self.rpm_does(&["--erase", package])
    }

    /// The files of our package that are not as the package has them.
    fn changed(&self) -> Vec<String> {
        let output = self.rpm(&["--verify", "--nodeps", "ferrostore"]);
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

fn upgrading<'a>(packages: &[&'a Path]) -> Vec<&'a OsStr> {
    let mut arguments = vec![OsStr::new("--upgrade")];
    arguments.extend(OPTIONS.map(OsStr::new));
    arguments.extend(packages.iter().map(|package| package.as_os_str()));
    arguments
}

/// A package of ferrostore with this version.
fn ferrostore(version: &str) -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let directory = MADE.get_or_init(|| packages("rpm"));
    let machine = std::env::consts::ARCH;
    directory.join(format!("ferrostore-{version}-1.{machine}.rpm"))
}

/// A package of OpenNebula with stock scripts of this version.
fn opennebula(root: &Root, version: &str) -> PathBuf {
    let tree = opennebula_tree(root, version);
    let build = root.path().join("tmp/rpmbuild");
    let spec = root.path().join("tmp/opennebula.spec");
    let tree = tree.display();
    let lines = format!(
        "Name: opennebula\nVersion: {version}\nRelease: 1\nSummary: OpenNebula's drivers\nLicense: none\n\
         BuildArch: noarch\n%description\nOpenNebula's drivers.\n\
         %install\nmkdir -p %{{buildroot}}\ncp -a {tree}/. %{{buildroot}}/\n%files\n/var/lib/one\n"
    );
    fs::write(&spec, lines).unwrap();
    let below = |name: &str, directory: &str| format!("{name} {}/{directory}", build.display());
    run(
        "rpmbuild",
        [
            "-bb".into(),
            "--quiet".into(),
            "--define".into(),
            below("_topdir", "").into(),
            "--define".into(),
            below("_rpmdir", "made").into(),
            spec.into_os_string(),
        ],
    );
    build.join(format!("made/noarch/opennebula-{version}-1.noarch.rpm"))
}

/// A root with OpenNebula 7.0 and ferrostore in it; the picture before ferrostore came.
fn installed() -> (Root, BTreeMap<PathBuf, String>) {
    let root = Root::new();
    fs::create_dir_all(root.path().join("var/lib/rpm")).unwrap();
    root.upgrade(&[&opennebula(&root, "7.0")]);
    let before = root.picture();
    root.upgrade(&[&ferrostore("1.0")]);
    (root, before)
}

/// Nothing of the package is left, but for the list of what was enabled where that is the user's.
#[track_caller]
fn is_away(root: &Root) {
    for path in ["usr/lib/ferrostore", "usr/bin/ferrostore", "usr/share/doc/ferrostore"] {
        assert!(!root.path().join(path).exists(), "{path} is left");
    }
    let left = fs::read_dir(root.path().join("etc/ferrostore")).into_iter().flatten();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "enabled.rpmsave"), "{left:?}");
}

#[test]
fn the_package_changes_nothing_until_a_kind_is_enabled() {
    let (root, before) = installed();
    assert_eq!(root.picture(), before);
    assert_eq!(root.changed(), [""; 0]);
    let said = root.ferrostore(&["enable", "fs"]);
    assert!(said.contains("tested") && !said.contains("restart"), "{said}");
    root.holds_our_drivers();
    assert_eq!(root.enabled(), ["fs"]);
    root.ferrostore(&["disable", "fs"]);
    assert_eq!(root.picture(), before);
    assert_eq!(root.enabled(), [""; 0]);
    root.erase("ferrostore");
    assert_eq!(root.picture(), before);
    is_away(&root);
    assert!(
        !root.path().join("etc/ferrostore").exists(),
        "an unchanged list goes with its package"
    );
}

#[test]
fn an_upgrade_of_opennebula_is_answered_by_the_trigger() {
    let (root, _) = installed();
    root.ferrostore(&["enable", "fs"]);
    root.upgrade(&[&opennebula(&root, "7.2")]);
    root.holds_our_drivers();
    assert_eq!(root.read("dev/cp"), "#!/bin/bash\necho stock 7.2 dev cp\n");
    assert_eq!(root.read("fs.stock/cp"), "#!/bin/bash\necho stock 7.0 fs cp\n");
    assert_eq!(root.read("fs.stock.2/cp"), "#!/bin/bash\necho stock 7.2 fs cp\n");
    let stock = root.names("fs.stock.2");
    root.erase("ferrostore");
    is_away(&root);
    assert_eq!(root.names("fs"), stock, "as if ferrostore had never been there");
    assert_eq!(root.names(""), ["dev", "fs"]);
    let verified = root.rpm(&["--verify", "--nodeps", "opennebula"]);
    assert!(verified.status.success(), "byte for byte: {}", text(&verified));
    assert_eq!(root.read("fs/cp"), "#!/bin/bash\necho stock 7.2 fs cp\n");
}

#[test]
fn a_newer_opennebula_than_tested_is_warned_of() {
    let (root, _) = installed();
    root.ferrostore(&["enable", "fs"]);
    let said = root.upgrade(&[&opennebula(&root, "99.0")]);
    assert!(said.contains("warning: OpenNebula 99.0 is newer than"), "{said}");
    root.holds_our_drivers();
}

#[test]
fn an_upgrade_and_a_downgrade_keep_what_is_enabled() {
    let (root, before) = installed();
    root.ferrostore(&["enable", "fs", "dev"]);
    for version in ["1.1", "1.0"] {
        root.upgrade(&[&ferrostore(version)]);
        root.holds_our_drivers();
        assert_eq!(root.enabled(), ["fs", "dev"]);
        let changed = root.changed();
        assert!(
            changed.len() == 1 && changed[0].ends_with("/etc/ferrostore/enabled"),
            "{changed:?}"
        );
    }
    root.erase("ferrostore");
    assert_eq!(root.picture(), before);
    is_away(&root);
    let kept = fs::read_to_string(root.path().join("etc/ferrostore/enabled.rpmsave")).unwrap();
    assert!(kept.ends_with("\nfs\ndev\n"), "{kept}");
}

#[test]
fn an_rpm_that_was_killed_is_finished_by_the_next_one() {
    let (root, before) = installed();
    root.ferrostore(&["enable", "fs"]);
    let (new, newer) = (opennebula(&root, "7.2"), ferrostore("1.1"));
    let mut killed = 0;
    for milliseconds in [30, 60, 100, 150, 200, 250, 300, 400, 500, 700, 900] {
        let output = root
            .inside("timeout")
            .args(["--signal=KILL", &format!("0.{milliseconds:03}")])
            .args(["rpm", "--dbpath", "/var/lib/rpm", "--root"])
            .arg(root.path())
            .args(upgrading(&[&new, &newer]))
            .output()
            .unwrap();
        killed += usize::from(!output.status.success());
    }
    assert!(killed > 1, "{killed} were killed");
    root.upgrade(&[&new, &newer]);
    root.holds_our_drivers();
    let known = root.rpm_does(&["--query", "opennebula", "ferrostore"]);
    let known: Vec<&str> = known.lines().collect();
    let ours = format!("ferrostore-1.1-1.{}", std::env::consts::ARCH);
    assert_eq!(known, ["opennebula-7.2-1.noarch", &ours], "each is there once");
    let hidden = root.names("").into_iter().filter(|name| name.starts_with('.'));
    assert_eq!(hidden.count(), 0, "no work directory is left");
    root.erase("ferrostore");
    let left = root.picture().into_keys().filter(|path| !unfinished(path));
    assert_eq!(left.count(), before.len());
    assert_eq!(root.read("fs/cp"), "#!/bin/bash\necho stock 7.2 fs cp\n");
    let verified = root.rpm(&["--verify", "--nodeps", "opennebula"]);
    assert!(verified.status.success(), "byte for byte: {}", text(&verified));
}

/// rpm unpacks to names with a semicolon, which a killed one leaves for good.
fn unfinished(path: &Path) -> bool {
    path.to_string_lossy().contains(';')
}

#[test]
fn no_call_is_lost_by_an_upgrade_of_ferrostore_or_of_opennebula() {
    let (root, _) = installed();
    root.ferrostore(&["enable", "fs"]);
    let (new, newer) = (opennebula(&root, "7.2"), ferrostore("1.1"));
    root.loses_no_call(|| drop(root.upgrade(&[&newer])), || drop(root.upgrade(&[&new])));
    root.holds_our_drivers();
}

#[test]
fn a_package_that_outlives_opennebula_leaves_nothing_either() {
    let (root, _) = installed();
    root.ferrostore(&["enable", "fs"]);
    root.erase("opennebula");
    root.upgrade(&[&ferrostore("1.1")]);
    root.erase("ferrostore");
    is_away(&root);
    let left = root.picture().into_keys().filter(|path| !path.is_dir()).collect::<Vec<_>>();
    assert_eq!(left, Vec::<PathBuf>::new());
    assert!(!root.remotes().join("datastore/fs.stock").exists());
}

#[test]
fn a_list_that_makes_no_sense_is_named_and_keeps_the_package_from_being_removed() {
    let (root, before) = installed();
    root.ferrostore(&["enable", "fs"]);
    let list = root.path().join("etc/ferrostore/enabled");
    fs::write(&list, "fs\nfloppy disks of old\n").unwrap();
    let says_so = |output: &Output| {
        let said = text(output);
        assert!(
            said.contains("line 2 of /etc/ferrostore/enabled") && said.contains("KIND NAME"),
            "{said}"
        );
    };
    says_so(&root.rpm(&upgrading(&[&ferrostore("1.1")])));
    let refused = root.rpm(&["--erase", "ferrostore"]);
    says_so(&refused);
    assert!(!refused.status.success());
    root.holds_our_drivers();
    fs::write(&list, "fs\n").unwrap();
    root.ferrostore(&["enable", "--all"]);
    root.holds_our_drivers();
    root.erase("ferrostore");
    assert_eq!(root.picture(), before);
}
