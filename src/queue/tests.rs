//! The queue against a model of servers that count their places.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// A pool whose servers have so many places each.
#[derive(Debug, Default)]
struct Pool {
    queue: Queue<u32>,
    servers: Vec<Model>,
    /// Requests in the queue by their numbers, with their tickets and what they asked for.
    waiting: BTreeMap<u32, (Ticket, Wish)>,
    /// Where each request that was served is.
    placed: BTreeMap<u32, ServerId>,
    next: u32,
    length: usize,
}

#[derive(Debug, Clone)]
struct Model {
    seat: Seat,
    most: usize,
}

const EVERYBODY: Candidacy = Candidacy::Everybody;

fn server(id: u64, most: usize) -> Model {
    Model { seat: Seat { id: ServerId(id), candidacy: EVERYBODY }, most }
}

fn anywhere() -> Wish {
    Wish::Any { avoid: Vec::new() }
}

impl Pool {
    fn new(servers: &[Model], length: usize) -> Self {
        let mut pool = Self::default();
        pool.follow(servers.to_vec(), length);
        pool
    }

    fn in_flight(&self, id: ServerId) -> usize {
        self.placed.values().filter(|place| **place == id).count()
    }

    /// Does something with the queue and notes what it grants.
    fn step<T>(
        &mut self,
        act: impl FnOnce(&mut Queue<u32>, &mut dyn FnMut(usize) -> bool) -> (T, Vec<Grant<u32>>),
    ) -> T {
        let mut room: Vec<usize> =
            self.servers.iter().map(|model| model.most.saturating_sub(self.in_flight(model.seat.id))).collect();
        let mut taken = Vec::new();
        let (result, grants) = act(&mut self.queue, &mut |server| {
            let free = room[server] > 0;
            if free {
                room[server] -= 1;
                taken.push(server);
            }
            free
        });
        let granted: Vec<usize> = grants.iter().map(|grant| grant.server).collect();
        assert_eq!(granted, taken, "each place that was taken is given to one request");
        for Grant { waiter, server, redispatched } in grants {
            let id = self.servers[server].seat.id;
            let before = self.placed.insert(waiter, id);
            assert_eq!(before, None, "{waiter} is served twice");
            self.check_grant(waiter, id);
            let was_sticky = matches!(self.waiting.get(&waiter), Some((_, Wish::Only(_))));
            assert!(!was_sticky || !redispatched);
            self.waiting.remove(&waiter);
        }
        result
    }

    fn check_grant(&self, waiter: u32, id: ServerId) {
        let Some((ticket, wish)) = self.waiting.get(&waiter) else { return };
        match wish {
            Wish::Only(wanted) => assert_eq!(id, *wanted),
            Wish::Any { .. } => {
                let plain = |other: &Wish| *other == Wish::Any { avoid: Vec::new() };
                // Its own batch has been taken out of the queue already, so look at who is left there.
                let older = self
                    .waiting
                    .iter()
                    .filter(|(number, (its, wish))| !self.placed.contains_key(number) && *its < *ticket && plain(wish));
                let left: Vec<_> = older.filter(|(_, (its, _))| self.queue.free.has(*its)).collect();
                assert!(left.is_empty(), "{waiter} overtakes {left:?}");
            }
        }
    }

    fn arrive(&mut self, wish: Wish) -> (u32, Arrival) {
        let number = self.next;
        self.next += 1;
        let asked = match wish {
            Wish::Only(id) if !self.queue.takes(id) => anywhere(),
            Wish::Only(_) | Wish::Any { .. } => wish.clone(),
        };
        let arrival = self.step(|queue, take| queue.arrive(wish, number, take));
        match arrival {
            Arrival::Waits { ticket, .. } => {
                self.waiting.insert(number, (ticket, asked));
                assert!(self.queue.len() <= self.length, "more wait than may");
            }
            Arrival::Served => assert!(self.placed.contains_key(&number)),
            Arrival::Full => assert!(self.queue.len() >= self.length && !self.placed.contains_key(&number)),
        }
        self.check();
        (number, arrival)
    }

    /// A request ends and its place is free.
    fn end(&mut self, number: u32) {
        self.placed.remove(&number);
        self.step(|queue, take| ((), queue.serve(take)));
        self.check();
    }

    fn leave(&mut self, number: u32) {
        if let Some((ticket, _)) = self.waiting.remove(&number) {
            self.queue.leave(ticket);
        }
        self.check();
    }

    fn follow(&mut self, servers: Vec<Model>, length: usize) {
        let seats = servers.iter().map(|model| model.seat).collect();
        (self.servers, self.length) = (servers, length);
        let takes = |id| self.servers.iter().any(|its| its.seat.id == id && its.seat.candidacy != Candidacy::Nobody);
        for (_, wish) in self.waiting.values_mut() {
            if matches!(wish, Wish::Only(id) if !takes(*id)) {
                *wish = anywhere();
            }
        }
        self.step(|queue, take| ((), queue.follow(seats, length, take)));
        self.check();
    }

