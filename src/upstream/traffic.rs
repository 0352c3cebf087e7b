//! What passed through a connection to a server, and when.

use std::{cell::Cell, rc::Rc};

use crate::net::{Millis, now_coarse};

/// Counts of one connection; a clone sees the same ones, also when the connection has ended.
#[derive(Debug, Clone)]
pub struct Traffic(Rc<Counts>);

#[derive(Debug)]
struct Counts {
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    last_in: Cell<Millis>,
    last_out: Cell<Millis>,
}

impl Traffic {
    /// Nothing, as of now.
    pub(super) fn new() -> Self {
        let now = Cell::new(now_coarse());
        Self(Rc::new(Counts { bytes_in: Cell::new(0), bytes_out: Cell::new(0), last_in: now.clone(), last_out: now }))
    }

    /// Bytes that the server sent.
    pub fn bytes_in(&self) -> u64 {
        self.0.bytes_in.get()
    }

    /// Bytes that the server took.
    pub fn bytes_out(&self) -> u64 {
        self.0.bytes_out.get()
    }

    /// Notes that the server sent so many bytes.
    pub fn received(&self, bytes: usize) {
        self.0.bytes_in.set(self.0.bytes_in.get() + bytes as u64);
        self.0.last_in.set(now_coarse());
    }

    /// Notes that the server took so many bytes.
    pub fn sent(&self, bytes: usize) {
        self.0.bytes_out.set(self.0.bytes_out.get() + bytes as u64);
        self.0.last_out.set(now_coarse());
    }

    pub(super) fn last_out(&self) -> Millis {
        self.0.last_out.get()
    }

    pub(super) fn last(&self) -> Millis {
        self.0.last_in.get().max(self.0.last_out.get())
    }
}
