//! Learning curves as SVG, which stands in the page and as a file beside the Markdown.

use std::fmt::Write as _;

use super::curve::{Axis, Point};
use super::frame::{BOTTOM, Frame, LEFT, RIGHT, TOP, WIDTH};
use crate::escape::escaped;

/// One line of the plot: the mean of a system's runs.
pub(super) struct Curve {
    pub label: String,
    pub points: Vec<Point>,
    /// The lowest and the highest loss of a run at each point; empty if there is one run only.
    pub spread: Vec<[f64; 2]>,
}

const SOFT: &str = "#5f5a52";
const INK: &str = "#201e1b";
/// Of the text, large enough to be read where the plot is half as wide.
const SIZE: f64 = 16.0;
/// Lines differ in colour and in dash, since some people do not see the one.
const COLOURS: [&str; 8] =
    ["#201e1b", "#0f5c6e", "#d9480f", "#7048a8", "#2b8a3e", "#a61e4d", "#b08900", "#1864ab"];
const DASHES: [&str; 4] = ["none", "9 4", "2 3", "12 3 2 3"];
/// Where the legend begins, and the height of a line of it.
const LEGEND: (f64, f64) = (BOTTOM + 68.0, 26.0);
/// So many letters of a label have room beside another one.
const HALF: usize = 42;

impl Curve {
    /// The lowest loss at each point.
    pub fn lowest(&self) -> impl Iterator<Item = f64> {
        self.extremes(0)
    }

    /// The highest loss at each point.
    pub fn highest(&self) -> impl Iterator<Item = f64> {
        self.extremes(1)
    }

    fn extremes(&self, end: usize) -> impl Iterator<Item = f64> {
        let points = self.points.iter().enumerate();
        points.map(move |(index, point)| self.spread.get(index).map_or(point.loss, |spread| spread[end]))
    }
}

/// The plot of the loss over `axis`.
pub(super) fn render(curves: &[Curve], axis: Axis) -> String {
    let frame = Frame::around(curves, axis);
    let (legend, rows) = legend(curves);
    let height = LEGEND.0 + rows as f64 * LEGEND.1 - 8.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"{SIZE}\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    svg += &head(axis);
    svg += &loss_axis(&frame);
    svg += &long_axis(&frame, axis);
    svg += &bands(&frame, curves);
    svg += &lines(&frame, curves);
    svg + &legend + "</svg>\n"
}

/// What the plot shows, for who does not see it.
pub(super) fn in_words(curves: &[Curve], axis: Axis) -> String {
    let ends =
        curves.iter().filter_map(|curve| Some(format!("{} {:.3}", curve.label, curve.points.last()?.loss)));
    let over = names(axis).1;
    format!("Validation loss in nats over {over}; at the end: {}", ends.collect::<Vec<_>>().join(", "))
}

/// What has to be known to read the plot, in sentences.
pub(super) fn caption(curves: &[Curve], axis: Axis) -> Vec<String> {
    let frame = Frame::around(curves, axis);
    let mut said = vec![];
    if curves.iter().any(|curve| !curve.spread.is_empty()) {
        said.push(
            "A line is the mean over seeds, the band around it goes from the lowest to the highest seed."
                .into(),
        );
    }
    if curves.iter().flat_map(Curve::highest).any(|loss| loss > frame.high) {
        let high = frame.losses().pop().unwrap_or_default().1;
        said.push(format!(
            "Losses above {high} nats, where runs begin, are cut off, so that the ends can be told apart."
        ));
    }
    if let Some(stretch) = frame.scale.stretch {
        let left = frame.scale.label(frame.scale.left, &[]);
        said.push(format!(
            "The axis is logarithmic, because the longest line reaches {stretch:.1} × as far as the shortest; it begins at {left}."
        ));
    }
    said
}

/// What the plot goes over, in its title and below the axis.
fn names(axis: Axis) -> (&'static str, &'static str) {
    match axis {
        Axis::Tokens => ("tokens", "tokens trained on"),
        Axis::Flops => ("compute", "floating-point operations, teacher and scoring charged"),
        Axis::Seconds => ("time", "time, teacher and scoring charged"),
    }
}

fn head(axis: Axis) -> String {
    let title = format!("Validation loss over {}", names(axis).0);
    format!(
        "<text x=\"{LEFT}\" y=\"30\" fill=\"{INK}\" font-size=\"20\" font-weight=\"600\">{title}</text>\n{}",
        text([LEFT - 8.0, TOP - 14.0], "end", "nats")
    )
}

