//! `gateway explain`: which route takes a request, and why the others do not.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, bail};
use gateway::Question;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use routing::{Explanation, Outcome, Verdict};

use super::flags::{ExplainFlags, OutputFlag};
use super::manifests;

/// The longest explanation that is read from a gateway, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// Runs the command: 0 when a route takes the request, 1 when none does, 2 for bad usage.
pub(crate) fn explain(flags: &ExplainFlags) -> anyhow::Result<ExitCode> {
    let question = match Question::new(&flags.method, &flags.headers, &flags.url) {
        Ok(question) => question,
        Err(error) => {
            eprintln!("gateway: {error}");
            return Ok(ExitCode::from(2));
        }
    };
    let explanation = match &flags.admin {
        Some(admin) => ask_gateway(admin, &question)?,
        None => question.ask(&manifests::load(&flags.manifests, &flags.meaning)?.live.pin())?,
    };
    let mut output = std::io::stdout().lock();
    let written = match flags.output {
        OutputFlag::Json => serde_json::to_writer_pretty(&mut output, &explanation)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(output)),
        OutputFlag::Text => print(&question, &explanation, &mut output),
    };
    // Whoever closed the pipe has seen enough.
    let _ = written;
    let is_taken = explanation.candidates.iter().any(|candidate| candidate.verdict == Verdict::Wins);
    Ok(if is_taken { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ask_gateway(admin: &str, question: &Question) -> anyhow::Result<Explanation> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start threads")?;
    runtime.block_on(async {
        let url = format!("{}/explain?{}", admin.trim_end_matches('/'), question.to_query());
        let url = url.parse().with_context(|| format!("{admin:?} is not the URL of an admin endpoint"))?;
        let client: Client<_, Empty<&[u8]>> = Client::builder(TokioExecutor::new()).build_http();
        let answer = client.get(url).await.with_context(|| format!("ask {admin}"))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("read the answer of {admin}: {error}"))?.to_bytes();
        if !status.is_success() {
            bail!("{admin} answers {status}: {}", String::from_utf8_lossy(&body).trim_end());
        }
        serde_json::from_slice(&body).with_context(|| format!("read the answer of {admin}"))
    })
}

fn print(question: &Question, explanation: &Explanation, output: &mut impl std::io::Write) -> std::io::Result<()> {
    let Explanation { host, candidates, outcome } = explanation;
    writeln!(output, "{} {}", question.method, question.url)?;
    match host {
        Some(host) => writeln!(output, "host      {host}")?,
        None => writeln!(output, "host      none fits")?,
    }
    for (number, candidate) in (1..).zip(candidates) {
        let verdict = match &candidate.verdict {
            Verdict::Wins => "takes it".to_owned(),
            Verdict::Shadowed => "would take it".to_owned(),
            Verdict::PathDiffers => "path differs".to_owned(),
            Verdict::MethodDiffers => "method differs".to_owned(),
            Verdict::HeaderDiffers(name) => format!("header {name} differs"),
            Verdict::QueryDiffers(name) => format!("parameter {name} differs"),
        };
        writeln!(output, "{number:>7}.  {verdict:<24} {:<32} {}", candidate.path, candidate.origin)?;
    }
    match outcome {
        Outcome::Answer { status, reason, body } => {
            writeln!(output, "answer    {status} {reason:?} {body:?}")
        }
        Outcome::Redirect { status, location } => writeln!(output, "redirect  {status} {location}"),
        Outcome::Proxy { filters, backends, upstream_path } => {
            for filter in filters {
                writeln!(output, "filter    {filter}")?;
            }
            writeln!(output, "path      {upstream_path}")?;
            for share in backends {
                let endpoints =
                    if share.endpoints.is_empty() { "no endpoint".to_owned() } else { share.endpoints.join(", ") };
                writeln!(output, "backend   {} (weight {}): {endpoints}", share.backend, share.weight)?;
            }
            Ok(())
        }
    }
}
