//! Sends requests all at once and waits for every answer; then asks the provider, if there is one, how often it was overrun.
//!
//! Exit code 0: all were answered with 200, the provider answered as many, and it counts no violation.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use clap::Parser;
use futures::future::join_all;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// Drives the example and judges it by what the provider saw.
#[derive(Debug, Parser)]
struct Options {
    /// A URL to request, such as http://127.0.0.1:8080/chat/small; of several, each by turns.
    #[arg(long = "url", required = true)]
    urls: Vec<String>,
    /// Where the provider is; without it nothing is judged but the answers.
    #[arg(long)]
    provider: Option<String>,
    /// What the printed names begin with.
    #[arg(long, default_value = "drive")]
    label: String,
    /// How many requests to send.
    #[arg(long, default_value_t = 60)]
    requests: usize,
    /// How long all of it may take.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

#[derive(Clone)]
struct Caller(Client<HttpConnector, Empty<Bytes>>);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let caller = Caller(Client::builder(TokioExecutor::new()).build_http());
    let started = Instant::now();
    let answers = join_all(options.urls.iter().cycle().take(options.requests).map(|url| caller.get(url)));
    let answers = tokio::time::timeout(options.timeout, answers).await.context("not all answered in time")?;
    let seconds = started.elapsed().as_secs_f64();

    let mut good = 0;
    for answer in answers {
        match answer {
            Ok((200, _)) => good += 1,
            Ok((status, body)) => writeln!(io::stderr(), "answered {status}: {}", String::from_utf8_lossy(&body))?,
            Err(error) => writeln!(io::stderr(), "not answered: {error:#}")?,
        }
    }
    let label = options.label;
    let mut out = io::stdout();
    writeln!(out, "{label}_requests {}", options.requests)?;
    writeln!(out, "{label}_answered {good}")?;
    writeln!(out, "{label}_seconds {seconds:.1}")?;
    let mut passed = good == options.requests;
    if let Some(provider) = options.provider {
        let (_, body) = caller.get(&format!("{provider}/stats")).await.context("the provider's /stats")?;
        let stats: Value = serde_json::from_slice(&body).context("the provider's /stats")?;
        let number = |name: &str| stats[name].as_u64().with_context(|| format!("/stats has no {name}"));
        let violations = number("rate-violations")? + number("parallel-violations")?;
        writeln!(out, "{label}_violations {violations}")?;
        writeln!(out, "{label}_most_in_parallel {}", number("most-in-parallel")?)?;
        passed &= violations == 0 && number("answered")? == u64::try_from(options.requests)?;
        if !passed {
            writeln!(io::stderr(), "failed; the provider says {stats}")?;
        }
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Caller {
    async fn get(&self, url: &str) -> anyhow::Result<(u16, Bytes)> {
        let response = self.0.get(url.parse().with_context(|| format!("`{url}` is no URL"))?).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, body))
    }
}
