//! Who the client is, told to the server.

use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING},
};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Names that nothing may look like.
const SHADOWED: [HeaderName; 5] = [FOR, PORT, PROTO, CONTENT_LENGTH, TRANSFER_ENCODING];

/// What the server is told; made once for a client connection.
#[derive(Debug, Clone)]
pub struct Forwarding {
    /// The client's address.
    pub client: HeaderValue,
    /// The port that accepted the connection.
    pub port: HeaderValue,
    /// `http` or `https`.
    pub proto: HeaderValue,
}

/// Adds the client's address as a new last X-Forwarded-For line, and replaces X-Forwarded-Port and -Proto.
///
/// `may_have_some` is false when the request is known to have no header of such a name. Names that differ only by `_` from
/// ours, or from those that tell the length, are dropped: many servers read both as one.
pub fn add_forwarding_headers(headers: &mut HeaderMap, forwarding: &Forwarding, may_have_some: bool) {
    if may_have_some {
        drop_look_alikes(headers);
    }
    let Forwarding { client, port, proto } = forwarding;
    // Small maps would otherwise grow, and be hashed anew, up to three times.
    headers.reserve(3);
    headers.append(FOR, client.clone());
    headers.insert(PORT, port.clone());
    headers.insert(PROTO, proto.clone());
}

fn drop_look_alikes(headers: &mut HeaderMap) {
    let shadows = |name: &&HeaderName| {
        let name = name.as_str();
        name.contains('_') && SHADOWED.iter().any(|ours| ours.as_str() == name.replace('_', "-"))
    };
    let shadowing: Vec<_> = headers.keys().filter(shadows).cloned().collect();
    for name in shadowing {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_added_as_a_last_line_and_the_rest_replaced() {
        let mut headers = HeaderMap::new();
        headers.append(FOR, HeaderValue::from_static("1.1.1.1"));
        headers.append(PORT, HeaderValue::from_static("1"));
        headers.append("x_forwarded_for", HeaderValue::from_static("6.6.6.6"));
        headers.append("content_length", HeaderValue::from_static("6"));
        headers.append("x_other", HeaderValue::from_static("stays"));
        let forwarding = Forwarding {
            client: HeaderValue::from_static("127.0.0.1"),
            port: HeaderValue::from_static("80"),
            proto: HeaderValue::from_static("http"),
        };
        add_forwarding_headers(&mut headers, &forwarding, true);
        let lines: Vec<_> = headers.get_all(FOR).iter().collect();
        assert_eq!(lines, ["1.1.1.1", "127.0.0.1"]);
        assert_eq!(
            (&headers[PORT], &headers[PROTO]),
            (&HeaderValue::from_static("80"), &HeaderValue::from_static("http"))
        );
        assert!(!headers.contains_key("x_forwarded_for") && !headers.contains_key("content_length"));
        assert!(headers.contains_key("x_other"));
    }
}
