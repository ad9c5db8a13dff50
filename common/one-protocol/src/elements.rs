//! An XML document as a list of its elements, where a few of many are wanted: each struct that serde fills adds some KiB to every
//! driver.

use quick_xml::Reader;
use quick_xml::errors::IllFormedError;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, Event};

/// Elements that lie deeper, counted from the root, are passed over: nothing that is wanted does, and the path of each would make
/// a document of very many levels take the square of its length.
const DEEPEST: usize = 8;

/// Calls `with` for each element, at its end, with the names of the elements from below the root to it, and its own text.
///
/// # Errors
/// What is wrong with the document. `with` was called for all elements that end before that.
pub(crate) fn each_element(
    xml: &str,
    with: &mut dyn FnMut(&[&str], &str),
) -> Result<(), quick_xml::Error> {
    let mut reader = Reader::from_str(xml);
    // The open elements with the text of each so far.
    let mut open: Vec<(String, String)> = Vec::new();
    loop {
        let event = reader.read_event()?;
        let text = match &event {
            Event::Start(tag) => {
                open.push((tag.name().as_ref().to_owned(), String::new()));
                continue;
            }
            Event::End(_) if open.len() > DEEPEST => {
                open.pop();
                continue;
            }
            Event::End(_) => {
                let path: Vec<&str> = open.iter().skip(1).map(|(name, _)| name.as_str()).collect();
                with(&path, open.last().map_or("", |(_, text)| text));
                open.pop();
                continue;
            }
            Event::Text(text) => &**text,
            Event::CData(text) => &**text,
            Event::GeneralRef(name) => &*character(name),
            Event::Eof => {
                return match open.pop() {
                    Some((name, _)) => Err(IllFormedError::MissingEndTag(name).into()),
                    None => Ok(()),
                };
            }
            _ => continue,
        };
        if let Some((_, own)) = open.last_mut() {
            own.push_str(text);
        }
    }
}

/// What a reference stands for; nothing where it is none of XML's own.
fn character(name: &BytesRef) -> String {
    match name.resolve_char_ref() {
        Ok(Some(character)) => character.to_string(),
        _ => resolve_predefined_entity(name).unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn elements(xml: &str) -> (Vec<(String, String)>, bool) {
        let mut found = Vec::new();
        let result =
            each_element(xml, &mut |path, text| found.push((path.join("/"), text.to_owned())));
        (found, result.is_ok())
    }

    #[test]
    fn each_element_has_its_path_and_its_own_text() {
        let (found, good) = elements(
            "<?xml version=\"1.0\"?><r><a>1<b x=\"2\">&lt;&#233;<![CDATA[<&]]></b>2</a>\n<c/></r>",
        );
        let expected = [("a/b", "<\u{e9}<&"), ("a", "12"), ("", "\n")];
        assert_eq!(found, expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
        assert!(good);
    }

    #[test]
    fn what_is_deeper_than_anything_wanted_is_passed_over() {
        let nested = |levels: usize| format!("{}1{}", "<a>".repeat(levels), "</a>".repeat(levels));
        for levels in [DEEPEST, DEEPEST + 1, 100_000] {
            let (found, good) = elements(&nested(levels));
            assert!(found.len() == DEEPEST && good, "{levels}");
        }
    }

    #[test]
    fn a_document_that_ends_too_early_is_told_after_what_was_whole() {
        for cut in ["<r><a>1</a><b>2", "<r><a>1</a><b", "<r><a>1</a></b></r>"] {
            assert_eq!(elements(cut), (vec![("a".to_owned(), "1".to_owned())], false), "{cut}");
        }
    }
}
