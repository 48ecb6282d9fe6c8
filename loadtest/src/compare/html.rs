//! The report as one page, which needs nothing but itself.

use std::fmt::Write as _;

use super::chart::{Axis, Bar, Line, bars, escape, linear, lines, logarithmic};
use super::markdown::{Table, figures, goal_table, invalid, measured, peers, preface};
use super::results::{Figure, Figures, Results};
use super::scenario::{ALL, Kind, Scenario};
use crate::peers::Peer;

const STYLE: &str = include_str!("report.css");
/// Quantiles that a chart of latencies has.
const LATENCY: [f64; 8] = [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999];

/// The whole page.
pub(super) fn render(results: &Results) -> String {
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
        Kind::Edits => {
            let times = bar_chart(results, scenario, "ms until live (p50)", |figures| Some([figures.at(0.5)?, 0.0]));
            let failures =
                bar_chart(results, scenario, "requests failed beside", |figures| Some([figures.failures?, 0.0]));
            times + &failures
        }
        Kind::Closed { .. } | Kind::Paced { .. } | Kind::Routes { .. } => {
            let cpu = bar_chart(results, scenario, "µs", |figures| Some([figures.user?, figures.system?]));
            format!(
                "<p>CPU time of the proxy for a request; the part in the kernel is paler.</p>{cpu}{}",
                latency(results, scenario)
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

/// Latencies at quantiles, which lie further apart the nearer they are to the end.
fn latency(results: &Results, scenario: &Scenario) -> String {
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
    let x = Axis { title: "quantile of the latency", marks: marks.into() };
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
