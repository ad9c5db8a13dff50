//! What the documentation says, as far as a program can check it: links lead somewhere, tables agree with the code, and
//! the example in the README is what happens.

use ferrostore_tests::docs::{Page, attributes, codes, collect, named_in, repository, rows};
use ferrostore_tests::{Cloud, executable};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

fn set<T: Into<String>>(names: impl IntoIterator<Item = T>) -> BTreeSet<String> {
    names.into_iter().map(Into::into).collect()
}

/// The source files of the crates below `common`, without their tests and fuzz targets.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    collect(&repository().join("common"), "rs", &mut |path| {
        if path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "fuzz") {
            return;
        }
        let text = fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
        sources.push((path.display().to_string(), text));
    });
    sources
}

#[track_caller]
fn source_named(name: &str) -> String {
    let found: Vec<_> = sources().into_iter().filter(|(path, _)| path.ends_with(name)).collect();
    assert_eq!(found.len(), 1, "one file {name} below common/");
    found[0].1.clone()
}

/// The strings in a source file, line by line.
fn strings(text: &str) -> impl Iterator<Item = &str> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split('"').skip(1).step_by(2))
}

#[test]
fn every_link_leads_to_a_file_and_an_anchor() {
    let mut broken = Vec::new();
    for page in Page::all() {
        let directory = page.path().parent().unwrap();
        for link in page.links() {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target =
                if file.is_empty() { page.path().to_owned() } else { directory.join(file) };
            let leads = target.exists()
                && (anchor.is_empty() || Page::read(&target).anchors().iter().any(|a| a == anchor));
            if !leads {
                broken.push(format!("{}: {link}", page.path().display()));
            }
        }
    }
    assert_eq!(broken, [""; 0]);
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let readme = Page::read("README.md").links();
    let mut missing = Vec::new();
    collect(&repository().join("docs"), "md", &mut |path| {
        let link = format!("docs/{}", path.file_name().unwrap().display());
        if path.parent() == Some(&repository().join("docs")) && !readme.contains(&link) {
            missing.push(link);
        }
    });
    assert_eq!(missing, [""; 0], "pages that the README does not link to");
}

#[test]
fn the_readme_is_short() {
    let bytes = Page::read("README.md").text().len();
    assert!(bytes <= 8192, "README.md has {bytes} bytes");
}

#[test]
fn the_first_two_commands_of_the_readme_exist() {
    let section = Page::read("README.md").section("## Two commands");
    let block = section.split("```").nth(1).expect("a block of commands");
    let commands: Vec<&str> = block.lines().skip(1).filter(|line| !line.is_empty()).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for command in commands {
        let words = command.split('#').next().unwrap().split_whitespace();
        let (program, options): (Vec<_>, Vec<_>) = words.partition(|word| !word.starts_with('-'));
        let path = repository().join(program[0]);
        let mode =
            path.metadata().unwrap_or_else(|e| panic!("{command}: {e}")).permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{command} can be run");
        for option in options {
            let help = Command::new(&path).arg("--help").output().unwrap();
            assert!(String::from_utf8_lossy(&help.stdout).contains(option), "{command}");
        }
    }
}

/// The commands of the README's example, each with what it prints.
fn example() -> Vec<(String, String)> {
    let section = Page::read("README.md").section("## Example");
    let block = section.split("```console\n").nth(1).expect("a block of commands");
    let mut steps: Vec<(String, String)> = Vec::new();
    for line in block.split("```").next().unwrap().lines() {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push((command.to_owned(), String::new())),
            None => steps.last_mut().expect("a command first").1.extend([line, "\n"]),
        }
    }
    steps
}

/// `text` with a dot for each hexadecimal digit of an image's name.
fn without_names(text: &str) -> String {
    let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    let pieces = text.split_inclusive(|c| !is_digit(c));
    pieces
        .map(|piece| match piece.trim_end_matches(|c| !is_digit(c)) {
            digits if digits.len() == 32 => piece.replace(digits, &".".repeat(32)),
            _ => piece.to_owned(),
        })
        .collect()
}

