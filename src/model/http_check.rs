//! What an HTTP check says, and what it wants to hear.

use std::{fmt, ops::RangeInclusive, str::FromStr, sync::Arc};

use http::{HeaderName, HeaderValue};

/// The parts of an HTTP check beside its method and path.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HttpCheck {
    /// The `Host` line; `None` is the address that is asked.
    pub host: Option<HeaderValue>,
    /// Further header lines.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Statuses that pass.
    pub expect_status: StatusSet,
    /// What the first 64 KiB of the body must contain.
    pub expect_body: Option<Arc<[u8]>>,
    /// A server that is up and answers 404 wants no new users (HAProxy: `http-check disable-on-404`).
    pub disable_on_404: bool,
}

/// A set of HTTP statuses, as `200-399,401`. `Display` writes it as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSet(Vec<RangeInclusive<u16>>);

impl StatusSet {
    /// Whether the status is one of them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl Default for StatusSet {
    /// 2xx and 3xx, as for HAProxy's `option httpchk`.
    fn default() -> Self {
        Self(vec![200..=399])
    }
}

impl FromStr for StatusSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            // A status has three digits (RFC 9110 section 15).
            let status = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..=999).contains(status));
            let (first, last) = (status(first)?, status(last)?);
            (first <= last).then_some(first..=last)
        };
        let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
        ranges.map(Self).ok_or_else(|| {
            format!("{text:?} is no set of statuses: statuses and ranges from 100 to 999 are expected, such as '200-399,401'")
        })
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let (first, last) = (range.start(), range.end());
            f.write_str(if index > 0 { "," } else { "" })?;
            if first == last { write!(f, "{first}")? } else { write!(f, "{first}-{last}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_set_has_ranges_and_single_statuses() {
        let set: StatusSet = "200-299, 401,503".parse().unwrap();
        let inside = |status| set.contains(status);
        assert_eq!([199, 200, 299, 300, 401, 402, 503].map(inside), [false, true, true, false, true, false, true]);
        assert_eq!(set.to_string(), "200-299,401,503");
        assert_eq!(StatusSet::default().to_string(), "200-399");
    }

    proptest! {
        #[test]
        fn a_set_is_written_as_it_is_read(ranges in prop::collection::vec((100u16..=999, 0u16..900), 1..5), status: u16) {
            let ends = |(first, length): (u16, u16)| (first, (first + length).min(999));
            let text: Vec<_> = ranges.iter().map(|range| format!("{}-{}", ends(*range).0, ends(*range).1)).collect();
            let set: StatusSet = text.join(",").parse().unwrap();
            prop_assert_eq!(set.to_string().parse(), Ok(set.clone()));
            let inside = ranges.iter().map(|range| ends(*range)).any(|(first, last)| (first..=last).contains(&status));
            prop_assert_eq!(set.contains(status), inside);
        }

        #[test]
        fn any_text_is_a_set_or_none(text in "[0-9, -]{0,20}|.{0,20}") {
            let _ = text.parse::<StatusSet>();
        }
    }

    #[test]
    fn what_is_no_set_says_what_would_be_one() {
        for text in ["", "2xx", "99", "1000", "300-200", "200-", "-200", "200,,201", "65537"] {
            let error = text.parse::<StatusSet>().unwrap_err();
            assert!(error.contains("'200-399,401'"), "{text}: {error}");
        }
    }
}
