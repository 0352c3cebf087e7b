//! The lab's webapp, in a process of its own: this binary, started once more for one "test".

use std::{
    collections::HashMap,
    io::Read,
    net::{Ipv4Addr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::support::{
    Head, Lb, Wire,
    app::{APP, agent_with_command},
    ok,
};

/// An agent with the webapp, of that name on that port.
pub(super) fn agent(name: &str, seed: &str, port: u16) -> Lb {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let command =
        [&program, "--ignored", "--exact", "lab::webapp::the_webapp_runs_when_it_is_asked_for", "--nocapture"];
    let command = command.map(str::to_owned);
    agent_with_command(name, seed, &["--ready-path=/"], (port, 0), &command)
}

/// What it keeps in memory: a request that reaches another node begins a new session.
#[derive(Default)]
struct Webapp {
    name: String,
    delay: AtomicU64,
    sessions: Mutex<HashMap<String, u64>>,
}

#[test]
#[ignore = "a process of the lab's tests, which start it"]
fn the_webapp_runs_when_it_is_asked_for() {
    let Ok(asked) = std::env::var(APP) else { return };
    let mut words = asked.split(' ').map(str::to_owned);
    let port: u16 = words.next().unwrap().parse().unwrap();
    let app = Arc::new(Webapp { name: words.next().unwrap(), ..Webapp::default() });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let app = Arc::clone(&app);
            std::thread::spawn(move || app.serve(&mut Wire::new(stream)));
        }
    });
    // The test above holds the other end; it may be killed at any time, and so may the agent between.
    let _closed = std::io::stdin().read(&mut [0]);
    std::process::exit(0);
}

impl Webapp {
    fn serve(&self, wire: &mut Wire) {
        while let Ok(Some(head)) = wire.head() {
            let Ok(body) = wire.body(&head, false) else { return };
            if wire.send(self.answer(&head, &body.bytes)).is_err() {
                return;
            }
        }
    }

    fn answer(&self, head: &Head, body: &[u8]) -> String {
        if head.start.starts_with("POST /delay ") {
            let asked: serde_json::Value = serde_json::from_slice(body).unwrap();
            self.delay.store(asked["delay"].as_u64().unwrap(), SeqCst);
            return ok("");
        }
        std::thread::sleep(Duration::from_millis(self.delay.load(SeqCst)));
        if head.start.starts_with("HEAD ") {
            return "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned();
        }
        let mut sessions = self.sessions.lock().unwrap();
        let cookies = head.all("cookie").join("; ");
        let sent = cookies.split("; ").find_map(|pair| pair.strip_prefix("NODESESSID=")).map(str::to_owned);
        let known = sent.filter(|id| sessions.contains_key(id));
        let id = known.clone().unwrap_or_else(|| format!("{}-{}", self.name, sessions.len()));
        let views = sessions.entry(id.clone()).or_default();
        *views += 1;
        let page = serde_json::json!({"hello": "world!", "host": self.name, "sessionViews": *views, "id": id});
        let page = ok(&format!("{page}\n"));
        if known.is_some() {
            return page;
        }
        page.replacen("\r\n", &format!("\r\nSet-Cookie: NODESESSID={id}; Path=/; HttpOnly\r\n"), 1)
    }
}
