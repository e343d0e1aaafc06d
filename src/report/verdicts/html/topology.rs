//! A drawing of the clusters and their connections, as SVG inside the document.
//!
//! It is drawn twice: with the clusters side by side, and stacked for narrow screens. The style shows one of the
//! two.

use crate::diagnose::verify::{Status, Subject, SubjectCluster, Verdicts};
use crate::report::escape::html as escape;

const WIDTH: usize = 200;
const HEIGHT: usize = 156;
const GAP: usize = 28;
const MARGIN: usize = 8;
/// The space between the boxes and a line beside them, for the line's label.
const LANE: usize = 46;
const PILL: usize = 24;
/// How many characters fit into a box.
const FITS: usize = 24;

/// Returns the style that shows one drawing: the more clusters, the wider the screen must be for the wide one.
pub fn style(clusters: usize) -> String {
    let breakpoint = clusters * WIDTH;
    format!(
        ".wide {{ max-width: {}px; }}\n.narrow {{ display: none; max-width: 300px; }}\n\
         @media (max-width: {breakpoint}px) {{ .wide {{ display: none; }} .narrow {{ display: block; }} }}\n",
        wide_width(clusters)
    )
}

/// Returns the drawing with its heading, or nothing without clusters.
pub fn figure(verdicts: &Verdicts, subject: &Subject) -> String {
    let clusters = &subject.clusters;
    if clusters.is_empty() {
        return String::new();
    }
    let wire = Wire::of(verdicts, clusters);
    let described = escape(&describe(clusters, wire.as_ref()));
    format!(
        "<h2>Topology</h2>\n<div class=\"topology card\">\n{}{}</div>\n",
        wide(clusters, wire.as_ref(), &described),
        narrow(clusters, wire.as_ref(), &described)
    )
}

/// The path from callers to producers, as the mutual TLS checks found it.
struct Wire {
    class: &'static str,
    label: &'static str,
}

impl Wire {
    /// None without a caller or a producer.
    fn of(verdicts: &Verdicts, clusters: &[SubjectCluster]) -> Option<Self> {
        let sample =
            clusters.iter().any(|cluster| cluster.caller) && clusters.iter().any(|cluster| cluster.producer);
        let mtls = || verdicts.checks.iter().filter(|verdict| verdict.id.starts_with("mtls."));
        let (class, label) = if mtls().any(|verdict| verdict.status == Status::Failed) {
            ("is-failed", "✗ mTLS failed")
        } else if mtls().count() > 0 && mtls().all(|verdict| verdict.status == Status::Passed) {
            ("is-passed", "✓ mTLS")
        } else {
            ("is-open", "mTLS not checked")
        };
        sample.then_some(Self { class, label })
    }
}

fn describe(clusters: &[SubjectCluster], wire: Option<&Wire>) -> String {
    let of = |cluster: &SubjectCluster| {
        let mut holds = vec!["istiod"];
        holds.extend(cluster.caller.then_some("caller"));
        holds.extend(cluster.producer.then_some("producer"));
        format!("{} ({}, {}, with {})", cluster.name, place(cluster), nodes(cluster), holds.join(", "))
    };
    let all: Vec<String> = clusters.iter().map(of).collect();
    let wire = wire.map(|wire| format!("; from caller to producer: {}", wire.label)).unwrap_or_default();
    format!("On one Docker network: {}{wire}", all.join("; "))
}

fn place(cluster: &SubjectCluster) -> String {
    format!("{}/{}", cluster.region, cluster.zone)
}

fn nodes(cluster: &SubjectCluster) -> String {
    format!("{} {}", cluster.nodes, if cluster.nodes == 1 { "node" } else { "nodes" })
}

fn wide_width(clusters: usize) -> usize {
    2 * MARGIN + clusters * WIDTH + clusters.saturating_sub(1) * GAP
}

/// Side by side: calls follow a line above, the network is a line below.
fn wide(clusters: &[SubjectCluster], wire: Option<&Wire>, described: &str) -> String {
    let width = wide_width(clusters.len());
    let top = if wire.is_some() { LANE } else { MARGIN };
    let (bottom, network) = (top + HEIGHT, top + HEIGHT + 22);
    let left = |index: usize| MARGIN + index * (WIDTH + GAP);
    let mut text = open("wide", width, network + 26, described);
    for (index, cluster) in clusters.iter().enumerate() {
        let middle = left(index) + WIDTH / 2;
        text.push_str(&line("network", &format!("M{middle} {bottom}V{network}")));
        text.push_str(&boxed(cluster, left(index), top));
        for role in roles(cluster) {
            text.push_str(&pill(role.name, left(index) + role.along, top + 12, role.width));
        }
    }
    text.push_str(&line("network", &format!("M{MARGIN} {network}H{}", width - MARGIN)));
    text.push_str(&label("middle faint", width / 2, network + 20, "Docker network"));
    if let Some(wire) = wire {
        let lane = 24;
        let mut ends = Vec::new();
        text.push_str(&format!("<g class=\"{}\">\n", wire.class));
        for (index, cluster) in clusters.iter().enumerate() {
            for role in roles(cluster) {
                let x = left(index) + role.along + role.width / 2;
                ends.push(x);
                text.push_str(&line("wire", &format!("M{x} {lane}V{}", top + if role.called { 4 } else { 12 })));
                if role.called {
                    text.push_str(&head(&format!("M{x} {}l-5 -9h10z", top + 12)));
                }
            }
        }
        let (from, to) = span(&ends);
        text.push_str(&line("wire", &format!("M{from} {lane}H{to}")));
        text.push_str(&label("middle", (from + to) / 2, lane - 8, wire.label));
        text.push_str("</g>\n");
    }
    text + "</svg>\n"
}

