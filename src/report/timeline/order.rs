//! The dependencies of each step of `up`, as data: the order that `src/lifecycle/up` keeps.

use super::Bar;

/// In which clusters a dependency must have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// The environment's own step, or that of the same cluster.
    Same,
    /// The step of every cluster.
    All,
}
use Of::{All, Same};

/// Each step, and the steps that must end before it.
const NEEDS: &[(&str, &[(&str, Of)])] = &[
    ("lock", &[("engine", Same)]),
    ("network", &[("lock", Same)]),
    ("trust", &[("network", Same)]),
    ("kind", &[("trust", Same)]),
    ("istioctl", &[("trust", Same)]),
    ("pull", &[("trust", Same)]),
    ("bake", &[("pull", Same)]),
    ("image", &[("trust", Same)]),
    ("render", &[("istioctl", Same), ("trust", Same)]),
    ("cluster", &[("kind", Same), ("bake", Same), ("trust", Same)]),
    ("link", &[("cluster", Same)]),
    ("images", &[("cluster", Same), ("pull", Same)]),
    ("sample-image", &[("cluster", Same), ("image", Same)]),
    ("cacerts", &[("cluster", Same), ("render", Same)]),
    ("dns", &[("cacerts", Same)]),
    ("istio", &[("cacerts", Same)]),
    ("kinds", &[("istio", Same), ("images", Same)]),
    ("istiod", &[("istio", Same), ("images", Same)]),
    ("reader", &[("istio", Same)]),
    ("remote-secrets", &[("istiod", Same), ("kinds", Same), ("sample-image", Same), ("reader", All)]),
    ("sync", &[("remote-secrets", Same)]),
    (
        "gateway",
        &[("istiod", Same), ("control-plane", Same), ("kinds", Same), ("sample-image", Same), ("link", Same)],
    ),
    ("expose", &[("istiod", Same), ("gateway", Same)]),
    ("control-plane", &[("istio", Same), ("kinds", Same), ("reader", Same), ("expose", All), ("sync", All)]),
    ("samples", &[("control-plane", Same), ("istiod", Same), ("kinds", Same), ("sample-image", Same)]),
    ("endpoints", &[("samples", All), ("gateway", All), ("sync", All), ("link", All), ("image", Same)]),
    ("call", &[("endpoints", Same)]),
];

/// Whether a step depends on another one.
pub(super) fn needs(bar: &Bar, other: &Bar) -> bool {
    let needs = NEEDS.iter().find(|(step, _)| *step == bar.step).map_or(&[][..], |(_, needs)| needs);
    let fits = |of: &Of| *of == All || other.cluster.is_none() || other.cluster == bar.cluster;
    needs.iter().any(|(step, of)| *step == other.step && fits(of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_depends_on_the_first() {
        for (step, needs) in NEEDS {
            assert!(!needs.is_empty());
            for (needed, _) in *needs {
                // Dependencies come first in the list: no cycle. A cluster has either istiod or the step control-plane.
                let place = |name| NEEDS.iter().position(|(step, _)| *step == name);
                let first = *needed == "engine" || (*step, *needed) == ("gateway", "control-plane");
                assert!(first || place(*needed) < place(*step), "{step} needs {needed}");
            }
        }
    }
}
