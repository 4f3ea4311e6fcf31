//! Session affinity: which endpoint answered a client first, told to the client, and told back by it (GEP-1619).
//!
//! The token names the endpoint by its hash and says when the session began: 24 hexadecimal digits; 8 more say when it was
//! last used, where sessions end by not being used. It is no secret and not signed: all that a forged one achieves is
//! another endpoint of the same service.

use std::time::Duration;

const TOKEN_BYTES: usize = 24;
const TOKEN_IN_USE_BYTES: usize = 32;

/// How sessions are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRules {
    /// Where the token travels.
    pub carrier: Carrier,
    /// The name of the cookie, or of the header field in lower case.
    pub name: Box<str>,
    /// After so long a new endpoint is chosen.
    pub absolute: Option<Duration>,
    /// After so long without a request a new endpoint is chosen.
    pub idle: Option<Duration>,
    /// Whether a cookie outlives the browser, for `absolute`.
    pub permanent: bool,
}

/// Where the token of a session travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// In `Cookie` and `Set-Cookie`.
    Cookie,
    /// In a header field of request and response.
    Header,
}

impl SessionRules {
    /// The name of a session that is given none.
    pub const NAME: &'static str = "mesh-session";
}

/// A session of some client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Its endpoint ([`crate::logic::balance::hash::endpoint`]).
    pub endpoint: u64,
    /// When it began, Unix seconds.
    pub began_s: u32,
    /// When it was used last, Unix seconds.
    pub used_s: u32,
}

impl Session {
    /// Parses a token.
    ///
    /// Returns `None` for anything that [`Self::token`] does not write.
    pub fn parse(token: &[u8]) -> Option<Self> {
        let fits = matches!(token.len(), TOKEN_BYTES | TOKEN_IN_USE_BYTES);
        if !fits || !token.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let (endpoint, times) = std::str::from_utf8(token).ok()?.split_at(16);
        let (began, used) = times.split_at(8);
        let began_s = u32::from_str_radix(began, 16).ok()?;
        Some(Self {
            endpoint: u64::from_str_radix(endpoint, 16).ok()?,
            began_s,
            used_s: if used.is_empty() { began_s } else { u32::from_str_radix(used, 16).ok()? },
        })
    }

    /// Returns the token that stands for it.
    pub fn token(&self) -> String {
        let token = format!("{:016x}{:08x}", self.endpoint, self.began_s);
        if self.used_s == self.began_s { token } else { format!("{token}{:08x}", self.used_s) }
    }

    /// Returns whether its time is over at `now_s`, Unix seconds. One from the future is over too.
    pub fn is_over(&self, rules: &SessionRules, now_s: u64) -> bool {
        let over = |limit: Option<Duration>, since_s: u32| {
            let age = now_s.checked_sub(u64::from(since_s));
            limit.is_some_and(|limit| age.is_none_or(|age| age >= limit.as_secs()))
        };
        over(rules.absolute, self.began_s) || over(rules.idle, self.used_s)
    }
}

/// Returns the value of a cookie in a `Cookie` field (RFC 6265 §4.2.1); the first of that name.
pub fn cookie<'a>(field: &'a [u8], name: &str) -> Option<&'a [u8]> {
    field.split(|byte| *byte == b';').find_map(|pair| {
        let (key, value) = pair.trim_ascii().split_at_checked(name.len())?;
        value.strip_prefix(b"=").filter(|_| key == name.as_bytes())
    })
}

/// Returns the `Set-Cookie` that gives a client its token: for all paths, out of reach of scripts, for `max_age_s` or until
/// the browser ends.
pub fn set_cookie(name: &str, token: &str, max_age_s: Option<u64>) -> String {
    let kept = max_age_s.map_or_else(String::new, |seconds| format!("; Max-Age={seconds}"));
    format!("{name}={token}; Path=/; HttpOnly; SameSite=Lax{kept}")
}
