//! Both ways of reading a vmdk image, against each other and against what went in.
#![allow(clippy::unwrap_used)]

use super::{Opened, SECTOR, Sequential, SparseDisk, write};
use crate::target::Target;
use crate::{Disk as _, ImageError, convert};
use flate2::{Compress, Compression, FlushCompress};
use std::fs::File;
use std::io::{Read, Write as _};

/// How an image is laid out.
#[derive(Debug, Clone, Copy)]
struct Layout {
    version: u32,
    /// Sectors.
    grain: usize,
    table_entries: usize,
    compressed: bool,
    /// In front of the grains; else at the end, in a footer's care.
    tables_first: bool,
    /// Each table behind its grains, not all of them behind all grains.
    interleaved: bool,
}

const STREAM: Layout = Layout {
    version: 3,
    grain: 8,
    table_entries: 4,
    compressed: true,
    tables_first: false,
    interleaved: true,
};
const FILE: Layout =
    Layout { version: 1, compressed: false, tables_first: true, interleaved: false, ..STREAM };

/// Bytes in which every sector differs, with zeroes in some grains.
fn disk(sectors: usize) -> Vec<u8> {
    let mut number = 0x5eed_u64;
    let mut bytes = Vec::new();
    for sector in 0..sectors {
        for _ in 0..SECTOR {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let hole = sector % 40 < 16;
            bytes.push(if hole { 0 } else { (number >> 60) as u8 });
        }
    }
    bytes
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(bytes.len() * 2 + 100);
    let mut compress = Compress::new(Compression::new(6), true);
    compress.compress_vec(bytes, &mut packed, FlushCompress::Finish).unwrap();
    packed
}

