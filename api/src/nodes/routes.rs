//! Who answers which call. A call that is not in the table is answered where it arrives; a test holds the table against the
//! contract, so that a new one cannot be forgotten.
//!
//! A call may reach two owners, one after the other: the answer of the first was lost, or it lost the pool meanwhile. Why that does no
//! harm stands beside each ([`Again`]).

use bytes::Bytes;
use prost::{DecodeError, Message as _};
use sluice_engine::domain::ids::{CampaignId, LineId, PoolId};
use sluice_proto::v1;

/// What a call is about, as its first message names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// A campaign; its pool's owner answers.
    Campaign(CampaignId),
    /// A line; its pool's owner answers.
    Line(LineId),
    /// A pool, perhaps one that the call makes.
    Pool(PoolId),
}

/// Why a call may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// It only reads.
    Reads,
    /// It says how something shall be, not how it shall change: done twice, it is done.
    Settles,
    /// As [`Again::Settles`], with a version: a repetition that comes second answers `ABORTED`, and never does it twice. So would
    /// the caller's own repetition.
    Versioned,
    /// Its `request_id` answers with what the first made. One without gets one before it is first sent (see [`with_request_id`]).
    RequestId,
    /// Chunks stand at offsets and have digests: what is stored is acknowledged and not stored again.
    Offsets,
    /// A decision about what is in doubt: only while nothing was done. The second might find in doubt what the first sent again, and send it
    /// once more, which nobody asked for. Where the answer is lost the caller hears that nobody knows.
    Decides,
}

/// Where a call is answered.
#[derive(Clone, Copy)]
pub(super) enum Route {
    /// By the owner of what the first message names.
    Owner(fn(Bytes) -> Result<Option<Subject>, DecodeError>, Again),
    /// Where it arrives: the ledger or the configuration alone answers it.
    Here,
    /// Where it arrives, by asking the owners of what it is about one by one.
    Split,
}

/// What an id names; `None`: no id at all, so nothing that exists. Whoever answers says so.
macro_rules! names {
    ($request:ident.$field:ident: Campaign) => {
        |first| Ok(CampaignId::new(&v1::$request::decode(first)?.$field).ok().map(Subject::Campaign))
    };
    ($request:ident.$field:ident: Line) => {
        |first| Ok(LineId::new(&v1::$request::decode(first)?.$field).ok().map(Subject::Line))
    };
    ($request:ident.$field:ident: Pool) => {
        |first| Ok(PoolId::new(&v1::$request::decode(first)?.$field).ok().map(Subject::Pool))
    };
}

/// The campaign's pool.
fn created_campaign(first: Bytes) -> Result<Option<Subject>, DecodeError> {
    let settings = v1::CreateCampaignRequest::decode(first)?.settings;
    Ok(settings.and_then(|settings| PoolId::new(&settings.pool_id).ok()).map(Subject::Pool))
}

/// The line's pool; one of the line's own name where none is given.
fn created_line(first: Bytes) -> Result<Option<Subject>, DecodeError> {
    let request = v1::CreateLineRequest::decode(first)?;
    let pool = if request.pool_id.is_empty() { request.line_id } else { request.pool_id };
    Ok(PoolId::new(&pool).ok().map(Subject::Pool))
}

fn imported(first: Bytes) -> Result<Option<Subject>, DecodeError> {
    let id = match v1::ImportRecipientsRequest::decode(first)?.part {
        Some(v1::import_recipients_request::Part::Header(header)) => CampaignId::new(&header.campaign_id).ok(),
        _ => None,
    };
    Ok(id.map(Subject::Campaign))
}

use Again::{Decides, Offsets, Reads, RequestId, Settles, Versioned};
use Route::{Here, Owner, Split};

