//! Stands before every call.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tonic::body::Body;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tower::{Layer, Service};

use super::jwt::Jwt;
use super::{Refused, needed};
use crate::live::Live;

/// Who calls; in the request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Arc<str>);

impl Caller {
    /// The caller of a request; "anybody" where no key is needed.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get().cloned().unwrap_or_else(|| Self("anybody".into()))
    }
}

/// Asks for keys or tokens, where there are any.
#[derive(Clone, Debug)]
pub(crate) struct AccessLayer {
    pub(crate) live: Arc<Live>,
    pub(crate) jwt: Option<Arc<Jwt>>,
}

impl<S> Layer<S> for AccessLayer {
    type Service = AccessService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AccessService { inner, access: self.clone() }
    }
}

/// A service that is asked with a key.
#[derive(Clone, Debug)]
pub(crate) struct AccessService<S> {
    inner: S,
    access: AccessLayer,
}

impl<S> Service<Request<Body>> for AccessService<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let keys = self.access.live.keys();
        let is_needed = keys.are_needed() || self.access.jwt.is_some();
        let Some(roles) = needed(request.uri().path()).filter(|_| is_needed) else {
            return Box::pin(self.inner.call(request));
        };
        let admitted = match (bearer(request.headers()), &self.access.jwt) {
            (Some(token), Some(jwt)) if Jwt::is_one(token) => jwt.admit(token, roles),
            (token, _) => keys.admit(token, roles),
        };
        match admitted {
            Ok(admitted) => {
                request.extensions_mut().insert(Caller(admitted.name.into()));
                let answer = self.inner.call(request);
                // The place is taken until the last byte of the answer is, or the caller goes away.
                Box::pin(async move { Ok(answer.await?.map(|body| Body::new(Held { body, _place: admitted.place }))) })
            }
            Err(refused) => {
                let answer = status(&refused).into_http();
                Box::pin(async move { Ok(answer) })
            }
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn status(refused: &Refused) -> Status {
    let message = refused.to_string();
    match refused {
        Refused::NoKey | Refused::Unknown => Status::unauthenticated(message),
        Refused::Role(_) => Status::permission_denied(message),
        Refused::TooMuch(wait) => {
            let details = ErrorDetails::with_retry_info(Some(*wait));
            Status::with_error_details(Code::ResourceExhausted, message, details)
        }
    }
}

/// An answer that holds its caller's place.
struct Held {
    body: Body,
    _place: Option<OwnedSemaphorePermit>,
}

impl http_body::Body for Held {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
