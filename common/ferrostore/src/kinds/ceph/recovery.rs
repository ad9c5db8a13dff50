//! Completing, or taking back, what a killed driver was at, as far as the names in the pool tell.
//!
//! Every action that replaces an image makes the new one under a temporary name first. RBD has no step that exchanges
//! two images, so between two renames there is a moment without the image itself. Which names are there says what is
//! to be done; [`steps`] is the whole of it.

use super::names::ImageName;
use super::tree::Tree;
pub(super) use super::tree::remove;
use runtime::command::cluster::ClusterError;
use runtime::command::rbd::Pool;

/// Which names of an image there are.
#[allow(clippy::struct_excessive_bools)] // each is there or not
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Present {
    main: bool,
    temporary: bool,
    old: bool,
    mark: bool,
    carriers: bool,
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Give the temporary image its name: the action is completed.
    Commit,
    /// Give the former image its name back.
    Restore,
    /// Remove the temporary image.
    RemoveTemporary,
    /// Remove all that the image was before it was flattened.
    RemoveFormer,
    /// Remove the mark of the image that is being flattened.
    RemoveMark,
}

/// What to do about the names that there are.
fn steps(present: Present) -> Vec<Step> {
    use Step::{Commit, RemoveFormer, RemoveMark, RemoveTemporary, Restore};
    let Present { main, temporary, old, mark, carriers } = present;
    match (mark, main, temporary) {
        // The mark goes first: alone with the image, it would mean that the snapshots may go.
        (true, true, true) => vec![RemoveMark, RemoveTemporary],
        (true, false, true) => vec![Commit, RemoveFormer, RemoveMark],
        (true, true, false) => vec![RemoveFormer, RemoveMark],
        (true, false, false) if old => vec![RemoveMark, Restore],
        (true, false, false) => vec![RemoveMark],
        (false, false, true) if old => vec![RemoveTemporary, Restore],
        // Without snapshots there was nothing to revert to: it is a new image, which is incomplete.
        (false, false, true) if carriers => vec![Commit],
        (false, _, true) => vec![RemoveTemporary],
        (false, false, false) if old => vec![Restore],
        (false, _, false) => vec![],
    }
}

/// What has come of an action that was cut off.
#[derive(Debug)]
pub(super) struct Recovered {
    /// The names in the pool now.
    pub(super) names: Vec<String>,
    /// Whether the action was completed just now.
    pub(super) committed: bool,
}

/// Completes or takes back what a killed driver was doing with an image, of whose pool these are all `names`. The
/// caller holds the image's lock.
pub(super) fn recover(
    pool: &Pool,
    image: ImageName,
    names: Vec<String>,
) -> Result<Recovered, ClusterError> {
    let has = |name: String| names.contains(&name);
    let main = image.main();
    let is_broken = has(main.clone()) && has(image.temporary()) && !opens(pool, &main)?;
    if is_broken {
        // `rbd rm` has begun to move it to the trash, and completes that.
        remove(pool, &main)?;
    }
    let present = Present {
        main: has(main) && !is_broken,
        temporary: has(image.temporary()),
        old: has(image.old()),
        mark: has(image.mark()),
        carriers: names.iter().any(|name| image.carried(name).is_some()),
    };
    let steps = steps(present);
    if steps.is_empty() {
        return Ok(Recovered { names, committed: false });
    }
    let committed = steps.contains(&Step::Commit);
    for step in steps {
        take(pool, image, step)?;
    }
    Ok(Recovered { names: pool.images()?, committed })
}

/// As [`recover`], where a step of this driver's own action failed; whether the action is done all the same. Its program
/// may have done the step, and been killed before it could say so.
pub(super) fn settle(pool: &Pool, image: ImageName) -> Result<bool, ClusterError> {
    let names = pool.images()?;
    let was_done = names.contains(&image.main()) && !names.contains(&image.temporary());
    Ok(recover(pool, image, names)?.committed || was_done)
}

fn take(pool: &Pool, image: ImageName, step: Step) -> Result<(), ClusterError> {
    let (main, temporary) = (image.main(), image.temporary());
    match step {
        Step::Commit => {
            if !opens(pool, &main)? {
                // What `rbd rm` has begun to remove of the former image, if anything.
                remove(pool, &main)?;
            }
            rename(pool, &temporary, &main)?;
            log::info!("completed the image {}, as a killed driver was about to", pool.spec(&main));
        }
        Step::Restore => {
            rename(pool, &image.old(), &main)?;
            log::info!("gave the image {} its name back", pool.spec(&main));
        }
        Step::RemoveTemporary => {
            remove(pool, &temporary)?;
            log::info!("removed {}, left by a killed driver", pool.spec(&temporary));
        }
        Step::RemoveFormer => {
            let names = pool.images()?;
            let former: Vec<String> =
                names.into_iter().filter(|name| *name != main && image.owns(name)).collect();
            Tree::load(pool, image, &former)?.remove(pool)?;
        }
        Step::RemoveMark => remove(pool, &image.mark())?,
    }
    Ok(())
}

/// Whether there is an image behind a name.
fn opens(pool: &Pool, name: &str) -> Result<bool, ClusterError> {
    match pool.info(name) {
        Err(error) if error.is_missing() => Ok(false),
        result => result.map(|_| true),
    }
}

