//! `snap_revert`, `snap_flatten`, `snap_delete`.

use super::names::{ImageName, snapshot_id};
use super::recovery::{self, make};
use super::tree::{self, Tree, called, purge};
use super::{CephDatastore, LARGE};
use crate::kinds::DatastoreError;
use crate::kinds::intake::DISKS;
use one_protocol::message::Image;
use runtime::command::cluster::ClusterError;
use runtime::command::rbd::{Child, Pool, Snapshot};
use runtime::process;

/// What the names of snapshots begin with that OpenNebula takes for backups.
const BACKUP: &str = "one_backup";
/// Under this the metadata of a flattened image say of which snapshot it was made.
const FLATTENED: &str = "ferrostore.flattened";

/// What they say. Metadata go into copies, too: so the image is named.
fn flattened(name: ImageName, id: u32) -> String {
    format!("{}@{id}", name.main())
}

/// Removes what was to replace an image, the mark first: without the other, it would mean that the snapshots may go.
fn forget_flattened(pool: &Pool, name: ImageName) {
    for made in [name.mark(), name.temporary()] {
        if let Err(error) = recovery::remove(pool, &made) {
            log::warn!("image {} is left for the next driver: {error}", pool.spec(&made));
            return;
        }
    }
}

/// As [`forget_flattened`], where the program that was flattening has been killed.
fn forget_later(pool: &Pool, name: ImageName) {
    if recovery::remove(pool, &name.mark()).is_ok() {
        let _ = pool.remove_later(&name.temporary());
    }
}

/// Where a snapshot is.
#[derive(Debug)]
struct Found {
    volume: String,
    /// The snapshots of the image itself.
    own: Vec<Snapshot>,
}

fn numbers(snapshots: &[Snapshot]) -> Vec<u32> {
    let users = snapshots.iter().filter(|snapshot| snapshot.user);
    users.filter_map(|snapshot| snapshot_id(&snapshot.name)).collect()
}

impl CephDatastore {
    #[allow(clippy::unused_self)] // reads as `source_error`
    fn snapshot_error(&self, id: u32, reason: impl std::fmt::Display) -> DatastoreError {
        DatastoreError::value("IMAGE/TARGET_SNAPSHOT", id.to_string(), reason)
    }

    fn no_such_snapshot(&self, name: ImageName, id: u32, names: &[String]) -> DatastoreError {
        let pool = self.pool();
        let numbers: Vec<String> = match Tree::load(pool, name, names) {
            Ok(tree) => tree.numbered().iter().map(|(id, _)| id.to_string()).collect(),
            Err(error) => return error.into(),
        };
        let has = match &numbers[..] {
            [] => "has no snapshot".to_owned(),
            numbers => format!("has the snapshots {}", numbers.join(", ")),
        };
        self.snapshot_error(
            id,
            format_args!(
                "is no snapshot of {}, which {has}: choose one of those",
                pool.spec(&name.main())
            ),
        )
    }

    /// Finds snapshot `id` on the image itself or on the carrier that is named after it.
    fn find(
        &self,
        image: &Image,
        name: ImageName,
        id: u32,
        names: &[String],
    ) -> Result<Found, DatastoreError> {
        let pool = self.pool();
        if !names.contains(&name.main()) {
            return Err(
                self.source_error(image, "is not in its pool: it may have been removed by hand")
            );
        }
        let own = pool.snapshots(&name.main())?;
        if numbers(&own).contains(&id) {
            return Ok(Found { volume: name.main(), own });
        }
        let holds_it = |other: &&String| name.carried(other).is_some_and(|ids| ids.contains(&id));
        let carriers: Vec<&String> = names.iter().filter(holds_it).collect();
        match carriers[..] {
            [volume] => Ok(Found { volume: volume.clone(), own }),
            [] => Err(self.no_such_snapshot(name, id, names)),
            _ => Err(self.snapshot_error(
                id,
                format_args!(
                    "is on several volumes by their names: {}; rename those that don't hold it",
                    shown(&carriers)
                ),
            )),
        }
    }

