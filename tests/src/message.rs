//! `DS_DRIVER_ACTION_DATA`, the message that oned sends.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A message: a tree of elements that is written out as one line of XML.
///
/// Attributes are named by their path below the root element, as in `IMAGE/TEMPLATE/MD5`.
#[derive(Clone, Debug)]
pub struct Message(Element);

#[derive(Clone, Debug)]
struct Element {
    name: String,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Children(Vec<Element>),
    /// XML, already escaped.
    Xml(Vec<u8>),
}

const PERMISSIONS: &str = "<OWNER_U>1</OWNER_U><OWNER_M>1</OWNER_M><OWNER_A>0</OWNER_A>\
    <GROUP_U>0</GROUP_U><GROUP_M>0</GROUP_M><GROUP_A>0</GROUP_A>\
    <OTHER_U>0</OTHER_U><OTHER_M>0</OTHER_M><OTHER_A>0</OTHER_A>";

impl Message {
    /// A message without any attribute.
    pub fn empty() -> Self {
        Self(Element { name: "DS_DRIVER_ACTION_DATA".to_owned(), body: Body::Children(Vec::new()) })
    }

    /// The message of most actions: an image in an image datastore.
    pub fn image(base_path: &str) -> Self {
        Self::empty().with_image().with_datastore(base_path)
    }

    /// The message of `stat`: of the image, only its path and an empty size.
    pub fn stat(base_path: &str) -> Self {
        Self::empty()
            .set_escaped("IMAGE/PATH", "")
            .set_escaped("IMAGE/SIZE", "")
            .with_datastore(base_path)
    }

    /// The message of `monitor`: no image at all.
    pub fn monitor(base_path: &str) -> Self {
        Self::empty().with_datastore(base_path)
    }

    fn with_image(self) -> Self {
        let mut message = self
            .set_escaped("IMAGE/ID", "7")
            .set_escaped("IMAGE/UID", "0")
            .set_escaped("IMAGE/GID", "0")
            .set_escaped("IMAGE/UNAME", "oneadmin")
            .set_escaped("IMAGE/GNAME", "oneadmin")
            .set_escaped("IMAGE/NAME", "a disk")
            .set_xml("IMAGE/PERMISSIONS", PERMISSIONS)
            .set_escaped("IMAGE/TYPE", "0")
            .set_escaped("IMAGE/DISK_TYPE", "0")
            .set_escaped("IMAGE/PERSISTENT", "0")
            .set_escaped("IMAGE/REGTIME", "1795439728")
            .set_escaped("IMAGE/MODTIME", "1795439728");
        for name in ["SOURCE", "PATH", "FORMAT", "FS"] {
            message = message.set(&format!("IMAGE/{name}"), "");
        }
        for (name, value) in [
            ("SIZE", "4"),
            ("STATE", "4"),
            ("PREV_STATE", "0"),
            ("RUNNING_VMS", "0"),
            ("CLONING_OPS", "0"),
            ("CLONING_ID", "-1"),
            ("TARGET_SNAPSHOT", "-1"),
            ("DATASTORE_ID", "104"),
            ("DATASTORE", "default"),
            ("VMS", ""),
            ("CLONES", ""),
            ("APP_CLONES", ""),
        ] {
            message = message.set_escaped(&format!("IMAGE/{name}"), value);
        }
        message
            .set("IMAGE/TEMPLATE/DEV_PREFIX", "sd")
            .set("IMAGE/SNAPSHOTS/ALLOW_ORPHANS", "NO")
            .set("IMAGE/SNAPSHOTS/CURRENT_BASE", "-1")
            .set("IMAGE/SNAPSHOTS/NEXT_SNAPSHOT", "0")
            .set_escaped("IMAGE/BACKUP_INCREMENTS", "")
            .set_escaped("IMAGE/BACKUP_DISK_IDS", "")
    }

