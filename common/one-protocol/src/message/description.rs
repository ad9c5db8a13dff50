//! What a message says of its image that the typed message leaves out: it may hold anything, so it is only looked for where it is
//! wanted.

use crate::elements::each_element;

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
        // What a broken message says up to there is good enough for people.
        let _ = each_element(xml, &mut |path, text| {
            let field = match path {
                ["IMAGE", "NAME"] => &mut description.name,
                ["IMAGE", "UNAME"] => &mut description.owner,
                ["IMAGE", "GNAME"] => &mut description.group,
                ["IMAGE", "TEMPLATE", "DEV_PREFIX"] => &mut description.prefix,
                _ => return,
            };
            field.push_str(text);
        });
        description
    }
}

/// Whether oned has this snapshot of the image on record: `IMAGE/SNAPSHOTS/SNAPSHOT/ID`.
pub(super) fn has_snapshot(xml: &str, id: i64) -> bool {
    let mut found = false;
    let _ = each_element(xml, &mut |path, text| {
        found |= path == ["IMAGE", "SNAPSHOTS", "SNAPSHOT", "ID"] && text.trim().parse() == Ok(id);
    });
    found
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
    #[test]
    fn a_snapshot_is_on_record_by_its_number_alone() {
        let xml = "<D><IMAGE><ID>7</ID><SNAPSHOTS><SNAPSHOT><ID> <![CDATA[1]]>2 </ID><CHILDREN>3</CHILDREN></SNAPSHOT>\
                   <SNAPSHOT><NAME>4</NAME><ID>&#53;</ID><A><ID>6</ID></A></SNAPSHOT></SNAPSHOTS></IMAGE></D>";
        let recorded: Vec<i64> = (-1..20).filter(|&id| has_snapshot(xml, id)).collect();
        assert_eq!(recorded, [5, 12]);
    }
}
