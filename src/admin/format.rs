//! Numbers and times as a person reads them, in the shapes that HAProxy's users know.

use std::time::Duration;

use maud::{Markup, html};

/// A time in at most two units: `55s`, `3m6s`, `1h2m`, `1d2h`.
pub(super) fn human(time: Duration) -> String {
    let Clock { days, hours, minutes, seconds } = Clock::of(time);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{seconds}s"),
        (0, _, _) => format!("{hours}h{minutes}m"),
        (_, _, _) => format!("{days}d{hours}h"),
    }
}

/// How long the process runs, `0d 0h00m39s`: monitoring tools look for exactly this.
pub(super) fn uptime(time: Duration) -> String {
    let Clock { days, hours, minutes, seconds } = Clock::of(time);
    format!("{days}d {hours}h{minutes:02}m{seconds:02}s")
}

struct Clock {
    days: u64,
    hours: u64,
    minutes: u64,
    seconds: u64,
}

impl Clock {
    fn of(time: Duration) -> Self {
        let seconds = time.as_secs();
        Self { days: seconds / 86_400, hours: seconds / 3600 % 24, minutes: seconds / 60 % 60, seconds: seconds % 60 }
    }
}

/// A number whose thousands stand apart. The gap is drawn and not written, so that a copied number stays a number.
pub(super) fn grouped(number: u64) -> Markup {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let (head, tail) = digits.split_at(first);
    let groups: Vec<&str> = std::iter::once(head).filter(|head| !head.is_empty()).chain(thousands(tail)).collect();
    let Some((last, before)) = groups.split_last() else { return html! {} };
    html! {
        @for group in before { span.k { (group) } }
        (last)
    }
}

fn thousands(digits: &str) -> impl Iterator<Item = &str> {
    (0..digits.len()).step_by(3).map(|start| &digits[start..start + 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_at_most_two_units() {
        let of = |seconds| human(Duration::from_secs(seconds));
        assert_eq!([0, 55, 60, 186, 3720].map(of), ["0s", "55s", "1m0s", "3m6s", "1h2m"]);
        assert_eq!([93_600, 86_400 * 400].map(of), ["1d2h", "400d0h"]);
        assert_eq!(human(Duration::from_millis(999)), "0s");
    }

    #[test]
    fn an_uptime_has_all_units() {
        assert_eq!(uptime(Duration::from_secs(39)), "0d 0h00m39s");
        assert_eq!(uptime(Duration::from_secs(2 * 86_400 + 3600 * 13 + 61)), "2d 13h01m01s");
    }

    #[test]
    fn digits_are_grouped_by_three() {
        let text = |number| grouped(number).into_string();
        assert_eq!(text(0), "0");
        assert_eq!(text(999), "999");
        assert_eq!(text(1000), "<span class=\"k\">1</span>000");
        assert_eq!(text(123_456), "<span class=\"k\">123</span>456");
        assert_eq!(text(12_345_678), "<span class=\"k\">12</span><span class=\"k\">345</span>678");
    }
}
