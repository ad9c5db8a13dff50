//! `ferrostore enable`, `disable` and `list`, as the package has them.

use crate::front_end::{FrontEnd, fails, holds_our_drivers, succeeds};
use ferrostore_tests::{ACTIONS, executable, write_script};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// A root with OpenNebula's `fs` and `dev` in it, and the drivers where the package has them.
struct Root {
    front_end: FrontEnd,
    root: PathBuf,
}

impl Root {
    fn new() -> Self {
        let front_end = FrontEnd::bare();
        let root = front_end.one();
        let root = Self { front_end, root };
        for kind in ["fs", "dev"] {
            let directory = root.datastores().join(kind);
            fs::create_dir_all(&directory).unwrap();
            for action in ACTIONS {
                write_script(directory.join(action), &format!("echo stock {kind} {action}"));
            }
        }
        root.set_version("7.0.1");
        let package = root.root.join("usr/lib");
        fs::create_dir_all(&package).unwrap();
        symlink(root.front_end.built(), package.join("ferrostore")).unwrap();
        root
    }

    fn datastores(&self) -> PathBuf {
        self.root.join("var/lib/one/remotes/datastore")
    }

    fn set_version(&self, version: &str) {
        fs::write(self.datastores().with_file_name("VERSION"), version).unwrap();
    }

    fn list(&self) -> PathBuf {
        self.root.join("etc/ferrostore/enabled")
    }

    fn command(&self, subcommand: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(executable("ferrostore"));
        command.arg(subcommand).arg("--root").arg(&self.root).args(arguments);
        command.env_remove("ONE_LOCATION").env("TMPDIR", self.front_end.temporary());
        command
    }

    fn does(&self, subcommand: &str, arguments: &[&str]) -> String {
        succeeds(&mut self.command(subcommand, arguments))
    }

    /// The one line of a command that fails.
    #[track_caller]
    fn refuses(&self, subcommand: &str, arguments: &[&str]) -> String {
        let why = fails(&mut self.command(subcommand, arguments));
        assert_eq!(why.lines().count(), 1, "one line says why: {why}");
        why
    }

    /// The line of a kind in `ferrostore list`.
    fn listed(&self, kind: &str) -> String {
        let text = self.does("list", &[]);
        text.lines().find(|line| line.starts_with(kind)).expect("a line for each kind").to_owned()
    }
}

#[test]
fn what_is_enabled_is_listed_until_it_is_disabled() {
    let root = Root::new();
    let before = root.front_end.picture();
    assert!(root.listed("fs").contains("not enabled") && root.listed("fs").contains("stock"));
    root.does("enable", &["fs", "dev"]);
    holds_our_drivers(&root.datastores().join("dev"));
    assert_eq!(fs::read_to_string(root.list()).unwrap(), "fs\ndev\n");
    assert!(root.listed("dev").ends_with("in place"), "{}", root.listed("dev"));
    assert!(root.listed("lvm").ends_with("absent"), "{}", root.listed("lvm"));
    root.does("enable", &["fs"]);
    assert_eq!(fs::read_to_string(root.list()).unwrap(), "fs\ndev\n", "listed once");
    root.does("disable", &["fs", "dev"]);
    fs::remove_dir_all(root.root.join("etc")).unwrap();
    assert!(root.front_end.picture() == before);
}

#[test]
fn a_kind_that_is_not_enabled_is_left_alone() {
    let root = Root::new();
    let before = root.front_end.picture();
    let said = root.does("disable", &["dev"]);
    assert!(said.contains("nothing to do: no ferrostore drivers in"), "{said}");
    assert!(root.front_end.picture() == before);
}

