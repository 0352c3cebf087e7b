//! Configurations as operators write them.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use super::*;
use crate::model::{CheckKind, CookieMode, CookiePolicy, InsertedCookie, SameSite};

fn build(text: &str, overrides: &Overrides) -> Result<Config, Problems> {
    Config::build(Some(Source { name: "lb.toml", text }), overrides, NonZeroUsize::MIN)
}

fn problems(text: &str) -> String {
    build(text, &Overrides::default()).unwrap_err().to_string()
}

#[test]
fn nothing_said_gives_the_documented_defaults() {
    let config = Config::build(None, &Overrides::default(), NonZeroUsize::MIN).unwrap();
    assert_eq!(config.listeners[0].name.as_str(), DEFAULT_FRONTEND);
    assert_eq!(config.listeners[0].bind, [ListenAddress::any(80)]);
    assert_eq!(config.pools[0].name.as_str(), DEFAULT_POOL);
    let check = config.pools[0].policy.check.clone().unwrap();
    assert_eq!((check.kind.to_string().as_str(), check.interval), ("HEAD /", Duration::from_secs(2)));
    assert_eq!((check.rise, check.fall), (2, 3));
    let policy = &config.pools[0].policy;
    assert_eq!((policy.balance.word(), policy.hash_balance_factor, policy.slowstart), ("roundrobin", 150, None));
    assert_eq!(config.gossip.unwrap().bind, ListenAddress::any(GOSSIP_PORT));
    assert_eq!(config.limits.min_rate, 240);
    assert_eq!((config.stats, config.runtime_api, config.log), (None, None, LogFormat::Json));
    assert_eq!((policy.drain_deadline, policy.maint_deadline), (None, None));
}

