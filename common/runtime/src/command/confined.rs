//! Programs that read what is not trusted: they open files that they have inherited, and no others.

use crate::sys::{LandlockRuleset, Permission};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

/// A descriptor of the very file that was judged, which the child inherits.
pub(super) fn inherited(file: &File) -> io::Result<OwnedFd> {
    Ok(nix::unistd::dup(file)?)
}

/// A ruleset that lets a program be itself, and do with the `given` files what is said of each. Files in memory need no
/// permission.
pub(super) fn own_files_and<'f>(
    given: impl IntoIterator<Item = (&'f File, Permission)>,
) -> io::Result<Option<LandlockRuleset>> {
    /// Where programs and their libraries are; `/bin` and the like are mostly links to `/usr`.
    const PROGRAMS: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"];
    let mut own = Vec::new();
    for directory in PROGRAMS {
        own.extend(File::open(directory).map(|file| (file, Permission::Programs)));
    }
    own.extend(File::open("/etc/ld.so.cache").map(|file| (file, Permission::Read)));
    let given: Vec<_> = given.into_iter().collect();
    let own = own.iter().map(|(file, permission)| (file, *permission));
    LandlockRuleset::allowing(own.chain(given))
}
