//! Where OpenNebula keeps things on this machine, and what its configuration files say.

mod trash;

use crate::values::{parse_bytes, parse_yes_no};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Places and settings of the OpenNebula installation that the driver belongs to.
///
/// With `ONE_LOCATION` set, everything lies under that directory (a self-contained installation),
/// else in the places of a system-wide one.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(crate) one_location: Option<PathBuf>,
    home: Option<PathBuf>,
    /// Those of the front-end, on another machine.
    carried: Option<Carried>,
    /// Whether the datastore's storage is on another machine than this.
    storage_elsewhere: bool,
    /// Contents of the configuration files that have been read, by path: each is read once.
    read: Arc<Mutex<Vec<(PathBuf, Contents)>>>,
}

/// What a configuration file holds; `None` where there is none.
type Contents = Option<Arc<[u8]>>;

/// What another machine needs of the front-end's settings to do its work.
#[derive(Debug, Clone, Default)]
pub struct Carried {
    one_location: Option<PathBuf>,
    /// `SCRIPTS_REMOTE_DIR`.
    remotes: PathBuf,
    /// Configuration files by their path below `$REMOTES/etc`.
    files: Vec<(String, Vec<u8>)>,
}

impl Carried {
    /// Names and values, each as one piece with a NUL between.
    pub fn pairs(&self) -> impl Iterator<Item = Vec<u8>> {
        let pair = |name: &str, value: &[u8]| [name.as_bytes(), b"\0", value].concat();
        let path = |path: &Path| path.as_os_str().as_bytes().to_vec();
        let location = self.one_location.as_deref().map(|p| pair(ONE_LOCATION, &path(p)));
        let remotes = pair(REMOTES, &path(&self.remotes));
        let files = self.files.iter().map(move |(name, text)| pair(name, text));
        location.into_iter().chain([remotes]).chain(files)
    }

    /// What [`Self::pairs`] gave.
    #[must_use]
    pub fn of(pairs: Vec<Vec<u8>>) -> Self {
        let mut carried = Self::default();
        for pair in pairs {
            let Some(end) = pair.iter().position(|&byte| byte == 0) else { continue };
            let name = String::from_utf8_lossy(&pair[..end]).into_owned();
            let value = pair[end + 1..].to_vec();
            match name.as_str() {
                ONE_LOCATION => carried.one_location = Some(OsString::from_vec(value).into()),
                REMOTES => carried.remotes = OsString::from_vec(value).into(),
                _ => carried.files.push((name, value)),
            }
        }
        carried
    }
}

const ONE_LOCATION: &str = "ONE_LOCATION";
const REMOTES: &str = "REMOTES";

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
    /// A value in it makes no sense.
    #[error("{key}={value} in {path} is not valid: it must be {rule}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What it gives a value to.
        key: &'static str,
        /// The value.
        value: String,
        /// What it should be.
        rule: &'static str,
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

/// Largest disk that an image may have where `datastore.conf` doesn't say, bytes: 64 TiB.
const DEFAULT_LARGEST_DISK: u64 = 64 << 40;
/// Memory of a window or dictionary where `DECOMPRESS_MEMORY` is not set, bytes: `zstd -d` stops at half of
/// that without options, and `xz -9` uses a quarter.
const DEFAULT_DECOMPRESS_MEMORY: u64 = 256 << 20;

/// File systems that `mkfs` makes where `datastore.conf` doesn't say.
const DEFAULT_FILE_SYSTEMS: &str = "ext2,ext3,ext4,xfs";

