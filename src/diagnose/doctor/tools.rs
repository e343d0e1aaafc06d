//! The programs that are driven: docker, kind, istioctl.

use super::check::{Check, Judgement, Severity, good};
use super::facts::Facts;
use crate::host::tool::Source;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "tools.docker",
        finds: "there is no docker client, which kind runs",
        tested: "real: a PATH without one",
        judge: client,
    },
    Check {
        id: "tools.version",
        finds: "kind or istioctl on PATH is of another version (warns), or what a variable names cannot be used (blocks)",
        tested: "real: executables of other versions",
        judge: versions,
    },
];

fn client(facts: &Facts) -> Vec<Judgement> {
    let Some(error) = &facts.no_client else { return good() };
    let cure = error.hint.clone().unwrap_or_default();
    Judgement::found(Severity::Blocks, &error.message, "PATH", "kind creates no cluster", cure)
}

fn versions(facts: &Facts) -> Vec<Judgement> {
    let mut all = Vec::new();
    for looked in &facts.tools {
        let (tool, wanted) = (looked.tool, &looked.wanted);
        let consequence = format!("kindmesh is made for {tool} {wanted}: another may name or do things otherwise");
        match &looked.here {
            None => all.extend(Judgement::unknown(format!("{tool}: it does not tell its version in time"))),
            Some(Err(error)) => all.extend(Judgement::found(
                Severity::Blocks,
                &error.message,
                match error.evidence.is_empty() {
                    true => tool.variable().to_owned(),
                    false => error.evidence.join("; "),
                },
                format!("there is no {tool} to work with"),
                error.hint.clone().unwrap_or_default(),
            )),
            Some(Ok(here)) => match &here.found {
                Some(found) if found.source == Source::Variable => {
                    let Some(warning) = &found.warning else { continue };
                    let cure = format!("let {} name one of {wanted}, or unset it", tool.variable());
                    all.extend(Judgement::found(
                        Severity::Warns,
                        warning,
                        format!("{} is {}", found.path.display(), found.version),
                        consequence,
                        cure,
                    ));
                }
                Some(_) => {}
                None if here.passed_over.is_empty() => {}
                None => all.extend(Judgement::found(
                    Severity::Warns,
                    format!("no {tool} here is the one that is wanted"),
                    here.passed_over.join("; "),
                    format!("{tool} {wanted} is downloaded from github.com and used beside it; without a network, up fails"),
                    format!("install {tool} {wanted}, or let {} name one of that version", tool.variable()),
                )),
            },
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Error;
    use crate::diagnose::doctor::judge;
    use crate::diagnose::doctor::testing::{found, golden, good, only};
    use crate::host::tool::{Found, Here};

    #[test]
    fn kind_runs_the_docker_client() {
        let mut facts = good();
        facts.no_client = Some(Error::prerequisite("there is no docker on PATH").hint("install the client"));
        golden("no_client", &facts);
    }

    #[test]
    fn versions_that_do_not_fit() {
        let mut facts = good();
        let here = |found, passed_over: &[&str]| {
            Some(Ok(Here { found, passed_over: passed_over.iter().map(|text| (*text).to_owned()).collect() }))
        };
        facts.tools[0].here = here(None, &["/usr/bin/kind is v0.20.0"]);
        golden("tool_passed_over", &facts);
        facts.tools[0].here = here(None, &[]);
        assert_eq!(found(&facts), "", "it is downloaded");
        facts.tools[0].here = here(
            Some(Found {
                path: "/opt/kind".into(),
                version: "v0.20.0".into(),
                source: Source::Variable,
                warning: Some("KINDMESH_KIND names kind of version v0.20.0; kindmesh wants kind v0.33.0".into()),
            }),
            &[],
        );
        golden("tool_named", &facts);
        facts.tools[0].here =
            Some(Err(Error::prerequisite("KINDMESH_KIND names /opt/kind, which does not exist")));
        assert_eq!(only(&facts, "tools.version").severity, Severity::Blocks);
        facts.tools[0].here = None;
        assert_eq!(judge(&facts).unknown, ["kind: it does not tell its version in time"]);
    }
}
