//! Reports in XML, as `rbd` and `ceph` print them with `--format xml`: a small tree of elements.

use quick_xml::Reader;
use quick_xml::events::Event;

/// Elements lie in each other no deeper than this.
const DEEPEST: usize = 32;

/// An element: its name, its text and the elements in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// The root element of `text`; `None` where that is not whole.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut reader = Reader::from_str(text.trim());
        let mut open: Vec<Self> = vec![Self::default()];
        loop {
            match reader.read_event().ok()? {
                Event::Start(tag) => {
                    if open.len() > DEEPEST {
                        return None;
                    }
                    open.push(Self::named(tag.name().as_ref()));
                }
                Event::Empty(tag) => {
                    open.last_mut()?.children.push(Self::named(tag.name().as_ref()));
                }
                Event::End(_) => {
                    let element = open.pop()?;
                    open.last_mut()?.children.push(element);
                }
                Event::Text(piece) => open.last_mut()?.text += piece.as_ref(),
                Event::GeneralRef(name) => {
                    open.last_mut()?.text +=
                        &quick_xml::escape::unescape(&format!("&{};", &*name)).ok()?;
                }
                Event::Eof => break,
                _ => {}
            }
        }
        let mut document = open.pop().filter(|_| open.is_empty())?;
        if document.children.len() == 1 { document.children.pop() } else { None }
    }

    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Whether this is its name.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// The elements in it with this name.
    pub(super) fn all<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// All elements in it.
    pub(super) fn children(&self) -> &[Self] {
        &self.children
    }

    /// The first element in it with this name.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first element in it with this name.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.trim())
    }

    /// The number in the first element in it with this name.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// Its own text.
    pub(super) fn own_text(&self) -> &str {
        self.text.trim()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_report_is_a_tree_of_elements() {
        let text = "<a><b><c>1</c></b><b><c>x &amp; &lt;y&gt;</c></b><empty/><none></none></a>\n";
        let root = Element::parse(text).unwrap();
        assert!(root.is("a"));
        let values: Vec<_> = root.all("b").filter_map(|b| b.text("c")).collect();
        assert_eq!(values, ["1", "x & <y>"]);
        assert_eq!(root.child("b").unwrap().number("c"), Some(1));
        assert_eq!(
            (root.text("empty"), root.text("none"), root.text("no")),
            (Some(""), Some(""), None)
        );
    }

    #[test]
    fn what_is_no_whole_report_is_none() {
        for text in ["", "<a>", "<a></b>", "plain", "<a/><b/>", "</a>"] {
            assert_eq!(Element::parse(text), None, "{text}");
        }
        let deep = "<a>".repeat(40) + &"</a>".repeat(40);
        assert_eq!(Element::parse(&deep), None);
    }
}
