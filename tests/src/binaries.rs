//! Where the executables under test are.

use crate::{ACTIONS, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of the driver for `action`, built first if need be.
pub fn executable(action: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(directory).join(action)
}

/// The driver for `action` as a release has it: without what only debuggers read, which is most of an
/// executable of a test build.
pub fn stripped(action: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let directory = executable(action).with_file_name("stripped");
        std::fs::create_dir_all(&directory).expect("the folder of the drivers is writable");
        for action in ACTIONS.into_iter().chain(["ferrostore"]) {
            // Another test program may be doing the same, and running what it has made.
            let own = directory.join(format!(".{action}.{}", std::process::id()));
            run("strip", ["-o".into(), own.clone(), executable(action)]);
            std::fs::rename(own, directory.join(action)).expect("a name in the same folder");
        }
        directory
    });
    directory.join(action)
}

/// The driver for `action` with the names of its functions, which those of a release lack.
pub fn debuggable(action: &str) -> PathBuf {
    let profile = profile();
    build(&profile, &["--bin", action]);
    profile.join(action)
}

fn directory() -> PathBuf {
    if let Some(directory) = std::env::var_os("FERROSTORE_BIN") {
        return PathBuf::from(directory);
    }
    let profile = profile();
    build(&profile, &["--bins"]);
    profile
}

/// Where the drivers go: a test program is `<target>/<profile>/deps/<name>`, they are in `<target>/<profile>`.
fn profile() -> PathBuf {
    let program = std::env::current_exe().expect("a test program knows where it is");
    let deps = program.ancestors().find(|folder| folder.ends_with("deps"));
    let profile = deps.and_then(Path::parent);
    profile.expect("cargo puts test programs below <target>/<profile>/deps").to_path_buf()
}

/// Builds in an invocation of its own: together with this package, features of its
/// dev-dependencies would leak into the drivers (qcow2-rs switches the `log` crate off).
fn build(profile: &Path, which: &[&str]) {
    let target = profile.parent().expect("a profile's folder has a parent");
    let name = match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What `cargo test` tells of this package: the build script of ring would run again for it, and for its absence
    // the next time.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "OUT_DIR"].iter().any(|part| text.starts_with(part)) {
            cargo.env_remove(&name);
        }
    }
    let status = cargo
        .args(["build", "--quiet", "--package", "drivers"])
        .args(which)
        .args(["--profile", name, "--target-dir"])
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .expect("cargo can be started");
    assert!(status.success(), "the drivers don't build");
}
