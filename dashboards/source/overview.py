"""Is it well? One screen."""

from kit import board, by_instance, dashboard, eq, graph, quantile, rate, reference, runbook, stat

YES = {0: "NO", 1: "yes"}


def build():
    now = by_instance
    panels = [
        stat("Alerts firing", "Sluice's alerts that fire now. Zero is well; otherwise each has a page that says what to do.",
             "none", 'count(ALERTS{alertname=~"Sluice.+",alertstate="firing"}) or vector(0)', [runbook("index")], bad=1, w=3),
        stat("Ledger takes writes", "NO: the last write failed. Sending stands still, webhooks are answered 503: Meta comes again for days, Twilio for 15 seconds.",
             "none", f"min({now('sluice_store_writable')})", [runbook("store-not-writable"), board("store")], bad=1, falling=True, words=YES, w=3, spark=False),
        stat("Tally drift", "Differences between counts and messages. Must be 0: anything else is a defect.",
             "none", f"sum({now('sluice_tally_drift_messages')})", [runbook("tally-drift"), board("store")], bad=1, w=3),
        stat("Lines held", "Lines that send nothing until somebody, or time, releases them.",
             "none", f"sum({now('sluice_lines_held')})", [runbook("line-held"), board("lines")], warn=1, w=3),
        stat("Campaigns held", "Campaigns that the system stopped: a template refused, the same error again and again.",
             "none", f"sum({now('sluice_campaigns_held')})", [runbook("campaign-held"), board("campaign")], warn=1, w=3),
        stat("In doubt", "Attempts whose outcome is unknown. Tens after an outage are as designed; growth is not.",
             "none", f"sum({now('sluice_messages', eq('status=', 'in_doubt'))})", [runbook("in-doubt-growing"), board("webhooks")], warn=10, bad=1000, w=3),
        stat("Unconfirmed", "In doubt, and the wait for an echo is over: a person decides.",
             "none", f"sum({now('sluice_messages', eq('status=', 'unconfirmed'))})", [runbook("unconfirmed")], warn=1, w=3),
        stat("Disk free", "Share of the ledger's file system that is free.",
             "percentunit", f"min({now('sluice_store_disk_free_bytes')} / {now('sluice_store_disk_size_bytes')})", [runbook("disk-full"), board("store")], warn=0.2, bad=0.1, falling=True, w=3, decimals=0),
        graph("Sending", "What providers accepted per second, against what the lines may send now and against their ceilings. Far below "
              "'allowed' while campaigns run: look at what binds them.", "mps",
              [(f"sum({rate('sluice_provider_requests_total', eq('outcome=', 'accepted'))})", "accepted"),
               (f"sum({now('sluice_line_allowed_per_second')})", "allowed"),
               (f"sum({now('sluice_line_ceiling_per_second')})", "ceiling")],
              [runbook("campaign-does-not-send"), board("lines")], dashed=("allowed", "ceiling")),
        graph("Messages not yet final", "Messages of unsettled campaigns that something may still happen to, by shown status.", "short",
              [(f"sum by (status) ({now('sluice_messages', eq('status=~', 'pending|queued|in_doubt|unconfirmed'))})", "{{status}}")],
              [runbook("statuses-stuck-at-sent"), board("campaign")], stack=True),
        graph("Statuses from providers", "What webhooks said, per second. A standstill while messages are accepted means that callbacks do not arrive.", "cps",
              [(f"sum by (kind) ({rate('sluice_webhook_events_total', eq('kind=~', 'sent|delivered|read|failed'))})", "{{kind}}")],
              [runbook("webhook-silence"), board("webhooks")]),
        graph("Answers that were not 'accepted'", "Requests per second by outcome: 'not_processed' goes again by itself, 'failed' is final for its recipient, 'unclear' is in doubt.", "reqps",
              [(f"sum by (outcome) ({rate('sluice_provider_requests_total', eq('outcome!=', 'accepted'))})", "{{outcome}}")],
              [runbook("provider-errors"), board("lines")]),
        graph("Time to durable", "99th percentile of a commit, of the disk's part of it, and of a webhook from its head to its answer.", "s",
              [(quantile(0.99, "sluice_store_commit_duration_seconds"), "commit"),
               (quantile(0.99, "sluice_store_sync_duration_seconds"), "disk"),
               (quantile(0.99, "sluice_webhook_request_duration_seconds"), "webhook")],
              [runbook("commits-slow"), board("store")], log=True, warn=0.25, bad=1.0),
        graph("Waiting in the server", "Entries that wait for a commit, and messages in flight. Both are bounded; waiting entries that stay up mean a slow ledger.", "short",
              [(f"sum({now('sluice_ledger_waiting_entries')})", "waiting entries"), (f"sum({now('sluice_messages_in_flight')})", "in flight")],
              [runbook("commits-slow"), reference()]),
        graph("Processor", "Cores in use, by node.", "none", [(f"sum by (instance) ({rate('process_cpu_seconds_total', eq('job=', 'sluice'))})", "{{instance}}")],
              [board("store"), board("loadtest")], h=6),
        graph("Memory", "Resident memory, by node. It does not grow with the size of campaigns.", "bytes",
              [(now("process_resident_memory_bytes", 'job="sluice"'), "{{instance}}")], [board("store"), reference()], h=6),
        graph("Running campaigns", "Campaigns that run now, and those held.", "short",
              [(f"sum({now('sluice_campaigns_running')})", "running"), (f"sum({now('sluice_campaigns_held')})", "held")],
              [board("campaign"), runbook("campaign-held")], h=6),
    ]
    return dashboard("overview", "Is Sluice well? Read the first line from left to right: all blue, all well.", panels)
