//! What the command line answers: one clear line for each mistake, status 2 for bad usage, 1 for what cannot start.

use std::{net::TcpListener, path::Path, process::Output};

use crate::support::{Balancer, Lb, config_file, finished};

/// Status and what was said on standard error, without the time and level of log lines.
fn said(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn bad_usage_is_one_line_and_status_2() {
    for (args, part) in [
        (&["--listen", "nonsense"][..], "\"nonsense\" has no port"),
        (&["--listen", ":99999"], "no valid port"),
        (&["serve", "--check-interval", "0s"], "too short"),
        (&["--server", "s1=127.0.0.1:1,weight=300"], "0 to 256"),
        (&["--balance", "fastest"], "one of roundrobin, leastconn, "),
        (&["--balance", "hdr()"], "no name of a header"),
        (&["--workers", "0"], "1 to 1024"),
        (&["--log-format", "xml"], "no log format"),
        (&["--cookie", "a b", "--listen", "127.0.0.1:0", "--gossip", "off"], "--cookie"),
        (&["--no-such-option"], "--no-such-option"),
        (&["dance"], "dance"),
        (&["agent", "--join", "ha"], "--port"),
        (&["agent", "--join", "ha", "--port", "0"], "--port"),
        (&["agent", "--port", "3000"], "--join"),
        (&["agent", "--join", "ha", "--port", "3000", "--restart", "sometimes"], "always, on-failure, never"),
        (&["check"], "--config"),
        (&["agent", "--join=ha", "--port=1", "--restart=always"], "--restart always has nothing to start"),
        (&["agent", "--join=ha", "--port=1", "--restart=on-failure"], "--restart on-failure has nothing to start"),
    ] {
        let (status, text) = said(&finished(args));
        assert_eq!(status, Some(2), "{args:?}: {text}");
        assert!(text.starts_with("lb: ") && text.contains(part) && text.lines().count() == 1, "{args:?}: {text}");
    }
}

#[test]
fn everything_wrong_with_a_file_is_told_at_once_with_its_line() {
    let file =
        config_file("workers = 0\n[[listener]]\nbind = \"nonsense\"\n[timeouts]\nconect = \"1s\"\nserver = \"soon\"\n");
    let name = file.path().to_str().unwrap();
    for args in [&["check", "-c", name][..], &["-c", name, "--gossip", "off"]] {
        let (status, text) = said(&finished(args));
        assert_eq!(status, Some(2), "{text}");
        for line in ["1: workers", "3: bind", "5: unknown field `conect`", "6: server: \"soon\""] {
            assert!(text.contains(&format!("{name}:{line}")), "{line} is missing in\n{text}");
        }
        assert_eq!(text.lines().count(), 4, "{text}");
    }
}

#[test]
fn a_good_file_is_valid_and_a_missing_one_is_named() {
    let file = config_file("[[pool]]\n[[pool.server]]\naddress = \"web1:3000\"\n");
    let output = finished(&["check", "-c", file.path().to_str().unwrap()]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("valid (1 listener, 1 pool, 1 server)"), "{text}");
    let (status, text) = said(&finished(&["check", "-c", "/no/such/file.toml"]));
    assert!(status == Some(2) && text.contains("/no/such/file.toml") && text.lines().count() == 1, "{text}");
}

#[test]
fn every_file_in_config_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    assert!(!files.is_empty(), "config has no example");
    for file in files {
        let (status, text) = said(&finished(&["check", "-c", file.to_str().unwrap()]));
        assert_eq!(status, Some(0), "{}: {text}", file.display());
    }
}

#[test]
fn a_port_that_is_taken_is_named_and_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for args in [
        &["--gossip", "off", "--listen", &address][..],
        &["--gossip", "off", "--listen", "127.0.0.1:0", "--stats", &address],
    ] {
        let (status, text) = said(&finished(args));
        assert_eq!(status, Some(1), "{text}");
        assert!(text.starts_with(&format!("lb: cannot listen on {address}: ")), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn two_balancers_do_not_share_a_port() {
    let first = Balancer::clustered("127.0.0.1:0", &[]);
    for (option, address) in
        [("--listen", first.traffic[0]), ("--stats", first.stats.unwrap()), ("--gossip", first.gossip.unwrap())]
    {
        let address = address.to_string();
        let mut args = vec![option, &address];
        for (other, value) in [("--listen", "127.0.0.1:0"), ("--gossip", "off")] {
            if other != option {
                args.extend([other, value]);
            }
        }
        let (status, text) = said(&finished(&args));
        assert_eq!(status, Some(1), "{option}: {text}");
        assert!(text.contains(&address) && text.lines().count() == 1, "{option}: {text}");
    }
}

#[test]
fn help_has_examples_and_goes_to_standard_output() {
    for args in
        [&["--help"][..], &["serve", "--help"], &["agent", "--help"], &["members", "--help"], &["check", "--help"]]
    {
        let output = finished(args);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        assert!(text.contains("Example") && text.contains("lb "), "{args:?}:\n{text}");
    }
    let version = String::from_utf8(finished(&["--version"]).stdout).unwrap();
    assert_eq!(version.trim(), format!("lb {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_environment_sets_options() {
    let lb = Lb::start_with(["--listen=127.0.0.1:0", "--stats=127.0.0.1:0"], ("LB_GOSSIP", "off"));
    lb.stderr.wait("gossip is off");
}

#[test]
fn the_log_can_be_haproxys_or_none() {
    let format = |format: &str| {
        let mut balancer = Balancer::alone(&["--log-format", format]);
        assert_eq!(balancer.client().get("/logged").status(), 503);
        balancer.lb.signal(rustix::process::Signal::TERM);
        assert!(balancer.lb.wait().0.success());
        balancer.lb.stdout.clone()
    };
    let line = format("haproxy").wait("/logged");
    assert!(line.contains(" localnodes nodes/<NOSRV> ") && line.contains(" 503 ") && line.contains(" SC-- "), "{line}");
    assert!(line.ends_with("\"GET /logged HTTP/1.1\""), "{line}");
    assert_eq!(format("off").all(), [""; 0]);
}
