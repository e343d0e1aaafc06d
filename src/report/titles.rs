//! Titles of steps.

/// The title of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Title<'a> {
    /// Shown while the step runs and when it has failed.
    pub doing: &'a str,
    /// Shown when the step has succeeded.
    pub done: &'a str,
}

/// The width of the longest title, in columns.
pub(super) const WIDTH: usize = 28;

/// Returns the title of a step, or the step's id when it has none.
pub fn title(step: &str) -> Title<'_> {
    let (doing, done) = match step {
        "engine" => ("Connecting to the engine", "Engine ready"),
        "lock" => ("Waiting for the lock", "Lock acquired"),
        "tools" => ("Preparing tools", "Tools ready"),
        "kind" => ("Finding kind", "kind found"),
        "istioctl" => ("Finding istioctl", "istioctl found"),
        "network" => ("Preparing the network", "Network ready"),
        "remove-network" => ("Removing the network", "Network removed"),
        "trust" => ("Creating the root of trust", "Root of trust ready"),
        "image" => ("Building the sample image", "Sample image built"),
        "pull" => ("Pulling images", "Images pulled"),
        "bake" => ("Building the node image", "Node image built"),
        "cluster" => ("Starting Kubernetes", "Kubernetes ready"),
        "images" => ("Loading images into nodes", "Images loaded"),
        "sample-image" => ("Loading the sample image", "Sample image loaded"),
        "link" => ("Linking pod networks", "Pod networks linked"),
        "dns" => ("Configuring CoreDNS", "CoreDNS configured"),
        "render" => ("Rendering Istio manifests", "Istio manifests rendered"),
        "cacerts" => ("Installing intermediate CA", "Intermediate CA installed"),
        "kinds" => ("Installing Istio CRDs", "Istio CRDs installed"),
        "istio" => ("Applying Istio manifests", "Istio manifests applied"),
        "istiod" => ("Starting istiod", "istiod ready"),
        "reader" => ("Creating the reader token", "Reader token ready"),
        "gateway" => ("Starting east-west gateway", "East-west gateway ready"),
        "expose" => ("Exposing istiod", "istiod exposed"),
        "control-plane" => ("Waiting for its primary", "Primary serves the cluster"),
        "reach" => ("Testing clusters from inside", "Clusters reach each other"),
        "remote-secrets" => ("Creating remote secrets", "Remote secrets ready"),
        "sync" => ("Syncing remote clusters", "Remote clusters synced"),
        "facts" => ("Inspecting the cluster", "Cluster inspected"),
        "dry-run" => ("Comparing objects", "Objects compared"),
        "foreign" => ("Checking for other owners", "No objects of other owners"),
        "record" => ("Recording the environment", "Environment recorded"),
        "remove-mesh" => ("Removing the mesh", "Mesh removed"),
        "withdraw" => ("Withdrawing endpoints", "Endpoints withdrawn"),
        "drain" => ("Waiting for connections", "Connections ended"),
        "unlink" => ("Removing routes", "Routes removed"),
        "unregister" => ("Removing the cluster's files", "Cluster removed"),
        "withdraw-istiod" => ("Removing the exposed istiod", "istiod no longer exposed"),
        "remove-gateway" => ("Removing east-west gateway", "East-west gateway removed"),
        "samples" => ("Starting sample services", "Sample services ready"),
        "endpoints" => ("Waiting for endpoints", "Endpoints ready"),
        "call" => ("Calling across clusters", "Cross-cluster call succeeded"),
        "snapshot" => ("Saving the snapshot", "Snapshot saved"),
        "template" => ("Keeping a template", "Template kept"),
        "probes" => ("Starting probe pods", "Probe pods ready"),
        "remove-probes" => ("Removing probe pods", "Probe pods removed"),
        "measure" => ("Measuring calls", "Calls measured"),
        "experiment" => ("Sending calls", "Calls sent"),
        "deploy" => ("Applying manifests", "Manifests applied"),
        "rollout" => ("Waiting for pods", "Pods ready"),
        "undeploy" => ("Deleting deployed objects", "Deployed objects deleted"),
        "unused" => ("Waiting for other tests", "No other tests running"),
        "put-away" => ("Removing incomplete nodes", "Incomplete nodes removed"),
        "pause" => ("Pausing nodes", "Nodes paused"),
        "stop" => ("Stopping nodes", "Nodes stopped"),
        "fault" => ("Injecting the fault", "Fault active"),
        "fault-clear" => ("Ending faults", "Faults ended"),
        "kill" => ("Killing nodes", "Nodes killed"),
        "outage" => ("Waiting for the end", "Outage over"),
        "start" => ("Starting nodes", "Nodes running"),
        "nodes" => ("Removing nodes", "Nodes removed"),
        "export" => ("Exporting the node image", "Node image exported"),
        "pack" => ("Writing the archive", "Archive written"),
        "check" => ("Verifying the archive", "All checksums match"),
        "place" => ("Installing cached tools", "Cached tools installed"),
        "load" => ("Loading the node image", "Node image loaded"),
        "bundle" => ("Writing the support archive", "Support archive written"),
        "lab-put" => ("Setting up the exercise", "Exercise ready"),
        "lab-check" => ("Running exercise checks", "Exercise checks finished"),
        "kubeconfig" => ("Removing kubeconfig entries", "Kubeconfig entries removed"),
        "merge" => ("Waiting for kubeconfig lock", "Kubeconfig lock acquired"),
        "state" => ("Removing state directory", "State directory removed"),
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
        "expose",
        "control-plane",
        "reader",
        "gateway",
        "remote-secrets",
        "sync",
        "facts",
        "dry-run",
        "reach",
        "foreign",
        "record",
        "remove-mesh",
        "withdraw",
        "drain",
        "unlink",
        "unregister",
        "withdraw-istiod",
        "remove-gateway",
        "samples",
        "endpoints",
        "call",
        "template",
        "snapshot",
        "probes",
        "remove-probes",
        "measure",
        "experiment",
        "deploy",
        "rollout",
        "undeploy",
        "unused",
        "put-away",
        "pause",
        "stop",
        "fault",
        "fault-clear",
        "kill",
        "outage",
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
    fn every_step_has_a_title_that_fits() {
        for step in STEPS.iter().copied() {
            let title = title(step);
            assert_ne!(title.doing, step);
            assert!(title.doing.len() <= WIDTH && title.done.len() <= WIDTH, "{title:?} is too long");
        }
    }

    #[test]
    fn unknown_step_uses_its_id_as_title() {
        assert_eq!(title("other"), Title { doing: "other", done: "other" });
    }
}
