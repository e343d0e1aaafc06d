//! What each step of `up` cannot end before: the order that `src/lifecycle/up` keeps, as data.

use super::Bar;

/// Of which clusters' step the end is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// The environment's own, or the same cluster's.
    Same,
    /// Every cluster's.
    All,
}
use Of::{All, Same};

/// Each step, and those that it cannot end before.
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
    ("samples", &[("istiod", Same), ("kinds", Same), ("sample-image", Same)]),
    ("endpoints", &[("samples", All), ("sync", All), ("link", All), ("image", Same)]),
    ("call", &[("endpoints", Same)]),
];

/// Whether a step cannot end before the other one has.
pub(super) fn needs(bar: &Bar, other: &Bar) -> bool {
    let needs = NEEDS.iter().find(|(step, _)| *step == bar.step).map_or(&[][..], |(_, needs)| needs);
    let fits = |of: &Of| *of == All || other.cluster.is_none() || other.cluster == bar.cluster;
    needs.iter().any(|(step, of)| *step == other.step && fits(of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_leads_back_to_the_first() {
        for (step, needs) in NEEDS {
            assert!(!needs.is_empty());
            for (needed, _) in *needs {
                // What is needed stands above: no circle.
                let place = |name| NEEDS.iter().position(|(step, _)| *step == name);
                assert!(*needed == "engine" || place(*needed) < place(*step), "{step} needs {needed}");
            }
        }
    }
}
