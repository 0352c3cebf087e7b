//! Servers that pass their checks and still serve users badly are ejected for a while (Envoy: outlier detection).
//!
//! Why not count such answers as failed checks: the next check passes and would bring the server back at once, so that it
//! takes users, fails them, and is taken out again, for ever. An ejection has its own time, which grows with each.

use std::{collections::HashMap, time::Instant};

use crate::model::{Ejection, OutlierPolicy, Outlying, ServerId};

/// Bad answers in a row have reached their limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// 5xx, or requests that got no answer.
    Consecutive5xx,
    /// Only 502, 503, 504, or requests that got no answer.
    ConsecutiveGatewayErrors,
}

/// What is known of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The server.
    pub server: ServerId,
    /// Whether users could be sent there if it was not ejected.
    pub usable: bool,
    /// Whether it is ejected: the detector's word may have been overruled, because nobody else was left or by an operator.
    pub ejected: bool,
    /// What has happened since it was asked last.
    pub strike: Option<Strike>,
    /// Requests since it came.
    pub judged: u64,
    /// Of these, those that failed.
    pub failed: u64,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    /// Send nobody to this server.
    Eject(ServerId, Ejection),
    /// Its ejection is over.
    Return(ServerId),
}

/// Follows the servers of one pool.
#[derive(Debug, Default)]
pub struct Detector {
    hosts: HashMap<ServerId, Host>,
    /// When success rates were compared last.
    compared: Option<Instant>,
}

#[derive(Debug)]
struct Host {
    ejections: u32,
    until: Option<Instant>,
    /// Counts when success rates were compared last.
    judged: u64,
    failed: u64,
}

impl Detector {
    /// What follows from the pool's present servers. To be called when a server has struck, when any has changed, and when
    /// [`Detector::next_due`] has come.
    pub fn step(&mut self, now: Instant, policy: &OutlierPolicy, samples: &[Sample]) -> Vec<Action> {
        self.follow(samples);
        let mut actions = self.take_back(now, samples);
        for sample in samples {
            let reason = match sample.strike {
                Some(Strike::Consecutive5xx) => Outlying::Consecutive5xx(policy.consecutive_5xx),
                Some(Strike::ConsecutiveGatewayErrors) => {
                    Outlying::ConsecutiveGatewayErrors(policy.consecutive_gateway_errors)
                }
                None => continue,
            };
            actions.extend(self.eject(now, policy, samples, sample.server, reason));
        }
        let since = *self.compared.get_or_insert(now);
        if now.saturating_duration_since(since) >= policy.interval {
            self.compared = Some(now);
            for (server, reason) in self.worse_than_others(policy, samples) {
                actions.extend(self.eject(now, policy, samples, server, reason));
            }
            self.begin_interval(samples);
        }
        actions
    }

    /// When to call [`Detector::step`] next, whatever happens.
    pub fn next_due(&self, now: Instant, policy: &OutlierPolicy) -> Instant {
        let compare = self.compared.unwrap_or(now) + policy.interval;
        self.hosts.values().filter_map(|host| host.until).fold(compare, Instant::min)
    }

    /// Ends every ejection: the operator wants none any more.
    pub fn release(&mut self) -> Vec<Action> {
        self.hosts.drain().filter(|(_, host)| host.until.is_some()).map(|(server, _)| Action::Return(server)).collect()
    }

    /// Takes up servers that have come, with what they did before, and forgets those that have gone, and ejections that
    /// others have ended.
    fn follow(&mut self, samples: &[Sample]) {
        let mut before = std::mem::take(&mut self.hosts);
        for &Sample { server, ejected, judged, failed, .. } in samples {
            let new = Host { ejections: 0, until: None, judged, failed };
            let host = before.remove(&server).unwrap_or(new);
            let is_overruled = host.until.is_some() && !ejected;
            // What it did before is paid for.
            let host = if is_overruled { Host { until: None, judged, failed, ..host } } else { host };
            self.hosts.insert(server, host);
        }
    }

