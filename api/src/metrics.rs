//! The names of this crate's metrics, and what they mean to the person on call.
//!
//! Labels are bounded: listeners and results are closed sets, accounts come from the configuration, methods from the protos. No
//! tenant, campaign, phone number or message id is ever a label here.

use sluice_engine::metrics::Metric;

/// Gauge, always 1, label `version`.
pub const BUILD_INFO: &str = "sluice_build_info";

/// Gauge, label `listener`: only listeners that have a certificate.
pub const CERTIFICATE_EXPIRY: &str = "sluice_tls_certificate_expiry_timestamp_seconds";
/// Gauge, labels `provider`, `account`: only accounts whose `token_expires` is configured.
pub const TOKEN_EXPIRY: &str = "sluice_account_token_expiry_timestamp_seconds";
/// Gauge, no labels.
pub const DISK_FREE: &str = "sluice_store_disk_free_bytes";
/// Gauge, no labels.
pub const DISK_SIZE: &str = "sluice_store_disk_size_bytes";
/// Counter, no labels; this and the following have the names that every Prometheus client library gives them.
pub const PROCESS_CPU: &str = "process_cpu_seconds_total";
/// Gauge, no labels.
pub const PROCESS_MEMORY: &str = "process_resident_memory_bytes";
/// Gauge, no labels.
pub const PROCESS_FDS: &str = "process_open_fds";
/// Gauge, no labels.
pub const PROCESS_FDS_MAX: &str = "process_max_fds";
/// Gauge, no labels.
pub const PROCESS_THREADS: &str = "process_threads";
/// Gauge, no labels.
pub const PROCESS_START: &str = "process_start_time_seconds";

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
/// Counter, label `reason`: the limit, e.g. `requests`, `watches`; `silent` for a connection without a call.
pub const GRPC_REFUSED: &str = "sluice_grpc_refused_total";
/// Counter, label `reason`: `missing`, `malformed`, `signature`, `expired`, `claims`.
pub const GRPC_AUTH_FAILURES: &str = "sluice_grpc_auth_failures_total";
/// Counter, label `result`: `stored`, `refused`.
pub const IMPORT_ROWS: &str = "sluice_import_rows_total";

/// Counter, label `result`: `exported`, `failed`, `dropped`.
pub const TRACE_SPANS: &str = "sluice_trace_spans_total";
/// Counter, label `outcome`: `answered`, `not_mine`, `lost`, `stranger`, `apart`, `given_up`.
pub const FORWARDED_CALLS: &str = "sluice_forwarded_calls_total";
/// Histogram, no labels.
pub const FORWARDED_CALL_DURATION: &str = "sluice_forwarded_call_duration_seconds";
/// Counter, label `outcome`: `durable`, `not_mine`, `lost`, `busy`, `store_down`.
pub const FORWARDED_EVENTS: &str = "sluice_forwarded_events_total";
/// Counter, no labels.
pub const FORWARDED_EVENT_CALLS: &str = "sluice_forwarded_event_calls_total";
/// Histogram, no labels.
pub const FORWARDED_EVENTS_DURATION: &str = "sluice_forwarded_events_duration_seconds";
/// Counter, no labels.
pub const EVENTS_SET_ASIDE: &str = "sluice_events_set_aside_total";
/// Counter, label `side`: `asked`, `asking`.
pub const NODE_STRANGERS: &str = "sluice_node_strangers_total";

