//! What a pool says of its servers' health: checks, outliers, what is tried again.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderName, HeaderValue, Method, header};
use toml::Spanned;

use crate::{
    config::{
        CheckChoice,
        checker::Checker,
        raw::{Number, RawCheck, RawOutlier, Text},
    },
    model::{CheckKind, CheckPolicy, HttpCheck, OutlierPolicy, RetryOn, StatusSet},
};

/// Header lines of a check that have their own key, or that say how the connection is used.
const OWN_HEADERS: [HeaderName; 4] =
    [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING];

impl Checker<'_> {
    pub(super) fn check(&mut self, raw: RawCheck) -> Option<CheckPolicy> {
        let RawCheck {
            request,
            host,
            headers,
            expect_status,
            expect_body,
            disable_on_404,
            port,
            interval,
            fast_interval,
            down_interval,
            timeout,
            rise,
            fall,
        } = raw;
        let default = CheckPolicy::default();
        let place = request.as_ref().map(|request| request.span().start);
        let choice = self.parse(request, "request");
        let body_place = expect_body.as_ref().map(|text| text.span().start);
        let policy = CheckPolicy {
            kind: default.kind,
            http: HttpCheck {
                host: host.and_then(|host| self.convert(host, "host", header_value)),
                headers: self.check_headers(headers),
                expect_status: self.parse::<StatusSet>(expect_status, "expect-status").unwrap_or_default(),
                expect_body: expect_body.and_then(|text| self.convert(text, "expect-body", body_part)),
                disable_on_404,
            },
            interval: self.duration(interval, "interval").unwrap_or(default.interval),
            fast_interval: self.duration(fast_interval, "fast-interval"),
            down_interval: self.duration(down_interval, "down-interval"),
            timeout: self.duration(timeout, "timeout"),
            port: self.port(port, "port"),
            rise: self.number(rise, "rise", 1..=1000).unwrap_or(default.rise),
            fall: self.number(fall, "fall", 1..=1000).unwrap_or(default.fall),
        };
        let policy = match choice {
            Some(CheckChoice::Off) => return None,
            Some(CheckChoice::Kind(kind)) => CheckPolicy { kind, ..policy },
            None => policy,
        };
        match &policy.kind {
            CheckKind::Http { .. } if waits_in_vain(&policy) => {
                let message = "expect-body: an answer to HEAD has no body: request = \"GET /…\" is expected with it";
                self.note(body_place, message);
            }
            CheckKind::Tcp if policy.http != HttpCheck::default() => {
                let keys = "host, headers, expect-status, expect-body and disable-on-404";
                self.note(place, &format!("request: \"tcp\" asks nothing: {keys} need a request such as \"HEAD /\""));
            }
            CheckKind::Http { .. } | CheckKind::Tcp => {}
        }
        Some(policy)
    }

    pub(super) fn outlier(&mut self, raw: RawOutlier) -> OutlierPolicy {
        let RawOutlier {
            consecutive_5xx,
            consecutive_gateway_errors,
            interval,
            success_rate_factor,
            success_rate_min_hosts,
            success_rate_min_requests,
            base_ejection_time,
            max_ejection_time,
            max_ejected_percent,
        } = raw;
        const MANY: i64 = 1_000_000;
        let default = OutlierPolicy::default();
        let place = max_ejection_time.as_ref().map(|text| text.span().start);
        let longest = self.duration(max_ejection_time, "max-ejection-time");
        // Nobody is told of a key that he did not write: its default gives way.
        let base = self
            .duration(base_ejection_time, "base-ejection-time")
            .unwrap_or(longest.map_or(default.base_ejection_time, |longest| longest.min(default.base_ejection_time)));
        if longest.is_some_and(|longest| longest < base) {
            self.note(place, "max-ejection-time: it is shorter than base-ejection-time");
        }
        OutlierPolicy {
            consecutive_5xx: self
                .number(consecutive_5xx, "consecutive-5xx", 0..=MANY)
                .unwrap_or(default.consecutive_5xx),
            consecutive_gateway_errors: self
                .number(consecutive_gateway_errors, "consecutive-gateway-errors", 0..=MANY)
                .unwrap_or(default.consecutive_gateway_errors),
            interval: self.duration(interval, "interval").unwrap_or(default.interval),
            success_rate_factor: self.factor(success_rate_factor).unwrap_or(default.success_rate_factor),
            success_rate_min_hosts: self
                .number(success_rate_min_hosts, "success-rate-min-hosts", 2..=MANY)
                .unwrap_or(default.success_rate_min_hosts),
            success_rate_min_requests: self
                .number(success_rate_min_requests, "success-rate-min-requests", 1..=MANY)
                .unwrap_or(default.success_rate_min_requests),
            base_ejection_time: base,
            max_ejection_time: longest.unwrap_or(default.max_ejection_time.max(base)),
            max_ejected_percent: self
                .number(max_ejected_percent, "max-ejected-percent", 0..=100)
                .unwrap_or(default.max_ejected_percent),
        }
    }

    pub(super) fn retry_on(&mut self, events: Vec<Text>) -> RetryOn {
        let mut retry_on = RetryOn::default();
        for event in events {
            match event.get_ref().as_str() {
                "response-timeout" => retry_on.response_timeout = true,
                other => {
                    let message = format!("retry-on: {other:?} is not known: \"response-timeout\" is expected");
                    self.note(Some(event.span().start), &message);
                }
            }
        }
        retry_on
    }

    pub(super) fn port(&mut self, port: Option<Number>, key: &str) -> Option<u16> {
        self.number(port, key, 1..=65_535)
    }

    fn check_headers(&mut self, headers: BTreeMap<String, Text>) -> Vec<(HeaderName, HeaderValue)> {
        let read = |name: &str, value: &str| {
            let name: HeaderName = name.parse().map_err(|_| format!("{name:?} is no name for a header"))?;
            if OWN_HEADERS.contains(&name) {
                let hint = if name == header::HOST { "the key 'host'" } else { "'lb' itself" };
                return Err(format!("{name} is set by {hint}"));
            }
            Ok((name, header_value(value)?))
        };
        let lines = headers.into_iter();
        lines.filter_map(|(name, value)| self.convert(value, "headers", |value| read(&name, value))).collect()
    }

    fn factor(&mut self, factor: Option<Spanned<f64>>) -> Option<f64> {
        let factor = factor?;
        let value = *factor.get_ref();
        if (0.0..=1000.0).contains(&value) {
            return Some(value);
        }
        let message = format!("success-rate-factor: {value} is out of range: 0 to 1000 is expected");
        self.note(Some(factor.span().start), &message);
        None
    }
}

