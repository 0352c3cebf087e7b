//! Accepting connections.

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use tokio::net::{TcpListener, TcpStream};

use super::{
    client::{Ends, Local},
    connection::serve,
    relief::FIRST_PAUSE,
    worker::{Frontend, Worker},
};
use crate::net::shortage_of;

/// Longest pause after the system could not give another connection.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Accepts connections and serves each in a task of its own, until it is dropped.
///
/// Needs a tokio `LocalRuntime`. When descriptors run out it has idle connections closed and waits a little, rather than spin.
pub async fn accept_loop(listener: &TcpListener, worker: &Rc<Worker>, frontend: &Rc<Frontend>) {
    let mut pause = FIRST_PAUSE;
    let local = local_of(listener.local_addr());
    loop {
        match listener.accept().await {
            Ok((stream, source)) => {
                pause = FIRST_PAUSE;
                start(worker, frontend, stream, Ends { source, local });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                match shortage_of(&error) {
                    Some(shortage) => worker.registry.shortages().note(shortage),
                    None => {
                        let name = &frontend.live.name;
                        tracing::warn!("cannot accept connections on {name}: {error}; trying again in {pause:?}");
                    }
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Serves the connections that wait already and closes the listener, which would reset them.
///
/// # Errors
/// When a connection cannot be handed to the runtime; the others are served.
pub fn accept_pending(listener: TcpListener, worker: &Rc<Worker>, frontend: &Rc<Frontend>) -> io::Result<()> {
    // tokio's own accept may know of none yet, and takes a pause after many.
    let listener = listener.into_std()?;
    let local = local_of(listener.local_addr());
    while let Ok((stream, source)) = listener.accept() {
        stream.set_nonblocking(true)?;
        start(worker, frontend, TcpStream::from_std(stream)?, Ends { source, local });
    }
    Ok(())
}

/// Serves a connection in a task of its own; it counts as open from now on.
fn start(worker: &Rc<Worker>, frontend: &Rc<Frontend>, stream: TcpStream, ends: Ends) {
    tokio::task::spawn_local(serve(frontend, stream, ends, worker.enroll()));
}

fn local_of(bound: io::Result<SocketAddr>) -> Local {
    // The system always knows where a listener listens.
    bound.map_or(Local::Port(0), Local::of_listener)
}

/// Errors of a connection that ended before it was accepted (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset, io::ErrorKind::ConnectionRefused]
        .contains(&error.kind())
}