    fn with_datastore(self, base_path: &str) -> Self {
        self.set_escaped("DATASTORE/ID", "104")
            .set_escaped("DATASTORE/UID", "0")
            .set_escaped("DATASTORE/GID", "0")
            .set_escaped("DATASTORE/UNAME", "oneadmin")
            .set_escaped("DATASTORE/GNAME", "oneadmin")
            .set_escaped("DATASTORE/NAME", "default")
            .set_xml("DATASTORE/PERMISSIONS", PERMISSIONS)
            .set("DATASTORE/DS_MAD", "fs")
            .set("DATASTORE/TM_MAD", "ssh")
            .set("DATASTORE/BASE_PATH", base_path)
            .set_escaped("DATASTORE/TYPE", "0")
            .set_escaped("DATASTORE/DISK_TYPE", "0")
            .set_escaped("DATASTORE/STATE", "0")
            .set_xml("DATASTORE/CLUSTERS", "<ID>0</ID>")
            .set_escaped("DATASTORE/TOTAL_MB", "258020")
            .set_escaped("DATASTORE/FREE_MB", "71415")
            .set_escaped("DATASTORE/USED_MB", "21639")
            .set_xml("DATASTORE/IMAGES", "<ID>5</ID><ID>6</ID>")
            .set("DATASTORE/TEMPLATE/ALLOW_ORPHANS", "YES")
            .set("DATASTORE/TEMPLATE/CLONE_TARGET", "SYSTEM")
            .set("DATASTORE/TEMPLATE/DISK_TYPE", "FILE")
            .set("DATASTORE/TEMPLATE/DS_MAD", "fs")
            .set("DATASTORE/TEMPLATE/LN_TARGET", "SYSTEM")
            .set("DATASTORE/TEMPLATE/PERSISTENT_SNAPSHOTS", "YES")
            .set("DATASTORE/TEMPLATE/TM_MAD", "ssh")
            .set("DATASTORE/TEMPLATE/TYPE", "IMAGE_DS")
    }

    /// Sets an attribute, as CDATA (oned's way for most text).
    pub fn set(self, path: &str, value: impl AsRef<[u8]>) -> Self {
        let xml = cdata(value.as_ref());
        self.set_xml(path, xml)
    }

    /// Sets an attribute, with entities for the special characters.
    pub fn set_escaped(self, path: &str, value: impl AsRef<[u8]>) -> Self {
        let xml = escaped(value.as_ref());
        self.set_xml(path, xml)
    }

    /// Sets the inside of an element to XML as it is (which may be broken on purpose).
    pub fn set_xml(mut self, path: &str, xml: impl AsRef<[u8]>) -> Self {
        let mut element = &mut self.0;
        for name in path.split('/') {
            element = element.child(name);
        }
        element.body = Body::Xml(xml.as_ref().to_vec());
        self
    }

    /// Removes an element and all below it.
    pub fn without(mut self, path: &str) -> Self {
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut element = &mut self.0;
        for parent in parents.split('/').filter(|parent| !parent.is_empty()) {
            element = element.child(parent);
        }
        if let Body::Children(children) = &mut element.body {
            children.retain(|child| child.name != name);
        }
        self
    }

    /// Puts the children of the root into the opposite order.
    pub fn reversed(mut self) -> Self {
        if let Body::Children(children) = &mut self.0.body {
            children.reverse();
        }
        self
    }

    /// The message as XML, on one line unless a value has line breaks.
    pub fn xml(&self) -> Vec<u8> {
        let mut xml = Vec::new();
        self.0.write(&mut xml);
        xml
    }

    /// The message as one line of base64 without a final newline.
    pub fn base64(&self) -> String {
        STANDARD.encode(self.xml())
    }
}

impl Element {
    fn child(&mut self, name: &str) -> &mut Self {
        if !matches!(self.body, Body::Children(_)) {
            self.body = Body::Children(Vec::new());
        }
        let Body::Children(children) = &mut self.body else {
            unreachable!("it was just made so");
        };
        let index = children.iter().position(|child| child.name == name).unwrap_or_else(|| {
            children.push(Self { name: name.to_owned(), body: Body::Children(Vec::new()) });
            children.len() - 1
        });
        &mut children[index]
    }

    fn write(&self, xml: &mut Vec<u8>) {
        xml.extend_from_slice(format!("<{}>", self.name).as_bytes());
        match &self.body {
            Body::Children(children) => children.iter().for_each(|child| child.write(xml)),
            Body::Xml(inside) => xml.extend_from_slice(inside),
        }
        xml.extend_from_slice(format!("</{}>", self.name).as_bytes());
    }
}

fn cdata(value: &[u8]) -> Vec<u8> {
    let mut xml = b"<![CDATA[".to_vec();
    for (index, byte) in value.iter().enumerate() {
        // The only text that CDATA can't hold is its own end: split it over two sections.
        if value[index..].starts_with(b">") && value[..index].ends_with(b"]]") {
            xml.extend_from_slice(b"]]><![CDATA[");
        }
        xml.push(*byte);
    }
    xml.extend_from_slice(b"]]>");
    xml
}

fn escaped(value: &[u8]) -> Vec<u8> {
    let mut xml = Vec::new();
    for byte in value {
        match byte {
            b'&' => xml.extend_from_slice(b"&amp;"),
            b'<' => xml.extend_from_slice(b"&lt;"),
            b'>' => xml.extend_from_slice(b"&gt;"),
            b'"' => xml.extend_from_slice(b"&quot;"),
            b'\'' => xml.extend_from_slice(b"&apos;"),
            other => xml.push(*other),
        }
    }
    xml
}
