//! Images as users bring them, made with the reference tools.

use crate::{Cloud, KIB, MIB, run};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of noise that are the same in every run; `seed` selects which. They don't compress.
pub fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

impl Cloud {
    /// A file of these bytes among the users' images.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.images().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// A raw disk of `size` bytes: noise, text and holes in turn, 64 KiB each, and noise at the
    /// very end.
    pub fn raw(&self, name: &str, size: u64) -> PathBuf {
        let path = self.images().join(name);
        let file = File::create(&path).unwrap();
        file.set_len(size).unwrap();
        let block = 64 * KIB;
        for number in 0..size.div_ceil(block) {
            let start = number * block;
            let length = block.min(size - start) as usize;
            let bytes = match number % 5 {
                0 | 3 => pattern(number + 1, length),
                1 => b"The quick brown fox. ".iter().copied().cycle().take(length).collect(),
                _ => continue,
            };
            file.write_all_at(&bytes, start).unwrap();
        }
        let tail = pattern(99, size.min(1000) as usize);
        file.write_all_at(&tail, size - tail.len() as u64).unwrap();
        path
    }

    /// A qcow2 image of 1 MiB without data, whose backing file is the shadow file of this machine.
    pub fn overlay_on_shadow(&self, name: &str) -> PathBuf {
        let path = self.images().join(name);
        let create = ["create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow"];
        run("qemu-img", create.into_iter().chain([path.to_str().unwrap(), "1M"]));
        path
    }

    /// The disk `from` (raw) as another format, by `qemu-img convert` with `-o options`.
    pub fn converted(&self, from: &Path, name: &str, format: &str, options: &str) -> PathBuf {
        self.convert(from, name, format, options, &[])
    }

    /// The disk `from` (raw) as a qcow2 with `-o options` (`compat=v3` is qemu's default).
    pub fn qcow2(&self, from: &Path, name: &str, options: &str) -> PathBuf {
        self.converted(from, name, "qcow2", options)
    }

    /// A healthy qcow2 image of 3 MiB with `-o options`, some bytes of which are overwritten: at an offset, with these.
    pub fn patched_qcow2(&self, name: &str, options: &str, patches: &[(u64, &[u8])]) -> PathBuf {
        let disk = self.raw("healthy.img", 3 * MIB);
        let image = self.qcow2(&disk, name, options);
        let file = File::options().write(true).open(&image).unwrap();
        for (offset, bytes) in patches {
            file.write_all_at(bytes, *offset).unwrap();
        }
        image
    }

    /// As [`Cloud::qcow2`], with compressed clusters.
    pub fn compressed_qcow2(&self, from: &Path, name: &str, options: &str) -> PathBuf {
        self.convert(from, name, "qcow2", options, &["-c"])
    }

    fn convert(
        &self,
        from: &Path,
        name: &str,
        format: &str,
        options: &str,
        more: &[&str],
    ) -> PathBuf {
        let path = self.images().join(name);
        let mut arguments = vec!["convert", "-f", "raw", "-O", format];
        arguments.extend(more);
        if !options.is_empty() {
            arguments.extend(["-o", options]);
        }
        arguments.extend([from.to_str().unwrap(), path.to_str().unwrap()]);
        run("qemu-img", arguments);
        path
    }

    /// A LUKS encrypted disk of `size` bytes, as `cryptsetup` and qemu understand it.
    pub fn luks(&self, name: &str, size: u64) -> PathBuf {
        let path = self.images().join(name);
        run(
            "qemu-img",
            [
                "create",
                "-q",
                "--object",
                "secret,id=key,data=correct-horse",
                "-f",
                "luks",
                "-o",
                "key-secret=key,iter-time=10",
                path.to_str().unwrap(),
                &size.to_string(),
            ],
        );
        path
    }

    /// A LUKS container of version 2 and `size` bytes, with a header of 16 MiB: as much of it as tells its size.
    pub fn luks2(&self, name: &str, size: u64) -> PathBuf {
        const JSON: &str = r#"{"keyslots":{},"tokens":{},"segments":{"0":{"type":"crypt","offset":"16777216","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":512}},"digests":{},"config":{"json_size":"12288","keyslots_size":"16744448"}}"#;
        let mut bytes = b"LUKS\xba\xbe\x00\x02".to_vec();
        bytes.extend(16_384_u64.to_be_bytes());
        bytes.resize(4096, 0);
        bytes.extend(JSON.bytes());
        let path = self.file(name, bytes);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_len(size).unwrap();
        path
    }

    /// A CD-ROM image: nothing but the volume descriptors that make it one, and noise.
    pub fn iso(&self, name: &str) -> PathBuf {
        const SECTOR: usize = 2048;
        let mut bytes = vec![0; 16 * SECTOR];
        for kind in [1_u8, 255] {
            let mut descriptor = vec![kind];
            descriptor.extend_from_slice(b"CD001\x01");
            descriptor.resize(SECTOR, 0);
            bytes.extend(descriptor);
        }
        bytes.extend(pattern(5, 300 * SECTOR));
        self.file(name, bytes)
    }

    /// The file compressed by `gzip`, `bzip2`, `xz` or `zstd`, as `<file>.<usual suffix>`.
    pub fn compressed(&self, from: &Path, program: &str) -> PathBuf {
        let suffix = match program {
            "gzip" => "gz",
            "bzip2" => "bz2",
            "zstd" => "zst",
            other => other,
        };
        let mut path = from.as_os_str().to_owned();
        path.push(format!(".{suffix}"));
        let path = PathBuf::from(path);
        let status = Command::new(program)
            .args(["-1", "-c"])
            .arg(from)
            .stdout(File::create(&path).unwrap())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap_or_else(|error| panic!("{program} can't be started: {error}"));
        assert!(status.success(), "{program} failed");
        path
    }

    /// A stored image: `from` as a file of the datastore, by its SOURCE.
    pub fn stored(&self, number: u32, from: &Path) -> String {
        let source = self.source(number);
        run("cp", ["--sparse=always", from.to_str().unwrap(), &source]);
        source
    }
}