#[test]
fn a_whole_file_is_read() {
    let text = r#"
        workers = 3
        [[listener]]
        name = "web"
        bind = [":8080", "[::1]:8081"]
        pool = "apps"
        maxconn = 1000
        [[pool]]
        name = "apps"
        cookie = { name = "SERVERID", secure = true, same-site = "none", domain = ["a.example", ".b.example"], max-life = "8h" }
        balance = "hdr(X-User)"
        hash-balance-factor = 125
        slowstart = "10s"
        check = { request = "tcp", interval = "500ms", rise = 1, fall = 2 }
        retries = 1
        server-maxconn = 20
        queue = { length = 50 }
        drain-deadline = "10m"
        maint-deadline = "0"
        [[pool.server]]
        name = "s1"
        address = "web1:3000"
        weight = 5
        maxconn = 0
        [[pool.server]]
        address = "10.0.0.2:3000"
        backup = true
        [stats]
        bind = ":1936"
        refresh = "0"
        admin = true
        [runtime-api]
        bind = [":9999,level=operator", "/run/lb.sock"]
        timeout = "30s"
        [gossip]
        bind = ":7000"
        advertise = "10.0.0.1"
        join = ["ha", "ha2:7001"]
        [timeouts]
        queue = "2s"
        connect = "1s"
        grace = "0"
        [limits]
        body = 1048576
        min-rate = 0
        [log]
        format = "haproxy"
    "#;
    let config = build(text, &Overrides::default()).unwrap();
    let pool = &config.pools[0];
    assert_eq!((config.workers.get(), config.listeners[0].bind.len(), pool.servers.len()), (3, 2, 2));
    assert_eq!(pool.policy.check.as_ref().unwrap().kind, CheckKind::Tcp);
    let CookiePolicy { name, mode: CookieMode::Insert(cookie) } = pool.policy.cookie.clone().unwrap() else { panic!() };
    assert_eq!(
        (name.as_str(), cookie.domains.as_slice()),
        ("SERVERID", &["a.example".into(), ".b.example".into()][..])
    );
    assert_eq!((cookie.secure, cookie.http_only, cookie.preserve), (true, false, false));
    assert_eq!((cookie.same_site, cookie.lifetime.max_idle), (Some(SameSite::None), None));
    assert_eq!(cookie.lifetime.max_life, Some(Duration::from_secs(8 * 3600)));
    assert_eq!((pool.servers[1].name.as_str(), pool.servers[1].backup), ("10.0.0.2:3000", true));
    assert_eq!((pool.policy.balance.to_string().as_str(), pool.policy.hash_balance_factor), ("hdr(x-user)", 125));
    assert_eq!(pool.policy.slowstart, Some(Duration::from_secs(10)));
    let limits = |index: usize| pool.policy.limit(pool.servers[index].maxconn).map(NonZeroU32::get);
    assert_eq!((limits(0), limits(1), pool.policy.queue_length), (None, Some(20), 50));
    assert_eq!((config.listeners[0].maxconn.map(NonZeroU32::get), config.timeouts.queue.as_secs()), (Some(1000), 2));
    assert_eq!((config.timeouts.connect, config.timeouts.grace), (Duration::from_secs(1), Duration::ZERO));
    assert_eq!((config.limits.body, config.log), (Some(1_048_576), LogFormat::Haproxy));
    assert_eq!(config.limits.min_rate, 0);
    let deadlines = (pool.policy.drain_deadline, pool.policy.maint_deadline);
    assert_eq!(deadlines, (Some(Duration::from_secs(600)), Some(Duration::ZERO)));
    assert!(config.stats.unwrap().admin);
    let api = config.runtime_api.unwrap();
    let binds: Vec<_> = api.bind.iter().map(|bind| (bind.address.to_string(), bind.level)).collect();
    assert_eq!(binds, [(":9999".to_owned(), Level::Operator), ("/run/lb.sock".to_owned(), Level::Admin)]);
    assert_eq!(api.timeout, Duration::from_secs(30));
    assert_eq!(config.gossip.unwrap().join[0].to_string(), "ha:7946");
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_line() {
    let text = "workers = 0\n[[listener]]\nbind = \"nonsense\"\npool = \"apps\"\n[timeouts]\nconnect = \"soon\"\nconect = \"1s\"\n";
    let told = problems(text);
    for expected in [
        "lb.toml:1: workers: 0 is out of range",
        "lb.toml:3: bind: \"nonsense\" has no port",
        "lb.toml:6: connect: \"soon\" is no time",
        "lb.toml:7: unknown field `conect`",
        "lb.toml:4: pool: there is no pool 'apps': one of nodes is expected",
    ] {
        assert!(told.contains(expected), "{expected}\nis missing in\n{told}");
    }
    assert_eq!(told.lines().count(), 5, "{told}");
}

#[test]
fn a_listener_can_stand_behind_proxies() {
    let text = "[[listener]]\nproxy-protocol = true\ntrusted-proxies = [\"10.0.0.0/8\", \"::1\"]\n";
    let listener = build(text, &Overrides::default()).unwrap().listeners.remove(0);
    assert!(listener.proxy_protocol && listener.trusted_proxies.contains([10, 1, 2, 3].into()));
    let listener = build("[[listener]]\n", &Overrides::default()).unwrap().listeners.remove(0);
    assert!(!listener.proxy_protocol && listener.trusted_proxies.is_empty(), "off unless it is asked for");
    let told = problems("[[listener]]\nproxy-protocol = 1\ntrusted-proxies = [\n\"10.0.0.0/8\",\n\"10.0.0.0/40\"]\n");
    assert!(told.contains("lb.toml:2: invalid type: integer `1`, expected a boolean"), "{told}");
    assert!(told.contains("lb.toml:5: trusted-proxies: \"10.0.0.0/40\" is no network"), "{told}");
}

#[test]
fn a_listener_names_the_protocols_that_clients_may_switch_to() {
    let upgrades = |text: &str| {
        let config = build(text, &Overrides::default()).unwrap();
        config.listeners[0].upgrades.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(upgrades(""), ["websocket"]);
    assert_eq!(upgrades("[[listener]]\nupgrades = []\n"), [""; 0]);
    assert_eq!(upgrades("[[listener]]\nupgrades = [\"tcp\", \"websocket\"]\n"), ["tcp", "websocket"]);
    let told = problems("[[listener]]\nupgrades = [\n\"tcp\",\n\"h2c\",\n\"a b\"]\n");
    assert!(told.contains("lb.toml:4: upgrades: \"h2c\" would carry") && told.contains("lb.toml:5: "), "{told}");
}

#[test]
fn what_cannot_balance_a_pool_is_told_with_its_line() {
    let told = problems("[[pool]]\nbalance = \"hdr\"\nhash-balance-factor = 100\nslowstart = \"soon\"\n");
    for expected in [
        "lb.toml:2: balance: \"hdr\" is not supported: one of roundrobin, leastconn, random, source, uri, hdr(NAME), first",
        "lb.toml:3: hash-balance-factor: 100 is too low: 0, or 101 to 10000 is expected",
        "lb.toml:4: slowstart: \"soon\" is no time",
    ] {
        assert!(told.contains(expected), "{expected}\nis missing in\n{told}");
    }
    let off = build("[[pool]]\nhash-balance-factor = 0\nslowstart = \"0\"\n", &Overrides::default()).unwrap();
    assert_eq!((off.pools[0].policy.hash_balance_factor, off.pools[0].policy.slowstart), (0, None));
}

#[test]
fn names_must_be_given_once() {
    let told = problems(
        "[[pool]]\nname = \"a\"\n[[pool]]\nname = \"a\"\n[[listener]]\npool = \"a\"\n[[listener]]\npool = \"a\"\n",
    );
    assert!(
        told.contains("two pools are named 'a'") && told.contains("two listeners are named 'localnodes'"),
        "{told}"
    );
}

#[test]
fn the_command_line_wins() {
    let overrides = Overrides {
        listen: vec![":8080".parse().unwrap()],
        gossip: Some(GossipChoice::Off),
        servers: vec!["s2=127.0.0.1:2".parse().unwrap()],
        maxconn: Some(7),
        server_maxconn: Some(3),
        balance: Some("leastconn".parse().unwrap()),
        cookie: Some("SERVERID".into()),
        check: Some(CheckChoice::Kind(CheckKind::Tcp)),
        check_fall: Some(1),
        log_format: Some(LogFormat::Off),
        ..Overrides::default()
    };
    let text = "[[listener]]\nbind = \":80\"\n[[pool.server]]\nname = \"s1\"\naddress = \"127.0.0.1:1\"\n";
    let told = build(text, &overrides).unwrap_err().to_string();
    assert_eq!(told, "lb.toml:3: invalid type: map, expected a sequence", "[[pool]] is missing");
    let text = "[[listener]]\nbind = \":80\"\n[[pool]]\n[[pool.server]]\nname = \"s1\"\naddress = \"127.0.0.1:1\"\n";
    let config = build(text, &overrides).unwrap();
    assert_eq!(config.listeners[0].bind, [ListenAddress::any(8080)]);
    assert_eq!(config.pools[0].servers.len(), 2);
    assert_eq!(config.pools[0].policy.balance.word(), "leastconn");
    let limits = (config.listeners[0].maxconn, config.pools[0].policy.server_maxconn);
    assert_eq!(limits, (NonZeroU32::new(7), NonZeroU32::new(3)));
    let check = config.pools[0].policy.check.clone().unwrap();
    assert_eq!((check.kind, check.fall, check.rise), (CheckKind::Tcp, 1, 2));
    assert_eq!((config.gossip, config.log), (None, LogFormat::Off));
}

#[test]
fn joining_without_gossip_is_a_contradiction() {
    let overrides =
        Overrides { gossip: Some(GossipChoice::Off), join: vec!["ha:7946".parse().unwrap()], ..Overrides::default() };
    let told = Config::build(None, &overrides, NonZeroUsize::MIN).unwrap_err().to_string();
    assert!(told.starts_with("--gossip off leaves nothing to join"), "{told}");
}

#[test]
fn a_bad_cookie_name_on_the_command_line_is_told() {
    let overrides = Overrides { cookie: Some("a b".into()), ..Overrides::default() };
    let told = Config::build(None, &overrides, NonZeroUsize::MIN).unwrap_err().to_string();
    assert!(told.starts_with("--cookie: \"a b\" is no name for a cookie"), "{told}");
}

fn cookie(text: &str, overrides: &Overrides) -> CookiePolicy {
    build(text, overrides).unwrap().pools[0].policy.cookie.clone().unwrap()
}

#[test]
fn everything_that_is_wrong_with_a_cookie_is_told() {
    let told = problems(
        "[[pool]]\n[pool.cookie]\nmode = \"rewrite\"\nsame-site = \"none\"\nmax-idle = \"0\"\nmax-life = \"8\"\ndomain = [\"a.example\", \"b;c\"]\n\
         [[pool]]\nname = \"b\"\n[pool.cookie]\nname = \"__Host-S\"\n[[pool]]\nname = \"c\"\n[pool.cookie]\nname = \"S\"\nmode = \"prefix\"\nsecure = true\n",
    );
    for expected in [
        "lb.toml:2: a pool's cookie has no name",
        "lb.toml:3: mode: \"rewrite\" is no mode of a cookie: 'insert' or 'prefix' is expected",
        "lb.toml:4: same-site: browsers drop a cookie with \"none\" that is not secure: say secure = true",
        "lb.toml:5: max-idle: \"0\" is too short",
        "lb.toml:6: max-life: \"8\" is no time",
        "lb.toml:7: domain: \"b;c\" is no domain",
        "lb.toml:11: cookie name: browsers drop a cookie named __Host-S that is not secure",
        "lb.toml:16: mode: the application's cookie keeps its own attributes",
    ] {
        assert!(told.contains(expected), "{expected}\nis missing in\n{told}");
    }
    assert_eq!(told.lines().count(), 8, "{told}");
}

#[test]
fn the_command_line_names_the_cookie_and_the_file_its_attributes() {
    let text = "[[pool]]\ncookie = { name = \"S\", http-only = true }\n";
    let overrides = |name: Option<&str>, cookie_mode| Overrides {
        cookie: name.map(str::to_owned),
        cookie_mode,
        ..Overrides::default()
    };
    let kept = InsertedCookie { http_only: true, ..InsertedCookie::default() };
    for (name, mode) in [(None, None), (Some("T"), None), (Some("T"), Some(CookieModeChoice::Insert))] {
        let policy = cookie(text, &overrides(name, mode));
        assert_eq!((policy.name.as_str(), policy.mode), (name.unwrap_or("S"), CookieMode::Insert(kept.clone())));
    }
    let told = |text, overrides: &Overrides| build(text, overrides).unwrap_err().to_string();
    let prefix = Some(CookieModeChoice::Prefix);
    assert!(told(text, &overrides(None, prefix)).contains("--cookie-mode prefix: the application's cookie keeps"));
    assert!(told("", &overrides(None, prefix)).contains("--cookie-mode says nothing without a cookie"));
    assert!(told("", &overrides(Some("__Secure-S"), None)).contains("--cookie: browsers drop"));
    assert_eq!(cookie("", &overrides(Some("S"), prefix)).mode, CookieMode::Prefix);
    let of_app = "[[pool]]\ncookie = { name = \"S\", mode = \"prefix\" }\n";
    assert_eq!(cookie(of_app, &overrides(Some("T"), None)).mode, CookieMode::Prefix);
    assert_eq!(cookie(of_app, &overrides(None, Some(CookieModeChoice::Insert))).mode, CookieMode::default());
}

#[test]
fn the_command_lines_runtime_api_replaces_the_files_addresses_and_keeps_its_timeout() {
    let overrides = Overrides { runtime_api: vec!["/tmp/lb.sock".parse().unwrap()], ..Overrides::default() };
    let config = build("[runtime-api]\nbind = \":9999\"\ntimeout = \"30s\"\n", &overrides).unwrap();
    let api = config.runtime_api.unwrap();
    assert_eq!((api.bind.len(), api.bind[0].address.to_string()), (1, "/tmp/lb.sock".to_owned()));
    assert_eq!(api.timeout, Duration::from_secs(30));
    let told = problems("[runtime-api]\ntimeout = \"5s\"\n[[pool]]\ndrain-deadline = \"0\"\n");
    assert!(told.contains("lb.toml:1: [runtime-api] has no bind"), "{told}");
    assert!(told.contains("lb.toml:4: drain-deadline: \"0\" is too short"), "{told}");
    assert!(problems("[runtime-api]\nbind = []\n").contains("the list is empty"));
}
