//! The cluster as people and their tools see it: the list of members, and its numbers.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use super::{event_handlers::HandlerCounters, keys};
use crate::{
    admin::{Gathered, MemberRole, MemberRow, MemberStatus, Sample},
    cluster::{self, Totals, View, tags},
    model::{NodeId, NodeState},
    registry::{Origin, Registry},
    swim::{self, Census, Counters, MemberState, Role, Timings},
};

/// The members, with what operators want of their servers.
pub(super) async fn member_rows(member: cluster::Member, registry: Arc<Registry>) -> Vec<MemberRow> {
    // A member that has ended knows nobody.
    let View { now, members, totals, census } = member.view().await.unwrap_or_default();
    let mut rows: Vec<_> = members.iter().map(|member| member_row(member, now, &registry)).collect();
    // We are the first.
    if let Some(ourselves) = rows.first_mut() {
        ourselves.notes.extend(keys::notes(&totals));
        let words = |since: Duration| {
            format!("has been missing the cluster for {} s: it is probably cut off itself", since.as_secs())
        };
        ourselves.notes.extend(census.cut_off.map(words));
    }
    rows
}

fn member_row(member: &swim::Member, now: Duration, registry: &Registry) -> MemberRow {
    let swim::Member { node_id, name, address, role, state, since, record } = member;
    let role = match role {
        Role::Balancer => MemberRole::Balancer,
        Role::Node => MemberRole::Node,
    };
    let leaving = record.as_ref().is_some_and(|record| record.state == NodeState::Draining);
    let mut notes = Vec::new();
    let status = match state {
        MemberState::Alive if leaving => MemberStatus::Leaving,
        MemberState::Alive => MemberStatus::Alive,
        MemberState::Suspect => {
            notes.push("did not answer lately".to_owned());
            MemberStatus::Alive
        }
        MemberState::Failed => MemberStatus::Failed,
        MemberState::Left => MemberStatus::Left,
    };
    notes.extend(operators_words(*node_id, registry));
    MemberRow {
        name: name.clone(),
        address: address.to_string(),
        status,
        role,
        seconds_in_status: now.saturating_sub(*since).as_secs(),
        tags: tags(member),
        notes,
    }
}

/// `nodes/s1: drain by lb-2 14:03:22 (version 1)`.
fn operators_words(node: NodeId, registry: &Registry) -> Vec<String> {
    let (snapshot, now) = (registry.snapshot(), SystemTime::now());
    let servers = snapshot.pools.iter().flat_map(|pool| pool.servers.iter().map(move |server| (&pool.name, server)));
    let on_node =
        servers.filter(|(_, server)| matches!(server.origin, Origin::Member { node: its, .. } if its == node));
    on_node
        .filter_map(|(pool, server)| Some(format!("{pool}/{}: {}", server.name, server.operators_word(now)?)))
        .collect()
}

/// The numbers of the member and of its event handlers.
pub(super) async fn figures(member: cluster::Member, handlers: Arc<HandlerCounters>) -> Vec<Gathered> {
    let handled = [
        counter("lb_event_handler_runs_total", "Runs of event handlers.", handlers.runs.load(Relaxed)),
        counter(
            "lb_event_handler_failures_total",
            "Runs that failed, could not begin or were killed for their length.",
            handlers.failures.load(Relaxed),
        ),
        counter(
            "lb_event_handler_dropped_total",
            "Events that no handler saw because too many were waiting.",
            handlers.dropped.load(Relaxed),
        ),
    ];
    let Ok(View { now: _, members: _, census, totals }) = member.view().await else { return handled.into() };
    let lost = totals.lost_events;
    handled
        .into_iter()
        .chain([counter(
            "lb_cluster_lost_events_total",
            "Events of members that were lost before they came to the handlers.",
            lost,
        )])
        .chain(of_census(census))
        .chain(of_totals(totals))
        .collect()
}