    /// Ends ejections whose time is over.
    fn take_back(&mut self, now: Instant, samples: &[Sample]) -> Vec<Action> {
        let mut actions = Vec::new();
        for sample in samples {
            let Some(host) = self.hosts.get_mut(&sample.server) else { continue };
            let is_over = host.until.is_some_and(|until| until <= now);
            if is_over {
                // What it did before is paid for.
                (host.until, host.judged, host.failed) = (None, sample.judged, sample.failed);
                actions.push(Action::Return(sample.server));
            }
        }
        actions
    }

    fn eject(
        &mut self,
        now: Instant,
        policy: &OutlierPolicy,
        samples: &[Sample],
        server: ServerId,
        reason: Outlying,
    ) -> Option<Action> {
        let is_usable = samples.iter().any(|sample| sample.server == server && sample.usable);
        let ejected = self.hosts.values().filter(|host| host.until.is_some()).count();
        let most = (samples.len() * policy.max_ejected_percent as usize / 100).max(1);
        if !is_usable || ejected >= most || self.serving(samples) < 2 {
            return None;
        }
        let host = self.hosts.get_mut(&server).filter(|host| host.until.is_none())?;
        host.ejections = host.ejections.saturating_add(1);
        let lasts = policy.base_ejection_time.saturating_mul(host.ejections).min(policy.max_ejection_time);
        let until = now + lasts;
        host.until = Some(until);
        Some(Action::Eject(server, Ejection { reason, until, lasts }))
    }

    /// Servers whose success rate is too far below the mean, the worst first.
    fn worse_than_others(&self, policy: &OutlierPolicy, samples: &[Sample]) -> Vec<(ServerId, Outlying)> {
        let rate = |sample: &Sample| {
            let host = self.hosts.get(&sample.server).filter(|host| host.until.is_none() && sample.usable)?;
            let judged = sample.judged.saturating_sub(host.judged);
            let failed = sample.failed.saturating_sub(host.failed).min(judged);
            let enough = judged >= u64::from(policy.success_rate_min_requests).max(1);
            enough.then(|| (sample.server, 100.0 * (judged - failed) as f64 / judged as f64))
        };
        let mut rates: Vec<_> = samples.iter().filter_map(rate).collect();
        if policy.success_rate_factor <= 0.0 || rates.len() < (policy.success_rate_min_hosts as usize).max(2) {
            return Vec::new();
        }
        let count = rates.len() as f64;
        let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
        let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
        let least = mean - policy.success_rate_factor * variance.sqrt();
        rates.retain(|(_, rate)| *rate < least);
        rates.sort_by(|one, other| one.1.total_cmp(&other.1));
        rates.into_iter().map(|(server, own)| (server, Outlying::SuccessRate { own, mean, least })).collect()
    }

    /// Counts anew, and forgets one ejection of each server that had none.
    fn begin_interval(&mut self, samples: &[Sample]) {
        for sample in samples {
            if let Some(host) = self.hosts.get_mut(&sample.server) {
                (host.judged, host.failed) = (sample.judged, sample.failed);
                if host.until.is_none() {
                    host.ejections = host.ejections.saturating_sub(1);
                }
            }
        }
    }