#[test]
fn what_is_no_kind_no_name_or_no_list_is_refused_in_one_line() {
    let root = Root::new();
    let before = root.front_end.picture();
    for (arguments, words) in [
        (&["floppy"][..], "\"floppy\" is no kind of datastore"),
        (&["--name", "a b", "fs"], "can't be the name of a DS_MAD"),
        (&["--name", "x", "fs", "dev"], "--name is for one kind"),
        (&["--all", "fs"], "cannot be used with"),
    ] {
        let why = root.refuses("enable", arguments);
        assert!(why.contains(words), "{why}");
        assert!(root.front_end.picture() == before);
    }
    fs::create_dir_all(root.list().parent().unwrap()).unwrap();
    fs::write(root.list(), "# ours\nfs and more of it\n").unwrap();
    for subcommand in ["enable", "disable"] {
        let why = root.refuses(subcommand, &["--all"]);
        assert!(why.contains("line 2 of ") && why.contains("KIND NAME"), "{why}");
    }
}

#[test]
fn scripts_that_came_back_and_changed_drivers_are_named_and_mended() {
    let root = Root::new();
    root.does("enable", &["fs"]);
    let fs_directory = root.datastores().join("fs");
    write_script(fs_directory.join("cp"), "echo newer stock");
    let rm = fs_directory.join("rm");
    let mut changed = fs::read(&rm).unwrap();
    changed.push(0);
    fs::write(&rm, changed).unwrap();
    fs::remove_file(fs_directory.join("stat")).unwrap();
    let line = root.listed("fs");
    for words in ["incomplete", "cp not ferrostore's", "rm not as in the package", "stat missing"] {
        assert!(line.contains(words), "{line}");
    }
    root.does("enable", &["--all"]);
    holds_our_drivers(&fs_directory);
    assert!(root.listed("fs").ends_with("in place"));
    root.does("disable", &["fs"]);
    let cp = fs::read_to_string(fs_directory.join("cp")).unwrap();
    assert_eq!(cp, "#!/bin/bash\necho newer stock\n");
}

#[test]
fn a_newer_opennebula_than_tested_is_warned_of() {
    let root = Root::new();
    root.set_version("99.1.0");
    let said = root.does("enable", &["fs"]);
    assert!(
        said.starts_with("warning: OpenNebula 99.1.0 is newer than") && said.contains("--name"),
        "{said}"
    );
    holds_our_drivers(&root.datastores().join("fs"));
}

#[test]
fn remotes_that_are_read_only_are_named() {
    let root = Root::new();
    root.does("enable", &["fs"]);
    let before = root.front_end.picture();
    for (subcommand, kind) in [("enable", "dev"), ("disable", "fs")] {
        let inner = root.command(subcommand, &[kind]);
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-ec"])
            .arg("mount --bind \"$0\" \"$0\"; mount -o remount,bind,ro \"$0\"; exec \"$@\"")
            .arg(root.datastores())
            .arg(inner.get_program())
            .args(inner.get_args())
            .env_remove("ONE_LOCATION")
            .env("TMPDIR", root.front_end.temporary());
        let why = fails(&mut command);
        assert!(why.contains("mounted read-only") && why.contains("read-write"), "{why}");
        assert_eq!(why.lines().count(), 1, "{why}");
        assert!(root.front_end.picture() == before, "{subcommand} has changed something");
    }
}

#[test]
fn a_command_that_was_killed_is_finished_by_the_next_one() {
    let root = Root::new();
    let before = root.front_end.picture();
    for milliseconds in [5, 20, 60, 150, 300, 600, 900, 1200, 1500] {
        for subcommand in ["enable", "disable"] {
            let mut child = root.command(subcommand, &["fs"]).spawn().unwrap();
            thread::sleep(Duration::from_millis(milliseconds));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        root.does("enable", &["fs"]);
        holds_our_drivers(&root.datastores().join("fs"));
        root.does("disable", &["fs"]);
        fs::remove_dir_all(root.root.join("etc")).unwrap();
        assert!(root.front_end.picture() == before, "killed after {milliseconds} ms");
    }
}

#[test]
fn without_the_package_s_drivers_nothing_is_done() {
    let root = Root::new();
    let package = root.root.join("usr/lib/ferrostore");
    fs::remove_file(&package).unwrap();
    let before = root.front_end.picture();
    let why = root.refuses("enable", &["fs"]);
    assert!(
        why.contains("usr/lib/ferrostore/cp is missing: install the ferrostore package"),
        "{why}"
    );
    assert!(root.front_end.picture() == before);
}
