//! `weir run`: a lease around a command.
//!
//! The lease is taken before the command starts and given back when it has ended, with whether it succeeded. Meanwhile it
//! is extended at a third of its lease time. If it is lost all the same (the server was gone for too long, or took it
//! back), somebody else may be at work under it by now: the command is asked to end, and killed if it does not.
//!
//! In a terminal the command stays in its foreground: Ctrl-C reaches it directly, and a lost lease ends it, but not what it
//! has started besides. Elsewhere it gets a process group of its own, and signals and a lost lease reach all of that. What
//! it leaves behind when it ends by itself runs on, without a lease.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use weir_engine::{Outcome, ScopedKey};
use weir_http::api::LeaseView;

use super::lease::TakeArgs;
use crate::client::{ClientError, LeaseClient};
use crate::error::Failure;
use crate::output;

/// The lease was lost, and the command was ended.
const LOST: u8 = 124;
/// Something failed before the command could start.
const FAILED: u8 = 125;
/// The command cannot be started.
const NOT_STARTED: u8 = 126;
/// There is no such command.
const NOT_FOUND: u8 = 127;
/// Refused for now: sysexits' EX_TEMPFAIL.
const NOT_NOW: u8 = 75;
/// How soon an extension that failed is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// How often it is looked whether a process group has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Run a command under a lease: it waits its turn, and the lease is given back when it has ended
#[derive(Debug, Args)]
#[command(after_help = "\
The command finds WEIR_LEASE_ID and WEIR_LEASE_FENCE in its environment. Its exit code is passed on, 128 + N where
signal N has ended it. Others: 2 wrong usage, 75 not now (it waited as long as it may), 124 the lease was lost and the
command ended, 125 it failed before the command, 126 the command cannot be started, 127 there is no such command.

Examples:
  weir run --scope payments --wait 10m -- ./settle-day.sh
  weir run --scope model --limit-key gpt --cost 4000 -- python ask.py
  weir run --scope model --flow-control batch:concurrency=2,rate=10000/1m:cost --cost 4000 -- python ask.py
  weir run --scope deploy --wait 0s -- make deploy || echo 'somebody else deploys'")]
pub(crate) struct RunArgs {
    /// The scope
    #[arg(long, value_name = "SCOPE")]
    scope: String,

    /// The limit key, l1 or l1/l2
    #[arg(long, value_name = "L1[/L2]")]
    limit_key: Option<String>,

    #[command(flatten)]
    take: TakeArgs,

    /// How long the command may take to end when the lease is lost, before it is killed
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = weir_engine::parse_duration)]
    kill_after: Duration,

    /// The command and its arguments
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<OsString>,
}

/// Why the command is waited for no longer.
enum End {
    Exited(ExitStatus),
    Lost(Lost),
}

/// How the lease was lost.
struct Lost {
    why: String,
    /// Whether it is known to have ended.
    ended: bool,
}

/// How it went.
struct Ran {
    /// The exit code.
    code: u8,
    /// Whether there is nothing to give back any more.
    ended: bool,
}

pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    let key = ScopedKey::new(&args.scope, args.limit_key.as_deref()).map_err(Failure::usage)?;
    let client = Arc::new(LeaseClient::new(&args.take.ingress)?);
    let body = args.take.body(&key);
    // What is wrong with the arguments keeps its code.
    let code = |code| match code {
        2 => 2,
        4 => NOT_NOW,
        _ => FAILED,
    };
    // Before the acquire: whatever fails here holds nothing.
    let failed = |error: io::Error| Failure::failed(error).code(code);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let asked = Instant::now();
    let (granted, repeated) = client.acquire(body).map_err(|error| Failure::from(error).code(code))?;
    let lease = granted.leases.into_iter().next();
    let lease = lease.ok_or_else(|| Failure::failed(anyhow!("the server answered without a lease")).code(code))?;
    // Counted from when the grant must have been at the earliest: never longer than the server counts.
    let mut ends = asked + granted.waited.0 + lease.remaining.0;
    if repeated {
        // A server that was started meanwhile counts from then on, so this may be long ago.
        let asked = Instant::now();
        let extended = client.extend(&lease.id, args.take.lease_time);
        ends = asked + extended.map_err(|error| Failure::from(error).code(code))?;
    }
    let outcome = runtime.block_on(under(args, &client, &lease, ends));
    // An extension may be under way to a server that does not answer: nobody waits for it.
    runtime.shutdown_background();
    // Where it has ended, a server that does not answer would only be waited for.
    if !matches!(outcome, Ok(Ran { ended: true, .. })) {
        let how = if matches!(outcome, Ok(Ran { code: 0, .. })) { Outcome::Ok } else { Outcome::Failed };
        if let Err(error) = client.release(&lease.id, how) {
            output::talk(&format!("warning: the lease was not given back, and ends by itself: {error}"));
        }
    }
    match outcome {
        Ok(Ran { code: 0, .. }) => Ok(()),
        Ok(Ran { code, .. }) => Err(Failure::quiet(code)),
        Err(failure) => Err(failure),
    }
}

