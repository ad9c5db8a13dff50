//! What killed drivers have left of images that no later call names: those that oned does not know.

use super::lock::NameLock;
use super::names::ImageName;
use super::recovery;
use runtime::command::cluster::ClusterError;
use runtime::command::rbd::Pool;
use std::time::Duration;

/// Where no lock file tells whether a driver is dead, since it may have run on another machine or before this one was
/// started, what it left is looked at this often. It has its image open all the time but for moments.
const LOOKS: [Duration; 2] = [Duration::from_millis(1200), Duration::from_millis(1900)];

/// Recovers what killed drivers have left in the pool, whose images are `names`. What can't be recovered now is left
/// to the next driver.
pub(super) fn recover(pool: &Pool, own: ImageName, names: &[String]) {
    let mut seen = vec![own];
    for (image, lock) in NameLock::stale(&pool.name) {
        seen.push(image);
        match of_dead_driver(pool, image, &lock, names) {
            Ok(true) => {}
            Ok(false) => lock.leave(),
            Err(error) => {
                log::warn!(
                    "image {} is left for the next driver: {error}",
                    pool.spec(&image.main())
                );
                lock.leave();
            }
        }
    }
    for image in names.iter().filter_map(|name| ImageName::owner_of_unfinished(name)) {
        if !seen.contains(&image) {
            seen.push(image);
            of_unknown_driver(pool, image);
        }
    }
}

/// Recovers an image whose driver is dead; whether nothing is left.
fn of_dead_driver(
    pool: &Pool,
    image: ImageName,
    lock: &NameLock,
    names: &[String],
) -> Result<bool, ClusterError> {
    let temporary = image.temporary();
    if names.contains(&temporary) && !pool.watchers(&temporary)?.is_empty() {
        // The cluster has not yet missed its client.
        return Ok(false);
    }
    let unfinished = names.iter().any(|name| ImageName::owner_of_unfinished(name) == Some(image));
    if unfinished {
        recovery::recover(pool, image, names.to_vec())?;
    }
    let main = image.main();
    if lock.is_unreported() && names.contains(&main) {
        recovery::remove(pool, &main)?;
        log::info!("removed {}, whose driver was killed before it replied", pool.spec(&main));
    }
    Ok(true)
}

/// Recovers an image of which only names are known.
fn of_unknown_driver(pool: &Pool, image: ImageName) {
    let Ok(_lock) = NameLock::take(&pool.name, image, Duration::ZERO) else { return };
    let is_idle = || -> Result<bool, ClusterError> {
        let names = pool.images()?;
        for name in [image.temporary(), image.main()] {
            if names.contains(&name) && !pool.watchers(&name)?.is_empty() {
                return Ok(false);
            }
        }
        Ok(names.iter().any(|name| ImageName::owner_of_unfinished(name) == Some(image)))
    };
    let recover = || -> Result<(), ClusterError> {
        if !is_idle()? {
            return Ok(());
        }
        for pause in LOOKS {
            std::thread::sleep(pause);
            if !is_idle()? {
                return Ok(());
            }
        }
        recovery::recover(pool, image, pool.images()?).map(drop)
    };
    if let Err(error) = recover() {
        log::warn!("image {} is left for the next driver: {error}", pool.spec(&image.main()));
    }
}
