//! Commands that change servers.

use std::{sync::Arc, time::Instant};

use super::table::Call;
use crate::{
    admin::Context,
    model::{AdminState, WantedWeight, Weight},
    registry::{Command, ForcedHealth, Operation, Server},
};

pub(super) fn set_server(call: &mut Call<'_>) -> String {
    carry_out(call, |call, server| {
        let value = call.argument(2);
        match call.argument(1) {
            Some("state") => match value {
                Some("ready") => Ok(Operation::State(AdminState::Ready)),
                Some("drain") => Ok(Operation::State(AdminState::Drain)),
                Some("maint") => Ok(Operation::State(AdminState::Maint)),
                Some(_) | None => Err("'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n"),
            },
            Some("health") => match value {
                Some("up") => Ok(Operation::Health(ForcedHealth::Up)),
                Some("stopping") => Ok(Operation::Health(ForcedHealth::Stopping)),
                Some("down") => Ok(Operation::Health(ForcedHealth::Down)),
                Some(_) | None => Err("'set server <srv> health' expects 'up', 'stopping', or 'down'.\n"),
            },
            Some("weight") => weight(server, value),
            Some(_) | None => Err("usage: set server <backend>/<server> health | state | weight\n"),
        }
    })
}

pub(super) fn set_weight(call: &mut Call<'_>) -> String {
    carry_out(call, |call, server| weight(server, call.argument(1)))
}

pub(super) fn disable_server(call: &mut Call<'_>) -> String {
    carry_out(call, |_, _| Ok(Operation::State(AdminState::Maint)))
}

/// Ends maintenance and nothing else: a server that drains goes on draining.
pub(super) fn enable_server(call: &mut Call<'_>) -> String {
    carry_out(call, |_, server| {
        let wanted = if server.operator == AdminState::Maint { AdminState::Ready } else { server.operator };
        Ok(Operation::State(wanted))
    })
}

pub(super) fn get_weight(call: &mut Call<'_>) -> String {
    match find(call.context, call.argument(0)) {
        Ok(server) => format!("{} (initial {})\n", server.weight, server.initial_weight),
        Err(error) => error.to_owned(),
    }
}

/// Finds the server that the first argument names and does to it what `read` makes of the others.
fn carry_out(call: &Call<'_>, read: impl FnOnce(&Call<'_>, &Server) -> Result<Operation, &'static str>) -> String {
    let operated = find(call.context, call.argument(0)).and_then(|server| {
        let operation = read(call, &server)?;
        call.context.registry.apply(Instant::now(), Command::Operate(vec![(server.id, operation)]));
        Ok(())
    });
    operated.err().unwrap_or_default().to_owned()
}

fn find(context: &Context, name: Option<&str>) -> Result<Arc<Server>, &'static str> {
    let both = name.and_then(|name| name.split_once('/')).filter(|(_, server)| !server.is_empty());
    let (pool, server) = both.ok_or("Require 'backend/server'.\n")?;
    let snapshot = context.registry.snapshot();
    let pool = snapshot.pools.iter().find(|its| its.name.as_str() == pool).ok_or("No such backend.\n")?;
    // As HAProxy has it, `#2` is the second.
    let number = server.strip_prefix('#').and_then(|number| number.parse::<u32>().ok());
    let server =
        pool.servers.iter().find(|its| number.map_or(its.name.as_str() == server, |number| its.number == number));
    server.cloned().ok_or("No such server.\n")
}

/// Reads `N` or `N%` as C's `strtol` would, whose errors are told apart.
fn weight(server: &Server, text: Option<&str>) -> Result<Operation, &'static str> {
    let text = text.ok_or("Require <weight> or <weight%>.\n")?;
    let sign = usize::from(text.starts_with(['-', '+']));
    let digits = text[sign..].bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(sign + digits);
    if digits == 0 {
        return Err("Empty weight string empty or preceded by garbage");
    }
    // What is too long for a number is out of every range, too.
    let number: i64 = number.parse().unwrap_or(if number.starts_with('-') { i64::MIN } else { i64::MAX });
    let wanted = match rest {
        "%" => {
            let percent = u64::try_from(number).map_err(|_| "Relative weight must be positive.\n")?;
            let most = WantedWeight::MOST_PERCENT;
            WantedWeight::Percent(u16::try_from(percent).unwrap_or(most).min(most))
        }
        "" => {
            let weight = u16::try_from(number).ok().and_then(|number| Weight::new(number).ok());
            let weight = weight.ok_or("Absolute weight can only be between 0 and 256 inclusive.\n")?;
            // The initial one is nobody's wish, and follows what the configuration says later.
            if weight == server.initial_weight { WantedWeight::Percent(100) } else { WantedWeight::Absolute(weight) }
        }
        _ if !(0..=256).contains(&number) => return Err("Absolute weight can only be between 0 and 256 inclusive.\n"),
        _ => return Err("Trailing garbage in weight string"),
    };
    Ok(Operation::Weight(wanted))
}
