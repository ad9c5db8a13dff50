//! Where OpenNebula keeps things on this machine, and what its configuration files say.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Places and settings of the OpenNebula installation that the driver belongs to.
///
/// With `ONE_LOCATION` set, everything lies under that directory (a self-contained installation),
/// else in the places of a system-wide one.
#[derive(Debug, Clone)]
pub struct Settings {
    one_location: Option<PathBuf>,
    home: Option<PathBuf>,
}

/// A configuration file that is there but can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It can't be read.
    #[error("the configuration file {path} can't be read: {source}; let the driver's user read it")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `DS_MAD` names a driver that has no configuration here.
    #[error(
        "DATASTORE/DS_MAD \"{name}\" is not served by these drivers: it must be one of {known}, or {file} must say KIND=<one of them>"
    )]
    UnknownKind {
        /// The name.
        name: String,
        /// Kinds that are built in.
        known: String,
        /// The file that may name the kind.
        file: PathBuf,
    },
}

/// File systems that `mkfs` makes where `datastore.conf` doesn't say.
const DEFAULT_FILE_SYSTEMS: &str = "ext2,ext3,ext4,xfs";

impl Settings {
    /// Settings out of the environment of this process.
    #[must_use]
    pub fn from_environment() -> Self {
        let directory = |name: &str| {
            std::env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from)
        };
        Self { one_location: directory("ONE_LOCATION"), home: directory("HOME") }
    }

    /// `$REMOTES`: the directory that holds the drivers and their configuration.
    #[must_use]
    pub fn remotes(&self) -> PathBuf {
        self.var().join("remotes")
    }

    fn var(&self) -> PathBuf {
        match &self.one_location {
            Some(location) => location.join("var"),
            None => PathBuf::from("/var/lib/one"),
        }
    }

    /// Directories out of which nothing is ever registered: OpenNebula's own and the user's home.
    #[must_use]
    pub fn always_restricted(&self) -> Vec<PathBuf> {
        let etc = match &self.one_location {
            Some(location) => location.join("etc"),
            None => PathBuf::from("/etc/one"),
        };
        [self.var(), etc].into_iter().chain(self.home.clone()).collect()
    }

    /// The value of `key` in `$REMOTES/etc/datastore/datastore.conf`.
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`]; a file that isn't there holds nothing.
    pub fn datastore_conf(&self, key: &str) -> Result<Option<String>, SettingsError> {
        value_in(&self.remotes().join("etc/datastore/datastore.conf"), key)
    }

    /// The file `$REMOTES/etc/datastore/<DS_MAD>/<DS_MAD>.conf` of a driver.
    #[must_use]
    pub fn driver_conf(&self, ds_mad: &str) -> PathBuf {
        self.remotes().join(format!("etc/datastore/{ds_mad}/{ds_mad}.conf"))
    }

    /// The kind that the driver's own configuration file gives it (`KIND=fs`).
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`].
    pub fn kind_of(&self, ds_mad: &str) -> Result<Option<String>, SettingsError> {
        value_in(&self.driver_conf(ds_mad), "KIND")
    }

    /// Whether the driver's own configuration file turns the check of TLS certificates off
    /// (`TLS_VERIFY=no`).
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`].
    pub fn tls_verify(&self, ds_mad: &str) -> Result<bool, SettingsError> {
        let value = value_in(&self.driver_conf(ds_mad), "TLS_VERIFY")?.unwrap_or_default();
        Ok(!matches!(value.to_ascii_lowercase().as_str(), "no" | "n" | "false" | "0"))
    }

    /// OpenNebula's own program for sources that these drivers don't know themselves.
    #[must_use]
    pub fn downloader(&self) -> PathBuf {
        self.remotes().join("datastore/downloader.sh")
    }

    /// File systems that `mkfs` may make (`SUPPORTED_FS`).
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`].
    pub fn supported_file_systems(&self) -> Result<Vec<String>, SettingsError> {
        let list = self.datastore_conf("SUPPORTED_FS")?;
        let list = list.as_deref().unwrap_or(DEFAULT_FILE_SYSTEMS);
        Ok(list
            .split([',', ' '])
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect())
    }

    /// Options for `mkfs.<fs>` (`FS_OPTS_<fs>`), split as a shell would, nothing expanded.
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`].
    pub fn file_system_options(&self, fs: &str) -> Result<Vec<String>, SettingsError> {
        let options = self.datastore_conf(&format!("FS_OPTS_{fs}"))?.unwrap_or_default();
        Ok(shell_words::split(&options)
            .unwrap_or_else(|_| options.split_whitespace().map(str::to_owned).collect()))
    }
}

fn value_in(path: &Path, key: &str) -> Result<Option<String>, SettingsError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(lookup(&String::from_utf8_lossy(&bytes), key)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SettingsError::Unreadable { path: path.to_owned(), source }),
    }
}

/// The last value that `text` gives `key`. The files are written for a shell, but only plain
/// `KEY=value` lines are read: nothing is expanded or run.
fn lookup(text: &str, key: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (name, value) = line.split_once('=')?;
            (name.trim() == key).then(|| unquoted(value.trim()))
        })
        .next_back()
}

fn unquoted(value: &str) -> String {
    match shell_words::split(value) {
        // What follows a blank outside quotes is a comment or not part of the value.
        Ok(words) => words.into_iter().next().unwrap_or_default(),
        Err(_) => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = "# SUPPORTED_FS=\"no\"\nSUPPORTED_FS=\"ext4, xfs\"\nexport A='b c' # why\n\
                        FS_OPTS_ext4=\"-F -L 'my disk'\"\nEMPTY=\nPLAIN=x#y\nLATE=1\nLATE=2\n";

    #[test]
    fn reads_the_values_that_a_shell_would_see() {
        assert_eq!(lookup(CONF, "SUPPORTED_FS").as_deref(), Some("ext4, xfs"));
        assert_eq!(lookup(CONF, "A").as_deref(), Some("b c"));
        assert_eq!(lookup(CONF, "FS_OPTS_ext4").as_deref(), Some("-F -L 'my disk'"));
        assert_eq!(lookup(CONF, "EMPTY").as_deref(), Some(""));
        assert_eq!(lookup(CONF, "LATE").as_deref(), Some("2"));
        assert_eq!(lookup(CONF, "MISSING"), None);
    }

    #[test]
    fn everything_lies_under_one_location_where_that_is_set() {
        let settings = Settings { one_location: Some("/opt/one".into()), home: None };
        assert_eq!(settings.remotes(), Path::new("/opt/one/var/remotes"));
        assert_eq!(
            settings.always_restricted(),
            [Path::new("/opt/one/var"), Path::new("/opt/one/etc")]
        );
    }
}
