//! The summary of an `up` in a workflow: the environment and the duration of each step, or the failure.

use jiff::Timestamp;

use super::Surroundings;
use ipnet::Ipv4Net;

use crate::base::event::{Event, Sink};
use crate::lifecycle::up::Up;
use crate::report::escape;
use crate::report::{Printer, title};

/// Returns a table of the clusters, and the verified calls.
pub fn environment(up: &Up) -> String {
    let plan = &up.plan;
    let mut text = format!(
        "## kindmesh: environment {} ready after {} s\n\n\
         | cluster | context | nodes | pods | Services | samples |\n|---|---|---:|---|---|---|\n",
        escape::code(&plan.environment),
        up.seconds
    );
    for cluster in &plan.clusters {
        let samples = plan.samples.iter().flat_map(|samples| {
            let caller = samples.callers.contains(&cluster.name).then(|| "caller".to_owned());
            let producer = samples.producers.contains(&cluster.name);
            caller.into_iter().chain(producer.then(|| format!("producer ×{}", samples.replicas)))
        });
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} |\n",
            escape::markdown(&cluster.name),
            escape::code(&cluster.context),
            cluster.nodes().len(),
            subnets(cluster.pod_subnets()),
            cluster.host.kind().map_or("-".into(), |kind| kind.service_subnet.to_string()),
            samples.collect::<Vec<_>>().join(", "),
        ));
    }
    let istio = format!("Istio {}", escape::markdown(&plan.istio_versions().join(", ")));
    text.push_str(&match &plan.docker {
        Some(docker) => format!(
            "\nNetwork {} {}, {istio}, {}\n",
            escape::code(&docker.network.name),
            docker.network.subnet,
            plan.node_images().into_iter().map(escape::code).collect::<Vec<_>>().join(", "),
        ),
        None => format!("\n{istio}\n"),
    });
    for (from, answer) in &up.calls {
        text.push_str(&format!(
            "\nA call from {} was answered in {}, with caller identity {}: {} in {} ms.\n",
            escape::markdown(from),
            escape::markdown(answer.served_by().unwrap_or_default()),
            escape::code(answer.identity().unwrap_or_default()),
            answer.status_code,
            answer.round_trip_time_millis,
        ));
    }
    text
}

fn subnets(subnets: &[Ipv4Net]) -> String {
    subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A sink that collects steps and, at the end, adds them to the step's summary.
pub struct Run {
    surroundings: Surroundings,
    printer: Printer,
    /// The command, for the heading.
    command: &'static str,
    steps: Vec<String>,
    failed: Option<String>,
}

impl Run {
    /// Creates the sink for a run of `command`.
    pub fn new(surroundings: &Surroundings, command: &'static str, printer: &Printer) -> Self {
        Self {
            surroundings: surroundings.clone(),
            printer: printer.clone(),
            command,
            steps: Vec::new(),
            failed: None,
        }
    }

    fn summary(&self) -> String {
        let mut text = self.failed.clone().unwrap_or_default();
        if !self.steps.is_empty() {
            text.push_str(&format!(
                "\n<details><summary>Steps of kindmesh {}</summary>\n\n\
                 | step | cluster | seconds | |\n|---|---|---:|---|\n{}\n</details>\n\n",
                self.command,
                self.steps.concat()
            ));
        }
        text
    }
}

impl Sink for Run {
    fn event(&mut self, _time: Timestamp, event: &Event) {
        match event {
            Event::StepFinished { step, cluster, seconds, changed } => self.steps.push(format!(
                "| {} | {} | {seconds} | {} |\n",
                escape::markdown(title(step).done),
                escape::markdown(cluster.as_deref().unwrap_or_default()),
                if *changed { "" } else { "unchanged" },
            )),
            Event::Failed { step, cluster, error, evidence, hint, .. } => {
                let mut text = format!("## kindmesh {} failed", self.command);
                if !step.is_empty() {
                    text.push_str(&format!(" in step {}", escape::markdown(step)));
                }
                if let Some(cluster) = cluster {
                    text.push_str(&format!(" of {}", escape::markdown(cluster)));
                }
                let seen = std::iter::once(error).chain(evidence).map(String::as_str);
                text.push_str(&format!("\n\n{}", escape::fenced(&seen.collect::<Vec<_>>().join("\n"))));
                if let Some(hint) = hint {
                    text.push_str(&format!("\n{}\n", escape::markdown(hint)));
                }
                self.failed = Some(text);
            }
            _ => {}
        }
    }

    fn finish(&mut self) {
        if let Err(error) = self.surroundings.summarise(&self.summary()) {
            self.printer.progress(&format!("note: {error:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::call::Answer;
    use crate::plan;
    use crate::plan::inventory::Inventory;
    use crate::report::Verbosity;
    use crate::report::testing::{Captured, failing_run, finished, good_run, replay};
    use crate::spec;

    fn summary(run: &[(f64, Option<Event>)]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("summary.md");
        let surroundings = Surroundings { in_workflow: true, summary: Some(path.clone()) };
        replay(&mut Run::new(&surroundings, "up", &Captured::new(Verbosity::Normal).printer), run);
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn steps_are_in_order_of_completion() {
        assert_eq!(
            summary(&good_run()),
            "\n<details><summary>Steps of kindmesh up</summary>\n\n| step | cluster | seconds | |\n|---|---|---:|---|\n\
             | Network ready |  | 0.213 | unchanged |\n\
             | Kubernetes ready | cluster1 | 14.2 |  |\n\
             | Kubernetes ready | cluster2 | 14.8 |  |\n\n</details>\n\n"
        );
    }

    #[test]
    fn a_failure_comes_first() {
        let mut run = failing_run();
        run.insert(1, (0.1, finished("network", None, 0.1, true)));
        let text = summary(&run);
        let failure = "## kindmesh up failed in step istiod of cluster2\n\n```text\nistiod is available: not after 90 s\n\
                       last seen: 0 of 1 pods: ImagePullBackOff\n```\n\nkindmesh doctor\n";
        assert!(text.starts_with(failure) && text.contains("| Network ready |"), "{text}");
    }

    #[test]
    fn the_environment_is_a_table() {
        let spec = spec::from_text("{name: shop, samples: {image: 'registry.example/sample:1'}}", "x").unwrap();
        let plan = plan::plan(&spec.spec, &Inventory::default()).unwrap();
        let pods = plan.clusters[0].pod_subnets()[0];
        let answer: Answer = serde_json::from_value(serde_json::json!({
            "id": "1", "statusCode": 200, "roundTripTimeMillis": 4, "reason": null, "callerHeaders": {},
            "producerHeaders": {"x-forwarded-client-cert": "Hash=1;URI=spiffe://cluster.local/ns/sample/sa/sample-caller"},
            "callerMetadata": {}, "producerMetadata": {"clusterName": "cluster2"}, "protocol": "http", "responses": 1,
        }))
        .unwrap();
        let up = Up { plan, kubeconfig: String::new(), calls: vec![("cluster1".into(), answer)], seconds: 29.8 };
        let text = environment(&up);
        assert!(text.starts_with("## kindmesh: environment <code>shop</code> ready after 29.8 s\n"), "{text}");
        let row = format!("| cluster1 | <code>kind-shop-cluster1</code> | 1 | {pods} |");
        assert!(
            text.contains(&row) && text.contains("| caller |\n") && text.contains("| producer ×2 |\n"),
            "{text}"
        );
        assert!(text.ends_with(
            "A call from cluster1 was answered in cluster2, with caller identity \
             <code>spiffe://cluster.local/ns/sample/sa/sample-caller</code>: 200 in 4 ms.\n"
        ));
    }
}
