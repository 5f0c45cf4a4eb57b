//! EventService.

use std::time::Duration;

use kindred_models::events::Kind;
use prost_types::Timestamp;
use tonic::{Request, Response, Status, Streaming};

use super::Shared;
use super::status::Problem;
use super::validate::{CLOCKS_AHEAD, Check, MAX_ID_BYTES, UNTRIMMED, is_written_well};
use crate::clock::unix_now;
use crate::proto::v1;
use crate::proto::v1::RefusedEventCode as Code;
use crate::proto::v1::event_service_server::{EventService, EventServiceServer};
use crate::store::{StoredEvent, Write};

/// Events of a message at most.
const MAX_EVENTS: usize = 1000;
/// Refused events that the answer to a stream names, at most.
const MAX_REFUSED: usize = 100;
/// Nanoseconds of a second.
const NANOS: i32 = 1_000_000_000;
/// What can be bought at once, and cost, at most: more is a slip.
const MOST: f64 = 1e12;

/// The service.
pub(super) fn service(shared: Shared) -> EventServiceServer<Events> {
    EventServiceServer::new(Events { shared }).max_decoding_message_size(super::MAX_MESSAGE_BYTES)
}

/// The handlers.
#[derive(Debug)]
pub(super) struct Events {
    shared: Shared,
}

#[tonic::async_trait]
impl EventService for Events {
    async fn record_events(
        &self,
        request: Request<v1::RecordEventsRequest>,
    ) -> Result<Response<v1::RecordEventsResponse>, Status> {
        Ok(Response::new(self.record(request.into_inner().events).await?))
    }

    async fn stream_events(
        &self,
        request: Request<Streaming<v1::StreamEventsRequest>>,
    ) -> Result<Response<v1::StreamEventsResponse>, Status> {
        let mut stream = request.into_inner();
        let (mut total, mut before) = (v1::StreamEventsResponse::default(), 0);
        while let Some(message) = stream.message().await? {
            let count = message.events.len() as i64;
            let kept = self.record(message.events).await?;
            total.accepted_count += kept.accepted_count;
            total.duplicate_count += kept.duplicate_count;
            total.refused_count += kept.refused.len() as i64;
            let room = MAX_REFUSED - total.refused.len();
            let refused = kept.refused.into_iter().take(room);
            total.refused.extend(refused.map(|r| v1::RefusedEvent { index: before + r.index, ..r }));
            before += count;
        }
        Ok(Response::new(total))
    }
}

impl Events {
    async fn record(&self, events: Vec<v1::Event>) -> Result<v1::RecordEventsResponse, Problem> {
        let mut check = Check::default();
        check.that(!events.is_empty(), "events", "is required");
        check.that(events.len() <= MAX_EVENTS, "events", &format!("must not have more than {MAX_EVENTS} entries"));
        check.finish()?;
        let times = Times::now(self.shared.accept);
        let model = self.shared.live.snapshot();
        let is_known = |member: &str| model.state.find(&model, member).is_some();
        let (mut places, mut taken, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for (index, event) in (0i64..).zip(events) {
            match stored(event, &times, &is_known) {
                Ok(event) => {
                    places.push(index);
                    taken.push(event);
                }
                Err(refusal) => refused.push(refusal.at(index)),
            }
        }
        if taken.is_empty() {
            return Ok(v1::RecordEventsResponse { refused, ..v1::RecordEventsResponse::default() });
        }
        let kept = self.shared.live.keep(Write::Events(taken)).await?;
        let of_erased = kept.of_erased.iter().filter_map(|at| places.get(*at));
        let erased = Refusal::new(Code::Erased, "member_id", "this member asked to be forgotten");
        refused.extend(of_erased.map(|index| erased.clone().at(*index)));
        refused.sort_by_key(|r| r.index);
        Ok(v1::RecordEventsResponse {
            accepted_count: kept.accepted as i64,
            duplicate_count: kept.duplicates as i64,
            refused,
        })
    }
}

/// Why an event is refused.
#[derive(Clone, Debug)]
struct Refusal {
    code: Code,
    field: &'static str,
    rule: String,
}

impl Refusal {
    fn new(code: Code, field: &'static str, rule: impl Into<String>) -> Self {
        Self { code, field, rule: rule.into() }
    }

    fn at(self, index: i64) -> v1::RefusedEvent {
        let Self { code, field, rule } = self;
        v1::RefusedEvent { index, reason: format!("{field}: {rule}"), code: code.into(), field: field.to_owned() }
    }
}

/// When an event may have happened, in unix seconds.
struct Times {
    earliest: i64,
    latest: i64,
}

impl Times {
    fn now(accept: Duration) -> Self {
        let now = unix_now();
        Self { earliest: now - accept.as_secs() as i64, latest: now + CLOCKS_AHEAD }
    }

