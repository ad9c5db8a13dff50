//! Archives and appliances: as the reference tools make them, and byte by byte.

use crate::{Cloud, run};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

impl Cloud {
    /// A tar archive by GNU tar with `options`, of files under the names that they shall have in it.
    pub fn tar<N: AsRef<str>, P: AsRef<Path>>(
        &self,
        name: &str,
        options: &[&str],
        members: &[(N, P)],
    ) -> PathBuf {
        let (folder, names) = self.laid_out(name, members);
        let path = self.images().join(name);
        let mut words = vec!["-C", folder.to_str().unwrap(), "-cf", path.to_str().unwrap()];
        words.extend(options);
        words.push("--");
        words.extend(names.iter().map(String::as_str));
        run("tar", words);
        path
    }

    /// A zip archive by Python's zipfile, its members `STORED` or `DEFLATED`, with the fields of zip64 if `large`.
    pub fn zip<N: AsRef<str>, P: AsRef<Path>>(
        &self,
        name: &str,
        method: &str,
        large: bool,
        members: &[(N, P)],
    ) -> PathBuf {
        const SCRIPT: &str = "import sys, zipfile
out, method, large, folder = sys.argv[1:5]
with zipfile.ZipFile(out, 'w', getattr(zipfile, 'ZIP_' + method)) as z:
    for name in sys.argv[5:]:
        with open(folder + '/' + name, 'rb') as f, z.open(zipfile.ZipInfo(name) if method == 'STORED' else name, 'w', force_zip64=large == 'true') as m:
            while b := f.read(1 << 20): m.write(b)
";
        let (folder, names) = self.laid_out(name, members);
        let path = self.images().join(name);
        let large = large.to_string();
        let mut words = vec!["-c", SCRIPT, path.to_str().unwrap(), method, &large];
        words.push(folder.to_str().unwrap());
        words.extend(names.iter().map(String::as_str));
        run("python3", words);
        path
    }

    /// Copies of files in a folder of their own, under these names.
    fn laid_out<N: AsRef<str>, P: AsRef<Path>>(
        &self,
        name: &str,
        members: &[(N, P)],
    ) -> (PathBuf, Vec<String>) {
        let folder = self.root().join("laid-out").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        for (name, file) in members {
            let path = folder.join(name.as_ref());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            // With its holes, which sparse archives are about.
            run("cp", ["--sparse=always".as_ref(), file.as_ref().as_os_str(), path.as_os_str()]);
        }
        (folder, members.iter().map(|(name, _)| name.as_ref().to_owned()).collect())
    }
}

/// An OVF file with these files and these disks: the attributes of each.
pub fn ovf(files: &[&str], disks: &[&str]) -> String {
    let elements = |name: &str, list: &[&str]| -> String {
        list.iter()
            .fold(String::new(), |text, attributes| text + &format!("    <{name} {attributes}/>\n"))
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\" xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\">\n  <References>\n{}  </References>\n  <DiskSection>\n    <Info>Virtual disks</Info>\n{}  </DiskSection>\n  <VirtualSystem ovf:id=\"vm\"/>\n</Envelope>\n",
        elements("File", files),
        elements("Disk", disks)
    )
}

