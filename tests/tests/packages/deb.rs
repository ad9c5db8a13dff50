//! The package on a real dpkg, with a small package of OpenNebula beside it.

use crate::root::{Root, opennebula_tree, packages};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

impl Root {
    fn dpkg<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Output {
        self.inside("dpkg")
            .arg("--root")
            .arg(self.path())
            .args(["--force-depends", "--force-downgrade"])
            .args(arguments)
            .output()
            .unwrap()
    }

    #[track_caller]
    fn does<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> String {
        let output = self.dpkg(arguments);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(output.status.success(), "{text}");
        text
    }

    #[track_caller]
    fn install(&self, package: &Path) -> String {
        self.does(&["--install".as_ref(), package.as_os_str()])
    }
}

/// A package of ferrostore with this version.
fn ferrostore(version: &str) -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let directory = MADE.get_or_init(|| packages("deb"));
    let wanted = format!("ferrostore_{version}_");
    let mut files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&wanted)).unwrap()
}

/// A package of OpenNebula with stock scripts of this version.
fn opennebula(root: &Root, version: &str) -> PathBuf {
    let tree = opennebula_tree(root, version);
    fs::create_dir(tree.join("DEBIAN")).unwrap();
    let control = format!(
        "Package: opennebula\nVersion: {version}\nArchitecture: all\nMaintainer: a test <a@example.com>\n\
         Description: OpenNebula's drivers\n"
    );
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    let package = root.path().join(format!("tmp/opennebula_{version}.deb"));
    let output = Command::new("dpkg-deb").arg("--build").arg(&tree).arg(&package).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    package
}

/// A root with OpenNebula 7.0 and ferrostore in it; the picture before ferrostore came.
fn installed() -> (Root, BTreeMap<PathBuf, String>) {
    let root = Root::new();
    root.install(&opennebula(&root, "7.0"));
    let before = root.picture();
    root.install(&ferrostore("1.0"));
    (root, before)
}

#[test]
fn the_package_changes_nothing_until_a_kind_is_enabled() {
    let (root, before) = installed();
    assert_eq!(root.picture(), before);
    let said = root.ferrostore(&["enable", "fs"]);
    assert!(said.contains("tested") && !said.contains("restart"), "{said}");
    root.holds_our_drivers();
    assert_eq!(root.enabled(), ["fs"]);
    root.ferrostore(&["disable", "fs"]);
    assert_eq!(root.picture(), before);
    assert_eq!(root.enabled(), [""; 0]);
}

#[test]
fn an_upgrade_of_opennebula_is_answered_by_the_trigger() {
    let (root, _) = installed();
    root.ferrostore(&["enable", "fs"]);
    root.install(&opennebula(&root, "7.2"));
    root.holds_our_drivers();
    assert_eq!(root.read("dev/cp"), "#!/bin/bash\necho stock 7.2 dev cp\n");
    assert_eq!(root.read("fs.stock/cp"), "#!/bin/bash\necho stock 7.0 fs cp\n");
    assert_eq!(root.read("fs.stock.2/cp"), "#!/bin/bash\necho stock 7.2 fs cp\n");
    root.does(&["--remove", "ferrostore"]);
    let fresh = Root::new();
    fresh.install(&opennebula(&fresh, "7.2"));
    let names = |root: &Root| {
        let below = |path: PathBuf| path.strip_prefix(root.path()).unwrap().to_owned();
        root.picture().into_keys().map(below).collect::<Vec<_>>()
    };
    assert_eq!(names(&root), names(&fresh), "as if ferrostore had never been there");
    assert_eq!(root.read("fs/cp"), "#!/bin/bash\necho stock 7.2 fs cp\n");
}

#[test]
fn a_newer_opennebula_than_tested_is_warned_of() {
    let (root, _) = installed();
    root.ferrostore(&["enable", "fs"]);
    let said = root.install(&opennebula(&root, "99.0"));
    assert!(said.contains("warning: OpenNebula 99.0 is newer than"), "{said}");
    root.holds_our_drivers();
}

