//! Charts as SVG, drawn for a page whose style sheet has the colours.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 24.0;
/// Height of a bar with the space around it.
const BAR: f64 = 26.0;
const PLOT_HEIGHT: f64 = 260.0;
const BOTTOM: f64 = 40.0;
const TOP: f64 = 12.0;
/// Room for the title of an upright axis.
const PLOT_TOP: f64 = 32.0;

/// A bar of two parts, one after the other.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) parts: [f64; 2],
    /// The style of its colour.
    pub(super) class: usize,
}

/// A line through points.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// The style of its colour.
    pub(super) class: usize,
}

/// What an axis shows.
pub(super) struct Axis {
    pub(super) title: &'static str,
    /// Places of marks, with what is written there. Lines lie between the first and the last one.
    pub(super) marks: Vec<(f64, String)>,
}

/// Horizontal bars; the second part of each is paler.
pub(super) fn bars(unit: &str, bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.parts.iter().sum::<f64>()).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let scale = (WIDTH - LEFT - RIGHT - 70.0) / most;
    let height = BAR * bars.len() as f64 + 2.0 * TOP;
    let mut svg = open(height);
    for (index, Bar { name, parts: [first, second], class }) in bars.iter().enumerate() {
        let y = TOP + BAR * index as f64;
        let text_y = y + BAR / 2.0 + 1.0;
        let (first_width, second_width) = (first * scale, second * scale);
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{text_y:.1}\" class=\"end\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{first_width:.1}\" height=\"{}\" class=\"c{class}\"/>\
             <rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{second_width:.1}\" height=\"{}\" class=\"c{class} pale\"/>\
             <text x=\"{:.1}\" y=\"{text_y:.1}\">{} {unit}</text>",
            LEFT - 8.0,
            escape(name),
            BAR - 8.0,
            LEFT + first_width,
            BAR - 8.0,
            LEFT + first_width + second_width + 6.0,
            short(first + second),
        );
    }
    svg + "</svg>"
}

/// Lines over two axes, on which the callers' values lie as they are: whoever wants a logarithm takes it.
pub(super) fn lines(x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let ends = |axis: &Axis| {
        let first = axis.marks.first().map_or(0.0, |mark| mark.0);
        let last = axis.marks.last().map_or(1.0, |mark| mark.0);
        (first, (last - first).max(f64::MIN_POSITIVE))
    };
    let (plot_left, plot_width) = (60.0, WIDTH - 60.0 - RIGHT - 140.0);
    let ((x_first, x_length), (y_first, y_length)) = (ends(x), ends(y));
    let at_x = |value: f64| plot_left + (value - x_first) / x_length * plot_width;
    let at_y = |value: f64| PLOT_TOP + PLOT_HEIGHT - (value - y_first) / y_length * PLOT_HEIGHT;
    let mut svg = open(PLOT_TOP + PLOT_HEIGHT + BOTTOM);
    for (value, text) in &x.marks {
        let (x, bottom) = (at_x(*value), PLOT_TOP + PLOT_HEIGHT);
        let _ = write!(
            svg,
            "<path d=\"M{x:.1} {PLOT_TOP}V{bottom}\" class=\"grid\"/><text x=\"{x:.1}\" y=\"{}\" class=\"middle\">{}</text>",
            bottom + 14.0,
            escape(text)
        );
    }
    for (value, text) in &y.marks {
        let y = at_y(*value);
        let _ = write!(
            svg,
            "<path d=\"M{plot_left} {y:.1}h{plot_width:.1}\" class=\"grid\"/><text x=\"{}\" y=\"{y:.1}\" class=\"end\">{}</text>",
            plot_left - 6.0,
            escape(text)
        );
    }
    for (index, Line { name, points, class }) in lines.iter().enumerate() {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(*y))).collect();
        let legend = PLOT_TOP + 8.0 + 18.0 * index as f64;
        let _ = write!(
            svg,
            "<polyline points=\"{}\" class=\"l{class}\"/><path d=\"M{:.1} {legend}h16\" class=\"l{class}\"/>\
             <text x=\"{:.1}\" y=\"{legend}\">{}</text>",
            points.join(" "),
            WIDTH - RIGHT - 130.0,
            WIDTH - RIGHT - 110.0,
            escape(name)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{}\" class=\"middle\">{}</text><text x=\"4\" y=\"10\">{}</text></svg>",
        plot_left + plot_width / 2.0,
        PLOT_TOP + PLOT_HEIGHT + 32.0,
        escape(x.title),
        escape(y.title)
    );
    svg
}

