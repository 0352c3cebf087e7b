//! Many users on a pool that changes under them.

use std::{collections::BTreeMap, time::Instant};

use rustix::process::Signal;

use crate::support::{Balancer, Client, Origin, PATIENCE, config_file, wait_until};

const USERS: usize = 10_000;
const CLIENTS: usize = 4;

/// A user's cookie, and the server that answered last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct User {
    cookie: String,
    server: String,
}

fn config(servers: &[(&str, &Origin, u32)]) -> String {
    let mut text = "[stats]\nbind = \"127.0.0.1:0\"\n[log]\nformat = \"off\"\n[[listener]]\nbind = \"127.0.0.1:0\"\n\
                    [[pool]]\ncookie = { name = \"S\" }\ncheck = { rise = 1 }\n"
        .to_owned();
    for (name, origin, weight) in servers {
        text += &format!("[[pool.server]]\nname = \"{name}\"\naddress = \"{}\"\nweight = {weight}\n", origin.address);
    }
    text
}

/// Every user asks once more; each request must succeed.
fn visit(balancer: &Balancer, users: &[User]) -> Vec<User> {
    let ask = |users: &[User]| -> Vec<User> {
        let mut client = Client::connect(balancer.traffic[0]);
        let visit = |user: &User| {
            let line = if user.cookie.is_empty() { String::new() } else { format!("Cookie: {}\r\n", user.cookie) };
            let response = client.try_get("/", &line).unwrap();
            assert_eq!(response.status(), 200);
            let set = response.head.one("set-cookie").map(|set| set.split(';').next().unwrap().to_owned());
            User { cookie: set.unwrap_or_else(|| user.cookie.clone()), server: response.text() }
        };
        users.iter().map(visit).collect()
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = users.chunks(USERS.div_ceil(CLIENTS)).map(|part| scope.spawn(move || ask(part))).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    })
}

fn shares(users: &[User]) -> BTreeMap<&str, usize> {
    let mut shares = BTreeMap::new();
    for user in users {
        *shares.entry(user.server.as_str()).or_default() += 1;
    }
    shares
}

#[test]
fn only_the_users_of_a_server_that_died_move_and_they_move_once() {
    let begun = Instant::now();
    let [s1, s2, s3, s4, s5, s6] = ["s1", "s2", "s3", "s4", "s5", "s6"].map(Origin::named);
    let file = config_file(&config(&[("s1", &s1, 1), ("s2", &s2, 1), ("s3", &s3, 1), ("s4", &s4, 1), ("s5", &s5, 1)]));
    let balancer = Balancer::start(&["--config", file.path().to_str().unwrap(), "--gossip=off"]);
    let row = |name: &str, wanted: &str| {
        let csv = balancer.stats_page("/;csv").text();
        csv.lines().any(|line| line.starts_with(&format!("nodes,{name},")) && line.contains(wanted))
    };
    wait_until("all five are up", PATIENCE, || (1..=5).all(|number| row(&format!("s{number}"), ",UP,")));

    let first = visit(&balancer, &vec![User::default(); USERS]);
    println!("at first: {:?}", shares(&first));
    assert!(shares(&first).values().all(|&share| share == USERS / 5), "{:?}", shares(&first));

    // s1 is drained, s2 is killed, s6 is added.
    let after = [("s1", &s1, 0), ("s2", &s2, 1), ("s3", &s3, 1), ("s4", &s4, 1), ("s5", &s5, 1), ("s6", &s6, 1)];
    std::fs::write(file.path(), config(&after)).unwrap();
    balancer.lb.signal(Signal::HUP);
    wait_until("s6 is up", PATIENCE, || row("s6", ",UP,"));
    drop(s2);

    let second = visit(&balancer, &first);
    println!("then: {:?}", shares(&second));
    for (before, after) in first.iter().zip(&second) {
        if before.server == "s2" {
            assert!(["s3", "s4", "s5", "s6"].contains(&after.server.as_str()), "{after:?}");
            assert_ne!(before.cookie, after.cookie);
        } else {
            assert_eq!(before, after, "nobody moves without need, or gets another cookie");
        }
    }
    assert_eq!(visit(&balancer, &second), second, "nobody moves again");
    let newcomers = visit(&balancer, &vec![User::default(); 100]);
    assert!(!shares(&newcomers).contains_key("s1") && shares(&newcomers).contains_key("s6"));
    println!("{USERS} users, {:?}", begun.elapsed());
}