/// Every call of the contract, sorted.
#[rustfmt::skip] // a line says where a call goes and why it may go there twice
const ROUTES: &[(&str, Route)] = &[
    ("/sluice.v1.AdminService/Backup", Here),
    ("/sluice.v1.AdminService/GetNodes", Here),
    ("/sluice.v1.AdminService/GetServerInfo", Here),
    ("/sluice.v1.CampaignService/BatchCancelCampaigns", Split),
    ("/sluice.v1.CampaignService/BatchPauseCampaigns", Split),
    ("/sluice.v1.CampaignService/BatchResumeCampaigns", Split),
    ("/sluice.v1.CampaignService/BatchStartCampaigns", Split),
    ("/sluice.v1.CampaignService/CancelCampaign", Owner(names!(CancelCampaignRequest.campaign_id: Campaign), Settles)),
    ("/sluice.v1.CampaignService/CloneCampaign", Owner(names!(CloneCampaignRequest.source_campaign_id: Campaign), RequestId)),
    ("/sluice.v1.CampaignService/CreateCampaign", Owner(created_campaign, RequestId)),
    ("/sluice.v1.CampaignService/DeleteCampaign", Owner(names!(DeleteCampaignRequest.campaign_id: Campaign), Versioned)),
    ("/sluice.v1.CampaignService/GetCampaign", Owner(names!(GetCampaignRequest.campaign_id: Campaign), Reads)),
    ("/sluice.v1.CampaignService/GetTenantTotals", Here),
    ("/sluice.v1.CampaignService/ListCampaigns", Here),
    ("/sluice.v1.CampaignService/PauseCampaign", Owner(names!(PauseCampaignRequest.campaign_id: Campaign), Settles)),
    ("/sluice.v1.CampaignService/RecountCampaign", Owner(names!(RecountCampaignRequest.campaign_id: Campaign), Reads)),
    ("/sluice.v1.CampaignService/RecountTenant", Split),
    ("/sluice.v1.CampaignService/ResumeCampaign", Owner(names!(ResumeCampaignRequest.campaign_id: Campaign), Settles)),
    ("/sluice.v1.CampaignService/SealCampaign", Owner(names!(SealCampaignRequest.campaign_id: Campaign), Settles)),
    ("/sluice.v1.CampaignService/StartCampaign", Owner(names!(StartCampaignRequest.campaign_id: Campaign), Settles)),
    ("/sluice.v1.CampaignService/UpdateCampaign", Owner(names!(UpdateCampaignRequest.campaign_id: Campaign), Versioned)),
    ("/sluice.v1.CampaignService/WatchCampaign", Owner(names!(WatchCampaignRequest.campaign_id: Campaign), Reads)),
    ("/sluice.v1.ImportService/GetImport", Owner(names!(GetImportRequest.campaign_id: Campaign), Reads)),
    ("/sluice.v1.ImportService/ImportRecipients", Owner(imported, Offsets)),
    ("/sluice.v1.ImportService/ListImports", Owner(names!(ListImportsRequest.campaign_id: Campaign), Reads)),
    ("/sluice.v1.ImportService/ListRefusedRows", Owner(names!(ListRefusedRowsRequest.campaign_id: Campaign), Reads)),
    ("/sluice.v1.LineService/CreateLine", Owner(created_line, RequestId)),
    ("/sluice.v1.LineService/GetLine", Owner(names!(GetLineRequest.line_id: Line), Reads)),
    ("/sluice.v1.LineService/GetPool", Here),
    ("/sluice.v1.LineService/HoldLine", Owner(names!(HoldLineRequest.line_id: Line), Settles)),
    ("/sluice.v1.LineService/ListAccounts", Here),
    ("/sluice.v1.LineService/ListLines", Owner(names!(ListLinesRequest.pool_id: Pool), Reads)),
    ("/sluice.v1.LineService/ListPools", Here),
    ("/sluice.v1.LineService/MoveLine", Owner(names!(MoveLineRequest.line_id: Line), Settles)),
    ("/sluice.v1.LineService/ReleaseLine", Owner(names!(ReleaseLineRequest.line_id: Line), Settles)),
    ("/sluice.v1.LineService/UpdateLine", Owner(names!(UpdateLineRequest.line_id: Line), Versioned)),
    ("/sluice.v1.LineService/UpdatePool", Here),
    ("/sluice.v1.MessageService/ExportMessages", Owner(names!(ExportMessagesRequest.campaign_id: Campaign), Reads)),
    ("/sluice.v1.MessageService/GetMessage", Owner(names!(GetMessageRequest.campaign_id: Campaign), Reads)),
    ("/sluice.v1.MessageService/ListInDoubt", Owner(names!(ListInDoubtRequest.campaign_id: Campaign), Reads)),
    ("/sluice.v1.MessageService/ListMessages", Owner(names!(ListMessagesRequest.campaign_id: Campaign), Reads)),
    ("/sluice.v1.MessageService/ListOrphans", Here),
    ("/sluice.v1.MessageService/ResolveMessages", Owner(names!(ResolveMessagesRequest.campaign_id: Campaign), Decides)),
    ("/sluice.v1.TemplateService/GetTemplate", Here),
    ("/sluice.v1.TemplateService/ListTemplates", Here),
    ("/sluice.v1.TemplateService/PutTemplate", Here),
    ("/sluice.v1.TemplateService/RenderTemplate", Here),
];

