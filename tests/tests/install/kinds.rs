//! Kinds of datastores other than `fs`.

use crate::front_end::{FrontEnd, holds_our_drivers, succeeds};
use ferrostore_tests::{Cloud, Rule};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The kinds that can be installed, by the words of the refusal.
fn known(front_end: &FrontEnd) -> Vec<String> {
    let why = front_end.refuses(&["--kind", "punched-cards"]);
    let list = why.trim().rsplit_once("one of ").expect("a list").1;
    list.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_kinds_are_those_of_the_drivers() {
    let cloud = Cloud::new();
    let line = cloud
        .monitor()
        .set("DATASTORE/DS_MAD", "punched-cards")
        .run()
        .refused(Rule::UnknownDriver)
        .text;
    let list = line.split_once("one of ").and_then(|(_, rest)| rest.split_once(", or ")).unwrap().0;
    assert_eq!(known(&FrontEnd::bare()).join(", "), list);
}

#[test]
fn every_kind_takes_the_place_of_its_stock_drivers_and_gives_it_back() {
    let front_end = FrontEnd::new();
    let before = front_end.picture();
    for kind in known(&front_end) {
        println!("{kind}");
        let said = front_end.install(&["--kind", &kind]);
        assert!(said.ends_with("done\n"), "{said}");
        holds_our_drivers(&front_end.datastores().join(&kind));
        assert!(!front_end.conf(&kind).exists(), "its name says its kind");
        front_end.install(&["--uninstall", "--kind", &kind]);
        assert_eq!(front_end.picture(), before);
    }
}

#[test]
fn every_kind_can_have_a_name_of_its_own() {
    let front_end = FrontEnd::new();
    for kind in known(&front_end) {
        let name = format!("my-{kind}");
        let said = front_end.install(&["--name", &name, "--kind", &kind]);
        holds_our_drivers(&front_end.datastores().join(&name));
        assert_eq!(fs::read_to_string(front_end.conf(&name)).unwrap(), format!("KIND={kind}\n"));
        assert!(said.contains(&format!("-d dummy,fs,dev,ceph,{name} -s")), "{said}");
        assert!(said.contains(&format!("DS_MAD_CONF = [\n    NAME = \"{name}\", ")), "{said}");
        front_end.install(&["--uninstall", "--name", &name, "--kind", &kind]);
        assert!(!front_end.conf(&name).exists() && !front_end.datastores().join(&name).exists());
    }
}

#[test]
fn the_name_of_a_kind_means_that_kind() {
    let front_end = FrontEnd::new();
    front_end.install(&["--name", "dev"]);
    holds_our_drivers(&front_end.datastores().join("dev"));
    assert!(front_end.datastores().join("dev.stock/cp").exists());
    assert!(!front_end.conf("dev").exists());
    assert!(!front_end.stock().exists(), "fs was not asked for");
}

#[test]
fn several_kinds_are_installed_in_one_go() {
    let front_end = FrontEnd::new();
    let before = front_end.picture();
    let said = front_end.install(&["--kind", "fs,dev", "--kind=virtiofs"]);
    for kind in ["fs", "dev", "virtiofs"] {
        holds_our_drivers(&front_end.datastores().join(kind));
    }
    assert_eq!(said.matches("DATASTORE_MAD = [").count(), 1, "{said}");
    assert_eq!(front_end.install(&["--kind", "fs,dev,virtiofs"]), without_kept(&said));
    front_end.install(&["--uninstall", "--kind", "fs,dev,virtiofs"]);
    assert_eq!(front_end.picture(), before);
}

fn without_kept(said: &str) -> String {
    said.split_inclusive('\n').filter(|line| !line.starts_with("kept")).collect()
}

#[test]
fn oned_conf_gets_what_each_kind_needs_and_nothing_that_it_has() {
    let front_end = FrontEnd::new();
    let said = front_end.install(&["--kind", "dev"]);
    assert!(said.contains("has all that it needs for DS_MAD dev"), "{said}");
    assert!(!said.contains("DS_MAD_CONF"), "{said}");
    let said = front_end.install(&["--kind", "dev,iscsi_libvirt,virtiofs,dummy"]);
    for lines in [
        "    ARGUMENTS  = \"-t 20 -d dummy,fs,dev,ceph,iscsi_libvirt,virtiofs -s shared,ssh\"\n]\n",
        "\nDS_MAD_CONF = [\n    NAME = \"iscsi_libvirt\", REQUIRED_ATTRS = \"DISK_TYPE,ISCSI_HOST\", PERSISTENT_ONLY = \"YES\"\n]\n",
        "\nDS_MAD_CONF = [\n    NAME = \"virtiofs\", REQUIRED_ATTRS = \"\", PERSISTENT_ONLY = \"NO\",\n    DATASTORE_CAPACITY_CHECK = \"NO\"\n]\n",
        "\nDS_MAD_CONF = [\n    NAME = \"dummy\", REQUIRED_ATTRS = \"\", PERSISTENT_ONLY = \"NO\"\n]\n",
    ] {
        assert!(said.contains(lines), "{lines} is missing in:\n{said}");
    }
    assert_eq!(said.matches("DS_MAD_CONF = [").count(), 3, "{said}");
}

#[test]
fn sudo_gets_what_lvm_runs_as_root_and_other_kinds_nothing() {
    let front_end = FrontEnd::new();
    let said = front_end.install(&["--kind", "fs,dev,iscsi_libvirt,virtiofs,dummy"]);
    assert!(!said.contains("NOPASSWD"), "{said}");
    let said = front_end.install(&["--kind", "lvm"]);
    let line = said.lines().find(|line| line.contains("NOPASSWD")).expect("a line for sudo");
    let programs = line.strip_prefix("oneadmin ALL=(root) NOPASSWD: ").expect("its form");
    let names: Vec<_> =
        programs.split(", ").map(|path| path.rsplit_once("bin/").expect("a path").1).collect();
    let listed = ["lvcreate", "lvremove", "lvchange", "lvextend", "lvs", "vgdisplay"];
    assert_eq!(names, [&listed[..], &["lvrename", "dmsetup"]].concat());
}

#[test]
fn what_the_transfer_drivers_of_ceph_read_stays_where_it_is() {
    let front_end = FrontEnd::new();
    let utils = front_end.datastores().join("ceph/ceph_utils.sh");
    let conf = front_end.conf("ceph");
    let said = front_end.install(&["--kind", "ceph"]);
    for file in [&utils, &conf] {
        assert!(said.contains(&format!("{} is missing", file.display())), "{said}");
    }
    fs::write(&utils, "rbd_find_snap() { :; }\n").unwrap();
    fs::create_dir_all(conf.parent().unwrap()).unwrap();
    fs::write(&conf, "POOL_NAME=one\nRBD_FORMAT=2\n").unwrap();
    let said = front_end.install(&["--kind", "ceph"]);
    assert!(said.contains("mon 'profile rbd' osd 'profile rbd pool=one'"), "{said}");
    assert!(said.contains("sudo needs nothing") && !said.contains("is missing, which"), "{said}");
    front_end.install(&["--uninstall", "--kind", "ceph"]);
    for (file, text) in [(&utils, "rbd_find_snap"), (&conf, "RBD_FORMAT=2")] {
        assert!(fs::read_to_string(file).unwrap().contains(text), "{}", file.display());
    }
}

#[test]
fn a_dry_run_of_several_kinds_changes_nothing() {
    let front_end = FrontEnd::new();
    let before = front_end.picture();
    let said = front_end.install(&["--dry-run", "--kind", "fs,dev,dummy"]);
    assert_eq!(said.matches("would put the ten drivers").count(), 3, "{said}");
    assert!(said.ends_with("nothing was changed\n"), "{said}");
    assert_eq!(front_end.picture(), before);
}

#[test]
fn wrong_kinds_are_refused_before_anything_is_done() {
    let front_end = FrontEnd::new();
    let before = front_end.picture();
    for (arguments, words) in [
        (&["--kind", "netapp"][..], "\"netapp\" is no kind"),
        (&["--kind", "fs,nothing"], "\"nothing\" is no kind"),
        (&["--kind", ""], "--kind needs a value"),
        (&["--kind", "dev,fs", "--name", "mine"], "--name is for one kind"),
        (&["--kind", "fs", "--name", "dev"], "not ferrostore's"),
    ] {
        let why = front_end.refuses(arguments);
        assert!(why.contains(words), "{why}");
        assert_eq!(front_end.picture(), before);
    }
    let folder = front_end.conf("dev");
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    fs::write(&folder, "KIND=fs\n").unwrap();
    let why = front_end.refuses(&["--kind", "dev"]);
    assert!(why.contains("sets another KIND than dev"), "{why}");
}

#[test]
fn a_kind_that_fails_its_self_test_never_reaches_oned() {
    for (kind, action, script, words) in [
        ("dev", "monitor", "cat >/dev/null; echo USED_MB=1", "monitor replied 'USED_MB=1'"),
        ("dev", "stat", "cat >/dev/null; echo 0", "stat replied '0'"),
        ("iscsi_libvirt", "stat", "cat >/dev/null; echo 7", "stat replied '7'"),
        ("virtiofs", "stat", "cat >/dev/null; echo no >&2; exit 1", "stat failed: no"),
        ("dummy", "stat", "cat >/dev/null; exit 0", "stat replied ''"),
    ] {
        let front_end = FrontEnd::new();
        let before = front_end.picture();
        front_end.break_driver(action, script);
        let why = front_end.refuses(&["--kind", kind]);
        assert!(why.contains(&format!("self-test: {words}")), "{kind}: {why}");
        assert_eq!(front_end.picture(), before);
    }
}

#[test]
fn what_one_kind_can_t_have_leaves_the_others() {
    let front_end = FrontEnd::new();
    fs::remove_file(front_end.datastores().join("dev/rm")).unwrap();
    fs::create_dir(front_end.datastores().join("dev/rm")).unwrap();
    let why = front_end.refuses(&["--kind", "fs,dev"]);
    assert!(why.contains("dev/rm is a directory"), "{why}");
    holds_our_drivers(&front_end.fs());
    assert!(front_end.datastores().join("dev/rm").is_dir());
    assert!(!front_end.datastores().join("dev.stock").exists());
}

#[test]
fn an_installed_kind_serves_its_datastore() {
    let front_end = FrontEnd::new();
    front_end.install(&["--kind", "dev", "--name", "san"]);
    let cloud = Cloud::new();
    let message = cloud.monitor().set("DATASTORE/DS_MAD", "san").message().xml();
    let file = cloud.root().join("message.xml");
    fs::write(&file, message).unwrap();
    let mut driver = Command::new(front_end.datastores().join("san/monitor"));
    driver.arg("--message").arg(&file).env("ONE_LOCATION", front_end.one());
    assert_eq!(succeeds(&mut driver), "USED_MB=0\nTOTAL_MB=1\nFREE_MB=1\n");
}

#[test]
fn a_prefix_takes_other_kinds_too() {
    let front_end = FrontEnd::bare();
    let prefix = front_end.world.path().join("package");
    let mut script = front_end.script(&["--prefix", prefix.to_str().unwrap(), "--kind", "dev,fs"]);
    succeeds(script.env_remove("ONE_LOCATION"));
    for kind in ["dev", "fs"] {
        holds_our_drivers(&Path::new(&prefix).join("var/lib/one/remotes/datastore").join(kind));
    }
}
