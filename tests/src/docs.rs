//! The documentation as data: its pages, tables, links and anchors.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The directory of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the repository").into()
}

/// A page as it stands in the repository.
#[derive(Debug)]
pub struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    /// The page at `path`, as seen from the repository's directory.
    #[track_caller]
    pub fn read(path: impl AsRef<Path>) -> Self {
        let path = repository().join(path);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { path, text }
    }

    /// Every Markdown file of the repository.
    pub fn all() -> Vec<Self> {
        let mut pages = Vec::new();
        collect(&repository(), "md", &mut |path| pages.push(Self::read(path)));
        pages
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text below `heading`, up to the next heading of its level or a higher one.
    #[track_caller]
    pub fn section(&self, heading: &str) -> String {
        let level = |line: &str| line.bytes().take_while(|&byte| byte == b'#').count();
        let mut lines = self.text.lines().skip_while(|line| *line != heading);
        lines.next().unwrap_or_else(|| panic!("{} has no {heading:?}", self.path.display()));
        let mut section = String::new();
        let mut fenced = false;
        for line in lines {
            fenced ^= line.starts_with("```");
            if !fenced && (1..=level(heading)).contains(&level(line)) {
                break;
            }
            section += line;
            section.push('\n');
        }
        section
    }

    /// What links point to, in the order of the text; what is code is left out.
    pub fn links(&self) -> Vec<String> {
        let mut links = Vec::new();
        for line in self.prose() {
            for (start, _) in line.match_indices("](") {
                let target = &line[start + 2..];
                links.push(target[..target.find(')').unwrap_or(target.len())].to_owned());
            }
        }
        links
    }

    /// The anchors that GitHub gives to the headings.
    pub fn anchors(&self) -> Vec<String> {
        let mut seen: HashMap<String, u32> = HashMap::new();
        let mut fenced = false;
        let mut anchors = Vec::new();
        for line in self.text.lines() {
            fenced ^= line.starts_with("```");
            let heading = line.trim_start_matches('#');
            if fenced || heading.len() == line.len() || !heading.starts_with(' ') {
                continue;
            }
            let slug: String = heading
                .trim()
                .to_lowercase()
                .chars()
                .filter(|&c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect();
            let count = seen.entry(slug.clone()).or_default();
            anchors.push(if *count == 0 { slug } else { format!("{slug}-{count}") });
            *count += 1;
        }
        anchors
    }

    /// Its lines without fenced code, and without what stands between backticks.
    pub fn prose(&self) -> Vec<String> {
        let mut fenced = false;
        let mut lines = Vec::new();
        for line in self.text.lines() {
            fenced ^= line.trim_start().starts_with("```");
            if !fenced {
                lines.push(line.split('`').step_by(2).collect());
            }
        }
        lines
    }
}

/// Hands every file below `directory` whose name ends with `.` and `extension` to `visit`, except what is built
/// or hidden.
pub fn collect(directory: &Path, extension: &str, visit: &mut dyn FnMut(&Path)) {
    let entries = fs::read_dir(directory).expect("the repository can be read");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name == ".github" || !name.starts_with(['.', '_']) && name != "target" {
                collect(&path, extension, visit);
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            visit(&path);
        }
    }
}

/// The cells of each row of all tables in `section`, without their heads.
pub fn rows(section: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut lines = section.lines().peekable();
    while let Some(line) = lines.next() {
        let is_head = lines.peek().is_some_and(|next| next.starts_with("|---"));
        if line.starts_with("| ") && !is_head {
            let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
            rows.push(cells.collect());
        }
    }
    rows
}

/// What stands between backticks in `cell`.
pub fn codes(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The first cells' codes of the tables below `heading` of the page at `path`.
#[track_caller]
pub fn named_in(path: &str, heading: &str) -> Vec<String> {
    rows(&Page::read(path).section(heading)).iter().flat_map(|row| codes(&row[0])).collect()
}

/// The attributes in the reference's table by their whole path: `A/B/C`, or `C` alone for another one in the place
/// of the last.
pub fn attributes() -> Vec<String> {
    let section = Page::read("docs/reference.md").section("## Attributes");
    let mut names = Vec::new();
    for row in rows(&section) {
        let mut place = String::new();
        for name in codes(&row[0]) {
            if let Some((parents, _)) = name.rsplit_once('/') {
                place = format!("{parents}/");
                names.push(name);
            } else {
                names.push(format!("{place}{name}"));
            }
        }
    }
    names
}
