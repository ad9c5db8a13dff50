//! The reports of LVM in JSON (`lvmreport(7)`): lists of flat objects whose values are all strings.

/// One object: fields and values, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row(Vec<(String, String)>);

impl Row {
    /// The value of a field.
    pub(super) fn get(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == field).map(|(_, value)| value.as_str())
    }
}

/// All objects of a report that hold strings, whatever they are nested in; `None` where the text is no
/// whole report.
pub(super) fn rows(text: &str) -> Option<Vec<Row>> {
    let mut rest = text.trim();
    let mut depth = 0_usize;
    let mut rows = Vec::new();
    let mut row: Vec<(String, String)> = Vec::new();
    if !rest.starts_with('{') || !rest.contains("\"report\"") {
        return None;
    }
    while let Some(character) = rest.chars().next() {
        match character {
            '{' | '[' => depth += 1,
            '}' | ']' => {
                depth = depth.checked_sub(1)?;
                if !row.is_empty() {
                    rows.push(Row(std::mem::take(&mut row)));
                }
            }
            '"' => {
                let (name, after) = string(rest)?;
                rest = after.trim_start().strip_prefix(':')?.trim_start();
                if rest.starts_with('"') {
                    let (value, after) = string(rest)?;
                    row.push((name, value));
                    rest = after;
                }
                continue;
            }
            ',' => {}
            character if character.is_whitespace() => {}
            _ => return None,
        }
        rest = &rest[character.len_utf8()..];
    }
    (depth == 0).then_some(rows)
}

/// The string that `text` begins with, and what follows it.
fn string(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.strip_prefix('"')?.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 2..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                plain @ ('"' | '\\' | '/') => value.push(plain),
                _ => return None,
            },
            plain => value.push(plain),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn objects_are_found_and_escapes_undone() {
        let rows =
            rows(r#"{"report":[{"lv":[{"a":"1","b":"x \"y\" \\"},{"a":"é"}]}],"log":[]}"#).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].get("b"), Some(r#"x "y" \"#));
        assert_eq!(rows[1].get("a"), Some("é"));
        assert_eq!(rows[1].get("b"), None);
    }

    #[test]
    fn a_report_that_is_cut_off_is_none() {
        let whole = r#"{"report":[{"lv":[{"a":"1"}]}]}"#;
        assert!(rows(whole).is_some());
        for end in 0..whole.len() {
            assert_eq!(rows(&whole[..end]), None, "{end}");
        }
    }
}
