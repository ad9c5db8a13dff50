//! What `docs/architecture.md` says of the code, as far as a program can check it.

use ferrostore_tests::docs::{collect, repository};
use ferrostore_tests::{Cloud, debuggable, pattern};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CRATES: [&str; 4] = ["runtime", "disk-image", "one-protocol", "ferrostore"];

/// Rust files below `directory` of the repository, with their text.
fn sources(directory: &str) -> Vec<(PathBuf, String)> {
    let mut sources = Vec::new();
    collect(&repository().join(directory), "rs", &mut |path| {
        sources.push((path.to_owned(), fs::read_to_string(path).unwrap()));
    });
    assert!(!sources.is_empty(), "there are files below {directory}");
    sources
}

#[test]
fn the_image_crate_speaks_of_images_only() {
    let mut found = Vec::new();
    for (path, text) in sources("common/disk-image") {
        for word in ["opennebula", "datastore", " oned ", "oneadmin", "max_virtual_size"] {
            if text.to_lowercase().contains(word) {
                found.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert_eq!(found, [""; 0]);
}

#[test]
fn files_have_at_most_500_lines() {
    let directories = ["common", "drivers", "tests/src", "tests/tests"];
    let long: Vec<_> = directories
        .iter()
        .flat_map(|directory| sources(directory))
        .filter(|(_, text)| text.lines().count() > 500)
        .map(|(path, text)| format!("{}: {}", path.display(), text.lines().count()))
        .collect();
    assert_eq!(long, [""; 0]);
}

#[test]
fn unsafe_code_is_in_two_files() {
    let mut unsafe_files: Vec<_> = sources("common")
        .into_iter()
        .filter(|(path, text)| {
            !path.components().any(|p| p.as_os_str() == "fuzz") && text.contains("unsafe {")
        })
        .map(|(path, _)| path.strip_prefix(repository()).unwrap().to_owned())
        .collect();
    unsafe_files.sort();
    let expected = ["common/runtime/src/command/librbd/library.rs", "common/runtime/src/sys.rs"]
        .map(Path::new);
    assert_eq!(unsafe_files, expected);
}

type Module = Vec<String>;

/// The module that a file below `src` is.
fn module_of(file: &Path, src: &Path) -> Module {
    let relative = file.strip_prefix(src).unwrap().with_extension("");
    let mut parts: Module = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib")) {
        parts.pop();
    }
    parts
}

/// The paths of a `use` tree, one for each leaf.
fn leaves(prefix: &str, tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some(brace) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![format!("{prefix}{path}")];
    };
    let prefix = format!("{prefix}{}", &tree[..brace]);
    // What only looks like a declaration, in a string say, has no end.
    let Some(inner) = tree.rfind('}').and_then(|end| tree.get(brace + 1..end)) else {
        return Vec::new();
    };
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, character) in inner.char_indices().chain([(inner.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[start..at].trim().is_empty() {
                    found.extend(leaves(&prefix, &inner[start..at]));
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// Modules of the same crate that the module names in its `use` declarations, its own parents and children left out.
fn dependencies(module: &Module, text: &str, all: &BTreeSet<Module>) -> BTreeSet<Module> {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(" ");
    let mut found = BTreeSet::new();
    for declaration in code.split("use ").skip(1) {
        let tree = declaration.split(';').next().unwrap_or_default();
        for path in leaves("", tree) {
            let mut parts = path.split("::").map(str::trim).peekable();
            let mut base = match parts.peek() {
                Some(&"crate") => {
                    parts.next();
                    Module::new()
                }
                Some(&"super") => module.clone(),
                _ => continue,
            };
            while parts.next_if_eq(&"super").is_some() {
                base.pop();
            }
            for part in parts {
                let next: Module = base.iter().cloned().chain([part.to_owned()]).collect();
                if !all.contains(&next) {
                    break;
                }
                base = next;
            }
            if !module.starts_with(&base) && !base.starts_with(module) {
                found.insert(base);
            }
        }
    }
    found
}

/// All modules that `from` leads to.
fn reached(from: &Module, edges: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&Module> = edges[from].iter().collect();
    while let Some(module) = open.pop() {
        if reached.insert(module.clone()) {
            open.extend(edges.get(module).into_iter().flatten());
        }
    }
    reached
}

#[test]
fn no_modules_of_a_crate_import_each_other_in_a_circle() {
    for name in CRATES {
        let src = repository().join("common").join(name).join("src");
        let files: Vec<_> = sources(&format!("common/{name}/src"))
            .into_iter()
            .map(|(path, text)| (module_of(&path, &src), text))
            .collect();
        let all: BTreeSet<Module> = files.iter().map(|(module, _)| module.clone()).collect();
        let edges: BTreeMap<Module, BTreeSet<Module>> = files
            .iter()
            .map(|(module, text)| (module.clone(), dependencies(module, text, &all)))
            .collect();
        let circles: Vec<_> = all
            .iter()
            .filter(|module| reached(module, &edges).contains(*module))
            .map(|module| module.join("::"))
            .collect();
        assert_eq!(circles, [""; 0], "{name}");
        assert!(edges.values().any(|edges| !edges.is_empty()), "imports of {name} are seen");
    }
}

/// The named functions of the project in a backtrace of gdb, the innermost first. A function that ends with a call of
/// another one may have left the stack: `main` does.
fn named_functions(backtrace: &str) -> Vec<String> {
    let frames = backtrace.lines().filter(|line| line.starts_with('#'));
    let own = frames.filter(|line| line.contains(" at common/") || line.contains(" at drivers/"));
    let names = own.filter_map(|line| {
        let call = line.split_once(' ')?.1.trim_start();
        let name = call.split_once(" in ").map_or(call, |(_, name)| name);
        let name = name.split([' ', '<']).next()?;
        (!name.starts_with("{closure")).then(|| name.to_owned())
    });
    let mut names: Vec<String> = names.collect();
    if names.last().is_some_and(|name| name != "main") {
        names.push("main".to_owned());
    }
    names
}

/// What happens between the call and the data is a matter of few steps, so that a reader can follow it.
#[test]
fn cp_is_at_most_16_functions_from_main_to_its_first_write() {
    if Command::new("gdb").arg("--version").output().is_err() {
        println!("gdb is not installed: nothing is counted");
        return;
    }
    let symbols = format!("file {}", debuggable("cp").display());
    let commands = [
        "set debuginfod enabled off",
        "set startup-with-shell off",
        "set breakpoint pending on",
        "set width 0",
        &symbols,
        "break pwrite64",
        "run",
        "backtrace",
        "kill",
    ];
    let gdb = ["gdb", "-nx", "-batch"].into_iter();
    let gdb: Vec<_> =
        gdb.chain(commands.iter().flat_map(|command| ["-ex", command])).chain(["--args"]).collect();
    let cloud = Cloud::new();
    // One that is read at once, and one of which the first part is written before the last is read.
    for mebibytes in [1, 48] {
        let disk = cloud.file("disk.img", pattern(1, mebibytes << 20));
        for driver in ["raw", "qcow2"] {
            let output = cloud.cp(&disk).driver(driver).under(gdb.clone()).output();
            let text = String::from_utf8_lossy(&output.stdout);
            let functions = named_functions(&text);
            println!("{mebibytes} MiB to {driver}: {}: {functions:?}", functions.len());
            assert_eq!(functions.first().map(String::as_str), Some("write"), "{text}");
            assert!(functions.len() >= 10, "the functions have names: {text}");
            assert!(functions.len() <= 16, "{} functions: {text}", functions.len());
        }
    }
}
