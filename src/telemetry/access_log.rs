//! One line for each request, as JSON or as HAProxy's `option httplog` writes it.

use std::{
    io::Write,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::model::Termination;

/// Milliseconds of each phase; `None` is a phase that was not reached and is written as -1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timers {
    /// From the first byte to the end of the head (`TR`).
    pub request: Option<Duration>,
    /// In the queue (`Tw`).
    pub queue: Option<Duration>,
    /// Connecting (`Tc`).
    pub connect: Option<Duration>,
    /// Waiting for the response head (`Tr`).
    pub response: Option<Duration>,
    /// From the first byte to the last (`Ta`).
    pub total: Duration,
}

/// What is written about a request.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// When it began.
    pub begun: SystemTime,
    /// Who asked.
    pub client: SocketAddr,
    /// Where it came in.
    pub frontend: &'a str,
    /// The pool.
    pub backend: &'a str,
    /// The server; `None` when none was reached.
    pub server: Option<&'a str>,
    /// How long it took.
    pub timers: Timers,
    /// Status sent to the client; `None` when nothing was sent.
    pub status: Option<u16>,
    /// Bytes sent to the client, with the head.
    pub bytes: u64,
    /// How it ended.
    pub termination: Termination,
    /// Client connections of the process and of the frontend.
    pub connections: (u32, u32),
    /// Requests in flight in the pool and on the server.
    pub in_flight: (u32, u32),
    /// Requests that waited before it: in its server's queue, and in the pool's.
    pub queued: (usize, usize),
    /// Tries beyond the first.
    pub retries: u32,
    /// Whether the last try went to another server.
    pub redispatched: bool,
    /// Method, target and version; `None` when the request was no HTTP.
    pub request: Option<(&'a str, &'a str, &'static str)>,
}

fn millis(phase: Option<Duration>) -> i64 {
    phase.map_or(-1, |time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

impl Serialize for Timers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { request, queue, connect, response, total } = *self;
        let mut timers = serializer.serialize_struct("Timers", 5)?;
        timers.serialize_field("TR", &millis(request))?;
        timers.serialize_field("Tw", &millis(queue))?;
        timers.serialize_field("Tc", &millis(connect))?;
        timers.serialize_field("Tr", &millis(response))?;
        timers.serialize_field("Ta", &millis(Some(total)))?;
        timers.end()
    }
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            begun,
            client,
            frontend,
            backend,
            server,
            timers,
            status,
            bytes,
            termination,
            connections,
            in_flight,
            queued,
            retries,
            redispatched,
            request,
        } = self;
        let letters = termination.letters();
        let (method, path, proto) = request.unwrap_or(("<BADREQ>", "", ""));
        let mut line = serializer.serialize_struct("Record", 21)?;
        line.serialize_field("time", &humantime::format_rfc3339_millis(*begun).to_string())?;
        line.serialize_field("client_ip", &client.ip().to_canonical())?;
        line.serialize_field("client_port", &client.port())?;
        line.serialize_field("frontend", frontend)?;
        line.serialize_field("backend", backend)?;
        line.serialize_field("server", server.unwrap_or("<NOSRV>"))?;
        line.serialize_field("timers", timers)?;
        line.serialize_field("status", &status.map_or(-1, i32::from))?;
        line.serialize_field("bytes", bytes)?;
        line.serialize_field("term", std::str::from_utf8(&letters).unwrap_or("----"))?;
        line.serialize_field("actconn", &connections.0)?;
        line.serialize_field("feconn", &connections.1)?;
        line.serialize_field("beconn", &in_flight.0)?;
        line.serialize_field("srv_conn", &in_flight.1)?;
        line.serialize_field("srv_queue", &queued.0)?;
        line.serialize_field("backend_queue", &queued.1)?;
        line.serialize_field("retries", retries)?;
        line.serialize_field("redispatched", redispatched)?;
        line.serialize_field("method", method)?;
        line.serialize_field("path", path)?;
        line.serialize_field("proto", proto)?;
        line.end()
    }
}

/// Appends the record as one line of JSON, with the names of HAProxy's log variables.
pub fn write_json(line: &mut Vec<u8>, record: &Record<'_>) {
    // Writing to memory cannot fail, and every field is a plain value.
    let _infallible = serde_json::to_writer(&mut *line, record);
    line.push(b'\n');
}

