//! `install.sh`, run against throw-away front-ends with stock scripts in them.

mod command;
mod front_end;
mod kinds;

use ferrostore_tests::{ACTIONS, Cloud, executable, write_script};
use front_end::{FrontEnd, REPOSITORY, built_names, fails, holds_our_drivers, succeeds};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;

const NOBODY: u32 = 65534;

#[test]
fn puts_ten_drivers_in_place_and_keeps_the_stock_scripts() {
    let front_end = FrontEnd::new();
    let export = fs::read_link(front_end.fs().join("export")).unwrap();
    let said = front_end.install(&[]);
    assert!(said.ends_with("done\n"), "{said}");
    holds_our_drivers(&front_end.fs());
    for action in ACTIONS.iter().filter(|action| **action != "export") {
        assert_eq!(
            fs::read_to_string(front_end.stock().join(action)).unwrap(),
            format!("#!/bin/bash\necho stock fs {action}\n")
        );
    }
    assert_eq!(fs::read_link(front_end.stock().join("export")).unwrap(), export);
}

#[test]
fn touches_nothing_but_its_own_files_and_the_stock_copy() {
    let front_end = FrontEnd::new();
    let before = front_end.picture();
    front_end.install(&[]);
    let is_ours = |path: &str| {
        let path = Path::new(path);
        path.starts_with(front_end.stock())
            || (path.parent() == Some(&front_end.fs())
                && built_names().any(|name| path.ends_with(name)))
    };
    let without_ours = |picture: BTreeMap<String, String>| -> BTreeMap<String, String> {
        picture.into_iter().filter(|(path, _)| !is_ours(path)).collect()
    };
    assert_eq!(without_ours(front_end.picture()), without_ours(before));
}

#[test]
fn a_second_run_leaves_the_same_picture() {
    let front_end = FrontEnd::new();
    front_end.install(&[]);
    let inode = fs::metadata(front_end.stock()).unwrap().ino();
    let names = |picture: BTreeMap<String, String>| picture.into_keys().collect::<Vec<_>>();
    let before = names(front_end.picture());
    front_end.install(&[]);
    assert_eq!(names(front_end.picture()), before);
    assert_eq!(fs::metadata(front_end.stock()).unwrap().ino(), inode);
    holds_our_drivers(&front_end.fs());
}

#[test]
fn never_overwrites_the_first_copy_when_an_upgrade_brings_new_scripts() {
    let front_end = FrontEnd::new();
    front_end.install(&[]);
    write_script(front_end.fs().join("cp"), "echo newer stock");
    front_end.install(&[]);
    holds_our_drivers(&front_end.fs());
    let kept =
        |folder: &str| fs::read_to_string(front_end.datastores().join(folder).join("cp")).unwrap();
    assert_eq!(kept("fs.stock"), "#!/bin/bash\necho stock fs cp\n");
    assert_eq!(kept("fs.stock.2"), "#!/bin/bash\necho newer stock\n");
    front_end.install(&["--uninstall"]);
    assert_eq!(kept("fs"), "#!/bin/bash\necho newer stock\n");
    let mkfs = fs::read_to_string(front_end.fs().join("mkfs")).unwrap();
    assert_eq!(mkfs, "#!/bin/bash\necho stock fs mkfs\n");
}

#[test]
fn uninstall_restores_every_byte() {
    let front_end = FrontEnd::new();
    let before = front_end.picture();
    front_end.install(&[]);
    assert_ne!(front_end.picture(), before);
    front_end.install(&["--uninstall"]);
    assert_eq!(front_end.picture(), before);
    let said = front_end.install(&["--uninstall"]);
    assert!(said.contains("nothing to do"), "{said}");
    assert_eq!(front_end.picture(), before);
}

