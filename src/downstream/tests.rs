//! Requests of real clients, on loopback.

use std::{
    convert::Infallible,
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{Broken, Connection, Incoming};
use crate::{
    h1::Limits,
    net::{Metered, Pulse},
};

const PATIENCE: Duration = Duration::from_secs(15);

/// Polls a connection to its end while a client talks; what the client got, and how the connection ended.
async fn talk<S, B>(service: S, client: impl AsyncFnOnce(TcpStream) -> Vec<u8>) -> (Vec<u8>, Result<(), Broken>)
where
    S: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes, Error: std::error::Error> + Unpin,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let socket = Metered::new(listener.accept().await.unwrap().0, Pulse::begin());
    let served = async {
        let mut connection = Connection::new(socket, service, Limits { head: 1024 });
        poll_fn(|cx: &mut Context<'_>| connection.poll(cx)).await
    };
    let (got, ended) = timeout(PATIENCE, futures_util::future::join(client(stream), served)).await.unwrap();
    (got, ended)
}

/// Says all of it at once, and reads to the end.
async fn say(mut stream: TcpStream, text: &[u8]) -> Vec<u8> {
    stream.write_all(text).await.unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    got
}

/// Reads until so many bytes have come.
async fn expect(stream: &mut TcpStream, text: &str) {
    let mut got = vec![0; text.len()];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), text);
}

/// Answers with what it was sent.
async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await;
    Ok(match body {
        Ok(body) => Response::new(Full::new([path.as_bytes(), b" ", &body.to_bytes()].concat().into())),
        Err(_) => Response::builder().status(StatusCode::BAD_REQUEST).body(Full::default()).unwrap(),
    })
}

#[tokio::test(flavor = "local")]
async fn pipelined_requests_are_answered_in_order_and_the_last_ends_the_connection() {
    let text =
        b"\r\nPOST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcPOST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                 2\r\nde\r\n0\r\n\r\nHEAD /c HTTP/1.1\r\nConnection: close\r\n\r\n";
    let (got, ended) = talk(tower::service_fn(echo), async |stream| say(stream, text).await).await;
    assert_eq!(
        String::from_utf8(got).unwrap(),
        "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n/a abcHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n/b de\
         HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
    );
    assert!(ended.is_ok());
}

