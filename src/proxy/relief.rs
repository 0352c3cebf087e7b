//! What a worker does when file descriptors have run out: it gives back those that nobody needs at the moment.
//!
//! First idle connections to servers, then idle connections of clients, those first that have been idle longest. Whoever
//! found the shortage, all workers act on it, because descriptors belong to the whole process.

use std::{net::SocketAddr, time::Duration};

use tokio::net::TcpStream;

use super::worker::Worker;
use crate::{
    net::now_coarse,
    upstream::{ConnectError, connect},
};

/// First pause before a descriptor is asked for once more; doubled each time.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Longest such pause of a request. All of them together are not noticed by a person.
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

impl Worker {
    /// Opens a connection to a server. While there is no descriptor for it, it asks for one and waits a little.
    pub(super) async fn connect(&self, address: SocketAddr, limit: Duration) -> Result<TcpStream, ConnectError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match connect(address, limit).await {
                Err(ConnectError::Shortage(shortage)) => {
                    self.registry.shortages().note(shortage);
                    if pause > LONGEST_PAUSE {
                        return Err(ConnectError::Shortage(shortage));
                    }
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                done => return done,
            }
        }
    }

    /// Gives descriptors back whenever somebody found none. Never ends.
    pub(super) async fn relieve(&self) {
        let mut shortages = self.registry.shortages().follow();
        // The registry outlives its workers; a closed channel only means that this one is about to end.
        while shortages.changed().await.is_ok() {
            if self.idle.borrow_mut().clear() == 0 {
                self.wake(|roster| roster.to_leave(now_coarse()));
            }
            // What is given back is free only when its task has run; many ask at once.
            tokio::time::sleep(FIRST_PAUSE).await;
        }
        std::future::pending().await
    }
}
