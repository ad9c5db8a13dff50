//! What a check comes to.

use crate::fsck::Severity;
use serde_json::json;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could, or not after the next upgrade or failover.
    Warning,
    /// Calls fail, or will.
    Problem,
}

impl Verdict {
    /// Its word in the report.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How the check ended.
    pub verdict: Verdict,
    /// What was checked: a word.
    pub topic: &'static str,
    /// What was found.
    pub text: String,
    /// The command, or the line of a file, that repairs it; empty where nothing has to be mended.
    pub remedy: String,
}

impl Finding {
    /// The line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let text = format!("{:<8} {:<13} {}", self.verdict.name(), self.topic, self.text);
        if self.remedy.is_empty() { text } else { format!("{text}; repair: {}", self.remedy) }
    }

    /// The line for programs: a JSON object.
    #[must_use]
    pub fn json(&self) -> String {
        json!({
            "verdict": self.verdict.name(), "topic": self.topic, "text": self.text, "remedy": self.remedy,
        })
        .to_string()
    }
}

/// All findings so far.
#[derive(Debug, Default)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    /// Something is as it should be.
    pub fn ok(&mut self, topic: &'static str, text: impl Into<String>) {
        self.add(Verdict::Ok, topic, &text.into(), "");
    }

    /// Something could be better.
    pub fn warning(
        &mut self,
        topic: &'static str,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Verdict::Warning, topic, &text.into(), &remedy.into());
    }

    /// Something is wrong.
    pub fn problem(
        &mut self,
        topic: &'static str,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Verdict::Problem, topic, &text.into(), &remedy.into());
    }

    fn add(&mut self, verdict: Verdict, topic: &'static str, text: &str, remedy: &str) {
        let one_line = |text: &str| runtime::text::one_line(text);
        let (text, remedy) = (one_line(text), one_line(remedy));
        self.0.push(Finding { verdict, topic, text, remedy });
    }

    /// The worst of them, as `fsck` counts.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        match self.0.iter().map(|finding| finding.verdict).max() {
            Some(Verdict::Problem) => Some(Severity::Damage),
            Some(Verdict::Warning) => Some(Severity::Warning),
            _ => None,
        }
    }
}
