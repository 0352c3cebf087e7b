//! The runtime API from outside: over TCP and over a unix socket, byte by byte.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
};

use rustix::process::Signal;

use crate::support::{Balancer, Origin, PATIENCE, config_file, finished, wait_until};

/// Where a balancer that was started with one `--runtime-api` on a port takes commands.
pub(crate) fn address(balancer: &Balancer) -> SocketAddr {
    balancer
        .lb
        .stderr
        .find("the runtime API", |line| line.split_once("runtime API on ")?.1.split(' ').next()?.parse().ok())
}

/// Sends commands as they are and reads until the other side closes, as `socat` does.
pub(crate) fn ask(address: SocketAddr, commands: &str) -> String {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    converse(stream, commands)
}

fn ask_unix(path: &Path, commands: &str) -> String {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    converse(stream, commands)
}

fn converse(mut stream: impl Read + Write, commands: &str) -> String {
    stream.write_all(commands.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A column of a server's row.
pub(crate) fn cell(address: SocketAddr, server: &str, column: &str) -> Option<String> {
    let csv = ask(address, "show stat\n");
    let mut lines = csv.lines();
    let names = lines.next()?.trim_start_matches("# ").split(',');
    let index = names.into_iter().position(|name| name == column)?;
    let row = lines.find(|line| line.starts_with(&format!("nodes,{server},")))?;
    row.split(',').nth(index).map(str::to_owned)
}

#[test]
fn a_port_and_a_unix_socket_answer_as_haproxys() {
    let origin = Origin::named("s1");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lb.sock");
    let unix = format!("--runtime-api={}", path.display());
    let balancer = Balancer::alone(&["--runtime-api=127.0.0.1:0", &unix, &origin.as_server("s1")]);
    let tcp = address(&balancer);
    // As HAProxy 2.6 answers, except for the version.
    let version = concat!(env!("CARGO_PKG_VERSION"), "\n\n");
    for (sent, expected) in [
        ("show version\n", version.to_owned()),
        ("show version\r\n", version.to_owned()),
        ("show version\nshow cli level\n", format!("{version}admin\n\n")),
        ("show version;show cli level\n", format!("{version}admin\n\n")),
        ("prompt\nshow version\nquit\n", format!("\n> {version}> ")),
        ("set server nodes/s1 state drain\n", "\n".to_owned()),
        ("set server nodes/s1 state ready\n", "\n".to_owned()),
        (
            "set server nodes/s1 state foo\n",
            "'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n\n".to_owned(),
        ),
        ("set server nodes/zz state maint\n", "No such server.\n\n".to_owned()),
        ("set server nodes/s1 weight 50\n", "\n".to_owned()),
        ("get weight nodes/s1\n", "50 (initial 1)\n\n".to_owned()),
        ("set server nodes/s1 weight abc\n", "Empty weight string empty or preceded by garbage\n".to_owned()),
        ("show backend\n", "# name\nnodes\n\n".to_owned()),
    ] {
        assert_eq!(ask(tcp, sent), expected, "{sent:?}");
        assert_eq!(ask_unix(&path, sent), expected, "{sent:?}");
    }
    let stat = ask_unix(&path, "show stat nodes 4 1\n");
    assert!(stat.contains(&format!(",{},,http,", origin.address)) && stat.contains("\nnodes,s1,"), "{stat}");
}

#[test]
fn a_client_that_closes_its_side_gets_its_answer() {
    let balancer = Balancer::alone(&["--runtime-api=127.0.0.1:0"]);
    let mut stream = TcpStream::connect(address(&balancer)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"show cli level\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "admin\n\n");
}

#[test]
fn the_level_is_that_of_the_address() {
    let balancer = Balancer::alone(&["--runtime-api=127.0.0.1:0,level=user"]);
    let address = address(&balancer);
    assert_eq!(ask(address, "show cli level; disable server nodes/s1\n"), "user\n\nPermission denied\n\n");
    balancer.lb.stderr.wait("(level user)");
}

#[test]
fn the_file_of_a_socket_is_private_and_goes_and_a_stale_one_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lb.sock");
    let option = format!("--runtime-api={}", path.display());
    let mut killed = Balancer::alone(&[&option]);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let taken = finished(&["--listen=127.0.0.1:0", "--gossip=off", &option]);
    assert_eq!(taken.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&taken.stderr).contains("another process listens there"));
    killed.lb.kill();
    assert!(path.exists(), "nobody was there to remove it");
    let mut balancer = Balancer::alone(&[&option]);
    assert_eq!(ask_unix(&path, "show cli level\n"), "admin\n\n");
    balancer.lb.signal(Signal::TERM);
    assert_eq!(balancer.lb.wait().0.code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn the_file_says_where_and_for_how_long() {
    let file = config_file(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[runtime-api]\nbind = [\"127.0.0.1:0,level=operator\"]\ntimeout = \"50ms\"\n",
    );
    let balancer = Balancer::start(&["-c", file.path().to_str().unwrap(), "--gossip=off"]);
    let address = address(&balancer);
    assert_eq!(ask(address, "show cli level\n"), "operator\n\n");
    // Without a word, it is closed when the time is over.
    assert_eq!(ask(address, ""), "");
}

#[test]
fn many_silent_clients_do_not_keep_an_operator_out() {
    let file =
        config_file("[[listener]]\nbind = \"127.0.0.1:0\"\n[runtime-api]\nbind = \"127.0.0.1:0\"\ntimeout = \"1s\"\n");
    let balancer = Balancer::start(&["-c", file.path().to_str().unwrap(), "--gossip=off"]);
    let address = address(&balancer);
    let _silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    wait_until("the operator is answered", PATIENCE, || ask(address, "show cli level\n") == "admin\n\n");
}