/// The losses, each with a line across the plot.
fn loss_axis(frame: &Frame) -> String {
    let mut svg = String::new();
    for (loss, label) in frame.losses() {
        let y = frame.y(loss);
        let _ = write!(svg, "<path d=\"M{LEFT} {y:.1}H{RIGHT}\" stroke=\"#dcd7cc\"/>");
        svg += &text([LEFT - 8.0, y + 5.5], "end", &label);
    }
    svg
}

/// The values that the losses go over.
fn long_axis(frame: &Frame, axis: Axis) -> String {
    let mut svg = String::new();
    let ticks = frame.scale.ticks();
    for &value in &ticks {
        let x = frame.x(value);
        let _ = write!(svg, "<path d=\"M{x:.1} {BOTTOM}v6\" stroke=\"{SOFT}\"/>");
        svg += &text([x, BOTTOM + 23.0], "middle", &frame.scale.label(value, &ticks));
    }
    let log = if frame.scale.stretch.is_some() { " (log scale)" } else { "" };
    svg + &text([f64::midpoint(LEFT, RIGHT), BOTTOM + 46.0], "middle", &format!("{}{log}", names(axis).1))
}

/// The spread of each system's runs, below all lines.
fn bands(frame: &Frame, curves: &[Curve]) -> String {
    let mut svg = String::new();
    for (index, curve) in curves.iter().enumerate() {
        let (path, (colour, _)) = (frame.band(curve), style(index));
        if !path.is_empty() {
            let _ = writeln!(svg, "<path d=\"{path}\" fill=\"{colour}\" fill-opacity=\"0.14\"/>");
        }
    }
    svg
}

/// The means, each with a dot where it ends.
fn lines(frame: &Frame, curves: &[Curve]) -> String {
    let mut svg = String::new();
    for (index, curve) in curves.iter().enumerate() {
        let (path, stroke) = (frame.line(&curve.points), stroke(index));
        let _ = write!(svg, "<path d=\"{path}\" fill=\"none\" {stroke}/>");
        if let Some(place) = path.rsplit(['M', 'L']).next().and_then(|place| place.split_once(' ')) {
            let (x, y) = place;
            let _ = write!(svg, "<circle cx=\"{x}\" cy=\"{y}\" r=\"4\" fill=\"{}\"/>", style(index).0);
        }
        svg.push('\n');
    }
    svg
}

/// The names of the lines, and how many rows they fill: in two columns, if the names are short.
fn legend(curves: &[Curve]) -> (String, usize) {
    let columns = if curves.iter().all(|curve| curve.label.chars().count() <= HALF) { 2 } else { 1 };
    let mut svg = String::new();
    for (index, curve) in curves.iter().enumerate() {
        let x = LEFT + (index % columns) as f64 * 410.0;
        let y = LEGEND.0 + (index / columns) as f64 * LEGEND.1;
        let (stroke, label) = (stroke(index), escaped(&curve.label));
        let _ = write!(svg, "<path d=\"M{x} {y}h36\" {stroke}/>");
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{}\" fill=\"{INK}\">{label}</text>", x + 44.0, y + 5.5);
    }
    (svg, curves.len().div_ceil(columns))
}

fn text([x, y]: [f64; 2], anchor: &str, words: &str) -> String {
    let words = escaped(words);
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{SOFT}\">{words}</text>\n")
}

fn stroke(index: usize) -> String {
    let (colour, dash) = style(index);
    format!("stroke=\"{colour}\" stroke-width=\"2.5\" stroke-dasharray=\"{dash}\"")
}

