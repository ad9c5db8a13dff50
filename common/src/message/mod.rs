//! The message that oned sends with every call: `DS_DRIVER_ACTION_DATA`, as typed values.
//!
//! [`parse`] takes the message as oned sends it (base64 of XML) or as a person writes it (XML).
//! Numbers, yes/no values and lists are parsed here, once, and an attribute that can't be parsed
//! is reported by its name and value. Whether an attribute must be there depends on the action: the
//! accessors that return `Result` say which one is missing.

pub mod text;
mod units;
mod wire;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::path::PathBuf;
use text::shown;
pub use units::{Mebibytes, parse_bandwidth};

/// Name of the root element.
const ROOT: &str = "DS_DRIVER_ACTION_DATA";

/// What is wrong with a message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Nothing was sent.
    #[error("the message is empty: send DS_DRIVER_ACTION_DATA, as XML or in base64")]
    Empty,
    /// Neither XML nor base64.
    #[error(
        "the message is neither XML nor base64 ({0}): send DS_DRIVER_ACTION_DATA as oned does, or as plain XML"
    )]
    Base64(String),
    /// Not well-formed, or an element where none may be.
    #[error("the message is not well-formed DS_DRIVER_ACTION_DATA XML: {0}")]
    Xml(String),
    /// An attribute that the action needs is not there, or empty.
    #[error("{attribute} is missing or empty in the message: {remedy}")]
    Missing {
        /// Path of the attribute, such as `IMAGE/PATH`.
        attribute: &'static str,
        /// What it should hold.
        remedy: &'static str,
    },
    /// An attribute whose value can't be what it should be.
    #[error("{attribute} {} is not valid: it must be {rule}", shown(value))]
    Invalid {
        /// Path of the attribute, such as `IMAGE/SIZE`.
        attribute: &'static str,
        /// The value as it came.
        value: String,
        /// What a valid value looks like.
        rule: &'static str,
    },
}

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
    /// `FS`, the file system that `mkfs` shall make; empty: none.
    pub fs: String,
    /// `FORMAT`; empty for `cp`.
    pub format: String,
    /// `TARGET_SNAPSHOT`; `None` where the action has no target (-1 on the wire).
    pub target_snapshot: Option<u32>,
    /// Digests that the user gave, as `(attribute, value)`, all that are not empty.
    pub digests: Vec<(&'static str, String)>,
    /// Snapshots that oned knows of.
    pub snapshots: Vec<Snapshot>,
    path: String,
    source: String,
}

/// One snapshot as oned records it.
#[derive(Debug)]
pub struct Snapshot {
    /// Its number.
    pub id: u32,
    /// Whether the image's disk goes on from this one.
    pub active: bool,
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
    /// `TEMPLATE/BRIDGE_LIST`, hosts.
    pub bridge_list: Vec<String>,
    /// `TEMPLATE/STAGING_DIR`.
    pub staging_dir: String,
    /// `TEMPLATE/NFS_AUTO_ENABLE`, default no.
    pub nfs_auto_enable: bool,
    base_path: String,
}

