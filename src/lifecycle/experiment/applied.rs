//! The policies of an experiment: applied before it, and undone afterwards, without touching those that the user had.

use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::environment::Environment;
use crate::cluster::policies::{Change, Listed, Policies, Policy};

/// How to undo the change of one policy in one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Undo {
    /// Apply the policy that it replaced.
    Apply(Policy, String),
    /// Remove it, and whatever its removal would restore: the user had removed that.
    Remove(Vec<Policy>, String),
}

/// Policies that an experiment has applied.
#[derive(Debug, Default)]
pub(super) struct Applied {
    undo: Vec<Undo>,
}

impl Applied {
    /// Applies policies where they take effect.
    pub async fn apply(
        &mut self,
        environment: &Environment,
        policies: &[Policy],
        timeout: Duration,
    ) -> anyhow::Result<()> {
        if policies.is_empty() {
            return Ok(());
        }
        let all = Policies::of(environment, Instant::now() + timeout).await?;
        let before = all.list().await?;
        // Before they are applied: this work may be dropped at an interrupt, and what is undone twice does no harm.
        self.undo = policies.iter().flat_map(|policy| planned(*policy, &before)).collect();
        all.apply(policies, None).await.map(drop)
    }

    /// Undoes every change that can be undone.
    ///
    /// # Errors
    /// The first one that cannot.
    pub async fn undo(&self, environment: &Environment, timeout: Duration) -> anyhow::Result<()> {
        if self.undo.is_empty() {
            return Ok(());
        }
        let all = Policies::of(environment, Instant::now() + timeout).await?;
        let mut failed = None;
        for undo in &self.undo {
            let undone: anyhow::Result<Vec<Change>> = match undo {
                Undo::Apply(policy, cluster) => all.apply(&[*policy], Some(cluster)).await,
                Undo::Remove(policies, cluster) => all.unapply(policies, Some(cluster)).await,
            };
            failed = failed.or(undone.err());
        }
        failed.map_or(Ok(()), Err)
    }
}

/// Returns how to undo a policy in each cluster where it takes effect, given what was applied before.
fn planned(policy: Policy, before: &[Listed]) -> Vec<Undo> {
    let object = |policy: Policy| policy.replaces().unwrap_or(policy);
    let clusters = before.iter().find(|listed| listed.policy == policy).map(|listed| listed.acts_in.clone());
    let undo = clusters.unwrap_or_default().into_iter().filter_map(|cluster| {
        // All policies that are the same object exclude each other.
        let there = before
            .iter()
            .find(|listed| object(listed.policy) == object(policy) && listed.applied_in.contains(&cluster));
        match there.map(|listed| listed.policy) {
            Some(same) if same == policy => None,
            Some(other) => Some(Undo::Apply(other, cluster)),
            None => Some(Undo::Remove([Some(policy), policy.replaces()].into_iter().flatten().collect(), cluster)),
        }
    });
    undo.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every policy as listed, those of `applied` in cluster `a`.
    fn listed(applied: &[Policy]) -> Vec<Listed> {
        let listed = |policy: &Policy| Listed {
            policy: *policy,
            acts_at: policy.side(),
            acts_in: vec!["a".into()],
            does: String::new(),
            applied_in: if applied.contains(policy) { vec!["a".into()] } else { Vec::new() },
        };
        Policy::all().iter().map(listed).collect()
    }

    #[test]
    fn what_the_user_had_is_there_again() {
        let a = || "a".to_owned();
        for (applied, policy, undo) in [
            // What `up` applied.
            (&[Policy::Timeout][..], Policy::Retry, Some(Undo::Apply(Policy::Timeout, a()))),
            // Another policy of the user.
            (&[Policy::Fault], Policy::Retry, Some(Undo::Apply(Policy::Fault, a()))),
            // The same one.
            (&[Policy::Retry], Policy::Retry, None),
            // The user had removed what `up` applied.
            (&[], Policy::Retry, Some(Undo::Remove(vec![Policy::Retry, Policy::Timeout], a()))),
            (&[Policy::Timeout], Policy::Strict, Some(Undo::Remove(vec![Policy::Strict], a()))),
            (&[Policy::Strict], Policy::Strict, None),
        ] {
            assert_eq!(planned(policy, &listed(applied)), undo.into_iter().collect::<Vec<_>>(), "{applied:?}");
        }
    }
}
