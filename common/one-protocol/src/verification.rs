//! Settings of what must be verified of images, in datastore.conf.

use crate::settings::{Settings, SettingsError};
use crate::values::parse_yes_no;

impl Settings {
    /// The files with the keys of publishers (`KEYRING`), separated by spaces; empty: none.
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`].
    pub fn keyring(&self) -> Result<String, SettingsError> {
        Ok(self.datastore_conf("KEYRING")?.unwrap_or_default())
    }

    /// Whether every image must have a digest (`REQUIRE_DIGEST`, default no).
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`], [`SettingsError::Invalid`].
    pub fn requires_digest(&self) -> Result<bool, SettingsError> {
        self.is_required("REQUIRE_DIGEST")
    }

    /// Whether every image must be signed (`REQUIRE_SIGNATURE`, default no).
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`], [`SettingsError::Invalid`].
    pub fn requires_signature(&self) -> Result<bool, SettingsError> {
        self.is_required("REQUIRE_SIGNATURE")
    }

    fn is_required(&self, key: &'static str) -> Result<bool, SettingsError> {
        let parse =
            |value: &str| if value.trim().is_empty() { Some(false) } else { parse_yes_no(value) };
        Ok(self.parsed(key, parse, "YES or NO")?.unwrap_or(false))
    }
}
