//! Messages of the contract as JSON.
//!
//! The mapping is protobuf's own, read from the descriptor set that the contract was built into (`prost-reflect`). Hand-written
//! views would be a second contract: some forty structs to keep in step with the protos, each a place to forget a new field. The
//! price is one encoding and decoding more for each message printed, which only a bulk export notices.
//!
//! Two of the mapping's liberties are used, both of which every protobuf JSON parser takes back: 64-bit integers are numbers, not
//! strings (all of ours are counts, far below 2^53), and fields with default values are written, so that a program finds every field.

use std::io::Write;
use std::sync::OnceLock;

use anyhow::Context as _;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, SerializeOptions};
use sluice_proto::v1;

/// A message of the contract that has a name in its descriptors.
pub trait Named: prost::Message + Default {
    /// The full name.
    const NAME: &'static str;
}

macro_rules! named {
    ($($message:ident),* $(,)?) => {
        $(impl Named for v1::$message {
            const NAME: &'static str = concat!("sluice.v1.", stringify!($message));
        })*

        #[cfg(test)]
        const NAMES: &[&str] = &[$(concat!("sluice.v1.", stringify!($message))),*];
    };
}

named!(
    Account,
    BackupResponse,
    BatchCancelCampaignsResponse,
    BatchPauseCampaignsResponse,
    BatchResumeCampaignsResponse,
    BatchStartCampaignsResponse,
    Campaign,
    CampaignOutcome,
    CancelCampaignResponse,
    CloneCampaignResponse,
    CreateCampaignResponse,
    CreateLineResponse,
    DeleteCampaignResponse,
    GetCampaignResponse,
    GetLineResponse,
    GetMessageResponse,
    GetNodesResponse,
    GetPoolResponse,
    GetServerInfoResponse,
    GetTemplateResponse,
    GetTenantTotalsResponse,
    HoldLineResponse,
    Import,
    Line,
    ListAccountsResponse,
    ListCampaignsResponse,
    ListImportsResponse,
    ListInDoubtResponse,
    ListLinesResponse,
    ListMessagesResponse,
    ListOrphansResponse,
    ListPoolsResponse,
    ListRefusedRowsResponse,
    ListTemplatesResponse,
    Message,
    MoveLineResponse,
    Orphan,
    PauseCampaignResponse,
    Pool,
    PutTemplateResponse,
    RecountCampaignResponse,
    RecountTenantResponse,
    RefusedRow,
    ReleaseLineResponse,
    RenderTemplateResponse,
    ResolveMessagesResponse,
    ResumeCampaignResponse,
    SealCampaignResponse,
    StartCampaignResponse,
    Template,
    UpdateCampaignResponse,
    UpdateLineResponse,
    UpdatePoolResponse,
    WatchCampaignResponse,
);

fn pool() -> anyhow::Result<&'static DescriptorPool> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(sluice_proto::FILE_DESCRIPTOR_SET).ok())
        .as_ref()
        .context("the descriptors of the contract are damaged")
}

fn dynamic<M: Named>(message: &M) -> anyhow::Result<DynamicMessage> {
    let descriptor = pool()?.get_message_by_name(M::NAME).with_context(|| format!("{} has no descriptor", M::NAME))?;
    Ok(DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?)
}

fn options() -> SerializeOptions {
    SerializeOptions::new().stringify_64_bit_integers(false).skip_default_fields(false)
}

/// Writes a message, indented, with a line end.
///
/// # Errors
/// The writer's.
pub fn write_pretty<M: Named>(out: &mut dyn Write, message: &M) -> anyhow::Result<()> {
    let mut json = serde_json::Serializer::pretty(&mut *out);
    dynamic(message)?.serialize_with_options(&mut json, &options())?;
    Ok(writeln!(out)?)
}

/// Writes a message as one line.
///
/// # Errors
/// The writer's.
pub fn write_line<M: Named>(out: &mut dyn Write, message: &M) -> anyhow::Result<()> {
    let mut json = serde_json::Serializer::new(&mut *out);
    dynamic(message)?.serialize_with_options(&mut json, &options())?;
    Ok(writeln!(out)?)
}

/// Reads a message; a field that the contract does not know is refused.
///
/// # Errors
/// What is wrong, with line and column.
pub fn read<M: Named>(text: &str) -> anyhow::Result<M> {
    let descriptor = pool()?.get_message_by_name(M::NAME).with_context(|| format!("{} has no descriptor", M::NAME))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let strict = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(descriptor, &mut json, &strict)?;
    json.end()?;
    Ok(message.transcode_to()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text<M: Named>(message: &M) -> String {
        let mut out = Vec::new();
        write_line(&mut out, message).expect("writes");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn every_name_has_a_descriptor() {
        for name in NAMES {
            assert!(pool().expect("pool").get_message_by_name(name).is_some(), "{name}");
        }
    }

    #[test]
    fn names_numbers_times_and_defaults() {
        let import = v1::Import {
            campaign_id: "spring".into(),
            acked_rows: 12,
            create_time: Some(prost_types::Timestamp { seconds: 1_900_000_000, nanos: 500_000_000 }),
            ..v1::Import::default()
        };
        assert_eq!(
            text(&import),
            concat!(
                r#"{"campaignId":"spring","importId":"","ackedRows":12,"storedRows":0,"refusedRows":0,"#,
                r#""createTime":"2030-03-17T17:46:40.500Z"}"#,
                "\n"
            )
        );
        let line = v1::Line { provider: v1::Provider::TwilioSms as i32, ..v1::Line::default() };
        assert!(text(&line).contains(r#""provider":"PROVIDER_TWILIO_SMS""#));
    }

    #[test]
    fn what_was_written_is_read_back_and_strange_fields_are_refused() {
        let template = v1::Template {
            template_id: "t".into(),
            kind: v1::TemplateKind::Text as i32,
            body: "Hello {{1}}".into(),
            content_keys: vec!["1".into()],
            ..v1::Template::default()
        };
        assert_eq!(read::<v1::Template>(&text(&template)).expect("reads"), template);
        assert_eq!(read::<v1::Template>(r#"{"body":"x","contentKeys":[]}"#).expect("reads").body, "x");
        let error = read::<v1::Template>("{\n \"bodi\": \"x\"}").expect_err("refused");
        assert!(error.to_string().contains("bodi"), "{error}");
        assert!(read::<v1::Template>("{} {}").is_err());
    }
}
