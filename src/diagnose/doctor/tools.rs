//! The required programs: docker, kind, istioctl.

use super::check::{Check, Judgement, Severity, good};
use super::facts::Facts;
use crate::host::tool::Source;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "tools.docker",
        finds: "the docker client, which kind runs, is not installed",
        tested: "real: a PATH without it",
        judge: client,
    },
    Check {
        id: "tools.version",
        finds: "kind or istioctl on PATH has another version (warns), or an environment variable names one that \
            cannot be used (blocks)",
        tested: "real: executables of other versions",
        judge: versions,
    },
];

fn client(facts: &Facts) -> Vec<Judgement> {
    let Some(error) = &facts.no_client else { return good() };
    let cure = error.hint.clone().unwrap_or_default();
    Judgement::found(Severity::Blocks, &error.message, "searched PATH", "kind cannot create clusters", cure)
}

fn versions(facts: &Facts) -> Vec<Judgement> {
    let mut all = Vec::new();
    for looked in &facts.tools {
        let (tool, wanted) = (looked.tool, &looked.wanted);
        let consequence = format!(
            "kindmesh is built for {tool} {wanted}; another version may use other names \
            or behave differently"
        );
        match &looked.here {
            None => all.extend(Judgement::unknown(format!("{tool}: it did not report its version in time"))),
            Some(Err(error)) => all.extend(Judgement::found(
                Severity::Blocks,
                &error.message,
                match error.evidence.is_empty() {
                    true => tool.variable().to_owned(),
                    false => error.evidence.join("; "),
                },
                format!("{tool} is missing"),
                error.hint.clone().unwrap_or_default(),
            )),
            Some(Ok(here)) => match &here.found {
                Some(found) if found.source == Source::Variable => {
                    let Some(warning) = &found.warning else { continue };
                    let cure = format!("set {} to the path of version {wanted}, or unset it", tool.variable());
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
                    format!("no {tool} of the required version found"),
                    here.passed_over.join("; "),
                    format!(
                        "kindmesh downloads {tool} {wanted} from github.com and uses it instead; without a \
                        network, up fails"
                    ),
                    format!(
                        "install {tool} {wanted}, or set {} to an executable of that version",
                        tool.variable()
                    ),
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
        facts.no_client = Some(Error::prerequisite("no docker client on PATH").hint("install the docker client"));
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
                warning: Some("KINDMESH_KIND selects kind v0.20.0, but kindmesh requires kind v0.33.0".into()),
            }),
            &[],
        );
        golden("tool_named", &facts);
        facts.tools[0].here =
            Some(Err(Error::prerequisite("KINDMESH_KIND names /opt/kind, which does not exist")));
        assert_eq!(only(&facts, "tools.version").severity, Severity::Blocks);
        facts.tools[0].here = None;
        assert_eq!(judge(&facts).unknown, ["kind: it did not report its version in time"]);
    }
}
