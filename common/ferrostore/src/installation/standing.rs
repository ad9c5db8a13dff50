//! What stands where the drivers of a DS_MAD should.

use super::{DsMad, FrontEnd, InstallError, stock};

/// What stands where the drivers of a DS_MAD should: the names of files, by what they are.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The packaged drivers, byte for byte.
    pub same: Vec<&'static str>,
    /// Drivers of ferrostore that are not those of the package: of another version, or changed by hand.
    pub other: Vec<&'static str>,
    /// Scripts and programs that are not ferrostore's.
    pub foreign: Vec<&'static str>,
    /// Nothing.
    pub missing: Vec<&'static str>,
}

impl Standing {
    /// Looks at them.
    ///
    /// # Errors
    /// [`InstallError::NoDriver`] where the package has no drivers to compare with.
    pub fn of(front_end: &FrontEnd, mad: &DsMad) -> Result<Self, InstallError> {
        let directory = front_end.directory(mad);
        let mut standing = Self::default();
        for file in front_end.files(mad)? {
            let path = directory.join(file);
            let list = if !stock::exists(&path) {
                &mut standing.missing
            } else if stock::same(&path, &front_end.drivers.join(file)) {
                &mut standing.same
            } else if stock::is_ours(&path) {
                &mut standing.other
            } else {
                &mut standing.foreign
            };
            list.push(file);
        }
        Ok(standing)
    }

    /// Whether all packaged drivers are in place.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.other.is_empty() && self.foreign.is_empty() && self.missing.is_empty()
    }

    /// Whether no driver of ferrostore's is there.
    #[must_use]
    pub fn is_stock(&self) -> bool {
        self.same.is_empty() && self.other.is_empty()
    }

    /// What is not as it should be, in words; nothing where all is.
    #[must_use]
    pub fn faults(&self) -> String {
        let part = |files: &[&str], what: &str| match files {
            [] => None,
            files => Some(format!("{} {what}", files.join(" "))),
        };
        let parts = [
            part(&self.foreign, "not ferrostore's: OpenNebula's own scripts have come back"),
            part(&self.other, "not as in the package: of another version, or changed by hand"),
            part(&self.missing, "missing"),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}
