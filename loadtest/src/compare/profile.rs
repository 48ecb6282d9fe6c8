//! Where the CPU time of a proxy goes: samples that `perf` takes of it under load, drawn as a flame graph.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use inferno::collapse::Collapse as _;
use inferno::collapse::perf::Folder;
use inferno::flamegraph::{self, Direction};

use super::scenario::Kind;
use super::turn::Bench;
use crate::interrupt;
use crate::load::Load;
use crate::peers::{Peer, Running};

/// The scenario under which samples are taken.
pub(super) const SCENARIO: &str = "small-64";
/// The peers of which they are taken.
pub(super) const PEERS: [Peer; 2] = [Peer::Penstock, Peer::Bare];
/// A clock of the kernel, because virtual machines have no counters of the processor.
const EVENT: &str = "cpu-clock";
/// Samples a second: no divisor of what timers do, and few enough for copies of stacks.
const FREQUENCY: &str = "199";
/// How the callers of a function are found: nothing is built with frame pointers, and the stacks of futures are deep.
/// With less than the most that there is, one path appears as several.
const CALLERS: &str = "dwarf,65528";

/// The functions of Penstock that refuse what is ambiguous: they are never inlined.
const GATE: [&str; 2] = ["gateway::gate::admit", "gateway::framing::Framer::admit"];

/// Samples of a peer.
pub(super) struct Drawn {
    /// The flame graph.
    pub(super) svg: Vec<u8>,
    /// The CPU time of the strict gate as a share of all other CPU time, in percent. `None` when no sample has it.
    pub(super) gate: Option<f64>,
}

impl Bench<'_> {
    /// Takes samples of a peer under the load of a scenario, and draws them.
    pub(super) fn profile(&self, kind: Kind, running: &Running) -> anyhow::Result<Drawn> {
        let Kind::Closed { exchange, connections, body } = kind else { bail!("not a scenario to take samples of") };
        let load = Load::closed(self.target(running, exchange, connections, body))?;
        interrupt::sleep(Duration::from_secs(self.plan.warm_up.into()))?;
        let samples = self.directory.join("perf.data");
        record(running.process.id(), self.plan.seconds, &samples)?;
        drop(load);
        draw(running.peer.name(), &samples)
    }
}

fn record(pid: u32, seconds: u32, samples: &Path) -> anyhow::Result<()> {
    let mut perf = perf();
    perf.args(["record", "--quiet", "-e", EVENT, "-F", FREQUENCY, "--call-graph", CALLERS, "--output"]).arg(samples);
    perf.args(["--pid", &pid.to_string(), "--", "sleep", &seconds.to_string()]);
    run(&mut perf, Stdio::null())
}

fn draw(name: &str, samples: &Path) -> anyhow::Result<Drawn> {
    let mut perf = perf();
    // A file, because there may be more than fits into memory twice.
    let text = samples.with_extension("txt");
    let file = File::create(&text).with_context(|| format!("create {}", text.display()))?;
    run(perf.args(["script", "--no-inline", "--input"]).arg(samples), file.into())?;
    let mut folded = Vec::new();
    Folder::default().collapse_file(Some(&text), &mut folded).context("read the samples of perf")?;
    std::fs::remove_file(text).and_then(|()| std::fs::remove_file(samples)).context("remove the samples of perf")?;
    let folded = String::from_utf8_lossy(&folded);
    Ok(Drawn { svg: graph(name, &folded)?, gate: addition(&folded, &GATE) })
}

/// What functions add to the samples without them, in percent. `None` when they are in no stack: that they cost nothing is
/// less likely than that they are called something else by now, or that the program has no symbols.
fn addition(folded: &str, functions: &[&str]) -> Option<f64> {
    let (mut with, mut without) = (0.0, 0.0);
    for (stack, count) in folded.lines().filter_map(|line| line.rsplit_once(' ')) {
        let count: f64 = count.parse().unwrap_or(0.0);
        let is_in = functions.iter().any(|function| stack.split(';').any(|frame| frame.contains(function)));
        *(if is_in { &mut with } else { &mut without }) += count;
    }
    (with > 0.0 && without > 0.0).then(|| 100.0 * with / without)
}

/// Draws stacks that have been counted, the outermost functions at the top.
fn graph(name: &str, folded: &str) -> anyhow::Result<Vec<u8>> {
    let mut options = flamegraph::Options::default();
    options.title = format!("{name}: samples of {EVENT} in {SCENARIO}");
    options.direction = Direction::Inverted;
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, folded.lines(), &mut svg).context("draw the samples")?;
    Ok(svg)
}

fn perf() -> Command {
    let mut perf = Command::new("perf");
    perf.stdin(Stdio::null());
    perf
}

fn run(perf: &mut Command, output: Stdio) -> anyhow::Result<()> {
    let started = perf.stdout(output).stderr(Stdio::piped()).spawn();
    let child = match started {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("perf is not installed (Debian package linux-perf)"),
        other => other.context("start perf")?,
    };
    let output = child.wait_with_output().context("wait for perf")?;
    if !output.status.success() {
        bail!("perf ends with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_names_the_functions_of_its_stacks() {
        let svg = graph("it", "proxy;main;serve 3\nproxy;main;wait 1\n").unwrap();
        let svg = String::from_utf8(svg).unwrap();
        assert!(svg.contains("serve (3 samples, 75.00%)"), "{svg}");
        assert!(svg.contains("it: samples of cpu-clock"), "{svg}");
    }

    #[test]
    fn what_functions_add_is_told_by_the_stacks_that_they_are_in() {
        let folded = "p;read;gateway::framing::Framer::admit 2\np;gateway::gate::admit;normalize 1\np;write 100\n";
        assert!((addition(folded, &GATE).unwrap() - 3.0).abs() < 1e-9);
    }

    #[test]
    fn functions_that_no_stack_has_are_not_measured() {
        for folded in ["", "p;main;write 100\n", "p;[unknown];[unknown] 100\n"] {
            assert_eq!(addition(folded, &GATE), None, "{folded}");
        }
    }

    #[test]
    fn what_perf_says_is_the_reason() {
        let error = run(Command::new("sh").args(["-c", "echo no such event >&2; exit 3"]), Stdio::null()).unwrap_err();
        assert!(error.to_string().contains("no such event"), "{error}");
    }
}
