//! Clusters with a key: who has it joins, who has another one or none does not, and both logs say why.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use lb::agent::Membership;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Balancer, Lb, Origin, PATIENCE, app::beside, config_file, finished, wait_until};

/// Key files of one test.
struct Keys {
    directory: TempDir,
}

/// A new key.
fn keygen() -> String {
    let output = finished(&["keygen"]);
    assert!(output.status.success() && output.stderr.is_empty());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

/// The name of a key, which `lb keygen` prints behind it.
fn id(key: &str) -> &str {
    key.trim().rsplit(' ').next().unwrap()
}

/// The secret itself.
fn secret(key: &str) -> &str {
    key.split(' ').next().unwrap()
}

impl Keys {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// A file with these keys, which nobody else can read; it takes the place of another one of that name at once.
    fn file(&self, name: &str, keys: &[&str]) -> PathBuf {
        let (new, path) = (self.directory.path().join("new"), self.directory.path().join(name));
        fs::write(&new, keys.concat()).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, &path).unwrap();
        path
    }

    fn option(&self, name: &str, keys: &[&str]) -> String {
        option(&self.file(name, keys))
    }
}

fn option(path: &Path) -> String {
    format!("--cluster-key-file={}", path.display())
}

/// Waits until the balancer has this server.
fn wait_for(balancer: &Balancer, name: &str) {
    wait_until(name, PATIENCE, || balancer.client().get("/").text() == name);
}

fn members(balancer: &Balancer) -> String {
    let stats = format!("--stats={}", balancer.stats.unwrap());
    String::from_utf8(finished(&["members", &stats]).stdout).unwrap()
}

#[test]
fn members_with_the_key_join_and_the_page_and_the_list_say_that_they_are_sealed() {
    let (keys, key) = (Keys::new(), keygen());
    let file = keys.option("lb.key", &[&key]);
    let balancer = Balancer::clustered("127.0.0.1:0", &[&file]);
    balancer.lb.stderr.wait(&format!("sealed with key {}", id(&key)));
    let app = Origin::named("s1");
    let _agent = beside("s1", &balancer.as_seed(), &app, &[&file]);
    wait_for(&balancer, "s1");
    // The key itself in the environment is as good.
    let other = Origin::named("s2");
    let port = format!("--port={}", other.address.port());
    let args = ["agent", &balancer.as_seed(), "--gossip=127.0.0.1:0", "--name=s2", &port];
    let agent = Lb::start_with(args, ("LB_CLUSTER_KEY", secret(&key)));
    wait_for(&balancer, "s2");
    assert!(members(&balancer).contains(&format!("(sealed with key {})", id(&key))), "{}", members(&balancer));
    let page = balancer.stats_page("/").text();
    assert!(page.contains("sealed with key") && !page.contains("The cluster is not sealed"));
    for lb in [&balancer.lb, &agent] {
        assert!(!lb.stderr.text().contains("not sealed") && !lb.stderr.text().contains(secret(&key)));
    }
}

#[test]
fn without_a_key_the_log_and_the_page_say_so() {
    let balancer = Balancer::clustered("127.0.0.1:0", &[]);
    balancer.lb.stderr.wait("WARN");
    assert!(balancer.lb.stderr.text().contains("the cluster is not sealed"));
    assert!(balancer.stats_page("/").text().contains("The cluster is not sealed"));
}

#[test]
fn a_program_of_its_own_joins_with_the_key_file() {
    let (keys, key) = (Keys::new(), keygen());
    let file = keys.file("lb.key", &[&key]);
    let balancer = Balancer::clustered("127.0.0.1:0", &[&option(&file)]);
    let app = Origin::named("s1");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let seed = balancer.gossip.unwrap().to_string().parse().unwrap();
    let builder = Membership::builder(seed, app.address.port().try_into().unwrap())
        .name("s1".parse().unwrap())
        .gossip("127.0.0.1:0".parse().unwrap())
        .cluster_key_file(&file);
    let membership = runtime.block_on(async {
        let membership = builder.join().await.unwrap();
        membership.ready().await.unwrap();
        membership
    });
    wait_for(&balancer, "s1");
    runtime.block_on(membership.leave());
}