    /// Nobody is lost, and no place is free that somebody waits for.
    fn check(&self) {
        assert_eq!(self.queue.len(), self.waiting.len());
        for (index, model) in self.servers.iter().enumerate() {
            let is_free = self.in_flight(model.seat.id) < model.most;
            assert!(!is_free || self.queue.first_for(index).is_none(), "a place stays free, and somebody waits for it");
        }
    }

    fn place_of(&self, number: u32) -> Option<u64> {
        self.placed.get(&number).map(|id| id.0)
    }
}

#[test]
fn places_go_to_those_who_waited_longest() {
    let mut pool = Pool::new(&[server(1, 1)], 10);
    let numbers: Vec<u32> = (0..4).map(|_| pool.arrive(anywhere()).0).collect();
    assert_eq!(pool.waiting.len(), 3);
    for pair in numbers.windows(2) {
        pool.end(pair[0]);
        assert_eq!(pool.place_of(pair[1]), Some(1));
    }
}

#[test]
fn a_user_of_one_server_waits_for_that_one_only() {
    let mut pool = Pool::new(&[server(1, 1), server(2, 1)], 10);
    let (first, _) = pool.arrive(Wish::Only(ServerId(1)));
    let (sticky, _) = pool.arrive(Wish::Only(ServerId(1)));
    let (other, _) = pool.arrive(anywhere());
    assert_eq!((pool.place_of(sticky), pool.place_of(other)), (None, Some(2)));
    pool.end(other);
    assert_eq!(pool.place_of(sticky), None);
    pool.end(first);
    assert_eq!(pool.place_of(sticky), Some(1));
}

#[test]
fn the_older_of_both_lines_is_served_first() {
    let mut pool = Pool::new(&[server(1, 1)], 10);
    let (first, _) = pool.arrive(anywhere());
    let (free, _) = pool.arrive(anywhere());
    let (sticky, _) = pool.arrive(Wish::Only(ServerId(1)));
    let (last, _) = pool.arrive(anywhere());
    pool.end(first);
    pool.end(free);
    assert_eq!((pool.place_of(sticky), pool.place_of(last)), (Some(1), None));
}

#[test]
fn who_waits_for_a_server_that_goes_away_keeps_its_age() {
    let mut pool = Pool::new(&[server(1, 1), server(2, 1)], 10);
    let (_, _) = pool.arrive(Wish::Only(ServerId(1)));
    let (busy, _) = pool.arrive(anywhere());
    let (sticky, _) = pool.arrive(Wish::Only(ServerId(1)));
    let (later, _) = pool.arrive(anywhere());
    pool.follow(vec![server(2, 1)], 10);
    assert_eq!(pool.place_of(sticky), None);
    pool.end(busy);
    assert_eq!((pool.place_of(sticky), pool.place_of(later)), (Some(2), None));
}

#[test]
fn a_server_that_comes_takes_as_many_as_it_has_places() {
    let mut pool = Pool::new(&[server(1, 1)], 10);
    let numbers: Vec<u32> = (0..5).map(|_| pool.arrive(anywhere()).0).collect();
    pool.follow(vec![server(1, 1), server(2, 2)], 10);
    let places: Vec<_> = numbers.iter().map(|number| pool.place_of(*number)).collect();
    assert_eq!(places, [Some(1), Some(2), Some(2), None, None]);
}

#[test]
fn servers_that_come_together_share_those_who_wait() {
    let mut pool = Pool::new(&[], 10);
    let numbers: Vec<u32> = (0..4).map(|_| pool.arrive(anywhere()).0).collect();
    pool.follow(vec![server(1, 9), server(2, 9)], 10);
    let places: Vec<_> = numbers.iter().filter_map(|number| pool.place_of(*number)).collect();
    assert_eq!((places.len(), places.iter().filter(|place| **place == 1).count()), (4, 2));
}

#[test]
fn a_full_queue_refuses_and_a_sticky_user_goes_elsewhere_first() {
    let mut pool = Pool::new(&[server(1, 1), server(2, 1)], 1);
    pool.arrive(Wish::Only(ServerId(1)));
    pool.arrive(Wish::Only(ServerId(1)));
    let (elsewhere, arrival) = pool.arrive(Wish::Only(ServerId(1)));
    assert_eq!((arrival, pool.place_of(elsewhere)), (Arrival::Served, Some(2)));
    assert_eq!(pool.arrive(Wish::Only(ServerId(1))).1, Arrival::Full);
    assert_eq!(pool.arrive(anywhere()).1, Arrival::Full);
    assert_eq!((pool.queue.depth_of(ServerId(1)), pool.queue.depth()), (Depth { now: 1, most: 1 }, Depth::default()));
}

