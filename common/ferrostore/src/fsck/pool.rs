//! Whether the images in a Ceph pool are what OpenNebula believes: `fsck --pool`.

use super::{Entry, Known, Problem, Role, Verdict};
use crate::kinds::ceph::{Part, Volume};
use std::ffi::OsStr;
use std::io;

/// What there is to know about an RBD image.
#[derive(Debug)]
pub struct VolumeFacts {
    /// `image`, `carrier` or `other`.
    pub kind: &'static str,
    /// Its size, bytes.
    pub size: u64,
    /// Numbers of the snapshots on it.
    pub snapshots: Vec<u32>,
    /// Numbers of the images of oned that it is.
    pub ids: Vec<u64>,
}

/// Examines what is in a pool, against what oned knows of it where that is given, and hands each entry to `visit`.
///
/// # Errors
/// As `visit`.
pub fn examine(
    volumes: &[Volume],
    known: Option<&Known>,
    visit: &mut dyn FnMut(&Entry) -> io::Result<()>,
) -> io::Result<Verdict> {
    let mut verdict = Verdict::default();
    let mut tell = |entry: &Entry| {
        verdict.problems += entry.problems.len() as u64;
        verdict.worst = verdict.worst.max(entry.problems.iter().map(|p| p.severity).max());
        visit(entry)
    };
    let mut images = 0;
    for volume in volumes {
        images += u64::from(volume.part == Part::Image);
        tell(&look_at(volume, volumes, known))?;
    }
    for (name, image) in known.into_iter().flat_map(Known::images) {
        let there = volumes.iter().any(|volume| OsStr::new(&volume.name) == name);
        if !there && !image.may_be_absent {
            let what = format!(
                "{} is not in the pool: bring it back from a backup, or delete the image",
                image.called()
            );
            let problems = vec![Problem::damage(what)];
            tell(&Entry { name: name.clone(), role: Role::Missing, problems })?;
        }
    }
    verdict.images = images;
    Ok(verdict)
}

fn look_at(volume: &Volume, volumes: &[Volume], known: Option<&Known>) -> Entry {
    let recorded = known.and_then(|known| known.image(OsStr::new(&volume.name)));
    let facts = |kind| VolumeFacts {
        kind,
        size: volume.size,
        snapshots: volume.snapshots.clone(),
        ids: recorded.map(|image| image.ids.clone()).unwrap_or_default(),
    };
    let (role, problems) = match &volume.part {
        Part::Image => (Role::Volume(facts("image")), problems_of_image(volume, volumes, known)),
        Part::Carrier(image, ids) => {
            (Role::Volume(facts("carrier")), problems_of_carrier(volume, image, ids, volumes))
        }
        Part::Unfinished { live: true, .. } => (Role::LeftOver { live: true }, Vec::new()),
        Part::Unfinished { image, .. } => {
            let what = format!(
                "a driver that was killed has left this; the next action on {image}, or the next new image, completes or removes it"
            );
            (Role::LeftOver { live: false }, vec![Problem::warning(what)])
        }
        Part::Other => (Role::Volume(facts("other")), Vec::new()),
    };
    Entry { name: volume.name.clone().into(), role, problems }
}

fn problems_of_image(volume: &Volume, volumes: &[Volume], known: Option<&Known>) -> Vec<Problem> {
    let Some(known) = known else { return Vec::new() };
    let Some(image) = known.image(OsStr::new(&volume.name)) else {
        return vec![Problem::warning(
            "oned doesn't know this image: it is an orphan, unless it was registered after the list was made",
        )];
    };
    let carried = |id: &u32| {
        volume.snapshots.contains(id)
            || volumes.iter().any(|other| {
                matches!(&other.part, Part::Carrier(of, _) if *of == volume.name)
                    && other.snapshots.contains(id)
            })
    };
    let missing: Vec<String> =
        image.snapshots.iter().filter(|id| !carried(id)).map(ToString::to_string).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    vec![Problem::damage(format!(
        "oned knows the snapshots {} of it, which are not in the pool: delete them in oned",
        missing.join(", ")
    ))]
}

fn problems_of_carrier(
    volume: &Volume,
    image: &str,
    ids: &[u32],
    volumes: &[Volume],
) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !volumes.iter().any(|other| other.name == image) {
        problems.push(Problem::damage(format!(
            "these snapshots belong to no image: {image} is not there; revert to one of them, or remove them"
        )));
    }
    if ids != volume.snapshots {
        problems.push(Problem::warning(format!(
            "it is not named after the snapshots that it has ({}): the next snap_delete of one that is missing renames it",
            volume.snapshots.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        )));
    }
    problems
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn volume(name: &str, part: Part, snapshots: &[u32]) -> Volume {
        Volume { name: name.into(), part, size: 1 << 20, snapshots: snapshots.to_vec() }
    }

    fn problems(volumes: &[Volume]) -> Vec<String> {
        let mut all = Vec::new();
        examine(volumes, None, &mut |entry| {
            let name = entry.name.to_string_lossy().into_owned();
            all.extend(entry.problems.iter().map(|problem| format!("{name}: {}", problem.what)));
            Ok(())
        })
        .unwrap();
        all
    }

    #[test]
    fn an_image_with_its_carrier_has_no_problem() {
        let carrier = Part::Carrier("one-5".into(), vec![0, 1]);
        let volumes = [
            volume("one-5", Part::Image, &[2]),
            volume("one-5-0:1", carrier, &[0, 1]),
            volume("one-5-7-0", Part::Other, &[]),
        ];
        assert_eq!(problems(&volumes), [""; 0]);
    }

    #[test]
    fn carriers_without_image_or_with_another_name_and_left_overs_are_told() {
        let volumes = [
            volume("one-5-0:1", Part::Carrier("one-5".into(), vec![0, 1]), &[1]),
            volume(
                "one-6.ferrostore",
                Part::Unfinished { image: "one-6".into(), live: false },
                &[],
            ),
        ];
        let told = problems(&volumes);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].contains("belong to no image") && told[1].contains("(1)"), "{told:?}");
    }
}
