//! Keeping a user on a server by a cookie: read, judged, issued and taken out.
//!
//! In the mode `insert` the cookie is the balancer's own (HAProxy: `cookie NAME insert indirect nocache`). The application
//! never sees it: it is removed from requests, and one of that name which a server sets is removed from responses. In the
//! mode `prefix` it is the application's, whose value carries the server's in front on its way to the client and back.
//! Everything else in Cookie and Set-Cookie lines passes byte for byte.
//!
//! Pairs end at a semicolon, quoted or not, as browsers and applications read them (RFC 6265 sections 4.1.1 and 5.2).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod dates;
mod insert;
mod lines;
mod prefix;

pub use dates::{Date, Dates, Verdict};
pub use insert::{is_cacheable, is_set, set_cookie, strip_response};
pub use lines::{find, strip, values};
pub use prefix::{add_prefix, prefix_of, strip_prefix};
