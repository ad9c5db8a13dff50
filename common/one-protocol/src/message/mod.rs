//! The message that oned sends with every call: `DS_DRIVER_ACTION_DATA`, as typed values.
//!
//! [`parse()`] takes the message as oned sends it (base64 of XML) or as a person writes it (XML).
//! Numbers, yes/no values and lists are parsed here, once, and an attribute that can't be parsed
//! is reported by its name and value. Whether an attribute must be there depends on the action: the
//! accessors that return `Result` say which one is missing.

mod ceph;
mod description;
mod error;
mod nfs;
mod parse;
mod units;
mod wire;

use base64::Engine as _;
pub use ceph::CephAttributes;
pub use description::Description;
pub use error::MessageError;
pub use parse::parse;
use runtime::mount::NfsExport;
use runtime::text;
use std::path::PathBuf;
use std::time::Duration;
pub use units::Mebibytes;

/// What an image is for (`IMAGE/TYPE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageType {
    /// A disk with an operating system (0).
    Os,
    /// A read-only optical disc (1).
    Cdrom,
    /// A data disk (2).
    Datablock,
    /// A kernel file (3).
    Kernel,
    /// An initial RAM disk file (4).
    Ramdisk,
    /// A context file (5).
    Context,
    /// A backup (6).
    Backup,
    /// A shared directory (7).
    Filesystem,
}

impl ImageType {
    /// The name that OpenNebula shows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Os => "OS",
            Self::Cdrom => "CDROM",
            Self::Datablock => "DATABLOCK",
            Self::Kernel => "KERNEL",
            Self::Ramdisk => "RAMDISK",
            Self::Context => "CONTEXT",
            Self::Backup => "BACKUP",
            Self::Filesystem => "FILESYSTEM",
        }
    }

    /// Files of a files datastore: never converted, never read as a disk.
    #[must_use]
    pub fn is_plain_file(self) -> bool {
        matches!(self, Self::Kernel | Self::Ramdisk | Self::Context)
    }
}

/// What a datastore holds (`DATASTORE/TYPE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatastoreType {
    /// Disk images (0).
    Image,
    /// Disks of running virtual machines (1).
    System,
    /// Kernels, RAM disks and context files (2).
    File,
    /// Backups (3).
    Backup,
}

/// The whole message.
#[derive(Debug)]
pub struct Message {
    xml: String,
    image: Option<Image>,
    datastore: Option<Datastore>,
    /// Hosts that hold the source of a `clone` out of a bridged datastore.
    pub source_bridge_list: Vec<String>,
}

