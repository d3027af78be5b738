//! Meta's error codes. The code decides; Meta asks not to build on the HTTP status.
//!
//! A code may come in the answer or in a status webhook; where the meaning differs the row says both. "Refused" codes prove
//! nothing when a 5xx carries them (see [`Proof`](crate::provider::Proof)).

use crate::provider::class::{
    ACCOUNT, ACCOUNT_LINE, BUG, CAMPAIGN, Class, CodeRow, LATER, NOT_APPLICABLE, PAIR, RECIPIENT, RETRY, RETRY_ONCE,
    SLOW_ACCOUNT, SLOW_LINE, SUPPRESS_PAIR, Scope, pause,
};

/// The platform's page of error codes, read September 2026.
const DOC: &str = "Meta, WhatsApp Business Platform, Error codes";
/// General Graph API codes.
const GRAPH: &str = "Meta, Graph API, Handling errors and rate limits";
/// Known from SDKs and resellers only.
const HEARD: &str = "second-hand: SDKs and resellers of the Cloud API";

const HOUR: u32 = 3600;

const fn row(code: u32, title: &'static str, action: super::super::class::Action) -> CodeRow {
    CodeRow::new(code, title, action, DOC)
}

const fn from(mut row: CodeRow, source: &'static str) -> CodeRow {
    row.source = source;
    row
}

/// Every code we have a decision for.
pub const CODES: &[CodeRow] = &[
    // Authorization and generic Graph errors.
    row(0, "the app user could not be authenticated", ACCOUNT),
    row(1, "malformed request or a Graph problem", RETRY.at_most(2, Class::Bug)),
    row(2, "temporary outage or overload", RETRY),
    row(3, "capability or permission of the app is missing", ACCOUNT),
    row(4, "call-rate limit of the app", SLOW_ACCOUNT),
    row(10, "permission not granted or removed", ACCOUNT),
    row(33, "the sending phone-number id does not exist", ACCOUNT_LINE),
    row(100, "invalid parameter", BUG),
    row(190, "access token expired or revoked", ACCOUNT),
    row(200, "API permission missing", ACCOUNT).to(299),
    row(368, "temporarily blocked for policy violations", ACCOUNT),
    from(row(613, "calls-per-second limit", SLOW_ACCOUNT), GRAPH),
    row(80007, "rate limit of the WhatsApp business account", SLOW_ACCOUNT),
    row(80008, "too many management calls", SLOW_ACCOUNT),
    // An `error_subcode` of old versions that some proxies copy into `code`.
    from(row(2494055, "sub-code, not a code of its own", NOT_APPLICABLE), HEARD),
    // Rate, quality and delivery decisions.
    row(130429, "throughput of the sending number exceeded", SLOW_LINE),
    row(131056, "too many messages to this recipient", PAIR),
    row(131048, "sending restricted for spam reports", pause(Scope::Line, HOUR)),
    row(131049, "withheld to keep the ecosystem healthy", LATER),
    row(131050, "the user stopped marketing messages", SUPPRESS_PAIR),
    row(131064, "limit for template-classification violations", pause(Scope::Account, HOUR)),
    row(130472, "the user is part of an experiment", LATER),
    row(130497, "this business may not message that country", RECIPIENT),
    row(130403, "the business blocked this user", SUPPRESS_PAIR),
    row(131026, "message undeliverable", RECIPIENT),
    // In a webhook it is what portfolio pacing dropped: the rest of the campaign would follow.
    row(135000, "generic user error, or dropped by portfolio pacing", BUG).event(CAMPAIGN),
    row(131021, "the recipient is the sender", RECIPIENT),
    row(131030, "recipient not in the list of a test number", ACCOUNT_LINE),
    row(131047, "more than 24 hours since the user's last message", RECIPIENT),
    row(131055, "method not allowed (Marketing Messages API)", CAMPAIGN),
    row(131062, "message kind cannot go to a business-scoped user id", RECIPIENT),
    row(131063, "marketing templates are disabled on the Cloud API", CAMPAIGN),
    row(137000, "identity key of the recipient changed", RECIPIENT),
    // Platform state and account.
    row(131000, "something went wrong", RETRY).event(RETRY_ONCE),
    row(131005, "access denied", ACCOUNT),
    row(131016, "service unavailable", RETRY),
    row(131031, "account locked", ACCOUNT),
    row(131037, "display name needs approval", ACCOUNT_LINE),
    row(131042, "business eligibility or payment issue", ACCOUNT),
    row(131044, "payment issue (calling)", NOT_APPLICABLE),
    row(131045, "incorrect certificate", ACCOUNT_LINE),
    row(131057, "account in maintenance mode", pause(Scope::Line, 60)),
    from(row(2494100, "temporarily in maintenance", pause(Scope::Line, 60)), HEARD),
    row(133000, "incomplete deregistration", ACCOUNT_LINE),
    row(133004, "server temporarily unavailable", RETRY),
    row(133005, "two-step PIN mismatch", ACCOUNT_LINE),
    row(133006, "phone number must be verified again", ACCOUNT_LINE),
    row(133008, "too many PIN guesses", ACCOUNT_LINE),
    row(133009, "PIN guessed too fast", ACCOUNT_LINE),
    row(133010, "phone number not registered", ACCOUNT_LINE),
    row(133015, "number was deleted recently, wait a few minutes", pause(Scope::Line, 300)),
    row(133016, "registered and deregistered too often", ACCOUNT_LINE),
    row(134011, "payments terms not accepted", ACCOUNT),
    // Request content, media, templates.
    row(131008, "required parameter missing", BUG),
    row(131009, "parameter value not valid", BUG),
    row(131051, "unsupported message type", BUG),
    row(131052, "media of an inbound message could not be fetched", NOT_APPLICABLE),
    // One dead link of a recipient, or the campaign's shared media: the run of twenty tells them apart.
    row(131053, "our media could not be fetched or accepted", BUG),
    row(132000, "parameter count does not fit the template", BUG),
    row(132001, "template does not exist in this language", CAMPAIGN),
    row(132005, "text too long after substitution", BUG),
    row(132007, "template content breaks the character policy", CAMPAIGN),
    from(row(132008, "parameter value invalid", BUG), HEARD),
    row(132012, "parameter format does not fit the template", CAMPAIGN),
    row(132015, "template paused", CAMPAIGN),
    row(132016, "template disabled", CAMPAIGN),
    row(132018, "parameters fail the template's checks", BUG),
    row(132068, "flow blocked", CAMPAIGN),
    row(132069, "flow throttled", CAMPAIGN),
    row(134100, "Marketing Messages API takes marketing templates only", CAMPAIGN),
    row(134101, "template still syncing to the Marketing Messages API", pause(Scope::Campaign, 600)),
    row(134102, "template unavailable to the Marketing Messages API", CAMPAIGN),
    row(2388019, "template limit reached", NOT_APPLICABLE),
    // Families of other features: logged, never expected on a send.
    from(row(131059, "groups", NOT_APPLICABLE), HEARD),
    from(row(131200, "groups", NOT_APPLICABLE).to(131299), HEARD),
    from(row(138000, "calling", NOT_APPLICABLE).to(138999), HEARD),
    from(row(139000, "other features", NOT_APPLICABLE).to(139999), HEARD),
    from(row(147000, "other features", NOT_APPLICABLE).to(147999), HEARD),
];
