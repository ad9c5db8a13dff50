//! vmdk images byte by byte, in the layouts of different writers.

use flate2::{Compress, Compression, FlushCompress};

const SECTOR: usize = 512;
/// Length of header and descriptor, sectors.
const START: usize = 21;

/// A vmdk image to be made.
#[derive(Clone, Debug)]
pub struct Vmdk<'d> {
    disk: &'d [u8],
    version: u32,
    access: &'static str,
    more: String,
    line_end: &'static str,
    grain: usize,
    entries: usize,
    tables: Tables,
    compressed: bool,
    backwards: bool,
    padding: usize,
}

/// Where the grain tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tables {
    First,
    BehindTheirGrains,
    AtTheEnd,
}

/// A vmdk image, and where in it its parts are: offsets in bytes.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// The file.
    pub bytes: Vec<u8>,
    /// Grains that hold data, with their markers.
    pub grains: Vec<usize>,
    /// Grain tables.
    pub tables: Vec<usize>,
    /// The grain directory.
    pub directory: usize,
    /// The footer, where there is one.
    pub footer: usize,
}

impl<'d> Vmdk<'d> {
    /// streamOptimized, as `VMware` and `VirtualBox` write it: tables behind their grains, then the directory and a
    /// footer.
    pub fn stream(disk: &'d [u8]) -> Self {
        Self {
            disk,
            version: 1,
            access: "RW",
            more: String::new(),
            line_end: "\n",
            grain: 128,
            entries: 512,
            tables: Tables::BehindTheirGrains,
            compressed: true,
            backwards: false,
            padding: 0,
        }
    }

    /// monolithicSparse: tables, then grains as they are.
    pub fn sparse(disk: &'d [u8]) -> Self {
        Self { tables: Tables::First, compressed: false, ..Self::stream(disk) }
    }

    /// Another version than 1.
    pub fn version(self, version: u32) -> Self {
        Self { version, ..self }
    }

    /// Another access than RW.
    pub fn access(self, access: &'static str) -> Self {
        Self { access, ..self }
    }

    /// These lines more in the descriptor.
    pub fn saying(self, more: impl Into<String>) -> Self {
        Self { more: more.into(), ..self }
    }

    /// Another end of lines than a newline.
    pub fn line_end(self, line_end: &'static str) -> Self {
        Self { line_end, ..self }
    }

    /// Grains of so many sectors, tables of so many grains.
    pub fn grains(self, grain: usize, entries: usize) -> Self {
        Self { grain, entries, ..self }
    }

    /// All tables behind all grains.
    pub fn tables_at_the_end(self) -> Self {
        Self { tables: Tables::AtTheEnd, ..self }
    }

    /// The tables before the grains, as `qemu-img` has it.
    pub fn tables_first(self) -> Self {
        Self { tables: Tables::First, ..self }
    }

    /// The grains from the last to the first.
    pub fn backwards(self) -> Self {
        Self { backwards: true, ..self }
    }

    /// So many empty sectors between grains and directory.
    pub fn padded(self, padding: usize) -> Self {
        Self { padding, ..self }
    }

    fn descriptor(&self) -> String {
        let kind = if self.compressed { "streamOptimized" } else { "monolithicSparse" };
        let sectors = self.disk.len() / SECTOR;
        format!(
            "# Disk DescriptorFile\nversion=1\nCID=7e5b80a7\nparentCID=ffffffff\n\
             createType=\"{kind}\"\n\n# Extent description\n{} {sectors} SPARSE \"disk.vmdk\"\n\n\
             #DDB\nddb.adapterType = \"lsilogic\"\n{}",
            self.access, self.more
        )
        .replace('\n', self.line_end)
    }

    fn start(&self, directory: u64, overhead: usize) -> Vec<u8> {
        let mut bytes = vec![0; START * SECTOR];
        put(&mut bytes, 0, b"KDMV");
        put(&mut bytes, 4, &self.version.to_le_bytes());
        put(&mut bytes, 8, &(if self.compressed { 0x3_0001_u32 } else { 1 }).to_le_bytes());
        for (offset, number) in [
            (12, (self.disk.len() / SECTOR) as u64),
            (20, self.grain as u64),
            (28, 1),
            (36, START as u64 - 1),
            (56, directory),
            (64, overhead as u64),
        ] {
            put(&mut bytes, offset, &number.to_le_bytes());
        }
        put(&mut bytes, 44, &(self.entries as u32).to_le_bytes());
        put(&mut bytes, 73, b"\n \r\n");
        bytes[77] = u8::from(self.compressed);
        put(&mut bytes, SECTOR, self.descriptor().as_bytes());
        bytes
    }

