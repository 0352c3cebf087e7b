//! What a client says: however it comes in pieces, it is read in one way, and no more comes out than went in.

#![no_main]

use bytes::Bytes;
use http::{HeaderMap, Version, header, request::Parts};
use lb::h1::{Decoder, Limits, ParseError, Piece, RequestHead, parse_request};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { head: 4096 };

/// Data, trailers and what is behind them; `None` when it is refused or not complete.
type Read = Option<(Vec<u8>, usize, Vec<u8>)>;

fuzz_target!(|input: &[u8]| {
    let Some((&flags, said)) = input.split_first() else { return };
    let step = usize::from(flags) + 1;
    let parsed = parse(said);
    assert_eq!(shape(&drip(said, step)), shape(&parsed), "in pieces of {step}");
    let Ok(Some(head)) = parsed else { return };
    check(&head, &said[..head.length]);
    let body = &said[head.length..];
    let whole = read(&head, body, body.len());
    assert_eq!(read(&head, body, step), whole, "in pieces of {step}");
    if let Some((data, _, behind)) = whole {
        assert!(data.len() + behind.len() <= body.len());
        assert!(body.ends_with(&behind));
    }
});

fn parse(said: &[u8]) -> Result<Option<RequestHead>, ParseError> {
    parse_request(&Bytes::copy_from_slice(said), LIMITS, &mut HeaderMap::new())
}

/// Parses a head whenever another piece of it has come.
fn drip(said: &[u8], step: usize) -> Result<Option<RequestHead>, ParseError> {
    let ends = (0..said.len()).step_by(step).skip(1).chain([said.len()]);
    for end in ends {
        let parsed = parse(&said[..end])?;
        if parsed.is_some() {
            return Ok(parsed);
        }
    }
    Ok(None)
}

/// What two readings must have in common. Why a head is refused depends on how much of it was there: whether it is does not.
fn shape(parsed: &Result<Option<RequestHead>, ParseError>) -> Option<Option<(String, usize, &Decoder)>> {
    let head = parsed.as_ref().ok()?;
    Some(head.as_ref().map(|head| {
        let Parts { method, uri, version, headers, .. } = &head.parts;
        (format!("{method} {uri} {version:?} {headers:?}"), head.length, &head.body)
    }))
}

fn check(head: &RequestHead, text: &[u8]) {
    // A head that has come to its end is complete, and was not before.
    assert!(parse(text).is_ok_and(|again| again.is_some()));
    assert!(parse(&text[..text.len() - 1]).is_ok_and(|less| less.is_none()));
    assert!(text.len() <= LIMITS.head && text.ends_with(b"\n"));
    let headers = &head.parts.headers;
    let lengths: Vec<_> = headers.get_all(header::CONTENT_LENGTH).iter().collect();
    match &head.body {
        Decoder::Length(length) => {
            assert!(!headers.contains_key(header::TRANSFER_ENCODING));
            let told = lengths.first().map_or(Ok(0), |told| told.to_str().unwrap_or_default().parse());
            assert_eq!(told, Ok(*length));
            assert!(lengths.len() <= 1);
        }
        Decoder::Chunked(_) => {
            assert!(lengths.is_empty() && headers.contains_key(header::TRANSFER_ENCODING));
            assert_eq!(head.parts.version, Version::HTTP_11);
        }
        Decoder::UntilClose => panic!("a request has an end"),
    }
}

fn read(head: &RequestHead, said: &[u8], step: usize) -> Read {
    let mut body = match &head.body {
        Decoder::Length(length) => Decoder::Length(*length),
        Decoder::Chunked(_) | Decoder::UntilClose => Decoder::chunked(),
    };
    let (mut data, mut trailers, mut behind) = (Vec::new(), 0, Vec::new());
    for piece in said.chunks(step.max(1)) {
        let mut rest = Bytes::copy_from_slice(piece);
        loop {
            match body.decode(&mut rest) {
                Ok(Piece::Data(piece)) => {
                    assert!(!piece.is_empty());
                    data.extend_from_slice(&piece);
                }
                Ok(Piece::Trailers(fields)) => trailers = fields.len(),
                Ok(Piece::End | Piece::More) => break,
                Err(error) => {
                    // What is broken stays so, whatever comes.
                    assert_eq!(body.decode(&mut Bytes::from_static(b"\r\n0\r\n\r\n")), Err(error));
                    return None;
                }
            }
        }
        assert!(rest.is_empty() || body.is_done());
        behind.extend_from_slice(&rest);
    }
    body.is_done().then_some((data, trailers, behind))
}
