//! The drivers of this front-end, and OpenNebula's version.

use super::Findings;
use crate::installation::{DsMad, FrontEnd, Standing};

/// The newest version of OpenNebula that the drivers were tested with: see docs/versions.md.
pub const NEWEST_TESTED: (u32, u32) = (7, 5);
/// The oldest one whose message the drivers read.
const OLDEST: (u32, u32) = (5, 0);

const TOPIC: &str = "drivers";

/// Major and minor number of a version, such as `7.2.1`.
#[must_use]
pub fn numbers(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|number| number.trim().parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

pub(super) fn check_version(front_end: &FrontEnd, findings: &mut Findings) {
    let topic = "opennebula";
    let (major, minor) = NEWEST_TESTED;
    match front_end.version() {
        None => findings.warning(
            topic,
            format!("{} can't be read: the version is unknown", front_end.remotes.join("VERSION").display()),
            "reinstall OpenNebula's package",
        ),
        Some(version) if numbers(&version) > NEWEST_TESTED => findings.warning(
            topic,
            format!("version {version} is newer than {major}.{minor}, the newest that these drivers were tested with"),
            "try them under a name of their own (ferrostore enable --name ferro fs), or upgrade ferrostore",
        ),
        Some(version) if numbers(&version) < OLDEST => findings.problem(
            topic,
            format!("version {version} is older than 5.0: its messages are not known"),
            "upgrade OpenNebula",
        ),
        Some(version) => findings.ok(topic, format!("version {version}")),
    }
}

/// Whether the drivers of the package stand in their places.
pub(super) fn check(front_end: &FrontEnd, mad: &DsMad, findings: &mut Findings) {
    let directory = front_end.directory(mad);
    let directory = directory.display();
    let again = if mad.replaces_stock() {
        format!("ferrostore enable {}", mad.kind)
    } else {
        format!("ferrostore enable --name {} {}", mad.name, mad.kind)
    };
    match Standing::of(front_end, mad) {
        Err(error) => findings.warning(
            TOPIC,
            format!("the drivers in {directory} can't be compared with the package: {error}"),
            "install the ferrostore package, or give --drivers DIR",
        ),
        Ok(standing) if standing.is_whole() => {
            findings.ok(TOPIC, format!("{directory}: as in the package"));
        }
        Ok(standing) if standing.foreign.is_empty() && standing.missing.is_empty() => {
            findings.warning(TOPIC, format!("{directory}: {}", standing.faults()), again);
        }
        Ok(standing) => {
            findings.problem(TOPIC, format!("{directory}: {}", standing.faults()), again);
        }
    }
}
