//! The directory at the end of an archive of which any part can be reached.

use super::super::{ArchiveError, Entry, Form, Kind, MOST_MEMBERS, NAMES, Stored, plain_name};
use super::form_of;
use super::local::{FIXED, Header};
use disk_image::foreign::ReadAt;
use rawzip::{ErrorKind, RECOMMENDED_BUFFER_SIZE, ReaderAt, ZipArchive, ZipLocator};
use std::io;

/// The end of the directory and the longest comment (4.3.16), and what zip64 has in front of it, bytes.
const END: u64 = (1 << 16) + 22 + 20 + 56;

struct Source<'r>(ReadAt<'r>);

impl ReaderAt for Source<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = (self.0)(offset, buffer.len())?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }
}

fn damaged(what: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::damaged(Kind::Zip, format!("its directory can't be used: {what}"))
}

fn wrong(error: rawzip::Error) -> ArchiveError {
    let text = error.to_string();
    match error.into_kind() {
        // The source's own reason, not the library's word for it.
        ErrorKind::IO(error) if error.kind() != io::ErrorKind::UnexpectedEof => error.into(),
        _ => damaged(text),
    }
}

/// The end of the directory: the last mark of one that is one, for the comment behind it may hold marks too.
fn located<'r>(
    read_at: ReadAt<'r>,
    buffer: &mut [u8],
    length: u64,
) -> Result<ZipArchive<Source<'r>>, ArchiveError> {
    const MOST_MARKS: usize = 8;
    let (mut end, mut first) = (length, None);
    for _ in 0..MOST_MARKS {
        let locator = ZipLocator::new().max_search_space(END.saturating_sub(length - end));
        match locator.locate_in_reader(Source(read_at), buffer, end) {
            Ok(archive) => return Ok(archive),
            Err((_, error)) => {
                let before = error.eocd_offset().filter(|&at| at < end);
                first.get_or_insert(error);
                let Some(before) = before else { break };
                end = before;
            }
        }
    }
    Err(first.map_or_else(|| damaged("it has no end"), wrong))
}

/// The regular files of an archive of `length` bytes, in the order in which they lie in it.
pub(in super::super) fn list(read_at: ReadAt, length: u64) -> Result<Vec<Entry>, ArchiveError> {
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = located(read_at, &mut buffer, length)?;
    let mut records = archive.entries(&mut buffer);
    let (mut entries, mut count, mut names) = (Vec::new(), 0, 0);
    while let Some(record) = records.next_entry().map_err(wrong)? {
        count += 1;
        if count > MOST_MEMBERS {
            return Err(ArchiveError::unsupported(
                Kind::Zip,
                format!("with more than {MOST_MEMBERS} members; take the disk out of it"),
            ));
        }
        let path = record.file_path();
        let name = path.as_bytes();
        if record.is_dir() || record.mode().is_symlink() {
            continue;
        }
        names += name.len();
        if names > NAMES {
            return Err(damaged("the names in it are too long"));
        }
        entries.push(Entry {
            name: plain_name(name),
            stored: Stored {
                offset: record.local_header_offset(),
                length: Some(record.compressed_size_hint()),
                size: Some(record.uncompressed_size_hint()),
                crc: Some(record.crc32()),
                form: form_of(record.compression_method().as_u16(), record.flags().bits()),
                header: [].into(),
            },
        });
    }
    entries.sort_by_key(|entry| entry.stored.offset);
    Ok(entries)
}

/// Where the data of a member of the directory is: behind a header of its own.
pub(in super::super) fn locate(
    read_at: ReadAt,
    length: u64,
    entry: &Entry,
) -> Result<Stored, ArchiveError> {
    let stored = &entry.stored;
    let wrong = |what| ArchiveError::damaged(Kind::Zip, format!("{:?} {what}", entry.name));
    let fixed = read_at(stored.offset, FIXED)?;
    let header = Header::parse(&fixed).ok_or_else(|| wrong("is not where its directory says"))?;
    let (name, extra) = header.variable();
    let whole = read_at(stored.offset, FIXED + name + extra)?;
    let own_name = whole.get(FIXED..FIXED + name).map(plain_name);
    if own_name.as_ref() != Some(&entry.name) || whole.len() < FIXED + name + extra {
        return Err(wrong("has another name where its data is"));
    }
    let same_form = match (form_of(header.method, header.flags), &stored.form) {
        (Form::Unreadable(one), Form::Unreadable(other)) => one == *other,
        (one, other) => std::mem::discriminant(&one) == std::mem::discriminant(other),
    };
    let offset = stored.offset + whole.len() as u64;
    let end = stored.length.and_then(|stored| offset.checked_add(stored));
    if !same_form || end.is_none_or(|end| end > length) {
        return Err(wrong("is stored in another way than its directory says"));
    }
    Ok(Stored { offset, header: whole.into(), ..stored.clone() })
}
