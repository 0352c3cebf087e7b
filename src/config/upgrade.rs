//! Names of protocols to which a client may switch its connection.

use std::{fmt, str::FromStr};

/// A protocol as the `Upgrade` header names it (RFC 9110 section 7.8), such as `websocket`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeProtocol(String);

impl UpgradeProtocol {
    /// The one that is allowed when nothing is said.
    pub fn websocket() -> Self {
        Self("websocket".to_owned())
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UpgradeProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for UpgradeProtocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&byte);
        if text.is_empty() || !text.bytes().all(allowed) {
            return Err(format!(
                "\"{text}\" is no protocol: a name as the Upgrade header has it is expected, such as 'websocket'"
            ));
        }
        let name = text.split('/').next().unwrap_or_default();
        if ["h2c", "http", "tls"].iter().any(|other| name.eq_ignore_ascii_case(other)) {
            // Whoever speaks HTTP within the tunnel goes past every rule of the balancer.
            return Err(format!("\"{text}\" would carry requests past the balancer's rules: it can't be allowed"));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_that_carry_http_are_refused() {
        for good in ["websocket", "tcp", "SPDY/3.1"] {
            assert_eq!(good.parse::<UpgradeProtocol>().unwrap().to_string(), good);
        }
        for (bad, why) in [("h2c", "past the"), ("HTTP/2.0", "past the"), ("", "no protocol"), ("a, b", "no protocol")]
        {
            let told = bad.parse::<UpgradeProtocol>().unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }
}
