//! `rbd`, `rados` and `ceph df` (package `ceph-common`): one typed function for each thing that they do.
//!
//! What is named here is a pool (`pool` or `pool/namespace`) and an image in it. Callers pass names that they have
//! checked (the callers' module of names): letters, digits and a few signs that mean nothing to these programs.

use super::cluster::{Cluster, ClusterError, Pace};
pub use super::rbd_import::{Import, Stopper};
use super::xml::Element;
use crate::text::shown;
use std::time::Instant;

/// A pool, and the images in it, as a user reaches them.
#[derive(Debug, Clone)]
pub struct Pool {
    /// The cluster.
    pub cluster: Cluster,
    /// `pool` or `pool/namespace`.
    pub name: String,
    /// The pool that holds the data of new images, where that is another one (`--data-pool`).
    pub data_pool: Option<String>,
}

/// A snapshot of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// Whether it is protected from removal, as a parent of clones of format 1 must be.
    pub protected: bool,
    /// Whether it is one that users see; else it stays for its clones only, in the trash.
    pub user: bool,
}

/// What `rbd info` tells of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its identity, which outlives names.
    pub id: String,
    /// Its size, bytes.
    pub size: u64,
    /// The pool that holds its data, where that is not its own.
    pub data_pool: Option<String>,
    /// Whether it is a clone that reads from a snapshot.
    pub has_parent: bool,
    /// Whether it is one of format 2, which lets its snapshot be deleted.
    pub is_clone_of_format_2: bool,
}

/// An image of a pool, as a list of all of them shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its size, bytes.
    pub size: u64,
    /// Names of the snapshots that users see.
    pub snapshots: Vec<String>,
}

/// A clone of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// `pool` or `pool/namespace`.
    pub pool: String,
    /// Its name.
    pub image: String,
    /// Whether it is in the trash.
    pub trash: bool,
}

/// Space in one pool, all in bytes and before replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSpace {
    /// What is in it.
    pub stored: u64,
    /// What more the cluster can take.
    pub available: u64,
    /// What it may hold at most; 0: no quota.
    pub quota: u64,
    /// How many objects it may hold at most; 0: no quota.
    pub object_quota: u64,
    /// How many objects are in it.
    pub objects: u64,
}

impl PoolSpace {
    /// What more the pool may take, bytes.
    #[must_use]
    pub fn free(self) -> u64 {
        match self.quota {
            0 => self.available,
            quota => self.available.min(quota.saturating_sub(self.stored)),
        }
    }
}

fn unexpected(command: &str, output: &str) -> ClusterError {
    ClusterError::Unexpected { command: command.to_owned(), output: shown(output) }
}

impl Pool {
    /// How `image` is named to the programs.
    #[must_use]
    pub fn spec(&self, image: &str) -> String {
        format!("{}/{image}", self.name)
    }

    /// The same, for what is taken back once the driver was told to stop.
    #[must_use]
    pub fn at_stop(&self) -> Self {
        let cluster = Cluster { at_stop: true, ..self.cluster.clone() };
        Self { cluster, ..self.clone() }
    }

    fn report(&self, words: &[&str], root: &str) -> Result<Element, ClusterError> {
        let arguments: Vec<&str> = words.iter().chain(&["--format", "xml"]).copied().collect();
        let text = self.cluster.ask("rbd", &arguments, Pace::Quick)?;
        // `rbd status` and others end with a line break.
        Element::parse(&text)
            .filter(|element| element.is(root))
            .ok_or_else(|| unexpected(&words.join(" "), &text))
    }

    /// Names of all images.
    ///
    /// # Errors
    /// [`ClusterError`]; so with all that follows.
    pub fn images(&self) -> Result<Vec<String>, ClusterError> {
        self.images_of(&self.name)
    }

    /// Names of all images of any pool.
    ///
    /// # Errors
    /// Where there is no such pool.
    pub fn images_of(&self, pool: &str) -> Result<Vec<String>, ClusterError> {
        let report = self.report(&["ls", pool], "images")?;
        Ok(report.all("name").map(|name| name.own_text().to_owned()).collect())
    }

