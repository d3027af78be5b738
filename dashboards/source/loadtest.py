"""A run under load: what it does, what it costs, and what was the limit."""

from kit import board, by_instance, dashboard, eq, graph, quantile, rate, reference, row, runbook, stat


def build():
    now = by_instance
    accepted = f"sum({rate('sluice_provider_requests_total', eq('outcome=', 'accepted'))})"
    statuses = f"sum({rate('sluice_webhook_events_total', eq('kind=~', 'sent|delivered|read|failed'))})"
    cpu = f"sum({rate('process_cpu_seconds_total', eq('job=', 'sluice'))})"
    panels = [
        stat("Accepted", "Messages per second that providers took.", "mps", accepted, [board("lines")], decimals=0),
        stat("Statuses", "Per second, as they came in.", "cps", statuses, [board("webhooks")], decimals=0),
        stat("CPU per message", "Server's CPU time for each accepted message with all that came back in the same time.", "s", f"{cpu} / ({accepted} > 0)", [board("store"), reference()]),
        stat("Used of what is allowed", "Lines together, over the last minute.", "percentunit",
             f"sum(avg_over_time({now('sluice_line_used_per_second')}[1m])) / (sum(avg_over_time({now('sluice_line_allowed_per_second')}[1m])) > 0)", [board("lines")], decimals=1),
        stat("Tally drift", "Must be 0, above all here.", "none", f"sum({now('sluice_tally_drift_messages')})", [runbook("tally-drift")], bad=1),
        stat("In doubt", "After a kill: at most what was in flight.", "short", f"sum({now('sluice_messages', eq('status=', 'in_doubt'))})", [runbook("in-doubt-growing")], warn=1000),
        graph("Throughput", "Accepted and statuses per second.", "cps", [(accepted, "accepted"), (statuses, "statuses")], [board("lines"), board("webhooks")], w=12, h=8),
        graph("Pacing", "Sent within the last second, by all lines, against what they may: a line that stays just below its ceiling is what you want.", "mps",
              [(f"sum({now('sluice_line_used_per_second')})", "used"), (f"sum({now('sluice_line_allowed_per_second')})", "allowed"), (f"sum({now('sluice_line_ceiling_per_second')})", "ceiling")],
              [board("lines"), runbook("campaign-bound")], w=12, h=8, dashed=("allowed", "ceiling")),
        row("Cost"),
        graph("Processor", "Cores of the server, by node. The simulator's own are in the run's report.", "none", [(f"sum by (instance) ({rate('process_cpu_seconds_total', eq('job=', 'sluice'))})", "{{instance}}")], [board("store")]),
        graph("CPU per message over time", "Server's CPU for each accepted message, and for each status.", "s", [(f"{cpu} / ({accepted} > 0)", "per message"), (f"{cpu} / ({statuses} > 0)", "per status")], [board("store"), reference()]),
        graph("Memory", "Resident. Flat, whatever the size of the campaign.", "bytes", [(now("process_resident_memory_bytes", 'job="sluice"'), "{{instance}}")], [board("store")]),
        graph("Commits", "Per second, and entries in each.", "short",
              [(f"sum({rate('sluice_store_commit_duration_seconds_count')})", "commits per second"),
               (f"sum({rate('sluice_store_group_entries_sum')}) / (sum({rate('sluice_store_group_entries_count')}) > 0)", "entries per commit")], [board("store")], log=True),
        graph("Bytes per message", "Growth of the ledger and its log over ten minutes for each message accepted in them. The log grows first, up to tens of MiB: in a short run it is most of this.", "bytes",
              [(f"clamp_min(sum(delta({now('sluice_store_size_bytes')}[10m])), 0) / (sum(increase({now('sluice_provider_requests_total', eq('outcome=', 'accepted'))}[10m])) > 0)", "bytes per message")], [runbook("disk-full")]),
        graph("Use of the writer", "Share of the time in commits. Near 1 the ledger is the limit of this run.", "percentunit", [(f"sum({rate('sluice_store_commit_duration_seconds_sum')})", "writer")], [runbook("commits-slow")], maximum=1),
        row("Latency"),
        graph("Webhook", "From its head to the durable answer.", "s", [(quantile(q, "sluice_webhook_request_duration_seconds"), legend) for q, legend in ((0.5, "median"), (0.99, "99 %"), (0.999, "99.9 %"))],
              [runbook("webhooks-slow")], log=True),
        graph("Commit", "Whole, and the disk's part.", "s", [(quantile(0.99, "sluice_store_commit_duration_seconds"), "commit 99 %"), (quantile(0.99, "sluice_store_sync_duration_seconds"), "disk 99 %")], [runbook("commits-slow")], log=True),
        graph("Provider", "Requests to the provider, or the simulator.", "s", [(quantile(q, "sluice_provider_request_duration_seconds"), legend) for q, legend in ((0.5, "median"), (0.99, "99 %"))], [board("lines")], log=True),
        row("Depths"),
        graph("In flight and waiting", "Messages in flight, requests at providers, entries that wait for a commit.", "short",
              [(f"sum({now('sluice_messages_in_flight')})", "in flight"), (f"sum({now('sluice_line_in_flight')})", "at providers"), (f"sum({now('sluice_ledger_waiting_entries')})", "waiting entries")], [board("store")]),
        graph("Webhook requests under way", "Requests whose body has come, until they are answered, of all accounts.", "short", [(f"sum({now('sluice_webhook_bodies_in_flight')})", "under way")], [runbook("webhooks-refused")]),
        graph("Refused or failed", "Webhooks not answered 200, and requests to providers not accepted, per second.", "reqps",
              [(f"sum({rate('sluice_webhook_requests_total', eq('result!~', 'ok|verified'))})", "webhooks"), (f"sum({rate('sluice_provider_requests_total', eq('outcome!=', 'accepted'))})", "requests")],
              [runbook("webhooks-refused"), runbook("provider-errors")]),
    ]
    return dashboard("loadtest", "A run under load. Runs are marked by Grafana annotations with the tag sluice-loadtest (dashboards/README.md shows how).",
                     panels, refresh="5s", since="now-30m", marks_runs=True)