    /// Makes it.
    pub fn make(&self) -> Made {
        let grains = self.disk.len().div_ceil(self.grain * SECTOR);
        let tables = grains.div_ceil(self.entries);
        let first = self.tables == Tables::First;
        let length = sectors(tables * 4) + tables * sectors(self.entries * 4);
        let overhead = (START + if first { length } else { 0 }).next_multiple_of(128);
        let mut made = Made { bytes: self.start(u64::MAX, overhead), ..Made::default() };
        made.bytes.resize(overhead * SECTOR, 0);
        let mut places = vec![0; tables * self.entries];
        let mut order: Vec<usize> = (0..grains).collect();
        if self.backwards {
            order.reverse();
        }
        for number in order {
            self.grain(number, &mut places, &mut made);
            let table = number / self.entries;
            let complete = (number + 1).is_multiple_of(self.entries) || number + 1 == grains;
            if complete && self.tables == Tables::BehindTheirGrains {
                self.table(table, &places, &mut made);
            }
        }
        if first {
            self.tables_in_front(tables, &places, &mut made);
        } else {
            let written = made.tables.len();
            (written..tables).for_each(|table| self.table(table, &places, &mut made));
            self.end(overhead, &mut made);
        }
        made
    }

    /// Appends grain `number`, if there is anything in it.
    fn grain(&self, number: usize, places: &mut [u32], made: &mut Made) {
        let start = number * self.grain * SECTOR;
        let grain = &self.disk[start..self.disk.len().min(start + self.grain * SECTOR)];
        if grain.iter().all(|&byte| byte == 0) {
            return;
        }
        places[number] = sector(&made.bytes);
        made.grains.push(made.bytes.len());
        if self.compressed {
            made.bytes.extend(compressed_grain((number * self.grain) as u64, &zlib(grain)));
        } else {
            made.bytes.extend(grain);
            pad(&mut made.bytes);
        }
    }

    /// Appends table `number` with its marker.
    fn table(&self, number: usize, places: &[u32], made: &mut Made) {
        marker(&mut made.bytes, sectors(self.entries * 4), 1);
        made.tables.push(made.bytes.len());
        made.bytes.extend(numbers(&places[number * self.entries..(number + 1) * self.entries]));
        pad(&mut made.bytes);
    }

    fn tables_in_front(&self, tables: usize, places: &[u32], made: &mut Made) {
        made.directory = START * SECTOR;
        let start = made.directory + sectors(tables * 4) * SECTOR;
        for (table, places) in places.chunks(self.entries).enumerate() {
            let at = start + table * sectors(self.entries * 4) * SECTOR;
            made.tables.push(at);
            put(&mut made.bytes, at, &numbers(places));
            let entry = made.directory + table * 4;
            put(&mut made.bytes, entry, &((at / SECTOR) as u32).to_le_bytes());
        }
        put(&mut made.bytes, 56, &(START as u64).to_le_bytes());
    }

    /// Appends the directory and the footer.
    fn end(&self, overhead: usize, made: &mut Made) {
        made.bytes.resize(made.bytes.len() + self.padding * SECTOR, 0);
        let places: Vec<u32> = made.tables.iter().map(|at| (at / SECTOR) as u32).collect();
        marker(&mut made.bytes, sectors(places.len() * 4), 2);
        made.directory = made.bytes.len();
        made.bytes.extend(numbers(&places));
        pad(&mut made.bytes);
        marker(&mut made.bytes, 1, 3);
        made.footer = made.bytes.len();
        let footer = self.start((made.directory / SECTOR) as u64, overhead);
        made.bytes.extend(&footer[..SECTOR]);
        marker(&mut made.bytes, 0, 0);
    }
}

impl Made {
    /// Writes `number` at `offset` in 4 bytes.
    pub fn set32(mut self, offset: usize, number: u32) -> Self {
        put(&mut self.bytes, offset, &number.to_le_bytes());
        self
    }

    /// Writes `number` at `offset` in 8 bytes.
    pub fn set64(mut self, offset: usize, number: u64) -> Self {
        put(&mut self.bytes, offset, &number.to_le_bytes());
        self
    }

    /// Writes `number` at `offset` of the header, and of the footer where there is one.
    pub fn header64(self, offset: usize, number: u64) -> Self {
        let footer = self.footer;
        let header = self.set64(offset, number);
        if footer == 0 { header } else { header.set64(footer + offset, number) }
    }

    /// As [`Made::header64`], in 4 bytes.
    pub fn header32(self, offset: usize, number: u32) -> Self {
        let footer = self.footer;
        let header = self.set32(offset, number);
        if footer == 0 { header } else { header.set32(footer + offset, number) }
    }
}

fn put(bytes: &mut [u8], offset: usize, content: &[u8]) {
    bytes[offset..offset + content.len()].copy_from_slice(content);
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
}

fn sectors(bytes: usize) -> usize {
    bytes.div_ceil(SECTOR)
}

fn sector(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len() / SECTOR).expect("a small file")
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn marker(bytes: &mut Vec<u8>, count: usize, kind: u32) {
    bytes.extend((count as u64).to_le_bytes());
    bytes.extend(numbers(&[0, kind]));
    pad(bytes);
}

/// A grain for `sector` of the disk, with its marker.
pub fn compressed_grain(sector: u64, data: &[u8]) -> Vec<u8> {
    let mut bytes = sector.to_le_bytes().to_vec();
    bytes.extend(numbers(&[u32::try_from(data.len()).expect("a small grain")]));
    bytes.extend(data);
    pad(&mut bytes);
    bytes
}

/// A zlib stream.
pub fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(bytes.len() + bytes.len() / 100 + 100);
    let mut compress = Compress::new(Compression::new(6), true);
    compress.compress_vec(bytes, &mut packed, FlushCompress::Finish).expect("it fits");
    packed
}
