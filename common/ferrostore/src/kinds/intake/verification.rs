//! What an image must be, by its publisher and by the datastore: found out before its first byte is read, so that its digests can
//! be computed as it passes.

use super::Intake;
use crate::kinds::DatastoreError;
use crate::policy::{Kind, PathRules};
use crate::transfer::digest::{Digests, Origin};
use crate::transfer::http::WebFile;
use crate::transfer::location::{Location, without_password};
use crate::verify::keys::Keys;
use crate::verify::list::{self, Listed};
use crate::verify::signature::{is_clear_signed, verify_clear_signed, verify_detached};
use one_protocol::message::{Image, MessageError};
use runtime::command::{self, Part};
use runtime::text;
use std::fmt::Display;
use std::io::Read;
use std::time::{Duration, Instant};

const LIST: &str = "IMAGE/TEMPLATE/CHECKSUM_URL";
const SIGNATURE: &str = "IMAGE/TEMPLATE/SIGNATURE_URL";
const KEYRING: &str = "DATASTORE/TEMPLATE/KEYRING";
/// As [`KEYRING`], where the value is that of the setting.
const KEYRING_SETTING: &str = "KEYRING (datastore.conf)";

/// A list, or a signature, is not larger, MiB.
const LARGEST: u64 = 1;
/// List and signature may take so long together.
const TIME: Duration = Duration::from_secs(120);

/// A list, or a signature, that an attribute names.
struct Document<'v> {
    attribute: &'static str,
    /// As it may be shown.
    value: String,
    /// What the attribute says.
    name: &'v str,
    location: Location,
}

impl<'v> Document<'v> {
    /// What `name` means: a URL, a whole path, or a name beside `beside`.
    fn new(
        attribute: &'static str,
        name: &'v str,
        beside: &Location,
    ) -> Result<Self, DatastoreError> {
        let value = without_password(name);
        let mut location = Location::parse(name);
        if is_relative(&location) {
            location = beside.sibling(name).ok_or_else(|| {
                let reason = "is a name without a place: IMAGE/PATH has no directory to look in; give a URL or a whole path";
                DatastoreError::value(attribute, &value, reason)
            })?;
        }
        Ok(Self { attribute, value, name, location })
    }

    fn error(&self, reason: impl Display) -> DatastoreError {
        if is_relative(&Location::parse(self.name)) {
            let place = text::shown(&without_password(&self.location.to_string()));
            return DatastoreError::value(
                self.attribute,
                &self.value,
                format_args!("({place}) {reason}"),
            );
        }
        DatastoreError::value(self.attribute, &self.value, reason)
    }
}

fn is_relative(location: &Location) -> bool {
    matches!(location, Location::Local(path) if !path.is_absolute())
}

fn missing(attribute: &'static str, remedy: &'static str) -> DatastoreError {
    MessageError::Missing { attribute, remedy }.into()
}

impl Intake {
    /// Adds to `digests` what the image at `location` must have, by its publisher's list and its marketplace. Whether a signature vouches
    /// for that.
    pub(super) fn expect(
        &self,
        image: &Image,
        location: &Location,
        digests: &mut Digests,
    ) -> Result<bool, DatastoreError> {
        let (attributes, settings) = (&self.attributes, &self.settings);
        let signature_required = attributes.require_signature || settings.requires_signature()?;
        let digest_required = attributes.require_digest || settings.requires_digest()?;
        if !image.from_app_md5.is_empty() {
            // Some marketplaces fill in another word: then there is none.
            let origin = Origin::App { required: digest_required };
            let _ = digests.add("MD5", &image.from_app_md5, origin);
        }
        let mut signed = false;
        if !image.checksum_url.is_empty() {
            signed = self.expect_listed(image, location, signature_required, digests)?;
        } else if signature_required {
            return Err(missing(
                LIST,
                "this datastore takes only what is signed (REQUIRE_SIGNATURE): give the publisher's checksum list, and in SIGNATURE_URL its signature where that is not in it",
            ));
        } else if !image.signature_url.is_empty() {
            return Err(missing(
                LIST,
                "SIGNATURE_URL is the signature of a checksum list: give that, too",
            ));
        }
        if digest_required && digests.is_empty() {
            return Err(missing(
                "IMAGE/TEMPLATE/SHA256",
                "this datastore takes only what has a digest (REQUIRE_DIGEST): give one, or in CHECKSUM_URL the publisher's checksum list",
            ));
        }
        Ok(signed)
    }

