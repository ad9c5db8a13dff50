//! Images that are there: `rm` and the snapshots.

use super::group::Group;
use super::journal::Entry;
use super::lock::{GroupLock, VolumeLock};
use super::names::ImageName;
use super::{LvmDatastore, LvmError, trash};
use crate::kinds::DatastoreError;
use crate::kinds::intake::DISKS;
use crate::trash::Record;
use one_protocol::message::Image;
use runtime::command::CommandError;
use runtime::command::lvm::{self, Volume};
use runtime::process;
use runtime::staging::trash::{Trashed, now};
use std::time::Duration;

/// A volume's own size and that of those beside it decide on the size of its pool.
fn pool_size(volumes: &[Volume], pool: &str) -> u64 {
    volumes
        .iter()
        .filter(|volume| volume.pool.as_deref() == Some(pool))
        .map(|volume| volume.size)
        .sum()
}

fn find<'v>(volumes: &'v [Volume], name: &str) -> Option<&'v Volume> {
    volumes.iter().find(|volume| volume.name == name)
}

/// The volumes that would lose their data with the volume `name`.
fn dependents<'v>(volumes: &'v [Volume], name: &str, pool: &str) -> Vec<&'v str> {
    volumes
        .iter()
        .filter(|volume| volume.origin.as_deref() == Some(name))
        // In its own pool a snapshot stands by itself; in another it reads through its origin.
        .filter(|volume| volume.pool.as_deref() != Some(pool))
        .map(|volume| volume.name.as_str())
        .collect()
}

/// An image of the datastore, locked for a change.
struct Locked<'d> {
    group: &'d Group,
    image: ImageName,
    volumes: Vec<Volume>,
    _group_lock: GroupLock,
    _volume_lock: VolumeLock,
}

