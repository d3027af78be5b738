"""Lines: ceilings, slow-downs, holds. Providers: outcomes, codes, latency."""

from kit import board, by_instance, dashboard, eq, graph, quantile, rate, reference, row, runbook, stat, states, table, variable

PROVIDER = variable("provider", "Provider", "sluice_provider_requests_total", "Provider and channel.")
LINE = variable("line", "Line (number)", "sluice_line_info", "Its number: sqlite3 -readonly sluice-data/ledger.db 'SELECT key, tenant, id FROM line'.",
                selector='instance=~"$instance",provider=~"$provider"')


def build():
    line = lambda metric, *more: by_instance(metric, 'line=~"$line"', *more)
    provider = 'provider=~"$provider"'
    panels = [
        stat("Used of what is allowed", "Over five minutes. Under demand 0.99 and more is normal; idle lines lower it.", "percentunit",
             f"sum(avg_over_time({line('sluice_line_used_per_second')}[5m])) / (sum(avg_over_time({line('sluice_line_allowed_per_second')}[5m])) > 0)",
             [runbook("campaign-bound"), board("campaign")], decimals=1),
        stat("Lines held", "Lines that send nothing until released.", "none", f"sum({line('sluice_line_held')})", [runbook("line-held")], warn=1),
        stat("Lines slowed", "Lines that the provider told to slow down.", "none", f"sum({line('sluice_line_slowed')})", [runbook("line-slowed")], warn=1),
        stat("Lines stopped", "Lines that their breaker stopped; single messages probe them.", "none", f"sum({line('sluice_line_breaker_open')})", [runbook("line-stopped")], warn=1),
        stat("Unclear answers", "Share of requests that ended without a clear answer: these are in doubt.", "percentunit",
             f"sum({rate('sluice_provider_requests_total', provider, eq('outcome=', 'unclear'))}) / (sum({rate('sluice_provider_requests_total', provider)}) > 0)",
             [runbook("in-doubt-growing")], warn=0.01, bad=0.1, decimals=2),
        stat("Latency, 99th percentile", "From a request's first byte to the end of its answer.", "s",
             quantile(0.99, "sluice_provider_request_duration_seconds", provider), [runbook("campaign-bound")], warn=2, bad=10),
        graph("Used against allowed", "What each line sent within the last second. It never rises above its ceiling.", "mps",
              [(line("sluice_line_used_per_second"), "{{line}}")], [runbook("campaign-bound"), board("campaign")], w=12, h=8),
        graph("Allowed now", "What each line may send: its ceiling, less while slowed, 0 while held or stopped.", "mps",
              [(line("sluice_line_allowed_per_second"), "{{line}}")], [runbook("line-slowed"), runbook("line-held")], w=12, h=8),
        states("Held", "Lines that are held, and by whom: operator, line or account (the provider refused it), panics.",
               [(f"max by (line, kind) ({line('sluice_line_held')})", "{{line}} {{kind}}")], [runbook("line-held"), runbook("account-held")], w=8, words={0: "sends", 1: "held"}),
        states("Slowed", "Lines that the provider told to slow down (429 and codes that mean it).",
               [(f"max by (line) ({line('sluice_line_slowed')})", "{{line}}")], [runbook("line-slowed")], w=8, words={0: "full speed", 1: "slowed"}),
        states("Stopped by the breaker", "Unclear outcomes in a row stopped the line, so that an outage leaves tens in doubt, not thousands.",
               [(f"max by (line) ({line('sluice_line_breaker_open')})", "{{line}}")], [runbook("line-stopped")], w=8, words={0: "closed", 1: "probing"}),
        row("Requests to providers"),
        graph("Requests by outcome", "All requests per second by how they ended.", "reqps",
              [(f"sum by (outcome) ({rate('sluice_provider_requests_total', provider)})", "{{outcome}}")], [runbook("provider-errors")], stack=True),
        graph("Failures by class", "What failed, as answered and as reported later, by our class. account stops lines, campaign and bug hold campaigns, "
              "slow lowers the rate, recipient is about single numbers.", "cps",
              [(f"sum by (class, via) ({rate('sluice_provider_failures_total', provider)})", "{{class}}, by {{via}}")],
              [runbook("provider-errors"), runbook("template-rejected")]),
        graph("Latency", "Time of requests by provider: median and 99th percentile.", "s",
              [(quantile(0.5, "sluice_provider_request_duration_seconds", provider, by=("provider",)), "{{provider}} median"),
               (quantile(0.99, "sluice_provider_request_duration_seconds", provider, by=("provider",)), "{{provider}} 99 %")],
              [runbook("campaign-bound")], log=True),
        table("Failures by code", "Failures in the last hour by the provider's code. What a code means and what Sluice does: 'sluice campaigns show CAMPAIGN'.", "short",
              f"topk(25, sum by (provider, via, class, code) (increase({by_instance('sluice_provider_failures_total', provider)}[1h])) > 0)",
              [runbook("provider-errors"), runbook("template-rejected"), runbook("account-held")]),
        graph("In flight against the limit", "Requests of each line at its provider, in all, and how many there may be. At the limit the provider's latency binds, not the ceiling.", "short",
              [(f"sum({line('sluice_line_in_flight')})", "used"), (f"sum({line('sluice_line_in_flight_limit')})", "limit")],
              [runbook("campaign-bound")], w=12, h=8, dashed=("limit",)),
        row("Ceilings, accounts, secrets"),
        table("Ceilings", "The ceiling that each line was given, with its provider and account.", "mps",
              f"sum by (instance, line) ({line('sluice_line_ceiling_per_second')}) * on (instance, line) group_left (provider, account) {line('sluice_line_info')}",
              [board("campaign"), reference()]),
        table("Days until a token expires", "By account, as configured (token_expires). After that the provider refuses every message.", "d",
              f"min by (account, provider) ({by_instance('sluice_account_token_expiry_timestamp_seconds')} - time()) / 86400",
              [runbook("token-expires")]),
    ]
    return dashboard("lines", "Which line is slowed, held or stopped, what the providers answer, and how fast.", panels, [PROVIDER, LINE])
