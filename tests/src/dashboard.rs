//! Dashboards as their makers write them, with the variables that Grafana fills in.

use std::path::Path;

use serde_json::Value;

use crate::prometheus::Prometheus;

/// A variable whose values are those that a label has.
#[derive(Clone, Debug)]
struct Variable {
    name: String,
    selector: String,
    label: String,
}

/// The queries of a dashboard.
#[derive(Clone, Debug)]
pub struct Dashboard {
    variables: Vec<Variable>,
    /// Each with the place that it is at.
    pub queries: Vec<(String, String)>,
}

impl Dashboard {
    /// Reads one of Grafana's.
    ///
    /// # Panics
    /// When a panel has no query, or a variable is of a kind that is not known here.
    #[must_use]
    pub fn of_grafana(path: &Path) -> Self {
        let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no text in {}", path.display())).to_owned();
        let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
        let variables = variables.filter(|variable| variable["type"] != "datasource").map(|variable| {
            assert_eq!(variable["type"], "query", "{variable}");
            Variable::of(&text(&variable["name"]), &text(&variable["query"]["query"]))
        });
        let mut queries = Vec::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let place = format!("{}: {}", text(&dashboard["title"]), text(&panel["title"]));
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{place} asks nothing");
            queries.extend(targets.iter().map(|target| (place.clone(), text(&target["expr"]))));
        }
        Self { variables: variables.collect(), queries }
    }

    /// Reads a list: a query or the definition of a variable on a line, comments begin with `#` and are places.
    #[must_use]
    pub fn of_list(text: &str) -> Self {
        let (mut variables, mut queries, mut place) = (Vec::new(), Vec::new(), String::new());
        for line in text.lines().filter(|line| !line.is_empty()) {
            match (line.strip_prefix("# "), line.strip_prefix('$')) {
                (Some(comment), _) => comment.clone_into(&mut place),
                (None, Some(definition)) => {
                    let (name, query) = definition.split_once(" = ").unwrap();
                    variables.push(Variable::of(name, query));
                }
                (None, None) => queries.push((place.clone(), line.to_owned())),
            }
        }
        Self { variables, queries }
    }

    /// The queries with all values of the variables chosen, at a time that stands still: what `time()` adds is no news.
    ///
    /// # Panics
    /// When a variable has no values.
    pub async fn filled_in(&self, prometheus: &Prometheus, time: f64) -> Vec<(String, String)> {
        let mut values =
            vec![("$__rate_interval".to_owned(), "1m".to_owned()), ("time()".to_owned(), time.to_string())];
        for Variable { name, selector, label } in &self.variables {
            let found = prometheus.label_values(&replaced(selector, &values), label).await;
            assert!(!found.is_empty(), "${name} has no values: label {label} of {selector}");
            values.push((format!("${name}"), found.into_iter().collect::<Vec<_>>().join("|")));
        }
        // The longer name first: one may be the beginning of another.
        values.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        let queries = self.queries.iter().map(|(place, query)| (place.clone(), replaced(query, &values)));
        queries.inspect(|(place, query)| assert!(!query.contains('$'), "{place}: {query}")).collect()
    }
}

impl Variable {
    fn of(name: &str, query: &str) -> Self {
        let arguments = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let (selector, label) = arguments.rsplit_once(", ").unwrap();
        Self { name: name.to_owned(), selector: selector.to_owned(), label: label.to_owned() }
    }
}

fn replaced(text: &str, values: &[(String, String)]) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}