/// The image that the action is about.
#[derive(Debug)]
pub struct Image {
    /// `ID`; not there for `stat`.
    pub id: Option<u64>,
    /// `TYPE`; not there for `stat`.
    pub image_type: Option<ImageType>,
    /// `PERSISTENT`.
    pub persistent: bool,
    /// `SIZE`, MiB.
    pub size: Option<Mebibytes>,
    /// Whether it comes out of a marketplace (`FROM_APP`).
    pub from_app: bool,
    /// Whether there is a `SIZE`, empty or not: for `stat`, whether the user can give the image one.
    pub has_size: bool,
    /// `FS`, the file system that `mkfs` shall make; empty: none.
    pub fs: String,
    /// `FORMAT`; empty for `cp`.
    pub format: String,
    /// `TEMPLATE/FORMAT`, what the user says of it; empty: nothing.
    pub template_format: String,
    /// `TARGET_SNAPSHOT`; -1 where the action has no target.
    pub target_snapshot: Option<i64>,
    /// The same, where oned has that snapshot of the image on record.
    pub recorded_target: Option<i64>,
    /// Digests that the user gave, as `(attribute, value)`, all that are not empty.
    pub digests: Vec<(&'static str, String)>,
    /// `TEMPLATE/CHECKSUM_URL`, the publisher's checksum list; empty: none.
    pub checksum_url: String,
    /// `TEMPLATE/SIGNATURE_URL`, the signature of that list; empty: none, or in the list.
    pub signature_url: String,
    /// `TEMPLATE/FROM_APP_MD5`, the digest that a marketplace has for the image; empty: none.
    pub from_app_md5: String,
    path: String,
    source: String,
}

/// The datastore that the action works in.
#[allow(clippy::struct_excessive_bools)] // each is a YES or NO of its own in the template
#[derive(Debug, Clone)]
pub struct Datastore {
    /// `ID`.
    pub id: Option<u64>,
    /// `DS_MAD`, the driver's name.
    pub ds_mad: String,
    /// `TM_MAD`, the transfer driver's name.
    pub tm_mad: String,
    /// `TYPE`.
    pub datastore_type: DatastoreType,
    /// `TEMPLATE/RESTRICTED_DIRS`, path prefixes.
    pub restricted_dirs: Vec<PathBuf>,
    /// `TEMPLATE/SAFE_DIRS`, path prefixes.
    pub safe_dirs: Vec<PathBuf>,
    /// `TEMPLATE/DRIVER`, the format that images are kept in; empty: as they come.
    pub driver: String,
    /// `TEMPLATE/CONVERT`, default yes.
    pub convert: bool,
    /// `TEMPLATE/NO_DECOMPRESS`, default yes in a files datastore, else no.
    pub no_decompress: bool,
    /// `TEMPLATE/LIMIT_TRANSFER_BW`, bytes per second.
    pub limit_transfer_bw: Option<u64>,
    /// `TEMPLATE/SPARSE`, default yes.
    pub sparse: bool,
    /// `TEMPLATE/TLS_VERIFY`; `None`: as the driver's configuration file says, else yes.
    pub tls_verify: Option<bool>,
    /// `TEMPLATE/PROGRESS`, default yes: whether oned is told how far a long action is.
    pub progress: bool,
    /// `TEMPLATE/TRASH`: how long deleted images are kept; `None`: as `datastore.conf` says, zero: not at all.
    pub trash: Option<Duration>,
    /// `TEMPLATE/DATASTORE_CAPACITY_CHECK`, default yes: whether oned holds an image's size against the
    /// free space of the datastore.
    pub capacity_check: bool,
    /// `TEMPLATE/BRIDGE_LIST`, hosts.
    pub bridge_list: Vec<String>,
    /// `TEMPLATE/STAGING_DIR`.
    pub staging_dir: String,
    /// `TEMPLATE/DOWNLOAD_ON_BRIDGE`, default no: the bridge host downloads itself.
    pub download_on_bridge: bool,
    /// `TEMPLATE/KEYRING`, files with the keys of publishers; empty: as `datastore.conf` says.
    pub keyring: String,
    /// `TEMPLATE/REQUIRE_DIGEST`, default no: what has no digest is not registered.
    pub require_digest: bool,
    /// `TEMPLATE/REQUIRE_SIGNATURE`, default no: what has no valid signature is not registered.
    pub require_signature: bool,
    /// The export that is to be mounted on `BASE_PATH`, where `TEMPLATE/NFS_AUTO_ENABLE` says yes.
    pub nfs: Option<NfsExport>,
    /// What an RBD pool is reached by, as it stands in the template.
    pub ceph: CephAttributes,
    base_path: String,
}

impl Message {
    /// The message in base64, as oned sent it.
    #[must_use]
    pub fn encoded(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(self.original())
    }

    /// The message as XML, as oned wrote it.
    #[must_use]
    pub fn original(&self) -> Vec<u8> {
        text::original_bytes(&self.xml)
    }

    /// The image, where the action needs one.
    ///
    /// # Errors
    /// [`MessageError::Missing`] where the message holds none.
    pub fn image(&self) -> Result<&Image, MessageError> {
        self.image.as_ref().ok_or(MessageError::Missing {
            attribute: "IMAGE",
            remedy: "this action works on an image",
        })
    }

    /// What people know the image by, which no action goes by.
    #[must_use]
    pub fn description(&self) -> Description {
        Description::of(&self.xml)
    }

