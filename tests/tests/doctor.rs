//! `ferrostore doctor` on a self-contained front-end that the test makes, good and damaged.

use ferrostore_tests::docs::{codes, named_in};
use ferrostore_tests::{ACTIONS, Oned, SshHost, executable, write_script};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const GOOD: &str = "DATASTORE_MAD = [ EXECUTABLE = \"one_datastore\", ARGUMENTS = \"-t 15 -d dummy,fs,dev -s shared,ssh\" ]\n\
    DS_MAD_CONF = [ NAME = \"fs\", REQUIRED_ATTRS = \"\" ]\n\
    TM_MAD_CONF = [ NAME = \"ssh\", LN_TARGET = \"SYSTEM\" ]\n";

/// A front-end on which `fs` is enabled. The drivers are names of drivers only: nothing runs them.
struct FrontEnd {
    world: TempDir,
    oned: Oned,
}

impl FrontEnd {
    fn new() -> Self {
        let world = tempfile::Builder::new().prefix("ferrostore-doctor.").tempdir_in("/var/tmp");
        let front_end = Self { world: world.unwrap(), oned: Oned::listing(&[]) };
        for directory in [front_end.drivers(), front_end.fs()] {
            fs::create_dir_all(&directory).unwrap();
            for name in ACTIONS {
                fs::write(directory.join(name), driver(name)).unwrap();
            }
        }
        front_end.write("var/remotes/VERSION", "7.0.1\n");
        front_end.write("etc/ferrostore/enabled", "fs\n");
        front_end.write("etc/oned.conf", GOOD);
        front_end.write(
            "var/remotes/etc/datastore/datastore.conf",
            "LOCK_WAIT=60\nFS_OPTS_ext4=\"-F\"\n",
        );
        fs::create_dir_all(front_end.one().join("var/datastores/1")).unwrap();
        front_end.oned.document("one.system.version", "7.0.1");
        front_end.know("ssh", "", &[]);
        front_end
    }

    fn one(&self) -> PathBuf {
        self.world.path().join("one")
    }

    fn drivers(&self) -> PathBuf {
        self.world.path().join("drivers")
    }

