//! What an operator asks of the cookie that keeps users on a server.

use std::time::Duration;

/// Stickiness by a cookie (HAProxy: `cookie NAME …`, configuration manual section 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookiePolicy {
    /// Name of the cookie, a token (RFC 6265 section 4.1.1).
    pub name: String,
    /// Whose cookie it is.
    pub mode: CookieMode,
}

/// Whose cookie it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CookieMode {
    /// The balancer's: it sets it, and the application never sees it (HAProxy: `insert indirect nocache`).
    Insert(InsertedCookie),
    /// The application's: what it sets goes to the client with the server's name before it, and comes back without
    /// (HAProxy: `prefix`).
    Prefix,
}

/// A cookie that the balancer sets. Its path is `/`, and it ends with the browser's session.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct InsertedCookie {
    /// A cookie of that name which the application sets passes, and none is inserted then (HAProxy: `preserve`).
    pub preserve: bool,
    /// Scripts in the page cannot read it (HAProxy: `httponly`).
    pub http_only: bool,
    /// Browsers send it over TLS alone (HAProxy: `secure`).
    pub secure: bool,
    /// Whether it is sent with requests that other sites cause (HAProxy: `attr "SameSite=…"`).
    pub same_site: Option<SameSite>,
    /// Domains whose hosts get it; empty is the one host that set it (HAProxy: `domain`, repeated).
    pub domains: Vec<String>,
    /// How long it is good.
    pub lifetime: Lifetime,
}

/// How long an inserted cookie is good. What is older is ignored, and its user is balanced anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Lifetime {
    /// Since it was last used (HAProxy: `maxidle`); `None` is no limit.
    pub max_idle: Option<Duration>,
    /// Since the user first got one (HAProxy: `maxlife`); `None` is no limit.
    pub max_life: Option<Duration>,
}

/// Whether a cookie is sent with requests that other sites cause (RFC 6265bis section 4.1.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Always; browsers demand `Secure` for it.
    None,
    /// Only when the user follows a link.
    Lax,
    /// Never.
    Strict,
}

impl CookiePolicy {
    /// Stickiness by a cookie of that name.
    ///
    /// # Errors
    /// When the name is not a token (RFC 9110 section 5.6.2), or browsers would drop a cookie of that name with these
    /// attributes (RFC 6265bis section 4.1.3).
    pub fn new(name: &str, mode: CookieMode) -> Result<Self, String> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(format!("{name:?} is no name for a cookie: letters, digits and !#$%&'*+-.^_`|~ are allowed"));
        }
        if let CookieMode::Insert(InsertedCookie { secure, domains, .. }) = &mode {
            let begins = |prefix: &str| name.get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix));
            let is_host = begins("__Host-");
            if (is_host || begins("__Secure-")) && !secure {
                return Err(format!("browsers drop a cookie named {name} that is not secure: say secure = true"));
            }
            if is_host && !domains.is_empty() {
                return Err(format!("browsers drop a cookie named {name} that has a domain: leave domain out"));
            }
        }
        Ok(Self { name: name.to_owned(), mode })
    }
}

impl Default for CookieMode {
    fn default() -> Self {
        Self::Insert(InsertedCookie::default())
    }
}

impl Lifetime {
    /// Whether it ends with nothing but the browser's session.
    pub fn is_unlimited(&self) -> bool {
        let Self { max_idle, max_life } = self;
        max_idle.is_none() && max_life.is_none()
    }
}

impl SameSite {
    /// The word in a Set-Cookie line.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Lax => "Lax",
            Self::Strict => "Strict",
        }
    }
}

impl std::str::FromStr for SameSite {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::None, Self::Lax, Self::Strict]
            .into_iter()
            .find(|choice| choice.word().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("{text:?} is no such rule: 'none', 'lax' or 'strict' is expected"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_browsers_would_drop_is_refused() {
        let secure = |secure, domains: &[&str]| {
            let domains = domains.iter().map(|&domain| domain.to_owned()).collect();
            CookieMode::Insert(InsertedCookie { secure, domains, ..InsertedCookie::default() })
        };
        let told = |name, mode| CookiePolicy::new(name, mode).unwrap_err();
        for name in ["__Secure-S", "__host-S"] {
            assert!(told(name, secure(false, &[])).contains("secure = true"));
            assert!(CookiePolicy::new(name, secure(true, &[])).is_ok());
        }
        assert!(told("__Host-S", secure(true, &["a.example"])).contains("leave domain out"));
        assert!(CookiePolicy::new("__Secure-S", secure(true, &["a.example"])).is_ok());
        assert!(CookiePolicy::new("__Host-S", CookieMode::Prefix).is_ok(), "its attributes are the application's");
        for name in ["", "a b", "a;b", "\u{e9}"] {
            assert!(told(name, CookieMode::Prefix).contains("is no name for a cookie"));
        }
    }
}