impl LvmDatastore {
    fn locked(&self, image: &Image) -> Result<Locked<'_>, DatastoreError> {
        let name = self.own_image(image)?;
        let group = &self.group;
        let lock = |group: &Group| -> Result<_, LvmError> {
            let volume_lock = VolumeLock::exclusive(&group.name, &name.volume)?;
            let group_lock = group.lock()?;
            let volumes = group.volumes(&group_lock, Some((&name, &volume_lock)))?;
            Ok((volumes, group_lock, volume_lock))
        };
        let (volumes, group_lock, volume_lock) = lock(group)?;
        // An image that was restored has another number than its name says.
        let main = name.whole(&volumes).and_then(|main| find(&volumes, main));
        let is_other = image.id.is_some_and(|id| id != name.id);
        if is_other && !main.is_some_and(trash::is_restored) {
            return Err(self.not_own(image));
        }
        Ok(Locked {
            group,
            image: name,
            volumes,
            _group_lock: group_lock,
            _volume_lock: volume_lock,
        })
    }

    /// `rm`.
    pub(super) fn remove(&self, image: &Image) -> Result<(), DatastoreError> {
        let locked = self.locked(image)?;
        let Locked { group, image: name, volumes, .. } = &locked;
        let pool = name.pool();
        let wrong = |reason: String| self.source_error(image, reason);
        for volume in [&name.volume, &pool] {
            let dependents = dependents(volumes, volume, &pool);
            if !dependents.is_empty() {
                return Err(wrong(format!(
                    "is what {} read from: remove those first",
                    dependents.join(", ")
                )));
            }
        }
        let ours = |volume: &Volume| volume.name == name.volume || name.has_snapshot(&volume.name);
        let in_pool = |volume: &Volume| volume.pool.as_deref() == Some(&*pool);
        if let Some(unknown) = volumes.iter().find(|v| in_pool(v) && !ours(v)) {
            return Err(wrong(format!(
                "shares its pool {pool} with {}, which is no part of the image: move that elsewhere or remove it",
                unknown.name
            )));
        }
        // What the volume is counts, and not what the image is said to be now.
        let names = trash::parts(name, volumes);
        let main = name.whole(volumes).and_then(|main| find(volumes, main));
        if names.is_empty() || main.is_some_and(trash::is_trashed) {
            log::info!("volume {}/{} was gone already", group.name, name.volume);
            return Ok(());
        }
        let keep = self.intake.retention()?;
        if let Some(main) = main.filter(|_| !keep.is_zero()) {
            if volumes.iter().any(|volume| ours(volume) && volume.is_open()) {
                return Err(wrong(
                    "is in use on this machine: stop the program that uses it, then try again"
                        .to_owned(),
                ));
            }
            return self.put_into_trash(image, &locked, &main.name, keep);
        }
        process::mark_committed();
        lvm::remove(&group.name, &names).map_err(|error| LvmError::from(error).into())
    }

    /// Has the image kept, which is the volume `main` with all that is in it.
    fn put_into_trash(
        &self,
        image: &Image,
        locked: &Locked,
        main: &str,
        keep: Duration,
    ) -> Result<(), DatastoreError> {
        let Locked { group, image: name, volumes, .. } = locked;
        let sizes = trash::parts(name, volumes).into_iter().filter_map(|part| find(volumes, part));
        let bytes = sizes.map(|volume| volume.size).sum();
        let snapshots = volumes.iter().filter(|volume| name.has_snapshot(&volume.name)).count();
        let trashed = Trashed { deleted: now(), keep, bytes, image: main.into() };
        let (description, id) = (&self.intake.description, self.intake.attributes.id);
        let record =
            Record::line(image, description, id, &trashed, snapshots as u64, trash::LONGEST);
        let tags = trash::tags(trashed.deleted, keep, &record);
        process::mark_committed();
        lvm::change_tags(&group.name, main, &tags.each_ref().map(String::as_str), &[])
            .map_err(|error| LvmError::from(error).into())
    }

    /// The image and the volume of its target snapshot, checked.
    fn snapshot(&self, image: &Image, verb: &str) -> Result<(Locked<'_>, String), DatastoreError> {
        self.intake.check_types(image, verb, &DISKS)?;
        let id = image.target_snapshot()?;
        let locked = self.locked(image)?;
        let name = locked.image.snapshot(id);
        let pool = locked.image.pool();
        if find(&locked.volumes, &name).is_some_and(|v| v.pool.as_deref() == Some(&*pool)) {
            return Ok((locked, name));
        }
        let present: Vec<_> = locked
            .volumes
            .iter()
            .filter(|volume| locked.image.has_snapshot(&volume.name))
            .map(|volume| volume.name.as_str())
            .collect();
        let present =
            if present.is_empty() { "no snapshot".to_owned() } else { present.join(", ") };
        Err(DatastoreError::value(
            "IMAGE/TARGET_SNAPSHOT",
            id.to_string(),
            format_args!(
                "is not there: {} holds {present}, and not {name}; choose another snapshot",
                locked.group.name
            ),
        ))
    }

    /// Removes the image's volume and `others`, once nothing can stand in the way of making it anew out of
    /// `snapshot`. Whether it will be `alone` in its pool decides on how large that must be.
    fn remove_for(
        &self,
        image: &Image,
        locked: &Locked,
        snapshot: &str,
        alone: bool,
        others: &[&str],
    ) -> Result<Entry, DatastoreError> {
        let Locked { group, image: name, volumes, .. } = locked;
        let pool_name = name.pool();
        let mut going = others.to_vec();
        if let Some(volume) = find(volumes, &name.volume) {
            let wrong = |reason: String| Err(self.source_error(image, reason));
            if volume.pool.as_deref() != Some(&*pool_name) {
                return wrong(format!(
                    "does not lie in {pool_name}: its snapshots are not its own"
                ));
            }
            if volume.is_open() {
                return wrong(
                    "is in use on this machine: stop the program that uses it, then try again"
                        .to_owned(),
                );
            }
            let dependents = dependents(volumes, &name.volume, &pool_name);
            if !dependents.is_empty() {
                return wrong(format!("is what {} read from", dependents.join(", ")));
            }
            going.push(&name.volume);
        }
        // The pool is as large as its volumes together, so that it never fills up.
        let current = find(volumes, &name.volume).map_or(0, |volume| volume.size);
        let coming = find(volumes, snapshot).map_or(0, |volume| volume.size);
        let staying = if alone { 0 } else { pool_size(volumes, &pool_name) - current };
        let needed = staying + coming;
        let failed = |error| failed_in_pool(locked, error);
        if find(volumes, &pool_name).is_some_and(|pool| pool.size < needed) {
            lvm::extend(&group.name, &pool_name, needed).map_err(failed)?;
        }
        process::mark_committed();
        let entry = Entry::write(&group.directory, name, snapshot)?;
        if !going.is_empty()
            && let Err(error) = lvm::remove(&group.name, &going)
        {
            let now = lvm::volumes(&group.name);
            if now.is_ok_and(|volumes| find(&volumes, &name.volume).is_some()) {
                entry.done();
            }
            return Err(failed(error));
        }
        Ok(entry)
    }

    /// Makes the image's volume out of `snapshot`, which stays.
    #[allow(clippy::unused_self)] // reads as the others
    fn make_of(&self, locked: &Locked, snapshot: &str, entry: Entry) -> Result<(), DatastoreError> {
        lvm::snapshot(&locked.group.name, snapshot, &locked.image.volume)
            .map_err(|error| failed_in_pool(locked, error))?;
        entry.done();
        Ok(())
    }

    /// `snap_revert`.
    pub(super) fn revert(&self, image: &Image) -> Result<(), DatastoreError> {
        let (locked, snapshot) = self.snapshot(image, "snap_revert")?;
        let entry = self.remove_for(image, &locked, &snapshot, false, &[])?;
        self.make_of(&locked, &snapshot, entry)
    }

    /// `snap_flatten`.
    pub(super) fn flatten(&self, image: &Image) -> Result<(), DatastoreError> {
        let (locked, snapshot) = self.snapshot(image, "snap_flatten")?;
        let Locked { group, image: name, volumes, .. } = &locked;
        let names: Vec<&str> = volumes
            .iter()
            .filter(|volume| name.has_snapshot(&volume.name))
            .map(|volume| volume.name.as_str())
            .collect();
        self.nothing_open(image, &locked, &names)?;
        process::check_before_commit();
        let others: Vec<&str> = names.into_iter().filter(|other| *other != snapshot).collect();
        let entry = self.remove_for(image, &locked, &snapshot, true, &others)?;
        // Once renamed, the snapshot must be as the image's volume is.
        if find(volumes, &snapshot).is_some_and(Volume::is_image_at_rest)
            && lvm::rename(&group.name, &snapshot, &name.volume).is_ok()
        {
            entry.done();
            return Ok(());
        }
        self.make_of(&locked, &snapshot, entry)?;
        lvm::remove(&group.name, &[&snapshot]).map_err(|error| failed_in_pool(&locked, error))
    }

    /// `snap_delete`.
    pub(super) fn delete_snapshot(&self, image: &Image) -> Result<(), DatastoreError> {
        let (locked, snapshot) = self.snapshot(image, "snap_delete")?;
        self.nothing_open(image, &locked, &[&snapshot])?;
        if find(&locked.volumes, &locked.image.volume).is_none() {
            return Err(self.source_error(
                image,
                "is gone, and its snapshots are all that is left: revert it to one of them first",
            ));
        }
        process::mark_committed();
        lvm::remove(&locked.group.name, &[&snapshot])
            .map_err(|error| failed_in_pool(&locked, error))
    }

    /// Checks that snapshots may go: they are not in use, and no volume outside the pool reads from them.
    fn nothing_open(
        &self,
        image: &Image,
        locked: &Locked,
        snapshots: &[&str],
    ) -> Result<(), DatastoreError> {
        for name in snapshots {
            if find(&locked.volumes, name).is_some_and(Volume::is_open) {
                return Err(self.source_error(image, format_args!("has the snapshot {name}, which is in use on this machine: stop the program that uses it, then try again")));
            }
            let dependents = dependents(&locked.volumes, name, &locked.image.pool());
            if !dependents.is_empty() {
                return Err(self.source_error(
                    image,
                    format_args!(
                        "has the snapshot {name}, which {} read from",
                        dependents.join(", ")
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// A program failed that has to activate the image's pool for its work, and may have left it so.
fn failed_in_pool(locked: &Locked, error: CommandError) -> DatastoreError {
    let _ = lvm::deactivate(&locked.group.name, &[&locked.image.pool()], None);
    LvmError::from(error).into()
}
