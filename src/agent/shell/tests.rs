//! The agent with real processes and a cluster of cardboard.

use std::{
    cell::{Cell, RefCell},
    ffi::OsString,
    net::Ipv4Addr,
    num::NonZeroU16,
    path::Path,
};

use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
};

use super::*;
use crate::{
    agent::{Orphans, RestartPolicy},
    model::NodeState,
};

const DEADLINE: Duration = Duration::from_secs(10);

/// What the agent told the cluster.
#[derive(Default)]
struct FakeCluster {
    told: RefCell<Vec<NodeState>>,
    changed: Notify,
    drained: Notify,
    left: Cell<bool>,
}

impl Cluster for FakeCluster {
    async fn set_state(&self, state: NodeState) {
        self.told.borrow_mut().push(state);
        self.changed.notify_one();
    }

    async fn drained(&self) {
        self.drained.notified().await;
    }

    async fn leave(&self) {
        self.left.set(true);
    }
}

impl FakeCluster {
    async fn until_told(&self, state: NodeState) {
        let waiting = async {
            while self.told.borrow().last() != Some(&state) {
                self.changed.notified().await;
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("never told {state:?}"));
    }
}

/// An agent whose application's port is this test's own listener, so that any script may play the application.
struct Stage {
    cluster: FakeCluster,
    settings: AgentSettings,
    signals: mpsc::UnboundedSender<Signal>,
    received: mpsc::UnboundedReceiver<Signal>,
    directory: tempfile::TempDir,
    _listener: TcpListener,
}

impl Stage {
    /// `script` finds a directory of its own as `$0`; an empty script is no command.
    async fn with(script: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let command = ["sh".into(), "-c".into(), script.into(), OsString::from(directory.path())];
        let settings = AgentSettings {
            port: NonZeroU16::new(listener.local_addr().unwrap().port()).unwrap(),
            advertised: None,
            ready_path: None,
            drain_timeout: DEADLINE,
            restart: RestartPolicy::Never,
            command: if script.is_empty() { Vec::new() } else { command.into() },
            orphans: Orphans::Leave,
        };
        let (signals, received) = mpsc::unbounded_channel();
        Self { cluster: FakeCluster::default(), settings, signals, received, directory, _listener: listener }
    }

    /// Runs the agent to its end while `story` is told; its exit status and what the cluster heard.
    async fn play(
        mut self,
        story: impl AsyncFnOnce(&FakeCluster, &mpsc::UnboundedSender<Signal>, &Path),
    ) -> (u8, Vec<NodeState>) {
        let signals = futures_util::stream::poll_fn(|cx| self.received.poll_recv(cx));
        let agent = run(self.settings, &self.cluster, signals);
        let both = async { tokio::join!(agent, story(&self.cluster, &self.signals, self.directory.path())).0 };
        let status = tokio::time::timeout(DEADLINE, both).await.expect("the agent did not end in time");
        assert!(self.cluster.left.get(), "it never left the cluster");
        (status, self.cluster.told.take())
    }

    async fn play_alone(self) -> (u8, Vec<NodeState>) {
        self.play(async |_, _, _| {}).await
    }
}

async fn until_exists(path: &Path) {
    let waiting = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("{path:?} never came"));
}

const SERVE: &str = r#"trap 'exit 5' TERM; touch "$0/up"; while :; do sleep 0.01; done"#;

#[tokio::test]
async fn the_application_is_stopped_only_after_the_balancers_let_go() {
    let story = async |cluster: &FakeCluster, signals: &mpsc::UnboundedSender<Signal>, directory: &Path| {
        cluster.until_told(NodeState::Ready).await;
        until_exists(&directory.join("up")).await;
        signals.send(Signal::Terminate).unwrap();
        cluster.until_told(NodeState::Draining).await;
        // It still works: it answers a signal as only a living application does.
        signals.send(Signal::User1).unwrap();
        until_exists(&directory.join("working")).await;
        cluster.drained.notify_one();
    };
    let script = format!(r#"trap 'touch "$0/working"' USR1; {SERVE}"#);
    let (status, told) = Stage::with(&script).await.play(story).await;
    assert_eq!((status, told), (5, vec![NodeState::Ready, NodeState::Draining]));
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_the_drain() {
    let story = async |cluster: &FakeCluster, signals: &mpsc::UnboundedSender<Signal>, directory: &Path| {
        until_exists(&directory.join("up")).await;
        signals.send(Signal::Interrupt).unwrap();
        cluster.until_told(NodeState::Draining).await;
        signals.send(Signal::Interrupt).unwrap();
    };
    let (status, _) = Stage::with(SERVE).await.play(story).await;
    assert_eq!(status, 5);
}

#[tokio::test]
async fn the_drain_timeout_bounds_the_wait() {
    let mut stage = Stage::with(SERVE).await;
    stage.settings.drain_timeout = Duration::from_millis(20);
    let story = async |_: &FakeCluster, signals: &mpsc::UnboundedSender<Signal>, directory: &Path| {
        until_exists(&directory.join("up")).await;
        signals.send(Signal::Terminate).unwrap();
    };
    assert_eq!(stage.play(story).await.0, 5);
}

#[tokio::test]
async fn an_application_that_will_not_end_is_killed() {
    let mut stage = Stage::with(r#"trap '' TERM; touch "$0/up"; while :; do sleep 0.01; done"#).await;
    stage.settings.drain_timeout = Duration::ZERO;
    let story = async |_: &FakeCluster, signals: &mpsc::UnboundedSender<Signal>, directory: &Path| {
        until_exists(&directory.join("up")).await;
        signals.send(Signal::Terminate).unwrap();
    };
    assert_eq!(stage.play(story).await.0, 137);
}

#[tokio::test]
async fn an_application_that_ends_by_itself_is_withdrawn_and_its_status_kept() {
    let stage = Stage::with(r#"until [ -e "$0/go" ]; do sleep 0.01; done; exit 3"#).await;
    let story = async |cluster: &FakeCluster, _: &mpsc::UnboundedSender<Signal>, directory: &Path| {
        cluster.until_told(NodeState::Ready).await;
        std::fs::write(directory.join("go"), "").unwrap();
    };
    let (status, told) = stage.play(story).await;
    assert_eq!((status, told), (3, vec![NodeState::Ready, NodeState::Starting]));
}

#[tokio::test]
async fn an_application_that_fails_starts_again() {
    let mut stage = Stage::with(r#"[ -e "$0/again" ] && exit 0; touch "$0/again"; exit 9"#).await;
    stage.settings.restart = RestartPolicy::OnFailure;
    assert_eq!(stage.play_alone().await.0, 0);
}

#[tokio::test]
async fn a_command_that_is_not_there_ends_the_agent_with_127() {
    let mut stage = Stage::with("true").await;
    stage.settings.command = vec!["/nonexistent/app".into()];
    stage.settings.restart = RestartPolicy::Always;
    assert_eq!(stage.play_alone().await, (127, vec![]));
}

#[tokio::test]
async fn beside_an_application_of_somebody_else_it_drains_and_ends() {
    let story = async |cluster: &FakeCluster, signals: &mpsc::UnboundedSender<Signal>, _: &Path| {
        cluster.until_told(NodeState::Ready).await;
        signals.send(Signal::Hangup).unwrap();
        signals.send(Signal::Terminate).unwrap();
        cluster.until_told(NodeState::Draining).await;
        cluster.drained.notify_one();
    };
    let (status, told) = Stage::with("").await.play(story).await;
    assert_eq!((status, told), (0, vec![NodeState::Ready, NodeState::Draining]));
}