#[test]
fn an_upgrade_and_a_downgrade_keep_what_is_enabled() {
    let (root, before) = installed();
    root.ferrostore(&["enable", "fs", "dev"]);
    for version in ["1.1", "1.0"] {
        root.install(&ferrostore(version));
        root.holds_our_drivers();
        assert_eq!(root.enabled(), ["fs", "dev"]);
    }
    root.does(&["--remove", "ferrostore"]);
    assert_eq!(root.picture(), before);
    assert_eq!(root.enabled(), ["fs", "dev"], "until the package is purged");
    root.install(&ferrostore("1.1"));
    root.holds_our_drivers();
    root.does(&["--purge", "ferrostore"]);
    assert_eq!(root.picture(), before);
    for path in
        ["etc/ferrostore", "usr/lib/ferrostore", "usr/bin/ferrostore", "usr/share/doc/ferrostore"]
    {
        assert!(!root.path().join(path).exists(), "{path} is left");
    }
}

#[test]
fn a_dpkg_that_was_killed_is_finished_by_the_next_one() {
    let (root, before) = installed();
    root.ferrostore(&["enable", "fs"]);
    let (new, newer) = (opennebula(&root, "7.2"), ferrostore("1.1"));
    for milliseconds in [20, 60, 120, 250, 500, 900] {
        root.inside("timeout")
            .args(["--signal=KILL", &format!("0.{milliseconds:03}"), "dpkg", "--root"])
            .arg(root.path())
            .args(["--force-depends", "--force-downgrade", "--install"])
            .args([&new, &newer])
            .output()
            .unwrap();
        // Where dpkg wants a package installed again first, it says so, and that is what comes next.
        root.dpkg(&["--configure", "--pending"]);
    }
    root.install(&new);
    root.install(&newer);
    root.holds_our_drivers();
    let hidden = fs::read_dir(root.remotes().join("datastore")).unwrap();
    let hidden = hidden
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(hidden.count(), 0, "no work directory is left");
    root.does(&["--purge", "ferrostore"]);
    assert_eq!(root.picture().len(), before.len());
    assert_eq!(root.read("fs/cp"), "#!/bin/bash\necho stock 7.2 fs cp\n");
}

#[test]
fn no_call_is_lost_by_an_upgrade_of_ferrostore_or_of_opennebula() {
    let (root, _) = installed();
    root.ferrostore(&["enable", "fs"]);
    let (new, newer) = (opennebula(&root, "7.2"), ferrostore("1.1"));
    root.loses_no_call(|| drop(root.install(&newer)), || drop(root.install(&new)));
    root.holds_our_drivers();
}

#[test]
fn a_package_that_outlives_opennebula_leaves_nothing_either() {
    let (root, _) = installed();
    root.ferrostore(&["enable", "fs"]);
    root.does(&["--purge", "opennebula"]);
    root.install(&ferrostore("1.1"));
    root.does(&["--purge", "ferrostore"]);
    let left = root.picture().into_keys().filter(|path| !path.is_dir()).collect::<Vec<_>>();
    assert_eq!(left, Vec::<PathBuf>::new());
    assert!(!root.remotes().join("datastore/fs.stock").exists());
}

#[test]
fn a_list_that_makes_no_sense_stops_the_package_with_a_line_that_says_so() {
    let (root, _) = installed();
    root.ferrostore(&["enable", "fs"]);
    let list = root.path().join("etc/ferrostore/enabled");
    fs::write(&list, "fs\nfloppy disks of old\n").unwrap();
    let output = root.dpkg(&["--install".as_ref(), ferrostore("1.1").as_os_str()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(
        said.contains("line 2 of /etc/ferrostore/enabled") && said.contains("KIND NAME"),
        "{said}"
    );
    fs::write(&list, "fs\n").unwrap();
    root.does(&["--configure", "--pending"]);
    root.holds_our_drivers();
}
