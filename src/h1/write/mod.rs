//! Heads, chunks and trailers to bytes.

mod request;
mod response;

pub use request::{Framing, write_request};
pub use response::{Manner, ResponseFraming, write_interim, write_response};

pub(super) use request::{write_chunk_head, write_last_chunk};

pub(super) fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
