//! The setting of the trash.

use super::{Settings, SettingsError};
use crate::values::{RETENTION, parse_retention};
use std::time::Duration;

impl Settings {
    /// How long deleted images are kept where the datastore doesn't say (`TRASH`); zero: not at all.
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`], [`SettingsError::Invalid`].
    pub fn trash(&self) -> Result<Duration, SettingsError> {
        let parse = |value: &str| match value.trim() {
            "" => Some(Duration::ZERO),
            value => parse_retention(value),
        };
        Ok(self.parsed("TRASH", parse, RETENTION)?.unwrap_or_default())
    }
}
