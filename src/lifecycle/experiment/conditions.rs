//! What an environment must have for an experiment: checked before anything is changed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::file::{Experiment, Happening, Need, Planned};
use super::rules::shown;
use crate::base::error::Error;
use crate::spec::{Cluster, Label, Spec};

/// How long killed nodes may take until their cluster works again.
const RETURN: Duration = Duration::from_secs(30);

/// Fails unless an environment has what an experiment needs.
///
/// # Errors
/// A usage error that names everything that is missing, with a spec that has it.
pub(super) fn check(experiment: &Experiment, spec: &Spec) -> Result<(), Error> {
    let missing = missing(experiment, spec);
    if missing.is_empty() {
        return at_possible_times(experiment, spec);
    }
    let mut error = Error::usage(format!(
        "environment \"{}\" does not have what experiment {} needs",
        spec.name, experiment.name
    ));
    for line in missing {
        error = error.evidence(line);
    }
    Err(match experiment.needs.is_empty() {
        true => error.hint("change the experiment's file, or the environment's spec"),
        false => error.hint(format!(
            "create an environment with this spec, and use it with --name: {}",
            wanted(&experiment.needs)
        )),
    })
}

/// Returns a spec that fulfils needs, in one line.
fn wanted(needs: &[Need]) -> String {
    let cluster = |need: &Need| {
        let place = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!(", {name}: {value}")).unwrap_or_default()
        };
        format!("{{name: {}{}{}}}", need.cluster, place("region", &need.region), place("zone", &need.zone))
    };
    let with = |has: fn(&Need) -> bool| {
        let names: Vec<_> = needs.iter().filter(|need| has(need)).map(|need| need.cluster.as_str()).collect();
        names.join(", ")
    };
    format!(
        "{{clusters: [{}], samples: {{caller: {{clusters: [{}]}}, producer: {{clusters: [{}]}}}}}}",
        needs.iter().map(cluster).collect::<Vec<_>>().join(", "),
        with(|need| need.caller),
        with(|need| need.producer),
    )
}

fn missing(experiment: &Experiment, spec: &Spec) -> Vec<String> {
    let mut missing = Vec::new();
    let cluster = |name: &str| spec.clusters.iter().find(|cluster| cluster.name.as_str() == name);
    for need in &experiment.needs {
        match cluster(need.cluster.as_str()) {
            None => missing.push(format!("there is no cluster {}", need.cluster)),
            Some(found) => missing.extend(unlike(need, found, spec)),
        }
    }
    let samples = &spec.samples;
    let has = |list: &[Label], name: &str| samples.enabled && list.iter().any(|has| has.as_str() == name);
    let from = experiment.calls.from.as_str();
    let mut named: Vec<&str> = vec![from];
    for fault in &experiment.faults {
        match &fault.what {
            Happening::Timed(_, clusters) => named.extend(clusters.iter().map(String::as_str)),
            Happening::KillCluster(name) => named.push(name),
            Happening::KillZone(zone) => missing.extend(zone_problem(zone, from, spec)),
        }
    }
    for restart in &experiment.restarts {
        match &restart.cluster {
            Some(name) if !has(&samples.producer.clusters, name) => {
                missing.push(format!("cluster {name} has no producer to roll out"));
            }
            None if !samples.enabled || samples.producer.clusters.is_empty() => {
                missing.push("no cluster has a producer to roll out".into());
            }
            _ => {}
        }
    }
    missing.extend(
        named.into_iter().filter(|name| cluster(name).is_none()).map(|name| format!("there is no cluster {name}")),
    );
    // The name of the producer's Service exists where the samples are.
    let knows = has(&samples.caller.clusters, from) || has(&samples.producer.clusters, from);
    if experiment.calls.host.is_none() && cluster(from).is_some() && !knows {
        missing.push(format!("cluster {from} has no Service sample-producer, which the calls need"));
    }
    let mut known = BTreeSet::new();
    missing.retain(|line| known.insert(line.clone()));
    missing
}

