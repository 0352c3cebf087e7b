//! The server over a real socket.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use crate::{
    admin::{Context, MemberRole, MemberRow, MemberStatus, serve},
    config::{self, PoolPolicy},
    model::{PoolName, ServerName, Weight},
    registry::{Command, Registry, ResolvedServer},
};

struct Running {
    address: SocketAddr,
    registry: Arc<Registry>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Running {
    /// Sends a request as it is and reads until the server closes.
    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Sends a form; the answer's head.
    async fn post(&self, path: &str, headers: &str, form: &str) -> String {
        let length = form.len();
        self.ask(&format!(
            "POST {path} HTTP/1.1\r\nhost: lb\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{form}"
        ))
        .await
    }

    /// The state of the server `s1`.
    fn state(&self) -> String {
        self.registry.snapshot().pool(&name("nodes")).unwrap().servers[0].state().to_string()
    }

    async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: lb\r\nconnection: close\r\n\r\n")).await
    }
}

fn name(name: &str) -> PoolName {
    PoolName::parse(name).unwrap()
}

async fn start() -> Running {
    start_with(false).await
}

async fn start_with(admin: bool) -> Running {
    let now = Instant::now();
    let registry = Arc::new(Registry::new(1, &[(name(config::STATS_PROXY), None), (name("localnodes"), None)], now));
    let policy = PoolPolicy { check: None, ..PoolPolicy::default() };
    let pool = |pool| config::Pool { name: name(pool), policy: policy.clone(), servers: Vec::new() };
    registry.apply(now, Command::Pools(vec![pool("nodes"), pool("empty")]));
    let s1 = ResolvedServer {
        name: ServerName::parse("s1").unwrap(),
        address: Some(SocketAddr::from(([127, 0, 0, 1], 3000))),
        weight: Weight::DEFAULT,
        backup: false,
        maxconn: None,
        check_port: None,
    };
    registry.apply(now, Command::Static { pool: name("nodes"), servers: vec![s1] });
    let member = MemberRow {
        name: "ha".to_owned(),
        address: "127.0.0.1:7946".to_owned(),
        status: MemberStatus::Alive,
        role: MemberRole::Balancer,
        seconds_in_status: 75,
        tags: [("zone".to_owned(), "a".to_owned())].into(),
        notes: Vec::new(),
    };
    let context = Context {
        registry: Arc::clone(&registry),
        hostname: "ha".to_owned(),
        workers: 1,
        started: SystemTime::now(),
        refresh: Duration::from_secs(5),
        admin,
        figures: None,
        members: Some(Box::new(move || Box::pin(std::future::ready(vec![member.clone()])))),
        notes: vec!["The gossip is not sealed.".to_owned()],
        log_drops: Arc::new(AtomicU64::new(0)),
    };
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(serve(listener, Arc::new(context), async move { drop(stopped.await) }));
    Running { address, registry, stop, served }
}

#[tokio::test]
async fn the_page_refreshes_itself_and_loads_nothing_else() {
    let running = start().await;
    let page = running.get("/").await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    for header in ["cache-control: no-cache", "refresh: 5", "x-content-type-options: nosniff", "default-src 'none'"] {
        assert!(page.contains(header), "{header}");
    }
    assert!(page.contains("The gossip is not sealed.") && page.contains("zone=a") && page.contains("id=\"nodes/s1\""));
    assert!(!running.get("/;norefresh").await.contains("refresh: 5"));
}

#[tokio::test]
async fn tools_find_the_csv_under_every_address_in_use() {
    let running = start().await;
    for path in ["/;csv", "/haproxy?stats/;csv", "/stats;csv;norefresh"] {
        let csv = running.get(path).await;
        assert!(csv.contains("content-type: text/plain\r\n") && csv.contains("\r\n\r\n# pxname,"), "{path}");
        assert!(csv.contains("\nnodes,s1,") && csv.ends_with(",\n"), "{path}");
    }
}