    /// Servers to which users can be sent.
    fn serving(&self, samples: &[Sample]) -> usize {
        let serves =
            |sample: &&Sample| sample.usable && self.hosts.get(&sample.server).is_none_or(|host| host.until.is_none());
        samples.iter().filter(serves).count()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy() -> OutlierPolicy {
        OutlierPolicy { max_ejected_percent: 100, ..OutlierPolicy::default() }
    }

    fn sample(server: u64) -> Sample {
        Sample { server: ServerId(server), usable: true, ejected: false, strike: None, judged: 0, failed: 0 }
    }

    fn out(server: u64) -> Sample {
        Sample { ejected: true, ..sample(server) }
    }

    fn struck(server: u64) -> Sample {
        Sample { strike: Some(Strike::Consecutive5xx), ..sample(server) }
    }

    #[expect(clippy::disallowed_methods, reason = "an instant to count from: nothing here waits")]
    fn start() -> Instant {
        Instant::now()
    }

    fn ejected(actions: &[Action]) -> Vec<u64> {
        let of = |action: &Action| match action {
            Action::Eject(server, _) => Some(server.0),
            Action::Return(_) => None,
        };
        actions.iter().filter_map(of).collect()
    }

    fn returned(actions: &[Action]) -> Vec<u64> {
        let of = |action: &Action| match action {
            Action::Eject(..) => None,
            Action::Return(server) => Some(server.0),
        };
        actions.iter().filter_map(of).collect()
    }

    #[test]
    fn an_ejection_ends_by_itself_and_the_next_one_lasts_longer() {
        let (mut detector, now, policy) = (Detector::default(), start(), policy());
        // Never long enough in peace for an ejection to be forgotten.
        let policy = OutlierPolicy { interval: 1000 * SECOND, ..policy };
        let calm = [out(1), sample(2)];
        for (number, lasts) in [(1, 30), (2, 60), (3, 90)] {
            let at = now + 200 * SECOND * number;
            let Some(Action::Eject(ServerId(1), ejection)) = detector.step(at, &policy, &[struck(1), sample(2)]).pop()
            else {
                panic!("not ejected")
            };
            assert_eq!((ejection.lasts, ejection.until), (lasts * SECOND, at + lasts * SECOND));
            assert_eq!(detector.next_due(at, &policy), ejection.until);
            assert_eq!(detector.step(ejection.until - SECOND, &policy, &calm), []);
            assert_eq!(detector.step(ejection.until, &policy, &calm), [Action::Return(ServerId(1))]);
        }
    }

    #[test]
    fn an_interval_in_peace_forgets_an_ejection() {
        let (mut detector, mut now, policy) = (Detector::default(), start(), policy());
        let calm = [sample(1), sample(2)];
        detector.step(now, &policy, &[struck(1), sample(2)]);
        for _ in 0..6 {
            now += 10 * SECOND;
            detector.step(now, &policy, &calm);
        }
        let Some(Action::Eject(_, ejection)) = detector.step(now, &policy, &[struck(1), sample(2)]).pop() else {
            panic!("not ejected")
        };
        assert_eq!(ejection.lasts, 30 * SECOND);
    }

    #[test]
    fn one_may_be_ejected_however_small_the_share_and_no_more() {
        let (mut detector, now) = (Detector::default(), start());
        let policy = OutlierPolicy { max_ejected_percent: 10, ..policy() };
        assert_eq!(ejected(&detector.step(now, &policy, &[struck(1), struck(2), struck(3)])), [1]);
        assert_eq!(ejected(&detector.step(now, &policy, &[out(1), struck(2), struck(3)])), [0; 0]);
    }

    #[test]
    fn the_last_server_stays_and_an_ejection_that_others_ended_is_over() {
        let (mut detector, now, policy) = (Detector::default(), start(), policy());
        assert_eq!(ejected(&detector.step(now, &policy, &[struck(1), struck(2)])), [1]);
        assert_eq!(ejected(&detector.step(now, &policy, &[out(1), struck(2)])), [0; 0]);
        let second_is_down = [sample(1), Sample { usable: false, ..sample(2) }];
        assert_eq!(detector.step(now + SECOND, &policy, &second_is_down), []);
        assert_eq!(ejected(&detector.step(now + 2 * SECOND, &policy, &[sample(1), struck(2)])), [2]);
    }

    #[test]
    fn a_server_far_below_the_mean_is_ejected() {
        let (mut detector, now, policy) = (Detector::default(), start(), policy());
        let samples = |round: u64| {
            let of = |server| Sample {
                judged: 200 * round,
                failed: if server == 3 { 60 * round } else { 0 },
                ..sample(server)
            };
            (1..=6).map(of).collect::<Vec<_>>()
        };
        assert_eq!(detector.step(now, &policy, &samples(0)), []);
        assert_eq!(detector.step(now + 9 * SECOND, &policy, &samples(1)), [], "before the interval is over");
        let actions = detector.step(now + 10 * SECOND, &policy, &samples(1));
        assert_eq!(ejected(&actions), [3]);
        let Action::Eject(_, Ejection { reason, .. }) = actions[0] else { panic!("not ejected") };
        assert_eq!(
            reason.to_string(),
            "70.0 % of its requests succeeded, of all servers' 95.0 %; at least 73.8 % are wanted"
        );
    }

    #[test]
    fn too_few_servers_or_requests_are_not_compared() {
        for (servers, requests) in [(4, 200), (6, 99)] {
            let (mut detector, now, policy) = (Detector::default(), start(), policy());
            let calm: Vec<_> = (1..=servers).map(sample).collect();
            let bad: Vec<_> = (1..=servers)
                .map(|server| Sample {
                    judged: requests,
                    failed: if server == 1 { requests } else { 0 },
                    ..sample(server)
                })
                .collect();
            detector.step(now, &policy, &calm);
            assert_eq!(detector.step(now + 10 * SECOND, &policy, &bad), [], "{servers} servers, {requests} requests");
        }
    }

    #[test]
    fn without_a_policy_all_come_back() {
        let (mut detector, now, policy) = (Detector::default(), start(), policy());
        detector.step(now, &policy, &[struck(1), sample(2)]);
        assert_eq!(detector.release(), [Action::Return(ServerId(1))]);
        assert_eq!(detector.release(), []);
    }

    proptest! {
        #[test]
        fn whatever_happens_somebody_serves_and_nobody_is_out_for_ever(
            steps in prop::collection::vec((0u64..20_000, prop::collection::vec((any::<bool>(), 0u8..3, 0u64..300, 0u64..300), 1..8)), 1..40),
            max_ejected_percent in 0u32..=100,
        ) {
            let policy = OutlierPolicy { max_ejected_percent, ..OutlierPolicy::default() };
            let (mut detector, mut now) = (Detector::default(), start());
            let mut out = std::collections::HashMap::new();
            let mut totals = [(0, 0); 8];
            let mut last = Vec::new();
            for (millis, servers) in steps {
                now += Duration::from_millis(millis);
                let mut samples: Vec<_> = servers.iter().enumerate().map(|(index, &(usable, strike, judged, failed))| {
                    totals[index].0 += judged;
                    totals[index].1 += failed.min(judged);
                    let strike = [None, Some(Strike::Consecutive5xx), Some(Strike::ConsecutiveGatewayErrors)][strike as usize];
                    let server = ServerId(index as u64);
                    Sample { server, usable, ejected: out.contains_key(&server), strike, judged: totals[index].0, failed: totals[index].1 }
                }).collect();
                // As the registry does.
                if !samples.iter().any(|sample| sample.usable && !sample.ejected) {
                    for sample in samples.iter_mut().filter(|sample| sample.usable) {
                        sample.ejected = false;
                        out.remove(&sample.server);
                    }
                }
                for action in detector.step(now, &policy, &samples) {
                    match action {
                        Action::Eject(server, ejection) => {
                            prop_assert!(out.insert(server, ejection.until).is_none(), "ejected twice");
                            prop_assert!(ejection.lasts <= policy.max_ejection_time);
                        }
                        Action::Return(server) => prop_assert!(out.remove(&server).is_some(), "returned, and was not out"),
                    }
                }
                out.retain(|server, _| (server.0 as usize) < samples.len());
                prop_assert!(out.values().all(|until| *until > now), "out too long");
                let usable = samples.iter().filter(|sample| sample.usable);
                let serving = usable.clone().filter(|sample| !out.contains_key(&sample.server)).count();
                prop_assert!(usable.count() == 0 || serving > 0, "nobody serves");
                last = samples;
            }
            let later = now + policy.max_ejection_time;
            let calm = last.into_iter().map(|sample| Sample { strike: None, ejected: out.contains_key(&sample.server), ..sample });
            let calm: Vec<_> = calm.collect();
            let back = detector.step(later, &OutlierPolicy { success_rate_factor: 0.0, ..policy }, &calm);
            prop_assert_eq!(returned(&back).len(), out.len());
        }
    }
}
