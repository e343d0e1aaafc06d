//! A run over time as a chart: in a terminal, and as a page.

use console::{Alignment, pad_str};

use super::Style;
use super::look::duration;
use super::titles::title;
use crate::report::timeline::{Bar, Outcome, Piece, Timeline};

mod html;

pub use html::page;

/// The narrowest readable chart.
const MIN_WIDTH: usize = 20;
/// A chart for a terminal omits shorter steps unless they are on the critical path: they are many and of little
/// interest.
const SHORTEST: f64 = 0.1;
/// Columns for seconds.
const SECONDS: usize = 6;

/// Returns the chart as text of at most this many columns, with the critical path below it. Full blocks are on the
/// critical path.
pub fn text(timeline: &Timeline, style: Style, unicode: bool, columns: usize) -> String {
    let shown: Vec<&Bar> = timeline.steps.iter().filter(|bar| is_shown(timeline, bar)).collect();
    let labels: Vec<String> = shown.iter().map(|bar| label(&bar.step, bar.cluster.as_deref())).collect();
    let widest = labels.iter().map(|label| console::measure_text_width(label)).max().unwrap_or_default();
    let width = columns.saturating_sub(widest + SECONDS + 4).max(MIN_WIDTH);
    let mut lines = vec![style.bold(&headline(timeline)), String::new()];
    for (bar, label) in shown.iter().zip(&labels) {
        let label = pad_str(label, widest, Alignment::Left, None);
        let chart = chart(timeline, bar, unicode, width);
        let seconds = format!("{:>SECONDS$}", duration(bar.end - bar.start));
        let failed = if bar.ended { String::new() } else { style.red(" not finished") };
        lines.push(match timeline.is_critical(bar) {
            true => format!("{} {chart} {seconds}{failed}", style.bold(&label)),
            false => format!("{label} {} {}{failed}", style.dim(&chart), style.dim(&seconds)),
        });
    }
    let hidden = timeline.steps.len() - shown.len();
    if hidden > 0 {
        let short = format!("{hidden} more steps shorter than {}", duration(SHORTEST));
        lines.push(style.dim(&short));
    }
    lines.extend([String::new(), style.bold("Critical path")]);
    lines.extend(pieces(timeline).iter().map(|(name, seconds, share)| {
        format!("{} {:>SECONDS$} {share:>3.0} %", pad_str(name, widest, Alignment::Left, None), duration(*seconds))
    }));
    lines.join("\n")
}

/// Returns what the run was and how it ended.
fn headline(timeline: &Timeline) -> String {
    let ended = match timeline.outcome {
        Outcome::Ready => "ready after",
        Outcome::Failed => "failed after",
        Outcome::Unknown => "last event after",
    };
    let started = timeline.started.strftime("%Y-%m-%d %H:%M:%S UTC");
    format!("{} of {started}: {ended} {}", timeline.command, duration(timeline.seconds))
}

fn is_shown(timeline: &Timeline, bar: &Bar) -> bool {
    !bar.ended
        || bar.end - bar.start >= SHORTEST
        || timeline.critical.iter().any(|piece| long(piece) && piece.is_of(bar))
}

fn long(piece: &Piece) -> bool {
    piece.end - piece.start >= SHORTEST / 2.0
}

fn label(step: &str, cluster: Option<&str>) -> String {
    match cluster {
        Some(cluster) => format!("{cluster}  {}", title(step).doing),
        None => title(step).doing.to_owned(),
    }
}

/// Returns a step's bar: spaces before and after it, full blocks on the critical path.
fn chart(timeline: &Timeline, bar: &Bar, unicode: bool, width: usize) -> String {
    let (full, light) = if unicode { ('█', '░') } else { ('#', '-') };
    let per_column = timeline.seconds.max(f64::EPSILON) / width as f64;
    let first = ((bar.start / per_column) as usize).min(width - 1);
    (0..width)
        .map(|column| {
            let (from, to) = (column as f64 * per_column, (column + 1) as f64 * per_column);
            let touches = |start: f64, end: f64| start < to && end > from;
            let critical = |piece: &&Piece| piece.is_of(bar) && touches(piece.start, piece.end);
            if timeline.critical.iter().any(|piece| critical(&piece)) {
                full
            } else if column == first || touches(bar.start, bar.end) {
                light
            } else {
                ' '
            }
        })
        .collect()
}

/// Returns the critical path for a person: each segment's title, seconds, and share of the run in percent.
fn pieces(timeline: &Timeline) -> Vec<(String, f64, f64)> {
    let of = |piece: &Piece| {
        let name = piece
            .step
            .as_ref()
            .map_or_else(|| "between steps".to_owned(), |step| label(step, piece.cluster.as_deref()));
        let seconds = piece.end - piece.start;
        (name, seconds, 100.0 * seconds / timeline.seconds.max(f64::EPSILON))
    };
    timeline.critical.iter().filter(|piece| long(piece)).map(of).collect()
}

#[cfg(test)]
mod tests;
