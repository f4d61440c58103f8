//! `weir demo`: the whole thing at work, with nothing to prepare.
//!
//! It starts the server with the component inside this binary and a rule book, plays some tenants who call more than they
//! may, and shows who holds, waits and is refused. The tenants go over HTTP like everybody else, and while it runs so can you.

mod live;
mod load;
mod scene;
mod table;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use weir_engine::{CounterQuery, Engine};
use weir_http::api::CountersView;
use weir_http::{DEFAULT_ADMIN, DEFAULT_INGRESS, ServeError, Server, ServerConfig, Service};

use self::live::Screen;
use self::table::Rows;
use crate::error::Failure;
use crate::log::{self, LogArgs};
use crate::{config, launch, output, signals};

/// How long requests may still run when it ends: the longest work that anybody is likely to ask for by hand.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// Where a demo without `--seconds` would end by itself: far away.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The most counters shown: those of the scene, and a screenful of your own.
const COUNTERS: usize = 40;

/// Show it at work: a component, rules, load and a live table
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is needed beforehand. Where 8080 or 9070 is taken, it uses a free port and says so.
In a terminal it shows a live table (q or Ctrl-C ends it), else a table of text every second.

Examples:
  weir demo
  weir demo --seconds 10 | tail -n 12")]
pub(crate) struct DemoArgs {
    /// End by itself after so many seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: Option<u32>,

    /// Where ingress listens [default: 127.0.0.1:8080, or a free port]
    #[arg(long, env = "WEIR_LISTEN", value_name = "ADDRESS", value_parser = config::address)]
    listen: Option<SocketAddr>,

    /// Where the admin API listens [default: 127.0.0.1:9070, or a free port]
    #[arg(long, env = "WEIR_ADMIN_LISTEN", value_name = "ADDRESS", value_parser = config::address)]
    admin: Option<SocketAddr>,

    /// Show no table; print the summary as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &DemoArgs, log: &LogArgs) -> Result<(), Failure> {
    // Lines of a log would tear the table; who wants them says so.
    log::start(log, "error")?;
    let engine = launch::engine(scene::rules()?)?;
    let services = launch::services(&engine, vec![scene::component()])?;
    let server = start(args, &engine, &services)?;
    let stop = Arc::new(Notify::new());
    let stopped = Arc::clone(&stop);
    signals::on_first(move || stopped.notify_one())?;
    introduce(&server);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(play(args, &engine, server.ingress(), &stop));
    // The tenants leave first, so that nobody waits when the server goes.
    drop(runtime);
    server.shut_down();
    let (rows, answered) = outcome?;
    summarize(args, &rows, &answered)
}

/// Starts on the usual ports where they are free, unless told otherwise.
fn start(args: &DemoArgs, engine: &Engine, services: &[Service]) -> Result<Server, Failure> {
    let mut config = ServerConfig {
        ingress: args.listen.unwrap_or(DEFAULT_INGRESS),
        admin: args.admin.unwrap_or(DEFAULT_ADMIN),
        shutdown_timeout: SHUTDOWN_TIMEOUT,
        // It has no tokens: where others reach it, it serves calls alone.
        lease_api: args.listen.is_none_or(|address| address.ip().is_loopback()),
        ..ServerConfig::default()
    };
    loop {
        match Server::start(&config, engine.clone(), services.to_vec()) {
            Ok(server) => return Ok(server),
            Err(ServeError::Bind { what, address, source })
                if source.kind() == io::ErrorKind::AddrInUse && address.port() != 0 =>
            {
                let (given, mine) = if what == "ingress" {
                    (args.listen, &mut config.ingress)
                } else {
                    (args.admin, &mut config.admin)
                };
                if given.is_some() {
                    let option = if what == "ingress" { "--listen" } else { "--admin" };
                    let taken = Failure::failed(ServeError::Bind { what, address, source });
                    return Err(
                        taken.hint(format!("end the other program, or leave {option} out: the demo finds a free port"))
                    );
                }
                output::talk(&format!("{address} is taken: the demo's {what} uses a free port"));
                mine.set_port(0);
            }
            Err(error) => return Err(launch::failure(error)),
        }
    }
}

fn introduce(server: &Server) {
    let (ingress, admin) = (server.ingress(), server.admin());
    output::talk(&format!(
        "ingress http://{ingress}
admin   http://{admin}

Try, in another terminal:
  curl -i 'http://{ingress}/weir/scope/acme/call/demo/work?ms=500'
  curl -i -H 'weir-max-wait: 10ms' 'http://{ingress}/weir/scope/globex/call/demo/work'
  curl -X PUT http://{admin}/v1/rules -H 'content-type: application/json' -d '{{\"changes\":[{{\"patch\":{{\"pattern\":\"acme\",\"concurrency\":8}}}}]}}'
"
    ));
}

async fn play(
    args: &DemoArgs,
    engine: &Engine,
    ingress: SocketAddr,
    stop: &Notify,
) -> Result<(Rows, load::Answered), Failure> {
    let answered = load::start(ingress);
    let mut screen = Screen::open(args.json);
    let mut rows = Rows::default();
    let mut ticks = interval(screen.interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let end =
        sleep_until(Instant::now() + args.seconds.map_or(FOR_EVER, |seconds| Duration::from_secs(seconds.into())));
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = stop.notified() => break,
            () = &mut end => break,
            _ = ticks.tick() => {
                rows.update(engine.counters(&CounterQuery { prefix: None, limit: COUNTERS }));
                screen.draw(&rows)?;
                if screen.asked_to_quit() {
                    break;
                }
            }
        }
    }
    rows.update(engine.counters(&CounterQuery { prefix: None, limit: COUNTERS }));
    Ok((rows, answered))
}

fn summarize(args: &DemoArgs, rows: &Rows, answered: &load::Answered) -> Result<(), Failure> {
    if args.json {
        output::json(&CountersView { counters: rows.counters().cloned().collect(), more: false })?;
    } else {
        output::data("summary")?;
        output::data(&rows.text())?;
        output::data(&answered.to_string())?;
    }
    if answered.granted() == 0 {
        return Err(Failure::failed(anyhow::anyhow!(
            "no call was answered: something keeps the demo from calling itself"
        ))
        .hint("run it with --log debug"));
    }
    Ok(())
}