impl Settings {
    /// Settings out of the environment of this process.
    #[must_use]
    pub fn from_environment() -> Self {
        let directory = |name: &str| {
            std::env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from)
        };
        Self {
            one_location: directory(ONE_LOCATION),
            home: directory("HOME"),
            carried: None,
            storage_elsewhere: false,
            read: Arc::default(),
        }
    }

    /// These settings, for a datastore whose storage is on another machine.
    #[must_use]
    pub fn without_storage(mut self) -> Self {
        self.storage_elsewhere = true;
        self
    }

    /// Whether the datastore's storage is on this machine.
    #[must_use]
    pub fn has_storage(&self) -> bool {
        !self.storage_elsewhere
    }

    /// Settings of the front-end, on another machine, with that one's own home directory.
    #[must_use]
    pub fn of_another_machine(carried: Carried) -> Self {
        let one_location = carried.one_location.clone();
        Self { one_location, carried: Some(carried), ..Self::from_environment() }
    }

    /// What another machine needs of these settings to be the driver `ds_mad`.
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`].
    pub fn carried(&self, ds_mad: &str) -> Result<Carried, SettingsError> {
        let mut files = Vec::new();
        let mut names = vec![DATASTORE_CONF.to_owned(), driver_conf_name(ds_mad)];
        if ds_mad != "ceph" {
            names.push(driver_conf_name("ceph"));
        }
        for name in names {
            if let Some(bytes) = self.contents(&self.remotes().join("etc").join(&name))? {
                files.push((name, bytes.to_vec()));
            }
        }
        let remotes = self.remote_scripts()?;
        Ok(Carried { one_location: self.one_location.clone(), remotes, files })
    }

    /// Where the drivers and their configuration are on other hosts: `SCRIPTS_REMOTE_DIR` of
    /// `oned.conf`, where `onehost sync` puts them.
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`].
    pub fn remote_scripts(&self) -> Result<PathBuf, SettingsError> {
        let value = self.value_in(&self.etc().join("oned.conf"), "SCRIPTS_REMOTE_DIR")?;
        Ok(value.filter(|path| !path.is_empty()).unwrap_or_else(|| "/var/tmp/one".into()).into())
    }

    /// The address of oned's XML-RPC interface (`ONE_XMLRPC`).
    #[must_use]
    pub fn xml_rpc(&self) -> String {
        let set = std::env::var("ONE_XMLRPC").ok().filter(|address| !address.is_empty());
        set.unwrap_or_else(|| "http://localhost:2633/RPC2".to_owned())
    }

    /// The file that holds the user and password for it (`ONE_AUTH`).
    #[must_use]
    pub fn session_file(&self) -> PathBuf {
        let set = std::env::var_os("ONE_AUTH").filter(|path| !path.is_empty());
        let home = || self.home.clone().unwrap_or_else(|| "/var/lib/one".into());
        set.map_or_else(|| home().join(".one/one_auth"), PathBuf::from)
    }

    /// `$REMOTES`: the directory that holds the drivers and their configuration.
    #[must_use]
    pub fn remotes(&self) -> PathBuf {
        match &self.carried {
            Some(carried) => carried.remotes.clone(),
            None => self.var().join("remotes"),
        }
    }

    fn etc(&self) -> PathBuf {
        match &self.one_location {
            Some(location) => location.join("etc"),
            None => PathBuf::from("/etc/one"),
        }
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
        let carried = self.carried.as_ref().map(|carried| carried.remotes.clone());
        [self.var(), self.etc()].into_iter().chain(self.home.clone()).chain(carried).collect()
    }

    /// The value of `key` in `$REMOTES/etc/datastore/datastore.conf`.
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`]; a file that isn't there holds nothing.
    pub fn datastore_conf(&self, key: &str) -> Result<Option<String>, SettingsError> {
        self.value(DATASTORE_CONF, key)
    }

    /// The value of `key` in the configuration file `name` below `$REMOTES/etc`.
    fn value(&self, name: &str, key: &str) -> Result<Option<String>, SettingsError> {
        let Some(carried) = &self.carried else {
            return self.value_in(&self.remotes().join("etc").join(name), key);
        };
        let file = carried.files.iter().find(|(carried, _)| carried == name);
        Ok(file.and_then(|(_, bytes)| lookup(&String::from_utf8_lossy(bytes), key)))
    }

    fn value_in(&self, path: &Path, key: &str) -> Result<Option<String>, SettingsError> {
        Ok(self.contents(path)?.and_then(|bytes| lookup(&String::from_utf8_lossy(&bytes), key)))
    }

    fn contents(&self, path: &Path) -> Result<Contents, SettingsError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, contents)) = read.iter().find(|(known, _)| known == path) {
            return Ok(contents.clone());
        }
        let contents = match std::fs::read(path) {
            Ok(bytes) => Some(bytes.into()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => {
                return Err(SettingsError::Unreadable { path: path.to_owned(), source });
            }
        };
        read.push((path.to_owned(), contents.clone()));
        Ok(contents)
    }

    /// The file `$REMOTES/etc/datastore/<DS_MAD>/<DS_MAD>.conf` of a driver.
    #[must_use]
    pub fn driver_conf(&self, ds_mad: &str) -> PathBuf {
        self.remotes().join("etc").join(driver_conf_name(ds_mad))
    }

    /// The value of `key` in the configuration file of the driver `ds_mad`, or else of `kind`, whose file OpenNebula's
    /// transfer drivers read.
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`].
    pub fn driver_value(
        &self,
        ds_mad: &str,
        kind: &str,
        key: &str,
    ) -> Result<Option<String>, SettingsError> {
        let set = |name: &str| -> Result<Option<String>, SettingsError> {
            Ok(self.value(&driver_conf_name(name), key)?.filter(|value| !value.trim().is_empty()))
        };
        match set(ds_mad)? {
            Some(value) => Ok(Some(value)),
            None => set(kind),
        }
    }

    /// The kind that the driver's own configuration file gives it (`KIND=fs`).
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`].
    pub fn kind_of(&self, ds_mad: &str) -> Result<Option<String>, SettingsError> {
        self.value(&driver_conf_name(ds_mad), "KIND")
    }

    /// Whether the driver's own configuration file turns the check of TLS certificates off
    /// (`TLS_VERIFY=no`).
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`].
    pub fn tls_verify(&self, ds_mad: &str) -> Result<bool, SettingsError> {
        let value = self.value(&driver_conf_name(ds_mad), "TLS_VERIFY")?.unwrap_or_default();
        Ok(parse_yes_no(&value) != Some(false))
    }

    /// OpenNebula's own program for sources that these drivers don't know themselves.
    #[must_use]
    pub fn downloader(&self) -> PathBuf {
        self.remotes().join("datastore/downloader.sh")
    }

    /// Largest disk that an image may have, bytes (`MAX_VIRTUAL_SIZE`, in bytes or with a suffix K, M, G, T or P).
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`], [`SettingsError::Invalid`].
    pub fn largest_disk(&self) -> Result<u64, SettingsError> {
        self.number_of_bytes("MAX_VIRTUAL_SIZE", DEFAULT_LARGEST_DISK)
    }

    /// How much memory the window or dictionary of a compressed stream may take, bytes (`DECOMPRESS_MEMORY`,
    /// written as `MAX_VIRTUAL_SIZE`).
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`], [`SettingsError::Invalid`].
    pub fn decompress_memory(&self) -> Result<u64, SettingsError> {
        self.number_of_bytes("DECOMPRESS_MEMORY", DEFAULT_DECOMPRESS_MEMORY)
    }

    fn number_of_bytes(&self, key: &'static str, default: u64) -> Result<u64, SettingsError> {
        const RULE: &str = "a number of bytes, with a suffix K, M, G, T or P if wanted";
        Ok(self.parsed(key, parse_bytes, RULE)?.unwrap_or(default))
    }

    /// The mode that every new image file gets, whatever the umask (`IMAGE_MODE`, in octal); `None` where nothing is
    /// set.
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`], [`SettingsError::Invalid`].
    pub fn image_mode(&self) -> Result<Option<u32>, SettingsError> {
        const KEY: &str = "IMAGE_MODE";
        let Some(value) = self.datastore_conf(KEY)?.filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        match mode(&value) {
            None => Err(SettingsError::Invalid {
                path: self.remotes().join("etc/datastore/datastore.conf"),
                key: KEY,
                value,
                rule: "a mode in octal with read and write permission for the owner and no execute permission, such as 0640, 0660 or 0644",
            }),
            mode => Ok(mode),
        }
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

    /// How long an action waits for another one on the same image (`LOCK_WAIT`, seconds).
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`], [`SettingsError::Invalid`].
    pub fn lock_wait(&self) -> Result<Duration, SettingsError> {
        const KEY: &str = "LOCK_WAIT";
        let parse = |value: &str| value.trim().parse().ok();
        let seconds = self.parsed(KEY, parse, "a whole number of seconds")?;
        Ok(Duration::from_secs(seconds.unwrap_or(DEFAULT_LOCK_WAIT)))
    }

    /// The value of `key` in `datastore.conf` as `parse` takes it.
    pub(crate) fn parsed<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Option<T>,
        rule: &'static str,
    ) -> Result<Option<T>, SettingsError> {
        let Some(value) = self.datastore_conf(key)? else { return Ok(None) };
        parse(&value).map(Some).ok_or_else(|| SettingsError::Invalid {
            path: self.remotes().join("etc").join(DATASTORE_CONF),
            key,
            value,
            rule,
        })
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

const DATASTORE_CONF: &str = "datastore/datastore.conf";

fn driver_conf_name(ds_mad: &str) -> String {
    format!("datastore/{ds_mad}/{ds_mad}.conf")
}
/// How long an action waits for another one on the same image, seconds.
const DEFAULT_LOCK_WAIT: u64 = 60;

/// The value that the text of a configuration file gives `key`.
#[must_use]
pub fn value_of(text: &str, key: &str) -> Option<String> {
    lookup(text, key)
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

/// A file's mode in octal: its owner can work on it, and it is no program.
fn mode(text: &str) -> Option<u32> {
    const OWNER: u32 = 0o600;
    const ALL: u32 = 0o666;
    let digits = text.chars().all(|c| c.is_digit(8));
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| digits)?;
    (mode & OWNER == OWNER && mode & !ALL == 0).then_some(mode)
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
    fn modes_are_octal_and_leave_the_image_to_its_owner() {
        for (text, expected) in [("0644", 0o644), ("660", 0o660), ("0600", 0o600), ("666", 0o666)] {
            assert_eq!(mode(text), Some(expected), "{text}");
        }
        for text in ["", "0o644", "rw-r--r--", "0755", "4644", "0444", "0", "648", "+644", "-1"] {
            assert_eq!(mode(text), None, "{text}");
        }
    }

    #[test]
    fn everything_lies_under_one_location_where_that_is_set() {
        let settings = Settings {
            one_location: Some("/opt/one".into()),
            home: None,
            carried: None,
            storage_elsewhere: false,
            read: Arc::default(),
        };
        assert_eq!(settings.remotes(), Path::new("/opt/one/var/remotes"));
        assert_eq!(
            settings.always_restricted(),
            [Path::new("/opt/one/var"), Path::new("/opt/one/etc")]
        );
    }
}
