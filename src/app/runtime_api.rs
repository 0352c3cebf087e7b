//! The tasks of the runtime API.

use std::{io, net::TcpListener, os::unix::net::UnixListener, sync::Arc, time::Duration};

use super::{sockets::RuntimeSocket, task::Task};
use crate::{
    admin::{self, RuntimeListener},
    config::{Config, Level},
    net::SocketFile,
};

/// How long to wait before a socket is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts a task for each socket. The files of those that have one go when what is returned is dropped.
pub(super) fn start(
    config: &Config,
    sockets: Vec<RuntimeSocket>,
    context: &Arc<admin::Context>,
    tasks: &mut Vec<Task>,
) -> Vec<SocketFile> {
    let Some(api) = &config.runtime_api else { return Vec::new() };
    let mut files = Vec::new();
    for (socket, bind) in sockets.into_iter().zip(&api.bind) {
        let socket = match socket {
            RuntimeSocket::Tcp(listener) => Source::Tcp(listener),
            RuntimeSocket::Unix(listener, file) => {
                files.push(file);
                Source::Unix(listener)
            }
        };
        let (socket, context, limits) = (Arc::new(socket), Arc::clone(context), (bind.level, api.timeout));
        let serve = move || serve(Arc::clone(&socket), Arc::clone(&context), limits);
        tasks.push(Task::keep("the runtime API", serve));
    }
    files
}

enum Source {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Source {
    /// A copy to serve, so that another one is left when this one ends by a bug.
    fn copy(&self) -> io::Result<RuntimeListener> {
        Ok(match self {
            Self::Tcp(listener) => RuntimeListener::Tcp(tokio::net::TcpListener::from_std(listener.try_clone()?)?),
            Self::Unix(listener) => RuntimeListener::Unix(tokio::net::UnixListener::from_std(listener.try_clone()?)?),
        })
    }
}

async fn serve(source: Arc<Source>, context: Arc<admin::Context>, limits: (Level, Duration)) {
    let listener = loop {
        match source.copy() {
            Ok(listener) => break listener,
            Err(error) => tracing::error!("the runtime API cannot be served yet: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    };
    admin::serve_runtime(listener, context, limits, std::future::pending()).await;
}
