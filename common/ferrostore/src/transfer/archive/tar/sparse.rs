//! Members without their holes: the maps that GNU tar writes.

use super::super::{ArchiveError, Kind};
use super::header::{BLOCK, Block, number};
use super::pax::decimal;

/// Runs of data in a map at most: 16 MiB of memory.
const MOST_RUNS: usize = 1 << 20;

fn damaged(what: &str) -> ArchiveError {
    ArchiveError::damaged(Kind::Tar, format!("the map of a sparse member {what}"))
}

/// The map in a header of GNU tar's own, which goes on in blocks that `next` brings; with it the size with
/// all holes, and how many blocks were read.
pub(super) fn of_header(
    header: &Block,
    mut next: impl FnMut() -> Result<Block, ArchiveError>,
) -> Result<(Vec<u64>, u64), ArchiveError> {
    let size = number(&header[483..495]).ok_or_else(|| damaged("has no size"))?;
    let mut map = Vec::new();
    take_entries(&header[386..482], &mut map)?;
    let mut goes_on = header[482] != 0;
    while goes_on {
        let block = next()?;
        take_entries(&block[..504], &mut map)?;
        goes_on = block[504] != 0;
        check_count(map.len())?;
    }
    Ok((map, size))
}

fn take_entries(field: &[u8], map: &mut Vec<u64>) -> Result<(), ArchiveError> {
    for entry in field.chunks_exact(24) {
        if entry[0] == 0 {
            break;
        }
        for value in [&entry[..12], &entry[12..]] {
            map.push(number(value).ok_or_else(|| damaged("has a number that is none"))?);
        }
    }
    Ok(())
}

fn check_count(numbers: usize) -> Result<(), ArchiveError> {
    if numbers > 2 * MOST_RUNS { Err(damaged("is too long")) } else { Ok(()) }
}

/// The map in front of the data (version 1.0): decimal numbers, one a line, up to the end of a block. With it,
/// how many bytes it takes.
pub(super) fn in_front(
    mut next: impl FnMut() -> Result<Block, ArchiveError>,
) -> Result<(Vec<u64>, u64), ArchiveError> {
    let (mut map, mut wanted, mut digits, mut length) = (Vec::new(), None, Vec::new(), 0);
    while wanted.is_none_or(|wanted| (map.len() as u64) < wanted) {
        let block = next()?;
        length += BLOCK as u64;
        for &byte in &block {
            if wanted.is_some_and(|wanted| map.len() as u64 == wanted) {
                break;
            }
            if byte != b'\n' {
                digits.push(byte);
                if digits.len() > 20 {
                    return Err(damaged("has a number that is none"));
                }
                continue;
            }
            let value = decimal(&digits).ok_or_else(|| damaged("has a number that is none"))?;
            digits.clear();
            if wanted.is_none() {
                check_count(usize::try_from(value).unwrap_or(usize::MAX).saturating_mul(2))?;
                wanted = Some(value * 2);
            } else {
                map.push(value);
            }
        }
    }
    Ok((map, length))
}

/// The runs of a map of offsets and lengths in turn: in order, apart, within `size` bytes, and `stored` bytes in
/// all.
pub(super) fn runs(map: &[u64], size: u64, stored: u64) -> Result<Vec<(u64, u64)>, ArchiveError> {
    check_count(map.len())?;
    if !map.len().is_multiple_of(2) {
        return Err(damaged("is cut off"));
    }
    let (mut runs, mut end, mut sum) = (Vec::new(), 0, 0_u64);
    for pair in map.chunks_exact(2) {
        let (start, length) = (pair[0], pair[1]);
        let next = start.checked_add(length).filter(|&next| next <= size && start >= end);
        end = next.ok_or_else(|| damaged("is not in order"))?;
        sum += length;
        if length > 0 {
            runs.push((start, length));
        }
    }
    if sum == stored { Ok(runs) } else { Err(damaged("and its data have different lengths")) }
}
