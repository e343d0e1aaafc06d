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
        id: "tools.client",
        finds: "docker on PATH is not the docker client but Podman's replacement, or the engine refuses it as too old",
        tested: "unit: the output of both",
        judge: unusable_client,
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

fn unusable_client(facts: &Facts) -> Vec<Judgement> {
    let Some(client) = &facts.client else { return good() };
    let install =
        "install the current docker client, and put it first on PATH: https://docs.docker.com/engine/install/";
    // kind, too, recognizes the client by these words.
    if !client.version.starts_with("Docker version") && client.version.to_lowercase().contains("podman") {
        return Judgement::found(
            Severity::Blocks,
            "docker on PATH is Podman, not the docker client",
            format!("docker --version: {}", client.version),
            "kind cannot create clusters on a Docker engine with it",
            install,
        );
    }
    match &client.refused {
        Some(said) if said.contains("is too old") => Judgement::found(
            Severity::Blocks,
            "the docker client is too old for the engine",
            format!("{}; docker version: {said}", client.version),
            "kind runs this client, and cannot create clusters",
            install,
        ),
        _ => good(),
    }
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
    use crate::diagnose::doctor::facts::Client;
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
    fn client_must_be_dockers_and_accepted_by_the_engine() {
        let client = |version: &str, refused: Option<&str>| {
            let mut facts = good();
            facts.client = Some(Client { version: version.into(), refused: refused.map(str::to_owned) });
            facts
        };
        assert_eq!(found(&client("Docker version 28.5.2, build ecc6942", None)), "");
        // Without an answer, nothing is known about the client.
        assert_eq!(found(&client("Docker version 28.5.2, build ecc6942", Some("permission denied"))), "");
        // kind#1365
        golden("client_podman", &client("podman version 4.9.3", None));
        let said = "Error response from daemon: client version 1.41 is too old. Minimum supported API version is 1.44, please \
            upgrade your client to a newer version";
        golden("client_old", &client("Docker version 20.10.24+dfsg1, build 297e128", Some(said)));
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
