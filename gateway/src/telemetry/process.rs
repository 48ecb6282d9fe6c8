//! Numbers of the process under the names of ingress-nginx (`nginx_process_*`), read when they are scraped.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::{Collector, Desc};
use prometheus::proto;

use super::{family, time};
use crate::connections::Connections;

const PREFIX: &str = "nginx_ingress_controller_nginx_process_";

/// Shows connections, requests, memory and processor time.
pub(super) struct ProcessCollector {
    connections: Arc<Connections>,
    n_requests: Arc<AtomicU64>,
    /// Seconds since 1970 at the start of the process.
    started: f64,
    /// The registry tells collectors apart by this.
    desc: Desc,
}

impl ProcessCollector {
    pub(super) fn new(connections: Arc<Connections>, n_requests: Arc<AtomicU64>) -> prometheus::Result<Self> {
        let name = format!("{PREFIX}connections");
        let desc = Desc::new(name, "Open connections by state".to_owned(), Vec::new(), HashMap::new())?;
        Ok(Self { connections, n_requests, started: time::unix_seconds() as f64, desc })
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let counts = self.connections.counts();
        let mut families = vec![
            by_state(
                "connections",
                "Open connections by state",
                proto::MetricType::GAUGE,
                &[
                    ("active", counts.active),
                    ("reading", counts.reading),
                    ("waiting", counts.waiting),
                    ("writing", counts.writing),
                ],
            ),
            by_state(
                "connections_total",
                "Connections since the start by state",
                proto::MetricType::COUNTER,
                &[
                    ("accepted", usize::try_from(counts.accepted).unwrap_or(usize::MAX)),
                    ("handled", usize::try_from(counts.accepted).unwrap_or(usize::MAX)),
                ],
            ),
            single(
                "requests_total",
                "Requests since the start",
                proto::MetricType::COUNTER,
                self.n_requests.load(Ordering::Relaxed) as f64,
            ),
            single("oldest_start_time_seconds", "Start of the process", proto::MetricType::GAUGE, self.started),
            single("num_procs", "Processes", proto::MetricType::GAUGE, 1.0),
        ];
        if let Some(usage) = Usage::read() {
            families.extend([
                single("cpu_seconds_total", "Processor time", proto::MetricType::COUNTER, usage.cpu_seconds),
                single("resident_memory_bytes", "Resident memory", proto::MetricType::GAUGE, usage.resident),
                single("virtual_memory_bytes", "Virtual memory", proto::MetricType::GAUGE, usage.virtual_),
                single("read_bytes_total", "Bytes read", proto::MetricType::COUNTER, usage.read),
                single("write_bytes_total", "Bytes written", proto::MetricType::COUNTER, usage.written),
            ]);
        }
        families
    }
}

/// What the kernel says about the process.
struct Usage {
    cpu_seconds: f64,
    resident: f64,
    virtual_: f64,
    read: f64,
    written: f64,
}

impl Usage {
    /// `None` where there is no `/proc`.
    fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name of the process stands in parentheses and may hold spaces (proc(5)).
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
        let of_io = |name: &str| {
            let line = io.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
        };
        Some(Self {
            cpu_seconds: (field(11)? + field(12)?) / ticks,
            virtual_: field(20)?,
            resident: field(21)? * rustix::param::page_size() as f64,
            read: of_io("rchar:"),
            written: of_io("wchar:"),
        })
    }
}

fn single(name: &str, help: &str, kind: proto::MetricType, value: f64) -> proto::MetricFamily {
    family::single(format!("{PREFIX}{name}"), help, kind, value)
}

fn by_state(name: &str, help: &str, kind: proto::MetricType, states: &[(&str, usize)]) -> proto::MetricFamily {
    let mut family = family::family(format!("{PREFIX}{name}"), help, kind);
    for (state, count) in states {
        family.mut_metric().push(family::sample(family::pairs(&[("state", state)]), kind, *count as f64));
    }
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_what_the_process_uses() {
        let usage = Usage::read().unwrap();
        assert!(usage.resident > 1e6, "{}", usage.resident);
        assert!(usage.virtual_ > usage.resident);
        assert!(usage.cpu_seconds >= 0.0);
    }
}
