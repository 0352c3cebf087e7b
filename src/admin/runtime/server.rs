//! Accepts clients of the runtime API.
//!
//! There are few at once, and one that says nothing ends by itself, which only an admin can put off for longer than the
//! configuration allows: nobody else can keep operators out by opening many.

use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::JoinSet,
};

use super::{session::converse, table::State};
use crate::{admin::Context, config::Level};

/// Most clients of one address at once; others wait to be accepted.
const MAX_CLIENTS: usize = 32;
/// How long accepting rests after it failed: the usual reason, no free file descriptor, does not go away at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where clients come in.
#[derive(Debug)]
pub enum RuntimeListener {
    /// A port.
    Tcp(TcpListener),
    /// A file.
    Unix(UnixListener),
}

/// Serves clients of one address, who may do what `level` allows, until `shutdown` is ready; then all of them are gone. A
/// client that is silent, or does not read, for `timeout` is closed.
pub async fn serve_runtime(
    listener: RuntimeListener,
    context: Arc<Context>,
    (level, timeout): (Level, Duration),
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let mut clients = JoinSet::new();
    let state = State { level, timeout, configured_timeout: timeout, interactive: false, quits: false };
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            accepted = listener.accept(), if clients.len() < MAX_CLIENTS => match accepted {
                Ok(stream) => {
                    let context = Arc::clone(&context);
                    clients.spawn(async move {
                        match stream {
                            Stream::Tcp(stream) => converse(stream, &context, state).await,
                            Stream::Unix(stream) => converse(stream, &context, state).await,
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!("the runtime API can't accept a client: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = clients.join_next() => {
                if let Err(error) = ended {
                    tracing::error!("a session of the runtime API ended by a bug: {error}");
                }
            }
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl RuntimeListener {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}