/// Every metric of this crate.
#[rustfmt::skip] // a line says what it is, the next what it means
pub const METRICS: &[Metric] = &[
    Metric::gauge(BUILD_INFO, "always 1", &["version"],
        "Always 1; the version label says what runs. Two versions at once mean a rollout is under way."),
    Metric::gauge(CERTIFICATE_EXPIRY, "seconds since 1970", &["listener"],
        "When the first certificate of a listener's chain expires. After that no provider delivers a webhook and no client connects."),
    Metric::gauge(TOKEN_EXPIRY, "seconds since 1970", &["provider", "account"],
        "When an account's access token expires, as configured (token_expires). After that the provider refuses every message, and the account's lines are held."),
    Metric::gauge(DISK_FREE, "bytes", &[],
        "Bytes that are left for the ledger on its file system. At 0 sending stands still and webhooks are answered 503."),
    Metric::gauge(DISK_SIZE, "bytes", &[],
        "Size of the ledger's file system."),
    Metric::counter(PROCESS_CPU, "seconds", &[],
        "CPU time of the process, user and system."),
    Metric::gauge(PROCESS_MEMORY, "bytes", &[],
        "Resident memory. It does not grow with the size of campaigns: a steady rise is a defect."),
    Metric::gauge(PROCESS_FDS, "file descriptors", &[],
        "Open file descriptors. Near the most allowed, connections are refused."),
    Metric::gauge(PROCESS_FDS_MAX, "file descriptors", &[],
        "Most file descriptors that may be open."),
    Metric::gauge(PROCESS_THREADS, "threads", &[],
        "Threads of the process. A steady rise is a defect."),
    Metric::gauge(PROCESS_START, "seconds since 1970", &[],
        "When the server started."),
    Metric::gauge(LISTENER_CONNECTIONS, "connections", &["listener"],
        "Open connections by listener. At connections_max of the configuration, further clients wait in the kernel's queue: raise the limit, or look for a client that opens connections and does not use them."),
    Metric::counter(LISTENER_ACCEPT_ERRORS, "errors", &["listener"],
        "Connections that the kernel could not hand over. A rise nearly always means that the process is out of file descriptors: compare process_open_fds with the limit."),
    Metric::counter(LISTENER_HANDSHAKE_FAILURES, "handshakes", &["listener"],
        "TLS handshakes that failed or took too long. A few are scanners. If provider requests fall at the same time, the certificate is expired, incomplete (intermediates missing) or not for this name."),
    Metric::counter(WEBHOOK_REQUESTS, "requests", &["provider", "account", "result"],
        "Provider webhook requests by account and result. Everything but ok and verified deserves a look: bad_signature is a wrong secret or public_base_url (or a forger), store_down means providers are told to come again, busy and refused mean more arrives than is admitted, slow and broken are clients that stall or vanish."),
    Metric::histogram(WEBHOOK_REQUEST_DURATION, "seconds", &["provider", "account"],
        "From a request's head to its answer, the durable commit included. Meta wants a median under 250 ms and under 1 % above one second; Twilio gives up after 15 s. A rise with an idle CPU is the disk: look at commit times."),
    Metric::counter(WEBHOOK_EVENTS, "events", &["provider", "account", "kind"],
        "What webhooks said, by kind: the stages, bad (entries that could not be read; kept for a look) and the kinds that are kept for later features. A standstill of stages while messages are sent means that callbacks do not arrive."),
    Metric::counter(WEBHOOK_SIGNATURE_FAILURES, "requests", &["provider", "account", "reason"],
        "Requests whose signature was missing, malformed or wrong. mismatch from the real provider means that app secret, auth token or public_base_url is not what the provider uses: statuses are being lost until it is mended."),
    Metric::gauge(WEBHOOK_BODIES_IN_FLIGHT, "requests", &["provider", "account"],
        "Webhook requests whose body has come and whose events are being committed now. Near account_bodies_max, further ones are refused with 503."),
    Metric::counter(WEBHOOK_RECEIVED_BYTES, "bytes", &["provider", "account"],
        "Bytes of webhook bodies that were read, by account."),
    Metric::counter(WEBHOOK_UNKNOWN_PATHS, "requests", &[],
        "Requests for paths or accounts that do not exist. Scanners do this all day; after a change of configuration it may be a provider that still calls an account's old name."),
    Metric::counter(GRPC_REQUESTS, "calls", &["method", "code"],
        "gRPC calls by method and status code. Unavailable and Internal are ours to mend; ResourceExhausted means that callers want more than is admitted; InvalidArgument and FailedPrecondition are the caller's."),
    Metric::histogram(GRPC_REQUEST_DURATION, "seconds", &["method"],
        "Time of gRPC calls with one answer, by method. Writes wait for the disk: if they are slow and reads are not, look at commit times."),
    Metric::gauge(GRPC_REQUESTS_IN_FLIGHT, "calls", &[],
        "gRPC calls under way. At requests_max further ones are refused."),
    Metric::gauge(GRPC_WATCHES, "watches", &[],
        "Progress watches that are open. At watches_max further ones are refused."),
    Metric::counter(GRPC_REFUSED, "calls", &["reason"],
        "gRPC calls refused before any work because a limit was reached; reason names the limit, silent a connection that was closed because no call of it was let in. Nothing is lost: callers try again."),
    Metric::counter(GRPC_AUTH_FAILURES, "calls", &["reason"],
        "gRPC calls without a token that is believed, by reason. expired from one caller is a clock or a token that is not renewed; a rise of signature after a key rotation means that the key file here is the old one."),
    Metric::counter(IMPORT_ROWS, "rows", &["result"],
        "Recipients imported, by result. refused rows are listed to the importer with row, field and reason."),
    Metric::counter(TRACE_SPANS, "spans", &["result"],
        "Spans of traces, by what became of them. failed: the collector did not take them (the log says why); dropped: more came than it takes, so lower traces.message_ratio or look at the collector. Messages are not concerned."),
    Metric::counter(FORWARDED_CALLS, "calls", &["outcome"],
        "gRPC calls sent on to the node that owns what they are about, by what came of it. not_mine and lost are asked again elsewhere: a few stand for a pool that changes hands, many for nodes that do not reach each other. given_up was answered UNAVAILABLE, since no node owned it before the caller's deadline. stranger is a wrong node secret or a wrong address, apart a node whose version is too far from this one's; the log names the node."),
    Metric::histogram(FORWARDED_CALL_DURATION, "seconds", &[],
        "Time of a call at another node, the way there and back included. Compare with the times of calls: the difference is the network between the nodes."),
    Metric::counter(FORWARDED_EVENTS, "events", &["outcome"],
        "Statuses from webhooks that were sent on to the node of their campaign, by what came of it. not_mine and lost are tried again for up to a second and then set aside; busy and store_down make the provider come again. With balancers that spread providers' calls evenly over n nodes, (n - 1) / n of all events are sent on."),
    Metric::counter(FORWARDED_EVENT_CALLS, "calls", &[],
        "Calls between nodes that brought events. Many events in a call are good: webhooks that come together share one."),
    Metric::histogram(FORWARDED_EVENTS_DURATION, "seconds", &[],
        "From handing a webhook's events over to another node until they are durable there. Compare with the time of webhook requests: the rest is this node's."),
    Metric::counter(EVENTS_SET_ASIDE, "events", &[],
        "Statuses that were parked in the ledger because no node took their campaign within a second; the next owner applies them. Expected while a dead node's pools are taken over; a steady rise means that nodes do not reach each other."),
    Metric::counter(NODE_STRANGERS, "calls", &["side"],
        "Calls between nodes that lacked the proof of the node secret, or had been made before, or were changed on their way: asking, of others to this node; asked, of this node to others. Anything but 0 is a secret that differs between nodes, an advertised address that leads to the wrong machine, or somebody who has no business there."),
];

/// Describes every metric of this crate. To be called once, right after the recorder is installed: earlier descriptions are lost.
pub fn describe() {
    METRICS.iter().for_each(Metric::describe);
    metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    // A series that appears with its first event shows no rise.
    metrics::gauge!(GRPC_WATCHES).set(0.0);
    metrics::counter!(EVENTS_SET_ASIDE).increment(0);
    for side in ["asked", "asking"] {
        metrics::counter!(NODE_STRANGERS, "side" => side).increment(0);
    }
    for result in ["stored", "refused"] {
        metrics::counter!(IMPORT_ROWS, "result" => result).increment(0);
    }
    for result in ["exported", "failed", "dropped"] {
        metrics::counter!(TRACE_SPANS, "result" => result).increment(0);
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
