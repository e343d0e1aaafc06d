//! inotify: how many files programs may watch on the engine's kernel.

use super::check::{Check, Judgement, Severity, good};
use super::facts::Facts;
use super::fix::Fix;

/// From <https://kind.sigs.k8s.io/docs/user/known-issues/#pod-errors-due-to-too-many-open-files>.
const WATCHES: u64 = 524_288;
const WATCHERS: u64 = 512;
/// An estimate for root's other programs: many systems limit all of them to 128 instances.
const WATCHERS_OF_OTHERS: u64 = 128;

pub(super) const CHECK: Check = Check {
    id: "inotify.low",
    finds: "the kernel's inotify limits are too low for several clusters",
    tested: "real: the test lab's engine with another /proc/sys/fs/inotify mounted",
    judge,
};

fn judge(facts: &Facts) -> Vec<Judgement> {
    let Some(host) = facts.same_kernel() else {
        return match facts.engine {
            Some(_) => Judgement::unknown("inotify limits: the engine does not run on this host"),
            None => good(),
        };
    };
    // Enough watches for any number of clusters: each takes about 300.
    let watchers = WATCHERS.max(facts.wanted.size.watchers + WATCHERS_OF_OTHERS);
    let limits = [("max_user_watches", host.watches, WATCHES), ("max_user_instances", host.watchers, watchers)];
    let low: Vec<_> = limits
        .into_iter()
        .filter_map(|(name, has, wants)| Some((format!("fs.inotify.{name}"), has?, wants)))
        .filter(|(_, has, wants)| has < wants)
        .collect();
    if low.is_empty() {
        return good();
    }
    let join =
        |text: &dyn Fn(&(String, u64, u64)) -> String, by: &str| low.iter().map(text).collect::<Vec<_>>().join(by);
    let found = Judgement::found(
        Severity::Warns,
        "the kernel's inotify limits are low",
        join(&|(name, has, _)| format!("{name} = {has}"), ", "),
        "with several clusters, nodes and pods fail with \"too many open files\"",
        format!(
            "printf '{}\\n' | sudo tee /etc/sysctl.d/99-kind.conf && sudo sysctl --system",
            join(&|(name, _, wants)| format!("{name}={wants}"), "\\n")
        ),
    );
    let wanted: Vec<_> = low.iter().map(|(name, _, wants)| (name.clone(), *wants)).collect();
    Judgement::fixed_by(found, Fix::sysctl(&wanted))
}

#[cfg(test)]
mod tests {
    use crate::diagnose::doctor::testing::{fix, golden, good, only};

    #[test]
    fn low_inotify_limits() {
        let mut facts = good();
        facts.host.watchers = Some(128);
        golden("inotify", &facts);
        assert_eq!(fix(&facts), "sudo sysctl fs.inotify.max_user_instances=512");
        facts.host.watches = Some(8192);
        let cure = only(&facts, "inotify.low").cure;
        assert!(cure.contains("max_user_watches=524288\\nfs.inotify.max_user_instances=512"), "{cure}");
        // Limits that suffice for two clusters are too low for many.
        let mut facts = good();
        facts.wanted.size.watchers = 500;
        let cure = only(&facts, "inotify.low").cure;
        assert!(cure.contains("max_user_instances=628"), "{cure}");
    }
}
