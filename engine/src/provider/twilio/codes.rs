//! Twilio's error codes. Branch on the code first, on the HTTP status after that.
//!
//! Most delivery codes come only in a callback's `ErrorCode`; with a messaging service several that are answers of a plain
//! sender come there as well. Codes get more specific over time, so an unknown one has a default in `classify`.

use crate::provider::class::{
    ACCOUNT, ACCOUNT_LINE, AMBIGUOUS, BUG, CAMPAIGN, CAMPAIGN_COUNTRY, CodeRow, LATER, NOT_APPLICABLE, PAIR, RECIPIENT,
    RETRY, RETRY_ONCE, SLOW_ACCOUNT, SLOW_LINE, SUPPRESS_PAIR, SUPPRESS_TENANT, Scope, pause,
};

/// The dictionary and its pages, one per code.
const DOC: &str = "Twilio, Error and warning dictionary";
/// Not in the dictionary of 2023; from SDK issues and user reports.
const HEARD: &str = "second-hand: SDK issues and user reports";

const HOUR: u32 = 3600;

const fn row(code: u32, title: &'static str, action: super::super::class::Action) -> CodeRow {
    CodeRow::new(code, title, action, DOC)
}

const fn heard(code: u32, title: &'static str, action: super::super::class::Action) -> CodeRow {
    CodeRow::new(code, title, action, HEARD)
}