#[test]
fn the_example_in_the_readme_is_what_happens() {
    const PLACE: &str = "/var/tmp/ferrostore-demo";
    let cloud = Cloud::new();
    let here = cloud.root().join("repository");
    let demo = cloud.root().join("demo").display().to_string();
    let canned = here.join("tests/canned");
    fs::create_dir_all(&canned).unwrap();
    for entry in fs::read_dir(repository().join("tests/canned")).unwrap() {
        let path = entry.unwrap().path();
        let copy = canned.join(path.file_name().unwrap());
        let text = fs::read_to_string(&path).unwrap().replace(PLACE, &demo);
        fs::write(&copy, text).unwrap();
        fs::set_permissions(&copy, path.metadata().unwrap().permissions()).unwrap();
    }
    fs::create_dir(here.join("target")).unwrap();
    symlink(executable("cp").parent().unwrap(), here.join("target/release")).unwrap();
    for (command, expected) in example() {
        let output = Command::new("bash")
            .args(["-c", &format!("{{ {command}; }} 2>&1")])
            .env("ONE_LOCATION", cloud.one_location())
            .current_dir(&here)
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap().replace(&demo, PLACE);
        assert_eq!(without_names(&printed), without_names(&expected), "{command}");
    }
}

/// `text` with one mark for each digest, cut or not.
fn without_digests(text: &str) -> String {
    let words = text.split_inclusive([' ', '"', ';']);
    words
        .map(|word| {
            let digits = word.trim_end_matches([' ', '"', ';']);
            let is_digest = digits.len() >= 4
                && digits.chars().all(|c| c.is_ascii_hexdigit() || c == '…')
                && digits.chars().any(|c| c.is_ascii_digit());
            if is_digest { word.replace(digits, "…") } else { word.to_owned() }
        })
        .collect()
}

#[test]
fn the_errors_in_the_reference_are_what_drivers_say() {
    let cloud = Cloud::new();
    let disk = cloud.raw("disk.img", 1 << 20);
    let wrong = "8d88".repeat(16);
    let section = Page::read("docs/reference.md").section("## Errors");
    let lines: Vec<&str> = section.split("```").nth(1).unwrap().trim().lines().collect();
    let calls = [cloud.cp(&disk).set("IMAGE/TEMPLATE/SHA256", &wrong), cloud.mkfs("raw", "0")];
    assert_eq!(lines.len(), calls.len());
    for (line, call) in lines.into_iter().zip(calls) {
        let said = call.run().stderr_text();
        assert_eq!(without_digests(said.trim_end()), without_digests(line));
    }
}

/// The fields of each struct in `wire.rs`: the element's name and its type.
fn wire_structs() -> BTreeMap<String, Vec<(String, String)>> {
    let mut structs = BTreeMap::new();
    let mut current = String::new();
    let mut renamed = None;
    for line in source_named("/wire.rs").lines().map(str::trim) {
        let line = line.strip_prefix("pub(super) ").unwrap_or(line);
        let line = line.strip_prefix("pub ").unwrap_or(line);
        if let Some(name) = line.strip_prefix("struct ") {
            name.trim_end_matches(" {").clone_into(&mut current);
            structs.insert(current.clone(), Vec::new());
        } else if let Some(name) = line.strip_prefix("#[serde(rename = \"") {
            renamed = name.split('"').next().map(str::to_owned);
        } else if let (Some((field, kind)), false) = (line.split_once(": "), line.starts_with('/'))
            && let Some(fields) = structs.get_mut(&current)
        {
            let name = field.trim_start_matches("r#").to_uppercase();
            let kind = kind.trim_end_matches([',', '>']);
            let kind = kind.rsplit('<').next().unwrap_or(kind).to_owned();
            fields.push((renamed.take().unwrap_or(name), kind));
        }
    }
    structs
}

/// The paths of all attributes below the struct `kind`.
fn paths(structs: &BTreeMap<String, Vec<(String, String)>>, kind: &str) -> Vec<String> {
    let fields = structs.get(kind).map(Vec::as_slice).unwrap_or_default();
    let below = |(name, kind): &(String, String)| match paths(structs, kind) {
        paths if paths.is_empty() => vec![name.clone()],
        paths => paths.into_iter().map(|path| format!("{name}/{path}")).collect(),
    };
    fields.iter().flat_map(below).collect()
}

/// The paths that `description.rs` matches: slices of names in one line, such as `["IMAGE", "NAME"]`.
fn described() -> Vec<String> {
    let source = source_named("/description.rs");
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let slices = code.split("[\"IMAGE\", \"").skip(1).filter_map(|rest| rest.split(']').next());
    slices.map(|names| format!("IMAGE/{}", names.replace("\", \"", "/").replace('"', ""))).collect()
}

