//! `lb keygen`, and the keys that the environment holds.

use super::say;
use crate::{
    config::{CLUSTER_KEY_VARIABLE, KeySource},
    model::{ClusterKey, KeyId},
};

/// Where the keys are: in the file that was named, or in the environment. No option holds them: everybody on the machine
/// can read the arguments of a process.
///
/// # Errors
/// When they are in both, and nobody says which are meant.
pub(super) fn source(file: Option<KeySource>) -> Result<Option<KeySource>, String> {
    let text = std::env::var_os(CLUSTER_KEY_VARIABLE).filter(|text| !text.is_empty());
    match (file, text) {
        (Some(_), Some(_)) => {
            Err(format!("--cluster-key-file (LB_CLUSTER_KEY_FILE) and {CLUSTER_KEY_VARIABLE} are both there: keep one"))
        }
        (None, Some(text)) => Ok(Some(KeySource::Environment(text.to_string_lossy().into_owned()))),
        (file, None) => Ok(file),
    }
}

/// Prints a new key, and what logs and pages call it.
pub(super) fn generate() {
    let key = ClusterKey::new(rand::random());
    say(&format!("{}\n", line(&key.to_secret_text(), key.id())));
}

fn line(secret: &str, id: KeyId) -> String {
    format!("{secret} # key {id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Keyring;

    #[test]
    fn what_is_printed_is_a_key_file() {
        let key = ClusterKey::new([9; 32]);
        let ring = Keyring::parse(&line(&key.to_secret_text(), key.id())).unwrap();
        assert_eq!(ring.keys(), [key]);
    }
}
