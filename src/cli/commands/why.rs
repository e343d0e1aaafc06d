//! `kindmesh why`

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{Context, Description, Done, Task};
use crate::base::error::Kind;
use crate::cli::values::duration;
use crate::cluster::environment::Environment;
use crate::diagnose::why::{self, Address, Explanation, From, Hop, Speaks, Verdict};
use crate::lifecycle::locked;
use crate::report::Style;
use crate::spec::Label;

/// `why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// Cluster of the caller
    #[arg(value_name = "CLUSTER")]
    pub cluster: Label,
    /// Target of the call: http://SERVICE[.NAMESPACE][:PORT][/PATH], grpc://SERVICE:PORT[/SERVICE/METHOD], tcp://SERVICE:PORT, or
    /// SERVICE:PORT for the protocol that the port declares
    #[arg(value_name = "TARGET")]
    pub target: Address,
    /// Namespace of the caller [default: the target's, else the samples']
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<Label>,
    /// Pod of the caller, or a prefix of its name [default: a ready pod, in the mesh if possible]
    #[arg(long, value_name = "POD")]
    pub pod: Option<String>,
    /// Timeout of each request, such as 5s or 1m
    #[arg(long, value_parser = duration, default_value = "10s", value_name = "TIME")]
    pub timeout: Duration,
}

pub fn command(args: WhyArgs) -> Task {
    Task::new(Description::of("why"), async move |context| run(context, &args).await)
}

async fn run(context: &Context, args: &WhyArgs) -> anyhow::Result<Done> {
    let environment = Environment::open(&context.folders, &context.environment_name()?)?;
    let cluster = environment.cluster(args.cluster.as_str())?.name.to_string();
    locked::require_running(environment.name(), &[&cluster]).await?;
    let from = From { namespace: args.namespace.as_ref().map(ToString::to_string), pod: args.pod.clone() };
    let explained = why::why(&environment, &cluster, &args.target, &from, args.timeout).await?;
    let code = if explained.first_wrong.is_some() { Kind::Check.exit_code() } else { 0 };
    let done = if context.is_json() {
        let mut document = json!({"schemaVersion": 1, "environment": environment.name()});
        crate::spec::merge::merge(&mut document, serde_json::to_value(&explained)?);
        Done::json(&document)?
    } else {
        Done::text(text(&explained, context.printer.stdout_style(), context.printer.unicode()))
    };
    Ok(Done { code, ..done })
}

/// The width of the longest name of a hop.
const WIDTH: usize = 13;

fn text(explained: &Explanation, style: Style, unicode: bool) -> String {
    let mut lines =
        vec![format!("{} from {}, namespace {}", called(explained), explained.from, explained.namespace)];
    lines.extend(explained.hops.iter().map(|hop| line(hop, style, unicode)));
    let wrong = explained.hops.iter().find(|hop| Some(hop.hop) == explained.first_wrong);
    lines.push(match wrong {
        Some(hop) => format!(
            "\nThe first failing hop is {}: {}\nfix: {}",
            style.bold(hop.hop),
            hop.saw,
            hop.cure.as_deref().unwrap_or("none known")
        ),
        None => "\nEvery hop is OK.".to_owned(),
    });
    lines.join("\n")
}

fn called(explained: &Explanation) -> String {
    let what = match explained.protocol {
        Speaks::Http => "GET",
        Speaks::Grpc => "gRPC call to",
        Speaks::Tcp => "TCP connection to",
    };
    format!("{what} {}", explained.url)
}

fn line(hop: &Hop, style: Style, unicode: bool) -> String {
    let mark = match (hop.verdict, unicode) {
        (Verdict::Ok, true) => style.green("✓"),
        (Verdict::Ok, false) => style.green("+"),
        (Verdict::Wrong, true) => style.red("✗"),
        (Verdict::Wrong, false) => style.red("x"),
        (Verdict::Unknown, _) => style.yellow("?"),
        (Verdict::Skipped, _) => style.dim("-"),
    };
    format!("{mark} {:WIDTH$}  {}", hop.hop, hop.saw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_with_the_first_failing_hop_and_its_fix() {
        let hop = |hop, verdict, cure: Option<&str>| Hop {
            hop,
            verdict,
            saw: format!("what {hop} is"),
            cure: cure.map(str::to_owned),
        };
        let explained = Explanation {
            from: "cluster1".into(),
            namespace: "shop".into(),
            pod: None,
            url: "http://orders".into(),
            protocol: Speaks::Http,
            hops: vec![
                hop("caller", Verdict::Unknown, None),
                hop("name", Verdict::Ok, None),
                hop("endpoints", Verdict::Wrong, Some("do this")),
                hop("tls", Verdict::Skipped, None),
                hop("policy", Verdict::Wrong, Some("and that")),
            ],
            first_wrong: Some("endpoints"),
        };
        insta::assert_snapshot!(text(&explained, Style::plain(), true), @r"
        GET http://orders from cluster1, namespace shop
        ? caller         what caller is
        ✓ name           what name is
        ✗ endpoints      what endpoints is
        - tls            what tls is
        ✗ policy         what policy is

        The first failing hop is endpoints: what endpoints is
        fix: do this
        ");
        let tcp = Explanation { protocol: Speaks::Tcp, url: "orders:9000".into(), ..explained };
        assert!(text(&tcp, Style::plain(), true).starts_with("TCP connection to orders:9000 from cluster1"));
    }
}