/// Returns how a cluster differs from a need.
fn unlike(need: &Need, found: &Cluster, spec: &Spec) -> Vec<String> {
    let mut unlike = Vec::new();
    let name = &need.cluster;
    for (what, wanted, has) in [("region", &need.region, &found.region), ("zone", &need.zone, &found.zone)] {
        if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != has) {
            unlike.push(format!("{name} is in {what} {has}, not in {wanted}"));
        }
    }
    let samples = &spec.samples;
    for (what, needed, list) in [
        ("caller", need.caller, &samples.caller.clusters),
        ("producer", need.producer, &samples.producer.clusters),
    ] {
        if needed && !(samples.enabled && list.contains(name)) {
            unlike.push(format!("{name} has no {what}"));
        }
    }
    unlike
}

/// Returns why a zone cannot be killed.
fn zone_problem(zone: &str, from: &str, spec: &Spec) -> Option<String> {
    let within: Vec<&Cluster> = spec.clusters.iter().filter(|cluster| cluster.zone == zone).collect();
    match within.iter().find(|cluster| cluster.name.as_str() == from) {
        _ if within.is_empty() => Some(format!("no cluster is in zone {zone}")),
        Some(_) => Some(format!("{from}, from which the calls are sent, is in zone {zone}, which is killed")),
        None => None,
    }
}

/// Fails if something is planned in a cluster while its nodes are killed.
fn at_possible_times(experiment: &Experiment, spec: &Spec) -> Result<(), Error> {
    let impossible = impossible(experiment, spec);
    if impossible.is_empty() {
        return Ok(());
    }
    Err(Error::usage(format!("experiment {} changes clusters while their nodes are killed", experiment.name))
        .evidence(impossible.join("\n"))
        .hint("change the times in its file"))
}

/// Returns the clusters whose nodes a fault kills.
fn killed_by<'a>(fault: &'a Planned, spec: &'a Spec) -> Vec<&'a str> {
    match &fault.what {
        Happening::Timed(..) => Vec::new(),
        Happening::KillCluster(name) => vec![name],
        Happening::KillZone(zone) => {
            let within = spec.clusters.iter().filter(|cluster| cluster.zone == *zone);
            within.map(|cluster| cluster.name.as_str()).collect()
        }
    }
}

