//! The command line's front door: parses, sends each command to its file, and turns errors into exit codes.
//!
//! Everything but the process's own streams and the agent itself comes in as arguments, so that tests see what users see.

mod args;
mod backend;
mod check;
mod error;
mod output;
mod run;
mod service;
mod session;
mod status;
mod text;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

pub use self::error::{ExitKind, RunError};

use self::args::{Ask, Cli, Command, ConfigCommand, Output};
use self::error::CliError;
use self::session::Session;
use crate::agent::options::RunOptions;
use crate::telemetry::logging::no_color;

/// Where a command writes to.
pub struct Io<'a> {
    /// Answers.
    pub out: &'a mut dyn Write,
    /// Errors.
    pub err: &'a mut dyn Write,
    /// Whether `out` may have colours.
    pub colour: bool,
}

/// The process's command: reads its arguments, writes to its streams. `run_agent` is what `weir run` runs.
pub fn main(run_agent: impl FnOnce(RunOptions) -> Result<(), RunError>) -> ExitCode {
    let colour = io::stdout().is_terminal() && !no_color();
    // Not locked: the agent's log records go to standard error from many threads.
    let mut io = Io { out: &mut io::stdout(), err: &mut io::stderr(), colour };
    ExitCode::from(run(std::env::args_os(), &mut io, run_agent))
}

/// One command, from arguments (the program's name first) to exit code.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    io: &mut Io<'_>,
    run_agent: impl FnOnce(RunOptions) -> Result<(), RunError>,
) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let (json, done) = match Cli::try_parse_from(&args) {
        Ok(cli) => (cli.output == Output::Json, dispatch(cli, io, run_agent)),
        // Somebody who does not know what to say is shown what can be said.
        Err(help) if help.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand && !wants_json(&args) => {
            let _ = write!(io.err, "{help}");
            return ExitKind::Usage.code();
        }
        Err(error) if error.use_stderr() => (wants_json(&args), Err(CliError::from(error))),
        Err(help) => (false, write!(io.out, "{help}").map_err(CliError::from)),
    };
    match done.and_then(|()| Ok(io.out.flush()?)) {
        Ok(()) => 0,
        // Whoever read the output has seen enough.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            // Nobody is left to be told if this fails too.
            let _ = error.report(io.err, json);
            error.exit().code()
        }
    }
}

fn dispatch(
    cli: Cli,
    io: &mut Io<'_>,
    run_agent: impl FnOnce(RunOptions) -> Result<(), RunError>,
) -> Result<(), CliError> {
    let socket = cli.socket.unwrap_or_else(|| crate::api::socket_path(&cli.instance));
    let command = match cli.command {
        Command::Run(args) => return run::run(args, cli.instance, socket, run_agent),
        Command::Config { command: ConfigCommand::Check { file } } => return check::run(&file, cli.output, io),
        Command::Version => return output::version(io, cli.output),
        Command::Ask(command) => command,
    };
    let mut session = Session::new(socket, cli.output, io)?;
    match command {
        Ask::Status => status::run(&mut session),
        Ask::Service { command } => service::run(command, &mut session),
        Ask::Backend { command } => backend::run(command, &mut session),
        Ask::Metrics => session.metrics(),
        Ask::Detach => session.detach(&cli.instance),
    }
}

/// Whether the arguments ask for JSON, for the case that they cannot be parsed.
fn wants_json(args: &[OsString]) -> bool {
    let joined = ["-ojson", "-o=json", "--output=json"];
    args.iter().any(|arg| joined.iter().any(|form| arg == form))
        || args.windows(2).any(|pair| (pair[0] == "-o" || pair[0] == "--output") && pair[1] == "json")
}
