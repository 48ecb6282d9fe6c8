//! A real Prometheus that scrapes gateways: it is started as users start it, by `deploy/monitoring/prometheus`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::client::Client;
use crate::gateway::Addresses;
use crate::wait;

/// What a query gives: labels and values. What is not a number is not there.
pub type Vector = BTreeMap<String, f64>;

/// A running Prometheus. It is ended when it is dropped.
pub struct Prometheus {
    address: SocketAddr,
    n_targets: usize,
    process: Child,
}

/// An alert that is pending or firing.
#[derive(Clone, Debug)]
pub struct Alert {
    /// Its name.
    pub name: String,
    /// What its author has to say, with the values filled in.
    pub annotations: Vec<String>,
}

impl Prometheus {
    /// Starts one on the status addresses of gateways and waits until it answers.
    ///
    /// # Panics
    /// When it ends instead, such as for want of the program.
    pub async fn start(interval: &str, targets: &[SocketAddr]) -> Self {
        let address = Addresses::reserve().http;
        let script = monitoring().join("prometheus");
        let mut command = Command::new(script);
        command.args(["--listen", &address.to_string(), "--interval", interval]);
        command.args(targets.iter().map(ToString::to_string));
        let process = command.process_group(0).stdin(Stdio::null()).spawn().unwrap();
        let mut prometheus = Self { address, n_targets: targets.len(), process };
        let is_ready = async || {
            let ended = prometheus.process.try_wait().unwrap();
            assert!(ended.is_none(), "Prometheus ended: {ended:?}; tests/run setup installs it");
            let mut client = Client::try_http1(address).await.ok()?;
            let request = client.request("GET", &address.to_string(), "/-/ready", &[], "");
            client.try_send(request).await.ok().filter(|answer| answer.status == 200)
        };
        wait::until("Prometheus is ready", is_ready).await;
        prometheus
    }

    /// The value of a query now.
    ///
    /// # Panics
    /// When Prometheus does not understand it.
    pub async fn query(&self, query: &str) -> Vector {
        let data = self.get(&format!("/api/v1/query?query={}", encoded(query))).await;
        let result = data["result"].as_array().unwrap();
        if data["resultType"] == "scalar" {
            return Vector::from([(String::new(), number(&result[1]))]);
        }
        let values = result.iter().map(|series| (series["metric"].to_string(), number(&series["value"][1])));
        values.filter(|(_, value)| !value.is_nan()).collect()
    }

    /// The values that a label has in the series of a selector: Grafana's `label_values`.
    pub async fn label_values(&self, selector: &str, label: &str) -> BTreeSet<String> {
        let values = self.get(&format!("/api/v1/label/{label}/values?match[]={}", encoded(selector))).await;
        values.as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    }

    /// The alerts that are pending or firing.
    pub async fn alerts(&self) -> Vec<Alert> {
        let data = self.get("/api/v1/alerts").await;
        let alert = |alert: &Value| Alert {
            name: alert["labels"]["alertname"].as_str().unwrap().to_owned(),
            annotations: alert["annotations"].as_object().unwrap().values().map(ToString::to_string).collect(),
        };
        data["alerts"].as_array().unwrap().iter().map(alert).collect()
    }

    /// The names of all alerts that it judges.
    ///
    /// # Panics
    /// When one of them cannot be judged.
    pub async fn alert_names(&self) -> BTreeSet<String> {
        let data = self.get("/api/v1/rules").await;
        let rules = data["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
        let sound = rules.inspect(|rule| assert_ne!(rule["health"], "err", "{rule}"));
        sound.map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until everything has been scraped so many times more.
    pub async fn wait_for_scrapes(&self, n: usize) {
        // Every scrape of a target leaves a sample of this, also one that fails.
        let counts = async || self.query("count_over_time(up[1h])").await;
        let before = counts().await;
        let are_through = async || {
            let now = counts().await;
            let is_through =
                |(target, count): (&String, &f64)| *count >= before.get(target).copied().unwrap_or_default() + n as f64;
            (now.len() == self.n_targets && now.iter().all(is_through)).then_some(())
        };
        wait::until(&format!("{n} scrapes"), are_through).await;
    }

    async fn get(&self, target: &str) -> Value {
        let mut client = Client::http1(self.address).await;
        let answer = client.get(&self.address.to_string(), target, &[]).await;
        let mut answer: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer["status"], "success", "{target}: {answer}");
        answer["data"].take()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // The script takes its files away when it is told to end.
        let _ = kill_process_group(Pid::from_child(&self.process), Signal::TERM);
        let _ = self.process.wait();
    }
}

/// The directory with the dashboards and alerts.
#[must_use]
pub fn monitoring() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/monitoring"))
}

fn number(value: &Value) -> f64 {
    value.as_str().unwrap().parse().unwrap()
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        write!(encoded, "%{byte:02X}").unwrap();
    }
    encoded
}
