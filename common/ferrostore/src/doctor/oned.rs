//! What oned says: whether it can be asked at all, its datastores, and the front-ends of its zone.

use super::Findings;
use one_protocol::settings::Settings;
use one_protocol::xml_rpc::{Argument, Client, XmlRpcError};
use serde::Deserialize;

const TOPIC: &str = "oned";

/// What oned knows.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) datastores: Vec<Datastore>,
    /// Names of the machines of the zone's front-ends; none where there is only this one.
    pub(super) front_ends: Vec<String>,
}

/// A datastore.
#[derive(Debug, Default, Deserialize, Clone, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
pub(super) struct Datastore {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) ds_mad: String,
    pub(super) tm_mad: String,
    pub(super) base_path: String,
    /// `DatastoreType`: 0 images, 1 system, 2 files, 3 backups.
    #[serde(rename = "TYPE")]
    pub(super) kind: String,
    pub(super) template: Template,
}

#[derive(Debug, Default, Deserialize, Clone, PartialEq, Eq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
pub(super) struct Template {
    pub(super) bridge_list: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
struct DatastorePool {
    datastore: Vec<Datastore>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
struct Zone {
    server_pool: ServerPool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
struct ServerPool {
    server: Vec<Server>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
struct Server {
    endpoint: String,
}

/// Asks oned; `None` where it does not answer.
pub(super) fn ask(settings: &Settings, findings: &mut Findings) -> Option<Known> {
    match answers(settings) {
        Ok((version, known)) => {
            findings.ok(TOPIC, format!("version {version} answers at {}", settings.xml_rpc()));
            Some(known)
        }
        Err(error) => {
            let remedy = format!(
                "start oned (systemctl start opennebula), and run this as oneadmin: ONE_AUTH is {}, ONE_XMLRPC {}",
                settings.session_file().display(),
                settings.xml_rpc()
            );
            findings.warning(
                TOPIC,
                format!("{error}: datastores, other front-ends and bridge hosts are not checked"),
                remedy,
            );
            None
        }
    }
}

fn answers(settings: &Settings) -> Result<(String, Known), XmlRpcError> {
    const THIS_ZONE: u64 = 0;
    let client = Client::new(settings)?;
    let version = client.call("one.system.version", &[])?;
    let datastores = datastores(&client.call("one.datastorepool.info", &[])?);
    // Only an administrator may ask for the zone.
    let zone = client.call("one.zone.info", &[Argument::Number(THIS_ZONE), Argument::Flag(false)]);
    let front_ends = zone.map(|zone| front_ends(&zone)).unwrap_or_default();
    Ok((version, Known { datastores, front_ends }))
}

fn datastores(text: &str) -> Vec<Datastore> {
    quick_xml::de::from_str::<DatastorePool>(text).unwrap_or_default().datastore
}

/// Names of machines in the addresses of a zone's servers.
fn front_ends(text: &str) -> Vec<String> {
    let zone: Zone = quick_xml::de::from_str(text).unwrap_or_default();
    let host = |server: &Server| {
        let (_, rest) = server.endpoint.split_once("://")?;
        let authority = rest.split('/').next()?;
        let host = match authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next()?,
            None => authority.split(':').next()?,
        };
        (!host.is_empty()).then(|| host.to_owned())
    };
    zone.server_pool.server.iter().filter_map(host).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datastores_and_front_ends_come_out_of_the_answers() {
        let pool = "<DATASTORE_POOL><DATASTORE><ID>1</ID><NAME>default</NAME><DS_MAD><![CDATA[fs]]></DS_MAD>\
            <TM_MAD>ssh</TM_MAD><BASE_PATH>/var/lib/one//datastores/1</BASE_PATH><TYPE>0</TYPE>\
            <TEMPLATE><BRIDGE_LIST><![CDATA[h1 h2]]></BRIDGE_LIST><X>1</X></TEMPLATE></DATASTORE></DATASTORE_POOL>";
        let found = datastores(pool);
        assert_eq!((found.len(), found[0].template.bridge_list.as_str()), (1, "h1 h2"));
        assert_eq!((found[0].tm_mad.as_str(), found[0].kind.as_str()), ("ssh", "0"));
        let zone = "<ZONE><SERVER_POOL><SERVER><ID>0</ID><ENDPOINT>http://one1:2633/RPC2</ENDPOINT></SERVER>\
            <SERVER><ENDPOINT>http://[fd00::2]:2633/RPC2</ENDPOINT></SERVER><SERVER><ENDPOINT/></SERVER></SERVER_POOL></ZONE>";
        assert_eq!(front_ends(zone), ["one1", "fd00::2"]);
        assert!(front_ends("nonsense").is_empty() && datastores("<a>").is_empty());
    }
}
