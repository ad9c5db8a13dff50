//! Whether the reference counts of a qcow2 file are right. Reading an image takes none of them, so that wrong ones are no
//! reason to refuse it; what QEMU writes into it later may overwrite clusters that are counted as free.

use super::layer::Layer;
use super::tables::{Metadata, OFFSET_MASK, REFCOUNT_BLOCK_MASK};
use crate::ImageError;

/// Files with more clusters than this are not looked at: each takes a bit of memory.
const MOST_CLUSTERS: u64 = 64 << 20;
/// Bit 62 of an L2 entry: the cluster is compressed.
const COMPRESSED: u64 = 1 << 62;

/// What is wrong with reference counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongCounts {
    /// Clusters that are in use and counted as free.
    pub missing: u64,
    /// Clusters that are counted as in use, and are not.
    pub leaked: u64,
}

impl Layer {
    /// Compares the reference counts with what the tables use, which [`Layer::verify`] has found to lie in the file;
    /// `None`: they are right, as far as can be told.
    ///
    /// # Errors
    /// Where the file can't be read.
    pub fn wrong_reference_counts(&self) -> Result<Option<WrongCounts>, ImageError> {
        let cluster_size = self.header().cluster_size();
        let clusters = self.length().div_ceil(cluster_size);
        if clusters > MOST_CLUSTERS {
            return Ok(None);
        }
        let mut used = Used { bits: vec![0; clusters.div_ceil(64) as usize], cluster_size };
        for (start, end) in Metadata::of(self)?.places() {
            used.mark(start, end);
        }
        let (l1, entries) = (self.header().l1_offset, self.header().l1_entries);
        self.entries(l1, entries, &mut |_, entry| match entry & OFFSET_MASK {
            0 => Ok(()),
            table => self.mark_clusters_of(table, &mut used),
        })?;
        let wrong = self.compare(&used, clusters)?;
        Ok((wrong.missing + wrong.leaked > 0).then_some(wrong))
    }

    /// Marks what the L2 table at `table` names.
    fn mark_clusters_of(&self, table: u64, used: &mut Used) -> Result<(), ImageError> {
        let cluster_size = self.header().cluster_size();
        let words = self.header().l2_entry_size() / 8;
        let split = 62 - (self.header().cluster_bits - 8);
        self.entries(table, cluster_size / 8, &mut |index, entry| {
            if !index.is_multiple_of(words) {
                return Ok(());
            }
            if entry & COMPRESSED != 0 {
                let offset = entry & ((1 << split) - 1);
                let sectors = (entry & (COMPRESSED - 1)) >> split;
                used.mark(offset, offset / 512 * 512 + (sectors + 1) * 512);
            } else if entry & OFFSET_MASK != 0 {
                used.mark(entry & OFFSET_MASK, (entry & OFFSET_MASK) + 1);
            }
            Ok(())
        })
    }

    fn compare(&self, used: &Used, clusters: u64) -> Result<WrongCounts, ImageError> {
        let bits = u64::from(self.header().refcount_bits);
        let cluster_size = self.header().cluster_size();
        let per_block = cluster_size * 8 / bits;
        let (table, table_clusters) = self.header().refcount_table;
        let mut wrong = WrongCounts { missing: 0, leaked: 0 };
        let (_, snapshots) = self.header().internal_snapshots;
        // What snapshots and bitmaps use is not looked at.
        let knows_all = snapshots == 0 && self.header().bitmaps.is_none();
        let mut count = |cluster: u64, counted: bool| {
            if cluster < clusters {
                wrong.missing += u64::from(used.has(cluster) && !counted);
                wrong.leaked += u64::from(!used.has(cluster) && counted && knows_all);
            }
        };
        let blocks = clusters.div_ceil(per_block);
        let known = (table_clusters * cluster_size / 8).min(blocks);
        self.entries(table, known, &mut |index, entry| {
            let first = index * per_block;
            let block = entry & REFCOUNT_BLOCK_MASK;
            if block == 0 {
                (first..first + per_block)
                    .take_while(|&c| c < clusters)
                    .for_each(|c| count(c, false));
                return Ok(());
            }
            self.entries(block, cluster_size / 8, &mut |word, value| {
                for (number, counted) in counts(value, bits).enumerate() {
                    count(first + word * 64 / bits + number as u64, counted);
                }
                Ok(())
            })
        })?;
        (known * per_block..clusters).for_each(|cluster| count(cluster, false));
        Ok(wrong)
    }
}

/// Which of the counts of `bits` bits in a word, as it is read big-endian, are not 0.
fn counts(word: u64, bits: u64) -> impl Iterator<Item = bool> {
    let bytes = word.to_be_bytes();
    (0..64 / bits).map(move |number| {
        let first = (number * bits / 8) as usize;
        if bits >= 8 {
            return bytes[first..first + bits as usize / 8].iter().any(|&byte| byte != 0);
        }
        // Within a byte the first count is in the lowest bits.
        bytes[first] >> (number * bits % 8) & ((1 << bits) - 1) != 0
    })
}

/// Clusters of the file that are in use.
struct Used {
    bits: Vec<u64>,
    cluster_size: u64,
}

impl Used {
    fn mark(&mut self, start: u64, end: u64) {
        for cluster in start / self.cluster_size..end.div_ceil(self.cluster_size) {
            if let Some(word) = self.bits.get_mut((cluster / 64) as usize) {
                *word |= 1 << (cluster % 64);
            }
        }
    }

    fn has(&self, cluster: u64) -> bool {
        self.bits.get((cluster / 64) as usize).is_some_and(|word| word >> (cluster % 64) & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn counts_of_every_width_are_told_apart() {
        let word = u64::from_be_bytes([0b0010_0001, 0, 0, 1, 0, 0, 0, 0]);
        let set = |bits| counts(word, bits).enumerate().filter(|(_, set)| *set).map(|(at, _)| at);
        assert_eq!(set(1).collect::<Vec<_>>(), [0, 5, 24]);
        assert_eq!(set(2).collect::<Vec<_>>(), [0, 2, 12]);
        assert_eq!(set(4).collect::<Vec<_>>(), [0, 1, 6]);
        assert_eq!(set(8).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(set(16).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(set(32).collect::<Vec<_>>(), [0]);
        assert_eq!(set(64).collect::<Vec<_>>(), [0]);
    }
}
