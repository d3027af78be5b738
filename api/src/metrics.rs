//! The names of this crate's metrics, and what they mean to the person on call.
//!
//! Labels are bounded: listeners and results are closed sets, accounts come from the configuration, methods from the protos. No
//! tenant, campaign, phone number or message id is ever a label here.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Gauge, always 1, label `version`.
pub const BUILD_INFO: &str = "sluice_build_info";

/// Gauge, label `listener`.
pub const LISTENER_CONNECTIONS: &str = "sluice_listener_connections";
/// Counter, label `listener`.
pub const LISTENER_ACCEPT_ERRORS: &str = "sluice_listener_accept_errors_total";
/// Counter, label `listener`.
pub const LISTENER_HANDSHAKE_FAILURES: &str = "sluice_listener_tls_handshake_failures_total";

/// Counter, labels `provider`, `account`, `result` (see `webhooks::Answer`).
pub const WEBHOOK_REQUESTS: &str = "sluice_webhook_requests_total";
/// Histogram, labels `provider`, `account`.
pub const WEBHOOK_REQUEST_DURATION: &str = "sluice_webhook_request_duration_seconds";
/// Counter, labels `provider`, `account`, `kind`.
pub const WEBHOOK_EVENTS: &str = "sluice_webhook_events_total";
/// Counter, labels `provider`, `account`, `reason`.
pub const WEBHOOK_SIGNATURE_FAILURES: &str = "sluice_webhook_signature_failures_total";
/// Gauge, labels `provider`, `account`.
pub const WEBHOOK_BODIES_IN_FLIGHT: &str = "sluice_webhook_bodies_in_flight";
/// Counter, labels `provider`, `account`.
pub const WEBHOOK_RECEIVED_BYTES: &str = "sluice_webhook_received_bytes_total";
/// Counter, no labels.
pub const WEBHOOK_UNKNOWN_PATHS: &str = "sluice_webhook_unknown_paths_total";

/// Counter, labels `method`, `code`.
pub const GRPC_REQUESTS: &str = "sluice_grpc_requests_total";
/// Histogram, label `method`; calls with one answer only.
pub const GRPC_REQUEST_DURATION: &str = "sluice_grpc_request_duration_seconds";
/// Gauge, no labels.
pub const GRPC_REQUESTS_IN_FLIGHT: &str = "sluice_grpc_requests_in_flight";
/// Gauge, no labels.
pub const GRPC_WATCHES: &str = "sluice_grpc_watches";
/// Counter, label `reason`: `requests`, `watches`.
pub const GRPC_REFUSED: &str = "sluice_grpc_refused_total";
/// Counter, label `reason`: `missing`, `malformed`, `signature`, `expired`, `claims`.
pub const GRPC_AUTH_FAILURES: &str = "sluice_grpc_auth_failures_total";
/// Counter, label `result`: `stored`, `refused`.
pub const IMPORT_ROWS: &str = "sluice_import_rows_total";

/// Describes every metric of this crate. To be called once, right after the recorder is installed: earlier descriptions are lost.
pub fn describe() {
    describe_gauge!(
        BUILD_INFO,
        "Always 1; the version label says what runs. Two versions at once mean a rollout is under way."
    );
    describe_listeners();
    describe_webhooks();
    describe_grpc();
    metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

fn describe_listeners() {
    describe_gauge!(
        LISTENER_CONNECTIONS,
        "Open connections by listener. At connections_max of the configuration, further clients wait in the kernel's queue: raise \
         the limit, or look for a client that opens connections and does not use them."
    );
    describe_counter!(
        LISTENER_ACCEPT_ERRORS,
        "Connections that the kernel could not hand over. A rise nearly always means that the process is out of file descriptors: \
         compare process_open_fds with the limit."
    );
    describe_counter!(
        LISTENER_HANDSHAKE_FAILURES,
        "TLS handshakes that failed or took too long. A few are scanners. If provider requests fall at the same time, the \
         certificate is expired, incomplete (intermediates missing) or not for this name."
    );
}

fn describe_webhooks() {
    describe_counter!(
        WEBHOOK_REQUESTS,
        "Provider webhook requests by account and result. Everything but ok and verified deserves a look: bad_signature is a wrong \
         secret or public_base_url (or a forger), store_down means providers are told to come again, busy and refused mean more \
         arrives than is admitted, slow and broken are clients that stall or vanish."
    );
    describe_histogram!(
        WEBHOOK_REQUEST_DURATION,
        Unit::Seconds,
        "From a request's head to its answer, the durable commit included. Meta wants a median under 250 ms and under 1 % above one \
         second; Twilio gives up after 15 s. A rise with an idle CPU is the disk: look at commit times."
    );
    describe_counter!(
        WEBHOOK_EVENTS,
        "What webhooks said, by kind: the stages, bad (entries that could not be read; kept for a look) and the kinds that are kept \
         for later features. A standstill of stages while messages are sent means that callbacks do not arrive."
    );
    describe_counter!(
        WEBHOOK_SIGNATURE_FAILURES,
        "Requests whose signature was missing, malformed or wrong. mismatch from the real provider means that app secret, auth token \
         or public_base_url is not what the provider uses: statuses are being lost until it is mended."
    );
    describe_gauge!(
        WEBHOOK_BODIES_IN_FLIGHT,
        "Webhook requests being read or committed now. Near account_bodies_max, further ones are refused with 503."
    );
    describe_counter!(WEBHOOK_RECEIVED_BYTES, Unit::Bytes, "Bytes of webhook bodies that were read, by account.");
    describe_counter!(
        WEBHOOK_UNKNOWN_PATHS,
        "Requests for paths or accounts that do not exist. Scanners do this all day; after a change of configuration it may be a \
         provider that still calls an account's old name."
    );
}

fn describe_grpc() {
    describe_counter!(
        GRPC_REQUESTS,
        "gRPC calls by method and status code. Unavailable and Internal are ours to mend; ResourceExhausted means that callers want \
         more than is admitted; InvalidArgument and FailedPrecondition are the caller's."
    );
    describe_histogram!(
        GRPC_REQUEST_DURATION,
        Unit::Seconds,
        "Time of gRPC calls with one answer, by method. Writes wait for the disk: if they are slow and reads are not, look at commit times."
    );
    describe_gauge!(GRPC_REQUESTS_IN_FLIGHT, "gRPC calls under way. At requests_max further ones are refused.");
    describe_gauge!(GRPC_WATCHES, "Progress watches that are open. At watches_max further ones are refused.");
    describe_counter!(
        GRPC_REFUSED,
        "gRPC calls refused before any work because a limit was reached; reason names the limit. Nothing is lost: callers try again."
    );
    describe_counter!(
        GRPC_AUTH_FAILURES,
        "gRPC calls without a token that is believed, by reason. expired from one caller is a clock or a token that is not renewed; a \
         rise of signature after a key rotation means that the key file here is the old one."
    );
    describe_counter!(
        IMPORT_ROWS,
        "Recipients imported, by result. refused rows are listed to the importer with row, field and reason."
    );
}