/// Stacked: the network is a line on the left, calls follow a line on the right.
fn narrow(clusters: &[SubjectCluster], wire: Option<&Wire>, described: &str) -> String {
    let (left, gap) = (50, 14);
    let right = left + WIDTH;
    let lane = right + 22;
    let height = 2 * MARGIN + clusters.len() * (HEIGHT + gap) - gap;
    let top = |index: usize| MARGIN + index * (HEIGHT + gap);
    let mut text = open("narrow", 300, height, described);
    let network = 28;
    for (index, cluster) in clusters.iter().enumerate() {
        text.push_str(&line("network", &format!("M{network} {}H{left}", top(index) + HEIGHT / 2)));
        text.push_str(&boxed(cluster, left, top(index)));
        for role in roles(cluster) {
            text.push_str(&pill(role.name, right - 12 - role.width, top(index) + role.down, role.width));
        }
    }
    text.push_str(&line("network", &format!("M{network} {MARGIN}V{}", height - MARGIN)));
    text.push_str(&upright("faint", network - 10, height / 2, "Docker network"));
    if let Some(wire) = wire {
        let mut ends = Vec::new();
        text.push_str(&format!("<g class=\"{}\">\n", wire.class));
        for (index, cluster) in clusters.iter().enumerate() {
            for role in roles(cluster) {
                let y = top(index) + role.down + PILL / 2;
                ends.push(y);
                let to = right - if role.called { 4 } else { 12 };
                text.push_str(&line("wire", &format!("M{lane} {y}H{to}")));
                if role.called {
                    text.push_str(&head(&format!("M{} {y}l9 -5v10z", right - 12)));
                }
            }
        }
        let (from, to) = span(&ends);
        text.push_str(&line("wire", &format!("M{lane} {from}V{to}")));
        // The edge of the drawing would cut off a label beside a short line.
        let middle = ((from + to) / 2).clamp(HEIGHT / 2, height - HEIGHT / 2);
        text.push_str(&upright("", lane + 19, middle, wire.label));
        text.push_str("</g>\n");
    }
    text + "</svg>\n"
}

fn span(ends: &[usize]) -> (usize, usize) {
    let least = ends.iter().min().copied().unwrap_or_default();
    (least, ends.iter().max().copied().unwrap_or(least))
}

/// A part of the sample in a box: its position along the top if boxes are side by side, and from the top if they
/// are stacked.
struct Role {
    name: &'static str,
    width: usize,
    along: usize,
    down: usize,
    called: bool,
}

fn roles(cluster: &SubjectCluster) -> impl Iterator<Item = Role> {
    let caller = Role { name: "caller", width: 60, along: 12, down: 12, called: false };
    let producer = Role { name: "producer", width: 78, along: WIDTH - 90, down: HEIGHT - PILL - 12, called: true };
    cluster.caller.then_some(caller).into_iter().chain(cluster.producer.then_some(producer))
}

fn boxed(cluster: &SubjectCluster, x: usize, y: usize) -> String {
    let inside = x + 14;
    [
        format!("<g><title>{}: {}</title>\n", escape(&cluster.name), escape(&place(cluster))),
        format!("<rect class=\"box\" x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>\n"),
        label("name", inside, y + 62, &short(&cluster.name, FITS - 3)),
        label("faint", inside, y + 83, &short(&place(cluster), FITS)),
        label("faint", inside, y + 102, &nodes(cluster)),
        "</g>\n".to_owned(),
        pill("istiod", x + 12, y + HEIGHT - PILL - 12, 58),
    ]
    .concat()
}

fn short(text: &str, fits: usize) -> String {
    if text.chars().count() <= fits {
        return text.to_owned();
    }
    text.chars().take(fits - 1).chain(['…']).collect()
}

fn open(class: &str, width: usize, height: usize, described: &str) -> String {
    format!("<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{described}\">\n")
}

fn pill(name: &str, x: usize, y: usize, width: usize) -> String {
    let shape = format!("x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{PILL}\" rx=\"{}\"", PILL / 2);
    format!("<rect class=\"pill\" {shape}/>\n{}", label("middle", x + width / 2, y + 16, name))
}

fn line(class: &str, path: &str) -> String {
    format!("<path class=\"{class}\" d=\"{path}\"/>\n")
}

fn head(path: &str) -> String {
    format!("<path class=\"head\" d=\"{path}\"/>\n")
}

fn label(class: &str, x: usize, y: usize, text: &str) -> String {
    format!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>\n", escape(text))
}

/// A label that reads from bottom to top.
fn upright(class: &str, x: usize, y: usize, text: &str) -> String {
    let turned = format!("transform=\"translate({x} {y}) rotate(-90)\"");
    format!("<text class=\"middle {class}\" {turned}>{}</text>\n", escape(text))
}
