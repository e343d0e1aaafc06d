//! The picture: calls over time and their latencies, with a band for each fault. Shapes are stretched to the width of the page, so
//! that text, which is outside of them, keeps its size on a phone and on a wide screen.

use crate::lifecycle::experiment::{Happened, Interval, Results, intervals};
use crate::report::escape::html as escape;

/// The size of a plot in its own units; the page stretches it.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 100.0;
/// The steps between labels of the time axis, in seconds; the first with few enough labels for 400 pixels is used.
const TIME_STEPS: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0];
const MAX_TIMES: f64 = 6.0;

/// Returns both plots, and the list of what happened.
pub(super) fn picture(results: &Results) -> String {
    let seconds = results.calls.seconds;
    let intervals = intervals(&results.sent, seconds);
    let bands = bands(results);
    let marks = marks(results);
    let axis = time_axis(seconds);
    format!(
        "<figure class=\"card plot\">\n<figcaption>Calls per second, by when they were sent \
         <span class=\"key answered\">answered</span> <span class=\"key lost\">lost</span></figcaption>\n{}{axis}\
         <figcaption>Latency of answered calls, logarithmic <span class=\"key median\">median</span> \
         <span class=\"key slowest\">slowest</span>{}</figcaption>\n{}{axis}{}</figure>\n",
        rates(&intervals, seconds, results.calls.qps, &bands, &marks),
        if results.p99_limit.is_some() { " <span class=\"key limit\">limit of p99</span>" } else { "" },
        latencies(&intervals, seconds, results.p99_limit, &bands, &marks),
        happened(results),
    )
}

/// Returns a plot: shapes, labels of the values at the left, and marks above.
fn plot(title: &str, shapes: &str, labels: &[(f64, String)], marks: &str) -> String {
    let lines: String =
        labels.iter().map(|(y, _)| format!("<path class=\"grid\" d=\"M0 {y:.2}H{WIDTH}\"/>\n")).collect();
    let labels: String = labels
        .iter()
        .map(|(y, label)| format!("<span class=\"value\" style=\"top:{y:.2}%\">{label}</span>\n"))
        .collect();
    format!(
        "{marks}<div class=\"area\">\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{title}\">\n{lines}{shapes}</svg>\n{labels}</div>\n"
    )
}

/// Returns a band for each fault, and a line for each rollout.
fn bands(results: &Results) -> String {
    let seconds = results.calls.seconds;
    let x = |time: f64| (time / seconds).clamp(0.0, 1.0) * WIDTH;
    let band = |one: &Happened| match one.end {
        Some(end) => {
            let (from, to) = (x(one.begin), x(end));
            format!(
                "<rect class=\"band\" x=\"{from:.2}\" y=\"0\" width=\"{:.2}\" height=\"{HEIGHT}\"/>\n",
                to - from
            )
        }
        None => format!("<path class=\"moment\" d=\"M{:.2} 0V{HEIGHT}\"/>\n", x(one.begin)),
    };
    results.happened.iter().map(band).collect()
}

/// Returns the number of each fault and rollout, where it begins. Those that would cover each other are on two lines.
fn marks(results: &Results) -> String {
    let seconds = results.calls.seconds;
    let mut last = f64::NEG_INFINITY;
    let (mut low, mut tall) = (false, "");
    let mut marks = String::new();
    for (index, one) in results.happened.iter().enumerate() {
        let left = (one.begin / seconds).clamp(0.0, 1.0) * 100.0;
        low = left - last < 8.0 && !low;
        last = left;
        let class = if low { " class=\"low\"" } else { "" };
        tall = if low { " tall" } else { tall };
        marks.push_str(&format!("<b{class} style=\"left:{left:.2}%\">{}</b>", index + 1));
    }
    format!("<div class=\"marks{tall}\">{marks}</div>\n")
}

fn time_axis(seconds: f64) -> String {
    let step = TIME_STEPS.into_iter().find(|step| seconds / step <= MAX_TIMES).unwrap_or(seconds);
    let mut axis = String::from("<div class=\"times\">");
    let mut time = 0.0;
    while time <= seconds {
        let left = 100.0 * time / seconds;
        // A label at the end would leave the figure.
        let class = if left > 97.0 { " class=\"last\"" } else { "" };
        axis.push_str(&format!("<span{class} style=\"left:{left:.2}%\">{time} s</span>"));
        time += step;
    }
    axis.push_str("</div>\n");
    axis
}

