//! Evidence of a failure: text with its source.

/// The kind of source of a text. The same text means different things in different sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The error itself: a child process's output, an API's response.
    Error,
    /// The state of pods, Deployments and nodes, from Kubernetes.
    State,
    /// Kubernetes events.
    Event,
    /// A container's log.
    Log,
    /// A node's journal, or its container's output.
    Node,
    /// istiod's log.
    Istiod,
    /// A proxy's log.
    Proxy,
    /// A caller's reason for a failed call.
    Answer,
}

/// Lines from one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The kind of source.
    pub of: Source,
    /// The title, such as `pod istiod-5c…`.
    pub title: String,
    /// The lines, the latest last.
    pub lines: Vec<String>,
}

/// The maximum number of lines shown, of a section and in total.
const SHOWN_OF_SECTION: usize = 6;
const SHOWN: usize = 24;

/// Returns what a refusal says, without the name of the pod that was refused.
fn essence(line: &str) -> &str {
    line.split_once(" is forbidden: ").map_or(line, |(_, refusal)| refusal)
}

impl Section {
    /// Returns a section without its empty lines.
    pub fn new(of: Source, title: impl Into<String>, lines: impl IntoIterator<Item = String>) -> Self {
        let lines = lines.into_iter().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty());
        Self { of, title: title.into(), lines: lines.collect() }
    }
}

/// All evidence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The sections, the most specific first.
    pub sections: Vec<Section>,
}

impl Evidence {
    /// Adds a section, unless it is empty.
    pub fn add(&mut self, section: Section) {
        if !section.lines.is_empty() {
            self.sections.push(section);
        }
    }

    /// Returns the text to print: the last lines of each section, and always the decisive line.
    pub fn shown(&self, decisive: Option<&str>) -> String {
        let mut shown: Vec<String> = Vec::new();
        for section in &self.sections {
            let mut last: Vec<&str> =
                section.lines.iter().rev().take(SHOWN_OF_SECTION).map(String::as_str).collect();
            last.reverse();
            if let Some(decisive) = decisive.filter(|line| section.lines.iter().any(|other| other == line))
                && !last.contains(&decisive)
            {
                last.insert(0, decisive);
            }
            // An event often repeats the state of its pod, or an earlier event about a pod of another name.
            let mut new: Vec<&str> = Vec::new();
            for line in last {
                let before = shown.iter().filter_map(|before| before.strip_prefix("  "));
                if !before.chain(new.iter().copied()).any(|before| line.contains(essence(before))) {
                    new.push(line);
                }
            }
            if !new.is_empty() {
                shown.push(format!("{}:", section.title));
                shown.extend(new.into_iter().map(|line| format!("  {line}")));
            }
        }
        if shown.len() > SHOWN {
            shown.truncate(SHOWN);
            shown.push("…".into());
        }
        shown.join("\n")
    }

    /// Returns the last line of the first container log.
    pub fn last_log_line(&self) -> Option<&str> {
        let log = self.sections.iter().find(|section| matches!(section.of, Source::Log | Source::Istiod))?;
        log.lines.last().map(String::as_str)
    }
}
