//! Slow start: a server that has just come up gets its share little by little (HAProxy: `slowstart`), because caches are
//! empty and connections have to be opened.

use std::time::Duration;

/// The share of a server that is warm, in percent.
pub const WHOLE: u32 = 100;

/// What a server that came up `ago` gets of its share, in percent: 1 at first, then evenly more, [`WHOLE`] after `over`.
pub fn warmth(ago: Duration, over: Duration) -> u32 {
    if ago >= over {
        return WHOLE;
    }
    let percent = ago.as_millis() * u128::from(WHOLE) / over.as_millis().max(1);
    (percent as u32).clamp(1, WHOLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_warms_up_evenly() {
        let over = Duration::from_secs(10);
        let after = |seconds| warmth(Duration::from_secs(seconds), over);
        assert_eq!([0, 1, 5, 9, 10, 99].map(after), [1, 10, 50, 90, 100, 100]);
        assert_eq!(warmth(Duration::ZERO, Duration::ZERO), WHOLE);
    }
}