/// Appends the record as HAProxy's HTTP log format has it (configuration manual, section 8.2.3), without a syslog header.
/// Times are UTC.
pub fn write_haproxy(line: &mut Vec<u8>, record: &Record<'_>) {
    let Record {
        begun,
        client,
        frontend,
        backend,
        server,
        timers,
        status,
        bytes,
        termination,
        connections: (actconn, feconn),
        in_flight: (beconn, srv_conn),
        queued: (srv_queue, backend_queue),
        retries,
        redispatched,
        request,
    } = record;
    let Timers { request: head, queue, connect, response, total } = *timers;
    // A request that could not be read has no pool.
    let backend = if request.is_some() { backend } else { frontend };
    let _infallible = write!(
        line,
        "{}:{} [{}] {frontend} {backend}/{} {}/{}/{}/{}/{} {} {bytes} - - {termination} \
         {actconn}/{feconn}/{beconn}/{srv_conn}/{}{retries} {srv_queue}/{backend_queue} \"",
        client.ip().to_canonical(),
        client.port(),
        date(*begun),
        server.unwrap_or("<NOSRV>"),
        millis(head),
        millis(queue),
        millis(connect),
        millis(response),
        millis(Some(total)),
        status.map_or(-1, i32::from),
        if *redispatched { "+" } else { "" },
    );
    match request {
        Some((method, path, proto)) => {
            for (index, part) in [*method, *path, *proto].into_iter().enumerate() {
                if index > 0 {
                    line.push(b' ');
                }
                escape(line, part);
            }
        }
        None => line.extend_from_slice(b"<BADREQ>"),
    }
    line.extend_from_slice(b"\"\n");
}

/// `22/Nov/2026:16:08:16.732`, cut from RFC 3339's `2026-11-22T16:08:16.732Z`.
fn date(time: SystemTime) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = humantime::format_rfc3339_millis(time).to_string();
    let month = text[5..7].parse::<usize>().ok().and_then(|month| MONTHS.get(month - 1)).unwrap_or(&"???");
    format!("{}/{month}/{}:{}", &text[8..10], &text[..4], &text[11..23])
}

/// What would end the quoted request early, or is no printable ASCII, is written `#XX`.
fn escape(line: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'#') {
            line.push(byte);
        } else {
            let _infallible = write!(line, "#{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cause, Phase, StickyRequest, StickyResponse};

    fn record() -> Record<'static> {
        Record {
            begun: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_363_696_732),
            client: SocketAddr::from(([127, 0, 0, 1], 41676)),
            frontend: "localnodes",
            backend: "nodes",
            server: Some("s1"),
            timers: Timers {
                request: Some(Duration::ZERO),
                queue: Some(Duration::ZERO),
                connect: Some(Duration::ZERO),
                response: Some(Duration::from_micros(2_900)),
                total: Duration::from_millis(3),
            },
            status: Some(200),
            bytes: 86,
            termination: Termination {
                request: StickyRequest::None,
                response: StickyResponse::Inserted,
                ..Termination::default()
            },
            connections: (1, 1),
            in_flight: (0, 0),
            queued: (0, 0),
            retries: 0,
            redispatched: false,
            request: Some(("GET", "/", "HTTP/1.1")),
        }
    }

    fn line(write: impl Fn(&mut Vec<u8>, &Record<'_>), record: &Record<'_>) -> String {
        let mut line = Vec::new();
        write(&mut line, record);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn the_haproxy_format_is_that_of_httplog() {
        assert_eq!(
            line(write_haproxy, &record()),
            "127.0.0.1:41676 [22/Nov/2026:16:08:16.732] localnodes nodes/s1 0/0/0/2/3 200 86 - - --NI 1/1/0/0/0 0/0 \
             \"GET / HTTP/1.1\"\n"
        );
    }

    #[test]
    fn a_bad_request_has_no_pool_and_no_times() {
        let bad = Record {
            server: None,
            status: Some(400),
            bytes: 0,
            timers: Timers::default(),
            termination: Termination { cause: Cause::Proxy, phase: Phase::Request, ..Termination::default() },
            request: None,
            ..record()
        };
        let text = line(write_haproxy, &bad);
        assert!(text.contains("localnodes localnodes/<NOSRV> -1/-1/-1/-1/0 400 0 - - PR--"), "{text}");
        assert!(text.ends_with("\"<BADREQ>\"\n"), "{text}");
    }

    #[test]
    fn quotes_and_odd_bytes_are_written_in_hex() {
        let request = Some(("GET", "/a\"b#c\u{e9}", "HTTP/1.1"));
        let odd = Record { request, queued: (2, 3), retries: 1, redispatched: true, ..record() };
        let text = line(write_haproxy, &odd);
        assert!(text.ends_with("1/1/0/0/+1 2/3 \"GET /a#22b#23c#C3#A9 HTTP/1.1\"\n"), "{text}");
    }

    #[test]
    fn the_json_format_is_one_object_a_line() {
        let text = line(write_json, &record());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert_eq!(value["time"], "2026-11-22T16:08:16.732Z");
        assert_eq!(value["timers"]["Tr"], 2);
        assert_eq!((&value["server"], &value["term"]), (&"s1".into(), &"--NI".into()));
    }
}
