//! Runs a command beside real servers, which end with it.
//!
//! `with_servers postgres redis mongodb -- COMMAND ARGUMENT…`; in the arguments `{postgres}`,
//! `{redis}` and `{mongodb}` stand for the addresses. Ends as the command does.
#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "a tool for a terminal")]

use std::any::Any;
use std::process::{Command, ExitCode};

use conveyor_test_servers::mongodb::Mongodb;
use conveyor_test_servers::postgres::Postgres;
use conveyor_test_servers::redis::Redis;

/// A server, and what the arguments call it.
struct Server {
    placeholder: String,
    url: String,
    /// Ends when dropped.
    _process: Box<dyn Any>,
}

fn start(name: &str) -> Result<Server, String> {
    let (url, process): (String, Box<dyn Any>) = match name {
        "postgres" => {
            let server = Postgres::start(&[]);
            (server.url("postgres"), Box::new(server))
        }
        "redis" => {
            let server = Redis::start(&[]);
            (server.url(), Box::new(server))
        }
        "mongodb" => {
            let server = Mongodb::start(&["--sync-on-commit"]);
            (server.url("conveyor"), Box::new(server))
        }
        other => {
            return Err(format!(
                "{other}: no such server; there are postgres, redis, mongodb"
            ));
        }
    };
    eprintln!("{name:<8} {url}");
    Ok(Server {
        placeholder: format!("{{{name}}}"),
        url,
        _process: process,
    })
}

fn run(arguments: &[String]) -> Result<ExitCode, String> {
    let parted = arguments.iter().position(|argument| argument == "--");
    let (names, command) = parted.map_or((arguments, &[][..]), |at| {
        (&arguments[..at], &arguments[at + 1..])
    });
    let [program, arguments @ ..] = command else {
        return Err("usage: with_servers SERVER… -- COMMAND ARGUMENT…".to_owned());
    };
    let servers = names
        .iter()
        .map(|name| start(name))
        .collect::<Result<Vec<_>, _>>()?;
    let fill = |argument: &String| {
        servers.iter().fold(argument.clone(), |text, server| {
            text.replace(&server.placeholder, &server.url)
        })
    };
    let status = Command::new(program)
        .args(arguments.iter().map(fill))
        .status()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    run(&arguments).unwrap_or_else(|message| {
        eprintln!("{message}");
        ExitCode::from(2)
    })
}