#[test]
fn what_is_run_by_hand_stands_beside_the_drivers_and_goes_with_them() {
    let front_end = FrontEnd::new();
    let fsck = front_end.fs().join("fsck");
    for name in ["fs", "rust"] {
        front_end.install(&["--name", name]);
        let beside = front_end.datastores().join(name).join("fsck");
        let cloud = Cloud::new();
        let verdict = succeeds(Command::new(&beside).arg(cloud.datastore()));
        assert_eq!(verdict, "0 images, 0 problems\n");
        let ferrostore = beside.with_file_name("ferrostore");
        succeeds(Command::new(&ferrostore).arg("--version"));
        front_end.install(&["--uninstall", "--name", name]);
        assert!(!beside.exists() && !ferrostore.exists());
    }
    // One that another installer put there stays.
    write_script(&fsck, "echo mine");
    front_end.install(&[]);
    front_end.install(&["--uninstall"]);
    assert_eq!(fs::read_to_string(&fsck).unwrap(), "#!/bin/bash\necho mine\n");
}

#[test]
fn uninstall_tells_of_deleted_images_that_are_kept() {
    let front_end = FrontEnd::new();
    front_end.install(&[]);
    assert!(!front_end.install(&["--uninstall"]).contains("deleted images"));
    front_end.install(&[]);
    let trash = front_end.one().join("var/datastores/104/.ferrostore-trash");
    for entry in ["1.2.3.a", "2.2.3.b"] {
        fs::create_dir_all(trash.join(entry)).unwrap();
    }
    let said = front_end.install(&["--uninstall"]);
    assert!(said.contains(&format!("{} keeps deleted images: 2", trash.display())), "{said}");
    assert!(said.contains("ferrostore trash") && said.ends_with("done\n"), "{said}");
    assert!(trash.join("1.2.3.a").exists());
}

#[test]
fn uninstall_leaves_scripts_that_an_upgrade_brought() {
    let front_end = FrontEnd::new();
    front_end.install(&[]);
    write_script(front_end.fs().join("cp"), "echo newer stock");
    front_end.install(&["--uninstall"]);
    let cp = fs::read_to_string(front_end.fs().join("cp")).unwrap();
    assert_eq!(cp, "#!/bin/bash\necho newer stock\n");
}

#[test]
fn a_dry_run_changes_nothing() {
    let front_end = FrontEnd::new();
    let before = front_end.picture();
    for arguments in [&["--dry-run"][..], &["--dry-run", "--name", "rust"]] {
        let said = front_end.install(arguments);
        assert!(said.contains("would put the ten drivers"), "{said}");
        assert_eq!(front_end.picture(), before);
    }
    front_end.install(&[]);
    let installed = front_end.picture();
    let said = front_end.install(&["--dry-run", "--uninstall"]);
    assert!(said.contains("would take out"), "{said}");
    assert_eq!(front_end.picture(), installed);
}

#[test]
fn a_name_of_its_own_gets_a_kind_and_the_lines_for_oned_conf() {
    let front_end = FrontEnd::new();
    let before = front_end.picture();
    let said = front_end.install(&["--name", "rust"]);
    holds_our_drivers(&front_end.datastores().join("rust"));
    assert_eq!(fs::read_to_string(front_end.conf("rust")).unwrap(), "KIND=fs\n");
    for line in [
        "    ARGUMENTS  = \"-t 20 -d dummy,fs,dev,ceph,rust -s shared,ssh\"\n",
        "    NAME = \"rust\", REQUIRED_ATTRS = \"\", PERSISTENT_ONLY = \"NO\",\n",
        "    MARKETPLACE_ACTIONS = \"export\"\n",
    ] {
        assert!(said.contains(line), "{line} is missing in:\n{said}");
    }
    assert!(!front_end.stock().exists());
    assert_eq!(front_end.install(&["--name", "rust"]), said.replace(&wrote(&said), ""));
    front_end.install(&["--uninstall", "--name", "rust"]);
    let mut after = front_end.picture();
    // The empty folders above NAME may stay; nothing else may.
    after.retain(|path, _| !path.ends_with("remotes/etc") && !path.ends_with("etc/datastore"));
    assert_eq!(after, before);
}

/// The line that says that a configuration file was written.
fn wrote(said: &str) -> String {
    said.lines().find(|line| line.starts_with("wrote")).map(|line| format!("{line}\n")).unwrap()
}

