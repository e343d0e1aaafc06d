//! Verdicts, of `verify` and of `experiment`, as text for a terminal and as reports.

use std::path::PathBuf;
use std::str::FromStr;

use super::file;
use crate::diagnose::verify::{Subject, Verdicts};

pub mod github;
pub mod html;
pub mod junit;
pub mod markdown;
pub mod text;

/// The format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// JUnit XML.
    Junit,
    /// A page.
    Html,
    /// JSON.
    Json,
    /// Markdown.
    Markdown,
}

/// The command whose verdicts these are, as reports name it.
pub const VERIFY: &str = "kindmesh verify";

/// A requested report: `KIND=FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportFile {
    kind: Kind,
    path: PathBuf,
}

impl FromStr for ReportFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, path) = text.split_once('=').ok_or("use KIND=FILE, such as junit=verify.xml")?;
        let kind = match kind {
            "junit" => Kind::Junit,
            "html" => Kind::Html,
            "json" => Kind::Json,
            "markdown" => Kind::Markdown,
            other => {
                return Err(format!("unknown kind \"{other}\": expected junit, html, json or markdown"));
            }
        };
        if path.is_empty() {
            return Err("no file specified: use KIND=FILE, such as junit=verify.xml".into());
        }
        Ok(Self { kind, path: path.into() })
    }
}

impl ReportFile {
    /// Writes the report of a verification.
    ///
    /// # Errors
    /// The file system's errors.
    pub fn write(&self, verdicts: &Verdicts, subject: &Subject) -> anyhow::Result<()> {
        self.save(|kind| {
            Ok(match kind {
                Kind::Junit => junit::report(VERIFY, verdicts, subject)?,
                Kind::Html => html::report(verdicts, subject),
                Kind::Json => serde_json::to_string_pretty(verdicts)? + "\n",
                Kind::Markdown => markdown::report(VERIFY, verdicts, subject),
            })
        })
    }

    /// Writes a report atomically, in its format. Creates its directory if it is missing.
    ///
    /// # Errors
    /// The file system's errors.
    pub fn save(&self, text: impl FnOnce(Kind) -> anyhow::Result<String>) -> anyhow::Result<()> {
        file::save(&self.path, &text(self.kind)?)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::diagnose::verify::{Status, SubjectCluster, Verdict};

    pub fn sample() -> (Verdicts, Subject) {
        let verdict = |id: &str, status, evidence: &[&str], hint: Option<&str>| Verdict {
            id: id.into(),
            claim: format!("what {id} | claims"),
            status,
            seconds: 1.25,
            evidence: evidence.iter().map(|line| (*line).to_owned()).collect(),
            hint: hint.map(str::to_owned),
        };
        let checks = vec![
            verdict("link.pods", Status::Passed, &["10.0.0.1 → 10.0.0.2: seen"], None),
            verdict("mtls.strict", Status::Failed, &["<script>&", "100% not\nreset"], Some("look for policies")),
            verdict("trace.carried", Status::Skipped, &["no producer"], None),
        ];
        let cluster = |name: &str| SubjectCluster {
            name: name.into(),
            region: "region1".into(),
            zone: "zone1".into(),
            nodes: 1,
            caller: name == "cluster1",
            producer: name == "cluster2",
        };
        let subject = Subject {
            started: "2026-01-02T03:04:05Z".parse().unwrap(),
            seconds: 20.5,
            istio: "1.31.1".into(),
            node_image: "kindest/node:v1.36.4".into(),
            clusters: vec![cluster("cluster1"), cluster("cluster2")],
        };
        (Verdicts::new("kindmesh", checks), subject)
    }

    /// A sample with text that would break out if it were not escaped.
    pub fn hostile() -> (Verdicts, Subject) {
        let bad =
            "</pre></details><script>alert(1)</script>\"'|\\|\r\n```\u{1b}[31m\0\u{202e}]]>&amp; %0A::error::";
        let (mut verdicts, mut subject) = sample();
        verdicts.environment = bad.into();
        for verdict in &mut verdicts.checks {
            (verdict.id, verdict.claim) = (bad.into(), bad.into());
            verdict.hint = verdict.hint.is_some().then(|| bad.into());
            verdict.evidence.fill(bad.into());
        }
        (subject.istio, subject.node_image) = (bad.into(), bad.into());
        for cluster in &mut subject.clusters {
            (cluster.name, cluster.region, cluster.zone) = (bad.into(), bad.into(), bad.into());
        }
        (verdicts, subject)
    }

    #[test]
    fn report_flag_is_kind_and_file() {
        assert_eq!("junit=a=b.xml".parse::<ReportFile>().unwrap().path, PathBuf::from("a=b.xml"));
        for (wrong, why) in
            [("junit", "KIND=FILE"), ("xml=a", "unknown kind \"xml\""), ("json=", "no file specified")]
        {
            assert!(wrong.parse::<ReportFile>().unwrap_err().contains(why), "{wrong}");
        }
    }

    #[test]
    fn report_creates_its_directory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.json");
        let (verdicts, subject) = sample();
        let report: ReportFile = format!("json={}", path.display()).parse().unwrap();
        report.write(&verdicts, &subject).unwrap();
        let read: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!((&read["passed"], &read["failed"], &read["skipped"]), (&1.into(), &1.into(), &1.into()));
        assert_eq!(read["checks"][1]["status"], "failed");
    }

    #[test]
    fn every_kind_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (verdicts, subject) = sample();
        for (kind, begins) in [("junit", "<?xml"), ("html", "<!DOCTYPE html>"), ("json", "{"), ("markdown", "## ")]
        {
            let path = folder.path().join(kind);
            format!("{kind}={}", path.display())
                .parse::<ReportFile>()
                .unwrap()
                .write(&verdicts, &subject)
                .unwrap();
            assert!(std::fs::read_to_string(path).unwrap().starts_with(begins), "{kind}");
        }
    }

    #[test]
    fn unwritable_report_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let report: ReportFile = format!("html={}", folder.path().display()).parse().unwrap();
        let (verdicts, subject) = sample();
        let error = report.write(&verdicts, &subject).unwrap_err().to_string();
        assert_eq!(error, format!("writing {}", folder.path().display()));
    }
}
