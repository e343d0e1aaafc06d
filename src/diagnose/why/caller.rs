//! The caller: whether its pod is ready and in the mesh.

use super::{Facts, Hop};

const HOP: &str = "caller";

pub(super) fn judge(facts: &Facts) -> Hop {
    let call = &facts.call;
    let Some(caller) = &facts.caller else {
        return Hop::unknown(
            HOP,
            format!(
                "no pods in namespace {} of {}, so no proxy to inspect (use --namespace to select another namespace)",
                call.namespace, call.cluster
            ),
        );
    };
    let called = format!("pod {} in namespace {}, service account {}", caller.pod, call.namespace, caller.account);
    if !caller.ready {
        let context = facts.here().map(|here| here.context.clone()).unwrap_or_default();
        return Hop::wrong(
            HOP,
            format!("{called}, is not ready"),
            format!("kubectl --context {context} -n {} describe pod {}", call.namespace, caller.pod),
        );
    }
    let mesh = if caller.meshed { "in the mesh" } else { "outside the mesh (no proxy)" };
    Hop::ok(HOP, format!("{called}, {mesh}"))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::works;
    use super::*;

    #[test]
    fn missing_caller_is_unknown_and_unready_caller_fails() {
        let mut facts = works();
        facts.caller.as_mut().unwrap().ready = false;
        let hop = judge(&facts);
        assert!(hop.verdict == Verdict::Wrong && hop.cure.unwrap().contains("-n shop describe pod checkout-1"));
        facts.caller = None;
        assert_eq!(judge(&facts).verdict, Verdict::Unknown);
    }
}
