//! Images that the engine lacks: whether their registries provide them, queried through the engine.

use super::check::{Check, Judgement, Severity, good};
use super::facts::{Facts, RegistryAnswer, WantedImage};
use crate::plan::image_names::reference;

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "registry.unreachable",
        finds: "the engine cannot reach a registry (blocks), or the registry does not respond in time (warns)",
        tested: "real: the test lab's engine with a registry that does not exist, and one that never responds",
        judge: unreachable,
    },
    Check {
        id: "registry.limited",
        finds: "a registry's rate limit is reached",
        tested: "real: the test lab's engine with a test registry that returns this error",
        judge: limited,
    },
    Check {
        id: "registry.credentials",
        finds: "a registry requires credentials, or rejects those in the Docker configuration",
        tested: "real: the test lab's engine with a test registry that returns this error",
        judge: credentials,
    },
    Check {
        id: "registry.image",
        finds: "a registry does not have the image",
        tested: "real: the test lab's engine with a test registry that returns this error",
        judge: absent,
    },
    Check {
        id: "registry.platform",
        finds: "a registry has the image, but not for the engine's architecture",
        tested: "real: the test lab's engine with a test registry that has other architectures",
        judge: platform,
    },
    Check {
        id: "images.platform",
        finds: "the engine has an image of that name for another architecture",
        tested: "real: the test lab's engine with such an image",
        judge: other_platform,
    },
    Check {
        id: "registry.helper",
        finds: "the Docker configuration names a credential helper that is not on PATH",
        tested: "real: a Docker configuration that names one",
        judge: helper,
    },
];

/// What a failed answer of the engine means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Unreachable,
    Silent,
    Limited,
    Credentials,
    Absent,
}

/// Messages of registries, as engines pass them on.
const LIMITED: &[&str] = &["toomanyrequests", "too many requests", "rate limit"];
const REFUSED: &[&str] = &[
    "unauthorized",
    "authentication required",
    "no basic auth",
    "denied: ",
    "access denied",
    "incorrect username",
];
const ABSENT: &[&str] = &["manifest unknown", "not found", "name unknown"];

fn trouble(answer: &RegistryAnswer) -> Option<Trouble> {
    let (status, said) = match answer {
        RegistryAnswer::There(_) | RegistryAnswer::Unasked(_) => return None,
        RegistryAnswer::Silent => return Some(Trouble::Silent),
        RegistryAnswer::Refused(status, said) => (*status, said.to_ascii_lowercase()),
    };
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    // The engine passes on some of a registry's statuses, and uses its own for others: the message is checked
    // first.
    Some(match status {
        _ if says(LIMITED) => Trouble::Limited,
        _ if says(REFUSED) => Trouble::Credentials,
        _ if says(ABSENT) => Trouble::Absent,
        Some(429) => Trouble::Limited,
        Some(401 | 403) => Trouble::Credentials,
        Some(404) => Trouble::Absent,
        _ => Trouble::Unreachable,
    })
}

/// Whether the engine's message means that it could not reach the registry.
pub(super) fn is_unreachable(said: &str) -> bool {
    trouble(&RegistryAnswer::Refused(None, said.into())) == Some(Trouble::Unreachable)
}

/// Returns the images with a problem, by registry: one finding each.
fn by_registry(facts: &Facts, wanted: Trouble) -> Vec<(&str, Vec<&WantedImage>)> {
    let mut all: Vec<(&str, Vec<&WantedImage>)> = Vec::new();
    for found in facts.images.iter().filter(|image| trouble(&image.answer) == Some(wanted)) {
        let registry = reference::registry(&found.name);
        match all.iter_mut().find(|(name, _)| *name == registry) {
            Some((_, images)) => images.push(found),
            None => all.push((registry, vec![found])),
        }
    }
    all
}

