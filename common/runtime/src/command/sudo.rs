//! What sudo allows.

use super::{find, run};
use crate::sys::ChildLimits;
use std::ffi::OsStr;
use std::path::Path;

/// Whether sudo lets `user` run `program`, as far as it can be asked: by root, or by that user. Nothing is run.
#[must_use]
pub fn sudo_allows(user: &str, program: &Path) -> bool {
    let arguments = ["-n", "-l", "-U", user].map(OsStr::new);
    let arguments = [&arguments[..], &[program.as_os_str()]].concat();
    let sudo = find("sudo", "sudo");
    sudo.and_then(|sudo| run(sudo, &arguments, ChildLimits::default())).is_ok()
}
