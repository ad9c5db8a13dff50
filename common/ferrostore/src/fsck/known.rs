//! What oned knows of the images in a datastore.

use super::CheckError;
use runtime::text;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

/// The images of one datastore, by the names of their files.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<OsString, KnownImage>);

/// One image, or several that say that they lie in the same file.
#[derive(Debug, Default)]
pub struct KnownImage {
    /// Their ids; none in a plain list.
    pub ids: Vec<u64>,
    /// The format as recorded; empty: not told.
    pub format: String,
    /// Whether it is a kernel or another plain file, which is no disk.
    pub plain: bool,
    /// Numbers of its snapshots.
    pub snapshots: Vec<u32>,
    /// Whether oned itself says that the file need not be there: it is being made or deleted.
    pub may_be_absent: bool,
}

impl KnownImage {
    pub(super) fn called(&self) -> String {
        match self.ids.as_slice() {
            [] => "this image".to_owned(),
            ids => {
                let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
                format!("image {} of oned", ids.join(", "))
            }
        }
    }
}

/// `IMAGE_POOL`, as `oneimage list -x` prints it: of each image what is needed here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
struct Pool {
    image: Vec<Image>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
struct Image {
    id: String,
    r#type: String,
    source: String,
    format: String,
    state: String,
    datastore_id: String,
    snapshots: Snapshots,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
struct Snapshots {
    snapshot: Vec<Snapshot>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
struct Snapshot {
    id: String,
}

/// Values of `IMAGE/TYPE` for plain files: KERNEL, RAMDISK, CONTEXT.
const PLAIN: [&str; 3] = ["3", "4", "5"];
/// Values of `IMAGE/STATE` in which the file need not be there: LOCKED, DELETE, `LOCKED_USED`,
/// `LOCKED_USED_PERS`.
const IN_BETWEEN: [&str; 4] = ["4", "7", "9", "10"];

impl Known {
    /// Reads the list in `path` (`-`: standard input) of the images in the datastore with the directory
    /// `directory` and, where that is known, the number `datastore`: what `oneimage list -x` prints,
    /// or a line with the SOURCE or the file's name for each image.
    ///
    /// # Errors
    /// [`CheckError::List`].
    pub fn read(path: &Path, directory: &Path, datastore: Option<u64>) -> Result<Self, CheckError> {
        let refused = |reason: String| CheckError::List { path: path.to_owned(), reason };
        let bytes = contents(path).map_err(|error| refused(format!("can't be read: {error}")))?;
        Self::parse(bytes, directory, datastore).map_err(refused)
    }

    fn parse(bytes: Vec<u8>, directory: &Path, datastore: Option<u64>) -> Result<Self, String> {
        let text = text::carry_bytes(bytes);
        let mut known = Self::default();
        let listed = if text.trim_start().starts_with('<') {
            let pool: Pool = from_xml(&text)?;
            for image in pool.image.iter().filter(|image| !image.source.trim().is_empty()) {
                let source = text::path(image.source.trim());
                let here = match datastore {
                    Some(id) => image.datastore_id.trim().parse() == Ok(id),
                    None => lies_in(&source, directory),
                };
                if here && let Some(name) = source.file_name() {
                    known.add(name, image);
                }
            }
            pool.image.len()
        } else {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let mut count = 0;
            for source in lines.map(text::path) {
                count += 1;
                let bare = source.parent() == Some(Path::new(""));
                if (bare || lies_in(&source, directory))
                    && let Some(name) = source.file_name()
                {
                    known.0.entry(name.to_owned()).or_default();
                }
            }
            count
        };
        // With the wrong list, every image would be taken for an orphan.
        if known.0.is_empty() && listed > 0 && datastore.is_none() {
            return Err(format!(
                "no image of its {listed} lies in {}: give the list of this datastore, or its number with --datastore",
                directory.display()
            ));
        }
        Ok(known)
    }