/// Marks at powers of ten that enclose the values, on an axis of logarithms to the base of ten.
pub(super) fn logarithmic(title: &'static str, values: impl Iterator<Item = f64>) -> Axis {
    let logarithms: Vec<f64> = values.filter(|value| *value > 0.0).map(f64::log10).collect();
    let first = logarithms.iter().copied().fold(f64::INFINITY, f64::min).floor();
    let last = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max).ceil().max(first + 1.0);
    let mut marks = Vec::new();
    let mut power = first;
    while power <= last {
        marks.push((power, short(10_f64.powf(power))));
        power += 1.0;
    }
    Axis { title, marks }
}

/// Few marks from zero to the largest value.
pub(super) fn linear(title: &'static str, values: impl Iterator<Item = f64>) -> Axis {
    // Where nothing is above zero, the line lies at the foot of the chart.
    let most = values.fold(0.0, f64::max);
    spread(title, [0.0, if most > 0.0 { most } else { 1.0 }].into_iter())
}

/// Few marks that enclose the values.
pub(super) fn spread(title: &'static str, values: impl Iterator<Item = f64>) -> Axis {
    let (least, most) =
        values.fold((0.0_f64, f64::MIN_POSITIVE), |(least, most), value| (least.min(value), most.max(value)));
    let length = most - least;
    let step = 10_f64.powf((length / 4.0).log10().ceil());
    let step = [step / 5.0, step / 2.0, step].into_iter().find(|step| length / step <= 5.0).unwrap_or(step);
    let (mut count, last) = ((least / step).floor(), (most / step).ceil());
    let mut marks = Vec::new();
    while count <= last {
        marks.push((count * step, short(count * step)));
        count += 1.0;
    }
    Axis { title, marks }
}

/// Text that is no markup.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn open(height: f64) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" xmlns=\"http://www.w3.org/2000/svg\">")
}

/// A number with as many digits as a reader wants.
fn short(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 || value == value.round() {
        format!("{value:.1}").trim_end_matches(".0").to_owned()
    } else {
        format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_axis_encloses_its_values() {
        let axis = linear("x", [3.0, 47.0].into_iter());
        assert_eq!(axis.marks.first().unwrap().0, 0.0);
        assert!(axis.marks.last().unwrap().0 >= 47.0, "{:?}", axis.marks);
        assert!((3..=7).contains(&axis.marks.len()), "{:?}", axis.marks);
    }

    #[test]
    fn an_axis_of_time_begins_before_zero() {
        let axis = spread("s", [-3.0, 7.6].into_iter());
        assert!(axis.marks.first().unwrap().0 <= -3.0 && axis.marks.last().unwrap().0 >= 7.6, "{:?}", axis.marks);
        assert!(axis.marks.iter().any(|(place, text)| *place == 0.0 && text == "0"), "{:?}", axis.marks);
    }

    #[test]
    fn nothing_at_all_is_a_line_at_the_foot() {
        let axis = linear("failed", [0.0, 0.0].into_iter());
        assert_eq!((axis.marks.first().unwrap().0, axis.marks.last().unwrap().0), (0.0, 1.0));
    }

    #[test]
    fn a_logarithmic_axis_has_powers_of_ten() {
        let axis = logarithmic("x", [0.4, 20.0].into_iter());
        let texts: Vec<&str> = axis.marks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["0.1", "1", "10", "100"]);
    }

    #[test]
    fn names_are_no_markup() {
        let svg = bars("ms", &[Bar { name: "<b>".to_owned(), parts: [1.0, 0.0], class: 0 }]);
        assert!(svg.contains("&lt;b&gt;") && !svg.contains("<b>"));
    }
}