fn put(bytes: &mut Vec<u8>, offset: usize, content: &[u8]) {
    bytes.resize(bytes.len().max(offset + content.len()), 0);
    bytes[offset..offset + content.len()].copy_from_slice(content);
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

impl Layout {
    fn header(self, capacity: usize, directory: u64, overhead: u64) -> Vec<u8> {
        let mut header = vec![0; SECTOR as usize];
        put(&mut header, 0, b"KDMV");
        put(&mut header, 4, &self.version.to_le_bytes());
        let flags: u32 = if self.compressed { 0x3_0001 } else { 1 };
        put(&mut header, 8, &flags.to_le_bytes());
        for (offset, number) in [
            (12, capacity as u64),
            (20, self.grain as u64),
            (28, 1),
            (36, 2),
            (44, self.table_entries as u64),
            (56, directory),
            (64, overhead),
        ] {
            put(&mut header, offset, &number.to_le_bytes());
        }
        put(&mut header, 77, &[u8::from(self.compressed), 0]);
        let descriptor = format!(
            "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n\
             createType=\"streamOptimized\"\nRDONLY {capacity} SPARSE \"x\"\n"
        );
        let mut bytes = header;
        put(&mut bytes, SECTOR as usize, descriptor.as_bytes());
        bytes.resize(3 * SECTOR as usize, 0);
        bytes
    }

    /// The image of `disk`, its grains in this order where one is given.
    fn image(self, disk: &[u8], order: Option<&[usize]>) -> Vec<u8> {
        let capacity = disk.len() / SECTOR as usize;
        let grains: Vec<&[u8]> = disk.chunks(self.grain * SECTOR as usize).collect();
        let tables = grains.len().div_ceil(self.table_entries);
        let sectors_of = |entries: usize| (entries * 4).div_ceil(SECTOR as usize);
        let sector = |bytes: &Vec<u8>| (bytes.len() / SECTOR as usize) as u32;
        let mut entries = vec![0_u32; tables * self.table_entries];
        let mut places = vec![0_u32; tables];
        let overhead = 3 + if self.tables_first {
            sectors_of(tables) + tables * sectors_of(self.table_entries)
        } else {
            0
        };
        let at = if self.tables_first { 3 } else { u64::MAX };
        let mut bytes = self.header(capacity, at, overhead as u64);
        bytes.resize(overhead * SECTOR as usize, 0);
        let usual: Vec<usize> = (0..grains.len()).collect();
        let order = order.unwrap_or(&usual);
        let marker = |bytes: &mut Vec<u8>, count: usize, kind: u32| {
            bytes.extend((count as u64).to_le_bytes());
            bytes.extend(numbers(&[0, kind]));
            pad(bytes);
        };
        let table = |bytes: &mut Vec<u8>, entries: &[u32]| {
            marker(bytes, sectors_of(entries.len()), 1);
            let place = sector(bytes);
            bytes.extend(numbers(entries));
            pad(bytes);
            place
        };
        for (count, &number) in order.iter().enumerate() {
            let grain = grains[number];
            if grain.iter().any(|&byte| byte != 0) {
                entries[number] = sector(&bytes);
                if self.compressed {
                    let packed = zlib(grain);
                    bytes.extend(((number * self.grain) as u64).to_le_bytes());
                    bytes.extend((packed.len() as u32).to_le_bytes());
                    bytes.extend(packed);
                } else {
                    bytes.extend(grain);
                }
                pad(&mut bytes);
            }
            let of = number / self.table_entries;
            let last = (count + 1) % self.table_entries == 0 || count + 1 == order.len();
            let range = of * self.table_entries..(of + 1) * self.table_entries;
            let used = entries[range.clone()].iter().any(|&entry| entry != 0);
            if self.interleaved && last && used {
                places[of] = table(&mut bytes, &entries[range]);
            }
        }
        if self.tables_first {
            let first = 3 + sectors_of(tables);
            for (number, place) in places.iter_mut().enumerate() {
                *place = (first + number * sectors_of(self.table_entries)) as u32;
                let range = number * self.table_entries..(number + 1) * self.table_entries;
                put(&mut bytes, *place as usize * SECTOR as usize, &numbers(&entries[range]));
            }
            put(&mut bytes, 3 * SECTOR as usize, &numbers(&places));
            return bytes;
        }
        if !self.interleaved {
            for (number, place) in places.iter_mut().enumerate() {
                let range = number * self.table_entries..(number + 1) * self.table_entries;
                *place = table(&mut bytes, &entries[range]);
            }
        }
        marker(&mut bytes, sectors_of(tables), 2);
        let directory = sector(&bytes);
        bytes.extend(numbers(&places));
        pad(&mut bytes);
        marker(&mut bytes, 1, 3);
        bytes.extend(&self.header(capacity, directory.into(), overhead as u64)[..SECTOR as usize]);
        marker(&mut bytes, 0, 0);
        bytes
    }
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn written(write: impl FnOnce(Target) -> Result<(), ImageError>) -> Result<Vec<u8>, ImageError> {
    let target = tempfile::NamedTempFile::new().unwrap();
    write(Target::raw(target.as_file(), true))?;
    Ok(std::fs::read(target.path()).unwrap())
}

/// What a reader that seeks makes of an image.
fn seeking(bytes: &[u8]) -> Result<Vec<u8>, ImageError> {
    let disk = SparseDisk::open(file(bytes))?;
    disk.verify()?;
    written(|target| convert(&disk, target))
}

/// What a reader that doesn't seek makes of an image; `None` where it can't.
fn in_one_pass(bytes: &[u8]) -> Result<Option<Vec<u8>>, ImageError> {
    match Sequential::open(bytes)? {
        Opened::Sequential(source) => written(|target| write(source, target)).map(Some),
        Opened::Unordered(mut stream) => {
            let mut again = Vec::new();
            stream.read_to_end(&mut again).unwrap();
            assert_eq!(again, bytes, "nothing of the stream is lost");
            Ok(None)
        }
    }
}

fn layouts() -> Vec<Layout> {
    let mut layouts = Vec::new();
    for (version, interleaved, tables_first, compressed) in [
        (1, true, false, true),
        (3, false, false, true),
        (3, false, true, true),
        (1, false, true, false),
    ] {
        for (grain, table_entries) in [(8, 4), (16, 512), (128, 512), (24, 7), (1, 128)] {
            layouts.push(Layout {
                version,
                grain,
                table_entries,
                compressed,
                tables_first,
                interleaved,
            });
        }
    }
    layouts
}

#[test]
fn every_layout_is_read_by_seeking_and_in_one_pass() {
    for layout in layouts() {
        for sectors in [1, 128, 200, 1003] {
            let disk = disk(sectors);
            let image = layout.image(&disk, None);
            assert!(seeking(&image).unwrap() == disk, "{layout:?}, {sectors}");
            assert!(in_one_pass(&image).unwrap().unwrap() == disk, "{layout:?}, {sectors}");
        }
    }
}

#[test]
fn a_stream_becomes_qcow2() {
    let disk = disk(1003);
    for layout in layouts() {
        let image = layout.image(&disk, None);
        let Opened::Sequential(source) = Sequential::open(image.as_slice()).unwrap() else {
            unreachable!("{layout:?}")
        };
        let target = tempfile::tempfile().unwrap();
        write(source, Target::qcow2(&target)).unwrap();
        let layer = crate::qcow2::Layer::open(target).unwrap();
        let chain = crate::qcow2::Chain::new(vec![layer], None);
        chain.verify().unwrap();
        assert!(written(|target| convert(&chain, target)).unwrap() == disk, "{layout:?}");
        assert_eq!(chain.virtual_size(), disk.len() as u64);
    }
}

#[test]
fn grains_in_another_order_are_read_by_seeking_only() {
    let disk = disk(1003);
    let mut order: Vec<usize> = (0..1003_usize.div_ceil(8)).collect();
    order.swap(3, 60);
    for layout in [Layout { compressed: true, ..FILE }, FILE] {
        let image = layout.image(&disk, Some(&order));
        assert!(seeking(&image).unwrap() == disk);
        assert!(in_one_pass(&image).unwrap().is_none());
    }
    let image = Layout { interleaved: false, ..STREAM }.image(&disk, Some(&order));
    assert!(seeking(&image).unwrap() == disk);
    let error = in_one_pass(&image).unwrap_err().to_string();
    assert!(error.contains("out of order"), "{error}");
}

#[test]
fn an_image_that_is_cut_off_is_refused() {
    let disk = disk(203);
    for layout in
        [STREAM, Layout { interleaved: false, ..STREAM }, FILE, Layout { compressed: true, ..FILE }]
    {
        let image = layout.image(&disk, None);
        // The last sector of compressed data is padding but for its first bytes.
        let least = if layout.compressed { SECTOR as usize } else { 1 };
        for length in (0..image.len() - least).step_by(97) {
            let cut = &image[..length];
            assert!(seeking(cut).is_err(), "{layout:?}, {length} of {}", image.len());
            assert!(!matches!(in_one_pass(cut), Ok(Some(_))), "{layout:?}, {length}");
        }
    }
}

#[test]
fn tables_that_disagree_with_the_grains_are_refused() {
    let disk = disk(203);
    for layout in [STREAM, Layout { interleaved: false, ..STREAM }] {
        let image = layout.image(&disk, None);
        let sectors = image.len() / SECTOR as usize;
        for sector in 3..sectors {
            let at = sector * SECTOR as usize;
            let kind = u32::from_le_bytes(image[at + 12..at + 16].try_into().unwrap());
            let is_marker = image[at + 8..at + 12] == [0; 4] && kind == 1;
            if !is_marker {
                continue;
            }
            for entry in 0..layout.table_entries {
                let mut lying = image.clone();
                let entry = at + SECTOR as usize + entry * 4;
                lying[entry] ^= 4;
                assert!(in_one_pass(&lying).is_err(), "sector {sector}");
            }
        }
    }
}

#[test]
fn both_readers_see_the_same_disk_in_damaged_streams() {
    let disk = disk(203);
    let (mut number, mut read) = (1_u64, 0);
    for layout in layouts() {
        let image = layout.image(&disk, None);
        for _ in 0..400 {
            let mut damaged = image.clone();
            for _ in 0..3 {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let header = number >> 20 & 1 == 0;
                let reach = if header { 96 } else { damaged.len() };
                let at = (number >> 33) as usize % reach;
                damaged[at] ^= 1 << (number >> 24 & 7);
            }
            if let Ok(Some(one)) = in_one_pass(&damaged) {
                read += 1;
                assert!(seeking(&damaged).unwrap() == one, "{layout:?}");
            }
        }
    }
    println!("{read} damaged images could be read");
}
