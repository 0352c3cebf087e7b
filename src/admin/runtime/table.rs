//! The table of commands, and what is said of one that is not in it.

use std::{fmt::Write as _, time::Duration};

use super::{close_match::close_matches, operate, process, show};
use crate::{admin::Context, config::Level};

/// One command.
pub(super) struct Command {
    /// The words that it begins with.
    words: &'static str,
    /// How it is written, for `help`.
    usage: &'static str,
    /// What it does, for `help`.
    meaning: &'static str,
    /// Who may do it.
    level: Level,
    /// Does it; the reply has its own end of the last line.
    run: fn(&mut Call<'_>) -> String,
}

/// A command on its way.
pub(super) struct Call<'a> {
    pub(super) context: &'a Context,
    pub(super) state: &'a mut State,
    /// The words behind the command's own.
    pub(super) arguments: &'a [&'a str],
}

impl<'a> Call<'a> {
    /// The argument at that place, from 0.
    pub(super) fn argument(&self, index: usize) -> Option<&'a str> {
        self.arguments.get(index).copied()
    }
}

/// What a client's commands change of its own session.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    pub(super) level: Level,
    /// Silence after which the connection is closed.
    pub(super) timeout: Duration,
    /// What the configuration says of it.
    pub(super) configured_timeout: Duration,
    /// Whether there is a prompt, and the connection stays for more.
    pub(super) interactive: bool,
    /// Whether the client has said that it is done.
    pub(super) quits: bool,
}

/// Every command but those at the end of each list, in the order of `help`.
const COMMANDS: &[Command] = &[
    row("disable server", "<bk>/<srv>", "put a server into maintenance", Level::Admin, operate::disable_server),
    row("enable server", "<bk>/<srv>", "end the maintenance of a server", Level::Admin, operate::enable_server),
    row("get weight", "<bk>/<srv>", "weight of a server now and at first", Level::User, operate::get_weight),
    row("operator", "", "give up the level admin in this session", Level::User, process::operator),
    row(
        "set server",
        "<bk>/<srv> [opts]",
        "change state, weight or health of a server",
        Level::Admin,
        operate::set_server,
    ),
    row("set timeout", "cli <delay>", "silence that ends this session", Level::User, process::set_timeout),
    row("set weight", "<bk>/<srv> <weight>", "change the weight of a server", Level::Admin, operate::set_weight),
    row("show backend", "", "names of the pools", Level::User, show::backend),
    row("show cli level", "", "what this session may do", Level::User, process::cli_level),
    row("show info", "", "numbers of the process", Level::User, process::info),
    row("show servers state", "[<backend>]", "state of each server in numbers", Level::User, show::servers_state),
    row(
        "show stat",
        "[<px> <type> <sid>] [up|no-maint]*",
        "the table of the stats page as CSV",
        Level::User,
        show::stat,
    ),
    row("show version", "", "version of this process", Level::User, process::version),
    row("user", "", "give up all levels but user in this session", Level::User, process::user),
];

/// The commands at the end of each list.
const ALWAYS: &[Command] = &[
    row("help", "[<command>]", "all commands, or those like one", Level::User, help),
    row("prompt", "", "begin or end a dialogue with a prompt", Level::User, prompt),
    row("quit", "", "close the connection", Level::User, quit),
];

const fn row(
    words: &'static str,
    usage: &'static str,
    meaning: &'static str,
    level: Level,
    run: fn(&mut Call<'_>) -> String,
) -> Command {
    Command { words, usage, meaning, level, run }
}

/// Carries out a command; the reply.
pub(super) fn run(context: &Context, state: &mut State, words: &[String]) -> String {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let found = COMMANDS.iter().chain(ALWAYS).find_map(|command| Some((command, command.arguments(&words)?)));
    match found {
        Some((command, _)) if command.level > state.level => "Permission denied\n".to_owned(),
        Some((command, arguments)) => (command.run)(&mut Call { context, state, arguments }),
        None => unknown(&words),
    }
}

impl Command {
    /// What follows its own words, if it is that command.
    fn arguments<'a>(&self, words: &'a [&'a str]) -> Option<&'a [&'a str]> {
        let own = self.words.split(' ').count();
        let is_it = words.len() >= own && self.words.split(' ').eq(words[..own].iter().copied());
        is_it.then(|| &words[own..])
    }

    /// How many of the words it begins with.
    fn agreement(&self, words: &[&str]) -> usize {
        self.words.split(' ').zip(words).take_while(|(own, word)| own == *word).count()
    }

    fn line(&self, list: &mut String) {
        let Self { words, usage, meaning, level: _, run: _ } = self;
        let written = format!("{words} {usage}");
        // Writing to a String cannot fail.
        let _infallible = writeln!(list, "  {:<40}: {meaning}", written.trim_end());
    }
}

/// The commands that agree with the most of the words, or else come near to them.
fn like(words: &[&str]) -> Vec<&'static Command> {
    let most = COMMANDS.iter().map(|command| command.agreement(words)).max().unwrap_or(0);
    if words.is_empty() {
        return Vec::new();
    }
    let agreeing = || COMMANDS.iter().filter(move |command| command.agreement(words) == most);
    let written = words.join(" ");
    let near = close_matches(&written, agreeing().map(|command| command.words));
    let complete = most == words.len() || agreeing().any(|command| command.words.split(' ').count() == most);
    if most > 0 && (complete || near.is_empty()) {
        return agreeing().collect();
    }
    agreeing().filter(|command| near.contains(&command.words)).collect()
}

fn list(heading: &str, commands: &[&Command]) -> String {
    let mut list = format!("{heading}\n");
    commands.iter().copied().chain(ALWAYS).for_each(|command| command.line(&mut list));
    list
}

fn unknown(words: &[&str]) -> String {
    let like = like(words);
    if like.is_empty() {
        let all: Vec<_> = COMMANDS.iter().collect();
        return list("Unknown command. Please enter one of the following commands only:", &all);
    }
    list("Unknown command, but maybe one of the following ones is a better match:", &like)
}

fn help(call: &mut Call<'_>) -> String {
    let like = like(call.arguments);
    let shown = if like.is_empty() { COMMANDS.iter().collect() } else { like };
    list("The following commands are valid at this level:", &shown)
}

fn prompt(call: &mut Call<'_>) -> String {
    call.state.interactive = !call.state.interactive;
    String::new()
}

fn quit(call: &mut Call<'_>) -> String {
    call.state.quits = true;
    String::new()
}
