//! Where an action is done: here, on a bridge host, or with the image of another host.

use super::{BridgeError, BridgeMode, SourceOpener};
use crate::kinds::brings_in;
use crate::transfer::location::Location;
use one_protocol::host_pool::{self, Host};
use one_protocol::message::{Datastore, Message};
use one_protocol::settings::Settings;
use runtime::text;

/// Hosts that an attribute names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hosts {
    attribute: &'static str,
    names: Vec<String>,
}

/// Where an action is done.
#[derive(Debug)]
pub(super) enum Place {
    /// Here, all of it.
    Here,
    /// Here, without storage.
    ReadOnly,
    /// Here, with an image that one of these hosts sends.
    HereFrom(Hosts),
    /// On one of these hosts, with an image from somewhere else perhaps.
    There(Hosts, ImageFrom),
}

/// Where a bridge host gets the image from.
#[derive(Debug)]
pub(super) enum ImageFrom {
    /// It needs none, or finds it itself.
    Itself,
    /// This machine opens and sends it.
    Here(SourceOpener),
    /// One of these hosts can read it; a bridge host that is one of them does so itself.
    Hosts(Hosts),
}

const TARGETS: &str = "DATASTORE/TEMPLATE/BRIDGE_LIST";
const SOURCES: &str = "SOURCE_BRIDGE_LIST";

impl Hosts {
    fn of(attribute: &'static str, names: &[String]) -> Result<Option<Self>, BridgeError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-@:%".contains(c);
        let odd = |name: &&String| {
            let host = name.rsplit('@').next().unwrap_or_default();
            name.starts_with('-')
                || host.starts_with('-')
                || host.is_empty()
                || !name.chars().all(plain)
        };
        if let Some(name) = names.iter().find(odd) {
            return Err(BridgeError::Value {
                attribute,
                value: name.clone(),
                rule: "is no host's name: it must be [user@]host, with letters, digits, '.', '_' and '-'; separate several by spaces",
            });
        }
        Ok((!names.is_empty()).then(|| Self { attribute, names: names.to_vec() }))
    }

    /// Whether `host` is one of them.
    pub(super) fn has(&self, host: &str) -> bool {
        self.names.iter().any(|name| name == host)
    }

    /// The error that none of them can be used.
    pub(super) fn none_left(&self, reasons: Vec<String>) -> BridgeError {
        BridgeError::NoHost { attribute: self.attribute, hosts: self.names.join(" "), reasons }
    }

    /// The hosts to be tried for the image (or datastore) `id`, in order, and why others are not. Those
    /// of `better` come first.
    pub(super) fn by_preference(
        &self,
        pool: &[Host],
        id: u64,
        better: Option<&Self>,
    ) -> (Vec<String>, Vec<String>) {
        let mut refused = Vec::new();
        let mut usable = Vec::new();
        for name in &self.names {
            let host = name.rsplit('@').next().unwrap_or_default();
            match pool.iter().find(|known| known.name == host).and_then(|known| known.unusable) {
                Some(why) => refused.push(format!("{name}: {why}")),
                None => usable.push(name.clone()),
            }
        }
        let (mut first, mut last): (Vec<_>, Vec<_>) =
            usable.into_iter().partition(|name| better.is_none_or(|better| better.has(name)));
        for hosts in [&mut first, &mut last] {
            if !hosts.is_empty() {
                let start = (id % hosts.len() as u64) as usize;
                hosts.rotate_left(start);
            }
        }
        first.append(&mut last);
        (first, refused)
    }
}

/// Where the action of `message` is done.
///
/// # Errors
/// Where the message names hosts that can't be.
pub(super) fn route(
    bridge: BridgeMode,
    message: &Message,
    settings: &Settings,
) -> Result<Place, BridgeError> {
    let datastore = message.datastore()?;
    let path = message.image().and_then(|image| image.path()).unwrap_or_default();
    let remote = !matches!(Location::parse(path), Location::Local(_));
    let targets = Hosts::of(TARGETS, &datastore.bridge_list)?;
    // Whether the host that has the storage gets at the image by itself.
    let itself = targets.is_some()
        && (datastore.download_on_bridge && remote || !brings_in(message, settings)?);
    let there = |image| move |hosts| Place::There(hosts, image);
    Ok(match bridge {
        BridgeMode::ReadOnly if targets.is_some() && !itself => Place::ReadOnly,
        BridgeMode::Whole | BridgeMode::ReadOnly => {
            targets.map_or(Place::Here, there(ImageFrom::Itself))
        }
        BridgeMode::Register(_) if itself => targets.map_or(Place::Here, there(ImageFrom::Itself)),
        BridgeMode::Register(open) => targets.map_or(Place::Here, there(ImageFrom::Here(open))),
        BridgeMode::Clone(open) => {
            let sources = Hosts::of(SOURCES, &message.source_bridge_list)?;
            match (targets, sources) {
                (None, None) => Place::Here,
                (None, Some(sources)) => Place::HereFrom(sources),
                (Some(targets), Some(sources)) => Place::There(targets, ImageFrom::Hosts(sources)),
                (Some(targets), None) if is_own(path, datastore) => {
                    Place::There(targets, ImageFrom::Itself)
                }
                (Some(targets), None) => Place::There(targets, ImageFrom::Here(open)),
            }
        }
    })
}

/// Whether the image at `path` is in `datastore` itself, or nothing that this machine could have.
fn is_own(path: &str, datastore: &Datastore) -> bool {
    let base = datastore.base_path().map(text::path).unwrap_or_default();
    let path = text::path(path);
    !path.is_absolute() || path.starts_with(base)
}

/// What oned says of its hosts; nothing, and a warning, where it doesn't say.
pub(super) fn pool(settings: &Settings) -> Vec<Host> {
    host_pool::ask(settings).unwrap_or_else(|error| {
        log::warn!("every bridge host counts as usable, because oned can't be asked: {error}");
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hosts(names: &str) -> Hosts {
        let names: Vec<_> = names.split(' ').map(str::to_owned).collect();
        Hosts::of(TARGETS, &names).unwrap().unwrap()
    }

    fn order(names: &str, id: u64, better: Option<&str>) -> String {
        let pool = [
            Host { name: "off".into(), unusable: Some("oned lists it as off") },
            Host { name: "b".into(), unusable: None },
        ];
        let better = better.map(hosts);
        hosts(names).by_preference(&pool, id, better.as_ref()).0.join(" ")
    }

    #[test]
    fn the_image_id_chooses_among_the_usable_hosts() {
        assert_eq!(order("a b off c", 0, None), "a b c");
        assert_eq!(order("a b off c", 4, None), "b c a");
        assert_eq!(order("a off one@off", 7, None), "a");
        assert_eq!(order("off", 7, None), "");
        assert_eq!(order("a b c d", 1, Some("d c x")), "d c b a");
        let (_, refused) = hosts("off a").by_preference(
            &[Host { name: "off".into(), unusable: Some("oned lists it as off") }],
            0,
            None,
        );
        assert_eq!(refused, ["off: oned lists it as off"]);
    }

    #[test]
    fn a_host_is_never_an_option_or_a_command() {
        for odd in ["-oX=y", "a@-v", "$(id)", "a;b", "a/b", "@", "a@", "`id`", "a'b"] {
            assert!(Hosts::of(TARGETS, &[odd.to_owned()]).is_err(), "{odd}");
        }
        assert_eq!(Hosts::of(TARGETS, &[]).unwrap(), None);
        assert!(hosts("one@h-1.example.org fe80::1%eth0 h_2").has("h_2"));
    }
}
