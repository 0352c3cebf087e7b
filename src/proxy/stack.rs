//! The tower stack that a request goes through.
//!
//! Each layer is a type of its own and calls the next directly: no boxed future, nothing looked up at run time.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    rc::Rc,
    task::{Context, Poll},
};

use futures_util::future::Either;
use http::{Request, request::Parts};
use tower::{Layer, Service, ServiceBuilder, service_fn};

use super::{
    body::ResponseBody,
    client::Client,
    exchange::Exchange,
    forward::{Passed, forward},
};
use crate::{
    config::Limits,
    downstream::{Answer, Incoming},
    http_rules::{Fault, screen},
};

/// The stack for one client connection: counts, then rules, then forwarding. It is always ready: its layers hold nothing back,
/// and neither does `service_fn`.
pub(super) fn stack(
    client: Rc<Client>,
) -> impl Service<Request<Incoming>, Response = Answer<ResponseBody>, Error = Infallible, Future: 'static> {
    ServiceBuilder::new().layer(ObserveLayer { client }).layer(ScreenLayer).service(service_fn(forward))
}

/// A request with the exchange that counts it.
pub(super) struct Observed {
    parts: Parts,
    body: Incoming,
    exchange: Box<Exchange>,
}

/// Begins an exchange for each request.
struct ObserveLayer {
    client: Rc<Client>,
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe { client: Rc::clone(&self.client), inner }
    }
}

#[derive(Clone)]
struct Observe<S> {
    client: Rc<Client>,
    inner: S,
}

impl<S: Service<Observed, Error = Infallible>> Service<Request<Incoming>> for Observe<S> {
    type Response = S::Response;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> S::Future {
        let (parts, body) = request.into_parts();
        let exchange = Exchange::begin(&self.client, &parts);
        self.inner.call(Observed { parts, body, exchange })
    }
}

/// Answers requests that break a rule; the others go on.
struct ScreenLayer;

impl<S> Layer<S> for ScreenLayer {
    type Service = Screen<S>;

    fn layer(&self, inner: S) -> Screen<S> {
        Screen { inner }
    }
}

#[derive(Clone)]
struct Screen<S> {
    inner: S,
}

impl<S> Service<Observed> for Screen<S>
where
    S: Service<Passed, Response = Answer<ResponseBody>, Error = Infallible>,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<S::Response, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, observed: Observed) -> Self::Future {
        let Observed { mut parts, body, exchange } = observed;
        let Limits { head, body: most, .. } = exchange.client.settings.limits;
        let declared = http_body::Body::size_hint(&body).exact();
        if most.is_some_and(|most| declared.is_some_and(|declared| declared > most)) {
            return Either::Right(ready(Ok(refuse(exchange, &body, Fault::BodyTooLarge))));
        }
        // A target may take half of the head.
        match screen(&mut parts, head / 2, &exchange.client.frontend.upgrades) {
            Ok(screened) => Either::Left(self.inner.call(Passed { parts, body, screened, exchange })),
            Err(rejection) => Either::Right(ready(Ok(refuse(exchange, &body, Fault::Rejected(rejection))))),
        }
    }
}

/// Answers a request whose body nobody reads.
fn refuse(exchange: Box<Exchange>, body: &Incoming, fault: Fault) -> Answer<ResponseBody> {
    if !http_body::Body::is_end_stream(body) {
        // It stays unfinished.
        exchange.client.begin_upload();
    }
    exchange.refuse(fault)
}
