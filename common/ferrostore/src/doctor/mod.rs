//! One look at an installation: what keeps oned from using the drivers, or will after the next upgrade or failover.
//!
//! It reads only. Each check tells what it found, and the command or the line that repairs it.

mod configuration;
mod drivers;
mod finding;
mod machines;
mod oned;
mod privileges;
mod storage;

pub use configuration::{DATASTORE_CONF_KEYS, OTHER_KEYS};
pub use drivers::{NEWEST_TESTED, numbers};
pub use finding::{Finding, Findings, Verdict};

use crate::installation::{DsMad, Enabled, FrontEnd, OnedConf, is_ours};
use crate::kinds::KINDS;
use one_protocol::settings::Settings;

/// Looks at the front-end, and with `other_machines` at those that it reaches by ssh.
#[must_use]
pub fn examine(front_end: &FrontEnd, other_machines: bool) -> Findings {
    let mut findings = Findings::default();
    let datastores = front_end.datastores();
    if !datastores.is_dir() {
        let text = format!("no OpenNebula here: {} does not exist", datastores.display());
        findings.problem(
            "opennebula",
            text,
            "run this on a front-end, with ONE_LOCATION set where it is self-contained",
        );
        return findings;
    }
    let settings = Settings::from_environment();
    drivers::check_version(front_end, &mut findings);
    let mads = mads(front_end, &mut findings);
    for mad in &mads {
        drivers::check(front_end, mad, &mut findings);
    }
    configuration::check_oned_conf(&front_end.oned_conf, &mads, &mut findings);
    configuration::check_datastore_conf(front_end, &settings, &mut findings);
    privileges::check(&mads, &mut findings);
    let known = oned::ask(&settings, &mut findings);
    let conf = OnedConf::read(&front_end.oned_conf);
    storage::check(front_end, known.as_ref(), &mads, &conf, &mut findings);
    if let Some(known) = known.filter(|_| other_machines) {
        machines::check(front_end, &settings, &known, &mads, &mut findings);
    }
    findings
}

/// What is enabled, and what an installation from a checkout has put in place.
fn mads(front_end: &FrontEnd, findings: &mut Findings) -> Vec<DsMad> {
    let listed = front_end.enabled.as_ref().map(Enabled::read);
    let mut mads = match listed {
        Some(Ok(mads)) => mads,
        Some(Err(error)) => {
            findings.problem("enabled", error.to_string(), "correct that line");
            Vec::new()
        }
        None => Vec::new(),
    };
    let listed = mads.len();
    for kind in KINDS {
        let Ok(mad) = DsMad::new(kind, None) else { continue };
        if !mads.contains(&mad) && is_ours(&front_end.directory(&mad).join("monitor")) {
            mads.push(mad);
        }
    }
    let names =
        |mads: &[DsMad]| mads.iter().map(|mad| mad.name.clone()).collect::<Vec<_>>().join(" ");
    match (listed, mads.len()) {
        (_, 0) => findings.warning(
            "enabled",
            "no kind is enabled: OpenNebula's own scripts serve all datastores",
            "ferrostore enable fs",
        ),
        (listed, all) if listed < all => findings.warning(
            "enabled",
            format!(
                "{}: in place, but not listed as enabled: an upgrade of OpenNebula brings the stock scripts back",
                names(&mads[listed..])
            ),
            format!("ferrostore enable {}", names(&mads[listed..])),
        ),
        _ => findings.ok("enabled", names(&mads)),
    }
    mads
}