/// Returns bars of answered and lost calls.
fn rates(intervals: &[Interval], seconds: f64, qps: u32, bands: &str, marks: &str) -> String {
    let rate = |calls: usize, interval: &Interval| calls as f64 / interval.seconds;
    // Room above the bars, in which the bands are seen.
    let top = f64::from(qps) * 1.25;
    let mut shapes = bands.to_owned();
    for one in intervals {
        // A gap between bars, unless they are thin.
        let width = one.seconds / seconds * WIDTH;
        let (x, gap) = (one.from / seconds * WIDTH, if intervals.len() > 60 { 0.0 } else { width * 0.15 });
        let mut bar = |class: &str, from: f64, height: f64| {
            if height > 0.0 {
                shapes.push_str(&format!(
                    "<rect class=\"{class}\" x=\"{x:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{height:.2}\"/>\n",
                    HEIGHT - from - height,
                    width - gap
                ));
            }
        };
        let (answered, lost) = (rate(one.answered, one) / top * HEIGHT, rate(one.lost, one) / top * HEIGHT);
        bar("answered", 0.0, answered);
        bar("lost", answered, lost);
    }
    let label = |part: f64| {
        let rate = f64::from(qps) * part;
        (HEIGHT - rate / top * HEIGHT, format!("{rate}"))
    };
    let labels = [label(1.0), label(0.5), label(0.0)];
    plot("Calls per second", &shapes, &labels, marks)
}

/// Returns lines of the median and of the slowest call. A decade has the same height everywhere.
fn latencies(intervals: &[Interval], seconds: f64, limit: Option<f64>, bands: &str, marks: &str) -> String {
    let values = || intervals.iter().flat_map(|one| [one.p50, one.max]).flatten().chain(limit);
    if intervals.iter().all(|one| one.max.is_none()) {
        return "<p>No call was answered.</p>\n".into();
    }
    let low = values().fold(f64::INFINITY, f64::min).max(0.1).log10().floor();
    let high = values().fold(0.0, f64::max).max(0.1).log10().ceil().max(low + 1.0);
    let y = |millis: f64| HEIGHT - ((millis.max(0.1).log10() - low) / (high - low)).clamp(0.0, 1.0) * HEIGHT;
    let mut shapes = bands.to_owned();
    for (class, value) in
        [("slowest", (|one: &Interval| one.max) as fn(&Interval) -> Option<f64>), ("median", |one| one.p50)]
    {
        // A line is interrupted where no call was answered. An interval alone is a short line.
        let mut path = String::new();
        let mut joined = false;
        for one in intervals {
            let Some(millis) = value(one) else {
                joined = false;
                continue;
            };
            let x = |time: f64| time / seconds * WIDTH;
            path.push_str(&format!("{}{:.2} {:.2}", if joined { "L" } else { "M" }, x(one.from), y(millis)));
            path.push_str(&format!("H{:.2}", x(one.from + one.seconds)));
            joined = true;
        }
        shapes.push_str(&format!("<path class=\"line {class}\" d=\"{path}\"/>\n"));
    }
    if let Some(limit) = limit {
        shapes.push_str(&format!("<path class=\"limit\" d=\"M0 {:.2}H{WIDTH}\"/>\n", y(limit)));
    }
    let mut labels = Vec::new();
    let mut decade = low;
    while decade <= high {
        let millis = 10f64.powf(decade);
        let label = if millis >= 1000.0 { format!("{} s", millis / 1000.0) } else { format!("{millis} ms") };
        labels.push((y(millis), label));
        decade += 1.0;
    }
    plot("Latency of answered calls", &shapes, &labels, marks)
}

/// Returns what happened, with the numbers of the picture.
fn happened(results: &Results) -> String {
    let item = |one: &Happened| {
        let when = match one.end {
            Some(end) => format!("{:.1} to {end:.1} s", one.begin),
            None => format!("{:.1} s", one.begin),
        };
        format!("<li>{} <span class=\"when\">{when}</span></li>\n", escape(&one.what))
    };
    match results.happened.is_empty() {
        true => String::new(),
        false => {
            format!("<ol class=\"happened\">\n{}</ol>\n", results.happened.iter().map(item).collect::<String>())
        }
    }
}