#[test]
fn who_leaves_is_passed_over() {
    let mut pool = Pool::new(&[server(1, 1)], 10);
    let numbers: Vec<u32> = (0..3).map(|_| pool.arrive(anywhere()).0).collect();
    pool.leave(numbers[1]);
    pool.end(numbers[0]);
    assert_eq!((pool.place_of(numbers[1]), pool.place_of(numbers[2])), (None, Some(1)));
}

#[test]
fn a_server_that_was_tried_is_avoided_while_there_is_another() {
    let mut pool = Pool::new(&[server(1, 1), server(2, 1)], 10);
    let (first, _) = pool.arrive(anywhere());
    let (second, _) = pool.arrive(anywhere());
    let on_first = ServerId(pool.place_of(first).unwrap());
    let (tried, _) = pool.arrive(Wish::Any { avoid: vec![on_first] });
    pool.end(first);
    assert_eq!(pool.place_of(tried), None);
    let only = pool.servers.iter().filter(|model| model.seat.id == on_first).cloned().collect();
    pool.follow(only, 10);
    assert_eq!(pool.place_of(tried), Some(on_first.0));
    let _still_there = second;
}

#[test]
fn how_many_wait_before_a_request_is_told() {
    let mut pool = Pool::new(&[server(1, 0)], 10);
    pool.arrive(anywhere());
    pool.arrive(Wish::Only(ServerId(1)));
    let ahead = |arrival| match arrival {
        Arrival::Waits { ahead, .. } => ahead,
        Arrival::Served | Arrival::Full => panic!("{arrival:?}"),
    };
    assert_eq!(ahead(pool.arrive(anywhere()).1), Ahead { server: 0, pool: 1 });
    assert_eq!(ahead(pool.arrive(Wish::Only(ServerId(1))).1), Ahead { server: 1, pool: 0 });
}

#[derive(Debug, Clone)]
enum Event {
    Arrive { only: Option<u64>, avoid: BTreeSet<u64> },
    End(usize),
    Leave(usize),
    Follow { servers: BTreeMap<u64, (usize, u8)>, length: usize },
}

fn events() -> impl Strategy<Value = Event> {
    let arrive = (prop::option::weighted(0.3, 1u64..5), prop::collection::btree_set(1u64..5, 0..2))
        .prop_map(|(only, avoid)| Event::Arrive { only, avoid });
    let follow = (prop::collection::btree_map(1u64..5, (0usize..3, 0u8..4), 0..4), 0usize..8)
        .prop_map(|(servers, length)| Event::Follow { servers, length });
    prop_oneof![
        6 => arrive,
        4 => any::<usize>().prop_map(Event::End),
        2 => any::<usize>().prop_map(Event::Leave),
        1 => follow,
    ]
}

proptest! {
    /// The checks are in the model: places are given once and never beyond a server's number, nobody is lost or served twice
    /// or overtaken, a user of one server goes elsewhere only when that is gone, and no place stays free.
    #[test]
    fn whatever_happens_nobody_is_lost_overtaken_or_served_twice(events in prop::collection::vec(events(), 1..80)) {
        let mut pool = Pool::new(&[server(1, 1), server(2, 2)], 4);
        for event in events {
            match event {
                Event::Arrive { only: Some(id), .. } => {
                    pool.arrive(Wish::Only(ServerId(id)));
                }
                Event::Arrive { only: None, avoid } => {
                    pool.arrive(Wish::Any { avoid: avoid.into_iter().map(ServerId).collect() });
                }
                Event::End(which) if !pool.placed.is_empty() => {
                    let number = *pool.placed.keys().nth(which % pool.placed.len()).unwrap();
                    pool.end(number);
                }
                Event::Leave(which) if !pool.waiting.is_empty() => {
                    let number = *pool.waiting.keys().nth(which % pool.waiting.len()).unwrap();
                    pool.leave(number);
                }
                Event::End(_) | Event::Leave(_) => {}
                Event::Follow { servers, length } => {
                    let candidacy = |word| [Candidacy::Nobody, Candidacy::StickyOnly, EVERYBODY, EVERYBODY][word as usize];
                    let model = |(id, (most, word))| Model { seat: Seat { id: ServerId(id), candidacy: candidacy(word) }, most };
                    pool.follow(servers.into_iter().map(model).collect(), length);
                }
            }
        }
        // When every request ends, the queue empties as far as a server is left to take it.
        while let Some(number) = pool.placed.keys().next().copied() {
            pool.end(number);
        }
        pool.follow(vec![server(9, usize::MAX)], 4);
        prop_assert!(pool.queue.is_empty() && pool.waiting.is_empty());
    }
}