fn style(index: usize) -> (&'static str, &'static str) {
    (COLOURS[index % COLOURS.len()], DASHES[(index + index / COLOURS.len()) % DASHES.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Validations at equal distances from `start` on.
    fn curve(label: &str, start: f64, losses: &[f64]) -> Curve {
        let point = |(step, &loss): (usize, &f64)| {
            let at = step as f64 * 100.0;
            Point { step: step as u64, tokens: at, flops: start + at, seconds: start + at, loss }
        };
        let points: Vec<_> = losses.iter().enumerate().map(point).collect();
        let spread = points.iter().map(|point| [point.loss - 0.1, point.loss + 0.2]).collect();
        Curve { label: label.into(), points, spread }
    }

    fn unlike() -> [Curve; 2] {
        [curve("a < b", 0.0, &[10.0, 7.0, 6.0, 5.0]), curve("c", 3000.0, &[10.0, 6.5, 5.9, 5.1])]
    }

    /// The places that a path goes through.
    fn places(path: &str) -> Vec<(f64, f64)> {
        let numbers =
            path.trim_matches(['M', 'Z']).split('L').map(|place| place.split_once(' ').expect("two numbers"));
        numbers.map(|(x, y)| (x.parse().expect("a number"), y.parse().expect("a number"))).collect()
    }

    /// The paths of lines or of bands.
    fn paths<'a>(svg: &'a str, kind: &str) -> Vec<&'a str> {
        let lines = svg.lines().filter(|line| line.starts_with("<path") && line.contains(kind));
        lines.map(|line| line.split('"').nth(1).expect("a path")).collect()
    }

    #[test]
    fn lines_and_bands_stay_within_the_frame_and_names_are_escaped() {
        for axis in [Axis::Tokens, Axis::Flops, Axis::Seconds] {
            let svg = render(&unlike(), axis);
            assert!(svg.contains("a &lt; b") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            let (lines, bands) = (paths(&svg, "fill=\"none\""), paths(&svg, "fill-opacity"));
            assert_eq!((lines.len(), bands.len()), (2, 2));
            for (x, y) in lines.into_iter().chain(bands).flat_map(places) {
                assert!((LEFT..=RIGHT).contains(&x) && (TOP..=BOTTOM).contains(&y), "{axis:?}: {x} {y}");
            }
        }
        let styles: std::collections::BTreeSet<_> = (0..16).map(style).collect();
        assert_eq!(styles.len(), 16, "no two of sixteen lines look the same");
    }

    #[test]
    fn a_band_goes_from_the_lowest_to_the_highest_run() {
        let one = curve("one", 0.0, &[5.0, 5.0]);
        let frame = Frame::around(std::slice::from_ref(&one), Axis::Tokens);
        let corners = places(&frame.band(&one));
        let expected = [(0.0, 5.2), (100.0, 5.2), (100.0, 4.9), (0.0, 4.9)];
        assert_eq!(corners.len(), expected.len());
        for ((x, y), (at, loss)) in corners.into_iter().zip(expected) {
            assert!((x - frame.x(at)).abs() < 0.06 && (y - frame.y(loss)).abs() < 0.06, "{x} {y}");
        }
        let alone = Curve { spread: vec![], ..one };
        assert!(frame.band(&alone).is_empty() && !caption(&[alone], Axis::Tokens).concat().contains("band"));
    }

    #[test]
    fn a_line_comes_in_where_the_way_to_its_first_point_does() {
        let curves = unlike();
        let frame = Frame::around(&curves, Axis::Flops);
        assert!((frame.scale.left - 100.0).abs() < 1e-9 && frame.high < 10.0);
        // The line from 10 at 0 to 7 at 100 is in the frame at 100 only; the other one comes in from above.
        let [first, second] = curves.map(|curve| places(&frame.line(&curve.points))[0]);
        assert!((first.0 - LEFT).abs() < 0.06 && (first.1 - frame.y(7.0)).abs() < 0.06, "{first:?}");
        let at = 3000.0 + 100.0 * (10.0 - frame.high) / 3.5;
        assert!((second.0 - frame.x(at)).abs() < 0.06 && (second.1 - TOP).abs() < 0.06, "{second:?}");
    }

    #[test]
    fn captions_say_what_is_cut_off_and_what_is_stretched() {
        let shown = caption(&unlike(), Axis::Flops).join(" ");
        assert!(shown.contains("the lowest to the highest seed") && shown.contains("11.0 ×"), "{shown}");
        assert!(shown.contains("are cut off") && shown.contains("begins at 100."), "{shown}");
        assert!(render(&unlike(), Axis::Flops).contains("charged (log scale)<"));
        let flat = curve("flat", 0.0, &[5.0, 5.0]);
        assert!(!caption(&[flat], Axis::Flops).concat().contains("axis"));
    }

    #[test]
    fn curves_that_do_not_move_are_drawn_and_long_names_have_a_row_each() {
        let long = "a name that is longer than half of the plot is wide";
        let svg = render(&[curve("flat", 0.0, &[5.0, 5.0]), curve(long, 0.0, &[5.0, 5.0])], Axis::Seconds);
        assert!(!svg.contains("NaN") && svg.contains(long), "{svg}");
        assert_eq!(legend(&unlike()).1, 1);
        assert_eq!(legend(&[curve("flat", 0.0, &[5.0]), curve(long, 0.0, &[5.0])]).1, 2);
    }
}
