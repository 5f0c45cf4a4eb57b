//! The encoding of messages: protobuf, but a request of too many parts is refused before anything is made of it.
//!
//! A part takes two bytes of a message and a hundred times as many of memory, so that a limit of bytes alone lets a small
//! message take gigabytes.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::LazyLock;

use prost::encoding::{WireType, decode_key, decode_varint};
use prost::{Message, Name};
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::Type;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use crate::proto::DESCRIPTORS;

/// Messages within a request at most: the largest that the API allows, of a thousand products, have a tenth of them.
const MAX_MESSAGES: usize = 50_000;
/// Fields within a request at most, each value of a list for itself: a thousand products in five thousand stores each.
const MAX_FIELDS: usize = 5_000_000;
/// Messages within each other at most, as prost has it.
const MAX_DEPTH: usize = 100;

/// Protobuf with bounded requests.
#[derive(Debug)]
pub(crate) struct Bounded<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Bounded<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Send + 'static, U: Name + Default + Send + 'static> Codec for Bounded<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(ProstDecoder::new(BufferSettings::default()))
    }
}

/// Counts what is in a message before it decodes it.
#[derive(Debug)]
pub(crate) struct BoundedDecoder<U>(ProstDecoder<U>);

impl<U: Name + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        use prost::bytes::Buf as _;
        let shape = SHAPES.requests.get(U::full_name().as_str());
        // A message is in one piece.
        if shape.is_some_and(|shape| !Room::default().has(buffer.chunk(), *shape, MAX_DEPTH)) {
            return Err(Status::out_of_range(format!(
                "the request has more than {MAX_MESSAGES} messages or {MAX_FIELDS} fields in it, nests them deeper than \
                 {MAX_DEPTH}, or has groups; send less at once"
            )));
        }
        self.0.decode(buffer)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// What is left of the parts that a request may have.
#[derive(Debug)]
struct Room {
    messages: usize,
    fields: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { messages: MAX_MESSAGES, fields: MAX_FIELDS }
    }
}

impl Room {
    /// Whether there is room for a message; what makes no sense ends it, as decoding will.
    fn has(&mut self, mut bytes: &[u8], shape: usize, depth: usize) -> bool {
        while let Ok((field, wire)) = decode_key(&mut bytes) {
            let Some(left) = self.fields.checked_sub(1) else { return false };
            self.fields = left;
            let length = match wire {
                WireType::Varint => decode_varint(&mut bytes).map(|_| 0),
                WireType::ThirtyTwoBit => Ok(4),
                WireType::SixtyFourBit => Ok(8),
                WireType::LengthDelimited => decode_varint(&mut bytes),
                // Groups, which nothing here has: what comes after one would not be counted.
                WireType::StartGroup | WireType::EndGroup => return false,
            };
            let length = length.ok().and_then(|length| usize::try_from(length).ok());
            let Some((value, rest)) = length.and_then(|length| bytes.split_at_checked(length)) else { return true };
            bytes = rest;
            if let (WireType::LengthDelimited, Some(nested)) = (wire, SHAPES.messages[shape].get(&field)) {
                let (Some(left), Some(depth)) = (self.messages.checked_sub(1), depth.checked_sub(1)) else {
                    return false;
                };
                self.messages = left;
                if !self.has(value, *nested, depth) {
                    return false;
                }
            }
        }
        true
    }
}

/// Which messages are made of which.
struct Shapes {
    /// Of every message of the API, the fields that are messages, and the places of these here.
    messages: Vec<HashMap<u32, usize>>,
    /// The places of those that are requests, by name.
    requests: HashMap<String, usize>,
}

static SHAPES: LazyLock<Shapes> = LazyLock::new(shapes);

fn shapes() -> Shapes {
    // It is our own: `build.rs` encoded it.
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default();
    let messages = set.file.iter().flat_map(|file| {
        let named = move |name: &str| format!(".{}.{name}", file.package());
        file.message_type.iter().map(move |message| (named(message.name()), message))
    });
    let messages: Vec<_> = messages.collect();
    let places: HashMap<&str, usize> = messages.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
    let shape = |(_, message): &(String, &prost_types::DescriptorProto)| -> HashMap<u32, usize> {
        let fields = message.field.iter().filter(|field| field.r#type() == Type::Message);
        fields.filter_map(|field| Some((field.number() as u32, *places.get(field.type_name())?))).collect()
    };
    let methods = set.file.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
    let requests = methods.filter_map(|m| Some((m.input_type()[1..].to_owned(), *places.get(m.input_type())?)));
    Shapes { messages: messages.iter().map(shape).collect(), requests: requests.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1;

    fn has_room<M: Name>(message: &M) -> bool {
        Room::default().has(&message.encode_to_vec(), SHAPES.requests[M::full_name().as_str()], MAX_DEPTH)
    }

    #[test]
    fn parts_are_counted_wherever_they_stand() {
        let of = |count| v1::RecordEventsRequest { events: vec![v1::Event::default(); count] };
        assert!(has_room(&of(MAX_MESSAGES)) && !has_room(&of(MAX_MESSAGES + 1)));
        // The outer filter is one.
        let any_of =
            |count| v1::MemberFilter { any_of: vec![v1::MemberFilter::default(); count], ..Default::default() };
        let of = |count| v1::FindAudienceRequest { filter: Some(any_of(count)), ..Default::default() };
        assert!(has_room(&of(MAX_MESSAGES - 1)) && !has_room(&of(MAX_MESSAGES)));
        let of = |count| v1::ScoreMembersRequest { member_ids: vec![String::new(); count], ..Default::default() };
        assert!(has_room(&of(MAX_FIELDS)) && !has_room(&of(MAX_FIELDS + 1)));
    }

    #[test]
    fn what_nests_too_deep_or_hides_in_a_group_has_no_room() {
        let nested = |depth: usize| {
            let filter = (0..depth).fold(v1::MemberFilter::default(), |inner, _| v1::MemberFilter {
                any_of: vec![inner],
                ..v1::MemberFilter::default()
            });
            has_room(&v1::FindAudienceRequest { filter: Some(filter), ..Default::default() })
        };
        assert!(nested(MAX_DEPTH - 1) && !nested(MAX_DEPTH));
        let shape = SHAPES.requests["kindred.v1.RecordEventsRequest"];
        assert!(!Room::default().has(&[0x1b, 0x0a, 0x00, 0x1c], shape, MAX_DEPTH));
    }

    #[test]
    fn every_request_is_known() {
        let has_parts = |request: &str| !SHAPES.messages[SHAPES.requests[request]].is_empty();
        assert!(has_parts("kindred.v1.RecordEventsRequest") && has_parts("kindred.v1.AllocateLaunchesRequest"));
        assert_eq!(SHAPES.requests.len(), crate::proto::methods().len());
    }
}
