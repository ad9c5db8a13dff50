//! Which images may be registered, and which files an image may be read together with.

use crate::foreign::{self, ReadAt};
use crate::markup::markup;
use crate::observer::{Advice, advice};
use crate::probe::{self, Content};
use crate::qcow2::{BackingFile, Chain, Encryption, Header, Layer, read_bytes, read_up_to};
use crate::raw::RawDisk;
use crate::{Format, ImageError};
use runtime::found::{find, real_directory};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Longer chains of backing files are refused: each file of one costs memory.
const LONGEST_CHAIN: usize = 200;

/// Why an image is refused. The text goes on after the name and the value of the attribute.
#[derive(Debug, thiserror::Error)]
pub enum ImageRefusal {
    /// Nothing in it.
    #[error("is empty: give a file that holds an image")]
    Empty,
    /// A format that is not accepted.
    #[error("is a {0} file, which is not accepted: convert it with `qemu-img convert` first")]
    Format(&'static str),
    /// A page that a server sent, most likely.
    #[error(
        "is {0} text and no disk: a server may have sent a login or error page in place of the image; check what the URL or path leads to, then register it with the right one"
    )]
    Markup(&'static str),
    /// Marks of two formats.
    #[error(
        "could be {0} as well as {1}, so it is not accepted: convert it with `qemu-img convert` first"
    )]
    Ambiguous(&'static str, &'static str),
    /// A larger disk than may be.
    #[error(
        "has a virtual size of {size} bytes, and at most {largest} are accepted: make its disk smaller{}",
        advice(Advice::RaiseLimit)
    )]
    TooLarge {
        /// Its virtual size, bytes.
        size: u64,
        /// The limit, bytes.
        largest: u64,
    },
    /// A compressed file inside a compressed file.
    #[error("holds another compressed file ({0}): decompress it once before registering it")]
    CompressedTwice(&'static str),
    /// The image itself says no.
    #[error("can't be used: {0}")]
    Image(#[from] ImageError),
    /// It reads another file.
    #[error("is a qcow2 image with {what}: an image must hold all its data itself; {remedy}")]
    OtherFile {
        /// What it has.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Encrypted in a way that can't be used.
    #[error(
        "is a qcow2 image encrypted with AES: that method is broken and virtual machines can't use it; decrypt it with `qemu-img convert` first"
    )]
    EncryptedWithAes,
    /// Encrypted, and so not to be read.
    #[error(
        "is a qcow2 image encrypted with LUKS: it can't be converted without its key; keep it as qcow2{}",
        advice(Advice::KeepEncrypted)
    )]
    EncryptedWithLuks,
    /// A chain that leaves its directory.
    #[error(
        "has the backing file {name}, which is not in the same directory ({directory}), and only files of that directory are read together with an image: flatten it with `qemu-img convert -O qcow2` where that file is"
    )]
    OutsideDirectory {
        /// The name.
        name: String,
        /// The directory.
        directory: PathBuf,
    },
    /// A chain that can't be followed.
    #[error(
        "has the backing file {name}, which can't be used: {reason}; put that file back, or flatten it where that file is"
    )]
    BrokenChain {
        /// The name.
        name: String,
        /// Why.
        reason: String,
    },
}

/// What an admitted file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// A disk in this format.
    Disk(Format),
    /// A LUKS container: format raw, never converted.
    Luks,
}

impl Admission {
    /// The format that such a file counts as.
    #[must_use]
    pub fn format(self) -> Format {
        match self {
            Self::Disk(format) => format,
            Self::Luks => Format::Raw,
        }
    }
}

/// That a disk of `size` bytes is not larger than `largest`, the limit of this program.
///
/// # Errors
/// [`ImageRefusal::TooLarge`].
pub fn check_size(size: u64, largest: u64) -> Result<(), ImageRefusal> {
    if size > largest { Err(ImageRefusal::TooLarge { size, largest }) } else { Ok(()) }
}

/// Judges an image by its first bytes (`head`), reading further through `read_at`; its virtual size
/// in bytes too, where its format has a header. That may be at most `largest`.
///
/// # Errors
/// [`ImageRefusal`].
pub fn admit(
    head: &[u8],
    read_at: ReadAt,
    largest: u64,
) -> Result<(Admission, Option<u64>), ImageRefusal> {
    if head.is_empty() {
        return Err(ImageRefusal::Empty);
    }
    match Content::of(head) {
        Content::Disk(Format::Raw) => match markup(head) {
            Some(name) => Err(ImageRefusal::Markup(name)),
            None => Ok((Admission::Disk(Format::Raw), None)),
        },
        Content::Disk(Format::Qcow2) => {
            let header = Header::parse(head, |offset, buffer| {
                let bytes = read_at(offset, buffer.len())
                    .map_err(|source| ImageError::Read { offset, source })?;
                if bytes.len() < buffer.len() {
                    return Err(ImageError::Corrupt {
                        format: Format::Qcow2,
                        what: "its header is cut off".into(),
                    });
                }
                buffer.copy_from_slice(&bytes);
                Ok(())
            })?;
            stands_alone(&header)?;
            check_size(header.size, largest)?;
            Ok((Admission::Disk(Format::Qcow2), Some(header.size)))
        }
        Content::Disk(format) => {
            let size = foreign::virtual_size(format, read_at)?;
            check_size(size, largest)?;
            Ok((Admission::Disk(format), Some(size)))
        }
        Content::Luks => {
            foreign::check_luks(read_at)?;
            Ok((Admission::Luks, None))
        }
        Content::Compressed(compression) => Err(ImageRefusal::CompressedTwice(compression.name())),
        Content::Refused(name) => Err(ImageRefusal::Format(name)),
        Content::Ambiguous(one, other) => Err(ImageRefusal::Ambiguous(one, other)),
    }
}