#[test]
fn the_table_of_attributes_lists_what_is_read() {
    let typed = paths(&wire_structs(), "Message");
    assert!(typed.iter().any(|name| name == "DATASTORE/TEMPLATE/NFS_AUTO_OPTS"), "{typed:?}");
    let described = described();
    assert!(described.iter().any(|name| name == "IMAGE/SNAPSHOTS/SNAPSHOT/ID"), "{described:?}");
    assert_eq!(set(attributes()), set(typed.into_iter().chain(described)));
}

/// Of the environment, what libraries read.
const READ_BY_LIBRARIES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

#[test]
fn the_tables_of_settings_and_environment_list_what_is_read() {
    let is_key = |text: &str| {
        text.len() > 3
            && text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    };
    let sources = sources();
    // `FS_OPTS_<fs>` is a key for each file system.
    let key = |text: &str| text.split(['{', '<']).next().unwrap_or_default().to_owned();
    let mut read = BTreeSet::new();
    for (_, text) in sources.iter().filter(|(path, _)| path.contains("/settings")) {
        read.extend(strings(text).map(key).filter(|text| is_key(text)));
    }
    for (_, text) in &sources {
        let calls = ["env::var(\"", "env::var_os(\""].map(|call| text.split(call).skip(1));
        for rest in calls.into_iter().flatten() {
            read.extend(rest.split('"').next().map(str::to_owned));
        }
    }
    // How the front-end names its directory of drivers to a bridge host.
    read.remove("REMOTES");
    let settings = named_in("docs/reference.md", "## Settings");
    let environment = named_in("docs/reference.md", "## Environment");
    let listed = set(settings.iter().chain(&environment).map(|name| key(name)));
    let missing: Vec<_> = read.difference(&listed).collect();
    assert!(missing.is_empty(), "docs/reference.md doesn't list {missing:?}");
    for name in listed.iter().filter(|name| !READ_BY_LIBRARIES.contains(&name.as_str())) {
        let is_read = sources.iter().any(|(_, text)| strings(text).any(|text| key(text) == *name));
        assert!(is_read, "{name} is listed in docs/reference.md and read nowhere");
    }
}

#[test]
fn the_page_of_kinds_lists_those_that_install() {
    let refusal = Command::new(executable("ferrostore")).args(["enable", "punched-cards"]).output();
    let refusal = String::from_utf8(refusal.unwrap().stderr).unwrap();
    let known = refusal.trim().split("one of ").nth(1).unwrap();
    let rows = rows(Page::read("docs/kinds.md").text().split("\n## ").next().unwrap());
    let listed = rows.iter().flat_map(|row| codes(&row[0]));
    assert_eq!(set(listed), set(known.split(", ")));
}

#[test]
fn the_table_of_frames_is_that_of_the_bridge_protocol() {
    let section = Page::read("docs/architecture.md").section("## The bridge protocol");
    let listed = rows(&section).into_iter().map(|row| format!("{} {}", row[0], row[1]));
    let source = source_named("/bridge/frame.rs");
    let variants = source.lines().filter_map(|line| {
        let (name, byte) = line.trim().strip_suffix("',")?.split_once(" = b'")?;
        Some(format!("`{byte}` {name}"))
    });
    assert_eq!(set(listed), set(variants));
}

/// The first words of the lines below `heading` in the manifest of a crate.
fn manifest(path: &Path, heading: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    set(lines.filter_map(|line| line.split(['.', ' ', '=']).next().filter(|name| !name.is_empty())))
}

#[test]
fn the_table_of_crates_is_that_of_their_dependencies() {
    let common = repository().join("common");
    let section = Page::read("docs/architecture.md").section("## Four crates");
    let rows = rows(&section);
    let rows: Vec<_> = rows.iter().filter(|row| row.len() == 4).collect();
    let crates = set(rows.iter().flat_map(|row| codes(&row[0])));
    let directories = fs::read_dir(&common).unwrap();
    let directories = directories.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(crates, set(directories));
    for row in rows {
        let name = &codes(&row[0])[0];
        let path = common.join(name).join("Cargo.toml");
        let depends = manifest(&path, "[dependencies]").intersection(&crates).cloned().collect();
        assert_eq!(set(codes(&row[1])), depends, "{name}");
    }
}

#[test]
fn every_path_that_a_page_names_is_there() {
    const ROOTS: [&str; 5] = ["common/", "docs/", "drivers/", "tests/", ".ci/"];
    let mut missing = Vec::new();
    for page in Page::all() {
        for line in page.text().lines() {
            let words = line.split(|c: char| c.is_whitespace() || "`\"'(),;:|<>".contains(c));
            for word in words.filter(|word| ROOTS.iter().any(|root| word.starts_with(root))) {
                let path = word.split('#').next().unwrap().trim_end_matches('.');
                if !path.contains(['*', '$']) && !repository().join(path).exists() {
                    missing.push(format!("{}: {word}", page.path().display()));
                }
            }
        }
    }
    assert_eq!(missing, [""; 0]);
}

