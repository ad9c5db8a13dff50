//! A healthy qcow2 image put together by hand, so that any part of it can be made unhealthy.

/// Where the parts of [`Image::healthy`] are, in clusters: each takes one.
pub(super) const REFCOUNT_TABLE: u64 = 1;
pub(super) const REFCOUNT_BLOCK: u64 = 2;
pub(super) const L1: u64 = 3;
pub(super) const L2: u64 = 4;
pub(super) const DATA: u64 = 5;
/// A cluster of data that nothing else is in.
pub(super) const SPARE: u64 = 7;
const CLUSTERS: u64 = 8;

/// Bit 63 of an entry: the cluster's reference count is exactly one.
pub(super) const COPIED: u64 = 1 << 63;
/// Bit 62 of an L2 entry.
pub(super) const COMPRESSED: u64 = 1 << 62;

/// The bytes of an image.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) bytes: Vec<u8>,
    pub(super) cluster: u64,
    version: u32,
}

impl Image {
    /// A disk of 16 clusters, of which three hold data.
    pub(super) fn healthy(version: u32, cluster_bits: u32) -> Self {
        let cluster = 1_u64 << cluster_bits;
        let mut image = Self { bytes: vec![0; (CLUSTERS * cluster) as usize], cluster, version };
        image.put(0, b"QFI\xfb");
        image.put32(4, version).put32(20, cluster_bits).put64(24, 16 * cluster);
        image.put32(36, 1).put64(40, L1 * cluster);
        image.put64(48, REFCOUNT_TABLE * cluster).put32(56, 1);
        if version == 3 {
            image.put32(96, 4).put32(100, 104);
        }
        image.put64(REFCOUNT_TABLE * cluster, REFCOUNT_BLOCK * cluster);
        for number in 0..CLUSTERS {
            image.put(REFCOUNT_BLOCK * cluster + number * 2, &[0, 1]);
        }
        image.put64(L1 * cluster, (L2 * cluster) | COPIED);
        for number in DATA..CLUSTERS {
            image.put64(L2 * cluster + (number - DATA) * 8, (number * cluster) | COPIED);
            let content = vec![number as u8; cluster as usize];
            image.put(number * cluster, &content);
        }
        image
    }

    /// Where a cluster begins.
    pub(super) fn at(&self, number: u64) -> u64 {
        number * self.cluster
    }

    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) -> &mut Self {
        let end = offset as usize + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset as usize..end].copy_from_slice(bytes);
        self
    }

    pub(super) fn put32(&mut self, offset: u64, value: u32) -> &mut Self {
        self.put(offset, &value.to_be_bytes())
    }

    pub(super) fn put64(&mut self, offset: u64, value: u64) -> &mut Self {
        self.put(offset, &value.to_be_bytes())
    }

    fn extensions(&self) -> u64 {
        if self.version == 3 { 104 } else { 72 }
    }

    /// Puts header extensions behind the header; where they end.
    pub(super) fn extend(&mut self, extensions: &[(u32, &[u8])]) -> u64 {
        let mut offset = self.extensions();
        for (kind, content) in extensions {
            self.put32(offset, *kind).put32(offset + 4, content.len() as u32);
            self.put(offset + 8, content);
            offset += 8 + (content.len() as u64).next_multiple_of(8);
        }
        offset + 8
    }

    /// Names a backing file, behind the extensions.
    pub(super) fn backing(&mut self, name: &[u8], extensions: &[(u32, &[u8])]) -> &mut Self {
        let offset = self.extend(extensions);
        self.put64(8, offset).put32(16, name.len() as u32).put(offset, name)
    }

    /// Cuts the file off.
    pub(super) fn cut(&mut self, length: u64) -> &mut Self {
        self.bytes.truncate(length as usize);
        self
    }
}