/// Judges the image of `format` in `file` by all that it holds: its tables too; its virtual size in bytes.
///
/// # Errors
/// [`ImageRefusal`].
pub fn admit_whole(file: &File, format: Format, largest: u64) -> Result<u64, ImageRefusal> {
    let length = file.metadata().map_err(unreadable)?.len();
    let size = match format {
        Format::Raw => {
            check_trailer(&tail(file, length).map_err(unreadable)?)?;
            length
        }
        Format::Qcow2 => {
            let layer = Layer::open(file.try_clone().map_err(unreadable)?)?;
            stands_alone(layer.header())?;
            layer.verify()?;
            layer.header().size
        }
        _ => foreign::check_whole(format, length, &|at, count| read_bytes(file, at, count))?,
    };
    check_size(size, largest)?;
    Ok(size)
}

fn unreadable(source: io::Error) -> ImageError {
    ImageError::Read { offset: 0, source }
}

fn tail(file: &File, length: u64) -> io::Result<Vec<u8>> {
    read_bytes(file, length.saturating_sub(probe::TAIL as u64), probe::TAIL)
}

/// That a file that looks raw is of no other format by its last bytes ([`probe::TAIL`] of them).
///
/// # Errors
/// [`ImageRefusal::Format`].
pub fn check_trailer(tail: &[u8]) -> Result<(), ImageRefusal> {
    probe::trailer(tail).map_or(Ok(()), |name| Err(ImageRefusal::Format(name)))
}

/// Whether a qcow2 image may be kept: it holds all its data itself, in a form that still works.
///
/// # Errors
/// [`ImageRefusal`].
pub fn stands_alone(header: &Header) -> Result<(), ImageRefusal> {
    if let Some(name) = &header.backing_file {
        return Err(ImageRefusal::OtherFile {
            what: format!("the backing file {:?}", String::from_utf8_lossy(name)),
            remedy: "flatten it with `qemu-img convert -O qcow2` first",
        });
    }
    if header.has_data_file {
        return Err(ImageRefusal::OtherFile {
            what: "an external data file".to_owned(),
            remedy: "copy it with `qemu-img convert -O qcow2` first",
        });
    }
    if header.encryption == Encryption::Aes {
        return Err(ImageRefusal::EncryptedWithAes);
    }
    Ok(())
}

/// Whether the data of a qcow2 image can be read.
///
/// # Errors
/// [`ImageRefusal::EncryptedWithLuks`].
pub fn readable(header: &Header) -> Result<(), ImageRefusal> {
    if header.encryption == Encryption::None {
        return Ok(());
    }
    Err(ImageRefusal::EncryptedWithLuks)
}

/// Opens the qcow2 image at `path`, which is in `directory`, with all its backing files,
/// which must be there too.
///
/// # Errors
/// [`ImageRefusal`].
pub fn open_chain(path: &Path, directory: &Path) -> Result<Chain, ImageRefusal> {
    let broken = |name: &Path, reason: String| ImageRefusal::BrokenChain {
        name: name.display().to_string(),
        reason,
    };
    let inside = real_directory(directory).map_err(|error| broken(path, error.to_string()))?;
    let (mut layers, mut seen, mut base) = (Vec::new(), Vec::new(), None);
    let (mut name, mut format) = (path.to_owned(), None);
    loop {
        let found = find(&name).map_err(|error| broken(&name, error.to_string()))?;
        let real = found.real_path().to_owned();
        if !real.starts_with(&inside) {
            return Err(ImageRefusal::OutsideDirectory {
                name: real.display().to_string(),
                directory: directory.to_owned(),
            });
        }
        let identity = (found.metadata().dev(), found.metadata().ino());
        if !found.metadata().is_file() {
            return Err(broken(&real, "it is not a regular file".to_owned()));
        }
        if seen.contains(&identity) || seen.len() == LONGEST_CHAIN {
            return Err(broken(&real, "the chain of backing files never ends".to_owned()));
        }
        let file = found.open().map_err(|error| broken(&real, error.to_string()))?;
        seen.push(identity);
        // What is wrong further down the chain is told with the name of the file.
        let below = !layers.is_empty();
        let located = |error: ImageRefusal| {
            if below { broken(&real, error.to_string()) } else { error }
        };
        if below && !is_qcow2(&file, format.as_deref()).map_err(|error| located(error.into()))? {
            base = Some(RawDisk::open(file).map_err(|error| broken(&real, error.to_string()))?);
            break;
        }
        let layer = Layer::open(file).map_err(|error| located(error.into()))?;
        let header = layer.header();
        readable(header).map_err(located)?;
        if header.has_data_file {
            return Err(located(ImageRefusal::OtherFile {
                what: "an external data file".to_owned(),
                remedy: "copy it with `qemu-img convert -O qcow2` first",
            }));
        }
        let Some(next) = &header.backing_file else {
            layers.push(layer);
            break;
        };
        let next = BackingFile::named(&real, next).ok_or_else(|| {
            let what = String::from_utf8_lossy(next).into_owned();
            broken(Path::new(&what), "that is no whole file of this machine".to_owned())
        })?;
        format = next.format.or_else(|| header.backing_format.clone());
        name = next.path;
        layers.push(layer);
    }
    Ok(Chain::new(layers, base))
}

/// Whether a backing file is qcow2: as the image on it says, else by its own first bytes.
fn is_qcow2(file: &File, format: Option<&[u8]>) -> Result<bool, ImageError> {
    if let Some(format) = format {
        return Ok(format == b"qcow2");
    }
    let mut head = [0; 8];
    read_up_to(file, &mut head, 0).map_err(|source| ImageError::Read { offset: 0, source })?;
    Ok(matches!(Content::of(&head), Content::Disk(Format::Qcow2)))
}
