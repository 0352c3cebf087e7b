//! Unix sockets to listen on, and the files that they are reached by.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr, Socket, Type};

use super::listen::BindError;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// Only the user that the process runs as may connect.
const MODE: u32 = 0o600;

/// The file of a listening socket; it is removed when this is dropped, unless another process has put its own there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and number of the file.
    identity: (u64, u64),
}

impl SocketFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // Somebody may be faster; it is gone then, too.
            let _gone = fs::remove_file(&self.path);
        }
    }
}

/// Listens on a unix socket that only the process's own user can reach. A file that a process left behind which is gone is
/// replaced.
///
/// # Errors
/// When another process listens there, another kind of file is there, or the system refuses.
pub fn bind_unix(path: &Path) -> Result<(UnixListener, SocketFile), BindError> {
    let bind = || {
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let file = SocketFile { path: path.to_owned(), identity: identity(path)? };
        // Before it listens: until then nobody can connect.
        fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
        socket.listen(BACKLOG)?;
        Ok((UnixListener::from(socket), file))
    };
    bind().map_err(|source| BindError::Bind { address: path.display().to_string(), source })
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(io::Error::other("a file is there that is no socket: remove it, or choose another path"))
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(error) => Err(error),
            Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_private_and_goes_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lb.sock");
        let (listener, file) = bind_unix(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(UnixStream::connect(&path).is_ok());
        drop((listener, file));
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_file_is_replaced_and_a_live_one_or_another_kind_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lb.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves it behind, as a process does that was killed");
        let live = bind_unix(&path).unwrap();
        let error = bind_unix(&path).unwrap_err().to_string();
        assert!(error.contains("another process listens there"), "{error}");
        assert!(path.exists());
        drop(live);
        fs::write(&path, "precious").unwrap();
        let error = bind_unix(&path).unwrap_err().to_string();
        assert!(error.contains("no socket"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_file_that_another_process_put_there_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lb.sock");
        let (_listener, file) = bind_unix(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }
}
