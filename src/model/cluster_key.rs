//! The cluster's secret: a key as it is written in a file, and the ring of those that are accepted at one time.
//!
//! Why does a key carry a checksum? A key that lost its end in a paste or a full disk would still be some key, with which
//! a member talks to nobody; so it is refused where it is read. Nothing here prints a key: `Debug` and every message leave
//! it out, and [`KeyId`] is what people compare.

use std::{fmt, str::FromStr, sync::Arc};

use hkdf::Hkdf;
use sha2::{Digest, Sha256};

use super::{NameError, PoolName};

/// What the text of every key begins with.
const PREFIX: &str = "lbkey1_";
const KEY: usize = 32;
/// Bytes of SHA-256 behind the key.
const CHECKSUM: usize = 4;
/// Most keys that are accepted at one time: a rotation needs two, and each costs an attempt on forged datagrams.
const MAX_KEYS: usize = 8;

/// A secret that the members of one cluster share: 32 random bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey {
    secret: [u8; KEY],
    /// Asked for with each datagram.
    id: KeyId,
}

/// What a key is called in logs and on pages. Tells nothing of the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyId(pub [u8; 4]);

/// Why a text is no key. Says nothing of the text itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It does not begin as keys do.
    #[error("this is no cluster key, which begins with '{PREFIX}' (make one with 'lb keygen')")]
    Prefix,
    /// Something was cut off, or added.
    #[error("the cluster key has {0} characters, {LENGTH} are expected: was it cut off?")]
    Length(usize),
    /// It has something else than hexadecimal digits.
    #[error("the cluster key has a character that is no hexadecimal digit after '{PREFIX}'")]
    Digit,
    /// Its checksum is wrong.
    #[error("the cluster key is mistyped: its checksum is wrong")]
    Checksum,
    /// It is there twice.
    #[error("the cluster key {0} is there twice")]
    Twice(KeyId),
    /// Too many at one time.
    #[error("more than {MAX_KEYS} cluster keys: remove those that no member sends with any more")]
    TooMany,
    /// There is none.
    #[error("there is no cluster key (make one with 'lb keygen')")]
    Empty,
}

const LENGTH: usize = PREFIX.len() + 2 * (KEY + CHECKSUM);

impl ClusterKey {
    /// The key of these bytes, which should be random.
    pub fn new(bytes: [u8; KEY]) -> Self {
        let mut id = [0; 4];
        derive(&bytes, &[], b"lb key id", &mut id);
        Self { secret: bytes, id: KeyId(id) }
    }

    /// The text that [`FromStr`] reads: `lbkey1_`, the key and its checksum in hexadecimal digits. The secret itself.
    pub fn to_secret_text(&self) -> String {
        let bytes = self.secret.iter().copied().chain(checksum(&self.secret));
        std::iter::once(PREFIX.to_owned()).chain(bytes.map(|byte| format!("{byte:02x}"))).collect()
    }

    /// What people call it.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// A key for one purpose (HKDF-SHA256, RFC 5869). At most 8,160 bytes.
    pub fn derive(&self, salt: &[u8], purpose: &[u8], into: &mut [u8]) {
        derive(&self.secret, salt, purpose, into);
    }
}

impl FromStr for ClusterKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let digits = text.strip_prefix(PREFIX).ok_or(KeyError::Prefix)?;
        if text.len() != LENGTH {
            return Err(KeyError::Length(text.chars().count()));
        }
        let mut bytes = [0; KEY + CHECKSUM];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(KeyError::Digit);
            let &[high, low] = pair else { return Err(KeyError::Digit) };
            *byte = u8::try_from(digit(high)? * 16 + digit(low)?).map_err(|_| KeyError::Digit)?;
        }
        let (key, sum) = bytes.split_at(KEY);
        let key: [u8; KEY] = key.try_into().map_err(|_| KeyError::Length(0))?;
        if checksum(&key) == sum { Ok(Self::new(key)) } else { Err(KeyError::Checksum) }
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterKey({})", self.id())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn derive(secret: &[u8; KEY], salt: &[u8], purpose: &[u8], into: &mut [u8]) {
    let done = Hkdf::<Sha256>::new(Some(salt), secret).expand(purpose, into);
    debug_assert!(done.is_ok(), "nothing asks for more than HKDF can give");
}

fn checksum(key: &[u8; KEY]) -> [u8; CHECKSUM] {
    let digest = Sha256::digest(key);
    std::array::from_fn(|index| digest[index])
}

/// The keys of a member: one to send with, all to accept. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyring {
    keys: Vec<ClusterKey>,
}

/// What is wrong in a list of keys, and on which line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyringError {
    /// Line, counted from 1; `None` when it is in no one line.
    pub line: Option<usize>,
    /// What is wrong.
    pub error: KeyError,
}

impl Keyring {
    /// A ring of one key.
    pub fn new(key: ClusterKey) -> Self {
        Self { keys: vec![key] }
    }

    /// Reads a list of keys, one on a line or separated by commas. The first is sent with, all are accepted. Empty lines
    /// and what follows a `#` count for nothing.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        let mut keys: Vec<ClusterKey> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let fail = |error| KeyringError { line: Some(index + 1), error };
            let line = line.split('#').next().unwrap_or_default();
            for word in line.split(',').map(str::trim).filter(|word| !word.is_empty()) {
                let key: ClusterKey = word.parse().map_err(fail)?;
                // Two keys of one name could not be told apart on the wire.
                if keys.iter().any(|known| known.id() == key.id()) {
                    return Err(fail(KeyError::Twice(key.id())));
                }
                if keys.len() == MAX_KEYS {
                    return Err(fail(KeyError::TooMany));
                }
                keys.push(key);
            }
        }
        if keys.is_empty() { Err(KeyringError { line: None, error: KeyError::Empty }) } else { Ok(Self { keys }) }
    }

    /// All keys; the first is the one to send with.
    pub fn keys(&self) -> &[ClusterKey] {
        &self.keys
    }

    /// The key to send with.
    pub fn first(&self) -> &ClusterKey {
        &self.keys[0]
    }
}

