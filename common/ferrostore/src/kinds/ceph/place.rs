//! Which pool of which cluster a datastore is, out of its template and the driver's configuration file.

use super::names::{is_path, is_plain, is_pool};
use crate::kinds::DatastoreError;
use one_protocol::message::{Datastore as Attributes, MessageError};
use one_protocol::settings::{Settings, SettingsError};
use one_protocol::values::parse_yes_no;
use runtime::command::cluster::Cluster;
use runtime::command::rbd::Pool;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

/// The name of this kind, and of its configuration file.
const KIND: &str = "ceph";
/// `POOL_NAME` where nothing says otherwise.
const POOL: &str = "one";
/// `STAGING_DIR` where nothing says otherwise.
const STAGING: &str = "/var/tmp";
/// `OSD_TIMEOUT` where nothing says otherwise: a cluster that loses a machine stalls for less.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(60);

/// Where and how images are kept.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) pool: Pool,
    /// Whether removed images go to the trash.
    pub(super) trash: bool,
    /// Where streams are kept that are needed whole.
    pub(super) staging_directory: PathBuf,
}

/// Reads a value from the template, else from the configuration file.
struct Reader<'s> {
    attributes: &'s Attributes,
    settings: &'s Settings,
}

impl Reader<'_> {
    fn value(&self, own: &str, key: &str) -> Result<String, SettingsError> {
        if !own.is_empty() {
            return Ok(own.to_owned());
        }
        let value = self.settings.driver_value(&self.attributes.ds_mad, KIND, key)?;
        Ok(value.map(|value| value.trim().to_owned()).unwrap_or_default())
    }
}

fn invalid(attribute: &'static str, value: &str, rule: &'static str) -> DatastoreError {
    MessageError::Invalid { attribute, value: value.to_owned(), rule }.into()
}

fn checked(
    attribute: &'static str,
    value: String,
    valid: fn(&str) -> bool,
    rule: &'static str,
) -> Result<Option<String>, DatastoreError> {
    match value.as_str() {
        "" => Ok(None),
        text if valid(text) => Ok(Some(value)),
        text => Err(invalid(attribute, text, rule)),
    }
}

impl Place {
    /// The place of a datastore.
    pub(super) fn of(attributes: &Attributes, settings: &Settings) -> Result<Self, DatastoreError> {
        let ceph = &attributes.ceph;
        let from = Reader { attributes, settings };
        let name = pool_name(attributes, from.value(&ceph.pool_name, "POOL_NAME")?)?;
        check_format(&from.value(&ceph.rbd_format, "RBD_FORMAT")?)?;
        let file = |attribute, value: &str| -> Result<Option<PathBuf>, DatastoreError> {
            let rule = "the absolute path of a file";
            Ok(checked(attribute, value.to_owned(), is_path, rule)?.map(PathBuf::from))
        };
        let cluster = Cluster {
            user: checked(
                "DATASTORE/TEMPLATE/CEPH_USER",
                ceph.user.clone(),
                is_plain,
                "a user's name without \"client.\" in front (letters, digits, '_', '-', '.')",
            )?,
            key: file("DATASTORE/TEMPLATE/CEPH_KEY", &ceph.key)?,
            conf: file("DATASTORE/TEMPLATE/CEPH_CONF", &ceph.conf)?,
            operation_timeout: operation_timeout(&from)?,
            librbd: uses_librbd(&from)?,
            lock: OnceLock::new(),
            at_stop: false,
        };
        let data_pool = checked(
            "DATASTORE/TEMPLATE/EC_POOL_NAME",
            ceph.ec_pool_name.clone(),
            is_plain,
            "a pool's name (letters, digits, '_', '-', '.')",
        )?;
        let staging = match from.value(&attributes.staging_dir, "STAGING_DIR")?.as_str() {
            "" => PathBuf::from(STAGING),
            directory => runtime::text::path(directory),
        };
        let trash = match from.value(&ceph.trash, "CEPH_TRASH")?.as_str() {
            "" => false,
            text => parse_yes_no(text)
                .ok_or_else(|| invalid("DATASTORE/TEMPLATE/CEPH_TRASH", text, "YES or NO"))?,
        };
        Ok(Self { pool: Pool { cluster, name, data_pool }, trash, staging_directory: staging })
    }
}

fn pool_name(attributes: &Attributes, value: String) -> Result<String, DatastoreError> {
    const ATTRIBUTE: &str = "DATASTORE/TEMPLATE/POOL_NAME";
    let rule = "the name of a pool, or pool/namespace (letters, digits, '_', '-', '.')";
    let name = checked(ATTRIBUTE, value, is_pool, rule)?.unwrap_or_else(|| POOL.to_owned());
    // OpenNebula's own cuts SOURCE at its first slash, and would look for an image named like the namespace.
    if name.contains('/') && matches!(attributes.tm_mad.as_str(), "ceph" | "") {
        return Err(DatastoreError::value(
            ATTRIBUTE,
            name,
            "names a namespace, which OpenNebula's transfer driver (TM_MAD ceph) can't use: name a pool only, or use a transfer driver that knows namespaces",
        ));
    }
    Ok(name)
}

fn check_format(value: &str) -> Result<(), DatastoreError> {
    const ATTRIBUTE: &str = "DATASTORE/TEMPLATE/RBD_FORMAT";
    match value {
        "" | "2" => Ok(()),
        "1" => Err(DatastoreError::value(
            ATTRIBUTE,
            value,
            "has no snapshots to clone from, and Ceph makes no such images any more: set it to 2",
        )),
        other => Err(invalid(ATTRIBUTE, other, "2")),
    }
}

fn uses_librbd(from: &Reader) -> Result<bool, DatastoreError> {
    let text = from.value("", "LIBRBD")?;
    if text.is_empty() {
        return Ok(true);
    }
    let invalid = |value| SettingsError::Invalid {
        path: from.settings.driver_conf(&from.attributes.ds_mad),
        key: "LIBRBD",
        value,
        rule: "YES or NO",
    };
    Ok(parse_yes_no(&text).ok_or_else(|| invalid(text))?)
}

fn operation_timeout(from: &Reader) -> Result<Duration, DatastoreError> {
    match from.value("", "OSD_TIMEOUT")?.as_str() {
        "" => Ok(OPERATION_TIMEOUT),
        text => match text.parse() {
            Ok(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
            _ => Err(SettingsError::Invalid {
                path: from.settings.driver_conf(&from.attributes.ds_mad),
                key: "OSD_TIMEOUT",
                value: text.to_owned(),
                rule: "a number of seconds from 1 to 3600",
            }
            .into()),
        },
    }
}
