//! What is enabled: the drivers of one DS_MAD.

use super::InstallError;
use crate::kinds::KINDS;
use std::fmt;

/// The ten executables that oned calls.
pub const ACTIONS: [&str; 10] = [
    "cp",
    "mkfs",
    "clone",
    "rm",
    "stat",
    "snap_revert",
    "snap_flatten",
    "snap_delete",
    "monitor",
    "export",
];

/// What stands beside the drivers of file datastores, for administrators.
pub(super) const BY_HAND: [&str; 2] = ["fsck", "ferrostore"];

/// The drivers of one DS_MAD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DsMad {
    /// The kind of datastores that they serve.
    pub kind: &'static str,
    /// The name that oned calls them by: that of the kind in the place of the stock drivers, else one of its own.
    pub name: String,
}

impl DsMad {
    /// The drivers of `kind` under `name`, or in the place of the stock drivers.
    ///
    /// # Errors
    /// [`InstallError::Kind`], [`InstallError::Name`].
    pub fn new(kind: &str, name: Option<&str>) -> Result<Self, InstallError> {
        let kind = KINDS
            .iter()
            .find(|known| **known == kind)
            .ok_or_else(|| InstallError::Kind(kind.to_owned()))?;
        let name = name.unwrap_or(kind);
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.starts_with(['-', '_']) || !name.chars().all(valid) {
            return Err(InstallError::Name(name.to_owned()));
        }
        Ok(Self { kind, name: name.to_owned() })
    }

    /// Whether they stand in the place of stock drivers.
    #[must_use]
    pub fn replaces_stock(&self) -> bool {
        self.name == self.kind
    }
}

/// As in the list of what is enabled.
impl fmt::Display for DsMad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        if self.replaces_stock() { Ok(()) } else { write!(f, " {}", self.name) }
    }
}
