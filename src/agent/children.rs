//! Children that the supervisor did not start and must not keep the end of to itself.
//!
//! A PID 1 reaps everybody, and so takes the exit status of a command that some other part of this process waits for. Such
//! a child is made known here right after its start; whoever waited in vain finds its status here.

use std::{
    collections::BTreeMap,
    process::ExitStatus,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// One process has one list of children.
static EXPECTED: Mutex<BTreeMap<u32, Option<ExitStatus>>> = Mutex::new(BTreeMap::new());

fn expected() -> MutexGuard<'static, BTreeMap<u32, Option<ExitStatus>>> {
    EXPECTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child that somebody else waits for. To be made before anything is awaited after its start, on the thread that
/// supervises.
#[derive(Debug)]
pub struct Expected(u32);

impl Expected {
    /// Asks that the status of this process be kept.
    pub fn new(process: u32) -> Self {
        expected().insert(process, None);
        Self(process)
    }

    /// How it ended, if it was reaped by the supervisor.
    pub fn status(&self) -> Option<ExitStatus> {
        expected().get(&self.0).copied().flatten()
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        expected().remove(&self.0);
    }
}

/// The supervisor has reaped a process that is not the application.
pub(super) fn reaped(process: u32, status: ExitStatus) {
    if let Some(kept) = expected().get_mut(&process) {
        *kept = Some(status);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_status_is_kept_for_who_waits_and_for_nobody_else() {
        let child = Expected::new(u32::MAX);
        assert_eq!(child.status(), None);
        reaped(u32::MAX, ExitStatus::from_raw(256));
        assert_eq!(child.status().and_then(|status| status.code()), Some(1));
        drop(child);
        reaped(u32::MAX, ExitStatus::from_raw(0));
        assert_eq!(Expected::new(u32::MAX).status(), None);
    }
}
