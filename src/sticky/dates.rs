//! The dates that an inserted cookie carries when its life is limited.
//!
//! They stand behind the server's name in HAProxy's format: `name|last|first`, when it was last used and when the user
//! first got one, each as five digits of base64, counting units of four seconds since 1970. A date that no limit needs
//! is left out: `name|last`, `name||first`. HAProxy reads the latter, and itself writes both.
//!
//! Nobody seals them. A user who writes a date of his own can stay longer than he should, which he could as well by leaving
//! the dates out: a cookie without them is good, so that a limit which is new moves nobody.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use crate::model::Lifetime;

/// Seconds in a unit.
const UNIT: u64 = 4;
/// Digits of a date.
const DIGITS: usize = 5;
/// Longest date: what five digits can say. It is reached in 2106.
const LAST: u64 = (1 << (6 * DIGITS as u32)) - 1;
/// A date further in the future than that is no mistake of a clock.
const SKEW: Duration = Duration::from_secs(24 * 3600);
/// The digits (RFC 4648 section 4).
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A moment, in units of four seconds since 1970; `Display` writes its digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Date(u32);

/// When a cookie was last used, and when its user first got one; `Display` writes what stands behind the server's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dates {
    /// When it was last used.
    pub last: Option<Date>,
    /// When its user first got one.
    pub first: Option<Date>,
}

/// What becomes of a cookie that carries dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is good.
    Good,
    /// It is good, and the client gets it again with these dates.
    Renew(Dates),
    /// It was not used for too long.
    Expired,
    /// Its user got the first one too long ago.
    TooOld,
}

impl Date {
    /// The date of a moment. Rounded up, so that nobody is sent away early.
    pub fn at(moment: SystemTime) -> Self {
        let seconds = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let units = seconds.div_ceil(UNIT).min(LAST);
        Self(u32::try_from(units).unwrap_or_default())
    }

    /// The date in a text; `None` when it is none.
    fn read(text: &[u8]) -> Option<Self> {
        let digit = |byte: &u8| ALPHABET.iter().position(|known| known == byte).and_then(|at| u32::try_from(at).ok());
        let digits = Some(text).filter(|text| text.len() == DIGITS)?;
        let units = digits.iter().try_fold(0, |units, byte| Some(units << 6 | digit(byte)?))?;
        (units > 0).then_some(Self(units))
    }

    /// Time since then; zero when it is in the future.
    fn age(self, now: Self) -> Duration {
        Duration::from_secs(u64::from(now.0.saturating_sub(self.0)) * UNIT)
    }

    /// Whether it is longer ago than `most`, or so far in the future that it cannot be true.
    fn is_beyond(self, most: Duration, now: Self) -> bool {
        // Dates that are rounded can lie a unit further apart than what they stand for.
        let most = (most.as_secs() + u64::from(most.subsec_nanos() > 0)).div_ceil(UNIT) * UNIT;
        self.age(now) > Duration::from_secs(most) || now.age(self) > SKEW
    }
}

impl Dates {
    /// Splits a cookie's value into the server's name and the dates behind it. What is no date is ignored.
    pub fn split(value: &[u8]) -> (&[u8], Self) {
        let mut parts = value.split(|&byte| byte == b'|');
        let name = parts.next().unwrap_or_default();
        let mut date = || parts.next().and_then(Date::read);
        (name, Self { last: date(), first: date() })
    }

    /// The dates of a new cookie, for a user who got the first one at `first`, if he had one. `now` is not looked at when
    /// there is no limit.
    pub fn new(lifetime: &Lifetime, first: Option<Date>, now: Date) -> Self {
        Self { last: None, first }.renewed(lifetime, now)
    }

    /// Whether a cookie with these dates is still good. `now` is not looked at when there is no limit.
    pub fn judge(self, lifetime: &Lifetime, now: Date) -> Verdict {
        let is_beyond = |date: Option<Date>, most: Option<Duration>| {
            date.zip(most).is_some_and(|(date, most)| date.is_beyond(most, now))
        };
        if is_beyond(self.first, lifetime.max_life) {
            return Verdict::TooOld;
        }
        if is_beyond(self.last, lifetime.max_idle) {
            return Verdict::Expired;
        }
        let renewed = self.renewed(lifetime, now);
        if renewed == self { Verdict::Good } else { Verdict::Renew(renewed) }
    }

