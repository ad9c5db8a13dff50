//! What is recorded of an image that is in the trash: one line of JSON (RFC 8259) beside its files or in a file of its own.

use crate::json::Object;
use crate::record::time;
use one_protocol::message::{Description, Image};
use runtime::staging::trash::{self, Trashed};
use runtime::text::original_bytes;
use serde::Deserialize;
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// The longest text of a record in a file, bytes: a path, and more than OpenNebula lets a name have.
pub const LONGEST: usize = 4096;

/// What is known of a deleted image; empty where it was not known.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Its number in oned.
    pub image: Option<u64>,
    /// Its name.
    pub name: String,
    /// Its owner's name.
    pub owner: String,
    /// Its group's name.
    pub group: String,
    /// OS, DATABLOCK, ...
    pub r#type: String,
    /// Its format, as oned recorded it.
    pub format: String,
    /// Its virtual size as oned recorded it, MiB.
    pub size_mib: Option<u64>,
    /// Whether it was persistent.
    pub persistent: bool,
    /// The prefix of the device, as in `vd`.
    pub prefix: String,
    /// Its SOURCE.
    pub source: String,
    /// The number of its datastore.
    pub datastore: Option<u64>,
    /// How many snapshots it has on disk.
    pub snapshots: u64,
}

impl Record {
    /// The record of an image in the trash of a file datastore.
    ///
    /// # Errors
    /// Where there is none that can be read.
    pub fn read(directory: &Path, trashed: &Trashed) -> io::Result<Self> {
        Ok(serde_json::from_slice(&trash::record(directory, trashed)?)?)
    }

    /// The line for `image` of the datastore with this number, which is put into the trash as `trashed`. Texts are cut to
    /// `longest` bytes, the name to twice that.
    #[must_use]
    pub fn line(
        image: &Image,
        description: &Description,
        datastore: Option<u64>,
        trashed: &Trashed,
        snapshots: u64,
        longest: usize,
    ) -> String {
        let mut object = Object::default();
        let mut text = |name, value: &str| {
            let value = original_bytes(value);
            let most = if name == "name" { 2 * longest } else { longest };
            object.text(name, &String::from_utf8_lossy(&value), most);
        };
        text("name", &description.name);
        text("owner", &description.owner);
        text("group", &description.group);
        text("type", image.image_type.map_or("", |image_type| image_type.name()));
        text("format", &image.format);
        text("prefix", &description.prefix);
        text("source", image.source().unwrap_or_default());
        text("deleted", &time::written(UNIX_EPOCH + trashed.deleted));
        let size = image.size.map(|size| size.0);
        for (name, number) in [("image", image.id), ("datastore", datastore), ("size_mib", size)] {
            if let Some(number) = number {
                object.number(name, number);
            }
        }
        object.number("keep_seconds", trashed.keep.as_secs());
        object.number("bytes", trashed.bytes);
        object.number("snapshots", snapshots);
        object.flag("persistent", image.persistent);
        object.into_line()
    }
}