#[test]
fn another_key_none_or_another_name_keeps_a_member_out_and_the_log_says_which_it_is() {
    let (keys, ours, theirs) = (Keys::new(), keygen(), keygen());
    let (our_file, their_file) = (keys.option("ours", &[&ours]), keys.option("theirs", &[&theirs]));
    let sealed = Balancer::clustered("127.0.0.1:0", &[&our_file, "--cluster-name=blue"]);
    let open = Balancer::clustered("127.0.0.1:0", &[]);
    let app = Origin::named("s1");
    let _agents = [
        beside("s1", &sealed.as_seed(), &app, &[&their_file, "--cluster-name=blue"]),
        beside("s2", &sealed.as_seed(), &app, &[]),
        beside("s3", &sealed.as_seed(), &app, &[&our_file, "--cluster-name=green"]),
        beside("s4", &open.as_seed(), &app, &[&our_file]),
    ];
    let line = sealed.lb.stderr.wait(&format!("sends gossip sealed with key {}", id(&theirs)));
    assert!(line.contains(" WARN 127.0.0.1:"), "{line}");
    assert!(line.contains(&format!("accepts {} only", id(&ours))) && line.contains("--cluster-key-file"), "{line}");
    sealed.lb.stderr.wait("sends unsealed gossip and this member has a key");
    sealed.lb.stderr.wait("--cluster-name");
    let line = open.lb.stderr.wait("and this member has no key (see --cluster-key-file)");
    assert!(line.contains(id(&ours)), "{line}");
    for balancer in [&sealed, &open] {
        assert_eq!(members(balancer).lines().count(), 1, "{}", members(balancer));
        assert!(members(balancer).contains("datagrams dropped"), "{}", members(balancer));
        assert_eq!(balancer.client().get("/").status(), 503);
    }
    // It is told once, however often they try.
    assert_eq!(sealed.lb.stderr.text().matches("sends unsealed gossip").count(), 1);
}

#[test]
fn keys_are_rotated_under_load_without_a_failed_request_or_a_failed_member() {
    let (keys, old, new) = (Keys::new(), keygen(), keygen());
    let file = keys.option("lb.key", &[&old]);
    let balancer = Balancer::clustered("127.0.0.1:0", &[&file]);
    let apps = ["s1", "s2"].map(Origin::named);
    let agents = [0, 1].map(|at| beside(["s1", "s2"][at], &balancer.as_seed(), &apps[at], &[&file]));
    wait_for(&balancer, "s1");
    wait_for(&balancer, "s2");
    let stop = Arc::new(AtomicBool::new(false));
    let (mut client, stopped) = (balancer.client(), Arc::clone(&stop));
    let load = std::thread::spawn(move || {
        let mut requests = 0;
        while !stopped.load(Relaxed) {
            assert_eq!(client.get("/").status(), 200);
            requests += 1;
        }
        requests
    });
    for (list, accepted) in [
        (&[&*old, &*new][..], format!("key {} from now on; accepted: {}, {}", id(&old), id(&old), id(&new))),
        (&[&*new, &*old], format!("key {} from now on; accepted: {}, {}", id(&new), id(&new), id(&old))),
        (&[&*new], format!("key {} from now on; accepted: {}", id(&new), id(&new))),
    ] {
        keys.file("lb.key", list);
        balancer.lb.signal(Signal::HUP);
        for lb in [&balancer.lb, &agents[0], &agents[1]] {
            lb.stderr.find(&accepted, |line| line.ends_with(&accepted).then_some(()));
        }
    }
    // Two probes of each other member and their answers: whoever did not take the new key would have missed some.
    let heard = || balancer.figure("lb_cluster_datagrams_total{direction=\"received\",kind=\"swim\"}").unwrap();
    let before = heard();
    wait_until("members talk with the new key", PATIENCE, || heard() >= before + 12.0);
    stop.store(true, Relaxed);
    println!("{} requests during the rotation", load.join().unwrap());
    for lb in [&balancer.lb, &agents[0], &agents[1]] {
        assert!(!lb.stderr.text().contains("member-failed"));
    }
    let list = members(&balancer);
    assert!(list.matches(" alive ").count() == 3 && !list.contains("dropped"), "{list}");
    let late = beside("s3", &balancer.as_seed(), &apps[0], &[&keys.option("late", &[&old])]);
    balancer.lb.stderr.wait(&format!("sends gossip sealed with key {}", id(&old)));
    drop(late);
}

#[test]
fn a_bad_key_file_changes_nothing_and_is_told() {
    let (keys, key) = (Keys::new(), keygen());
    let file = keys.option("lb.key", &[&key]);
    let balancer = Balancer::clustered("127.0.0.1:0", &[&file]);
    let app = Origin::named("s1");
    let agent = beside("s1", &balancer.as_seed(), &app, &[&file]);
    wait_for(&balancer, "s1");
    keys.file("lb.key", &[&key[..30]]);
    balancer.lb.signal(Signal::HUP);
    balancer.lb.stderr.wait("lb.key:1: the cluster key has 30 characters");
    balancer.lb.stderr.wait("nothing has changed");
    agent.stderr.wait("lb.key:1: the cluster key has 30 characters");
    assert_eq!(balancer.client().get("/").text(), "s1");
    assert!(members(&balancer).contains(&format!("sealed with key {}", id(&key))));
}