impl Message {
    /// The message in base64, as oned sent it.
    #[must_use]
    pub fn encoded(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(text::original_bytes(&self.xml))
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
        self.target_snapshot.ok_or(MessageError::Missing {
            attribute: "IMAGE/TARGET_SNAPSHOT",
            remedy: "it must be the number of the snapshot",
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

/// Reads a message: base64 (with or without line breaks) of XML, or XML.
///
/// # Errors
/// [`MessageError`], naming the attribute where one is at fault.
pub fn parse(input: &[u8]) -> Result<Message, MessageError> {
    let input = input.trim_ascii();
    let xml = match input.first() {
        None => return Err(MessageError::Empty),
        Some(b'<') => input.to_vec(),
        Some(_) => decode_base64(input)?,
    };
    let xml = text::carry_bytes(xml);
    check_root(&xml)?;
    let wire = quick_xml::de::from_str(&xml)
        .map_err(|error| MessageError::Xml(text::one_line(&error.to_string())))?;
    Message::from_wire(wire, xml)
}

fn check_root(xml: &str) -> Result<(), MessageError> {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_str(xml);
    loop {
        match reader.read_event() {
            Ok(Event::Start(tag) | Event::Empty(tag)) if tag.name().as_ref() == ROOT => {
                return Ok(());
            }
            Ok(Event::Start(_) | Event::Empty(_) | Event::Eof) => {
                return Err(MessageError::Xml(
                    "the root element is not DS_DRIVER_ACTION_DATA".to_owned(),
                ));
            }
            Ok(_) => {}
            Err(error) => return Err(MessageError::Xml(text::one_line(&error.to_string()))),
        }
    }
}

fn decode_base64(input: &[u8]) -> Result<Vec<u8>, MessageError> {
    const FORGIVING: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let compact: Vec<u8> = input.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    FORGIVING.decode(compact).map_err(|error| MessageError::Base64(error.to_string()))
}

impl Message {
    fn from_wire(wire: wire::Message, xml: String) -> Result<Self, MessageError> {
        Ok(Self {
            xml,
            image: wire.image.map(Image::from_wire).transpose()?,
            datastore: wire.datastore.map(Datastore::from_wire).transpose()?,
            source_bridge_list: words(&wire.source_bridge_list),
        })
    }
}

impl Image {
    fn from_wire(wire: wire::Image) -> Result<Self, MessageError> {
        let digests = [
            ("MD5", wire.template.md5),
            ("SHA1", wire.template.sha1),
            ("SHA256", wire.template.sha256),
            ("SHA512", wire.template.sha512),
        ];
        let target = number::<i64>("IMAGE/TARGET_SNAPSHOT", &wire.target_snapshot)?;
        Ok(Self {
            id: number("IMAGE/ID", &wire.id)?,
            image_type: number("IMAGE/TYPE", &wire.r#type)?
                .map(|code: u8| image_type(code, &wire.r#type))
                .transpose()?,
            persistent: yes_no("IMAGE/PERSISTENT", &wire.persistent, false)?,
            size: number("IMAGE/SIZE", &wire.size)?.map(Mebibytes),
            fs: wire.fs.trim().to_owned(),
            format: wire.format.trim().to_owned(),
            target_snapshot: match target {
                None | Some(-1) => None,
                Some(id) => Some(u32::try_from(id).map_err(|_| MessageError::Invalid {
                    attribute: "IMAGE/TARGET_SNAPSHOT",
                    value: wire.target_snapshot.clone(),
                    rule: "the number of a snapshot",
                })?),
            },
            digests: digests
                .into_iter()
                .map(|(name, value)| (name, value.trim().to_owned()))
                .filter(|(_, value)| !value.is_empty())
                .collect(),
            snapshots: wire
                .snapshots
                .snapshot
                .iter()
                .map(Snapshot::from_wire)
                .collect::<Result<_, _>>()?,
            path: wire.path,
            source: wire.source,
        })
    }
}

impl Snapshot {
    fn from_wire(wire: &wire::Snapshot) -> Result<Self, MessageError> {
        Ok(Self {
            id: number("IMAGE/SNAPSHOTS/SNAPSHOT/ID", &wire.id)?.ok_or(MessageError::Missing {
                attribute: "IMAGE/SNAPSHOTS/SNAPSHOT/ID",
                remedy: "every snapshot has a number",
            })?,
            active: yes_no("IMAGE/SNAPSHOTS/SNAPSHOT/ACTIVE", &wire.active, false)?,
        })
    }
}

impl Datastore {
    fn from_wire(wire: wire::Datastore) -> Result<Self, MessageError> {
        let template = wire.template;
        let datastore_type = match number("DATASTORE/TYPE", &wire.r#type)?.unwrap_or(0_u8) {
            0 => DatastoreType::Image,
            1 => DatastoreType::System,
            2 => DatastoreType::File,
            3 => DatastoreType::Backup,
            _ => {
                return Err(MessageError::Invalid {
                    attribute: "DATASTORE/TYPE",
                    value: wire.r#type,
                    rule: "0 (image), 1 (system), 2 (files) or 3 (backup)",
                });
            }
        };
        let keeps_files = datastore_type == DatastoreType::File;
        let limit = template.limit_transfer_bw.trim();
        Ok(Self {
            id: number("DATASTORE/ID", &wire.id)?,
            ds_mad: wire.ds_mad.trim().to_owned(),
            tm_mad: wire.tm_mad.trim().to_owned(),
            datastore_type,
            restricted_dirs: words(&template.restricted_dirs)
                .iter()
                .map(|w| text::path(w))
                .collect(),
            safe_dirs: words(&template.safe_dirs).iter().map(|w| text::path(w)).collect(),
            driver: template.driver.trim().to_owned(),
            convert: yes_no("DATASTORE/TEMPLATE/CONVERT", &template.convert, true)?,
            no_decompress: yes_no(
                "DATASTORE/TEMPLATE/NO_DECOMPRESS",
                &template.no_decompress,
                keeps_files,
            )?,
            limit_transfer_bw: match limit {
                "" => None,
                text => Some(parse_bandwidth(text).ok_or_else(|| MessageError::Invalid {
                    attribute: "DATASTORE/TEMPLATE/LIMIT_TRANSFER_BW",
                    value: text.to_owned(),
                    rule: "bytes per second, with a suffix K, M or G if wanted",
                })?),
            },
            sparse: yes_no("DATASTORE/TEMPLATE/SPARSE", &template.sparse, true)?,
            tls_verify: match template.tls_verify.trim() {
                "" => None,
                text => Some(yes_no("DATASTORE/TEMPLATE/TLS_VERIFY", text, true)?),
            },
            bridge_list: words(&template.bridge_list),
            staging_dir: template.staging_dir.trim().to_owned(),
            nfs_auto_enable: yes_no(
                "DATASTORE/TEMPLATE/NFS_AUTO_ENABLE",
                &template.nfs_auto_enable,
                false,
            )?,
            base_path: wire.base_path,
        })
    }
}

fn image_type(code: u8, value: &str) -> Result<ImageType, MessageError> {
    Ok(match code {
        0 => ImageType::Os,
        1 => ImageType::Cdrom,
        2 => ImageType::Datablock,
        3 => ImageType::Kernel,
        4 => ImageType::Ramdisk,
        5 => ImageType::Context,
        6 => ImageType::Backup,
        7 => ImageType::Filesystem,
        _ => {
            return Err(MessageError::Invalid {
                attribute: "IMAGE/TYPE",
                value: value.to_owned(),
                rule: "a number from 0 (OS) to 7 (FILESYSTEM)",
            });
        }
    })
}

fn number<T: std::str::FromStr>(
    attribute: &'static str,
    value: &str,
) -> Result<Option<T>, MessageError> {
    match value.trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| MessageError::Invalid {
            attribute,
            value: value.to_owned(),
            rule: "a whole number in its range",
        }),
    }
}

fn yes_no(attribute: &'static str, value: &str, default: bool) -> Result<bool, MessageError> {
    match value.trim().to_ascii_lowercase().as_str() {
        "" => Ok(default),
        "yes" | "y" | "true" | "1" => Ok(true),
        "no" | "n" | "false" | "0" => Ok(false),
        _ => Err(MessageError::Invalid { attribute, value: value.to_owned(), rule: "YES or NO" }),
    }
}

fn words(value: &str) -> Vec<String> {
    value.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
