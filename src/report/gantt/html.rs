//! The chart as a self-contained page.

use super::{headline, label, pieces};
use crate::report::escape::html as escape;
use crate::report::look::duration;
use crate::report::page::document;
use crate::report::timeline::{Bar, Timeline};

const STYLE: &str = include_str!("style.css");

/// Returns a document without scripts and without external resources.
pub fn page(timeline: &Timeline, environment: &str) -> String {
    let environment = escape(environment);
    let headline = escape(&headline(timeline));
    let rows: String = timeline.steps.iter().map(|bar| row(timeline, bar)).collect();
    let ticks = ticks(timeline.seconds);
    let path: String = pieces(timeline)
        .iter()
        .map(|(name, seconds, share)| {
            format!(
                "<tr><td>{}</td><td>{}</td><td><meter min=\"0\" max=\"100\" value=\"{share:.0}\"></meter> {share:.0} %</td></tr>\n",
                escape(name),
                duration(*seconds)
            )
        })
        .collect();
    let main = format!(
        "<h1>{environment}: {headline}</h1>\n<p>Filled bars are the critical path: the steps that must become \
            faster for the run to become faster.</p>\n<div class=\"chart\">\n<div \
            class=\"ticks\">{ticks}</div>\n{rows}</div>\n<h2>Critical path</h2>\n<table>\n{path}</table>\n"
    );
    document(&format!("kindmesh {environment}: {headline}"), STYLE, &main)
}

fn row(timeline: &Timeline, bar: &Bar) -> String {
    let percent = |seconds: f64| 100.0 * seconds / timeline.seconds.max(f64::EPSILON);
    let span = |class: &str, start: f64, end: f64| {
        let (left, width) = (percent(start), percent(end - start));
        format!("<i class=\"{class}\" style=\"left:{left:.2}%;width:{width:.2}%\"></i>")
    };
    let seconds = duration(bar.end - bar.start);
    let class = if bar.ended { "bar" } else { "bar open" };
    let mut spans = span(class, bar.start, bar.end);
    for piece in timeline.critical.iter().filter(|piece| piece.is_of(bar)) {
        spans.push_str(&span("critical", piece.start, piece.end));
    }
    let name = escape(&label(&bar.step, bar.cluster.as_deref()));
    let mut told = format!("{name}: {seconds}, from {}", duration(bar.start));
    for wait in &bar.waits {
        told.push_str(&format!("; waited for {}", escape(wait)));
    }
    let is_critical = if timeline.is_critical(bar) { " is-critical" } else { "" };
    format!(
        "<div class=\"row{is_critical}\" title=\"{told}\"><span class=\"name\">{name}</span>\
         <span class=\"track\">{spans}</span><span class=\"seconds\">{seconds}</span></div>\n"
    )
}

/// Returns at most nine tick marks, at round seconds.
fn ticks(seconds: f64) -> String {
    let every = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];
    let every = every.into_iter().find(|every| seconds / every <= 9.0).unwrap_or(1800.0);
    let count = (seconds / every) as u32;
    let tick = |number: u32| {
        let at = f64::from(number) * every;
        let left = 100.0 * at / seconds.max(f64::EPSILON);
        format!("<b style=\"left:{left:.2}%\">{at} s</b>")
    };
    (0..=count).map(tick).collect()
}
