//! What a message says of its image that only people need. It may hold anything, so it is no part of the typed message, and only
//! looked for where it is wanted.

use quick_xml::Reader;
use quick_xml::events::Event;

/// What people know an image by; empty where it is not told.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Description {
    /// `IMAGE/NAME`.
    pub name: String,
    /// `IMAGE/UNAME`, its owner.
    pub owner: String,
    /// `IMAGE/GNAME`, its group.
    pub group: String,
    /// `IMAGE/TEMPLATE/DEV_PREFIX`, the prefix of its device.
    pub prefix: String,
}

impl Description {
    pub(super) fn of(xml: &str) -> Self {
        let mut description = Self::default();
        let mut reader = Reader::from_str(xml);
        let mut path: Vec<String> = Vec::new();
        while let Ok(event) = reader.read_event() {
            let text = match event {
                Event::Start(tag) => {
                    // What is deeper is none of these.
                    path.push(if path.len() < 4 {
                        tag.name().as_ref().to_owned()
                    } else {
                        String::new()
                    });
                    continue;
                }
                Event::End(_) => {
                    path.pop();
                    continue;
                }
                Event::Text(text) => text.to_string(),
                Event::CData(text) => text.to_string(),
                Event::GeneralRef(name) => character(&name),
                Event::Eof => break,
                _ => continue,
            };
            let names: Vec<&str> = path.iter().skip(1).map(String::as_str).collect();
            let field = match names.as_slice() {
                ["IMAGE", "NAME"] => &mut description.name,
                ["IMAGE", "UNAME"] => &mut description.owner,
                ["IMAGE", "GNAME"] => &mut description.group,
                ["IMAGE", "TEMPLATE", "DEV_PREFIX"] => &mut description.prefix,
                _ => continue,
            };
            field.push_str(&text);
        }
        description
    }
}

/// What a reference stands for; nothing where it is none of XML's own.
fn character(name: &str) -> String {
    let number = match name.strip_prefix('#') {
        Some(digits) => match digits.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => digits.parse().ok(),
        },
        None => None,
    };
    match (name, number.and_then(char::from_u32)) {
        (_, Some(character)) => character.to_string(),
        ("lt", _) => "<".to_owned(),
        ("gt", _) => ">".to_owned(),
        ("amp", _) => "&".to_owned(),
        ("apos", _) => "'".to_owned(),
        ("quot", _) => "\"".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_described_in_any_form_and_by_nothing_else() {
        let xml = "<D><DATASTORE><NAME>no</NAME></DATASTORE><IMAGE><NAME><![CDATA[a <b>]]></NAME>\
                   <UNAME>x&amp;y&#233;</UNAME><GNAME><A>no</A><B/></GNAME><SNAPSHOTS><NAME>no</NAME></SNAPSHOTS>\
                   <TEMPLATE><DEV_PREFIX>v</DEV_PREFIX><DEV_PREFIX>d</DEV_PREFIX></TEMPLATE></IMAGE></D>";
        let expected = Description {
            name: "a <b>".into(),
            owner: "x&y\u{e9}".into(),
            group: String::new(),
            prefix: "vd".into(),
        };
        assert_eq!(Description::of(xml), expected);
        assert_eq!(Description::of("<D><IMAGE>"), Description::default());
    }
}
