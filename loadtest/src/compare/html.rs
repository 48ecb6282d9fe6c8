//! The report as one page, which needs nothing but itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::chart::{Axis, Bar, Line, bars, escape, linear, lines, logarithmic, spread};
use super::markdown::{Table, figures, goal_table, invalid, measured, peers, preface};
use super::profile;
use super::results::{Figure, Figures, Profile, Results, Span};
use super::scenario::{ALL, Change, Kind, Scenario};
use crate::peers::Peer;
use crate::statistics::median;

const STYLE: &str = include_str!("report.css");
/// Quantiles that a chart of latencies has.
const LATENCY: [f64; 8] = [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999];

/// The whole page; `graph` reads a flame graph.
pub(super) fn render(results: &Results, graph: impl Fn(&str) -> Option<Vec<u8>>) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Proxies side by side</title><style>{STYLE}</style></head><body>\
         <h1>Proxies side by side</h1><ul>"
    );
    for line in preface(results) {
        let _ = write!(page, "<li>{}</li>", text(&line));
    }
    page.push_str("</ul><h2>Goals of Penstock</h2>");
    page.push_str(&table(&goal_table(results)));
    for (title, chart) in overviews(results) {
        let _ = write!(page, "<h2>{title}</h2>{chart}");
    }
    for scenario in measured(results) {
        let _ = write!(page, "<h2>{} <code>{}</code></h2>", escape(scenario.title), scenario.id);
        page.push_str(&chart(results, scenario));
        page.push_str(&table(&figures(results, scenario)));
        if scenario.id == profile::SCENARIO {
            page.push_str(&profiles(results, &graph));
        }
    }
    page.push_str("<h2>Peers</h2>");
    page.push_str(&table(&peers(results)));
    let invalid = invalid(results);
    if !invalid.is_empty() {
        page.push_str("<h2>Turns that count for nothing</h2><ul>");
        for line in invalid {
            let _ = write!(page, "<li>{}</li>", escape(&line));
        }
        page.push_str("</ul>");
    }
    page + "</body></html>\n"
}

/// Flame graphs, each a document of its own in the page, so that it can be searched and zoomed into.
fn profiles(results: &Results, graph: impl Fn(&str) -> Option<Vec<u8>>) -> String {
    let mut page = String::new();
    for Profile { peer, file, .. } in &results.profiles {
        let name = peer.name();
        let _ = write!(page, "<h3>Where the CPU time of {name} goes</h3>");
        let _ = match file.as_ref().map(|file| (file, graph(file))) {
            Ok((_, Some(svg))) => {
                let svg = STANDARD.encode(svg);
                write!(page, "<iframe title=\"{name}\" src=\"data:image/svg+xml;base64,{svg}\"></iframe>")
            }
            Ok((file, None)) => write!(page, "<p>{file} is gone.</p>"),
            Err(reason) => write!(page, "<p>It could not be seen: {}</p>", escape(reason)),
        };
    }
    page
}

/// Charts over several scenarios.
fn overviews(results: &Results) -> Vec<(&'static str, String)> {
    let connections = [("small-64", 64.0), ("small-256", 256.0)];
    let routes: Vec<(&str, f64)> = ALL
        .iter()
        .filter_map(|scenario| match scenario.kind {
            Kind::Routes { n } => Some((scenario.id, f64::from(n).log10())),
            _ => None,
        })
        .collect();
    let of_connections = over(results, &connections, |figures| figures.requests_a_second);
    let of_routes = over(results, &routes, |figures| Some(figures.memory? / 1048576.0));
    let mut charts = Vec::new();
    let values =
        |lines: &[Line]| lines.iter().flat_map(|line| line.points.clone()).map(|point| point.1).collect::<Vec<_>>();
    if of_connections.iter().any(|line| line.points.len() > 1) {
        let x = Axis { title: "connections", marks: connections.map(|(_, n)| (n, n.to_string())).into() };
        let y = linear("requests/s", values(&of_connections).into_iter());
        charts.push(("Throughput by connections", lines(&x, &y, &of_connections)));
    }
    if of_routes.iter().any(|line| line.points.len() > 1) {
        let x = logarithmic("routes", routes.iter().map(|(_, logarithm)| 10_f64.powf(*logarithm)));
        let y = linear("MiB", values(&of_routes).into_iter());
        charts.push(("Memory by routes", lines(&x, &y, &of_routes)));
    }
    charts
}

/// A line for each peer through the medians of several scenarios.
fn over(results: &Results, scenarios: &[(&str, f64)], figure: Figure) -> Vec<Line> {
    let line = |peer: Peer| {
        let points = scenarios.iter().filter_map(|(id, x)| Some((*x, results.median(id, peer, figure)?)));
        Line { name: peer.name().to_owned(), points: points.collect(), class: class(peer) }
    };
    results.peers.iter().map(|info| line(info.peer)).filter(|line| !line.points.is_empty()).collect()
}

/// The charts of one scenario.
fn chart(results: &Results, scenario: &Scenario) -> String {
    match scenario.kind {
        Kind::Idle { .. } => {
            bar_chart(results, scenario, "KiB each", |figures| Some([figures.memory? / figures.samples? / 1024.0, 0.0]))
        }
        Kind::Changes { of, .. } => {
            let live = match of {
                Change::Route => {
                    "<p>Time until an edit is live.</p>".to_owned()
                        + &quantile_chart(results, scenario, "quantile of the edits")
                }
                Change::Endpoints | Change::Process => String::new(),
            };
            format!(
                "{live}<p>Requests that fail as time goes by, all rounds together; the first change is at 0.</p>{}\
                 <p>The slowest answer of each quarter of a second, in the middle of the rounds.</p>{}",
                over_time(results, scenario, |span| f64::from(span.failed), Merge::Sum),
                over_time(results, scenario, |span| span.longest, Merge::Median)
            )
        }
        Kind::Closed { .. } | Kind::Paced { .. } | Kind::Routes { .. } | Kind::Certificates { .. } => {
            let cpu = bar_chart(results, scenario, "µs", |figures| Some([figures.user?, figures.system?]));
            format!(
                "<p>CPU time of the proxy for a request; the part in the kernel is paler.</p>{cpu}{}",
                quantile_chart(results, scenario, "quantile of the latency")
            )
        }
    }
}