    /// Makes the temporary image a clone of a snapshot.
    fn clone_to_temporary(
        &self,
        name: ImageName,
        found: &Found,
        id: u32,
        data_pool: Option<&str>,
    ) -> Result<(), ClusterError> {
        let pool = self.pool();
        let snapshot = id.to_string();
        let temporary = name.temporary();
        let main = name.main();
        let clone = || pool.clone_snapshot(&found.volume, &snapshot, &temporary, data_pool);
        let made = make(pool, &temporary, &[&main], || match clone() {
            // The transfer driver was killed between taking and protecting it.
            Err(error) if error.is_invalid() => {
                pool.protect(&found.volume, &snapshot)?;
                clone()
            }
            result => result,
        });
        if made.as_ref().is_err_and(ClusterError::was_cut_off) {
            // It may be there all the same.
            let _ = recovery::remove(pool, &temporary);
        }
        made
    }

    /// `snap_revert`.
    pub(super) fn revert(&self, image: &Image) -> Result<(), DatastoreError> {
        self.intake.check_types(image, "snap_revert", &DISKS)?;
        let id = image.target_snapshot()?;
        let (name, _lock, names) = self.locked(image)?;
        let found = self.find(image, name, id, &names)?;
        self.not_open(image, name)?;
        let pool = self.pool();
        let kept = numbers(&found.own);
        let (main, temporary) = (name.main(), name.temporary());
        if kept.is_empty() && !found.own.is_empty() {
            self.no_dependents(image, &Tree::load(pool, name, std::slice::from_ref(&main))?)?;
        }
        self.clone_to_temporary(name, &found, id, pool.data_pool.as_deref())
            .map_err(|error| self.clone_failed(id, &found, error))?;
        process::mark_committed();
        let made_way = if kept.is_empty() {
            self.remove_state(name, &found.own)
        } else {
            self.tell_of_backups(&found.own, &name.carrier(&kept), "stay on");
            recovery::rename(pool, &main, &name.carrier(&kept))
        };
        self.settled(name, made_way.and_then(|()| recovery::rename(pool, &temporary, &main)))
    }

    /// Removes an image without numbered snapshots, which another one replaces.
    fn remove_state(&self, name: ImageName, own: &[Snapshot]) -> Result<(), ClusterError> {
        let (pool, main) = (self.pool(), name.main());
        self.tell_of_backups(own, &main, "go with the state that they belong to, of");
        purge(pool, &main, own)?;
        match pool.remove(&main, LARGE) {
            // Clones of format 2 still read from snapshots that were deleted.
            Err(error) if error.has_snapshots() => pool.move_to_trash(&main),
            result => result,
        }
    }