/// Runs the command, and keeps its lease until it has ended.
async fn under(args: &RunArgs, client: &Arc<LeaseClient>, lease: &LeaseView, ends: Instant) -> Result<Ran, Failure> {
    let caught = |kind| signal(kind).map_err(|error| Failure::failed(error).code(|_| FAILED));
    let (mut interrupts, mut quits) = (caught(SignalKind::interrupt())?, caught(SignalKind::quit())?);
    let (mut terminations, mut hangups) = (caught(SignalKind::terminate())?, caught(SignalKind::hangup())?);
    // A terminal sends its signals to all of the foreground itself.
    let foreground = io::stdin().is_terminal();
    let mut child = start(args, lease, foreground)?;
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let mut keeper = std::pin::pin!(keep(Arc::clone(client), lease, args.take.lease_time, ends));
    let end = loop {
        tokio::select! {
            biased;
            ended = child.wait() => break End::Exited(ended?),
            lost = &mut keeper => break End::Lost(lost),
            _ = interrupts.recv() => if !foreground { tell(pid, foreground, Signal::INT) },
            _ = quits.recv() => if !foreground { tell(pid, foreground, Signal::QUIT) },
            _ = terminations.recv() => tell(pid, foreground, Signal::TERM),
            _ = hangups.recv() => tell(pid, foreground, Signal::HUP),
        }
    };
    match end {
        End::Exited(status) => Ok(Ran { code: code_of(status), ended: false }),
        End::Lost(Lost { why, ended }) => {
            output::talk(&format!("error: the lease was lost ({why}): ending the command"));
            tell(pid, foreground, Signal::TERM);
            if tokio::time::timeout(args.kill_after, all_ended(&mut child, pid, foreground)).await.is_err() {
                tell(pid, foreground, Signal::KILL);
                child.wait().await?;
            }
            Ok(Ran { code: LOST, ended })
        }
    }
}

fn start(args: &RunArgs, lease: &LeaseView, foreground: bool) -> Result<Child, Failure> {
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(Failure::usage(anyhow!("no command")));
    };
    let mut command = Command::new(program);
    command.args(arguments).env("WEIR_LEASE_ID", &lease.id).env("WEIR_LEASE_FENCE", &lease.fence);
    if !foreground {
        command.process_group(0);
    }
    command.spawn().map_err(|error| {
        let shown = program.to_string_lossy();
        let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_STARTED };
        Failure::failed(anyhow!("cannot start `{shown}`: {error}")).code(|_| code)
    })
}

/// Waits for the command, and for all of its process group where it has one of its own.
async fn all_ended(child: &mut Child, pid: Option<Pid>, foreground: bool) {
    let _status = child.wait().await;
    while !foreground && pid.is_some_and(|group| test_kill_process_group(group).is_ok()) {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Extends a lease that lasts until `ends`, again and again; ends when it is lost.
async fn keep(client: Arc<LeaseClient>, lease: &LeaseView, lease_time: Duration, mut ends: Instant) -> Lost {
    let mut pause = lease_time / 3;
    let mut why = "it was not extended in time".to_owned();
    loop {
        tokio::time::sleep_until((Instant::now() + pause).min(ends).into()).await;
        if Instant::now() >= ends {
            return Lost { why, ended: true };
        }
        let (client, id) = (Arc::clone(&client), lease.id.clone());
        let asked = Instant::now();
        let extended = tokio::task::spawn_blocking(move || client.extend(&id, lease_time));
        // An answer that is late is of no use: the lease has ended by then.
        match tokio::time::timeout_at(ends.into(), extended).await {
            Ok(Ok(Ok(remaining))) => {
                // Counted from before the question: never longer than the server counts.
                ends = asked + remaining;
                pause = lease_time / 3;
            }
            Ok(Ok(Err(ClientError::Problem(problem)))) => {
                let ended = problem.reason.as_deref() == Some("lost");
                return Lost { why: ClientError::Problem(problem).to_string(), ended };
            }
            Ok(Ok(Err(error))) => {
                why = error.to_string();
                pause = TRY_AGAIN.min(lease_time / 10);
            }
            Ok(Err(_panicked)) => pause = TRY_AGAIN.min(lease_time / 10),
            Err(_late) => return Lost { why: "the server did not answer in time".to_owned(), ended: true },
        }
    }
}

/// Sends a signal to the command, and to what it has started where that is not the terminal's affair. One that has ended
/// already needs none.
fn tell(pid: Option<Pid>, foreground: bool, signal: Signal) {
    let Some(pid) = pid else { return };
    let told = if foreground { kill_process(pid, signal) } else { kill_process_group(pid, signal) };
    match told {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => output::talk(&format!("warning: the command could not be told: {error}")),
    }
}

/// The exit code as shells have it.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(i32::from(FAILED));
    u8::try_from(code).unwrap_or(u8::MAX)
}
