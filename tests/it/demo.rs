//! `lb demo`.

use std::{net::SocketAddr, time::Instant};

use rustix::process::Signal;

use crate::support::{Client, Lb, PATIENCE, wait_until};

#[test]
fn three_webapps_take_strict_turns_soon_after_the_start() {
    let begun = Instant::now();
    let mut demo = Lb::start(["demo", "--listen=127.0.0.1:0", "--stats=127.0.0.1:0"]);
    let address = |what: &str| -> SocketAddr {
        demo.stdout.find(what, |line| {
            let (url, words) = line.trim().strip_prefix("http://")?.split_once('/')?;
            words.contains(what).then(|| url.parse().unwrap())
        })
    };
    let (site, page) = (address("the site"), address("the stats page"));
    let host = |client: &mut Client| {
        let response = client.get("/");
        let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
        body["host"].as_str().unwrap_or_default().to_owned()
    };
    let mut client = Client::connect(site);
    let mut turn = || [host(&mut client), host(&mut client), host(&mut client)];
    wait_until("all three answer", PATIENCE, || {
        let mut names = turn();
        names.sort();
        names == ["s1", "s2", "s3"]
    });
    println!("the demo's three webapps serve {:?} after its start", begun.elapsed());
    let order = turn();
    for _ in 0..4 {
        assert_eq!(turn(), order);
    }
    assert!(Client::connect(page).get("/").text().contains("s3"));
    demo.signal(Signal::TERM);
    assert!(demo.wait().0.success());
}
