//! Man pages and completions, as packages have them.

use crate::root::manual;
use ferrostore_tests::docs::{Page, codes, rows};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn files(directory: &Path) -> BTreeSet<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_command_has_a_page_and_mandoc_finds_no_fault_with_it() {
    let pages = files(&manual().join("man"));
    let names: BTreeSet<&str> =
        pages.iter().map(|page| page.file_name().unwrap().to_str().unwrap()).collect();
    for name in ferrostore_tests::ACTIONS
        .into_iter()
        .chain(["fsck", "enable", "disable", "list", "doctor", "log", "metrics"])
    {
        assert!(names.contains(format!("ferrostore-{name}.8").as_str()), "{name}: {names:?}");
    }
    assert!(names.contains("ferrostore.8") && names.contains("ferrostore.7"), "{names:?}");
    for page in &pages {
        let lint = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(page).output();
        let lint = lint.expect("mandoc is installed");
        let said = String::from_utf8_lossy(&lint.stdout).into_owned();
        // Pages without a date are the same whenever they are made.
        let faults: Vec<&str> =
            said.lines().filter(|line| !line.contains("missing date")).collect();
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

#[test]
fn the_overview_has_every_attribute_and_setting() {
    let page = fs::read_to_string(manual().join("man/ferrostore.7")).unwrap();
    for heading in ["## Attributes", "## Settings", "## Environment", "## Exit codes"] {
        let section = Page::read("docs/reference.md").section(heading);
        for row in rows(&section) {
            let name = codes(&row[0]).first().cloned().unwrap_or_default();
            assert!(page.contains(&name.replace('-', "\\-")), "{heading}: {name} is missing");
        }
    }
    assert!(page.contains("/etc/ferrostore/enabled"));
}

#[test]
fn completions_know_the_subcommands() {
    let completions = manual().join("completions");
    for name in ["ferrostore", "_ferrostore", "ferrostore.fish"] {
        let text = fs::read_to_string(completions.join(name)).unwrap();
        for subcommand in ["enable", "disable", "list", "doctor", "fsck"] {
            assert!(text.contains(subcommand), "{name} knows {subcommand}");
        }
    }
    let script = completions.join("ferrostore");
    let checked = Command::new("bash").arg("-n").arg(script).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