/// Returns what is planned in a cluster while its nodes are killed.
fn impossible(experiment: &Experiment, spec: &Spec) -> Vec<String> {
    let mut found = Vec::new();
    for killed in &experiment.faults {
        let down = killed_by(killed, spec);
        let (from, to) = (killed.at, killed.at + killed.lasts + RETURN);
        let mut check = |what: &str, cluster: &str, at: Duration| {
            if down.contains(&cluster) && (from..to).contains(&at) {
                let (at, from, to) = (shown(at), shown(from), shown(to));
                found.push(format!(
                    "{what} at {at}, but the nodes of {cluster} are killed at {from} and expected back by {to}"
                ));
            }
        };
        for fault in &experiment.faults {
            if let Happening::Timed(kind, clusters) = &fault.what {
                for cluster in clusters {
                    check(&format!("begin of {}", kind.name()), cluster, fault.at);
                    check(&format!("end of {}", kind.name()), cluster, fault.at + fault.lasts);
                }
            }
        }
        for other in experiment.faults.iter().filter(|other| other.at > killed.at) {
            for cluster in killed_by(other, spec) {
                check("another kill", cluster, other.at);
            }
        }
        for restart in &experiment.restarts {
            let producers = spec.samples.producer.clusters.iter().map(|cluster| cluster.as_str());
            let clusters = restart.cluster.as_deref().map_or_else(|| producers.collect(), |cluster| vec![cluster]);
            for cluster in clusters {
                check("rollout", cluster, restart.at);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::experiment::shipped::SHIPPED;
    use crate::spec::from_text;

    fn spec(text: &str) -> Spec {
        from_text(text, "spec").unwrap().spec
    }

    #[test]
    fn missing_parts_are_named_with_a_spec_that_has_them() {
        let experiment = SHIPPED[0].experiment().unwrap();
        let error = check(&experiment, &spec("name: shop")).unwrap_err();
        assert_eq!(error.message, "environment \"shop\" does not have what experiment zone-loss needs");
        assert_eq!(
            error.evidence,
            ["cluster2 is in region region2, not in region1", "there is no cluster cluster3",]
        );
        let hint = error.hint.unwrap();
        let (_, offered) = hint.split_once(": ").unwrap();
        assert_eq!(missing(&experiment, &spec(offered)), Vec::<String>::new(), "{offered}");
    }

    #[test]
    fn the_default_environment_has_what_the_others_need() {
        for shipped in &SHIPPED[1..] {
            assert_eq!(
                missing(&shipped.experiment().unwrap(), &spec("{}")),
                Vec::<String>::new(),
                "{}",
                shipped.name
            );
        }
    }

    #[test]
    fn names_in_faults_are_checked() {
        let experiment = |faults: &str, rest: &str| {
            let text = format!(
                "name: a\ncalls: {{from: cluster1, qps: 1, for: 60s}}\nexpect: {{lost: 0%}}\n{faults}\n{rest}\n"
            );
            Experiment::parse(&text, "a.yaml").unwrap()
        };
        let missing = |faults: &str, rest: &str, text: &str| missing(&experiment(faults, rest), &spec(text));
        assert_eq!(
            missing("faults: [{at: 5s, fault: cut, between: [cluster1, x], for: 1s}]", "", "{}"),
            ["there is no cluster x"]
        );
        let kill = |zone: &str| format!("faults: [{{at: 5s, fault: kill-zone, zone: {zone}, for: 1s}}]");
        assert_eq!(missing(&kill("x"), "", "{}"), ["no cluster is in zone x"]);
        assert_eq!(
            missing(&kill("zone1"), "", "{}"),
            ["cluster1, from which the calls are sent, is in zone zone1, which is killed"]
        );
        let kill = "faults: [{at: 10s, fault: kill-zone, zone: zone2, for: 5s}]";
        let rollout = |at: &str| format!("restarts: [{{at: {at}, rollout: producer, cluster: cluster2}}]");
        let impossible = |faults: &str, rest: &str| impossible(&experiment(faults, rest), &spec("{}"));
        assert_eq!(
            impossible(kill, &rollout("12s")),
            ["rollout at 12s, but the nodes of cluster2 are killed at 10s and expected back by 45s"]
        );
        assert_eq!(impossible(kill, &rollout("45s")), Vec::<String>::new());
        let twice = "faults: [{at: 10s, fault: kill-cluster, cluster: cluster2, for: 5s}, \
            {at: 16s, fault: kill-zone, zone: zone2, for: 5s}]";
        assert_eq!(
            impossible(twice, ""),
            ["another kill at 16s, but the nodes of cluster2 are killed at 10s and expected back by 45s"]
        );
        let both = "faults: [{at: 6s, fault: cut, between: [cluster1, cluster2], for: 7s}, \
            {at: 10s, fault: kill-cluster, cluster: cluster2, for: 5s}]";
        assert_eq!(
            impossible(both, ""),
            ["end of cut at 13s, but the nodes of cluster2 are killed at 10s and expected back by 45s"]
        );
        assert_eq!(
            missing("restarts: [{at: 5s, rollout: producer, cluster: cluster1}]", "", "{}"),
            ["cluster cluster1 has no producer to roll out"]
        );
        assert_eq!(
            missing("restarts: [{at: 5s, rollout: producer}]", "", "samples: {enabled: false}"),
            [
                "no cluster has a producer to roll out",
                "cluster cluster1 has no Service sample-producer, which the calls need"
            ]
        );
    }
}