fn bar_chart(results: &Results, scenario: &Scenario, unit: &str, parts: fn(&Figures) -> Option<[f64; 2]>) -> String {
    let bar = |peer: Peer| {
        let mut of_rounds: Vec<[f64; 2]> =
            results.valid(scenario.id, peer).filter_map(|turn| parts(&turn.figures)).collect();
        of_rounds.sort_by(|a, b| a.iter().sum::<f64>().total_cmp(&b.iter().sum()));
        let parts = *of_rounds.get(of_rounds.len() / 2)?;
        Some(Bar { name: peer.name().to_owned(), parts, class: class(peer) })
    };
    let mut all: Vec<Bar> = results.peers.iter().filter_map(|info| bar(info.peer)).collect();
    all.sort_by(|a, b| a.parts.iter().sum::<f64>().total_cmp(&b.parts.iter().sum()));
    bars(unit, &all)
}

/// How the same moment of several rounds becomes one.
#[derive(Clone, Copy)]
enum Merge {
    Sum,
    Median,
}

/// Something that is seen beside changes, as time goes by.
fn over_time(results: &Results, scenario: &Scenario, of: fn(&Span) -> f64, merge: Merge) -> String {
    let line = |peer: Peer| {
        let mut moments = BTreeMap::<i64, Vec<f64>>::new();
        for span in results.valid(scenario.id, peer).flat_map(|turn| &turn.figures.timeline) {
            #[expect(clippy::cast_possible_truncation, reason = "milliseconds of a turn")]
            moments.entry((span.at * 1e3) as i64).or_default().push(of(span));
        }
        let merged = |values: &[f64]| match merge {
            Merge::Sum => Some(values.iter().sum()),
            Merge::Median => median(values),
        };
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a turn")]
        let point = |(at, values): (&i64, &Vec<f64>)| Some((*at as f64 / 1e3, merged(values)?));
        Line { name: peer.name().to_owned(), points: moments.iter().filter_map(point).collect(), class: class(peer) }
    };
    let mut all: Vec<Line> =
        results.peers.iter().map(|info| line(info.peer)).filter(|line| !line.points.is_empty()).collect();
    if all.is_empty() {
        return String::new();
    }
    let points = || all.iter().flat_map(|line| line.points.clone());
    let x = spread("seconds", points().map(|point| point.0));
    let y = match merge {
        Merge::Sum => linear("failed", points().map(|point| point.1)),
        Merge::Median => logarithmic("ms", points().map(|point| point.1.max(1e-2))),
    };
    if matches!(merge, Merge::Median) {
        for point in all.iter_mut().flat_map(|line| &mut line.points) {
            point.1 = point.1.max(1e-2).log10();
        }
    }
    lines(&x, &y, &all)
}

/// Times at quantiles, which lie further apart the nearer they are to the end.
fn quantile_chart(results: &Results, scenario: &Scenario, title: &'static str) -> String {
    let place = |q: f64| -(1.0 - q).log10();
    let line = |peer: Peer| {
        let point = |q: &f64| Some((place(*q), results.quantile(scenario.id, peer, *q)?.max(1e-3).log10()));
        Line { name: peer.name().to_owned(), points: LATENCY.iter().filter_map(point).collect(), class: class(peer) }
    };
    let all: Vec<Line> =
        results.peers.iter().map(|info| line(info.peer)).filter(|line| !line.points.is_empty()).collect();
    if all.is_empty() {
        return String::new();
    }
    let marks = [0.1, 0.5, 0.9, 0.99, 0.999].map(|q| (place(q), format!("p{}", (q * 1000.0_f64).round() / 10.0)));
    let x = Axis { title, marks: marks.into() };
    let y = logarithmic("ms", all.iter().flat_map(|line| &line.points).map(|point| 10_f64.powf(point.1)));
    lines(&x, &y, &all)
}

/// The colour of a peer, the same everywhere.
fn class(peer: Peer) -> usize {
    match peer {
        Peer::Penstock => 0,
        Peer::PenstockWithoutLog => 1,
        Peer::Bare => 2,
        Peer::Nginx => 3,
        Peer::Haproxy => 4,
        Peer::Envoy => 5,
        Peer::Traefik => 6,
        Peer::Caddy => 7,
    }
}

fn table(Table { heads, rows }: &Table) -> String {
    let heads: String = heads.iter().map(|head| format!("<th>{}</th>", escape(head))).collect();
    let row = |cells: &Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", text(cell))).collect();
        format!("<tr>{cells}</tr>")
    };
    format!("<div class=\"wide\"><table><tr>{heads}</tr>{}</table></div>", rows.iter().map(row).collect::<String>())
}

/// The little of Markdown that cells have: emphasis and code.
fn text(markdown: &str) -> String {
    let mut html = escape(markdown);
    for (mark, tag) in [("**", "strong"), ("`", "code")] {
        let mut parts = html.split(mark);
        let mut replaced = parts.next().unwrap_or_default().to_owned();
        for (index, part) in parts.enumerate() {
            let _ = write!(replaced, "<{}{tag}>{part}", if index % 2 == 0 { "" } else { "/" });
        }
        html = replaced;
    }
    html
}
