//! What the drivers run as root, through sudo.

use nix::unistd::geteuid;
use runtime::command;
use std::path::{Path, PathBuf};

/// The programs that a kind runs as root.
#[must_use]
pub fn root_programs(kind: &str) -> &'static [&'static str] {
    match kind {
        "lvm" => &[
            "lvcreate",
            "lvremove",
            "lvchange",
            "lvextend",
            "lvs",
            "vgdisplay",
            "lvrename",
            "dmsetup",
        ],
        _ => &[],
    }
}

/// The line that sudo lacks for oneadmin, as far as can be seen: only root may ask for another user.
#[must_use]
pub fn missing_line<'a>(kinds: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let allowed = |path: &Path| geteuid().is_root() && command::sudo_allows("oneadmin", path);
    let programs = kinds.into_iter().flat_map(|kind| root_programs(kind));
    let missing: Vec<String> = programs
        .map(|program| place_of(program))
        .filter(|path| !allowed(path))
        .map(|path| path.display().to_string())
        .collect();
    let line = || format!("oneadmin ALL=(root) NOPASSWD: {}", missing.join(", "));
    (!missing.is_empty()).then(line)
}

/// Where a program is, or should be.
fn place_of(program: &str) -> PathBuf {
    found(program).unwrap_or_else(|| Path::new("/usr/sbin").join(program))
}

/// Where a program is.
#[must_use]
pub fn found(program: &str) -> Option<PathBuf> {
    let directories =
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];
    let mut paths = directories.iter().map(|directory| Path::new(directory).join(program));
    paths.find(|path| path.is_file())
}
