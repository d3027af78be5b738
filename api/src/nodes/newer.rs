//! What a newer node says, read strictly: a field, a value or a call that only the newer version knows would be dropped in silence, and
//! the call done without it. So it is refused, and done by a node that knows it, or when this one has been upgraded.
//!
//! Only where the asker is newer: of callers this node's own listener reads what it knows, as gRPC has it. Costs a second reading of each
//! message, while an upgrade is under way.

use std::sync::OnceLock;

use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, ReflectMessage as _, Value};
use tonic::Status;

fn pool() -> Option<&'static DescriptorPool> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    let read = || {
        let mut pool = DescriptorPool::decode(sluice_proto::FILE_DESCRIPTOR_SET).ok()?;
        pool.decode_file_descriptor_set(sluice_proto::INTERNAL_DESCRIPTOR_SET).ok()?;
        Some(pool)
    };
    POOL.get_or_init(read).as_ref()
}

/// What the messages of the call with this path hold; `None`: this version has no such call.
pub(super) fn request_of(path: &str) -> Option<MessageDescriptor> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let service = pool()?.get_service_by_name(service)?;
    service.methods().find(|known| known.name() == method).map(|method| method.input())
}

/// Lets a message pass that holds nothing unknown.
///
/// # Errors
/// `FAILED_PRECONDITION`, naming the first thing that this version does not know. What cannot be read at all passes: whoever reads it says so.
pub(super) fn expect_known(request: &MessageDescriptor, message: &[u8]) -> Result<(), Status> {
    match DynamicMessage::decode(request.clone(), message) {
        Ok(message) => unknown(&message).map_or(Ok(()), |what| Err(refused(&what))),
        Err(_) => Ok(()),
    }
}

/// The answer to what this version does not know.
pub(super) fn refused(what: &str) -> Status {
    Status::failed_precondition(format!(
        "the node that owns it runs an older version than the one that was asked, and does not know {what}: nothing of this call was done; send it without, or again when all nodes are upgraded"
    ))
}

fn unknown(message: &DynamicMessage) -> Option<String> {
    if let Some(field) = message.unknown_fields().next() {
        return Some(format!("field {} of {}", field.number(), message.descriptor().full_name()));
    }
    message.fields().find_map(|(field, value)| unknown_in(&field.kind(), value))
}

fn unknown_in(kind: &Kind, value: &Value) -> Option<String> {
    match (kind, value) {
        (_, Value::Message(message)) => unknown(message),
        (Kind::Enum(known), Value::EnumNumber(number)) if known.get_value(*number).is_none() => {
            Some(format!("value {number} of {}", known.full_name()))
        }
        (_, Value::List(values)) => values.iter().find_map(|value| unknown_in(kind, value)),
        // Values of maps are of the entry's second field.
        (Kind::Message(entry), Value::Map(values)) => {
            let kind = entry.map_entry_value_field().kind();
            values.values().find_map(|value| unknown_in(&kind, value))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use sluice_proto::{internal, v1};

    use super::*;

    fn told(path: &str, message: &[u8]) -> Option<String> {
        let request = request_of(path).unwrap();
        expect_known(&request, message).err().map(|status| {
            assert_eq!(status.code(), tonic::Code::FailedPrecondition);
            status.message().to_owned()
        })
    }

    /// `inner` as field `number` of another message.
    fn within(number: u8, inner: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(inner.len()).unwrap()], inner].concat()
    }

    #[test]
    fn what_only_a_newer_version_knows_is_named_however_deep_it_stands() {
        const CREATE: &str = "/sluice.v1.CampaignService/CreateCampaign";
        const APPLY: &str = "/sluice.internal.v1.NodeService/ApplyEvents";
        // Field 500, a number: 7.
        let new = [0xa0, 0x1f, 0x07];
        let settings = v1::CampaignSettings { pool_id: "p".to_owned(), ..Default::default() };
        let known = v1::CreateCampaignRequest { settings: Some(settings.clone()), ..Default::default() };
        assert_eq!(told(CREATE, &known.encode_to_vec()), None);
        let above = told(CREATE, &[&known.encode_to_vec()[..], &new].concat()).unwrap();
        assert!(above.contains("field 500 of sluice.v1.CreateCampaignRequest"), "{above}");
        let number = request_of(CREATE).unwrap().get_field_by_name("settings").unwrap().number();
        let deep = [settings.encode_to_vec(), new.to_vec()].concat();
        let deep = told(CREATE, &within(u8::try_from(number).unwrap(), &deep)).unwrap();
        assert!(deep.contains("field 500 of sluice.v1.CampaignSettings"), "{deep}");
        let event = internal::v1::StatusEvent { stage: 77, ..Default::default() };
        let batch = internal::v1::EventBatch { events: vec![event], ..Default::default() };
        let events = internal::v1::ApplyEventsRequest { batches: vec![batch] };
        let value = told(APPLY, &events.encode_to_vec()).unwrap();
        assert!(value.contains("value 77 of sluice.internal.v1.ReportedStage"), "{value}");
        assert_eq!(told(CREATE, &[0xff]), None, "whoever reads it refuses it");
        assert!(request_of("/sluice.v1.CampaignService/Nope").is_none() && request_of("").is_none());
    }
}
