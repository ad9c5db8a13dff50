//! The two ways to read an archive.

use ferrostore::transfer::archive::{Choice, Kind, Passing, Survey};
use std::io::{self, Read};

/// Of a member with holes, so many bytes are read at most.
const READ: u64 = 1 << 20;

/// What a member is, as far as it was read, and whether that is all of it.
type Member = Option<(Vec<u8>, bool)>;

/// The disk in the archive `input`, as a reader sees it that goes to and fro.
#[must_use]
pub fn surveyed(kind: Kind, input: &[u8], choice: Option<&Choice>) -> Member {
    let read_at = |offset: u64, length: usize| -> io::Result<Vec<u8>> {
        let rest = usize::try_from(offset).ok().and_then(|at| input.get(at..)).unwrap_or(&[]);
        Ok(rest[..rest.len().min(length)].to_vec())
    };
    let survey = Survey::of(kind, &read_at, input.len() as u64).ok()?;
    let found = survey.find(choice).ok()?;
    if let Some((offset, length)) = found.window() {
        assert!(offset + length <= input.len() as u64, "a member is inside of its archive");
    }
    let all = input.to_vec();
    let open = move |offset: u64| -> io::Result<Box<dyn Read + Send>> {
        let rest = all.get(offset as usize..).unwrap_or(&[]).to_vec();
        Ok(Box::new(io::Cursor::new(rest)))
    };
    let again = read(found.take_from(Box::new(io::Cursor::new(input.to_vec()))));
    let bytes = read(found.open(Box::new(open)));
    if let (Some(bytes), Some(again)) = (&bytes, &again) {
        assert!(bytes == again, "a stream has the same member");
    }
    if let (Some((bytes, true)), Some(size)) = (&bytes, found.size()) {
        assert_eq!(bytes.len() as u64, size, "a member is as long as it says");
    }
    bytes
}

/// The disk in the archive `input`, as a reader sees it that it passes by.
#[must_use]
pub fn passing(kind: Kind, input: &[u8], choice: Option<&Choice>) -> Member {
    let mut passing =
        Passing::new(kind, Box::new(io::Cursor::new(input.to_vec())), choice.cloned());
    passing.find().ok()?;
    read(passing)
}

fn read(member: impl Read) -> Member {
    let mut bytes = Vec::new();
    member.take(READ).read_to_end(&mut bytes).ok()?;
    let is_all = (bytes.len() as u64) < READ;
    Some((bytes, is_all))
}
