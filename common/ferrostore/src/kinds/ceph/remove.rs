//! `rm`.

use super::names::ImageName;
use super::tree::{Tree, purge};
use super::{CephDatastore, recovery};
use crate::kinds::DatastoreError;
use one_protocol::message::{Image, Mebibytes};
use runtime::process;

impl CephDatastore {
    /// `rm`: the image with its carriers and snapshots.
    pub(super) fn remove(&self, image: &Image) -> Result<(), DatastoreError> {
        let name = self.own_image(image)?;
        let _lock = self.lock(name)?;
        let pool = self.pool();
        let mut names = pool.images()?;
        // The trash is to get the image itself, not what a cut-off action has left in its place.
        if self.place.trash && names.iter().any(|other| is_unfinished_of(name, other)) {
            names = recovery::recover(pool, name, names)?.names;
        }
        let own: Vec<String> = names.iter().filter(|other| name.owns(other)).cloned().collect();
        let unfinished: Vec<String> =
            names.into_iter().filter(|other| is_unfinished_of(name, other)).collect();
        if own.is_empty() && unfinished.is_empty() {
            log::info!("image {} was gone already", pool.spec(&name.main()));
            return Ok(());
        }
        let size = image.size.and_then(Mebibytes::bytes).unwrap_or(super::LARGE);
        // An image without any snapshots, as most are, goes by itself.
        if own == [name.main()] && unfinished.is_empty() && !self.place.trash {
            process::mark_committed();
            match pool.remove(&name.main(), size) {
                Err(error) if error.has_snapshots() => {}
                Err(error) if error.is_missing() => return Ok(()),
                Err(error) if error.is_busy() => return Err(self.in_use(image, name)?),
                result => return Ok(result?),
            }
        }
        let tree = Tree::load(pool, name, &own)?;
        self.no_dependents(image, &tree)?;
        self.nothing_open(image, name, &tree)?;
        if self.place.trash {
            return self.to_trash(name, tree, size);
        }
        process::mark_committed();
        // What is not finished descends from the image.
        for other in unfinished {
            recovery::remove(pool, &other)?;
        }
        Ok(tree.remove(pool)?)
    }

    /// Moves the image to the trash, standing alone so that it can be restored and purged.
    fn to_trash(&self, name: ImageName, tree: Tree, size: u64) -> Result<(), DatastoreError> {
        let pool = self.pool();
        let main = name.main();
        let Some(member) = tree.member(&main) else {
            process::mark_committed();
            return Ok(tree.remove(pool)?);
        };
        if pool.info(&main)?.has_parent {
            log::info!("copying what {} reads from its snapshots, for the trash", pool.spec(&main));
            pool.flatten(&main, size)?;
        }
        process::mark_committed();
        // Volumes that descend from the image's own snapshots go first.
        let snapshots = member.snapshots.clone();
        let rest = tree.without(&main);
        rest.remove(pool)?;
        purge(pool, &main, &snapshots)?;
        Ok(pool.move_to_trash(&main)?)
    }

    /// Checks that only the image's own volumes descend from it.
    pub(super) fn no_dependents(&self, image: &Image, tree: &Tree) -> Result<(), DatastoreError> {
        let dependents = tree.dependents();
        if dependents.is_empty() {
            return Ok(());
        }
        Err(self.source_error(
            image,
            format_args!("is what {} read from: remove them first, or make them stand alone with `rbd flatten`", dependents.join(", ")),
        ))
    }

    /// Checks that no client has any of the image's volumes open.
    fn nothing_open(
        &self,
        image: &Image,
        name: ImageName,
        tree: &Tree,
    ) -> Result<(), DatastoreError> {
        match tree.member(&name.main()) {
            Some(_) => self.not_open(image, name),
            None => Ok(()),
        }
    }

    /// Checks that no client has the image open.
    pub(super) fn not_open(&self, image: &Image, name: ImageName) -> Result<(), DatastoreError> {
        let watchers = self.pool().watchers(&name.main())?;
        if watchers.is_empty() { Ok(()) } else { Err(self.open_by(image, &watchers)) }
    }

    fn in_use(&self, image: &Image, name: ImageName) -> Result<DatastoreError, DatastoreError> {
        let watchers = self.pool().watchers(&name.main())?;
        Ok(self.open_by(image, &watchers))
    }

    fn open_by(&self, image: &Image, watchers: &[String]) -> DatastoreError {
        self.source_error(
            image,
            format_args!("is open on {} (a client that was killed counts for 30 s): stop what uses it, then try again", watchers.join(", ")),
        )
    }
}

fn is_unfinished_of(name: ImageName, other: &str) -> bool {
    other == name.temporary() || other == name.mark()
}