    /// The datastore.
    ///
    /// # Errors
    /// [`MessageError::Missing`] where the message holds none.
    pub fn datastore(&self) -> Result<&Datastore, MessageError> {
        self.datastore.as_ref().ok_or(MessageError::Missing {
            attribute: "DATASTORE",
            remedy: "every action works in a datastore",
        })
    }
}

fn required<'a>(
    attribute: &'static str,
    value: &'a str,
    remedy: &'static str,
) -> Result<&'a str, MessageError> {
    if value.is_empty() {
        return Err(MessageError::Missing { attribute, remedy });
    }
    if value.contains('\0') {
        return Err(MessageError::Invalid {
            attribute,
            value: value.to_owned(),
            rule: "text without NUL",
        });
    }
    Ok(value)
}

impl Image {
    /// `PATH`: where the image comes from.
    ///
    /// # Errors
    /// [`MessageError::Missing`] where it is empty.
    pub fn path(&self) -> Result<&str, MessageError> {
        required("IMAGE/PATH", &self.path, "name the file or URL that the image comes from")
    }

    /// `SOURCE`: where the image lies in its datastore.
    ///
    /// # Errors
    /// [`MessageError::Missing`] where it is empty.
    pub fn source(&self) -> Result<&str, MessageError> {
        required("IMAGE/SOURCE", &self.source, "the image has no file in a datastore yet")
    }

    /// `SIZE`, where that is what `stat` found. For an image out of a marketplace it is what the app says, which
    /// is never compared with the image, and which its user can't change.
    #[must_use]
    pub fn measured_size(&self) -> Option<Mebibytes> {
        self.size.filter(|_| !self.from_app)
    }

    /// `SIZE`, of which `mkfs` needs more than none.
    ///
    /// # Errors
    /// Where it is missing or 0.
    pub fn size(&self) -> Result<Mebibytes, MessageError> {
        match self.size {
            Some(size) if size.0 > 0 => Ok(size),
            Some(size) => Err(MessageError::Invalid {
                attribute: "IMAGE/SIZE",
                value: size.0.to_string(),
                rule: "at least 1 (MiB): give the image a SIZE",
            }),
            None => Err(MessageError::Missing {
                attribute: "IMAGE/SIZE",
                remedy: "give the image a SIZE in MiB",
            }),
        }
    }

    /// `TARGET_SNAPSHOT`, where the action needs one.
    ///
    /// # Errors
    /// [`MessageError::Missing`] where there is none (or -1).
    pub fn target_snapshot(&self) -> Result<u32, MessageError> {
        let id = self.target_snapshot.ok_or(MessageError::Missing {
            attribute: "IMAGE/TARGET_SNAPSHOT",
            remedy: "it must be the number of the snapshot",
        })?;
        u32::try_from(id).map_err(|_| MessageError::Invalid {
            attribute: "IMAGE/TARGET_SNAPSHOT",
            value: id.to_string(),
            rule: "the number of a snapshot",
        })
    }
}

impl Datastore {
    /// `BASE_PATH`, as it came: replies begin with this text.
    ///
    /// # Errors
    /// Where it is missing or not absolute.
    pub fn base_path(&self) -> Result<&str, MessageError> {
        let path = required(
            "DATASTORE/BASE_PATH",
            &self.base_path,
            "it must name the datastore's directory",
        )?;
        if !path.starts_with('/') {
            return Err(MessageError::Invalid {
                attribute: "DATASTORE/BASE_PATH",
                value: path.to_owned(),
                rule: "an absolute path",
            });
        }
        Ok(path)
    }

    /// `DS_MAD`, the name that chooses the kind of datastore.
    ///
    /// # Errors
    /// Where it is missing or could not be the name of a driver.
    pub fn ds_mad(&self) -> Result<&str, MessageError> {
        let name = required("DATASTORE/DS_MAD", &self.ds_mad, "it must name the driver")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.starts_with('.') || !name.chars().all(plain) {
            return Err(MessageError::Invalid {
                attribute: "DATASTORE/DS_MAD",
                value: name.to_owned(),
                rule: "a driver's name (letters, digits, '_', '-', '.')",
            });
        }
        Ok(name)
    }
}

#[cfg(test)]
mod tests;
