//! The trial: a TCP connection from the caller's pod that sends nothing, or a gRPC call of the samples. An HTTP call is not
//! tried, since a request in a workload's name may have side effects.

use super::Hop;
use super::connect::QUIET_TIME;
use super::facts::{Facts, Heard, Trial};

const HOP: &str = "trial";

/// Judges the trial; none for HTTP.
pub(super) fn judge(facts: &Facts) -> Option<Hop> {
    Some(match facts.trial.as_ref()? {
        Trial::Tcp(heard) => connection(facts, heard),
        Trial::Answered(cluster) => Hop::ok(HOP, format!("a gRPC call was answered in {cluster}")),
        Trial::Failed(reason) => {
            Hop::wrong(HOP, format!("a gRPC call failed: {reason}"), facts.kindmesh("logs producer"))
        }
        Trial::None(reason) => Hop::skipped(HOP, reason),
    })
}

fn connection(facts: &Facts, heard: &Heard) -> Hop {
    let seconds = QUIET_TIME.as_secs();
    let from = facts.caller.as_ref().map(|caller| caller.pod.as_str()).unwrap_or_default();
    let said = format!("a TCP connection from {from} that sent nothing");
    let past = "a connection past the pod's proxy";
    match (heard, &facts.direct) {
        (Heard::Bytes(first), _) => Hop::ok(HOP, format!("{said} got the server's first bytes: {first:?}")),
        (Heard::Nothing, Some(Heard::Bytes(first))) => Hop::wrong(
            HOP,
            format!("{said} got nothing for {seconds} s, but {past} got the server's first bytes: {first:?}"),
            format!("declare the port as TCP (appProtocol: tcp); what the proxies do: {}", logs(facts)),
        ),
        (Heard::Nothing, Some(Heard::Nothing)) => Hop::ok(
            HOP,
            format!("{said} stayed open for {seconds} s without a byte, as does {past}: the client speaks first"),
        ),
        (Heard::Nothing, _) => Hop::ok(
            HOP,
            format!("{said} stayed open for {seconds} s without a byte, as if the client speaks first"),
        ),
        (Heard::Closed, Some(Heard::Closed)) => {
            Hop::ok(HOP, format!("{said} was closed, as was {past}: by the server, or because nothing listens"))
        }
        (Heard::Closed, _) => Hop::wrong(
            HOP,
            format!(
                "{said} was closed before a byte arrived: by a proxy without a healthy endpoint, or by the pod's"
            ),
            logs(facts),
        ),
        (Heard::Refused(reason), _) => Hop::wrong(HOP, format!("{said} failed: {reason}"), logs(facts)),
    }
}

/// Returns the command that shows the log of a pod's proxy, else of the caller's.
fn logs(facts: &Facts) -> String {
    const PROXY: &str = crate::cluster::mesh::envoy::CONTAINER;
    match facts.ready().iter().find(|(_, pod)| pod.meshed) {
        Some((cluster, pod)) => format!("{} logs {} -c {PROXY}", facts.kubectl(cluster), pod.name),
        None => facts.kindmesh("status"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::testing::works;
    use super::*;

    fn tried(trial: Option<Trial>, direct: Option<Heard>) -> Option<Hop> {
        judge(&Facts { trial, direct, ..works() })
    }

    #[test]
    fn http_has_no_trial() {
        assert_eq!(tried(None, None), None);
    }

    #[test]
    fn silence_counts_by_what_the_server_does_without_proxies() {
        let greeting = || Heard::Bytes("220 ready\r\n".into());
        for (heard, direct, verdict) in [
            (greeting(), None, Verdict::Ok),
            (Heard::Nothing, Some(greeting()), Verdict::Wrong),
            (Heard::Nothing, Some(Heard::Nothing), Verdict::Ok),
            (Heard::Nothing, None, Verdict::Ok),
            (Heard::Closed, Some(Heard::Closed), Verdict::Ok),
            (Heard::Closed, Some(Heard::Nothing), Verdict::Wrong),
            (Heard::Closed, None, Verdict::Wrong),
            (Heard::Refused("no route to host".into()), Some(greeting()), Verdict::Wrong),
        ] {
            let hop = tried(Some(Trial::Tcp(heard.clone())), direct.clone()).unwrap();
            assert_eq!(hop.verdict, verdict, "{heard:?} {direct:?}: {hop:?}");
            assert_eq!(hop.cure.is_some(), verdict == Verdict::Wrong);
        }
        let hop = tried(Some(Trial::Tcp(greeting())), None).unwrap();
        assert!(
            hop.saw.starts_with("a TCP connection from checkout-1 ") && hop.saw.contains(r#""220 ready\r\n""#)
        );
    }

    #[test]
    fn grpc_call_is_answered_or_failed_or_not_sent() {
        let hop = tried(Some(Trial::Answered("cluster2".into())), None).unwrap();
        assert!(hop.verdict == Verdict::Ok && hop.saw.ends_with("answered in cluster2"));
        let hop = tried(Some(Trial::Failed("gRPC status PermissionDenied".into())), None).unwrap();
        assert!(hop.verdict == Verdict::Wrong && hop.saw.ends_with("PermissionDenied"));
        assert_eq!(tried(Some(Trial::None("why".into())), None).unwrap().verdict, Verdict::Skipped);
    }
}