    fn add(&mut self, name: &OsStr, image: &Image) {
        let known = self.0.entry(name.to_owned()).or_default();
        known.ids.extend(image.id.trim().parse::<u64>());
        known.format = image.format.trim().to_ascii_lowercase();
        known.plain = PLAIN.contains(&image.r#type.trim());
        known.may_be_absent = IN_BETWEEN.contains(&image.state.trim());
        let snapshots = image.snapshots.snapshot.iter();
        known.snapshots.extend(snapshots.filter_map(|one| one.id.trim().parse::<u32>().ok()));
    }

    pub(super) fn image(&self, name: &OsStr) -> Option<&KnownImage> {
        self.0.get(name)
    }

    pub(super) fn images(&self) -> impl Iterator<Item = (&OsString, &KnownImage)> {
        self.0.iter()
    }
}

fn contents(path: &Path) -> io::Result<Vec<u8>> {
    if path.as_os_str() != "-" {
        return fs::read(path);
    }
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn from_xml(text: &str) -> Result<Pool, String> {
    let root = text.split_once("<IMAGE_POOL");
    if root.is_none_or(|(before, _)| before.contains("<IMAGE>")) {
        return Err("it is no IMAGE_POOL: make it with `oneimage list -x`".to_owned());
    }
    quick_xml::de::from_str(text).map_err(|error| {
        format!(
            "it can't be read as XML: {}; make it anew with `oneimage list -x`",
            text::one_line(&error.to_string())
        )
    })
}

/// Whether `source` lies directly in `directory`, by its text ("//" and "/./" make no difference) or by what
/// that means on this machine.
fn lies_in(source: &Path, directory: &Path) -> bool {
    let Some(parent) = source.parent() else { return false };
    parent == directory
        || match (parent.canonicalize(), directory.canonicalize()) {
            (Ok(parent), Ok(directory)) => parent == directory,
            _ => false,
        }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const POOL: &str = "<IMAGE_POOL>\n<IMAGE><ID>3</ID><TYPE>0</TYPE><SOURCE><![CDATA[/ds//1/aa]]></SOURCE>\
        <FORMAT>qcow2</FORMAT><STATE>1</STATE><DATASTORE_ID>1</DATASTORE_ID><DATASTORE>d</DATASTORE>\
        <VMS><ID>9</ID></VMS><SNAPSHOTS><SNAPSHOT><ID>0</ID></SNAPSHOT><SNAPSHOT><ID>2</ID></SNAPSHOT>\
        </SNAPSHOTS></IMAGE>\n<IMAGE><ID>4</ID><TYPE>3</TYPE><SOURCE>/ds//2/bb</SOURCE><STATE>4</STATE>\
        <DATASTORE_ID>2</DATASTORE_ID></IMAGE><IMAGE><ID>5</ID><SOURCE/></IMAGE></IMAGE_POOL>";

    fn names(known: &Known) -> Vec<&OsString> {
        known.images().map(|(name, _)| name).collect()
    }

    #[test]
    fn a_pool_is_held_against_the_number_of_the_datastore() {
        let known = Known::parse(POOL.into(), Path::new("/elsewhere"), Some(1)).unwrap();
        assert_eq!(names(&known), ["aa"]);
        let image = known.image(OsStr::new("aa")).unwrap();
        assert_eq!((image.ids.as_slice(), image.format.as_str()), (&[3][..], "qcow2"));
        assert_eq!(image.snapshots, [0, 2]);
        assert!(!image.plain && !image.may_be_absent);
    }

    #[test]
    fn a_pool_is_held_against_the_directory_where_no_number_is_known() {
        let known = Known::parse(POOL.into(), Path::new("/ds/2"), None).unwrap();
        assert_eq!(names(&known), ["bb"]);
        let image = known.image(OsStr::new("bb")).unwrap();
        assert!(image.plain && image.may_be_absent);
    }

    #[test]
    fn a_list_holds_names_and_sources() {
        let list = "aa\n\n/ds/1//bb\n/ds/2/cc\n".as_bytes().to_vec();
        let known = Known::parse(list, Path::new("/ds/1"), None).unwrap();
        assert_eq!(names(&known), ["aa", "bb"]);
    }

    #[test]
    fn a_list_of_another_datastore_is_refused() {
        let error = Known::parse(POOL.into(), Path::new("/ds/7"), None).unwrap_err();
        assert!(error.contains("/ds/7") && error.contains("--datastore"), "{error}");
        let known = Known::parse(POOL.into(), Path::new("/ds/7"), Some(7)).unwrap();
        assert!(names(&known).is_empty());
    }

    #[test]
    fn what_is_no_pool_is_refused() {
        for text in ["<VM_POOL></VM_POOL>", "<IMAGE><ID>1</ID></IMAGE>", "<IMAGE_POOL><IMAGE>"] {
            let error = Known::parse(text.into(), Path::new("/ds/1"), Some(1)).unwrap_err();
            assert!(error.contains("oneimage list -x"), "{error}");
        }
    }
}