    fn fs(&self) -> PathBuf {
        self.one().join("var/remotes/datastore/fs")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.one().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Datastores that oned knows, and the front-ends of its zone.
    fn know(&self, tm_mad: &str, bridges: &str, front_ends: &[&str]) {
        self.oned.document(
            "one.datastorepool.info",
            &format!(
                "<DATASTORE_POOL><DATASTORE><ID>1</ID><NAME>default</NAME><DS_MAD>fs</DS_MAD><TM_MAD>{tm_mad}</TM_MAD>\
                 <BASE_PATH>{}/var/datastores/1</BASE_PATH><TYPE>0</TYPE><TEMPLATE><BRIDGE_LIST>{bridges}</BRIDGE_LIST>\
                 </TEMPLATE></DATASTORE></DATASTORE_POOL>",
                self.one().display()
            ),
        );
        let server = |name: &&str| {
            format!(
                "<SERVER><ID>0</ID><NAME>{name}</NAME><ENDPOINT>http://{name}:2633/RPC2</ENDPOINT></SERVER>"
            )
        };
        let servers: String = front_ends.iter().map(server).collect();
        self.oned.document(
            "one.zone.info",
            &format!("<ZONE><ID>0</ID><SERVER_POOL>{servers}</SERVER_POOL></ZONE>"),
        );
    }

    fn doctor(&self, under: Vec<OsString>, arguments: &[&str]) -> Report {
        let before = picture(self.world.path());
        let mut words = under;
        words.push(executable("ferrostore").into());
        words.push("doctor".into());
        let output = Command::new(&words[0])
            .args(&words[1..])
            .args(arguments)
            .arg("--drivers")
            .arg(self.drivers())
            .env("ONE_LOCATION", self.one())
            .envs(self.oned.environment())
            .output()
            .unwrap();
        assert_eq!(picture(self.world.path()), before, "the doctor only reads");
        Report {
            code: output.status.code().unwrap(),
            text: String::from_utf8(output.stdout).unwrap(),
            error: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn report(&self) -> Report {
        self.doctor(Vec::new(), &["--no-ssh"])
    }

    /// Checks that the doctor finds this, with this remedy, and says so by its exit code.
    #[track_caller]
    fn finds(&self, verdict: &str, text: &str, remedy: &str) {
        let report = self.report();
        report.says(verdict, text, remedy);
        assert_eq!(report.code, if verdict == "problem" { 3 } else { 2 }, "{}", report.text);
    }
}

struct Report {
    code: i32,
    text: String,
    error: String,
}

impl Report {
    #[track_caller]
    fn says(&self, verdict: &str, text: &str, remedy: &str) {
        let line = self.text.lines().find(|line| line.starts_with(verdict) && line.contains(text));
        let line = line.unwrap_or_else(|| {
            panic!("{verdict}: {text} should be in\n{}{}", self.text, self.error)
        });
        if !remedy.is_empty() {
            let told = line.split("; repair: ").nth(1).unwrap_or_default();
            assert!(told.contains(remedy), "{remedy} should repair {line}");
        }
    }
}

fn driver(name: &str) -> Vec<u8> {
    format!("\u{7f}ELF ferrostore {name} GLIBC_2.17\0GLIBC_2.28\0 and more").into_bytes()
}

fn picture(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut picture = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            picture.extend(self::picture(&path));
        }
        let content = fs::read(&path).unwrap_or_default();
        picture.insert(path, content);
    }
    picture
}

#[test]
fn a_good_installation_has_no_problem() {
    let front_end = FrontEnd::new();
    front_end.know("ssh", "", &[]);
    let report = front_end.report();
    for (text, topic) in [
        ("version 7.0.1", "opennebula"),
        ("as in the package", "drivers"),
        ("has all that the enabled kinds need", "oned.conf"),
        ("all settings are known and valid", "settings"),
        ("answers at", "oned"),
    ] {
        report.says("ok", text, "");
        assert!(report.text.contains(topic), "{}", report.text);
    }
    assert!(!report.text.contains("problem") && report.code != 3, "{}", report.text);
}

#[test]
fn a_program_gets_one_object_a_line() {
    let front_end = FrontEnd::new();
    let report = front_end.doctor(Vec::new(), &["--json", "--no-ssh"]);
    for line in report.text.lines() {
        let finding: Value = serde_json::from_str(line).unwrap();
        let verdict = finding["verdict"].as_str().unwrap();
        assert!(["ok", "warning", "problem"].contains(&verdict), "{line}");
        assert_eq!(finding["remedy"].as_str().unwrap().is_empty(), verdict == "ok", "{line}");
        assert!(finding["topic"].is_string() && finding["text"].is_string(), "{line}");
    }
}

#[test]
fn without_opennebula_it_says_where_it_looked() {
    let front_end = FrontEnd::new();
    fs::remove_dir_all(front_end.one().join("var")).unwrap();
    front_end.finds("problem", "no OpenNebula here", "ONE_LOCATION");
}

#[test]
fn drivers_that_are_not_the_package_s_are_named() {
    let front_end = FrontEnd::new();
    fs::write(front_end.fs().join("rm"), [driver("rm"), b"by hand".to_vec()].concat()).unwrap();
    front_end.finds("warning", "rm not as in the package", "ferrostore enable fs");
    write_script(front_end.fs().join("cp"), "echo stock");
    front_end.finds(
        "problem",
        "cp not ferrostore's: OpenNebula's own scripts have come back",
        "ferrostore enable fs",
    );
    front_end.write("etc/ferrostore/enabled", "");
    front_end.report().says(
        "warning",
        "in place, but not listed as enabled",
        "ferrostore enable fs",
    );
    front_end.write("etc/ferrostore/enabled", "fs\nnonsense\n");
    front_end.finds("problem", "line 2 of ", "correct that line");
}

#[test]
fn a_newer_opennebula_than_tested_is_named() {
    let front_end = FrontEnd::new();
    front_end.write("var/remotes/VERSION", "99.0.0");
    front_end.finds("warning", "version 99.0.0 is newer than", "--name ferro fs");
    let report = front_end.report().text;
    let newest = report.split("is newer than ").nth(1).unwrap().split(',').next().unwrap();
    let page =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/versions.md")).unwrap();
    assert!(
        page.contains(&format!("| newer than {newest} | not yet |")),
        "docs/versions.md and {newest}"
    );
}

#[test]
fn what_oned_conf_lacks_or_has_twice_is_named() {
    for (good, bad, text, remedy) in [
        ("dummy,fs,dev", "dummy,dev", "does not name fs after -d", "-d dummy,dev,fs -s shared,ssh"),
        ("dummy,fs,dev", "dummy,fs,fs", "names fs twice after -d", "take one of them out"),
        ("-s shared,ssh", "-s ssh,ssh", "names ssh twice after -s", "take one of them out"),
        (
            "NAME = \"fs\"",
            "NAME = \"x\"",
            "no DS_MAD_CONF with NAME \"fs\"",
            "DS_MAD_CONF = [ NAME = \"fs\"",
        ),
        ("NAME = \"ssh\"", "NAME = \"x\"", "none of the transfer drivers of fs", "TM_MAD_CONF"),
        ("DATASTORE_MAD", "IMAGE_MAD", "has no DATASTORE_MAD", "DATASTORE_MAD = [ EXECUTABLE"),
    ] {
        let front_end = FrontEnd::new();
        front_end.write("etc/oned.conf", &GOOD.replace(good, bad));
        front_end.finds("problem", text, remedy);
    }
    let front_end = FrontEnd::new();
    let twice = "DS_MAD_CONF = [ NAME = \"fs\" ]\n";
    front_end.write("etc/oned.conf", &(GOOD.to_owned() + twice));
    front_end.finds(
        "problem",
        "there are two DS_MAD_CONF with NAME \"fs\"",
        "take one of them out",
    );
    fs::remove_file(front_end.one().join("etc/oned.conf")).unwrap();
    front_end.report().says("warning", "oned.conf can't be read", "as root or oneadmin");
}

#[test]
fn settings_that_are_ignored_or_not_valid_are_named() {
    let front_end = FrontEnd::new();
    let conf = "var/remotes/etc/datastore/datastore.conf";
    front_end.write(conf, "LOCK_WAITS=60\n");
    front_end.finds("warning", "line 1 of", "LOCK_WAIT");
    front_end.write(conf, "LOCK_WAIT=soon\n");
    front_end.finds("problem", "LOCK_WAIT=soon", "correct it in");
}

#[test]
fn the_known_settings_are_those_of_the_reference() {
    let front_end = FrontEnd::new();
    let page =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference.md")).unwrap();
    let rows = page.lines().filter(|line| line.contains("| `datastore.conf` |"));
    let keys: Vec<String> = rows.flat_map(|row| codes(row.split('|').nth(1).unwrap())).collect();
    assert!(keys.len() > 5 && !named_in("docs/reference.md", "## Settings").is_empty());
    for key in keys {
        let key = key.replace("<fs>", "ext4");
        front_end.write("var/remotes/etc/datastore/datastore.conf", &format!("{key}=\n"));
        let report = front_end.report();
        assert!(
            !report.text.contains(&format!("{key} is a setting of no driver")),
            "{}",
            report.text
        );
    }
}

#[test]
fn a_kind_that_needs_root_and_a_group_is_told_so() {
    let front_end = FrontEnd::new();
    front_end.write("etc/ferrostore/enabled", "fs\nlvm\n");
    let report = front_end.report();
    report.says("problem", "does not name lvm after -d", "fs,dev,lvm");
    report.says("problem", "lvm: cp mkfs", "ferrostore enable lvm");
}

#[test]
fn a_datastore_whose_directory_or_transfer_driver_is_wrong_is_named() {
    let front_end = FrontEnd::new();
    front_end.know("qcow2", "", &[]);
    front_end.finds("problem", "no TM_MAD_CONF with NAME \"qcow2\"", "TM_MAD_CONF");
    let directory = front_end.one().join("var/datastores/1");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o500)).unwrap();
    let report = front_end.report();
    assert!(
        report.text.contains("its owner may not write there")
            || report.text.contains("not to oneadmin"),
        "{}",
        report.text
    );
    fs::remove_dir(&directory).unwrap();
    fs::write(&directory, "").unwrap();
    front_end.finds("problem", "is no directory", "move it away");
}

