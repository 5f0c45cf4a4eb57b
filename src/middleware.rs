//! Middleware: what stands around every call, as a tower layer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

/// An answer to come.
pub(crate) type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

/// Stands around every call.
pub(crate) trait Middleware: Clone {
    /// Answers a call, by `next` if nothing speaks against it.
    fn handle<F, E>(&self, request: Request<Body>, next: impl FnOnce(Request<Body>) -> F) -> Answer<E>
    where
        F: Future<Output = Result<Response<Body>, E>> + Send + 'static,
        E: Send + 'static;
}

/// Puts a middleware around a service.
#[derive(Clone, Debug)]
pub(crate) struct Around<M>(pub(crate) M);

impl<M: Middleware, S> Layer<S> for Around<M> {
    type Service = Surrounded<M, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Surrounded { middleware: self.0.clone(), inner }
    }
}

/// A service with a middleware around it.
#[derive(Clone, Debug)]
pub(crate) struct Surrounded<M, S> {
    middleware: M,
    inner: S,
}

impl<M, S> Service<Request<Body>> for Surrounded<M, S>
where
    M: Middleware,
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = &mut self.inner;
        self.middleware.handle(request, |request| inner.call(request))
    }
}
