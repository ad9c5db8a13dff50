//! ferrostore(7): the tables of docs/reference.md.

use crate::page::Page;
use std::error::Error;

const REFERENCE: &str = include_str!("../../../docs/reference.md");

/// The sections of docs/reference.md that the page has.
const SECTIONS: [&str; 9] = [
    "The call",
    "Actions and replies",
    "Formats",
    "Attributes",
    "Settings",
    "Environment",
    "Errors",
    "Exit codes",
    "Limits",
];

/// Files and directories, and what they hold.
const FILES: [(&str, &str); 9] = [
    ("/usr/lib/ferrostore", "the drivers of the package"),
    ("/etc/ferrostore/enabled", "what is enabled: a line KIND or KIND NAME each"),
    ("/var/lib/one/remotes/datastore/KIND", "where oned finds the drivers"),
    (
        "/var/lib/one/remotes/datastore/KIND.stock",
        "the stock scripts that the drivers have replaced",
    ),
    ("/var/lib/one/remotes/etc/datastore/datastore.conf", "settings of all drivers"),
    ("/var/log/one/ferrostore.jsonl", "the record of calls"),
    ("BASE_PATH/<32 hex digits>", "an image of a file datastore"),
    ("BASE_PATH/<image>.snap", "the snapshots of an image"),
    (
        "BASE_PATH/.ferrostore-work",
        "what is not finished; there only while a driver works, or after one was killed",
    ),
];

pub(crate) fn page() -> Result<Page, Box<dyn Error>> {
    let mut page = Page::default();
    page.section("NAME");
    page.paragraph(
        "ferrostore - datastore drivers for OpenNebula: attributes, settings, files, exit codes",
    );
    page.section("DESCRIPTION");
    page.paragraph(
        "oned calls ten drivers: cp, mkfs, clone, rm, stat, snap_revert, snap_delete, snap_flatten, monitor and export. \
         Each has a page of its own, such as ferrostore-cp(8). ferrostore(8) is the command of administrators.",
    );
    for title in SECTIONS {
        let text = section(title).ok_or(format!("docs/reference.md has no section {title}"))?;
        page.section(&title.to_uppercase());
        render(&mut page, text);
    }
    page.section("FILES");
    page.paragraph("Where ONE_LOCATION is set, everything is below that directory.");
    for (path, what) in FILES {
        page.item(path, what);
    }
    page.section("SEE ALSO");
    page.paragraph("ferrostore(8), ferrostore-fsck(8), /usr/share/doc/ferrostore");
    Ok(page)
}

fn section(title: &str) -> Option<&'static str> {
    let text = REFERENCE.split(&format!("\n## {title}\n")).nth(1)?;
    text.split("\n## ").next()
}

/// Paragraphs, lists, tables and blocks of code of a page of the documentation.
fn render(page: &mut Page, text: &str) {
    let mut lines = text.lines().peekable();
    let mut paragraph = String::new();
    while let Some(line) = lines.next() {
        let is_text =
            !line.is_empty() && !line.starts_with(['|', '#', '-']) && !line.starts_with("```");
        if is_text {
            paragraph = paragraph + line + "\n";
            continue;
        }
        if !paragraph.is_empty() {
            page.paragraph(&plain(&paragraph));
            paragraph.clear();
        }
        if line.starts_with("```") {
            let block: Vec<&str> =
                lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
            page.as_it_is(&block.join("\n"));
        } else if line.starts_with('|') {
            row(page, line);
            // The heading of a table, and the line below it.
            if lines.peek().is_some_and(|next| next.starts_with("|--")) {
                lines.next();
            }
        } else if let Some(item) = line.strip_prefix("- ") {
            page.item("*", &plain(item));
        } else if let Some(title) = line.strip_prefix("### ") {
            page.paragraph(&plain(title));
        }
    }
    if !paragraph.is_empty() {
        page.paragraph(&plain(&paragraph));
    }
}

fn row(page: &mut Page, line: &str) {
    let cells: Vec<String> =
        line.trim_matches('|').split(" | ").map(|cell| plain(cell.trim())).collect();
    let rest: Vec<&str> =
        cells[1..].iter().map(String::as_str).filter(|cell| !cell.is_empty()).collect();
    page.item(&cells[0], &rest.join(" | "));
}

/// Text without the marks of Markdown: code, emphasis and links.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('[') {
        let link = rest[start..].find("](").zip(rest[start..].find(')'));
        match link {
            Some((middle, end)) if middle < end => {
                out += &rest[..start];
                out += &rest[start + 1..start + middle];
                rest = &rest[start + end + 1..];
            }
            _ => {
                out += &rest[..=start];
                rest = &rest[start + 1..];
            }
        }
    }
    (out + rest).replace(['`', '*'], "").replace("\\|", "|")
}