/// Every code we have a decision for.
pub const CODES: &[CodeRow] = &[
    // Account, authentication, API.
    row(10001, "account is not active", ACCOUNT),
    row(11200, "Twilio could not fetch our webhook", NOT_APPLICABLE),
    row(14107, "too many messages between one pair", PAIR.after(30)),
    row(20001, "unknown parameters", BUG),
    row(20003, "authentication failed or permission denied", ACCOUNT),
    row(20005, "account is not active", ACCOUNT),
    row(20006, "access denied", ACCOUNT),
    row(20008, "test credentials on an unsupported resource", ACCOUNT),
    row(20404, "resource not found (account, service or content)", ACCOUNT),
    row(20409, "conflict", RETRY_ONCE),
    row(20422, "invalid parameter", BUG),
    // Documented: a request answered so was not processed.
    row(20429, "too many concurrent requests", SLOW_ACCOUNT),
    // Documented: posts are not idempotent, a repeated one can send twice.
    row(20500, "internal server error", AMBIGUOUS),
    row(20503, "service unavailable", RETRY),
    row(21730, "maintenance", pause(Scope::Account, 300)),
    row(57012, "signature invalid", NOT_APPLICABLE),
    // Request, numbers, permissions.
    row(21211, "invalid `To`", RECIPIENT),
    row(21212, "invalid `From`", ACCOUNT_LINE),
    row(21219, "`To` not verified (trial account)", ACCOUNT),
    row(21608, "`To` not verified (trial account)", ACCOUNT),
    heard(21264, "`From` not verified", ACCOUNT_LINE),
    heard(21265, "`To` is a short code", RECIPIENT),
    heard(21266, "`To` equals `From`", RECIPIENT),
    heard(21267, "alphanumeric sender on a trial account", ACCOUNT),
    heard(21268, "`To` is a premium or information number", RECIPIENT),
    row(21401, "invalid phone number", RECIPIENT),
    row(21408, "country not enabled in the geographic permissions", CAMPAIGN_COUNTRY),
    row(21601, "number is not SMS-capable", ACCOUNT_LINE),
    row(21602, "body, media or content missing", CAMPAIGN),
    row(21603, "`From` or service missing", BUG),
    row(21604, "`To` missing", BUG),
    // The sender's fault or one destination's: the run of twenty tells them apart.
    row(21606, "`From` cannot send to this destination", BUG),
    row(21607, "trial: `From` must be the sandbox number", ACCOUNT),
    row(21609, "invalid `StatusCallback`", CAMPAIGN),
    row(21610, "the recipient opted out (STOP)", SUPPRESS_PAIR),
    // Refused at once when the sender's queue is full; older documentation answers 429.
    row(21611, "queue of this sender is full", SLOW_LINE.after(60)),
    row(21612, "`To` cannot be reached from this `From`", RECIPIENT),
    row(21614, "`To` is not a mobile number", SUPPRESS_TENANT),
    row(21616, "`From` matches several numbers", ACCOUNT_LINE),
    row(21617, "body over 1600 characters", BUG),
    row(21618, "body cannot be sent", CAMPAIGN),
    row(21619, "record cannot be created", RETRY_ONCE),
    row(21620, "media URL invalid", CAMPAIGN),
    row(21621, "MMS not enabled", CAMPAIGN),
    row(21622, "MMS not enabled", CAMPAIGN),
    row(21623, "more than 10 media URLs", CAMPAIGN),
    row(21624, "validity period out of range", CAMPAIGN),
    heard(21635, "`To` is a landline", SUPPRESS_TENANT),
    row(21654, "`ContentSid` missing", CAMPAIGN),
    row(21655, "`ContentSid` invalid", CAMPAIGN),
    row(21656, "content variables invalid", BUG),
    heard(21659, "`From` is no Twilio number for this country", ACCOUNT_LINE),
    heard(21660, "`From` belongs to another account", ACCOUNT_LINE),
    heard(21661, "`From` is not SMS-capable", ACCOUNT_LINE),
    row(21701, "messaging service unknown", ACCOUNT_LINE),
    row(21702, "messaging service not available", pause(Scope::Line, 300)),
    row(21703, "service has no fitting sender for this destination", RECIPIENT),
    row(21704, "service has no senders", ACCOUNT_LINE),
    row(21705, "messaging service invalid", ACCOUNT_LINE),
    row(21910, "`From` and `To` of different channels", BUG),
    row(90007, "validity period out of range", CAMPAIGN),
    // Delivery, mostly in callbacks.
    row(30001, "queue overflow; not sent", SLOW_LINE.after(60)),
    row(30002, "account suspended after queuing", ACCOUNT),
    row(30003, "handset unreachable", LATER),
    row(30004, "blocked by user or carrier", RECIPIENT),
    row(30005, "unknown or inactive handset", SUPPRESS_TENANT),
    row(30006, "landline or unreachable carrier", SUPPRESS_TENANT),
    row(30007, "filtered as spam", RECIPIENT),
    row(30008, "unknown error", RECIPIENT),
    row(30009, "a segment of an inbound message is missing", NOT_APPLICABLE),
    row(30010, "price above `MaxPrice`", CAMPAIGN),
    row(30011, "MMS not supported by the recipient", RECIPIENT),
    // Documented: not delivered for congestion, may be tried again.
    row(30017, "carrier congestion", RETRY.not_processed().after(180)),
    row(30018, "alphanumeric sender not registered in the country", CAMPAIGN_COUNTRY),
    row(30019, "content larger than the carrier allows", CAMPAIGN),
    row(30022, "10DLC rate exceeded at the carrier", SLOW_LINE),
    // Until midnight US Pacific; a probe an hour finds it without a calendar.
    row(30023, "10DLC day cap of the brand reached", pause(Scope::Line, HOUR)),
    row(30024, "numeric sender not registered in the country", CAMPAIGN_COUNTRY),
    row(30027, "T-Mobile day limit reached", pause(Scope::Line, HOUR)),
    row(30032, "toll-free number not verified", ACCOUNT_LINE),
    row(30033, "10DLC campaign suspended", ACCOUNT_LINE),
    row(30034, "number not registered for 10DLC", ACCOUNT_LINE),
    row(30035, "number is still being configured", pause(Scope::Line, HOUR)),
    row(30036, "validity period expired before sending", LATER),
    row(30039, "inbound message looked machine-made", NOT_APPLICABLE),
    row(30045, "validity period out of range", CAMPAIGN),
    // Documented: Twilio does not retry so as not to send twice, so it may have gone out.
    row(30410, "carrier timed out", AMBIGUOUS),
    row(30450, "destination blocked for minutes (SMS pumping)", LATER),
    row(30453, "destination blocked for hours (SMS pumping)", LATER),
    heard(30454, "message blocked", RECIPIENT),
    row(30500, "internal error", RETRY_ONCE),
    row(30610, "blocked: quiet hours", LATER),
    row(30640, "blocked: number of a known litigator", SUPPRESS_TENANT),
    // WhatsApp and other channels.
    row(63001, "channel could not authenticate", ACCOUNT_LINE),
    row(63002, "channel does not know `From`", ACCOUNT_LINE),
    row(63003, "channel does not know `To`", RECIPIENT),
    row(63005, "content not accepted", BUG),
    row(63006, "content cannot be formatted for the channel", CAMPAIGN),
    row(63007, "no channel sender with this `From`", ACCOUNT_LINE),
    row(63008, "channel misconfigured", ACCOUNT_LINE),
    row(63009, "internal error of the channel", RETRY),
    row(63010, "internal error", RETRY_ONCE),
    row(63011, "invalid request to the channel", RETRY_ONCE),
    row(63012, "internal error of the channel", RETRY),
    row(63013, "policy violation", CAMPAIGN),
    row(63014, "blocked by an action of the user", SUPPRESS_PAIR),
    row(63015, "recipient has not joined the sandbox", ACCOUNT_LINE),
    row(63016, "free text outside the window, template needed", CAMPAIGN),
    row(63017, "rate limit", SLOW_LINE),
    row(63018, "rate or messaging limit of the channel", SLOW_LINE),
    // One dead link or the campaign's media: the run of twenty tells them apart.
    row(63019, "media download failed", BUG),
    row(63020, "business manager or payment problem", ACCOUNT),
    row(63021, "invalid content", BUG),
    row(63022, "display-name certificate invalid", ACCOUNT_LINE),
    row(63023, "generic channel error", RETRY_ONCE),
    row(63024, "invalid recipient", RECIPIENT),
    row(63025, "media already exists", NOT_APPLICABLE),
    row(63026, "sender flagged as spam", pause(Scope::Line, HOUR)),
    row(63027, "template not there for this language", CAMPAIGN),
    row(63028, "parameter count does not fit the template", BUG),
    row(63029, "the receiver could not download the template", RETRY_ONCE),
    row(63030, "unsupported parameter", CAMPAIGN),
    row(63031, "`From` equals `To`", RECIPIENT),
    row(63032, "user in an experiment", LATER),
    row(63033, "recipient blocked", SUPPRESS_PAIR),
    row(63034, "media too big", CAMPAIGN),
    row(63036, "number not reachable over RCS", RECIPIENT),
    row(63037, "media upload to the channel failed", RETRY_ONCE),
    row(63038, "daily message limit of the account", pause(Scope::Account, 24 * HOUR)),
    row(63040, "template rejected", CAMPAIGN),
    row(63041, "template paused", CAMPAIGN),
    row(63042, "template disabled", CAMPAIGN),
    row(63049, "Meta chose not to deliver this marketing message", LATER),
    row(63051, "WhatsApp business account locked", ACCOUNT),
    row(63062, "Marketing Messages API terms not accepted", ACCOUNT),
];
