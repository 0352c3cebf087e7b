//! File descriptors: how many there may be, and whether they have run out.

use std::io;

use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use crate::registry::Shortage;

/// Allows this process as many descriptors as its hard limit does; returns how many, `None` for any number.
///
/// Not for a process that starts programs of others: they inherit it, and some break with descriptors above 1023.
///
/// # Errors
/// When the system refuses; the limit stays as it was.
pub fn raise_descriptor_limit() -> io::Result<Option<u64>> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum)
}

/// How many descriptors this process may have; `None` is any number.
pub fn descriptor_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Whether `error` says that descriptors have run out.
pub fn shortage_of(error: &io::Error) -> Option<Shortage> {
    match Errno::from_io_error(error)? {
        Errno::MFILE => Some(Shortage::Process),
        Errno::NFILE => Some(Shortage::System),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_told_from_other_errors() {
        assert_eq!(shortage_of(&Errno::MFILE.into()), Some(Shortage::Process));
        assert_eq!(shortage_of(&Errno::NFILE.into()), Some(Shortage::System));
        assert_eq!(shortage_of(&Errno::CONNREFUSED.into()), None);
        assert_eq!(shortage_of(&io::ErrorKind::TimedOut.into()), None);
    }
}
