//! Finding a place on a server for a request, and waiting for one when all are full.

use std::{future::Future, pin::Pin, sync::Arc};

use http::request;

use super::{ask::ask, exchange::Exchange};
use crate::{
    balance::Ask,
    http_rules::Fault,
    model::ServerId,
    queue::Wish,
    registry::{Claim, Granted, Pool, Server},
};

/// Finds the request a server with a free place and takes the place; waits when there is none.
///
/// # Errors
/// When there is no server for it, too many wait already, or it has waited too long.
pub(super) async fn find_place(
    pool: &Pool,
    named: Option<Arc<Server>>,
    tried: &[ServerId],
    parts: &request::Parts,
    exchange: &mut Exchange,
) -> Result<Arc<Server>, Fault> {
    exchange.leave_server();
    let ask = if named.is_some() { Ask::default() } else { ask(&pool.policy.balance, parts, &exchange.client) };
    match pool.claim(named, tried, ask) {
        Claim::Taken { place, balanced } => Ok(exchange.assign(place, balanced)),
        Claim::NoServer => Err(Fault::NoServer),
        Claim::Full(wish) => wait(pool, wish, exchange).await,
    }
}

/// Boxed, so that requests which need not wait carry nothing of it.
fn wait<'a>(
    pool: &'a Pool,
    wish: Wish,
    exchange: &'a mut Exchange,
) -> Pin<Box<dyn Future<Output = Result<Arc<Server>, Fault>> + 'a>> {
    Box::pin(async move {
        let named = match wish {
            Wish::Only(id) => pool.by_id(id).cloned(),
            Wish::Any { .. } => None,
        };
        let waiting = pool.live.enqueue(wish);
        exchange.begin_wait(named, waiting.as_ref().map(|waiting| waiting.ahead()).unwrap_or_default());
        let limit = exchange.client.settings.timeouts.queue;
        let Some(waiting) = waiting else { return Err(Fault::QueueFull) };
        let granted = tokio::time::timeout(limit, waiting).await;
        exchange.end_wait();
        match granted {
            Ok(Some(Granted { place, redispatched })) => {
                if redispatched {
                    exchange.turned_away();
                }
                Ok(exchange.assign(place, false))
            }
            // Nobody lets go of a request that waits; if it happens, it is as good as forgotten.
            Ok(None) | Err(_) => Err(Fault::QueueTimeout),
        }
    })
}
