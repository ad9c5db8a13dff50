//! The ways in which snapshots lie in a datastore.

use crate::MIB;

/// How an overlay names the file that it backs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `<BASE_PATH as it comes>/<name of S>.snap/0`.
    Absolute,
    /// `<name of S>.snap/0`, which resolves through the link of `S.snap` to itself.
    Relative,
    /// `0`, next to the overlay.
    Bare,
    /// As `Absolute`, but the base by the image's own name, `<BASE_PATH as it comes>/<name of S>`.
    Image,
}

/// How a symbolic link is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// With the whole path of its target.
    Absolute,
    /// With its target's path as seen from the link.
    Relative,
}

/// Where the lowest file of a chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// It is `S`, and `S.snap/0` a link to it.
    IsSource(Link),
    /// It is `S.snap/0`, and `S` a link to the active file.
    IsSnapshot(Link),
}

/// One way in which a chain of overlays lies in a datastore.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The transfer driver that leaves it so.
    pub tm_mad: &'static str,
    /// How overlays name what they back on.
    pub naming: Naming,
    /// Which file is the lowest one.
    pub base: Base,
}

impl Layout {
    /// TM_MAD `shared` and `qcow2`: snapshots of a running VM.
    pub const ABSOLUTE: Self =
        Self { tm_mad: "qcow2", naming: Naming::Absolute, base: Base::IsSource(Link::Absolute) };
    /// The same with relative names.
    pub const RELATIVE: Self =
        Self { tm_mad: "shared", naming: Naming::Relative, base: Base::IsSource(Link::Absolute) };
    /// The same where `S.snap/0` is a relative link too, so that a datastore can be moved.
    pub const MOVABLE: Self =
        Self { tm_mad: "shared", naming: Naming::Relative, base: Base::IsSource(Link::Relative) };
    /// TM_MAD `qcow2` and `shared` with a system datastore on ssh.
    pub const SSH_SYSTEM: Self =
        Self { tm_mad: "qcow2", naming: Naming::Relative, base: Base::IsSnapshot(Link::Relative) };
    /// The same with the whole path in the link.
    pub const SSH_SYSTEM_ABSOLUTE: Self =
        Self { tm_mad: "shared", naming: Naming::Relative, base: Base::IsSnapshot(Link::Absolute) };
    /// TM_MAD `qcow2` where something has resolved the links in the backing names.
    pub const RESOLVED: Self =
        Self { tm_mad: "qcow2", naming: Naming::Image, base: Base::IsSource(Link::Absolute) };
    /// TM_MAD `local`.
    pub const LOCAL: Self =
        Self { tm_mad: "local", naming: Naming::Bare, base: Base::IsSnapshot(Link::Relative) };
    /// TM_MAD `local` where the base stayed in its place.
    pub const LOCAL_IN_PLACE: Self =
        Self { tm_mad: "local", naming: Naming::Bare, base: Base::IsSource(Link::Relative) };
}

/// Makes one test per layout of a chain out of a function that takes a [`Layout`].
#[macro_export]
macro_rules! on_every_chain {
    ($($test:ident)*) => {
        $(mod $test {
            use $crate::layouts::Layout;
            #[test]
            fn with_absolute_names() {
                super::$test(Layout::ABSOLUTE);
            }
            #[test]
            fn with_relative_names() {
                super::$test(Layout::RELATIVE);
            }
            #[test]
            fn with_relative_names_and_links() {
                super::$test(Layout::MOVABLE);
            }
            #[test]
            fn after_a_system_datastore_on_ssh() {
                super::$test(Layout::SSH_SYSTEM);
            }
            #[test]
            fn after_a_system_datastore_on_ssh_with_an_absolute_link() {
                super::$test(Layout::SSH_SYSTEM_ABSOLUTE);
            }
            #[test]
            fn under_local() {
                super::$test(Layout::LOCAL);
            }
            #[test]
            fn under_local_with_the_base_in_place() {
                super::$test(Layout::LOCAL_IN_PLACE);
            }
        })*
    };
}

/// What one file of a chain is made of.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    /// Bytes of the disk.
    pub size: u64,
    /// `-o` of qemu-img.
    pub options: &'static str,
    /// Whether its clusters are compressed (only for a base).
    pub compressed: bool,
}

impl Level {
    /// An ordinary one of 4 MiB.
    pub const PLAIN: Self = Self::of(4 * MIB);

    /// An ordinary one of so many bytes.
    pub const fn of(size: u64) -> Self {
        Self { size, options: "compat=1.1", compressed: false }
    }

    /// With other options.
    pub const fn with(self, options: &'static str) -> Self {
        Self { options, ..self }
    }

    /// With compressed clusters.
    pub const fn compressed(self) -> Self {
        Self { compressed: true, ..self }
    }
}