#[rustfmt::skip] // One line for each: it is a table.
fn of_census(census: Census) -> Vec<Gathered> {
    let Census { members, records, oldest_record, unacknowledged, decisions, cut_off } = census;
    let states = [MemberState::Alive, MemberState::Suspect, MemberState::Failed, MemberState::Left];
    let all = [Role::Balancer, Role::Node].into_iter().flat_map(|role| states.map(|state| (role, state)));
    let by_state = all.map(|(role, state)| {
        let count = members.get(&(role, state)).copied().unwrap_or(0);
        (vec![("role", role.to_string()), ("state", state.to_string())], Sample::Gauge(count as f64))
    });
    vec![
        Gathered { name: "lb_cluster_members", help: "Members by role and state, this one included; those who failed or left as long as they are listed.", series: by_state.collect() },
        gauge("lb_cluster_records", "Members whose record is held here.", records as f64),
        gauge("lb_cluster_oldest_record_seconds", "Since the last record of the member that has been silent for longest; about 10 when all is well.", seconds(oldest_record)),
        gauge("lb_cluster_unacknowledged_seconds", "How long some balancer has not acknowledged this member's own record; 0 when all have.", seconds(unacknowledged)),
        gauge("lb_cluster_cut_off_seconds", "How long this member has been thinking that it is itself cut off; 0 when it does not.", seconds(cut_off)),
        gauge("lb_cluster_decisions", "Decisions of operators that are held here.", decisions as f64),
    ]
}

#[rustfmt::skip] // One line for each: it is a table.
fn of_totals(totals: Totals) -> Vec<Gathered> {
    let Totals { protocol, send_errors, receive_errors, lost_events: _, sealing: _ } = totals;
    let Counters { received, sent, dropped, received_bytes, sent_bytes, probe_failures, suspicions, refuted, challenges_sent, challenges_answered, convergence, agreement } = protocol;
    let kinds = |direction: &'static str, counts: std::collections::BTreeMap<swim::Kind, u64>| {
        swim::Kind::ALL.map(move |kind| {
            let count = counts.get(&kind).copied().unwrap_or(0);
            (vec![("direction", direction.to_owned()), ("kind", kind.word().to_owned())], Sample::Counter(count as f64))
        })
    };
    let both = |received: u64, sent: u64| [("received", received), ("sent", sent)].map(|(direction, count)| {
        (vec![("direction", direction.to_owned())], Sample::Counter(count as f64))
    });
    let reasons = dropped.into_iter().map(|(reason, count)| (vec![("reason", reason.word().to_owned())], Sample::Counter(count as f64)));
    vec![
        Gathered { name: "lb_cluster_datagrams_total", help: "Datagrams by kind; received ones that could be read.", series: kinds("received", received).into_iter().chain(kinds("sent", sent)).collect() },
        Gathered { name: "lb_cluster_bytes_total", help: "Bytes of datagrams, without the headers of IP and UDP.", series: both(received_bytes, sent_bytes).into() },
        Gathered { name: "lb_cluster_dropped_datagrams_total", help: "Datagrams that were dropped, by reason.", series: reasons.collect() },
        Gathered { name: "lb_cluster_socket_errors_total", help: "Datagrams that the system refused to send, and failed reads.", series: both(receive_errors, send_errors).into() },
        counter("lb_cluster_probe_failures_total", "Probes of members that nobody answered in time.", probe_failures),
        counter("lb_cluster_suspicions_total", "Members that turned suspect by this member's probes.", suspicions),
        counter("lb_cluster_refuted_suspicions_total", "Those of them that objected in time.", refuted),
        Gathered { name: "lb_cluster_challenges_total", help: "Signs of life asked of senders that nobody knew, and given to others; of sealed clusters alone.", series: both(challenges_answered, challenges_sent).into() },
        timings("lb_cluster_convergence_seconds", "From a change of this member's record until every balancer followed.", &convergence),
        timings("lb_cluster_agreement_seconds", "From an operator's decision until every balancer was known to hold it.", &agreement),
    ]
}

fn counter(name: &'static str, help: &'static str, value: u64) -> Gathered {
    Gathered { name, help, series: vec![(Vec::new(), Sample::Counter(value as f64))] }
}

fn gauge(name: &'static str, help: &'static str, value: f64) -> Gathered {
    Gathered { name, help, series: vec![(Vec::new(), Sample::Gauge(value))] }
}

fn timings(name: &'static str, help: &'static str, timings: &Timings) -> Gathered {
    let Timings { count, sum, at_most } = timings;
    let buckets = Timings::BOUNDS.iter().map(Duration::as_secs_f64).zip(at_most.iter().copied()).collect();
    let sample = Sample::Histogram { count: *count, sum: sum.as_secs_f64(), buckets };
    Gathered { name, help, series: vec![(Vec::new(), sample)] }
}

fn seconds(time: Option<Duration>) -> f64 {
    time.unwrap_or_default().as_secs_f64()
}
