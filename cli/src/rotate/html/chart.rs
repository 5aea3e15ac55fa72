//! Charts as SVG, whose colours are those of the page.

use std::fmt::Write as _;

use super::{escape, span};

/// Of the drawing, in its own units.
const WIDTH: f64 = 900.0;
const LABELS: f64 = 210.0;
const ROW: f64 = 22.0;
const AXIS: f64 = 24.0;

/// A bar from one moment to another, in milliseconds since 1970.
pub(super) struct Bar {
    pub(super) row: String,
    pub(super) from: i64,
    /// `None` where it goes on.
    pub(super) to: Option<i64>,
    pub(super) class: &'static str,
}

/// Bars on rows of their names, over the same time.
pub(super) fn bars(title: &str, bars: &[Bar], end: i64) -> String {
    let Some(start) = bars.iter().map(|bar| bar.from).min() else {
        return String::new();
    };
    let mut rows: Vec<&str> = Vec::new();
    for bar in bars {
        if !rows.contains(&&*bar.row) {
            rows.push(&bar.row);
        }
    }
    let height = rows.len() as f64 * ROW + AXIS;
    let x = |time: i64| LABELS + place(time - start, end - start) * (WIDTH - LABELS - 8.0);
    let mut out = open(title, height);
    axis(&mut out, end - start, height);
    for (i, row) in rows.iter().enumerate() {
        let y = i as f64 * ROW;
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LABELS - 10.0,
            y + 15.0,
            escape(row)
        );
        for bar in bars.iter().filter(|bar| bar.row == *row) {
            let to = bar.to.unwrap_or(end);
            let (left, right) = (x(bar.from), x(to));
            let _ = writeln!(
                out,
                "<rect class=\"{}\" x=\"{left:.1}\" y=\"{}\" width=\"{:.1}\" height=\"{}\" rx=\"2\">\
                 <title>{}: {}</title></rect>",
                bar.class,
                y + 3.0,
                (right - left).max(2.0),
                ROW - 6.0,
                escape(row),
                span(to - bar.from)
            );
        }
    }
    out + "</svg>\n"
}

/// A rate over time: each point is the end of a span, in milliseconds since the start, and its rate.
pub(super) fn rate(title: &str, points: &[(i64, f64)]) -> String {
    let (Some(end), Some(most)) = (
        points.iter().map(|point| point.0).max(),
        points.iter().map(|point| point.1).max_by(f64::total_cmp),
    ) else {
        return String::new();
    };
    let height = 140.0 + AXIS;
    let x = |time: i64| LABELS + place(time, end) * (WIDTH - LABELS - 8.0);
    let y = |rate: f64| 132.0 - rate / most.max(1.0) * 120.0;
    let mut out = open(title, height);
    axis(&mut out, end, height);
    for rate in [0.0, most / 2.0, most] {
        let _ = writeln!(
            out,
            "<text class=\"faint\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{rate:.0}/s</text>",
            LABELS - 10.0,
            y(rate) + 4.0
        );
    }
    let mut path = String::new();
    let mut from = 0;
    for (to, rate) in points {
        let start = if path.is_empty() { 'M' } else { 'L' };
        let y = y(*rate);
        let _ = write!(path, "{start}{:.1} {y:.1} L{:.1} {y:.1} ", x(from), x(*to));
        from = *to;
    }
    let _ = writeln!(out, "<path class=\"rate\" d=\"{}\"/>", path.trim_end());
    out + "</svg>\n"
}

fn open(title: &str, height: f64) -> String {
    let title = escape(title);
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>\n"
    )
}

/// Five moments since the start.
fn axis(out: &mut String, length: i64, height: f64) {
    for i in 0..=4_i64 {
        let x = LABELS + i as f64 / 4.0 * (WIDTH - LABELS - 8.0);
        let anchor = match i {
            0 => "start",
            4 => "end",
            _ => "middle",
        };
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{x}\" x2=\"{x}\" y1=\"0\" y2=\"{}\"/>\
             <text class=\"faint\" x=\"{x}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            height - AXIS,
            height - 8.0,
            span(length * i / 4)
        );
    }
}

fn place(time: i64, length: i64) -> f64 {
    time as f64 / length.max(1) as f64
}
