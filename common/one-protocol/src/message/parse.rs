//! From the bytes of a message to its typed values.

use super::{
    CephAttributes, Datastore, DatastoreType, Image, ImageType, Mebibytes, Message, MessageError,
    description, nfs, wire,
};
use crate::values::{RETENTION, parse_bytes, parse_retention, parse_yes_no};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use runtime::text;

/// Name of the root element.
const ROOT: &str = "DS_DRIVER_ACTION_DATA";

/// Reads a message: base64 (with or without line breaks) of XML, or XML. An `input` that is handed over is freed before the
/// XML is read: a large one is in memory once less.
///
/// # Errors
/// [`MessageError`], naming the attribute where one is at fault.
pub fn parse(input: impl AsRef<[u8]>) -> Result<Message, MessageError> {
    let xml = decode(input.as_ref())?;
    drop(input);
    read(xml)
}

/// The XML of a message.
fn decode(input: &[u8]) -> Result<Vec<u8>, MessageError> {
    let input = input.trim_ascii();
    // An editor may have put a byte order mark in front.
    let input = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input).trim_ascii();
    match input.first() {
        None => Err(MessageError::Empty),
        Some(b'<') => Ok(input.to_vec()),
        Some(_) => decode_base64(input),
    }
}

fn read(xml: Vec<u8>) -> Result<Message, MessageError> {
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
    // oned sends one line; a large message is not copied for nothing.
    let decoded = if input.iter().any(u8::is_ascii_whitespace) {
        FORGIVING.decode(input.split(u8::is_ascii_whitespace).collect::<Vec<_>>().concat())
    } else {
        FORGIVING.decode(input)
    };
    decoded.map_err(|error| MessageError::Base64(error.to_string()))
}

impl Message {
    fn from_wire(wire: wire::Message, xml: String) -> Result<Self, MessageError> {
        Ok(Self {
            image: wire.image.map(|image| Image::from_wire(image, &xml)).transpose()?,
            datastore: wire.datastore.map(Datastore::from_wire).transpose()?,
            source_bridge_list: words(&wire.source_bridge_list),
            xml,
        })
    }
}

impl Image {
    fn from_wire(wire: wire::Image, xml: &str) -> Result<Self, MessageError> {
        let template_format = wire.template.format.trim().to_owned();
        let digests = [
            ("MD5", wire.template.md5),
            ("SHA1", wire.template.sha1),
            ("SHA256", wire.template.sha256),
            ("SHA512", wire.template.sha512),
        ];
        let target_snapshot = number("IMAGE/TARGET_SNAPSHOT", &wire.target_snapshot)?;
        let is_recorded = |&id: &i64| id >= 0 && description::has_snapshot(xml, id);
        let is_set = |value: &String| !value.trim().is_empty();
        Ok(Self {
            from_app: [&wire.from_app, &wire.template.from_app].into_iter().any(is_set),
            id: number("IMAGE/ID", &wire.id)?,
            image_type: number("IMAGE/TYPE", &wire.r#type)?
                .map(|code: u8| image_type(code, &wire.r#type))
                .transpose()?,
            persistent: yes_no("IMAGE/PERSISTENT", &wire.persistent, false)?,
            has_size: wire.size.is_some(),
            size: number("IMAGE/SIZE", wire.size.as_deref().unwrap_or_default())?.map(Mebibytes),
            fs: wire.fs.trim().to_owned(),
            // Images that were registered long ago have it in capitals.
            format: wire.format.trim().to_ascii_lowercase(),
            template_format,
            target_snapshot,
            digests: digests
                .into_iter()
                .map(|(name, value)| (name, value.trim().to_owned()))
                .filter(|(_, value)| !value.is_empty())
                .collect(),
            checksum_url: wire.template.checksum_url.trim().to_owned(),
            signature_url: wire.template.signature_url.trim().to_owned(),
            from_app_md5: wire.template.from_app_md5.trim().to_owned(),
            recorded_target: target_snapshot.filter(is_recorded),
            path: wire.path,
            source: wire.source,
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
                text => Some(parse_bytes(text).ok_or_else(|| MessageError::Invalid {
                    attribute: "DATASTORE/TEMPLATE/LIMIT_TRANSFER_BW",
                    value: text.to_owned(),
                    rule: "bytes per second, with a suffix K, M, G, T or P if wanted",
                })?),
            },
            sparse: yes_no("DATASTORE/TEMPLATE/SPARSE", &template.sparse, true)?,
            tls_verify: match template.tls_verify.trim() {
                "" => None,
                text => Some(yes_no("DATASTORE/TEMPLATE/TLS_VERIFY", text, true)?),
            },
            progress: yes_no("DATASTORE/TEMPLATE/PROGRESS", &template.progress, true)?,
            trash: match template.trash.trim() {
                "" => None,
                text => Some(parse_retention(text).ok_or_else(|| MessageError::Invalid {
                    attribute: "DATASTORE/TEMPLATE/TRASH",
                    value: text.to_owned(),
                    rule: RETENTION,
                })?),
            },
            capacity_check: yes_no(
                "DATASTORE/TEMPLATE/DATASTORE_CAPACITY_CHECK",
                &template.datastore_capacity_check,
                true,
            )?,
            bridge_list: words(&template.bridge_list),
            staging_dir: template.staging_dir.trim().to_owned(),
            download_on_bridge: yes_no(
                "DATASTORE/TEMPLATE/DOWNLOAD_ON_BRIDGE",
                &template.download_on_bridge,
                false,
            )?,
            keyring: template.keyring.trim().to_owned(),
            require_digest: yes_no(
                "DATASTORE/TEMPLATE/REQUIRE_DIGEST",
                &template.require_digest,
                false,
            )?,
            require_signature: yes_no(
                "DATASTORE/TEMPLATE/REQUIRE_SIGNATURE",
                &template.require_signature,
                false,
            )?,
            nfs: yes_no("DATASTORE/TEMPLATE/NFS_AUTO_ENABLE", &template.nfs_auto_enable, false)?
                .then(|| nfs::export_of(&template))
                .transpose()?,
            ceph: CephAttributes::of(&template),
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
    if value.trim().is_empty() {
        return Ok(default);
    }
    let invalid =
        || MessageError::Invalid { attribute, value: value.to_owned(), rule: "YES or NO" };
    parse_yes_no(value).ok_or_else(invalid)
}

fn words(value: &str) -> Vec<String> {
    value.split_whitespace().map(str::to_owned).collect()
}
