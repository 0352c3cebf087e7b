//! The cluster's keys, as they are found: in a file, which may change, or in the environment.
//!
//! Why does a node look at its file by itself, when a balancer waits for SIGHUP? A balancer's SIGHUP means: read the
//! configuration again, and the keys are part of it. An agent hands SIGHUP on to its application, so that nobody can tell
//! the agent itself by a signal.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    config::{CLUSTER_KEY_VARIABLE, KeySource},
    model::{ClusterName, ClusterSecret, KeyError, Keyring, KeyringError},
};

/// How often a node looks at its file.
const PERIOD: Duration = Duration::from_secs(2);
/// Longest file that is read: a slip of the finger must not bring in a disk.
const MAX_FILE: u64 = 64 * 1024;

/// Why there are no keys. Never says what the file holds.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("cannot read the cluster key file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no list of keys.
    #[error("{place}: {error}")]
    Wrong {
        /// The file and its line, or the variable.
        place: String,
        /// What is wrong.
        error: KeyError,
    },
}

/// Reads the keys, and warns when others can read them, too.
///
/// # Errors
/// When there are none, or bad ones.
pub fn read_keys(source: &KeySource) -> Result<Keyring, KeysError> {
    let text = match source {
        KeySource::File(path) => {
            let (text, mode) = text_of(path)?;
            if mode & 0o044 != 0 {
                let path = path.display();
                tracing::warn!("the cluster key file {path} can be read by others (mode {mode:03o}): chmod 600 {path}");
            }
            text
        }
        KeySource::Environment(text) => text.clone(),
    };
    parse(source, &text)
}

fn text_of(path: &Path) -> Result<(String, u32), KeysError> {
    let fail = |source| KeysError::Read { path: path.to_owned(), source };
    // Before it is opened: whoever opens a FIFO waits for a writer.
    let metadata = fs::metadata(path).map_err(fail)?;
    if !metadata.is_file() {
        return Err(fail(io::Error::other("it is no regular file")));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(fail)?;
    // Its length may have changed meanwhile, and those of /proc say 0.
    let length = file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(fail)?;
    if length as u64 > MAX_FILE {
        return Err(fail(io::Error::other("it is too long for a list of keys")));
    }
    // What is no text is no key either, and the line tells where.
    Ok((String::from_utf8_lossy(&bytes).into_owned(), metadata.permissions().mode() & 0o777))
}

fn parse(source: &KeySource, text: &str) -> Result<Keyring, KeysError> {
    Keyring::parse(text).map_err(|KeyringError { line, error }| {
        let place = match (source, line) {
            (KeySource::File(path), Some(line)) => format!("{}:{line}", path.display()),
            (KeySource::File(path), None) => path.display().to_string(),
            (KeySource::Environment(_), _) => CLUSTER_KEY_VARIABLE.to_owned(),
        };
        KeysError::Wrong { place, error }
    })
}

/// What a member seals with.
pub fn cluster_secret(keys: Option<Keyring>, name: Option<ClusterName>) -> Option<ClusterSecret> {
    keys.map(|keys| ClusterSecret { keys, name: name.unwrap_or_default() })
}

/// Reads the keys of a node; what it seals with, and who looks for other ones.
///
/// # Errors
/// When there are none, or bad ones.
pub fn watched_keys(
    source: Option<KeySource>,
    name: Option<ClusterName>,
) -> Result<(Option<ClusterSecret>, KeyWatch), KeysError> {
    let keys = source.as_ref().map(read_keys).transpose()?;
    let looked = source.as_ref().and_then(text_now);
    Ok((cluster_secret(keys.clone(), name), KeyWatch { source, keys, looked }))
}

/// Looks at a key file now and then.
#[derive(Debug)]
pub struct KeyWatch {
    source: Option<KeySource>,
    keys: Option<Keyring>,
    /// What was there when it was last looked at, or why nothing could be read.
    looked: Option<Result<String, String>>,
}

impl KeyWatch {
    /// Ends when the file holds other keys, with them. May be dropped and asked again.
    pub async fn changed(&mut self) -> Keyring {
        if !matches!(self.source, Some(KeySource::File(_))) {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(PERIOD).await;
            if let Some(keys) = self.look() {
                return keys;
            }
        }
    }

    /// Other keys, if the file has some now. A bad file changes nothing and is told once.
    fn look(&mut self) -> Option<Keyring> {
        let source = self.source.as_ref()?;
        let now = text_now(source);
        if now == self.looked {
            return None;
        }
        self.looked = now;
        match read_keys(source) {
            Ok(keys) if Some(&keys) == self.keys.as_ref() => None,
            Ok(keys) => self.keys.insert(keys).clone().into(),
            Err(error) => {
                tracing::error!("{error}; the keys stay as they are");
                None
            }
        }
    }
}

fn text_now(source: &KeySource) -> Option<Result<String, String>> {
    match source {
        KeySource::File(path) => Some(text_of(path).map(|(text, _)| text).map_err(|error| error.to_string())),
        KeySource::Environment(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::model::ClusterKey;

    fn text(byte: u8) -> String {
        ClusterKey::new([byte; 32]).to_secret_text()
    }

    #[test]
    fn a_wrong_key_is_told_with_file_and_line_and_without_the_key() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "{}\n{}", text(1), &text(2)[..40]).unwrap();
        let told = read_keys(&KeySource::File(file.path().to_owned())).unwrap_err().to_string();
        assert!(told.starts_with(&format!("{}:2: ", file.path().display())) && told.contains("cut off"), "{told}");
        assert!(!told.contains("0202"), "{told}");
        let told = read_keys(&KeySource::Environment(text(1)[..40].to_owned())).unwrap_err().to_string();
        assert!(told.starts_with("LB_CLUSTER_KEY: ") && !told.contains("0101"), "{told}");
        assert!(read_keys(&KeySource::Environment(format!("{},{}", text(1), text(2)))).is_ok());
    }

    #[test]
    fn what_is_no_file_is_refused_at_once_and_a_long_one_is_not_read_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let told = |path: &Path| read_keys(&KeySource::File(path.to_owned())).unwrap_err().to_string();
        for path in [&*fifo, Path::new("/dev/zero"), directory.path()] {
            assert!(told(path).ends_with(": it is no regular file"), "{}", told(path));
        }
        let long = directory.path().join("long");
        let lines = |length: usize| fs::write(&long, text(1) + &"\n".repeat(length - text(1).len())).unwrap();
        fs::write(&long, "").unwrap();
        assert!(read_keys(&KeySource::File(long.clone())).is_err(), "no key");
        lines(MAX_FILE as usize);
        assert!(read_keys(&KeySource::File(long.clone())).is_ok());
        lines(MAX_FILE as usize + 1);
        assert!(told(&long).ends_with("too long for a list of keys"), "{}", told(&long));
    }

    #[test]
    fn other_keys_in_the_file_are_found_and_a_bad_file_changes_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text(1)).unwrap();
        let (secret, mut watch) = watched_keys(Some(KeySource::File(file.path().to_owned())), None).unwrap();
        assert_eq!(secret.unwrap().name.as_str(), "lb");
        for unchanged in [text(1), format!("# comment\n{}", text(1)), "nonsense".to_owned(), String::new()] {
            fs::write(file.path(), unchanged).unwrap();
            assert_eq!(watch.look(), None);
        }
        fs::write(file.path(), format!("{}\n{}", text(2), text(1))).unwrap();
        let keys = watch.look().unwrap();
        assert_eq!(keys.first(), &ClusterKey::new([2; 32]));
    }
}