#[test]
fn keys_that_are_none_are_refused_in_one_line_that_does_not_tell_them() {
    let (keys, key) = (Keys::new(), keygen());
    let cut = &secret(&key)[..60];
    let file = keys.file("cut", &["# ours\n", cut]);
    let path = file.to_str().unwrap();
    let config = config_file(&format!("[gossip]\nkey-file = \"{path}\"\n"));
    let config = config.path().to_str().unwrap();
    let quiet = ["--listen=127.0.0.1:0", "--gossip=127.0.0.1:0"];
    for args in [
        &["--cluster-key-file", path, quiet[0], quiet[1]][..],
        &["agent", "--join=127.0.0.1:1", "--port=1", "--name=s1", quiet[1], "--cluster-key-file", path],
        &["check", "-c", config],
    ] {
        let output = finished(args);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), told.lines().count()), (Some(1), 1), "{args:?}: {told}");
        assert!(told.contains(&format!("{path}:2: the cluster key has 60 characters")), "{told}");
        assert!(!told.contains(&cut[20..]), "{told}");
    }
    let missing = finished(&["--cluster-key-file=/no/such/key", quiet[0], quiet[1]]);
    let told = String::from_utf8(missing.stderr).unwrap();
    assert!(missing.status.code() == Some(1) && told.contains("/no/such/key") && told.lines().count() == 1, "{told}");
    for args in [
        &["--cluster-name=blue", quiet[0], quiet[1]][..],
        &["--cluster-name=a b", quiet[0], quiet[1]],
        &["agent", "--join=127.0.0.1:1", "--port=1", "--name=s1", quiet[1], "--cluster-name=blue"],
        &["--gossip=off", "--cluster-key-file", path, quiet[0]],
    ] {
        let output = finished(args);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), told.lines().count()), (Some(2), 1), "{args:?}: {told}");
    }
    let path = keys.file("good", &[&key]);
    let mut both = Lb::start_with([&option(&path), quiet[0], quiet[1]], ("LB_CLUSTER_KEY", secret(&key)));
    both.stderr.wait("are both there: keep one");
    assert_eq!(both.wait().0.code(), Some(2));
    assert!(!both.stderr.text().contains(secret(&key)));
}

#[test]
fn a_key_file_that_others_can_read_is_warned_about() {
    let (keys, key) = (Keys::new(), keygen());
    let path = keys.file("lb.key", &[&key]);
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let balancer = Balancer::clustered("127.0.0.1:0", &[&option(&path)]);
    balancer.lb.stderr.wait("can be read by others (mode 644)");
}

#[test]
fn an_application_does_not_get_the_key_of_its_agent() {
    let key = keygen();
    let show = "test -z \"$LB_CLUSTER_KEY\" && exit 42";
    let args = ["agent", "--join=127.0.0.1:1", "--gossip=127.0.0.1:0", "--port=1", "--name=s1", "--", "sh", "-c", show];
    let mut agent = Lb::start_with(args, ("LB_CLUSTER_KEY", secret(&key)));
    assert_eq!(agent.wait().0.code(), Some(42));
}

#[test]
fn an_event_handler_does_not_get_the_key_of_its_member() {
    let key = keygen();
    let handler = "--event-handler=member-join=echo \"key:$LB_CLUSTER_KEY.\" && exit 3";
    let args = ["--listen=127.0.0.1:0", "--gossip=127.0.0.1:0", handler];
    let lb = Lb::start_with(args, ("LB_CLUSTER_KEY", secret(&key)));
    lb.stderr.wait("it said: key:.");
}

#[test]
fn cookies_are_made_with_the_key_and_users_stay_through_its_rotation() {
    let (keys, old, new) = (Keys::new(), keygen(), keygen());
    let apps = ["s1", "s2"].map(Origin::named);
    let servers = [0, 1].map(|at| format!("--server=s{}={}", at + 1, apps[at].address));
    let start = |more: &[&str]| {
        Balancer::clustered("127.0.0.1:0", &[&["--cookie=S", "--check=off", &servers[0], &servers[1]], more].concat())
    };
    let cookie_of = |balancer: &Balancer, name: &str| {
        let mut visits = (0..2).map(|_| balancer.visit(""));
        visits.find(|(by, _)| by == name).unwrap().1.unwrap()
    };
    let file = keys.option("lb.key", &[&old]);
    let (balancer, twin, open) = (start(&[&file]), start(&[&file]), start(&[]));
    let first = cookie_of(&balancer, "s2");
    assert_eq!(first, cookie_of(&twin, "s2"), "every balancer of the cluster makes the same");
    assert_ne!(first, cookie_of(&open, "s2"), "nobody makes it without the key");

    let turn = |list: &[&str]| {
        keys.file("lb.key", list);
        balancer.lb.signal(Signal::HUP);
        let line = format!(
            "key {} from now on; accepted: {}",
            id(list[0]),
            list.iter().map(|key| id(key)).collect::<Vec<_>>().join(", ")
        );
        balancer.lb.stderr.find(&line, |it| it.ends_with(&line).then_some(()));
    };
    turn(&[&old, &new]);
    assert_eq!(balancer.visit(&first), ("s2".to_owned(), None));
    turn(&[&new, &old]);
    let (by, second) = balancer.visit(&first);
    let second = second.expect("a cookie of the new key");
    assert!(by == "s2" && second != first);
    turn(&[&new]);
    for _ in 0..3 {
        assert_eq!(balancer.visit(&second), ("s2".to_owned(), None));
    }
    assert!(balancer.visit(&first).1.is_some(), "who did not come meanwhile is balanced anew");
}