    /// The moment of an event, in unix seconds.
    fn check(&self, time: Option<Timestamp>) -> Result<i64, Refusal> {
        let refusal = |code, rule: &str| Refusal::new(code, "time", rule);
        let time = time.ok_or_else(|| refusal(Code::Invalid, "is required"))?;
        if !(0..NANOS).contains(&time.nanos) {
            return Err(refusal(Code::Invalid, &format!("must have 0 to {} nanos", NANOS - 1)));
        }
        if time.seconds < self.earliest {
            return Err(refusal(Code::TooOld, "is longer ago than events are taken in (state.accept_days)"));
        }
        if time.seconds > self.latest {
            return Err(refusal(Code::TooNew, "is yet to come"));
        }
        Ok(time.seconds)
    }
}

/// An event as it is kept, or what is wrong with it.
fn stored(event: v1::Event, times: &Times, is_known: &dyn Fn(&str) -> bool) -> Result<StoredEvent, Refusal> {
    let invalid = |field, rule: &str| Refusal::new(Code::Invalid, field, rule);
    let kind = kind(event.kind).ok_or_else(|| invalid("kind", "must be a known kind"))?;
    let required = [("event_id", &event.event_id), ("member_id", &event.member_id)];
    let product = (kind != Kind::Contact).then_some(("product_id", &event.product_id));
    if let Some((field, _)) = required.into_iter().chain(product).find(|(_, id)| id.trim().is_empty()) {
        return Err(invalid(field, "is required"));
    }
    if !is_written_well(&event.member_id) && !is_known(&event.member_id) {
        return Err(invalid("member_id", UNTRIMMED));
    }
    let texts = [
        ("event_id", &event.event_id),
        ("member_id", &event.member_id),
        ("product_id", &event.product_id),
        ("store_id", &event.store_id),
        ("channel", &event.channel),
        ("basket_id", &event.basket_id),
    ];
    if let Some((field, _)) = texts.into_iter().find(|(_, text)| text.len() > MAX_ID_BYTES || text.contains('\0')) {
        let rule = format!("must not be longer than {MAX_ID_BYTES} bytes, nor have a zero byte");
        return Err(invalid(field, &rule));
    }
    let time = times.check(event.time)?;
    if event.quantity.is_some_and(|quantity| !(quantity > 0.0 && quantity <= MOST)) {
        return Err(invalid("quantity", &format!("must be above 0, up to {MOST}")));
    }
    if event.amount.is_some_and(|amount| !(0.0..=MOST).contains(&amount)) {
        return Err(invalid("amount", &format!("must be from 0 to {MOST}")));
    }
    let given = |text: String| (!text.is_empty()).then_some(text);
    Ok(StoredEvent {
        event_id: event.event_id,
        member_id: event.member_id,
        product_id: event.product_id,
        kind,
        time,
        quantity: event.quantity,
        amount: event.amount,
        store_id: given(event.store_id),
        channel: given(event.channel),
        basket_id: given(event.basket_id),
    })
}

fn kind(kind: i32) -> Option<Kind> {
    use v1::EventKind as Given;
    Some(match Given::try_from(kind).ok()? {
        Given::Unspecified | Given::Purchase => Kind::Purchase,
        Given::Refund => Kind::Refund,
        Given::View => Kind::View,
        Given::Cart => Kind::Cart,
        Given::Favorite => Kind::Favorite,
        Given::Share => Kind::Share,
        Given::Contact => Kind::Contact,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> v1::Event {
        v1::Event {
            event_id: "e".to_owned(),
            member_id: "m".to_owned(),
            product_id: "p".to_owned(),
            time: Some(Timestamp { seconds: 100, nanos: 0 }),
            ..v1::Event::default()
        }
    }

    #[test]
    fn each_thing_that_is_wrong_is_named() {
        let times = Times { earliest: 100, latest: 200 };
        let wrong = |change: fn(&mut v1::Event)| {
            let mut event = event();
            change(&mut event);
            stored(event, &times, &|_| false).unwrap_err().at(0).reason
        };
        assert_eq!(stored(event(), &times, &|_| false).unwrap().kind, Kind::Purchase);
        assert!(wrong(|e| e.member_id = " ".to_owned()).starts_with("member_id: is required"));
        assert!(wrong(|e| e.product_id = "\n".to_owned()).starts_with("product_id: is required"));
        assert!(wrong(|e| e.member_id = "m ".to_owned()).contains("a space"));
        let spaced = v1::Event { member_id: "m ".to_owned(), ..event() };
        assert!(stored(spaced, &times, &|id| id == "m ").is_ok(), "a table may have such ids");
        assert!(wrong(|e| e.time = Some(Timestamp { seconds: 100, nanos: -1 })).contains("nanos"));
        assert!(wrong(|e| e.amount = Some(1e13)).starts_with("amount"));
        assert!(wrong(|e| e.event_id.clear()).starts_with("event_id"));
        assert!(wrong(|e| e.member_id.clear()).starts_with("member_id"));
        assert!(wrong(|e| e.product_id.clear()).starts_with("product_id"));
        assert!(wrong(|e| e.store_id = "x".repeat(257)).starts_with("store_id"));
        assert!(wrong(|e| e.channel = "\0".to_owned()).starts_with("channel"));
        assert!(wrong(|e| e.time = None).starts_with("time"));
        assert!(wrong(|e| e.time = Some(Timestamp { seconds: 99, nanos: 0 })).contains("accept_days"));
        assert!(wrong(|e| e.time = Some(Timestamp { seconds: 201, nanos: 0 })).contains("yet to come"));
        assert!(wrong(|e| e.kind = 99).starts_with("kind"));
        assert!(wrong(|e| e.quantity = Some(0.0)).starts_with("quantity"));
        assert!(wrong(|e| e.amount = Some(f64::NAN)).starts_with("amount"));
        let mut contact = event();
        contact.product_id.clear();
        contact.kind = v1::EventKind::Contact.into();
        assert!(stored(contact, &times, &|_| false).is_ok(), "a message need not be about a product");
    }
}