    /// As [`Self::expect`], by the list alone.
    fn expect_listed(
        &self,
        image: &Image,
        location: &Location,
        signature_required: bool,
        digests: &mut Digests,
    ) -> Result<bool, DatastoreError> {
        let list = Document::new(LIST, &image.checksum_url, location)?;
        let beside =
            if is_relative(&Location::parse(list.name)) { location } else { &list.location };
        let signature = match image.signature_url.as_str() {
            "" => None,
            name => Some(Document::new(SIGNATURE, name, beside)?),
        };
        let keys = self.keys()?;
        if keys.is_none() && (signature_required || signature.is_some()) {
            return Err(missing(
                KEYRING,
                "a signature is verified by the publisher's key: have the administrator put that into a file below /etc, and set KEYRING to its path here or in datastore.conf",
            ));
        }
        let until = Instant::now() + TIME;
        let mut server = None;
        let bytes = self.small(&list, until, &mut server)?;
        let (content, key) = match (signature, keys) {
            (Some(document), Some(keys)) => {
                let signature = self.small(&document, until, &mut server)?;
                let key = verify_detached(&bytes, &signature, &keys);
                (bytes, Some(key.map_err(|error| document.error(error))?))
            }
            (None, Some(keys)) if is_clear_signed(&bytes) => {
                let verified = verify_clear_signed(&bytes, &keys);
                let (content, key) = verified.map_err(|error| list.error(error))?;
                (content, Some(key))
            }
            _ if signature_required => {
                return Err(missing(
                    SIGNATURE,
                    "this datastore takes only what is signed (REQUIRE_SIGNATURE), and the list has no signature in it",
                ));
            }
            _ => (bytes, None),
        };
        if key.is_none() && is_clear_signed(&content) {
            log::info!(
                "the signature in {} is not verified, because KEYRING is not set",
                list.value
            );
        }
        let path = file_path(image, location);
        let listed = list::find(&content, &path).map_err(|error| list.error(error))?;
        if key.is_some() && listed.is_weak() {
            return Err(list.error(format_args!(
                "has only the {} digest of the image, for which another image could be made: give a signed list with SHA256 or SHA512 digests",
                listed.algorithm
            )));
        }
        let signed = key.is_some();
        let Listed { algorithm, digest } = listed;
        let origin = Origin::List { list: list.value.clone(), key };
        digests.add(algorithm, &digest, origin).map_err(|_| list.error(list::ListError::NoList))?;
        Ok(signed)
    }

    /// The keys of publishers that count; `None` where KEYRING is not set.
    fn keys(&self) -> Result<Option<Keys>, DatastoreError> {
        let (attribute, value) = match self.attributes.keyring.as_str() {
            "" => (KEYRING_SETTING, self.settings.keyring()?),
            own => (KEYRING, own.to_owned()),
        };
        let mut keys = None;
        for path in value.split_whitespace() {
            let added = keys.get_or_insert_with(Keys::default).add(&text::path(path));
            added.map_err(|error| DatastoreError::value(attribute, path, error))?;
        }
        Ok(keys)
    }

    /// All bytes of a list or a signature. What is on the `server` that was asked last comes by the same connection.
    fn small(
        &self,
        document: &Document,
        until: Instant,
        server: &mut Option<WebFile>,
    ) -> Result<Vec<u8>, DatastoreError> {
        let stream: Box<dyn Read> = match &document.location {
            Location::Http(url) => {
                let file = match server {
                    Some(server) => server.beside(url),
                    None => WebFile::new(url, self.verifies_tls()?).beside(url),
                };
                let bytes =
                    file.whole_small(LARGEST, until).map_err(|error| document.error(error))?;
                *server = Some(file);
                return Ok(bytes);
            }
            Location::Local(path) => {
                let rules = PathRules::of(&self.attributes, &self.settings);
                let admitted = rules.admit(path, &[Kind::File]);
                Box::new(admitted.map_err(|error| document.error(error))?.file)
            }
            Location::Ssh { host, path } => {
                let file = command::ssh_file(host, path, Part::Whole);
                Box::new(file.map_err(|error| document.error(error))?.until(until))
            }
            Location::Helper { scheme } => {
                let reason = format!(
                    "can't be fetched by {scheme}: give a URL of http, https or ssh, or a path"
                );
                return Err(document.error(reason));
            }
            Location::Unknown(reason) => return Err(document.error(reason)),
        };
        let limit = LARGEST << 20;
        let mut bytes = Vec::new();
        stream.take(limit + 1).read_to_end(&mut bytes).map_err(|error| {
            document.error(format_args!("can't be read: {error}; check it, and try again"))
        })?;
        if bytes.len() as u64 > limit {
            return Err(document.error(format_args!(
                "can't be used: it is larger than {LARGEST} MiB; check that it is the right file"
            )));
        }
        Ok(bytes)
    }
}

/// The path of the image, of which a list has the end.
fn file_path(image: &Image, location: &Location) -> Vec<u8> {
    location.file_path().unwrap_or_else(|| {
        let path = image.path().unwrap_or_default();
        text::original_bytes(path.split(['?', '#']).next().unwrap_or_default())
    })
}
