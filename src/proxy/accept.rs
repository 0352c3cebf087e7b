//! Accepting connections.

use std::{io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

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
/// Where connections are limited and there are enough, it takes one more, which waits, and leaves the others to the system
/// until that one is served.
///
/// Needs a tokio `LocalRuntime`. When descriptors run out it has idle connections closed and waits a little, rather than spin.
pub async fn accept_loop(listener: &TcpListener, worker: &Rc<Worker>, frontend: &Rc<Frontend>) {
    let mut pause = FIRST_PAUSE;
    let local = local_of(listener.local_addr());
    loop {
        match listener.accept().await {
            Ok((stream, source)) => {
                pause = FIRST_PAUSE;
                if let Some(admitted) = start(worker, frontend, stream, Ends { source, local }) {
                    // Only the task that was started says so, or it has ended.
                    let _ended = admitted.await;
                }
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
        // Those beyond the limit wait for their turn in tasks: the system would reset them.
        let _later = start(worker, frontend, TcpStream::from_std(stream)?, Ends { source, local });
    }
    Ok(())
}

/// Serves a connection in a task of its own, which the worker's end waits for from now on. When there are enough already,
/// it waits for one of them to end; that it is served then is what comes back.
fn start(worker: &Rc<Worker>, frontend: &Rc<Frontend>, stream: TcpStream, ends: Ends) -> Option<oneshot::Receiver<()>> {
    let enrolled = worker.enroll();
    let Some(admission) = &frontend.live.admission else {
        tokio::task::spawn_local(serve(frontend, stream, ends, enrolled, None));
        return None;
    };
    // Permits go to those who wait, in their order: none is free as long as anybody does.
    if let Ok(permit) = Arc::clone(admission).try_acquire_owned() {
        tokio::task::spawn_local(serve(frontend, stream, ends, enrolled, Some(permit)));
        return None;
    }
    let (admission, frontend) = (Arc::clone(admission), Rc::clone(frontend));
    let (tell, told) = oneshot::channel();
    tokio::task::spawn_local(async move {
        // Nobody closes the semaphore.
        let permit = admission.acquire_owned().await.ok();
        // The loop may have ended: the worker drains.
        let _drains = tell.send(());
        serve(&frontend, stream, ends, enrolled, permit).await;
    });
    Some(told)
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