/// Whether the check expects a body in answers that have none.
pub(super) fn waits_in_vain(policy: &CheckPolicy) -> bool {
    match &policy.kind {
        CheckKind::Http { method, path: _ } => *method == Method::HEAD && policy.http.expect_body.is_some(),
        CheckKind::Tcp => false,
    }
}

fn header_value(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text)
        .map_err(|_| format!("{text:?} is no value for a header: control characters are not allowed"))
}

fn body_part(text: &str) -> Result<Arc<[u8]>, String> {
    const LONGEST: usize = 4096;
    if text.is_empty() || text.len() > LONGEST {
        return Err(format!("1 to {LONGEST} bytes are expected"));
    }
    Ok(Arc::from(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, time::Duration};

    use super::*;
    use crate::config::{Config, Overrides, PoolPolicy, Problems, Source};

    fn build(pool: &str) -> Result<PoolPolicy, Problems> {
        let text = format!("[[pool]]\n{pool}");
        let source = Source { name: "lb.toml", text: &text };
        Config::build(Some(source), &Overrides::default(), NonZeroUsize::MIN)
            .map(|config| config.pools[0].policy.clone())
    }

    fn problem(pool: &str) -> (Option<usize>, String) {
        let problems = build(pool).unwrap_err();
        assert_eq!(problems.list.len(), 1, "{problems}");
        (problems.list[0].line, problems.list[0].message.clone())
    }

    #[test]
    fn a_check_says_what_it_asks_and_what_it_wants_to_hear() {
        let policy = build(
            "[pool.check]\nrequest = \"GET /health\"\nhost = \"app.example\"\nheaders = { X-Probe = \"1\" }\n\
             expect-status = \"200-204,401\"\nexpect-body = \"ready\"\ndisable-on-404 = true\nport = 8081\n\
             interval = \"4s\"\nfast-interval = \"1s\"\ndown-interval = \"10s\"\ntimeout = \"500ms\"\n",
        );
        let check = policy.unwrap().check.unwrap();
        let HttpCheck { host, headers, expect_status, expect_body, disable_on_404 } = check.http;
        assert_eq!(host.unwrap(), "app.example");
        assert_eq!(headers, [(HeaderName::from_static("x-probe"), HeaderValue::from_static("1"))]);
        assert_eq!((expect_status.to_string().as_str(), expect_body.as_deref()), ("200-204,401", Some(&b"ready"[..])));
        assert!(disable_on_404);
        assert_eq!((check.port, check.interval), (Some(8081), Duration::from_secs(4)));
        assert_eq!(check.fast_interval, Some(Duration::from_secs(1)));
        assert_eq!(check.down_interval, Some(Duration::from_secs(10)));
        assert_eq!(check.timeout, Some(Duration::from_millis(500)));
    }

    #[test]
    fn what_a_check_cannot_mean_is_refused_with_its_line() {
        let cases = [
            ("check.expect-body = \"ok\"", 2, "an answer to HEAD has no body"),
            ("check = { request = \"tcp\", host = \"a\" }", 2, "\"tcp\" asks nothing"),
            ("check.headers = { Host = \"a\" }", 2, "the key 'host'"),
            ("check.headers = { \"a b\" = \"a\" }", 2, "no name for a header"),
            ("check.expect-status = \"2xx\"", 2, "no set of statuses"),
            ("check.port = 0", 2, "1 to 65535"),
            ("check.timeout = \"0s\"", 2, "too short"),
            ("retry-on = [\"timeout\"]", 2, "\"response-timeout\" is expected"),
            ("panic-threshold = 101", 2, "0 to 100"),
            ("[pool.outlier]\nsuccess-rate-factor = -1.0", 3, "0 to 1000"),
            ("[pool.outlier]\nmax-ejected-percent = 101", 3, "0 to 100"),
            ("[pool.outlier]\nbase-ejection-time = \"1m\"\nmax-ejection-time = \"30s\"", 4, "shorter than base"),
            ("[[pool.server]]\naddress = \"10.0.0.7:80\"\ncheck-port = 70000", 4, "1 to 65535"),
        ];
        for (text, line, part) in cases {
            let (found, message) = problem(text);
            assert_eq!(found, Some(line), "{text}: {message}");
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn an_empty_table_ejects_as_envoy_does() {
        assert_eq!(build("").unwrap().outlier, None);
        assert_eq!(build("[pool.outlier]\n").unwrap().outlier, Some(OutlierPolicy::default()));
        let longest = build("outlier.max-ejection-time = \"10s\"").unwrap().outlier.unwrap();
        let ten = Duration::from_secs(10);
        assert_eq!((longest.base_ejection_time, longest.max_ejection_time), (ten, ten), "the default gives way");
        let factor = |text: &str| build(&format!("outlier.success-rate-factor = {text}")).unwrap().outlier.unwrap();
        assert_eq!(factor("2").success_rate_factor, 2.0);
    }

    #[test]
    fn what_is_tried_again_and_when_to_panic_are_the_operators_choice() {
        let policy = build("retry-on = [\"response-timeout\"]\npanic-threshold = 50\n").unwrap();
        assert_eq!((policy.retry_on, policy.panic_threshold), (RetryOn { response_timeout: true }, 50));
        let default = build("").unwrap();
        assert_eq!((default.retry_on, default.panic_threshold), (RetryOn::default(), 0));
    }
}