fn names(images: &[&WantedImage]) -> String {
    images.iter().map(|image| image.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn said(images: &[&WantedImage]) -> String {
    match images.first().map(|image| &image.answer) {
        Some(RegistryAnswer::Refused(_, said)) => said.clone(),
        _ => String::new(),
    }
}

fn unreachable(facts: &Facts) -> Vec<Judgement> {
    let mut all = Vec::new();
    for (registry, images) in by_registry(facts, Trouble::Unreachable) {
        all.extend(Judgement::found(
            Severity::Blocks,
            format!("the engine cannot reach the registry {registry}"),
            said(&images),
            format!("{} cannot be pulled", names(&images)),
            format!(
                "check why: docker pull {}; use a registry with the same images (mesh.hub, kubernetes.nodeImage \
                    in kindmesh.yaml), or load images from a file with docker load",
                images[0].name
            ),
        ));
    }
    for (registry, images) in by_registry(facts, Trouble::Silent) {
        all.extend(Judgement::found(
            Severity::Warns,
            format!("the registry {registry} responds slowly to the engine, or not at all"),
            "no response in time",
            format!("pulling {} may take a long time, or fail", names(&images)),
            format!("pull it before kindmesh up, to see how fast it is: docker pull {}", images[0].name),
        ));
    }
    all
}

fn limited(facts: &Facts) -> Vec<Judgement> {
    let mut all = Vec::new();
    for (registry, images) in by_registry(facts, Trouble::Limited) {
        all.extend(Judgement::found(
            Severity::Blocks,
            format!("the rate limit of the registry {registry} is reached"),
            said(&images),
            format!("{} cannot be pulled now", names(&images)),
            match registry {
                "docker.io" => "log in, which raises the limit: docker login".to_owned(),
                registry => format!("log in, which may raise the limit: docker login {registry}"),
            },
        ));
    }
    all
}

fn credentials(facts: &Facts) -> Vec<Judgement> {
    let mut all = Vec::new();
    for (registry, images) in by_registry(facts, Trouble::Credentials) {
        let what = match images[0].credentials {
            true => format!("the registry {registry} rejects the credentials in the Docker configuration"),
            false => format!(
                "the registry {registry} requires credentials, and the Docker configuration has \
                none"
            ),
        };
        all.extend(Judgement::found(
            Severity::Blocks,
            what,
            said(&images),
            format!(
                "{} cannot be pulled; some registries return the same error for images that do not exist",
                names(&images)
            ),
            match registry {
                "docker.io" => "docker login".to_owned(),
                registry => format!("docker login {registry}"),
            },
        ));
    }
    all
}

fn absent(facts: &Facts) -> Vec<Judgement> {
    let mut all = Vec::new();
    for (registry, images) in by_registry(facts, Trouble::Absent) {
        let names = names(&images);
        all.extend(Judgement::found(
            Severity::Blocks,
            format!("the registry {registry} does not have {names}"),
            said(&images),
            format!("{names} cannot be pulled"),
            "use existing images in kindmesh.yaml: kubernetes.nodeImage, mesh.version, mesh.hub, samples.image",
        ));
    }
    all
}

fn platform(facts: &Facts) -> Vec<Judgement> {
    let Some(engine) = &facts.engine else { return good() };
    let wanted = format!("{}/{}", engine.os, engine.architecture);
    let mut all = Vec::new();
    for image in &facts.images {
        let RegistryAnswer::There(platforms) = &image.answer else { continue };
        if platforms.is_empty() || platforms.contains(&wanted) {
            continue;
        }
        all.extend(Judgement::found(
            Severity::Blocks,
            format!("{} does not exist for {wanted}", image.name),
            format!("its registry has it for {}", platforms.join(", ")),
            "nodes on this engine cannot run it",
            format!(
                "use an image for {wanted} in kindmesh.yaml, or an engine of the image's architecture: \
                docker context ls"
            ),
        ));
    }
    all
}

fn other_platform(facts: &Facts) -> Vec<Judgement> {
    let Some(engine) = &facts.engine else { return good() };
    let wanted = format!("{}/{}", engine.os, engine.architecture);
    let mut all = Vec::new();
    for image in &facts.images {
        let RegistryAnswer::Unasked(has) = &image.answer else { continue };
        all.extend(Judgement::found(
            Severity::Blocks,
            format!("the engine has {} for {has}, but runs on {wanted}", image.name),
            format!("docker image inspect {}: Os and Architecture", image.name),
            "up uses the existing image, and nodes on this engine cannot run it",
            format!("docker pull --platform {wanted} {}", image.name),
        ));
    }
    all
}

fn helper(facts: &Facts) -> Vec<Judgement> {
    let missing = facts.images.iter().filter(|image| image.missing_helper.is_some());
    // The node image is preferred: kind pulls it through the docker client.
    let Some(image) = missing.max_by_key(|image| image.node) else { return good() };
    let helper = image.missing_helper.clone().unwrap_or_default();
    let (severity, consequence) = match image.node {
        true => (Severity::Blocks, "kind pulls the node image with the docker client, which then fails"),
        false => (Severity::Warns, "images are pulled without credentials"),
    };
    Judgement::found(
        severity,
        format!("the credential helper docker-credential-{helper} is not on PATH"),
        format!("the Docker configuration names it for {}", reference::registry(&image.name)),
        consequence,
        "install it, or remove credsStore and credHelpers from ~/.docker/config.json and log in again: docker \
            login",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::doctor::testing::{found, golden, good, missing_image, only};

    fn answers(answer: RegistryAnswer) -> Facts {
        let mut facts = good();
        facts.images = vec![missing_image(answer)];
        facts
    }

    fn refused(status: u16, said: &str) -> RegistryAnswer {
        RegistryAnswer::Refused(Some(status), said.into())
    }

    /// Messages of engines, recorded or from their sources.
    #[test]
    fn registry_messages_are_classified() {
        for (status, said, wanted) in [
            (
                500,
                "Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host",
                Trouble::Unreachable,
            ),
            (
                500,
                "Get \"https://r.example/v2/\": x509: certificate signed by unknown authority",
                Trouble::Unreachable,
            ),
            (
                500,
                "Get \"http://127.0.0.1:5999/v2/\": dial tcp 127.0.0.1:5999: connect: connection refused",
                Trouble::Unreachable,
            ),
            (500, "toomanyrequests: You have reached your unauthenticated pull rate limit.", Trouble::Limited),
            (429, "slow down", Trouble::Limited),
            (401, "unauthorized: authentication required", Trouble::Credentials),
            (403, "denied: requested access to the resource is denied", Trouble::Credentials),
            (404, "manifest unknown: manifest unknown", Trouble::Absent),
        ] {
            assert_eq!(trouble(&refused(status, said)), Some(wanted), "{said}");
        }
    }

    #[test]
    fn each_problem_is_one_finding_per_registry() {
        golden(
            "registry_unreachable",
            &answers(refused(500, "dial tcp: lookup registry-1.docker.io: no such host")),
        );
        golden("registry_silent", &answers(RegistryAnswer::Silent));
        golden(
            "registry_limited",
            &answers(refused(500, "toomanyrequests: You have reached your pull rate limit.")),
        );
        golden("registry_image", &answers(refused(404, "manifest unknown: manifest unknown")));
        let mut facts = answers(refused(401, "unauthorized: authentication required"));
        golden("registry_credentials", &facts);
        facts.images[0].credentials = true;
        assert!(only(&facts, "registry.credentials").what.contains("rejects the credentials"));
        facts.images.push(WantedImage { name: "istio/proxyv2:1".into(), ..facts.images[0].clone() });
        facts.images.push(WantedImage { name: "r.example/proxyv2:1".into(), ..facts.images[0].clone() });
        assert_eq!(found(&facts).matches("registry.credentials").count(), 2);
    }

    #[test]
    fn images_must_match_the_engines_platform() {
        let has =
            |platforms: &[&str]| answers(RegistryAnswer::There(platforms.iter().map(|p| (*p).into()).collect()));
        assert_eq!(found(&has(&["linux/arm64", "linux/amd64"])), "");
        assert_eq!(found(&has(&[])), "");
        golden("registry_platform", &has(&["linux/arm64", "linux/s390x"]));
        golden("images_platform", &answers(RegistryAnswer::Unasked("linux/arm64".into())));
    }

    #[test]
    fn missing_credential_helper_blocks_kind() {
        let mut facts = answers(RegistryAnswer::There(Vec::new()));
        facts.images[0].missing_helper = Some("desktop".into());
        golden("registry_helper", &facts);
        facts.images[0].node = true;
        assert_eq!(only(&facts, "registry.helper").severity, Severity::Blocks);
    }
}