#[tokio::test]
async fn metrics_members_and_health_have_addresses_of_their_own() {
    let running = start().await;
    let metrics = running.get("/metrics").await;
    assert!(metrics.contains("content-type: text/plain; version=0.0.4\r\n"));
    assert!(metrics.contains("haproxy_backend_status{proxy=\"nodes\",state=\"UP\"} 1\n"));
    let members = running.get("/members").await;
    assert!(members.ends_with(
        r#"[{"name":"ha","address":"127.0.0.1:7946","status":"alive","role":"balancer","seconds_in_status":75,"tags":{"zone":"a"},"notes":[]}]"#
    ));
    assert!(running.get("/healthz").await.ends_with("\r\n\r\nok\n"));
    assert!(running.get("/healthz?pool=nodes").await.starts_with("HTTP/1.1 200 "));
    assert!(running.get("/healthz?pool=empty").await.starts_with("HTTP/1.1 503 "));
    assert!(running.get("/healthz?pool=other").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn head_has_no_body_and_other_methods_are_refused() {
    let running = start().await;
    let head = running.ask("HEAD /;csv HTTP/1.1\r\nhost: lb\r\nconnection: close\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    let put = running.ask("PUT / HTTP/1.1\r\nhost: lb\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx").await;
    assert!(put.starts_with("HTTP/1.1 405 ") && put.contains("allow: GET, HEAD, POST\r\n"), "{put}");
    let post =
        running.ask("POST /metrics HTTP/1.1\r\nhost: lb\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx").await;
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD\r\n"), "{post}");
}

#[tokio::test]
async fn a_client_that_closed_its_side_still_gets_its_answer() {
    let running = start().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("ok\n"), "{answer}");
}

#[tokio::test]
async fn the_page_counts_its_own_traffic() {
    let running = start().await;
    for _ in 0..3 {
        running.get("/healthz").await;
    }
    running.ask("nonsense\r\n\r\n").await;
    let stats = &running.registry.frontends()[0];
    let totals = stats.totals();
    assert_eq!((totals.connections, totals.requests, totals.responses[1]), (4, 3, 3));
    assert_eq!((totals.request_errors, totals.bytes_out), (1, 9));
    assert_eq!(running.registry.frontends()[1].totals().requests, 0);
}

#[tokio::test]
async fn a_shutdown_closes_idle_connections_and_leaves_none() {
    let Running { address, registry, stop, served } = start().await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: lb\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    stop.send(()).unwrap();
    served.await.unwrap();
    idle.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(registry.frontends()[0].connections.now(), 0);
}

#[tokio::test]
async fn forms_do_what_haproxys_do_and_say_what_became_of_it() {
    let running = start_with(true).await;
    // The proxies are stats (2), localnodes (3), nodes (4) and empty (5).
    for (form, word, state) in [
        ("s=s1&action=drain&b=%234", "DONE", "DRAIN"),
        ("s=s1&action=maint&b=%234", "DONE", "MAINT"),
        ("s=s1&action=ready&b=nodes", "DONE", "no check"),
        ("s=s1&action=&b=%234", "ERRP", "no check"),
        ("action=maint&b=%234", "NONE", "no check"),
        ("s=zz&action=maint&b=%234", "ERRP", "no check"),
        ("s=s1&s=zz&action=maint&b=%234", "PART", "MAINT"),
        ("s=s1&action=foo&b=%234", "ERRP", "MAINT"),
        ("s=s1&action=ready&b=zzz", "ERRP", "MAINT"),
        ("s=s1&action=enable&b=%234", "DONE", "no check"),
        ("s=s1&action=enable&b=%234", "NONE", "no check"),
        ("s=s1&action=hnolb&b=%234", "DONE", "NOLB"),
        ("s=s1&action=hdown&b=%234", "DONE", "DOWN"),
        ("s=s1&action=hrunn&b=%234", "DONE", "no check"),
        ("s=s1&action=disable&b=%234", "DONE", "MAINT"),
        ("s=s1&action=disable&b=%234", "NONE", "MAINT"),
    ] {
        let answer = running.post("/", "", form).await;
        assert!(answer.starts_with("HTTP/1.1 303 See Other\r\n"), "{answer}");
        assert!(answer.contains(&format!("location: ./;st={word}\r\n")), "{form}: {answer}");
        assert_eq!(running.state(), state, "{form}");
    }
    let answer = running.post("/;up;norefresh?scope=nod", "", "s=s1&action=ready&b=%234").await;
    assert!(answer.contains("location: ./;st=DONE;up;norefresh?scope=nod\r\n"), "{answer}");
    let answer = running.post("/", "", &format!("s=s1&action=ready&b=%234&x={}", "x".repeat(20_000))).await;
    assert!(answer.contains("location: ./;st=EXCD\r\n"), "{answer}");
}

#[tokio::test]
async fn forms_are_denied_unless_they_are_allowed_and_the_pages_own() {
    let form = "s=s1&action=maint&b=nodes";
    let running = start().await;
    let answer = running.post("/", "", form).await;
    assert!(answer.starts_with("HTTP/1.1 303 ") && answer.contains("location: ./;st=DENY\r\n"), "{answer}");
    assert_eq!(running.state(), "no check");
    let running = start_with(true).await;
    for foreign in ["origin: http://evil.example\r\n", "origin: null\r\n", "sec-fetch-site: cross-site\r\n"] {
        let answer = running.post("/", foreign, form).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{foreign}: {answer}");
        assert_eq!(running.state(), "no check");
    }
    running.post("/", "origin: http://lb\r\nsec-fetch-site: same-origin\r\n", form).await;
    assert_eq!(running.state(), "MAINT");
    // What a browser must send along for that.
    assert!(running.get("/").await.contains("referrer-policy: same-origin\r\n"));
}