/// The route of the call with this path, and the path as it stands in the table.
pub(super) fn route(path: &str) -> (&'static str, Route) {
    // The table is sorted (asserted below).
    ROUTES.binary_search_by(|(call, _)| (*call).cmp(path)).map_or(("", Here), |at| ROUTES[at])
}

/// The message with a `request_id` of its own, if it brings none: of two fields with one number the later one holds, so one is put
/// before it. In every request that has it, `request_id` is field 1.
pub(super) fn with_request_id(message: &[u8]) -> Bytes {
    const FIELD_1_TEXT: u8 = 1 << 3 | 2;
    let id = format!("node-{:032x}", rand::random::<u128>());
    let mut bytes = Vec::with_capacity(2 + id.len() + message.len());
    bytes.push(FIELD_1_TEXT);
    bytes.push(u8::try_from(id.len()).unwrap_or_default());
    bytes.extend_from_slice(id.as_bytes());
    bytes.extend_from_slice(message);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};

    fn methods() -> Vec<(String, MethodDescriptor)> {
        let pool = DescriptorPool::decode(sluice_proto::FILE_DESCRIPTOR_SET).unwrap();
        let all: Vec<_> = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
        all.into_iter().map(|m| (format!("/{}/{}", m.parent_service().full_name(), m.name()), m)).collect()
    }

    #[test]
    fn the_table_holds_exactly_the_calls_of_the_contract() {
        assert!(ROUTES.is_sorted_by_key(|(call, _)| *call));
        let mut contract: Vec<String> = methods().into_iter().map(|(path, _)| path).collect();
        contract.sort_unstable();
        assert_eq!(ROUTES.iter().map(|(call, _)| *call).collect::<Vec<_>>(), contract);
    }

    /// Whatever names a campaign, a line or a pool goes to its owner, under the name that the contract gives the field; what is
    /// answered here names none of them, or is listed with the reason.
    #[test]
    fn whatever_names_something_owned_goes_to_its_owner() {
        /// Named, and answered by the ledger alone all the same: records that no actor holds.
        const RECORDS: [&str; 2] = ["/sluice.v1.LineService/GetPool", "/sluice.v1.LineService/UpdatePool"];
        for (path, method) in methods() {
            let mut expected = None;
            let campaign = Subject::Campaign(CampaignId::new("it").unwrap());
            let line = Subject::Line(LineId::new("it").unwrap());
            let pool = Subject::Pool(PoolId::new("it").unwrap());
            let names =
                [("campaign_id", &campaign), ("source_campaign_id", &campaign), ("line_id", &line), ("pool_id", &pool)];
            for (field, subject) in names {
                let creates = method.name().starts_with("Create") || method.name() == "CloneCampaign";
                let wanted =
                    if creates { ["pool_id", "source_campaign_id"].contains(&field) } else { expected.is_none() };
                if wanted && method.input().get_field_by_name(field).is_some() {
                    let mut message = DynamicMessage::new(method.input());
                    message.set_field_by_name(field, Value::String("it".to_owned()));
                    expected = Some((message.encode_to_vec(), subject.clone()));
                }
            }
            match (route(&path).1, expected) {
                (Owner(named, _), Some((message, subject))) => {
                    assert_eq!(named(message.into()).unwrap(), Some(subject), "{path}");
                    assert_eq!(named(Bytes::new()).unwrap(), None, "{path}: names nothing");
                    assert!(named(Bytes::from_static(&[0xff])).is_err(), "{path}: no message at all");
                }
                // Its first message is a header, its settings are nested: below.
                (Owner(..), None) => {
                    assert!(path.ends_with("ImportRecipients") || path.ends_with("CreateCampaign"), "{path}")
                }
                (Here | Split, Some(_)) => assert!(RECORDS.contains(&&*path), "{path} names something owned"),
                (Here | Split, None) => {}
            }
        }
    }

    #[test]
    fn what_is_nested_is_found() {
        let header = v1::ImportHeader { campaign_id: "c".to_owned(), import_id: "i".to_owned() };
        let part = |part| v1::ImportRecipientsRequest { part: Some(part) }.encode_to_vec();
        let first = part(v1::import_recipients_request::Part::Header(header));
        assert_eq!(imported(first.into()).unwrap(), Some(Subject::Campaign(CampaignId::new("c").unwrap())));
        let first = part(v1::import_recipients_request::Part::Chunk(v1::ImportChunk::default()));
        assert_eq!(imported(first.into()).unwrap(), None);
        let settings = v1::CampaignSettings { pool_id: "p".to_owned(), ..Default::default() };
        let create = v1::CreateCampaignRequest { settings: Some(settings), ..Default::default() };
        let pool = |id| Some(Subject::Pool(PoolId::new(id).unwrap()));
        assert_eq!(created_campaign(create.encode_to_vec().into()).unwrap(), pool("p"));
        let line = v1::CreateLineRequest { line_id: "l".to_owned(), ..Default::default() };
        assert_eq!(created_line(line.encode_to_vec().into()).unwrap(), pool("l"));
    }

    /// What has a version or a `request_id` is repeated under it, and only reads say that they read.
    #[test]
    fn why_a_call_may_come_twice_is_what_its_fields_say() {
        for (path, method) in methods() {
            let Owner(_, again) = route(&path).1 else { continue };
            let has = |field| method.input().get_field_by_name(field).is_some();
            assert_eq!(has("request_id"), again == RequestId, "{path}");
            let reads =
                ["Get", "List", "Watch", "Export", "Recount"].iter().any(|verb| method.name().starts_with(verb));
            assert_eq!(reads, again == Reads, "{path}");
            assert_eq!(method.is_client_streaming(), again == Offsets, "{path}");
            assert!(again != Versioned || has("etag"), "{path}");
        }
    }

    #[test]
    fn a_request_id_is_put_in_where_there_is_none() {
        let decoded = |request: &v1::CreateLineRequest| {
            v1::CreateLineRequest::decode(with_request_id(&request.encode_to_vec())).unwrap()
        };
        let own =
            v1::CreateLineRequest { request_id: "mine".to_owned(), line_id: "l".to_owned(), ..Default::default() };
        assert_eq!(decoded(&own), own);
        let none = v1::CreateLineRequest { request_id: String::new(), ..own };
        let (first, second) = (decoded(&none), decoded(&none));
        assert!(first.request_id.starts_with("node-") && first.request_id.len() <= 64);
        assert_ne!(first.request_id, second.request_id);
        assert_eq!(v1::CreateLineRequest { request_id: String::new(), ..first }, none);
    }
}
