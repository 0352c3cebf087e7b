//! What people write on command lines: what is read is written back.

#![no_main]

use std::fmt::Display;

use lb::{
    config::{Advertise, CookieModeChoice, HostPort, ListenAddress, RuntimeBind, StaticServer, parse_duration},
    model::{CookieMode, CookiePolicy, PoolName, SameSite, ServerName, StatusSet, Weight, parse_network},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(address) = text.parse::<ListenAddress>() {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
    if let Ok(address) = HostPort::parse_or(text, 7946) {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
    if let Ok(network) = parse_network(text) {
        assert_eq!(parse_network(&network.to_string()), Ok(network));
    }
    if let Ok(set) = text.parse::<StatusSet>() {
        assert_eq!(set.to_string().parse(), Ok(set));
    }
    if let Ok(name) = ServerName::parse(text) {
        assert_eq!(name.as_str(), text);
    }
    one_line(text.parse::<ListenAddress>());
    one_line(text.parse::<HostPort>());
    one_line(text.parse::<Advertise>());
    one_line(text.parse::<StaticServer>());
    one_line(text.parse::<RuntimeBind>());
    one_line(text.parse::<Weight>());
    one_line(text.parse::<StatusSet>());
    one_line(parse_network(text));
    one_line(parse_duration(text));
    one_line(PoolName::parse(text));
    one_line(CookiePolicy::new(text, CookieMode::default()));
    one_line(text.parse::<SameSite>());
    one_line(text.parse::<CookieModeChoice>());
});

/// What is wrong is told in one line, whatever was written.
fn one_line<T, E: Display>(read: Result<T, E>) {
    if let Err(error) = read {
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
}