/// The words that begin with `--` in `text`, but for those that every program has.
fn options(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '-';
    let words = text.split(|c| !is_part(c)).filter(|word| word.len() > 3);
    set(words.filter(|word| word.starts_with("--") && !["--help", "--version"].contains(word)))
}

#[track_caller]
fn describes_the_options_of(program: &str, page: &str, heading: &str) {
    let help = Command::new(repository().join(program)).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let listed = options(&Page::read(page).section(heading));
    assert_eq!(listed, options(&help), "{program} and {page}");
}

#[test]
fn every_option_of_a_command_is_described() {
    describes_the_options_of("install.sh", "docs/install.md", "## Arguments");
    describes_the_options_of("packaging/build", "docs/install.md", "## Making packages");
    describes_the_options_of("tests/bench", "docs/performance.md", "## Options");
    let fsck = executable("fsck").display().to_string();
    describes_the_options_of(&fsck, "docs/fsck.md", "## Options");
}

#[test]
fn the_oldest_compiler_that_works_is_named_everywhere() {
    let oldest = env!("CARGO_PKG_RUST_VERSION");
    for page in ["README.md", "docs/install.md"] {
        assert!(Page::read(page).text().contains(&format!("Rust {oldest} or newer")), "{page}");
    }
    let pinned = fs::read_to_string(repository().join("rust-toolchain.toml")).unwrap();
    let pinned = pinned.split("channel = \"").nth(1).unwrap().split('"').next().unwrap();
    let parts = |version: &str| -> Vec<u32> {
        version.split('.').map(|part| part.parse().expect("numbers")).collect()
    };
    assert!(parts(pinned) >= parts(oldest), "{pinned} can't build what needs {oldest}");
}

/// Phrases that say less than the standard term, or leave open who acts.
const PRIVATE_PHRASES: [&str; 6] =
    ["whoever", "nobody", "somebody", "in the making", "shot at", "beyond recall"];

#[test]
fn pages_use_plain_words() {
    let mut found = Vec::new();
    for page in Page::all() {
        for line in page.prose() {
            let line = line.to_lowercase();
            for word in PRIVATE_PHRASES.iter().filter(|word| line.contains(**word)) {
                found.push(format!("{}: {word}: {line}", page.path().display()));
            }
        }
    }
    assert_eq!(found, [""; 0]);
}

/// Words for which the glossary has a standard term, as they stand in identifiers, comments and texts. (`NOBODY` is a
/// user.)
const PRIVATE_WORDS: [&str; 32] = [
    "whoever", "nobody", "somebody", "astray", "deed", "deeds", "heed", "heeds", "heeding",
    "errand", "keeper", "lend", "lends", "lent", "lending", "borrower", "patience", "sweep",
    "sweeps", "swept", "recall", "mend", "mends", "blow", "shoot", "noun", "room", "rooms",
    "house", "aside", "heard", "withdraw",
];

#[test]
fn code_uses_plain_words() {
    let mut found = Vec::new();
    for directory in ["common", "drivers", "tests/src", "tests/tests"] {
        collect(&repository().join(directory), "rs", &mut |path| {
            if path.ends_with("tests/docs.rs") {
                return;
            }
            let text = fs::read_to_string(path).unwrap();
            for (number, line) in text.lines().enumerate() {
                let line = line.replace("writable for nobody", "");
                let words = line.split(|c: char| !c.is_ascii_alphabetic());
                let spelled = |word: &&str| *word != "NOBODY";
                let words: Vec<String> = words.filter(spelled).map(str::to_lowercase).collect();
                for word in PRIVATE_WORDS.iter().filter(|word| words.iter().any(|w| w == **word)) {
                    found.push(format!("{}:{}: {word}", path.display(), number + 1));
                }
            }
        });
    }
    assert_eq!(found, [""; 0]);
}

#[test]
fn the_changelog_has_a_place_for_what_is_new() {
    let page = Page::read("CHANGELOG.md");
    assert!(page.text().contains("\n## [Unreleased]\n"));
    let version = concat!("\n## [", env!("CARGO_PKG_VERSION"), "] - ");
    assert!(page.text().contains(version), "{version:?}");
    assert!(Path::new(&repository()).join("LICENSE").exists());
}
