"""What comes back: webhook requests, what they said, and what became of it."""

from kit import board, by_instance, dashboard, eq, graph, quantile, rate, reference, row, runbook, stat, variable

ACCOUNT = variable("account", "Account", "sluice_webhook_requests_total", "The provider account, as configured.")


def build():
    account = 'account=~"$account"'
    requests = lambda *more: rate("sluice_webhook_requests_total", account, *more)
    panels = [
        stat("Webhooks answered 200", "Believed and durable, per second.", "reqps", f"sum({requests(eq('result=', 'ok'))})", [runbook("webhook-silence")], decimals=1),
        stat("Not answered 200", "Share of requests with any other result.", "percentunit",
             f"sum({requests(eq('result!~', 'ok|verified'))}) / (sum({requests()}) > 0)", [runbook("webhooks-refused"), runbook("webhook-signatures")], warn=0.02, bad=0.2, decimals=1),
        stat("Time, 99th percentile", "From a request's head to its durable answer. Meta wants under 1 % above one second.", "s",
             quantile(0.99, "sluice_webhook_request_duration_seconds", account), [runbook("webhooks-slow")], warn=0.25, bad=1.0),
        stat("Oldest parked event", "Events wait for their message; at 15 minutes (parked_wait_s) they become orphans.", "s",
             f"max({by_instance('sluice_parked_oldest_age_seconds')})", [runbook("parked-too-old")], warn=300, bad=600),
        stat("Orphans", "Events whose message never appeared: 'sluice orphans'.", "short", f"sum({by_instance('sluice_orphan_events')})", [runbook("orphans-rising")]),
        stat("Certificate expires in", "The first of the listeners' certificates that this server ends TLS with; no value: a proxy does.", "s",
             f"min({by_instance('sluice_tls_certificate_expiry_timestamp_seconds')}) - time()", [runbook("certificate-expires")], warn=1209600, bad=172800, falling=True, spark=False),
        row("Requests"),
        graph("Requests by result", "Everything but ok and verified deserves a look.", "reqps", [(f"sum by (result) ({requests()})", "{{result}}")],
              [runbook("webhooks-refused"), runbook("webhook-signatures")], stack=True),
        graph("Duration", "Median, 99th and 99.9th percentile.", "s",
              [(quantile(q, "sluice_webhook_request_duration_seconds", account), legend) for q, legend in ((0.5, "median"), (0.99, "99 %"), (0.999, "99.9 %"))],
              [runbook("webhooks-slow")], log=True, warn=0.25, bad=1.0),
        graph("By account", "Requests answered 200. One account that falls silent while it sends is a subscription or a proxy.", "reqps",
              [(f"sum by (account) ({requests(eq('result=', 'ok'))})", "{{account}}")], [runbook("webhook-silence")]),
        graph("Signature failures", "missing and malformed are scanners; mismatch from the real provider is a wrong secret or public_base_url.", "reqps",
              [(f"sum by (account, reason) ({rate('sluice_webhook_signature_failures_total', account)})", "{{account}} {{reason}}")], [runbook("webhook-signatures")]),
        graph("Under way", "Requests whose body has come, until they are answered. Near account_bodies_max further ones are answered 503.", "short",
              [(f"sum by (account) ({by_instance('sluice_webhook_bodies_in_flight', account)})", "{{account}}")], [runbook("webhooks-refused")]),
        graph("Bytes", "Bodies that were read.", "Bps", [(f"sum by (account) ({rate('sluice_webhook_received_bytes_total', account)})", "{{account}}")], [board("store"), reference()]),
        row("What they said, and what became of it"),
        graph("Events by kind", "Stages, bad entries, and kinds kept for later.", "cps", [(f"sum by (kind) ({rate('sluice_webhook_events_total', account)})", "{{kind}}")],
              [runbook("webhook-silence"), runbook("statuses-stuck-at-sent")]),
        graph("Entries by result", "applied moved a message; duplicate said nothing new; parked waits for its message; dropped found no room.", "cps",
              [(f"sum by (result) ({rate('sluice_webhook_entries_total')})", "{{result}}")], [runbook("parked-too-old")]),
        graph("Events per accepted message", "Sent, delivered, read and failed, each against what was accepted over the same time. sent far below 1 for long: statuses are missing.", "none",
              [(f"sum by (kind) ({rate('sluice_webhook_events_total', eq('kind=~', 'sent|delivered|read|failed'))}) / on () group_left () (sum({rate('sluice_provider_requests_total', eq('outcome=', 'accepted'))}) > 0)", "{{kind}}")],
              [runbook("statuses-stuck-at-sent"), runbook("webhook-silence")]),
        graph("Kept events that gave way", "Inbound messages and other events kept for later that were removed for newer ones, at inbound_max, per second. A rise: raise the limit, or take them out in time.", "cps",
              [(f"sum({rate('sluice_inbound_removed_total')})", "removed")], [board("store"), reference()]),
        graph("Parked and orphaned", "Parked events are looked at after 2 s, 20 s, 2 min and 10 min; then they are orphans.", "short",
              [(f"sum({by_instance('sluice_parked_events')})", "parked"), (f"sum({by_instance('sluice_orphan_events')})", "orphans")],
              [runbook("parked-too-old"), runbook("orphans-rising")]),
        graph("Both failed and delivered; sent twice", "Messages of unsettled campaigns. Twice is possible only under 'at least once' or after a person's 'send again'.", "short",
              [(f"sum({by_instance('sluice_messages_conflicting')})", "conflicts"), (f"sum({by_instance('sluice_messages_doubled')})", "doubles")],
              [runbook("statuses-stuck-at-sent"), reference()]),
        graph("Connections and strangers", "Open connections of the listener; requests for unknown paths; TLS handshakes that failed (per second).", "short",
              [(f"sum({by_instance('sluice_listener_connections', eq('listener=', 'webhooks'))})", "connections"),
               (f"sum({rate('sluice_webhook_unknown_paths_total')})", "unknown paths"),
               (f"sum({rate('sluice_listener_tls_handshake_failures_total', eq('listener=', 'webhooks'))})", "failed handshakes")],
              [runbook("certificate-expires"), runbook("webhook-silence")]),
    ]
    return dashboard("webhooks", "Do statuses arrive, are they believed, are they durable in time, and do they find their messages?", panels, [ACCOUNT])