#[test]
fn a_driver_of_another_kind_is_never_replaced() {
    let front_end = FrontEnd::new();
    let before = front_end.picture();
    let why = front_end.refuses(&["--name", "netapp"]);
    assert!(why.contains("not ferrostore's") && why.contains("--name"), "{why}");
    assert_eq!(front_end.picture(), before);
}

#[test]
fn a_name_that_oned_could_not_use_is_refused() {
    let front_end = FrontEnd::new();
    let before = front_end.picture();
    for name in ["", "../fs", "a,b", "a b", ".hidden"] {
        front_end.refuses(&["--name", name]);
        assert_eq!(front_end.picture(), before);
    }
}

#[test]
fn a_driver_that_fails_its_self_test_never_reaches_oned() {
    for name in ["fs", "rust"] {
        let front_end = FrontEnd::new();
        let before = front_end.picture();
        front_end.break_driver("stat", "cat >/dev/null; echo 99");
        let why = front_end.refuses(&["--name", name]);
        assert!(why.contains("self-test: stat replied '99'"), "{why}");
        front_end.break_driver("monitor", "echo broken on purpose >&2; exit 1");
        let why = front_end.refuses(&["--name", name]);
        assert!(why.contains("self-test: monitor failed: broken on purpose"), "{why}");
        assert_eq!(front_end.picture(), before);
    }
}

#[test]
fn a_driver_that_fails_only_in_its_place_is_taken_back() {
    let front_end = FrontEnd::new();
    let real = executable("stat");
    front_end.break_driver(
        "stat",
        &format!("case $0 in */datastore/fs/*) exit 3;; esac\nexec {} \"$@\"", real.display()),
    );
    let before = front_end.picture();
    let why = front_end.refuses(&[]);
    assert!(why.contains("self-test: stat failed"), "{why}");
    assert_eq!(front_end.picture(), before);
}

#[test]
fn oned_never_meets_a_half_written_driver() {
    let front_end = FrontEnd::new();
    let driver = front_end.fs().join("stat");
    // A program, not a script: a shell opens its script a second time by name, so that it could
    // meet the next driver there without any fault of install.sh.
    fs::copy("/usr/bin/true", &driver).unwrap();
    thread::scope(|scope| {
        let installing = scope.spawn(|| {
            for _ in 0..3 {
                front_end.install(&[]);
                front_end.install(&["--uninstall"]);
            }
        });
        while !installing.is_finished() {
            succeeds(Command::new(&driver).arg("--version"));
        }
    });
}

#[test]
fn without_opennebula_it_says_where_it_looked() {
    let front_end = FrontEnd::bare();
    let why = front_end.refuses(&[]);
    assert!(why.contains("no OpenNebula here") && why.contains("ONE_LOCATION"), "{why}");
    assert!(!front_end.one().exists());
}

#[test]
fn a_prefix_is_filled_from_nothing() {
    let front_end = FrontEnd::bare();
    let prefix = front_end.world.path().join("package");
    let mut script = front_end.script(&["--prefix", prefix.to_str().unwrap()]);
    succeeds(script.env_remove("ONE_LOCATION"));
    let folder = prefix.join("var/lib/one/remotes/datastore/fs");
    holds_our_drivers(&folder);
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o755);
    let beside = fs::read_dir(folder.parent().unwrap()).unwrap().count();
    assert_eq!(beside, 1, "nothing but fs is in {}", folder.parent().unwrap().display());
}

#[test]
fn what_is_missing_is_named_with_a_remedy() {
    let front_end = FrontEnd::new();
    let tools = front_end.world.path().join("tools");
    fs::create_dir(&tools).unwrap();
    for tool in ["bash", "dirname", "env"] {
        symlink(format!("/usr/bin/{tool}"), tools.join(tool)).unwrap();
    }
    let before = front_end.picture();
    let mut script = Command::new("/usr/bin/bash");
    script.arg(format!("{REPOSITORY}/install.sh")).env("ONE_LOCATION", front_end.one());
    let why = fails(script.env("PATH", &tools));
    assert!(why.contains("no cargo") && why.contains("rustup.rs"), "{why}");

    fs::remove_file(front_end.built().join("rm")).unwrap();
    let why = front_end.refuses(&[]);
    assert!(why.contains("rm is missing: build with 'cargo build"), "{why}");
    assert_eq!(front_end.picture(), before);
}