    /// All images with their snapshots. It takes long: every image is opened.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn listing(&self) -> Result<Vec<Listed>, ClusterError> {
        let words = ["ls", "--long", &self.name, "--format", "xml"];
        let text = self.cluster.ask("rbd", &words, Pace::Bulk(0))?;
        let listed = Element::parse(&text).and_then(|report| listing_of(&report));
        listed.ok_or_else(|| unexpected("rbd ls --long", &text))
    }

    /// The snapshots of an image, in the order in which they were made.
    ///
    /// # Errors
    /// Where there is no such image.
    pub fn snapshots(&self, image: &str) -> Result<Vec<Snapshot>, ClusterError> {
        let report = self.report(&["snap", "ls", "--all", &self.spec(image)], "snapshots")?;
        let snapshot = |element: &Element| {
            let kind = element.child("namespace").and_then(|space| space.text("type"));
            Some(Snapshot {
                name: element.text("name")?.to_owned(),
                protected: element.text("protected") == Some("true"),
                user: kind.is_none_or(|kind| kind == "user"),
            })
        };
        let all: Option<Vec<_>> = report.all("snapshot").map(snapshot).collect();
        all.ok_or_else(|| unexpected("rbd snap ls", "a snapshot without a name"))
    }

    /// What there is to know of an image.
    ///
    /// # Errors
    /// Where there is no such image.
    pub fn info(&self, image: &str) -> Result<Info, ClusterError> {
        self.info_at(&self.name, image)
    }

    /// As [`Self::info`], of an image in any pool.
    ///
    /// # Errors
    /// As [`Self::info`].
    pub fn info_at(&self, pool: &str, image: &str) -> Result<Info, ClusterError> {
        let report = self.report(&["info", &format!("{pool}/{image}")], "image")?;
        info_of(&report).ok_or_else(|| unexpected("rbd info", "no id or size"))
    }

    /// The clones of all snapshots of an image.
    ///
    /// # Errors
    /// Where there is no such image, or a clone is in a pool that the user may not see.
    pub fn children(&self, image: &str) -> Result<Vec<Child>, ClusterError> {
        self.children_at(&self.spec(image))
    }

    /// The clones of one snapshot of an image.
    ///
    /// # Errors
    /// As [`Self::children`].
    pub fn children_of(&self, image: &str, snapshot: &str) -> Result<Vec<Child>, ClusterError> {
        self.children_at(&format!("{}@{snapshot}", self.spec(image)))
    }

    fn children_at(&self, spec: &str) -> Result<Vec<Child>, ClusterError> {
        let report = self.report(&["children", "--all", spec], "children")?;
        let child = |element: &Element| {
            let pool = element.text("pool")?;
            let pool = match element.text("pool_namespace") {
                None | Some("") => pool.to_owned(),
                Some(namespace) => format!("{pool}/{namespace}"),
            };
            let trash = element.text("trash") == Some("true");
            Some(Child { pool, image: element.text("image")?.to_owned(), trash })
        };
        let all: Option<Vec<_>> = report.all("child").map(child).collect();
        all.ok_or_else(|| unexpected("rbd children", "a clone without a name"))
    }

    /// The addresses of the clients that have an image open.
    ///
    /// # Errors
    /// Where there is no such image.
    pub fn watchers(&self, image: &str) -> Result<Vec<String>, ClusterError> {
        let report = self.report(&["status", &self.spec(image)], "status")?;
        let list = report.child("watchers");
        let address = |watcher: &Element| watcher.text("address").unwrap_or("unknown").to_owned();
        Ok(list.map(|list| list.all("watcher").map(address).collect()).unwrap_or_default())
    }

    /// Makes an image of `size` bytes that reads as zero.
    ///
    /// # Errors
    /// Where its name is taken.
    pub fn create(&self, image: &str, size: u64) -> Result<(), ClusterError> {
        let (size, spec) = (format!("{size}B"), self.spec(image));
        self.make("create", &["--size", &size, &spec], self.data_pool.as_deref(), Pace::Quick)
    }

    /// Makes an image of the head of `source` (`pool/image`), of `size` bytes, without its snapshots.
    ///
    /// # Errors
    /// Where the name is taken or the source is missing.
    pub fn copy(&self, source: &str, image: &str, size: u64) -> Result<(), ClusterError> {
        let words = ["cp", "--no-progress", source, &self.spec(image)];
        let words = with_data_pool(&words, self.data_pool.as_deref());
        self.cluster.ask("rbd", &words, Pace::Bulk(size)).map(drop)
    }

    /// Makes a clone of a snapshot, whose data go to `data_pool`.
    ///
    /// # Errors
    /// Where the name is taken, the snapshot is missing or, with clones of format 1, not protected.
    pub fn clone_snapshot(
        &self,
        image: &str,
        snapshot: &str,
        clone: &str,
        data_pool: Option<&str>,
    ) -> Result<(), ClusterError> {
        let source = format!("{}@{snapshot}", self.spec(image));
        self.make("clone", &[&source, &self.spec(clone)], data_pool, Pace::Quick)
    }

    fn make(
        &self,
        verb: &str,
        words: &[&str],
        data_pool: Option<&str>,
        pace: Pace,
    ) -> Result<(), ClusterError> {
        let all: Vec<&str> = std::iter::once(verb).chain(words.iter().copied()).collect();
        self.cluster.change("rbd", &with_data_pool(&all, data_pool), pace)
    }

    /// Gives an image another name.
    ///
    /// # Errors
    /// Where the image is missing or the name is taken.
    pub fn rename(&self, image: &str, new: &str) -> Result<(), ClusterError> {
        self.cluster.change("rbd", &["rename", &self.spec(image), &self.spec(new)], Pace::Quick)
    }

    /// Removes an image of `size` bytes that has no snapshots.
    ///
    /// # Errors
    /// Where it is missing, has snapshots or is open elsewhere.
    pub fn remove(&self, image: &str, size: u64) -> Result<(), ClusterError> {
        self.cluster.change("rbd", &["rm", "--no-progress", &self.spec(image)], Pace::Bulk(size))
    }

    /// Has an image removed once the cluster has missed its client, which was killed. That takes half a minute.
    ///
    /// # Errors
    /// Where `rbd` can't be started.
    pub fn remove_later(&self, image: &str) -> Result<(), ClusterError> {
        self.cluster.leave("rbd", &["rm", "--no-progress", &self.spec(image)])
    }

    /// Moves an image to the trash.
    ///
    /// # Errors
    /// Where it is missing or open elsewhere.
    pub fn move_to_trash(&self, image: &str) -> Result<(), ClusterError> {
        self.cluster.change("rbd", &["trash", "mv", &self.spec(image)], Pace::Quick)
    }

    /// Copies what a clone of `size` bytes reads from its parent, so that it stands alone.
    ///
    /// # Errors
    /// Where it is missing or no clone.
    pub fn flatten(&self, image: &str, size: u64) -> Result<(), ClusterError> {
        let words = ["flatten", "--no-progress", &self.spec(image)];
        self.cluster.ask("rbd", &words, Pace::Bulk(size)).map(drop)
    }

    /// Notes `value` under `key` in the metadata of an image.
    ///
    /// # Errors
    /// Where it is missing.
    pub fn note(&self, image: &str, key: &str, value: &str) -> Result<(), ClusterError> {
        let words = ["image-meta", "set", &self.spec(image), key, value];
        self.cluster.change("rbd", &words, Pace::Quick)
    }

    /// What was noted under `key`, if anything.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn noted(&self, image: &str, key: &str) -> Result<Option<String>, ClusterError> {
        let words = ["image-meta", "get", &self.spec(image), key];
        match self.cluster.ask("rbd", &words, Pace::Quick) {
            Ok(value) => Ok(Some(value.trim().to_owned())),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn snap(&self, verb: &str, image: &str, snapshot: &str) -> Result<(), ClusterError> {
        let spec = format!("{}@{snapshot}", self.spec(image));
        self.cluster.change("rbd", &["snap", verb, &spec], Pace::Quick)
    }

    /// Protects a snapshot from removal.
    ///
    /// # Errors
    /// Where it is missing.
    pub fn protect(&self, image: &str, snapshot: &str) -> Result<(), ClusterError> {
        match self.snap("protect", image, snapshot) {
            Err(error) if error.is_busy() => Ok(()),
            result => result,
        }
    }

    /// Takes the protection off a snapshot; whether it had any.
    ///
    /// # Errors
    /// Where it is missing, or has clones of format 1.
    pub fn unprotect(&self, image: &str, snapshot: &str) -> Result<bool, ClusterError> {
        match self.snap("unprotect", image, snapshot) {
            Err(error) if error.is_invalid() => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// Where it is missing or protected.
    pub fn remove_snapshot(&self, image: &str, snapshot: &str) -> Result<(), ClusterError> {
        let spec = format!("{}@{snapshot}", self.spec(image));
        self.cluster.change("rbd", &["snap", "rm", "--no-progress", &spec], Pace::Quick)
    }

    /// Removes a second name of an image that a rename which was cut off has left, and nothing of the image.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn remove_stray_name(&self, image: &str) -> Result<(), ClusterError> {
        let (pool, namespace) = self.name.split_once('/').unwrap_or((&self.name, ""));
        let object = format!("rbd_id.{image}");
        let words = ["--pool", pool, "--namespace", namespace, "rm", &object];
        self.cluster.change("rados", &words, Pace::Quick)
    }

    /// Starts writing an image out of a stream of differences, see [`Import`].
    ///
    /// # Errors
    /// Where `rbd` can't be started.
    pub fn import_diff(&self, image: &str) -> Result<Import, ClusterError> {
        // A file of this name is read ahead, ten records at once; "-" would be read one by one.
        self.import(&["import-diff", "--no-progress", "/dev/stdin", &self.spec(image)])
    }

    /// Starts making an image out of a stream of `rbd export --export-format 2`, with its snapshots.
    ///
    /// # Errors
    /// Where `rbd` can't be started.
    pub fn import_whole(&self, image: &str) -> Result<Import, ClusterError> {
        let spec = self.spec(image);
        let words = ["import", "--export-format", "2", "--no-progress", "-", &spec];
        self.import(&with_data_pool(&words, self.data_pool.as_deref()))
    }

    /// Starts adding a stream of `rbd export-diff`, as it was exported, to an image.
    ///
    /// # Errors
    /// Where `rbd` can't be started.
    pub fn import_increment(&self, image: &str) -> Result<Import, ClusterError> {
        self.import(&["import-diff", "--no-progress", "-", &self.spec(image)])
    }

    fn import(&self, words: &[&str]) -> Result<Import, ClusterError> {
        Import::start(&self.cluster, words)
    }

    /// Starts reading what is in an image of `size` bytes as a stream of differences from nothing.
    ///
    /// # Errors
    /// Where `rbd` can't be started. What goes wrong later is told by the stream.
    pub fn export_diff(&self, image: &str, size: u64) -> Result<super::Output, ClusterError> {
        let spec = self.spec(image);
        let words = ["export-diff", "--no-progress", &spec, "-"];
        let until = Instant::now() + self.cluster.limit(Pace::Bulk(size));
        Ok(self.cluster.stream("rbd", &words)?.until(until))
    }

    /// Starts reading all bytes of an image of `size` bytes.
    ///
    /// # Errors
    /// As [`Self::export_diff`].
    pub fn export(&self, image: &str, size: u64) -> Result<super::Output, ClusterError> {
        let until = Instant::now() + self.cluster.limit(Pace::Bulk(size));
        let words = ["export", "--no-progress", &self.spec(image), "-"];
        Ok(self.cluster.stream("rbd", &words)?.until(until))
    }

    /// Space in a pool of the cluster; `None` where the manager does not know (yet).
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn space(&self, pool: &str) -> Result<Option<PoolSpace>, ClusterError> {
        let text = self.cluster.ask("ceph", &["df", "detail", "--format", "xml"], Pace::Quick)?;
        let report = Element::parse(&text).ok_or_else(|| unexpected("ceph df", &text))?;
        Ok(space_of(&report, pool))
    }
}

fn with_data_pool<'w>(words: &[&'w str], data_pool: Option<&'w str>) -> Vec<&'w str> {
    let mut all = words.to_vec();
    all.extend(data_pool.iter().flat_map(|pool| ["--data-pool", pool]));
    all
}