    /// The result of an action of which a step may have failed after it was committed: it is completed, or taken back.
    fn settled(
        &self,
        name: ImageName,
        result: Result<(), ClusterError>,
    ) -> Result<(), DatastoreError> {
        let Err(error) = result else { return Ok(()) };
        match recovery::settle(self.pool(), name) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(later) => log::warn!(
                "image {} is left for the next call to recover: {later}",
                self.pool().spec(&name.main())
            ),
        }
        Err(error.into())
    }

    /// Says in the log what becomes of the snapshots that backups have left.
    fn tell_of_backups(&self, own: &[Snapshot], volume: &str, what: &str) {
        let backups = own.iter().filter(|snapshot| snapshot.name.starts_with(BACKUP));
        let names: Vec<&str> = backups.map(|snapshot| snapshot.name.as_str()).collect();
        if !names.is_empty() {
            log::info!(
                "snapshots of backups ({}) {what} {}: the next backup must be a full one",
                names.join(", "),
                self.pool().spec(volume)
            );
        }
    }

    fn clone_failed(&self, id: u32, found: &Found, error: ClusterError) -> DatastoreError {
        if !error.is_missing() {
            return error.into();
        }
        self.snapshot_error(
            id,
            format_args!(
                "is not on {}, although that is named after it: {error}",
                self.pool().spec(&found.volume)
            ),
        )
    }

    /// `snap_flatten`.
    pub(super) fn flatten(&self, image: &Image) -> Result<(), DatastoreError> {
        self.intake.check_types(image, "snap_flatten", &DISKS)?;
        let id = image.target_snapshot()?;
        let (name, _lock, names) = self.locked(image)?;
        let found = match self.find(image, name, id, &names) {
            Err(_) if self.was_flattened(name, id, &names)? => return Ok(()),
            found => found?,
        };
        let pool = self.pool();
        self.no_dependents(image, &Tree::load(pool, name, &names)?)?;
        self.not_open(image, name)?;
        let (main, temporary, old, mark) = (name.main(), name.temporary(), name.old(), name.mark());
        let info = pool.info(&main)?;
        let (at_stop, made) = (pool.at_stop(), name);
        let clean_up = process::on_stop(move || forget_later(&at_stop, made));
        self.clone_to_temporary(name, &found, id, info.data_pool.as_deref())
            .map_err(|error| self.clone_failed(id, &found, error))?;
        if let Err(error) = self.make_whole(name, id, info.size) {
            forget_flattened(pool, name);
            return Err(error.into());
        }
        process::check_before_commit();
        process::mark_committed();
        drop(clean_up);
        let swapped = recovery::rename(pool, &main, &old)
            .and_then(|()| recovery::rename(pool, &temporary, &main));
        self.settled(name, swapped)?;
        let names: Vec<String> =
            pool.images()?.into_iter().filter(|other| *other != main).collect();
        Tree::load(pool, name, &names)?.remove(pool)?;
        Ok(recovery::remove(pool, &mark)?)
    }

    /// Has the temporary image stand alone, and notes that it is to replace the image with its snapshots.
    fn make_whole(&self, name: ImageName, id: u32, size: u64) -> Result<(), ClusterError> {
        let (pool, temporary, mark) = (self.pool(), name.temporary(), name.mark());
        pool.flatten(&temporary, size)?;
        pool.note(&temporary, FLATTENED, &flattened(name, id))?;
        make(pool, &mark, &[], || pool.create(&mark, 0))
    }

    /// Whether an earlier call, that oned got no reply from, has flattened the image.
    fn was_flattened(
        &self,
        name: ImageName,
        id: u32,
        names: &[String],
    ) -> Result<bool, DatastoreError> {
        if !names.contains(&name.main()) {
            return Ok(false);
        }
        let noted = self.pool().noted(&name.main(), FLATTENED)?;
        let done = noted.is_some_and(|noted| noted == flattened(name, id));
        if done {
            log::info!("image {} was flattened already", self.pool().spec(&name.main()));
        }
        Ok(done)
    }

    /// `snap_delete`.
    pub(super) fn delete_snapshot(&self, image: &Image) -> Result<(), DatastoreError> {
        self.intake.check_types(image, "snap_delete", &DISKS)?;
        let id = image.target_snapshot()?;
        let name = self.own_image(image)?;
        let _lock = self.lock(name)?;
        let (main, snapshot) = (name.main(), id.to_string());
        // Mostly the snapshot is on the image itself, and nothing descends from it.
        match self.unprotect(&main, &snapshot) {
            Ok(protected) => {
                process::mark_committed();
                return self.drop_snapshot(&main, &snapshot, protected);
            }
            Err(error) if error.is_missing() || error.is_busy() || error.is_forbidden() => {}
            Err(error) => return Err(error.into()),
        }
        let pool = self.pool();
        let names = recovery::recover(pool, name, pool.images()?)?.names;
        let found = match self.find(image, name, id, &names) {
            Err(_) if self.is_gone(image, name, id, &names)? => return Ok(()),
            found => found?,
        };
        self.free_of_children(image, name, &found, id, &names)?;
        process::mark_committed();
        match self.unprotect(&found.volume, &snapshot) {
            Err(error) if error.is_missing() => {}
            protected => self.drop_snapshot(&found.volume, &snapshot, protected?)?,
        }
        if found.volume == main { Ok(()) } else { self.rename_carrier(name, &found.volume) }
    }

    /// Takes the protection off a snapshot; whether it had any. On failure it is as it was.
    fn unprotect(&self, volume: &str, snapshot: &str) -> Result<bool, ClusterError> {
        let result = self.pool().unprotect(volume, snapshot);
        if result.as_ref().is_err_and(ClusterError::was_cut_off) {
            // It may be gone, and so may the snapshot itself.
            let _ = self.pool().protect(volume, snapshot);
        }
        result
    }

    /// Removes a snapshot from which the protection has been taken; on failure it is as it was.
    fn drop_snapshot(
        &self,
        volume: &str,
        snapshot: &str,
        protected: bool,
    ) -> Result<(), DatastoreError> {
        let pool = self.pool();
        match pool.remove_snapshot(volume, snapshot) {
            Err(error) if !error.is_missing() => {
                if protected && let Err(error) = pool.protect(volume, snapshot) {
                    log::warn!(
                        "snapshot {}@{snapshot} is no longer protected: {error}",
                        pool.spec(volume)
                    );
                }
                Err(error.into())
            }
            _ => Ok(()),
        }
    }

    /// Whether oned has a snapshot on record that is not there: an earlier call that was cut off has deleted it.
    fn is_gone(
        &self,
        image: &Image,
        name: ImageName,
        id: u32,
        names: &[String],
    ) -> Result<bool, DatastoreError> {
        let gone = image.recorded_target.is_some() && names.contains(&name.main()) && {
            let tree = Tree::load(self.pool(), name, names)?;
            !tree.numbered().iter().any(|(other, _)| *other == id)
        };
        if gone {
            log::info!("the snapshot {id} of {} was gone already", self.pool().spec(&name.main()));
        }
        Ok(gone)
    }

    /// Has volumes of the same image that descend from a snapshot stand alone, where the snapshot can't go otherwise.
    fn free_of_children(
        &self,
        image: &Image,
        name: ImageName,
        found: &Found,
        id: u32,
        names: &[String],
    ) -> Result<(), DatastoreError> {
        let pool = self.pool();
        let snapshot = id.to_string();
        let (children, mut dependents) = match pool.children_of(&found.volume, &snapshot) {
            Err(error) if error.is_missing() => return Ok(()),
            Err(error) if error.is_forbidden() => (Vec::new(), vec![tree::HIDDEN.to_owned()]),
            children => (children?, Vec::new()),
        };
        let own = |child: &Child| {
            child.pool == pool.name
                && !child.trash
                && name.owns(&child.image)
                && names.contains(&child.image)
        };
        // Clones of format 2 read on from what was deleted.
        let mut bound: Vec<(&Child, u64)> = Vec::new();
        for child in &children {
            match pool.info_at(&child.pool, &child.image) {
                Ok(info) if info.is_clone_of_format_2 => {}
                Ok(info) if own(child) => bound.push((child, info.size)),
                _ => dependents.push(called(child)),
            }
        }
        if !dependents.is_empty() {
            return Err(self.snapshot_error(
                id,
                format_args!("of {} is what {} read from: remove them first, or make them stand alone with `rbd flatten`", pool.spec(&found.volume), dependents.join(", ")),
            ));
        }
        if bound.iter().any(|(child, _)| child.image == name.main()) {
            self.not_open(image, name)?;
        }
        for (child, size) in bound {
            log::info!(
                "copying what {} reads from the snapshot {id}, up to {} MiB, so that it can be deleted",
                pool.spec(&child.image),
                size >> 20
            );
            pool.flatten(&child.image, size)?;
        }
        Ok(())
    }

    /// Names a carrier after the snapshots that are left on it; without any it goes.
    fn rename_carrier(&self, name: ImageName, carrier: &str) -> Result<(), DatastoreError> {
        let pool = self.pool();
        let snapshots = pool.snapshots(carrier)?;
        let left = numbers(&snapshots);
        if !left.is_empty() {
            let new = name.carrier(&left);
            return if new == carrier {
                Ok(())
            } else {
                Ok(recovery::rename(pool, carrier, &new)?)
            };
        }
        purge(pool, carrier, &snapshots)?;
        match recovery::remove(pool, carrier) {
            // Clones of format 2 still read from what was deleted; it goes with them.
            Err(error) if error.has_snapshots() => {
                log::info!(
                    "image {} goes to the trash until nothing reads from it any more",
                    pool.spec(carrier)
                );
                Ok(pool.move_to_trash(carrier)?)
            }
            result => Ok(result?),
        }
    }
}

fn shown(names: &[&String]) -> String {
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}
