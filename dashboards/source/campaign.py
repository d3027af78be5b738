"""One campaign from its import to its settled counts."""

from kit import board, by_instance, dashboard, graph, rate, reference, row, runbook, stat, states, table, variable

CAMPAIGN = variable("campaign", "Campaign (number)", "sluice_campaign_rate_per_second",
                    "Its number: sqlite3 -readonly sluice-data/ledger.db 'SELECT key, tenant, id FROM campaign'. 'other': those "
                    "beyond metrics.campaigns_max, summed up.")


def build():
    of = lambda metric, *more: by_instance(metric, 'campaign=~"$campaign"', *more)
    messages = lambda *statuses: of("sluice_campaign_messages", f'status=~"{"|".join(statuses)}"')
    rate_now = of("sluice_campaign_rate_per_second")
    panels = [
        stat("Recipients", "Messages of the campaigns chosen that run now. Campaigns that ended are not here: 'sluice campaigns show CAMPAIGN'.",
             "short", f"sum({of('sluice_campaign_messages')})", [board("overview"), reference()], w=3),
        stat("Remaining", "Messages that may still leave.", "short", f"sum({messages('pending')})", [runbook("campaign-does-not-send")], w=3),
        stat("Rate now", "Accepted per second over the last seconds.", "mps", f"sum({rate_now})", [runbook("campaign-bound"), board("lines")], w=3, decimals=1),
        stat("Time to go", "At the pace of now; nothing while it stands still.", "dtdurations",
             f"max(instance_campaign:sluice_campaign_eta:seconds{{instance=~\"$instance\",campaign=~\"$campaign\"}})", [runbook("campaign-does-not-send")], w=3, spark=False),
        stat("Failed", "Share of the recipients that show failed.", "percentunit", f"sum({messages('failed')}) / sum({of('sluice_campaign_messages')})",
             [runbook("template-rejected"), board("lines")], warn=0.1, bad=0.3, w=3, decimals=1),
        stat("In doubt or unconfirmed", "Outcome unknown: 'sluice in-doubt CAMPAIGN' lists them.", "short",
             f"sum({messages('in_doubt', 'unconfirmed')})", [runbook("unconfirmed"), runbook("in-doubt-growing")], warn=1, bad=1000, w=3),
        stat("What binds now", "What keeps the campaign from sending faster. line_ceiling and campaign_rate are as wanted.", "none",
             f"topk(1, sum by (binding) ({of('sluice_campaign_bound')}))", [runbook("campaign-bound")], legend="{{binding}}", name=True, w=6),
        graph("Messages by status", "Every recipient once, by what its message shows. Pending shrinks, the others grow, the sum stays.", "short",
              [(f"sum by (status) ({of('sluice_campaign_messages')})", "{{status}}")], [runbook("counts-frozen"), runbook("statuses-stuck-at-sent")], w=12, h=9, stack=True),
        graph("Rate", "Accepted per second, against the campaign's own limit (none: only the lines bind) and what all lines may send.", "mps",
              [(f"sum({rate_now})", "used"), (f"sum({of('sluice_campaign_rate_limit_per_second')})", "limit"),
               (f"sum({by_instance('sluice_line_allowed_per_second')})", "allowed")],
              [runbook("campaign-bound"), board("lines")], w=12, h=9, dashed=("limit", "allowed")),
        states("What bound it", "Campaigns by what kept them from sending faster, over time. line_ceiling and campaign_rate are as wanted; "
               "slowed, line_in_flight, lines_unavailable, ledger and workers deserve a look when they stay. A band that ends means that something else binds.",
               [(f"sum by (campaign, binding) ({of('sluice_campaign_bound')})", "{{campaign}} {{binding}}")],
               [runbook("campaign-bound")], w=12, words={1: "binds"}),
        graph("Rate by campaign", "The running campaigns side by side: equal ones on the same lines get equal shares.", "mps",
              [(rate_now, "{{campaign}}")], [board("lines")], w=12),
        row("Before and after: imports and final counts"),
        graph("Import", "Recipients imported per second. Refused rows are listed to the importer: 'sluice refused CAMPAIGN'.", "cps",
              [(f"sum by (result) ({rate('sluice_import_rows_total')})", "{{result}}")], [board("store"), reference()], w=8),
        graph("Where sent messages stand", "Of the messages that left: what shows now. Queued or sent that never becomes delivered: statuses are missing.", "short",
              [(f"sum by (status) ({messages('queued', 'sent', 'delivered', 'read')})", "{{status}}")],
              [runbook("statuses-stuck-at-sent"), board("webhooks")], w=8),
        table("Remaining by campaign", "Running campaigns with what they have left to send.", "short",
              f"sum by (instance, campaign) ({messages('pending')})", [runbook("campaign-does-not-send")], w=8, h=7),
    ]
    return dashboard("campaign", "One campaign from import to settled. Choose its number above; the numbers of all: sluice-data/ledger.db, table campaign.",
                     panels, [CAMPAIGN])
