//! Reads single values and notes what is wrong with each.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use super::{
    Problem,
    raw::{Number, Text, line_of},
};

/// Longest time that can be asked for.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Collects problems while a configuration is read.
pub(super) struct Checker<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(text: &'a str, problems: Vec<Problem>) -> Self {
        Self { text, problems }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Notes a problem at a place in the file, or in no one place.
    pub(super) fn note(&mut self, place: Option<usize>, message: &str) {
        let line = place.map(|place| line_of(self.text, place));
        self.problems.push(Problem { line, message: message.to_owned() });
    }

    /// Reads a value by its `FromStr`.
    pub(super) fn parse<T>(&mut self, text: Option<Text>, key: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.convert(text?, key, |text| text.parse::<T>())
    }

    /// Reads a value.
    pub(super) fn convert<T, E: Display>(
        &mut self,
        text: Text,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let place = text.span().start;
        match read(text.get_ref()) {
            Ok(value) => Some(value),
            Err(error) => {
                self.note(Some(place), &format!("{key}: {error}"));
                None
            }
        }
    }

    /// Reads a number within a range.
    pub(super) fn number<T: TryFrom<i64>>(
        &mut self,
        number: Option<Number>,
        key: &str,
        range: RangeInclusive<i64>,
    ) -> Option<T> {
        let number = number?;
        let value =
            Some(*number.get_ref()).filter(|value| range.contains(value)).and_then(|value| T::try_from(value).ok());
        if value.is_none() {
            let message = format!(
                "{key}: {} is out of range: {} to {} is expected",
                number.get_ref(),
                range.start(),
                range.end()
            );
            self.note(Some(number.span().start), &message);
        }
        value
    }

    /// Reads a time that is longer than nothing.
    pub(super) fn duration(&mut self, text: Option<Text>, key: &str) -> Option<Duration> {
        self.convert(text?, key, |text| parse_duration(text).and_then(|time| longer_than_nothing(text, time)))
    }

    /// Reads a time that may be zero.
    pub(super) fn duration_or_zero(&mut self, text: Option<Text>, key: &str) -> Option<Duration> {
        self.convert(text?, key, parse_duration)
    }
}

/// Reads a time with its unit, such as `5s`, `250ms` or `1h 30m`; at most 7 days.
///
/// # Errors
/// When it is no time, or too long.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = "a time with its unit is expected, such as '5s', '250ms' or '1h 30m'";
    let time = if text == "0" { Ok(Duration::ZERO) } else { humantime::parse_duration(text) };
    let time = time.map_err(|_| format!("{text:?} is no time: {expected}"))?;
    if time > LONGEST { Err(format!("{text:?} is too long: at most 7 days are allowed")) } else { Ok(time) }
}

fn longer_than_nothing(text: &str, time: Duration) -> Result<Duration, String> {
    if time < Duration::from_millis(1) {
        Err(format!("{text:?} is too short: at least '1ms' is expected"))
    } else {
        Ok(time)
    }
}
