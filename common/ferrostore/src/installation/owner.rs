//! To whom OpenNebula's files belong.

use nix::unistd::{Group, User, geteuid};
use std::io;
use std::os::unix::fs::lchown;
use std::path::Path;

/// Gives `path` to oneadmin, to whom OpenNebula's files belong, where that user exists. Only root can give files away.
pub(super) fn give_to_oneadmin(path: &Path) -> io::Result<()> {
    const NAME: &str = "oneadmin";
    let (Ok(Some(user)), Ok(Some(group))) = (User::from_name(NAME), Group::from_name(NAME)) else {
        return Ok(());
    };
    if !geteuid().is_root() {
        return Ok(());
    }
    lchown(path, Some(user.uid.as_raw()), Some(group.gid.as_raw()))
}