#[tokio::test(flavor = "local")]
async fn a_client_that_expects_it_is_asked_for_its_body_once_it_is_wanted() {
    let (_, ended) = talk(tower::service_fn(echo), async |mut stream: TcpStream| {
        stream.write_all(b"PUT / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n").await.unwrap();
        expect(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await;
        stream.write_all(b"ok").await.unwrap();
        expect(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n/ ok").await;
        Vec::new()
    })
    .await;
    assert!(ended.is_ok());
}

#[tokio::test(flavor = "local")]
async fn a_request_that_is_answered_before_its_end_ends_the_connection() {
    let answer = |_request: Request<Incoming>| async { Ok(Response::new(Full::new(Bytes::from_static(b"no")))) };
    let text = b"PUT / HTTP/1.1\r\nContent-Length: 50\r\nExpect: 100-continue\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n";
    let (got, ended) = talk(tower::service_fn(answer), async |stream| {
        let mut stream = stream;
        stream.write_all(text).await.unwrap();
        expect(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno").await;
        Vec::new()
    })
    .await;
    assert!(got.is_empty() && ended.is_ok(), "{ended:?}");
}

#[tokio::test(flavor = "local")]
async fn a_body_without_a_length_comes_in_chunks_or_to_the_end_and_what_was_said_before_it_broke_comes() {
    #[derive(Debug, thiserror::Error)]
    #[error("broken")]
    struct Error;
    let pieces = |request: Request<Incoming>| {
        let broken = request.uri().path() == "/broken";
        let data = |text: &'static str| Ok(Frame::data(Bytes::from_static(text.as_bytes())));
        let end = if broken { Err(Error) } else { data("c") };
        let body = StreamBody::new(futures_util::stream::iter([data("ab"), end]));
        async { Ok::<_, Infallible>(Response::new(body)) }
    };
    let ask = async |text: &'static [u8]| {
        let (got, ended) = talk(tower::service_fn(pieces), async |stream| say(stream, text).await).await;
        (String::from_utf8(got).unwrap(), ended)
    };
    let (got, ended) = ask(b"GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(got, "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nabc");
    assert!(ended.is_ok());
    let (got, ended) = ask(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await;
    assert_eq!(got, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    assert!(ended.is_ok());
    let (got, ended) = ask(b"GET /broken HTTP/1.1\r\n\r\n").await;
    assert_eq!(got, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n");
    assert!(matches!(ended, Err(Broken::Response)));
}

#[tokio::test(flavor = "local")]
async fn a_client_that_leaves_is_noticed_while_its_request_is_served() {
    let never = |_request: Request<Incoming>| std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>();
    let (_, ended) = talk(tower::service_fn(never), async |mut stream: TcpStream| {
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        Vec::new()
    })
    .await;
    assert!(matches!(ended, Err(Broken::Gone)), "{ended:?}");
    let (_, ended) = talk(tower::service_fn(never), async |mut stream: TcpStream| {
        stream.write_all(b"GET / HT").await.unwrap();
        Vec::new()
    })
    .await;
    assert!(matches!(ended, Err(Broken::HeadEnds)), "{ended:?}");
}

#[tokio::test(flavor = "local")]
async fn what_a_client_sent_behind_its_upgrade_is_read_from_the_socket_that_is_handed_over() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let mut sender = Some(sender);
    let switch = tower::service_fn(move |request: Request<Incoming>| {
        let _told = sender.take().unwrap().send(request.into_body().upgrade());
        let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).body(Full::default()).unwrap();
        async { Ok::<_, Infallible>(response) }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let socket = Metered::new(listener.accept().await.unwrap().0, Pulse::begin());
    stream.write_all(b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nfirst").await.unwrap();
    let mut connection = Connection::<_, Full<Bytes>>::new(socket, switch, Limits { head: 1024 });
    timeout(PATIENCE, poll_fn(|cx: &mut Context<'_>| connection.poll(cx))).await.unwrap().unwrap();
    assert!(connection.into_socket().is_none(), "it is given away");
    let mut socket = receiver.await.unwrap().await.unwrap();
    let mut first = [0; 5];
    socket.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"first");
    expect(&mut stream, "HTTP/1.1 101 Switching Protocols\r\n\r\n").await;
}

#[tokio::test(flavor = "local")]
async fn a_body_that_outlives_its_request_reads_nothing_of_the_next_one() {
    let mut kept = None;
    let keep = tower::service_fn(move |request: Request<Incoming>| {
        let before = kept.replace(request.into_body());
        async move {
            let before = match before {
                Some(body) => body.collect().await.unwrap().to_bytes(),
                None => Bytes::from_static(b"first"),
            };
            Ok::<_, Infallible>(Response::new(Full::new(before)))
        }
    });
    let text = b"GET / HTTP/1.1\r\n\r\nPUT / HTTP/1.1\r\nContent-Length: 6\r\n\r\nsecret";
    let (got, _) = talk(keep, async |stream| say(stream, text).await).await;
    assert_eq!(
        String::from_utf8(got).unwrap(),
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirstHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    );
}

#[tokio::test(flavor = "local")]
async fn an_idle_connection_ends_when_it_is_told_to_and_one_in_a_head_after_its_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connect = async || {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = Metered::new(listener.accept().await.unwrap().0, Pulse::begin());
        (stream, Connection::new(socket, tower::service_fn(echo), Limits { head: 1024 }))
    };
    let (_client, mut idle) = connect().await;
    idle.end();
    assert!(timeout(PATIENCE, poll_fn(|cx: &mut Context<'_>| idle.poll(cx))).await.unwrap().is_ok());
    let (mut client, mut busy) = connect().await;
    client.write_all(b"GET /a HT").await.unwrap();
    let half = poll_fn(|cx: &mut Context<'_>| {
        let polled = busy.poll(cx);
        Poll::Ready(polled)
    });
    assert!(half.await.is_pending());
    busy.end();
    let end = async {
        client.write_all(b"TP/1.1\r\n\r\n").await.unwrap();
        expect(&mut client, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\n/a ").await;
    };
    let served = poll_fn(|cx: &mut Context<'_>| busy.poll(cx));
    assert!(timeout(PATIENCE, futures_util::future::join(served, end)).await.unwrap().0.is_ok());
}

#[tokio::test(flavor = "local")]
async fn a_body_that_ends_with_the_connection_does_not_seem_whole_before_all_of_it_is_written() {
    const LENGTH: usize = 32 << 20;
    let large = |_request: Request<Incoming>| {
        let data = Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; LENGTH])));
        async { Ok::<_, Infallible>(Response::new(StreamBody::new(futures_util::stream::iter([data])))) }
    };
    for gives_up in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = Metered::new(listener.accept().await.unwrap().0, Pulse::begin());
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut connection = Connection::new(socket, tower::service_fn(large), Limits { head: 1024 });
        // All of the body is taken over, and most of it waits for the client.
        let mut read = vec![0; 1000];
        let begins = async {
            tokio::select! {
                biased;
                ended = poll_fn(|cx: &mut Context<'_>| connection.poll(cx)) => panic!("nobody reads: {ended:?}"),
                length = stream.read(&mut read) => length.unwrap(),
            }
        };
        let mut got = timeout(PATIENCE, begins).await.unwrap();
        let rest = async {
            let mut space = vec![0; 1 << 20];
            loop {
                match stream.read(&mut space).await {
                    Ok(0) => break Ok(got),
                    Ok(length) => got += length,
                    Err(error) => break Err(error.kind()),
                }
            }
        };
        let ended = if gives_up {
            drop(connection);
            timeout(PATIENCE, rest).await.unwrap()
        } else {
            let served = async {
                poll_fn(|cx: &mut Context<'_>| connection.poll(cx)).await.unwrap();
                drop(connection);
            };
            timeout(PATIENCE, futures_util::future::join(rest, served)).await.unwrap().0
        };
        let head = "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n".len();
        assert_eq!(ended, if gives_up { Err(std::io::ErrorKind::ConnectionReset) } else { Ok(head + LENGTH) });
    }
}

#[tokio::test(flavor = "local")]
async fn the_body_of_a_request_may_be_that_of_its_response() {
    let mirror = |request: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(request.into_body())) };
    let text = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\
                 Connection: close\r\n\r\n2\r\nde\r\n0\r\n\r\n";
    let (got, ended) = talk(tower::service_fn(mirror), async |stream| say(stream, text).await).await;
    assert_eq!(
        String::from_utf8(got).unwrap(),
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\
         connection: close\r\n\r\n2\r\nde\r\n0\r\n\r\n"
    );
    assert!(ended.is_ok());
}

#[tokio::test(flavor = "local")]
async fn a_response_in_between_goes_before_the_final_one_of_its_request_or_nowhere() {
    let mut kept: Option<super::Aside> = None;
    let hint = tower::service_fn(move |request: Request<Incoming>| {
        let aside = request.body().aside();
        let before = kept.replace(request.body().aside());
        async move {
            let hints = http::HeaderMap::from_iter([(http::header::LINK, http::HeaderValue::from_static("</a>"))]);
            match before {
                None => aside.interim(StatusCode::EARLY_HINTS, &hints),
                // Its request has been answered.
                Some(before) => before.interim(StatusCode::EARLY_HINTS, &hints),
            }
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(Response::new(Full::new(aside.local_addr().unwrap().ip().to_string().into())))
        }
    });
    let text = b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nConnection: close\r\n\r\n";
    let (got, ended) = talk(hint, async |stream| say(stream, text).await).await;
    assert_eq!(
        String::from_utf8(got).unwrap(),
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n127.0.0.1\
         HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\n127.0.0.1"
    );
    assert!(ended.is_ok());
}
