//! Which hosts oned lists as unusable: `one.hostpool.info` of its XML-RPC interface.

use crate::elements::each_element;
use crate::settings::Settings;
use crate::xml_rpc::{Client, XmlRpcError};
use std::mem;

/// A host that oned lists, with the reason where it must not be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Why it must not be used.
    pub unusable: Option<&'static str>,
}

/// Why oned did not tell.
#[derive(Debug, thiserror::Error)]
pub enum HostPoolError {
    /// It was not reached, or refused.
    #[error(transparent)]
    XmlRpc(#[from] XmlRpcError),
    /// The list is none.
    #[error("oned answered: invalid XML-RPC response ({0})")]
    List(String),
}

/// Asks oned for all its hosts.
///
/// # Errors
/// [`HostPoolError`], within a second.
pub fn ask(settings: &Settings) -> Result<Vec<Host>, HostPoolError> {
    hosts(&Client::new(settings)?.call("one.hostpool.info", &[])?)
}

/// The hosts in a `HOST_POOL` of oned.
fn hosts(text: &str) -> Result<Vec<Host>, HostPoolError> {
    let mut hosts = Vec::new();
    let (mut name, mut state) = (String::new(), String::new());
    each_element(text, &mut |path, text| match path {
        ["HOST", "NAME"] => text.clone_into(&mut name),
        ["HOST", "STATE"] => text.trim().clone_into(&mut state),
        ["HOST"] => {
            hosts.push(Host {
                name: mem::take(&mut name),
                unusable: unusable(&mem::take(&mut state)),
            });
        }
        _ => {}
    })
    .map_err(|error| HostPoolError::List(error.to_string()))?;
    Ok(hosts)
}

/// Why a host in a state must not be used. The states are those of OpenNebula's `HostState`: INIT,
/// MONITORING_MONITORED, MONITORED, ERROR, DISABLED, MONITORING_ERROR, MONITORING_INIT,
/// MONITORING_DISABLED and OFFLINE, from 0.
fn unusable(state: &str) -> Option<&'static str> {
    match state {
        "3" | "5" => Some("oned lists it as in error"),
        "4" | "7" => Some("oned lists it as disabled"),
        "8" => Some("oned lists it as off"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::xml_rpc::tests::{answer_of, response};

    #[test]
    fn states_of_hosts_come_out_of_a_pool() {
        let host = |name: &str, state: &str| {
            format!(
                "<HOST><ID>1</ID><NAME>{name}</NAME><STATE>{state}</STATE><TEMPLATE>\
                 <NAME>other</NAME><STATE>8</STATE></TEMPLATE></HOST>"
            )
        };
        let pool = (0..9).map(|state| host(&format!("h{state}"), &state.to_string()));
        let pool = format!("<HOST_POOL>{}</HOST_POOL>", pool.collect::<String>());
        let answer = answer_of(response("1", &pool).as_bytes()).unwrap();
        let hosts = hosts(&answer).unwrap();
        let unusable: Vec<_> =
            hosts.iter().filter(|h| h.unusable.is_some()).map(|h| h.name.as_str()).collect();
        assert_eq!(hosts.len(), 9);
        assert_eq!(unusable, ["h3", "h4", "h5", "h7", "h8"]);
        assert_eq!(super::hosts("<HOST_POOL></HOST_POOL>").unwrap(), vec![]);
        assert!(super::hosts("hello").is_err() || super::hosts("hello").unwrap().is_empty());
    }
}
