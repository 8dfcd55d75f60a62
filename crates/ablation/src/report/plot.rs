//! Learning curves as SVG, which stands in the page and as a file beside the Markdown.

use std::fmt::Write as _;

use entromask_report::nats::nice_step;
use entromask_report::number::short;

use super::curve::{Axis, Point};

/// One line of the plot.
pub(super) struct Curve {
    pub label: String,
    pub points: Vec<Point>,
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 48.0;
const LEGEND: f64 = 20.0;
/// Lines differ in colour and in dash, since some people do not see the one.
const COLOURS: [&str; 8] =
    ["#201e1b", "#0f5c6e", "#d9480f", "#7048a8", "#2b8a3e", "#a61e4d", "#b08900", "#1864ab"];
const DASHES: [&str; 4] = ["none", "9 4", "2 3", "12 3 2 3"];
/// Share of the longest curve at its beginning that does not decide over the height: all runs fall steeply there.
const STEEP: f64 = 0.15;

/// The plot of the loss over `axis`.
pub(super) fn render(curves: &[Curve], axis: Axis, title: &str) -> String {
    let frame = Frame::around(curves, axis);
    let legend = curves.len().div_ceil(2) as f64 * LEGEND;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        HEIGHT + legend
    );
    frame.axes(&mut svg, title);
    for (index, curve) in curves.iter().enumerate() {
        let (colour, dash) = style(index);
        let path = frame.path(&curve.points, axis);
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>"
        );
        let (x, y) = (LEFT + (index % 2) as f64 * 420.0, HEIGHT + (index / 2) as f64 * LEGEND + 4.0);
        let _ = writeln!(
            svg,
            "<path d=\"M{x} {y}h34\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>\
             <text x=\"{}\" y=\"{}\" fill=\"#201e1b\">{}</text>",
            x + 42.0,
            y + 4.0,
            escaped(&curve.label)
        );
    }
    svg + "</svg>\n"
}

/// What the plot shows, for who does not see it.
pub(super) fn in_words(curves: &[Curve], title: &str) -> String {
    let ends =
        curves.iter().filter_map(|curve| Some(format!("{} {:.3}", curve.label, curve.points.last()?.loss)));
    format!("Validation loss in nats over {title}; at the end: {}", ends.collect::<Vec<_>>().join(", "))
}

/// What part of the plane is shown.
struct Frame {
    right: f64,
    low: f64,
    high: f64,
    steps: [f64; 2],
}

impl Frame {
    fn around(curves: &[Curve], axis: Axis) -> Self {
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let right = points().map(|point| point.at(axis)).fold(0.0, f64::max).max(1e-9);
        let lowest = points().map(|point| point.loss).fold(f64::MAX, f64::min);
        let late = curves.iter().flat_map(|curve| {
            let end = curve.points.last().map_or(0.0, |point| point.tokens);
            curve.points.iter().filter(move |point| point.tokens >= STEEP * end)
        });
        let highest = late.map(|point| point.loss).fold(lowest, f64::max);
        let step = nice_step((highest - lowest).max(0.01) / 6.0);
        let (low, high) = ((lowest / step).floor() * step, (highest / step).ceil() * step);
        Self { right, low, high: high.max(low + step), steps: [nice_step(right / 7.0), step] }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + value / self.right * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, loss: f64) -> f64 {
        TOP + (self.high - loss) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)
    }

    /// The line from where it comes into the frame.
    fn path(&self, points: &[Point], axis: Axis) -> String {
        let shown: Vec<_> = points.iter().skip_while(|point| point.loss > self.high).collect();
        // The way into the frame, on the line to the last point above it.
        let above = points.len() - shown.len();
        let entry = above.checked_sub(1).zip(shown.first()).map(|(last, first)| {
            let (from, share) =
                (&points[last], (points[last].loss - self.high) / (points[last].loss - first.loss));
            (from.at(axis) + share * (first.at(axis) - from.at(axis)), self.high)
        });
        let places =
            entry.into_iter().chain(shown.iter().map(|point| (point.at(axis), point.loss.min(self.high))));
        let corners: Vec<_> = places.map(|(x, y)| format!("{:.1} {:.1}", self.x(x), self.y(y))).collect();
        if corners.is_empty() { String::new() } else { format!("M{}", corners.join("L")) }
    }

    fn axes(&self, svg: &mut String, title: &str) {
        let bottom = HEIGHT - BOTTOM;
        let [x_step, y_step] = self.steps;
        let decimals =
            (-y_step.log10().floor()).max(0.0) as usize + usize::from(y_step.to_string().ends_with("25"));
        for index in 0..=((self.high - self.low) / y_step).round() as u32 {
            let value = self.low + f64::from(index) * y_step;
            let y = self.y(value);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{}\" stroke=\"#dcd7cc\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#5f5a52\">{value:.decimals$}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0
            );
        }
        for index in 0..=(self.right / x_step * (1.0 + 1e-9)).floor() as u32 {
            let value = f64::from(index) * x_step;
            let _ = writeln!(
                svg,
                "<path d=\"M{:.1} {bottom}v5\" stroke=\"#5f5a52\"/><text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#5f5a52\">{}</text>",
                self.x(value),
                self.x(value),
                bottom + 18.0,
                short(value)
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{}\" fill=\"#5f5a52\">validation loss, nats, over {}</text>",
            bottom + 34.0,
            escaped(title)
        );
    }
}

fn style(index: usize) -> (&'static str, &'static str) {
    (COLOURS[index % COLOURS.len()], DASHES[index % DASHES.len()])
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(label: &str, losses: &[f64]) -> Curve {
        let point = |(step, &loss): (usize, &f64)| {
            let at = step as f64 * 100.0;
            Point { step: step as u64, tokens: at, flops: at, seconds: at, loss }
        };
        Curve { label: label.into(), points: losses.iter().enumerate().map(point).collect() }
    }

    #[test]
    fn lines_stay_within_the_frame_and_names_are_escaped() {
        let curves = [curve("a < b", &[10.0, 7.0, 6.0, 5.0]), curve("c", &[10.0, 6.5, 5.9, 5.1])];
        let svg = render(&curves, Axis::Tokens, "tokens");
        assert!(svg.contains("a &lt; b") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let lines: Vec<_> =
            svg.lines().filter(|line| line.starts_with("<path") && line.contains("fill=\"none\"")).collect();
        assert_eq!(lines.len(), 2);
        for line in lines {
            let path = line.split('"').nth(1).expect("a path");
            for place in path.trim_start_matches('M').split('L') {
                let (x, y) = place.split_once(' ').expect("two numbers");
                let [x, y] = [x, y].map(|number| number.parse::<f64>().expect("a number"));
                assert!(
                    (LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y),
                    "{place}"
                );
            }
        }
        assert_ne!(style(0), style(4), "no two of eight lines look the same");
    }

    #[test]
    fn curves_that_do_not_move_are_drawn() {
        let svg = render(&[curve("flat", &[5.0, 5.0])], Axis::Seconds, "seconds");
        assert!(!svg.contains("NaN"), "{svg}");
    }
}
