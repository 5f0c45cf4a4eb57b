//! Stands before every call.

use std::sync::Arc;

use futures_util::StreamExt;
use http_body::{Body as _, Frame};
use http_body_util::{BodyStream, StreamBody};
use tokio::sync::OwnedSemaphorePermit;
use tonic::body::Body;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::admit::{Admitted, Pass};
use super::jwt::Jwt;
use super::{Refused, Role, needed};
use crate::clock::unix_now;
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
        let Some(roles) = needed(request.uri().path()) else {
            return Box::pin(next(request));
        };
        match self.admit(bearer(request.headers()), roles) {
            Ok(Admitted { name, pass, place }) => {
                request.extensions_mut().insert(Caller(name.into()));
                let (pass, live) = (Arc::new(pass), self.live.clone());
                let ended = move || pass.ended(&live.keys(), unix_now());
                let answer = next(request.map(|body| watched(body, ended.clone())));
                Box::pin(async move { Ok(answer.await?.map(|body| guarded(body, place, ended))) })
            }
            Err(refused) => {
                let answer = status(&refused).into_http();
                Box::pin(async move { Ok(answer) })
            }
        }
    }
}

impl Access {
    fn admit(&self, token: Option<&str>, roles: &[Role]) -> Result<Admitted, Refused> {
        let keys = self.live.keys();
        match (token, &self.jwt) {
            (Some(token), Some(jwt)) if Jwt::is_one(token) => jwt.admit(token, roles),
            (_, None) if !keys.are_needed() => {
                Ok(Admitted { name: "anybody".to_owned(), pass: Pass::NotNeeded, place: None })
            }
            (token, _) => keys.admit(token, roles),
        }
    }
}

/// A request of which nothing more is taken in once what let its caller in has ended.
fn watched(body: Body, ended: impl Fn() -> Option<Refused> + Send + 'static) -> Body {
    let frames = BodyStream::new(body).map(move |frame| ended().map_or(frame, |refused| Err(status(&refused))));
    Body::new(StreamBody::new(frames))
}

/// An answer that holds its caller's place until its last byte is sent or the caller is gone. If the key or token ends
/// meanwhile, so does the answer, with that error in its trailers, but not before its first message: by then the work
/// is done, and its result must be told.
fn guarded(
    body: Body,
    place: Option<OwnedSemaphorePermit>,
    ended: impl Fn() -> Option<Refused> + Send + 'static,
) -> Body {
    if body.is_end_stream() {
        // An error is all headers. Some clients take no other end.
        return body;
    }
    let mut has_begun = false;
    let frames = BodyStream::new(body).scan(false, move |is_over, frame| {
        let _held = &place;
        if *is_over {
            return std::future::ready(None);
        }
        let is_data = frame.as_ref().is_ok_and(Frame::is_data);
        let may_end = is_data && std::mem::replace(&mut has_begun, true);
        let end = may_end.then(&ended).flatten();
        let end = end.map(|refused| status(&refused).into_http::<Body>().into_parts().0.headers);
        *is_over = end.is_some();
        std::future::ready(Some(end.map_or(frame, |end| Ok(Frame::trailers(end)))))
    });
    Body::new(StreamBody::new(frames))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
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
