//! iSCSI targets (`iscsi_libvirt`): an image *is* a target that exists already, and QEMU connects to it by
//! its name. The front-end never does, so there is nothing to be measured, copied or deleted.

use super::existing::{NO_SPACE_OF_ITS_OWN, in_place, source_of};
use super::intake::path_error;
use super::{Datastore, DatastoreError, Registered, Usage};
use crate::image_source::{ImageSource, Purpose};
use one_protocol::message::{Image, Mebibytes, Message};
use one_protocol::settings::Settings;

/// Longest name of a target, bytes (RFC 7143, section 4.2.7.1).
const LONGEST_NAME: usize = 223;

/// Highest unit number in the flat addressing of SCSI (SAM-5, section 4.7.7.3).
const HIGHEST_UNIT: u16 = 16383;

/// Targets that are registered as images.
#[derive(Debug)]
pub struct IscsiDatastore {
    ds_mad: String,
}

impl Datastore for IscsiDatastore {
    fn open(message: &Message, _: &Settings) -> Result<Self, DatastoreError> {
        Ok(Self { ds_mad: message.datastore()?.ds_mad.clone() })
    }

    fn ds_mad(&self) -> &str {
        &self.ds_mad
    }

    fn source(&self, image: &Image, purpose: Purpose) -> Result<ImageSource, DatastoreError> {
        let source = in_place(self, purpose)?;
        check(image)?;
        source_of(image)?;
        Ok(source)
    }

    fn store(&self, image: &Image, _: ImageSource) -> Result<Registered, DatastoreError> {
        Ok(Registered { source: source_of(image)?, format: "raw" })
    }

    fn rm(&self, _: &Image) -> Result<(), DatastoreError> {
        // The target is not OpenNebula's: only its record goes.
        Ok(())
    }

    fn stat(&self, image: &Image) -> Result<Mebibytes, DatastoreError> {
        check(image)?;
        Ok(Mebibytes(0))
    }

    fn monitor(&self) -> Result<Usage, DatastoreError> {
        Ok(NO_SPACE_OF_ITS_OWN)
    }
}

/// Checks that `IMAGE/PATH` is what libvirt takes: the name of a target, with `/<unit>` if it is not the first.
fn check(image: &Image) -> Result<(), DatastoreError> {
    let path = image.path()?;
    let (name, unit) = match path.split_once('/') {
        Some((name, unit)) => (name, Some(unit)),
        None => (path, None),
    };
    if !is_target(name) {
        return Err(path_error(
            image,
            "is no name of an iSCSI target: it must be iqn.<year>-<month>.<domain>[:<name>], eui.<16 hexadecimal digits> or naa.<16 or 32 hexadecimal digits>, with /<unit> if wanted",
        ));
    }
    if unit.is_some_and(|unit| !is_unit(unit)) {
        return Err(path_error(
            image,
            format_args!(
                "has a wrong logical unit: behind the '/' must be its number, 0 to {HIGHEST_UNIT}"
            ),
        ));
    }
    Ok(())
}

fn is_unit(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
        && text.parse::<u16>().is_ok_and(|unit| unit <= HIGHEST_UNIT)
}

/// The three forms of RFC 7143, section 4.2.7. Names are compared without regard to case, and there are targets
/// in use with an underscore in their name.
fn is_target(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let Some((form, rest)) = lower.split_once('.') else { return false };
    let digits = |lengths: &[usize]| {
        lengths.contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    match form {
        "iqn" => name.len() <= LONGEST_NAME && is_qualified(rest),
        "eui" => digits(&[16]),
        "naa" => digits(&[16, 32]),
        _ => false,
    }
}

/// `<year>-<month>.<domain>[:<anything>]`, in lower case.
fn is_qualified(name: &str) -> bool {
    let Some((date, rest)) = name.split_once('.') else { return false };
    let number = |text: &str, length| {
        (text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u16>().ok())
            .flatten()
    };
    let dated = date.split_once('-').is_some_and(|(year, month)| {
        number(year, 4).is_some() && number(month, 2).is_some_and(|month| (1..=12).contains(&month))
    });
    let (domain, extra) = match rest.split_once(':') {
        Some((domain, extra)) => (domain, Some(extra)),
        None => (rest, None),
    };
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    dated
        && domain.split('.').all(|label| !label.is_empty() && label.chars().all(word))
        && extra.is_none_or(|extra| {
            !extra.is_empty() && extra.chars().all(|c| word(c) || c == '.' || c == ':')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_targets_are_those_of_the_standard() {
        for name in [
            "iqn.1992-01.com.example:storage:diskarrays-sn-a8675309",
            "iqn.2001-04.com.example",
            "IQN.2013-07.com.Example:Disk.1",
            "iqn.2003-01.org.linux-iscsi.host_1.x8664:sn.1ebe",
            "eui.02004567A425678D",
            "naa.52004567BA64678D",
            "naa.62004567BA64678D0123456789ABCDEF",
        ] {
            assert!(is_target(name), "{name}");
        }
        let long = format!("iqn.2001-04.com.example:{}", "x".repeat(LONGEST_NAME));
        for name in [
            "",
            "iqn",
            "iqn.",
            "iqn.2001-04",
            "iqn.2001-04.",
            "iqn.2001-13.com.example",
            "iqn.2001-4.com.example",
            "iqn.+001-04.com.example",
            "iqn.2001-04.com..example",
            "iqn.2001-04.com.example:",
            "iqn.2001-04.com.example:a b",
            "iqn.2001-04.com.example:a'b",
            "iqn.2001-04.com.ex\u{e4}mple",
            "eui.02004567A425678",
            "eui.02004567A425678G",
            "naa.52004567BA64678D0",
            "wwn.5200",
            "/dev/sda",
            long.as_str(),
        ] {
            assert!(!is_target(name), "{name}");
        }
    }

    #[test]
    fn a_unit_is_a_plain_number_in_its_range() {
        for unit in ["0", "1", "255", "16383"] {
            assert!(is_unit(unit), "{unit}");
        }
        for unit in ["", "-1", "+1", "1 ", "x", "0x1", "16384", "1/2", "99999999999"] {
            assert!(!is_unit(unit), "{unit}");
        }
    }
}