/// Gives an image another name, which no listed image has.
///
/// A rename that was cut off may have left the name as a second one of the same image (`RenameRequest` of librbd
/// writes the new name, changes the directory, and removes the old name).
pub(super) fn rename(pool: &Pool, from: &str, to: &str) -> Result<(), ClusterError> {
    match pool.rename(from, to) {
        Err(error) if error.is_taken() => {
            forget_unlisted(pool, to, &[from])?;
            pool.rename(from, to)
        }
        result => result,
    }
}

/// Makes the image `name` by `make`; a name that is taken, although no listed image has it, is freed first where it is
/// only what a cut-off program has left.
pub(super) fn make(
    pool: &Pool,
    name: &str,
    relatives: &[&str],
    mut make: impl FnMut() -> Result<(), ClusterError>,
) -> Result<(), ClusterError> {
    match make() {
        Err(error) if error.is_taken() => {
            forget_unlisted(pool, name, relatives)?;
            make()
        }
        result => result,
    }
}

/// Removes the name `stray` where no image is lost by that: one of `relatives` is the same image, or there is none
/// behind it.
fn forget_unlisted(pool: &Pool, stray: &str, relatives: &[&str]) -> Result<(), ClusterError> {
    let listed = pool.images()?;
    if listed.iter().any(|name| name == stray) {
        return Ok(());
    }
    let id = match pool.info(stray) {
        Ok(info) => Some(info.id),
        Err(error) if error.is_missing() => None,
        Err(error) => return Err(error),
    };
    let known: Vec<&str> =
        listed.iter().map(String::as_str).chain(relatives.iter().copied()).collect();
    let image = super::names::ImageName::owner_of_unfinished(stray)
        .or_else(|| super::names::ImageName::parse(stray));
    let mut same = id.is_none();
    for name in known {
        let related = relatives.contains(&name)
            || image.is_some_and(|image| image.owns(name) || name == image.temporary());
        if !same && related && name != stray {
            same = pool.info(name).is_ok_and(|info| Some(info.id) == id);
        }
    }
    if same {
        pool.remove_stray_name(stray)?;
        log::info!("removed the second name {} that a cut-off rename had left", pool.spec(stray));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(names: &str) -> Present {
        let has = |word: &str| names.split(' ').any(|name| name == word);
        Present {
            main: has("main"),
            temporary: has("temporary"),
            old: has("old"),
            mark: has("mark"),
            carriers: has("carriers"),
        }
    }

    #[test]
    fn an_image_at_rest_is_left_alone() {
        for names in ["", "main", "carriers", "main carriers"] {
            assert_eq!(steps(present(names)), [], "{names}");
        }
    }

    #[test]
    fn a_new_image_that_is_incomplete_goes() {
        assert_eq!(steps(present("temporary")), [Step::RemoveTemporary]);
    }

    /// The names after each step of an action, and what recovery makes of them.
    fn outcome(mut now: Present) -> (Present, Vec<Step>) {
        let all = steps(now);
        for step in &all {
            match step {
                Step::Commit => (now.temporary, now.main) = (false, true),
                Step::Restore => (now.old, now.main) = (false, true),
                Step::RemoveTemporary => now.temporary = false,
                Step::RemoveFormer => (now.old, now.carriers) = (false, false),
                Step::RemoveMark => now.mark = false,
            }
        }
        (now, all)
    }

    #[test]
    fn a_revert_is_taken_back_until_the_image_has_given_up_its_name_and_completed_then() {
        let (old, new) = (present("main carriers"), present("main carriers"));
        assert_eq!(outcome(present("main temporary carriers")).0, old);
        let (end, steps) = outcome(present("temporary carriers"));
        assert_eq!((end, &steps[..]), (new, &[Step::Commit][..]));
    }

    #[test]
    fn a_flatten_is_taken_back_until_the_image_has_given_up_its_name_and_completed_then() {
        let before =
            ["main temporary carriers", "main temporary mark carriers", "main temporary mark"];
        for names in before {
            let (end, steps) = outcome(present(names));
            assert!(end.main && !end.temporary && !end.mark, "{names}");
            assert!(!steps.contains(&Step::RemoveFormer), "{names}");
        }
        let after = [
            "temporary old mark carriers",
            "main old mark carriers",
            "main mark carriers",
            "main mark",
        ];
        for names in after {
            assert_eq!(outcome(present(names)).0, present("main"), "{names}");
        }
    }

    #[test]
    fn recovery_may_be_cut_off_after_each_of_its_steps() {
        for bits in 0..32_u8 {
            let bit = |number: u8| bits >> number & 1 == 1;
            let start = Present {
                main: bit(0),
                temporary: bit(1),
                old: bit(2),
                mark: bit(3),
                carriers: bit(4),
            };
            let (end, all) = outcome(start);
            // Recovery is complete, and asks for no more.
            assert_eq!(steps(end), [], "{start:?}");
            // Cut off after its first step, it comes to the same end.
            let mut cut = start;
            match all.first() {
                Some(Step::Commit) => (cut.temporary, cut.main) = (false, true),
                Some(Step::Restore) => (cut.old, cut.main) = (false, true),
                Some(Step::RemoveTemporary) => cut.temporary = false,
                Some(Step::RemoveFormer) => (cut.old, cut.carriers) = (false, false),
                Some(Step::RemoveMark) => cut.mark = false,
                None => {}
            }
            assert_eq!(outcome(cut).0, end, "{start:?}");
            // No image is ever left without itself while anything could be it.
            assert!(end.main || !(start.main || start.old), "{start:?}");
        }
    }
}
