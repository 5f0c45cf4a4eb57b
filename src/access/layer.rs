//! Stands before every call.

use std::sync::Arc;

use futures_util::StreamExt;
use http_body::Frame;
use http_body_util::{BodyStream, StreamBody};
use tokio::sync::OwnedSemaphorePermit;
use tonic::body::Body;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::admit::Admitted;
use super::jwt::Jwt;
use super::{Refused, needed};
use crate::live::Live;
use crate::middleware::{Answer, Middleware};

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
pub(crate) struct Access {
    pub(crate) live: Arc<Live>,
    pub(crate) jwt: Option<Arc<Jwt>>,
}

impl Middleware for Access {
    fn handle<F, E>(&self, mut request: Request<Body>, next: impl FnOnce(Request<Body>) -> F) -> Answer<E>
    where
        F: Future<Output = Result<Response<Body>, E>> + Send + 'static,
        E: Send + 'static,
    {
        let keys = self.live.keys();
        let is_needed = keys.are_needed() || self.jwt.is_some();
        let Some(roles) = needed(request.uri().path()).filter(|_| is_needed) else {
            return Box::pin(next(request));
        };
        let admitted = match (bearer(request.headers()), &self.jwt) {
            (Some(token), Some(jwt)) if Jwt::is_one(token) => jwt.admit(token, roles),
            (token, _) => keys.admit(token, roles),
        };
        match admitted {
            Ok(admitted) => {
                request.extensions_mut().insert(Caller(admitted.name.into()));
                let (answer, live) = (next(request), self.live.clone());
                let Admitted { key, place, .. } = admitted;
                let is_revoked = move || key.as_ref().is_some_and(|key| live.keys().is_revoked(key));
                Box::pin(async move { Ok(answer.await?.map(|body| guarded(body, place, is_revoked))) })
            }
            Err(refused) => {
                let answer = status(&refused).into_http();
                Box::pin(async move { Ok(answer) })
            }
        }
    }
}

/// An answer whose place is taken until its last byte is, or the caller goes away; it ends where the key is revoked.
fn guarded(body: Body, place: Option<OwnedSemaphorePermit>, is_revoked: impl Fn() -> bool + Send + 'static) -> Body {
    let frames = BodyStream::new(body).scan(false, move |is_over, frame| {
        let _held = &place;
        if std::mem::replace(is_over, is_revoked()) {
            return std::future::ready(None);
        }
        let end = is_over.then(|| status(&Refused::Unknown).into_http::<Body>().into_parts().0.headers);
        std::future::ready(Some(end.map_or(frame, |end| Ok(Frame::trailers(end)))))
    });
    Body::new(StreamBody::new(frames))
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
