//! Step names in plain words.

/// A step in plain words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Title<'a> {
    /// While it runs, and when it has failed.
    pub doing: &'a str,
    /// When it has ended well.
    pub done: &'a str,
}

/// Columns that hold every known title.
pub(super) const WIDTH: usize = 28;

/// The words for a step of `up` or `down`; for an unknown one, its name.
///
/// `network` is a step of both, so its words fit both.
pub fn title(step: &str) -> Title<'_> {
    let (doing, done) = match step {
        "engine" => ("Asking the container engine", "The container engine answers"),
        "lock" => ("Waiting for other commands", "No other command is at work"),
        "tools" => ("Getting the tools", "The tools are here"),
        "kind" => ("Getting kind", "kind is here"),
        "istioctl" => ("Getting istioctl", "istioctl is here"),
        "network" => ("Preparing the network", "The network is as wanted"),
        "remove-network" => ("Removing the network", "The network is gone"),
        "trust" => ("Making the root of trust", "The root of trust is there"),
        "image" => ("Building the sample image", "The sample image is built"),
        "pull" => ("Pulling images", "The engine has the images"),
        "bake" => ("Baking the node image", "The node image is baked"),
        "cluster" => ("Starting Kubernetes", "Kubernetes is up"),
        "images" => ("Loading images into nodes", "Images are in the nodes"),
        "sample-image" => ("Loading the sample image", "Nodes have the sample image"),
        "link" => ("Linking to other clusters", "Linked to other clusters"),
        "dns" => ("Preparing CoreDNS", "CoreDNS is as wanted"),
        "render" => ("Rendering Istio", "Istio is rendered"),
        "cacerts" => ("Placing the intermediate CA", "The intermediate CA is there"),
        "kinds" => ("Defining Istio's kinds", "Istio's kinds are defined"),
        "istio" => ("Applying Istio", "Istio is applied"),
        "istiod" => ("Starting istiod", "istiod is ready"),
        "reader" => ("Making the token for peers", "The token for peers is there"),
        "remote-secrets" => ("Exchanging remote secrets", "Remote secrets are exchanged"),
        "sync" => ("Syncing with other clusters", "istiod sees other clusters"),
        "samples" => ("Starting the sample services", "Sample services are ready"),
        "endpoints" => ("Awaiting the endpoints", "The caller sees endpoints"),
        "call" => ("Calling across the clusters", "A call crossed the clusters"),
        "bench" => ("Starting the checks' probes", "The checks' probes are ready"),
        "unbench" => ("Removing the checks' probes", "The checks' probes are gone"),
        "deploy" => ("Applying the manifests", "The manifests are applied"),
        "rollout" => ("Waiting for pods", "All pods are ready"),
        "undeploy" => ("Removing what was deployed", "What was deployed is gone"),
        "unused" => ("Waiting for tests to end", "No test uses it"),
        "put-away" => ("Putting away half-made nodes", "Nothing is half-made"),
        "pause" => ("Freezing the nodes", "The nodes are frozen"),
        "stop" => ("Stopping the nodes", "The nodes are stopped"),
        "start" => ("Bringing the nodes back", "The nodes run"),
        "nodes" => ("Removing the nodes", "The nodes are gone"),
        "export" => ("Exporting the node image", "The node image is exported"),
        "pack" => ("Writing the file", "The file is written"),
        "check" => ("Checking the file", "Every blob is as it should"),
        "place" => ("Placing tools and manifests", "Tools and manifests are here"),
        "load" => ("Loading the node image", "The engine has the image"),
        "bundle" => ("Writing the support archive", "The archive is written"),
        "lab-put" => ("Setting up the exercise", "The exercise is set up"),
        "lab-check" => ("Trying the checkpoints", "The checkpoints are tried"),
        "kubeconfig" => ("Cleaning your kubeconfig", "Your kubeconfig is clean"),
        "merge" => ("Waiting for your kubeconfig", "Your kubeconfig is unlocked"),
        "state" => ("Removing the state directory", "The state directory is gone"),
        unknown => (unknown, unknown),
    };
    Title { doing, done }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: &[&str] = &[
        "engine",
        "lock",
        "tools",
        "kind",
        "istioctl",
        "network",
        "trust",
        "image",
        "pull",
        "bake",
        "cluster",
        "images",
        "sample-image",
        "link",
        "dns",
        "render",
        "cacerts",
        "kinds",
        "istio",
        "istiod",
        "reader",
        "remote-secrets",
        "sync",
        "samples",
        "endpoints",
        "call",
        "bench",
        "unbench",
        "deploy",
        "rollout",
        "undeploy",
        "unused",
        "put-away",
        "pause",
        "stop",
        "start",
        "nodes",
        "kubeconfig",
        "merge",
        "remove-network",
        "export",
        "pack",
        "check",
        "place",
        "load",
        "bundle",
        "state",
        "lab-put",
        "lab-check",
    ];

    #[test]
    fn every_step_has_words_that_fit_the_column() {
        for step in STEPS.iter().copied() {
            let title = title(step);
            assert_ne!(title.doing, step);
            assert!(title.doing.len() <= WIDTH && title.done.len() <= WIDTH, "{title:?} is too long");
        }
    }

    #[test]
    fn an_unknown_step_is_called_by_its_name() {
        assert_eq!(title("gateway"), Title { doing: "gateway", done: "gateway" });
    }
}