#[test]
fn a_user_who_may_not_write_there_is_told_so() {
    let front_end = FrontEnd::new();
    let copy = front_end.world.path().join("install.sh");
    fs::copy(format!("{REPOSITORY}/install.sh"), &copy).unwrap();
    let before = front_end.picture();
    let mut script = Command::new(copy);
    script
        .arg("--no-build")
        .env("ONE_LOCATION", front_end.one())
        .env("CARGO_TARGET_DIR", front_end.world.path().join("target"))
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY);
    let why = fails(&mut script);
    assert!(why.contains("is not writable for nobody") && why.contains("sudo"), "{why}");
    assert_eq!(front_end.picture(), before);
}

#[test]
fn files_belong_to_oneadmin_where_that_user_exists() {
    let front_end = FrontEnd::new();
    let etc = front_end.world.path().join("etc");
    fs::create_dir(&etc).unwrap();
    let (users, groups) = (etc.join("passwd"), etc.join("group"));
    let line = "oneadmin:x:9869:9869::/var/lib/one:/bin/sh\n";
    fs::write(&users, fs::read_to_string("/etc/passwd").unwrap() + line).unwrap();
    let line = "oneadmin:x:9869:\n";
    fs::write(&groups, fs::read_to_string("/etc/group").unwrap() + line).unwrap();
    fs::set_permissions(front_end.temporary(), fs::Permissions::from_mode(0o1777)).unwrap();
    // A mount namespace of its own: no other program sees this user.
    let script = front_end.script(&["--name", "rust"]);
    let mut inside = Command::new("unshare");
    inside
        .args(["--mount", "sh", "-ec"])
        .arg("mount -t overlay overlay -o \"lowerdir=$0:/etc\" /etc; exec \"$@\"")
        .arg(&etc)
        .arg(script.get_program())
        .args(script.get_args())
        .envs(script.get_envs().filter_map(|(name, value)| Some((name, value?))));
    succeeds(&mut inside);
    let remotes = front_end.one().join("var/remotes");
    for path in ["datastore/rust", "datastore/rust/cp", "etc/datastore/rust/rust.conf"] {
        let metadata = fs::metadata(remotes.join(path)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (9869, 9869), "owner of {path}");
    }
}

#[test]
fn an_installed_driver_of_another_name_serves_its_datastore() {
    let front_end = FrontEnd::new();
    front_end.install(&["--name", "rust"]);
    let cloud = Cloud::new();
    let message = cloud.monitor().set("DATASTORE/DS_MAD", "rust").message().xml();
    let file = cloud.root().join("message.xml");
    fs::write(&file, message).unwrap();
    let mut driver = Command::new(front_end.datastores().join("rust/monitor"));
    driver.arg("--message").arg(&file);
    let reply = succeeds(driver.env("ONE_LOCATION", front_end.one()));
    assert!(reply.contains("FREE_MB="), "{reply}");
    // Without its KIND it must not be taken for any kind.
    let why = fails(driver.env("ONE_LOCATION", cloud.one_location()));
    assert!(why.contains("DS_MAD") && why.contains("KIND="), "{why}");
}

#[test]
fn the_demo_shows_every_driver_and_cleans_up() {
    let front_end = FrontEnd::bare();
    let said = front_end.install(&["--demo"]);
    for action in ACTIONS {
        assert!(said.contains(&format!("command  {action} ")), "{action} is not shown:\n{said}");
    }
    assert!(said.contains("steps did what they should"), "{said}");
    assert!(!front_end.one().exists(), "the demo installs nothing");
    assert_eq!(fs::read_dir(front_end.temporary()).unwrap().count(), 0);
}

#[test]
fn the_demo_fails_loudly_when_a_driver_lies() {
    let front_end = FrontEnd::bare();
    front_end.break_driver("snap_delete", "cat >/dev/null; exit 0");
    let why = fails(&mut front_end.script(&["--demo"]));
    assert!(why.contains("DEMO FAILED") && why.contains("should be gone"), "{why}");
    assert_eq!(fs::read_dir(front_end.temporary()).unwrap().count(), 0);
}
