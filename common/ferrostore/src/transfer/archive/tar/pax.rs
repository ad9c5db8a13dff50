//! The records of a pax extended header (POSIX.1-2001, "pax Header Block"), as far as they concern content.

use super::super::{ArchiveError, Kind};

/// What extended headers say of the member that follows them.
#[derive(Debug, Default)]
pub(super) struct Extended {
    /// The name in front of all others: GNU tar's of a sparse file.
    name: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) sparse: Sparse,
}

/// What GNU tar says of a member without its holes ("Storing Sparse Files" in its manual).
#[derive(Debug, Default)]
pub(super) struct Sparse {
    /// Version 1.0: the map stands in front of the data.
    pub(super) map_in_data: bool,
    /// Versions 0.0 and 0.1: offsets and lengths in turn.
    pub(super) map: Vec<u64>,
    /// Size with the holes.
    pub(super) size: Option<u64>,
}

fn damaged(what: &str) -> ArchiveError {
    ArchiveError::damaged(Kind::Tar, format!("an extended header {what}"))
}

impl Extended {
    /// Takes the records of `bytes`: `LENGTH KEY=VALUE\n`, one behind the other.
    pub(super) fn add(&mut self, mut bytes: &[u8]) -> Result<(), ArchiveError> {
        while !bytes.is_empty() {
            let (record, rest) = split_record(bytes).ok_or_else(|| damaged("is not valid"))?;
            let equals = record.iter().position(|&byte| byte == b'=');
            let (key, value) = record.split_at(equals.ok_or_else(|| damaged("has no value"))?);
            self.set(key, &value[1..])?;
            bytes = rest;
        }
        Ok(())
    }

    /// The member's name, where a header of its own says it.
    pub(super) fn name(self) -> Option<Vec<u8>> {
        self.name.or(self.path)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), ArchiveError> {
        let number = || decimal(value).ok_or_else(|| damaged("has a number that is none"));
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"GNU.sparse.name" => self.name = Some(value.to_vec()),
            b"size" => self.size = Some(number()?),
            b"GNU.sparse.major" => self.sparse.map_in_data = number()? == 1,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = Some(number()?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse.map.push(number()?),
            b"GNU.sparse.map" => {
                let numbers = value.split(|&byte| byte == b',').map(decimal);
                self.sparse.map = numbers
                    .collect::<Option<_>>()
                    .ok_or_else(|| damaged("has a map that is none"))?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The first record without its length and line end, and what follows it.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = bytes.iter().take(20).position(|&byte| byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..blank])?).ok()?;
    let record = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
    Some((record, &bytes[length..]))
}

pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|&value| value < 1 << 63)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn records_are_read_by_their_lengths() {
        let mut extended = Extended::default();
        extended.add(b"15 path=a=b\nc d\n13 size=1000\n24 SCHILY.xattr.user=x\n\n").unwrap_err();
        let mut extended = Extended::default();
        extended.add(b"16 path=a=b\nc d\n13 size=1000\n").unwrap();
        assert_eq!((extended.size, extended.name().unwrap()), (Some(1000), b"a=b\nc d".to_vec()));
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        for wrong in
            [&b"x"[..], b"5 a=b", b"0 a=b\n", b"3 a=b\n", b"6 abc\n", b"99 a=b\n", b"10 size=-\n"]
        {
            assert!(Extended::default().add(wrong).is_err(), "{wrong:?}");
        }
    }
}