/// Name of a cluster: members that share a key, and not the name, do not know each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClusterName(Arc<str>);

impl ClusterName {
    /// The name as text: 1 to 63 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        PoolName::parse(text).map(|name| Self(name.as_str().into()))
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Default for ClusterName {
    fn default() -> Self {
        Self("lb".into())
    }
}

/// What keeps a cluster to itself: the keys of its members and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSecret {
    /// The keys.
    pub keys: Keyring,
    /// The name; `lb` when nobody chooses one.
    pub name: ClusterName,
}

/// A key from which the values of sticky cookies are made.
#[derive(Clone, PartialEq, Eq)]
pub struct CookieKey([u8; KEY]);

impl CookieKey {
    /// The one that belongs to a cluster key: a cookie tells nothing of that.
    pub fn of(key: &ClusterKey) -> Self {
        let mut bytes = [0; KEY];
        key.derive(&[], b"lb cookie", &mut bytes);
        Self(bytes)
    }

    /// What the cookie says of a text: HMAC-SHA256, shortened to 8 bytes.
    pub fn value(&self, text: &str) -> [u8; 8] {
        let mut value = [0; 8];
        // One block of HKDF's expansion is HMAC(key, text || 0x01) (RFC 5869 section 2.3).
        let done = Hkdf::<Sha256>::from_prk(&self.0).map(|hkdf| hkdf.expand(text.as_bytes(), &mut value));
        debug_assert!(matches!(done, Ok(Ok(()))), "the key is as long as a digest");
        value
    }
}

impl fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieKey")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> ClusterKey {
        ClusterKey::new([byte; KEY])
    }

    #[test]
    fn a_ring_sends_with_its_first_key_and_skips_comments() {
        let text = format!(
            "# made on Monday\n\n{} # in use\n  {},{}\n",
            key(1).to_secret_text(),
            key(2).to_secret_text(),
            key(3).to_secret_text()
        );
        assert_eq!(Keyring::parse(&text).unwrap().keys(), [key(1), key(2), key(3)]);
    }

    #[test]
    fn what_is_no_key_is_told_with_its_line_and_never_repeated() {
        let good = key(1).to_secret_text();
        let swapped = good.replacen("0101", "0110", 1);
        let many: String = (0..9).map(|byte| key(byte).to_secret_text() + "\n").collect();
        for (text, line, error) in [
            (format!("\n{}", &good[..good.len() - 1]), Some(2), KeyError::Length(LENGTH - 1)),
            (format!("{good}0"), Some(1), KeyError::Length(LENGTH + 1)),
            (good.replace("lbkey1_", ""), Some(1), KeyError::Prefix),
            (good.replacen("01", "0g", 1), Some(1), KeyError::Digit),
            (swapped, Some(1), KeyError::Checksum),
            (format!("{good}\n{good}"), Some(2), KeyError::Twice(key(1).id())),
            (many, Some(9), KeyError::TooMany),
            ("# nothing\n".to_owned(), None, KeyError::Empty),
        ] {
            let told = Keyring::parse(&text).unwrap_err();
            assert_eq!(told, KeyringError { line, error });
            assert!(!told.error.to_string().contains("010101"), "{}", told.error);
        }
    }

    #[test]
    fn nothing_that_is_printed_has_the_key_in_it() {
        let secret = key(0xab).to_secret_text();
        let ring = Keyring::new(key(0xab));
        let printed = format!("{ring:?} {:?} {}", CookieKey::of(&key(0xab)), key(0xab).id());
        assert!(!printed.contains("abab") && !printed.contains(&secret) && !printed.contains("171"), "{printed}");
    }

    #[test]
    fn keys_for_two_purposes_or_senders_differ() {
        let derive = |salt: &[u8], purpose: &[u8]| {
            let mut bytes = [0; 32];
            key(1).derive(salt, purpose, &mut bytes);
            bytes
        };
        assert_ne!(derive(b"a", b"x"), derive(b"b", b"x"));
        assert_ne!(derive(b"a", b"x"), derive(b"a", b"y"));
        assert_ne!(CookieKey::of(&key(1)).value("s1"), CookieKey::of(&key(2)).value("s1"));
        assert_ne!(CookieKey::of(&key(1)).value("s1"), CookieKey::of(&key(1)).value("s2"));
    }

    proptest! {
        #[test]
        fn every_key_survives_its_text_and_no_spoiled_text_is_a_key(
            bytes in any::<[u8; KEY]>(), place in 0..LENGTH, digit in "[0-9a-f]"
        ) {
            let text = ClusterKey::new(bytes).to_secret_text();
            prop_assert_eq!(text.parse(), Ok(ClusterKey::new(bytes)));
            let mut spoiled = text.clone();
            spoiled.replace_range(place..=place, &digit);
            prop_assert_eq!(spoiled.parse::<ClusterKey>().is_ok(), spoiled == text);
        }

        #[test]
        fn any_text_is_a_ring_or_is_refused(text in "[ -~\n]{0,200}") {
            let _ = Keyring::parse(&text);
        }
    }
}
