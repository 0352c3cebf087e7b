//! The command line.

mod args;
mod check;
mod keys;
mod members;
mod run;

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches};

use args::Cli;

/// Status for a command line or configuration that is wrong.
const BAD_USAGE: u8 = 2;

/// Runs `lb` with the arguments of this process.
pub fn main() -> ExitCode {
    match parse(std::env::args_os().collect()) {
        Ok(Cli { command }) => run::run(command),
        Err(error) if error.use_stderr() => {
            complain(&one_line(&error.to_string()));
            ExitCode::from(BAD_USAGE)
        }
        Err(help_or_version) => {
            say(&help_or_version.to_string());
            ExitCode::SUCCESS
        }
    }
}

/// Speaks to the user. Why not `print!`? It panics when nobody reads, and whoever has gone away misses nothing.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _unheard = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A line on standard error. As [`say`], and the exit status stays what it is.
fn complain(line: &str) {
    let _unheard = writeln!(io::stderr(), "{line}");
}

fn parse(args: Vec<OsString>) -> Result<Cli, clap::Error> {
    let matches = command().try_get_matches_from(with_default_command(args))?;
    Cli::from_arg_matches(&matches)
}

/// The command line as clap knows it. Help names the environment's variables, not what they hold: that may be private.
fn command() -> clap::Command {
    Cli::command().mut_subcommands(|command| command.mut_args(|arg| without_empty_variable(arg.hide_env_values(true))))
}

/// An empty variable is as good as none: Compose makes them of `LB_STATS: ${LB_STATS:-}`.
fn without_empty_variable(arg: clap::Arg) -> clap::Arg {
    let is_empty = arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    if is_empty { arg.env(None) } else { arg }
}

/// `serve` may be left out: options without a command are its.
fn with_default_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let first = args.get(1).and_then(|arg| arg.to_str());
    let is_option = match first {
        None => args.len() <= 1,
        Some(first) => first.starts_with('-') && !["-h", "--help", "-V", "--version"].contains(&first),
    };
    if is_option {
        args.insert(1.min(args.len()), "serve".into());
    }
    args
}

/// clap's message on one line, for logs: what is wrong, without the usage that follows it.
fn one_line(message: &str) -> String {
    let problem = message.split("\n\n").next().unwrap_or(message);
    let line = problem.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    format!("{line} (see 'lb --help')").replace("error: ", "lb: ")
}

#[cfg(test)]
mod tests {
    use super::{args::Command, command, one_line};
    use std::ffi::OsString;

    fn parse(args: &[&str]) -> Result<Command, String> {
        let args = std::iter::once("lb").chain(args.iter().copied()).map(OsString::from).collect();
        super::parse(args).map(|cli| cli.command).map_err(|error| one_line(&error.to_string()))
    }

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_command() {
        assert!(matches!(parse(&[]), Ok(Command::Serve(_))));
        assert!(matches!(parse(&["--listen", ":8080", "--stats", ":1936"]), Ok(Command::Serve(_))));
        assert!(matches!(parse(&["agent", "--join", "ha", "--port", "3000"]), Ok(Command::Agent(_))));
    }

    #[test]
    fn a_bad_address_is_one_clear_line() {
        let error = parse(&["--listen", "nonsense"]).map(|_| ()).unwrap_err();
        assert!(
            error.starts_with("lb: invalid value 'nonsense' for '--listen <ADDR>': \"nonsense\" has no port"),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1);
        let error = parse(&["agent"]).map(|_| ()).unwrap_err();
        assert!(error.contains("--port <N>") && error.lines().count() == 1, "{error}");
    }
}
