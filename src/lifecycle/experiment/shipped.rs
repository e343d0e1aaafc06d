//! The experiments that kindmesh brings.

use super::Experiment;
use crate::base::error::Error;

/// An experiment that kindmesh brings.
#[derive(Debug, Clone, Copy)]
pub struct Shipped {
    /// Its name, as typed.
    pub name: &'static str,
    /// Its file.
    pub text: &'static str,
}

/// All of them.
pub const SHIPPED: [Shipped; 3] = [
    Shipped { name: "zone-loss", text: include_str!("../../../mesh-manifests/experiments/zone-loss.yaml") },
    Shipped { name: "lossy-link", text: include_str!("../../../mesh-manifests/experiments/lossy-link.yaml") },
    Shipped {
        name: "istiod-rollout",
        text: include_str!("../../../mesh-manifests/experiments/istiod-rollout.yaml"),
    },
];

/// Returns the experiment of that name.
pub fn find(name: &str) -> Option<&'static Shipped> {
    static ALL: [Shipped; 3] = SHIPPED;
    ALL.iter().find(|shipped| shipped.name == name)
}

impl Shipped {
    /// Parses it.
    ///
    /// # Errors
    /// If its file is invalid, which a test rules out.
    pub fn experiment(&self) -> Result<Experiment, Error> {
        Experiment::parse(self.text, &format!("{}.yaml", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_valid_and_has_its_name() {
        for shipped in &SHIPPED {
            let experiment = shipped.experiment().unwrap_or_else(|error| panic!("{error:?}"));
            assert_eq!(experiment.name.as_str(), shipped.name);
            assert!(experiment.description.is_some() && !experiment.needs.is_empty(), "{}", shipped.name);
            assert_eq!(find(shipped.name).unwrap().text, shipped.text);
        }
        assert!(find("other").is_none());
    }
}