/// Reads rows of images, each followed by those of its snapshots.
fn listing_of(report: &Element) -> Option<Vec<Listed>> {
    let mut listed: Vec<Listed> = Vec::new();
    for row in report.children() {
        let name = row.text("image")?.to_owned();
        match (row.text("snapshot"), listed.last_mut()) {
            (None, _) => {
                let size = row.number("size").unwrap_or(0);
                listed.push(Listed { name, size, snapshots: Vec::new() });
            }
            (Some(snapshot), Some(last)) if last.name == name => {
                last.snapshots.push(snapshot.to_owned());
            }
            (Some(_), _) => return None,
        }
    }
    Some(listed)
}

fn info_of(report: &Element) -> Option<Info> {
    let operations = report.child("op_features");
    Some(Info {
        id: report.text("id")?.to_owned(),
        size: report.number("size")?,
        data_pool: report.text("data_pool").filter(|pool| !pool.is_empty()).map(str::to_owned),
        has_parent: report.child("parent").is_some(),
        is_clone_of_format_2: operations.is_some_and(|list| {
            list.all("op_feature").any(|name| name.own_text() == "clone-child")
        }),
    })
}

fn space_of(report: &Element, name: &str) -> Option<PoolSpace> {
    let pools = report.child("pools")?;
    let pool = pools.all("pool").find(|pool| pool.text("name") == Some(name))?;
    let stats = pool.child("stats")?;
    let used = stats.number("stored").filter(|&stored| stored > 0);
    Some(PoolSpace {
        stored: used.or_else(|| stats.number("bytes_used"))?,
        available: stats.number("max_avail")?,
        quota: stats.number("quota_bytes").unwrap_or(0),
        object_quota: stats.number("quota_objects").unwrap_or(0),
        objects: stats.number("objects").unwrap_or(0),
    })
}