    /// The dates that the limits need. A clock that went back does not take time away.
    fn renewed(self, lifetime: &Lifetime, now: Date) -> Self {
        let Lifetime { max_idle, max_life } = lifetime;
        Self {
            last: max_idle.map(|_| self.last.unwrap_or(now).max(now)),
            first: max_life.map(|_| self.first.unwrap_or(now)),
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (0..DIGITS).rev().try_for_each(|place| {
            let digit = (self.0 >> (6 * place)) & 63;
            write!(f, "{}", char::from(ALPHABET[digit as usize]))
        })
    }
}

impl fmt::Display for Dates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.last, self.first) {
            (None, None) => Ok(()),
            (Some(last), None) => write!(f, "|{last}"),
            (None, Some(first)) => write!(f, "||{first}"),
            (Some(last), Some(first)) => write!(f, "|{last}|{first}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDLE: Duration = Duration::from_secs(1800);
    const LIFE: Duration = Duration::from_secs(8 * 3600);
    const NONE: Lifetime = Lifetime { max_idle: None, max_life: None };
    const BOTH: Lifetime = Lifetime { max_idle: Some(IDLE), max_life: Some(LIFE) };

    fn at(seconds: u64) -> Date {
        Date::at(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    fn dates(last: Option<u64>, first: Option<u64>) -> Dates {
        Dates { last: last.map(at), first: first.map(at) }
    }

    const NOW: u64 = 1_795_392_848;

    #[test]
    fn dates_are_written_as_haproxy_writes_them() {
        // 23/Nov/2026:00:14:05 in its log.
        assert_eq!(at(1_795_392_845).to_string(), "awOFU");
        let both = Dates::new(&BOTH, None, at(NOW));
        assert_eq!(both.to_string(), "|awOFU|awOFU");
        assert_eq!(Dates::split(b"c1|awOFU|awOFU"), (&b"c1"[..], both));
        assert_eq!(at(u64::MAX / 2).to_string(), "/////");
    }

    #[test]
    fn what_is_no_date_is_no_date() {
        for text in ["c1", "c1|", "c1||", "c1|xx", "c1|AAAAA|AAAAA", "c1|awOF!|awOFUU", "c1||awO|awOFU"] {
            assert_eq!(Dates::split(text.as_bytes()), (&b"c1"[..], Dates::default()), "{text}");
        }
        assert_eq!(Dates::split(b"c1|xx|awOFU|awOFU"), (&b"c1"[..], dates(None, Some(NOW))));
        assert_eq!(Dates::split(b""), (&b""[..], Dates::default()));
    }

    #[test]
    fn a_cookie_is_good_until_its_time_is_over() {
        let judge = |last: i64, first: i64| {
            let moment = |ago: i64| NOW.checked_add_signed(-ago);
            dates(moment(last), moment(first)).judge(&BOTH, at(NOW))
        };
        let renewed = |first: u64| Verdict::Renew(dates(Some(NOW), Some(NOW - first)));
        assert_eq!(judge(0, 0), Verdict::Good);
        assert_eq!(judge(4, 8), renewed(8));
        assert_eq!(judge(1800, 2000), renewed(2000));
        assert_eq!(judge(1804, 2000), Verdict::Expired);
        assert_eq!(judge(60, 8 * 3600), renewed(8 * 3600));
        assert_eq!(judge(60, 8 * 3600 + 4), Verdict::TooOld);
        assert_eq!(judge(1804, 8 * 3600 + 4), Verdict::TooOld, "the stronger of the two is told");
        assert_eq!(judge(-3600, -3600), Verdict::Good, "a clock may be wrong by an hour");
        assert_eq!(judge(-25 * 3600, 0), Verdict::Expired);
        assert_eq!(judge(0, -25 * 3600), Verdict::TooOld);
    }

    #[test]
    fn a_cookie_gets_the_dates_that_the_limits_need_and_no_others() {
        let now = at(NOW);
        let idle = Lifetime { max_idle: Some(IDLE), max_life: None };
        let life = Lifetime { max_idle: None, max_life: Some(LIFE) };
        let all = [NONE, idle, life, BOTH].map(|lifetime| Dates::new(&lifetime, None, now).to_string());
        assert_eq!(all, ["", "|awOFU", "||awOFU", "|awOFU|awOFU"]);
        for lifetime in [NONE, idle, life, BOTH] {
            let wanted = Dates::new(&lifetime, None, now);
            for other in [NONE, idle, life, BOTH] {
                let given = Dates::new(&other, None, now);
                let verdict = if given == wanted { Verdict::Good } else { Verdict::Renew(wanted) };
                assert_eq!(given.judge(&lifetime, now), verdict, "{given} under {lifetime:?}");
            }
        }
        assert_eq!(dates(None, Some(NOW - 60)).judge(&life, now), Verdict::Good, "the first date is never renewed");
    }

    #[test]
    fn a_user_who_moves_keeps_his_first_date() {
        assert_eq!(Dates::new(&BOTH, Some(at(NOW - 60)), at(NOW)), dates(Some(NOW), Some(NOW - 60)));
        assert_eq!(Dates::new(&NONE, Some(at(NOW - 60)), at(NOW)), Dates::default());
    }

    proptest! {
        #[test]
        fn nobody_is_sent_away_early_or_more_than_a_unit_late(
            last in NOW..NOW + 8,
            age in 0_u64..100,
            max_idle in 1_u64..100,
        ) {
            let lifetime = Lifetime { max_idle: Some(Duration::from_secs(max_idle)), max_life: None };
            let verdict = dates(Some(last), None).judge(&lifetime, at(last + age));
            prop_assert!(age > max_idle || verdict != Verdict::Expired);
            prop_assert!(age < max_idle + 2 * UNIT || verdict == Verdict::Expired);
        }

        #[test]
        fn what_is_written_is_read_again(last in prop::option::of(1..=LAST), first in prop::option::of(1..=LAST)) {
            let written = dates(last.map(|units| units * UNIT), first.map(|units| units * UNIT));
            let value = format!("0123456789abcdef{written}");
            prop_assert_eq!(Dates::split(value.as_bytes()), (&b"0123456789abcdef"[..], written));
        }

        #[test]
        fn a_renewed_cookie_is_good(
            last in prop::option::of(NOW - 100_000..NOW + 100_000),
            first in prop::option::of(NOW - 100_000..NOW + 100_000),
            max_idle in prop::option::of(1_u64..100_000),
            max_life in prop::option::of(1_u64..100_000),
        ) {
            let (max_idle, max_life) = (max_idle.map(Duration::from_secs), max_life.map(Duration::from_secs));
            let lifetime = Lifetime { max_idle, max_life };
            let before = dates(last, first);
            if let Verdict::Renew(after) = before.judge(&lifetime, at(NOW)) {
                prop_assert_eq!(after.judge(&lifetime, at(NOW)), Verdict::Good);
                prop_assert!(after.first.is_none() || before.first.is_none() || after.first == before.first);
            }
        }
    }
}
