//! What a server says: however it comes in pieces, it is read in one way, and no more comes out than went in.

#![no_main]

use bytes::Bytes;
use http::{Method, StatusCode};
use lb::h1::{Decoder, Limits, Piece, parse_response};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { head: 4096 };

/// Status, data, trailers and what is behind them; `None` when it is refused or not complete.
type Read = Option<(StatusCode, Vec<u8>, usize, Vec<u8>)>;

fuzz_target!(|input: &[u8]| {
    let Some((&flags, said)) = input.split_first() else { return };
    let asked = if flags & 1 == 1 { Method::HEAD } else { Method::GET };
    let whole = read(said, &asked, said.len());
    let step = usize::from(flags >> 1) + 1;
    assert_eq!(read(said, &asked, step), whole, "in pieces of {step}");
    if let Some((_, data, _, behind)) = whole {
        assert!(data.len() + behind.len() < said.len());
    }
});

fn read(said: &[u8], asked: &Method, step: usize) -> Read {
    let head = parse_response(&Bytes::copy_from_slice(said), asked, LIMITS).ok()??;
    // A head that has come to its end is complete, and was not before.
    assert!(
        parse_response(&Bytes::copy_from_slice(&said[..head.length]), asked, LIMITS).is_ok_and(|again| again.is_some())
    );
    assert!(
        parse_response(&Bytes::copy_from_slice(&said[..head.length - 1]), asked, LIMITS)
            .is_ok_and(|less| less.is_none())
    );
    let mut body: Decoder = head.body;
    let (mut data, mut trailers, mut behind) = (Vec::new(), 0, Vec::new());
    for piece in said[head.length..].chunks(step.max(1)) {
        let mut rest = Bytes::copy_from_slice(piece);
        loop {
            match body.decode(&mut rest).ok()? {
                Piece::Data(piece) => {
                    assert!(!piece.is_empty());
                    data.extend_from_slice(&piece);
                }
                Piece::Trailers(fields) => trailers = fields.len(),
                Piece::End | Piece::More => break,
            }
        }
        assert!(rest.is_empty() || body.is_done());
        behind.extend_from_slice(&rest);
    }
    body.may_end_here().then_some((head.parts.status, data, trailers, behind))
}
