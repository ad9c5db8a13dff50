//! What a release publishes, and what its files need.

use crate::root::{REPOSITORY, manual};
use ferrostore_tests::{ACTIONS, MIB, executable, run};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Executables as a release has them; those of `FERROSTORE_RELEASE` where that names a directory that
/// `packaging/compile` has filled.
fn bin(directory: &Path) -> PathBuf {
    if let Some(built) = std::env::var_os("FERROSTORE_RELEASE") {
        return built.into();
    }
    for name in ACTIONS.into_iter().chain(["fsck", "ferrostore"]) {
        run("strip", ["-o".into(), directory.join(name), executable(name)]);
    }
    directory.to_path_buf()
}

/// All that a release publishes, made in a directory of its own.
fn release(bin: &Path) -> BTreeMap<String, Vec<u8>> {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(format!("{REPOSITORY}/packaging/release"));
    command.arg("--manual").arg(manual());
    command.arg("--bin").arg(bin).arg("--out").arg(out.path().join("dist"));
    if std::env::var_os("FERROSTORE_RELEASE").is_none() {
        command.arg("--quick");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = fs::read_dir(out.path().join("dist")).unwrap();
    files
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())
        })
        .collect()
}

#[test]
fn the_same_executables_give_the_same_release_byte_for_byte() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = release(&bin(one.path()));
    let second = release(&bin(two.path()));
    let names: Vec<&String> = first.keys().collect();
    for form in [".deb", ".rpm", ".tar.gz", ".cdx.json", "-licences.txt", "SHA256SUMS"] {
        assert!(names.iter().any(|name| name.ends_with(form)), "{form}: {names:?}");
    }
    for (name, bytes) in &first {
        assert!(second.get(name) == Some(bytes), "{name} differs");
    }
    let sums = String::from_utf8(first["SHA256SUMS"].clone()).unwrap();
    assert_eq!(sums.lines().count(), first.len() - 1, "{sums}");
    if std::env::var_os("FERROSTORE_RELEASE").is_some() {
        let is_deb = |name: &str| Path::new(name).extension().is_some_and(|form| form == "deb");
        let deb = first.iter().find(|(name, _)| is_deb(name)).unwrap().1;
        assert!(deb.len() as u64 <= 6 * MIB, "the deb has {} bytes", deb.len());
    }
}

fn check_glibc(newest: &str, file: &Path) -> Output {
    let script = format!("{REPOSITORY}/packaging/check-glibc");
    Command::new(script).arg(newest).arg(file).output().unwrap()
}

#[test]
fn symbols_that_need_a_newer_glibc_are_named() {
    let program = executable("cp");
    assert!(check_glibc("99.0", &program).status.success());
    let output = check_glibc("2.2", &program);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("needs glibc 2.") && said.contains("newer than 2.2"), "{said}");
    assert!(!check_glibc("2.28", Path::new("/etc/passwd")).status.success());
}

#[test]
fn what_was_compiled_for_packages_starts_with_glibc_2_28() {
    let Some(built) = std::env::var_os("FERROSTORE_RELEASE") else { return };
    for name in ACTIONS.into_iter().chain(["fsck", "ferrostore"]) {
        let output = check_glibc("2.28", &Path::new(&built).join(name));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_tasks_for_ansible_are_yaml_and_each_has_a_name() {
    let script = "import sys, yaml\ntasks = yaml.safe_load(open(sys.argv[1]))\n\
                  assert len(tasks) > 3 and all(task['name'] for task in tasks), tasks";
    let tasks = format!("{REPOSITORY}/packaging/ansible/ferrostore.yml");
    let output = Command::new("/usr/bin/python3").args(["-c", script, &tasks]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