/// A tar archive, byte by byte.
#[derive(Clone, Debug, Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    /// An archive without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// A header with its checksum.
    pub fn header(name: &str, size: &str, kind: u8) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
        put(0, &name.as_bytes()[..name.len().min(100)]);
        put(100, b"0000644\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, size.as_bytes());
        put(136, b"00000000000\0");
        put(156, &[kind]);
        put(257, b"ustar\x0000");
        Self::summed(block)
    }

    /// A header with the checksum of what it holds.
    pub fn summed(mut block: [u8; 512]) -> [u8; 512] {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    /// Bytes as they are.
    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    /// Bytes up to the end of a block.
    pub fn padded(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(bytes.as_ref());
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// A member of some kind.
    pub fn of_kind(self, kind: u8, name: &str, content: impl AsRef<[u8]>) -> Self {
        let size = format!("{:011o}\0", content.as_ref().len());
        self.raw(Self::header(name, &size, kind)).padded(content)
    }

    /// A regular file.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.of_kind(b'0', name, content)
    }

    /// What stands before a member in the pax format: `key=value` pairs.
    pub fn pax(self, records: &[(&str, &str)]) -> Self {
        let record = |(key, value): &(&str, &str)| {
            let rest = format!(" {key}={value}\n");
            let mut length = rest.len() + 1;
            while length != rest.len() + length.to_string().len() {
                length = rest.len() + length.to_string().len();
            }
            format!("{length}{rest}")
        };
        let text: String = records.iter().map(record).collect();
        self.of_kind(b'x', "pax", text)
    }

    /// The archive, with its end.
    pub fn end(self) -> Vec<u8> {
        self.raw([0; 1024]).0
    }

    /// The archive as far as it is.
    pub fn bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A member of a zip archive: what is true of it, and what its headers shall say instead.
#[derive(Clone, Debug)]
pub struct ZipMember {
    name: String,
    local_name: Option<String>,
    stored: Vec<u8>,
    method: u16,
    flags: u16,
    crc: u32,
    /// Lengths in the headers.
    told: (u32, u32),
    /// Whether the header in front tells nothing, and what follows does.
    described: bool,
    is_link: bool,
    offset: Option<u32>,
}

impl ZipMember {
    /// A deflated member.
    pub fn deflated(name: &str, content: &[u8]) -> Self {
        let mut encoder =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        Self { method: 8, ..Self::made(name, content, encoder.finish().unwrap()) }
    }

    /// A stored member.
    pub fn stored(name: &str, content: &[u8]) -> Self {
        Self::made(name, content, content.to_vec())
    }

    fn made(name: &str, content: &[u8], stored: Vec<u8>) -> Self {
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let told = (u32::try_from(stored.len()).unwrap(), u32::try_from(content.len()).unwrap());
        Self {
            name: name.to_owned(),
            local_name: None,
            stored,
            method: 0,
            flags: 0,
            crc: crc.sum(),
            told,
            described: false,
            is_link: false,
            offset: None,
        }
    }

    /// With another method in its headers.
    pub fn method(mut self, method: u16) -> Self {
        self.method = method;
        self
    }

    /// With flags in its headers.
    pub fn flags(mut self, flags: u16) -> Self {
        self.flags = flags;
        self
    }

    /// With another checksum in its headers.
    pub fn crc(mut self, crc: u32) -> Self {
        self.crc = crc;
        self
    }

    /// With other lengths in its headers: stored and content.
    pub fn told(mut self, stored: u32, content: u32) -> Self {
        self.told = (stored, content);
        self
    }

    /// With another name in front of its data.
    pub fn local_name(mut self, name: &str) -> Self {
        self.local_name = Some(name.to_owned());
        self
    }

    /// As a symbolic link, which only the directory tells.
    pub fn link(mut self) -> Self {
        self.is_link = true;
        self
    }

    /// With another place in the directory.
    pub fn at(mut self, offset: u32) -> Self {
        self.offset = Some(offset);
        self
    }

    /// With its lengths behind its data, as writers of streams have them.
    pub fn described_later(mut self) -> Self {
        self.described = true;
        self.flags |= 8;
        self
    }

    fn fields(&self, name: &str, tells: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (crc, told) = if tells { (self.crc, self.told) } else { (0, (0, 0)) };
        for short in [20, self.flags, self.method, 0, 33] {
            bytes.extend(u16::to_le_bytes(short));
        }
        for word in [crc, told.0, told.1] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        bytes.extend([0; 2]);
        bytes
    }
}

/// A zip archive of these members.
pub fn zip_of(members: &[ZipMember]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for member in members {
        let offset = member.offset.unwrap_or(u32::try_from(bytes.len()).unwrap());
        let local = member.local_name.as_ref().unwrap_or(&member.name);
        bytes.extend(b"PK\x03\x04");
        bytes.extend(member.fields(local, !member.described));
        bytes.extend(local.as_bytes());
        bytes.extend(&member.stored);
        if member.described {
            bytes.extend(b"PK\x07\x08");
            for word in [member.crc, member.told.0, member.told.1] {
                bytes.extend(word.to_le_bytes());
            }
        }
        // Version 2.0 of Unix.
        directory.extend(b"PK\x01\x02\x14\x03");
        directory.extend(member.fields(&member.name, true));
        directory.extend([0; 6]);
        let mode: u32 = if member.is_link { 0o120_777 } else { 0o100_644 };
        directory.extend((mode << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(member.name.as_bytes());
    }
    let count = u16::try_from(members.len()).unwrap();
    let start = u32::try_from(bytes.len()).unwrap();
    let length = u32::try_from(directory.len()).unwrap();
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    bytes.extend([length.to_le_bytes(), start.to_le_bytes()].concat());
    bytes.extend([0; 2]);
    bytes
}