#[test]
fn an_oned_that_does_not_answer_is_named() {
    let mut front_end = FrontEnd::new();
    front_end.oned = Oned::answering(ferrostore_tests::Answer::Refusal);
    front_end.finds(
        "warning",
        "datastores, other front-ends and bridge hosts are not checked",
        "systemctl start opennebula",
    );
}

#[test]
fn other_machines_are_asked_over_ssh() {
    let host = SshHost::new();
    let front_end = FrontEnd::new();
    front_end.know("ssh", "elsewhere", &["localhost", "elsewhere", "no-such-host.invalid"]);
    let synced = front_end.world.path().join("synced");
    let conf = format!("{GOOD}SCRIPTS_REMOTE_DIR = \"{}\"\n", synced.display());
    front_end.write("etc/oned.conf", &conf);
    let report = front_end.doctor(host.neighbour(), &[]);
    report.says("ok", "elsewhere has the same drivers", "");
    report.says("warning", "no-such-host.invalid can't be asked", "ssh no-such-host.invalid true");
    report.says(
        "warning",
        "elsewhere has other drivers than the front-end",
        "onehost sync --force",
    );
    let copy = synced.join("datastore/fs");
    fs::create_dir_all(&copy).unwrap();
    for name in ACTIONS {
        fs::copy(front_end.fs().join(name), copy.join(name)).unwrap();
    }
    let report = front_end.doctor(host.neighbour(), &[]);
    assert!(!report.text.contains("onehost sync"), "{}", report.text);
    let newer = String::from_utf8(driver("cp")).unwrap().replace("GLIBC_2.28", "GLIBC_9.9");
    fs::write(front_end.fs().join("cp"), newer).unwrap();
    let report = front_end.doctor(host.neighbour(), &[]);
    report.says("problem", "and the drivers need 9.9", "glibc 2.28");
}
