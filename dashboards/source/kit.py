"""Parts that every dashboard is made of: panels, variables, links, colours.

A dashboard is plain Python data that becomes Grafana's JSON. Whatever a panel must have (unit, description, a link to what to
do) is a required argument here, so that it cannot be forgotten; `check` asks again, of the JSON.
"""

# Okabe and Ito: told apart by people with any common colour blindness, and in grey by their lightness.
BLUE, SKY, GREEN, YELLOW = "#0072B2", "#56B4E9", "#009E73", "#F0E442"
ORANGE, VERMILLION, PURPLE, GREY = "#E69F00", "#D55E00", "#CC79A7", "#999999"
PALETTE = [BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, YELLOW, GREY]

DARK, DARKER = "#666666", "#444444"

# One meaning, one colour, on every dashboard: by the label whose values these are; "": words used as legends.
COLOURS = {
    "status": {"pending": GREY, "queued": SKY, "sent": BLUE, "delivered": GREEN, "read": PURPLE, "failed": VERMILLION,
               "in_doubt": ORANGE, "unconfirmed": YELLOW, "cancelled": DARK, "expired": DARKER},
    "kind": {"sent": BLUE, "delivered": GREEN, "read": PURPLE, "failed": VERMILLION, "bad": ORANGE},
    "outcome": {"accepted": BLUE, "not_processed": ORANGE, "failed": VERMILLION, "unclear": YELLOW},
    "result": {"ok": BLUE, "verified": SKY, "bad_signature": VERMILLION, "busy": ORANGE, "refused": YELLOW, "store_down": PURPLE,
               "applied": BLUE, "duplicate": SKY, "parked": ORANGE, "dropped": VERMILLION, "stored": BLUE},
    "": {"accepted": BLUE, "used": BLUE, "allowed": ORANGE, "ceiling": DARK, "limit": DARK},
}

WIDTH = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Where runbooks are served: Grafana's own folder of public files (see compose.yaml).
RUNBOOKS = "/public/runbooks"

NAMES = {
    "overview": "Sluice: overview",
    "campaign": "Sluice: campaign",
    "lines": "Sluice: lines and providers",
    "webhooks": "Sluice: webhooks and statuses",
    "store": "Sluice: store and nodes",
    "loadtest": "Sluice: load test",
}


def runbook(name):
    return {"title": f"What to do: {name.replace('-', ' ')}", "url": f"{RUNBOOKS}/{name}.md", "targetBlank": True}


def board(name):
    """A link to another dashboard, keeping time and variables."""
    return {"title": NAMES[name], "url": f"/d/sluice-{name}?${{__url_time_range}}&${{__all_variables}}"}


def reference():
    return {"title": "All metrics", "url": f"{RUNBOOKS}/../metrics.md", "targetBlank": True}


def _targets(queries, instant):
    targets = []
    for at, (expr, legend) in enumerate(queries):
        target = {"refId": chr(ord("A") + at), "datasource": DATASOURCE, "expr": expr, "legendFormat": legend}
        target |= {"instant": True, "range": False} if instant else {"instant": False, "range": True}
        targets.append(target)
    return targets


def _fixed(name, colour, dashed=False):
    properties = [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}]
    if dashed:
        properties.append({"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}})
        properties.append({"id": "custom.fillOpacity", "value": 0})
        properties.append({"id": "custom.stacking", "value": {"mode": "none"}})
    return {"matcher": {"id": "byRegexp", "options": f"/^{name}$/"}, "properties": properties}


def _steps(good, warn, bad, falling):
    """Threshold steps and the words for them: colour never stands alone."""
    if warn is None and bad is None:
        return [{"color": good, "value": None}], ""
    named = [(ORANGE, "Orange", warn), (VERMILLION, "Red", bad)]
    named = [(colour, word, value) for colour, word, value in named if value is not None]
    if falling:
        steps = [{"color": named[-1][0], "value": None}]
        for (colour, _, _), (_, _, value) in zip(reversed([(good, "", 0)] + named[:-1]), reversed(named)):
            steps.append({"color": colour, "value": value})
        return steps, " ".join(f"{word} below {number(value)}." for _, word, value in named)
    steps = [{"color": good, "value": None}] + [{"color": c, "value": v} for c, _, v in named]
    return steps, " ".join(f"{word} from {number(value)}." for _, word, value in named)


def number(value):
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _panel(kind, title, description, unit, queries, links, *, w, h, instant=False, warn=None, bad=None, falling=False,
           mappings=None, decimals=None, minimum=0, maximum=None):
    steps, words = _steps(BLUE, warn, bad, falling)
    defaults = {
        "unit": unit,
        "color": {"mode": "palette-classic-by-name" if kind == "timeseries" else "thresholds"},
        "thresholds": {"mode": "absolute", "steps": steps},
        "mappings": mappings or [],
    }
    for key, value in (("decimals", decimals), ("min", minimum), ("max", maximum)):
        if value is not None:
            defaults[key] = value
    return {
        "type": kind, "title": title, "description": f"{description} {words}".strip(), "datasource": DATASOURCE,
        "gridPos": {"h": h, "w": w}, "links": links, "targets": _targets(queries, instant),
        "fieldConfig": {"defaults": defaults, "overrides": []}, "options": {},
    }


def graph(title, description, unit, queries, links, *, w=8, h=7, stack=False, dashed=(), warn=None, bad=None,
          falling=False, log=False, maximum=None):
    """Lines over time. `dashed`: legends that are limits, not measurements."""
    panel = _panel("timeseries", title, description, unit, queries, links, w=w, h=h, warn=warn, bad=bad,
                   falling=falling, maximum=maximum, minimum=None if log else 0)
    custom = {
        "drawStyle": "line", "lineWidth": 2, "fillOpacity": 25 if stack else 6, "showPoints": "never",
        "spanNulls": False, "stacking": {"mode": "normal" if stack else "none"},
        "scaleDistribution": {"type": "log", "log": 10} if log else {"type": "linear"},
        "thresholdsStyle": {"mode": "dashed" if (warn is not None or bad is not None) else "off"},
    }
    panel["fieldConfig"]["defaults"]["custom"] = custom
    overrides, turn = [], 0
    for _, legend in queries:
        if legend.startswith("{{"):
            overrides += [_fixed(word, colour) for word, colour in COLOURS.get(legend.strip("{}"), {}).items()]
            continue
        if "{{" in legend:
            continue
        colour = COLOURS[""].get(legend) or PALETTE[turn % len(PALETTE)]
        turn += legend not in COLOURS[""]
        overrides.append(_fixed(legend, colour, legend in dashed))
    panel["fieldConfig"]["overrides"] = overrides
    panel["options"] = {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"], "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel


def stat(title, description, unit, expr, links, *, w=4, h=4, legend="", warn=None, bad=None, falling=False,
         words=None, decimals=None, name=False, spark=True):
    """One number. `words`: {value: text}, so that a state is read, not guessed from a colour."""
    mappings = []
    if words:
        mappings = [{"type": "value", "options": {str(v): {"text": t, "index": i} for i, (v, t) in enumerate(words.items())}}]
    panel = _panel("stat", title, description, unit, [(expr, legend)], links, w=w, h=h, warn=warn, bad=bad,
                   falling=falling, mappings=mappings, decimals=decimals, minimum=None, instant=name)
    panel["options"] = {
        "colorMode": "background" if (warn is not None or bad is not None) else "value",
        "graphMode": "area" if spark and not name else "none", "justifyMode": "auto",
        "textMode": "name" if name else "auto", "wideLayout": True,
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return panel


def states(title, description, queries, links, *, w=24, h=7, words=None):
    """A band for each series, with words for its values."""
    words = words or {0: "no", 1: "yes"}
    panel = _panel("state-timeline", title, description, "none", queries, links, w=w, h=h, warn=1)
    options = {str(v): {"text": t, "index": i, "color": BLUE if v == 0 else ORANGE} for i, (v, t) in enumerate(words.items())}
    panel["fieldConfig"]["defaults"]["mappings"] = [{"type": "value", "options": options}]
    panel["options"] = {"mergeValues": True, "showValue": "auto", "rowHeight": 0.8, "alignValue": "left",
                        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
                        "tooltip": {"mode": "single"}}
    return panel


def table(title, description, unit, expr, links, *, w=12, h=8, hide=()):
    """The newest value of many series, the largest first."""
    panel = _panel("table", title, description, unit, [(expr, "")], links, w=w, h=h, instant=True)
    panel["targets"][0]["format"] = "table"
    excluded = {name: True for name in ("Time", "__name__", "job", *hide)}
    panel["transformations"] = [
        {"id": "organize", "options": {"excludeByName": excluded, "renameByName": {"Value": title}}},
        {"id": "sortBy", "options": {"sort": [{"field": title, "desc": True}]}},
    ]
    panel["options"] = {"showHeader": True, "cellHeight": "sm"}
    return panel


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "panels": []}


def variable(name, label, metric, description, *, multi=True, selector='instance=~"$instance"'):
    inner = f"{metric}{{{selector}}}" if selector else metric
    query = f"label_values({inner}, {name})"
    all_of_them = {"selected": True, "text": ["All"], "value": ["$__all"]}
    return {
        "type": "query", "name": name, "label": label, "description": description, "datasource": DATASOURCE,
        "definition": query, "query": {"query": query, "refId": f"variable-{name}"}, "refresh": 2, "sort": 3,
        "multi": multi, "includeAll": multi, "allValue": ".*" if multi else None,
        "current": all_of_them if multi else {},
    }


INSTANCE = variable("instance", "Node", "sluice_build_info", "The server or servers to look at.", selector="")


def _annotations(marks_runs):
    restarts = {
        "name": "Server starts", "enable": True, "iconColor": ORANGE, "datasource": DATASOURCE,
        "expr": 'process_start_time_seconds{instance=~"$instance",job="sluice"} * 1000', "useValueForTime": "on",
        "titleFormat": "start of {{instance}}", "step": "60s",
    }
    alerts = {
        "name": "Alerts", "enable": True, "iconColor": VERMILLION, "datasource": DATASOURCE,
        "expr": 'ALERTS{alertname=~"Sluice.+",alertstate="firing"}', "titleFormat": "{{alertname}}",
        "textFormat": "{{instance}} {{line}} {{campaign}}", "step": "60s",
    }
    runs = {
        "name": "Load test runs", "enable": True, "iconColor": BLUE,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "target": {"type": "tags", "tags": ["sluice-loadtest"], "matchAny": False, "limit": 100},
    }
    return {"list": [restarts, alerts] + ([runs] if marks_runs else [])}


def _place(panels):
    """Left to right, top to bottom; a row begins a new line."""
    x = y = height = 0
    for number_, panel in enumerate(panels, start=1):
        panel["id"] = number_
        if panel["type"] == "row":
            y, x, height = y + height, 0, 0
            panel["gridPos"] = {"h": 1, "w": WIDTH, "x": 0, "y": y}
            y += 1
            continue
        grid = panel["gridPos"]
        if x + grid["w"] > WIDTH:
            x, y, height = 0, y + height, 0
        grid |= {"x": x, "y": y}
        x, height = x + grid["w"], max(height, grid["h"])
    return panels


def dashboard(name, description, panels, variables=(), *, refresh="10s", since="now-1h", marks_runs=False):
    links = [
        {"type": "link", "title": NAMES[other].removeprefix("Sluice: "), "url": f"/d/sluice-{other}",
         "keepTime": True, "includeVars": True, "targetBlank": False, "icon": "dashboard", "tooltip": NAMES[other],
         "asDropdown": False, "tags": []}
        for other in NAMES if other != name
    ]
    datasource = {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus",
                  "description": "Where the metrics are.", "refresh": 1, "current": {}}
    return {
        "uid": f"sluice-{name}", "title": NAMES[name], "description": description, "tags": ["sluice"],
        "schemaVersion": 39, "version": 1, "editable": True, "graphTooltip": 1, "timezone": "browser",
        "refresh": refresh, "time": {"from": since, "to": "now"}, "links": links,
        "templating": {"list": [datasource, INSTANCE, *variables]}, "annotations": _annotations(marks_runs),
        "panels": _place(panels),
    }


def by_instance(metric, *matchers):
    inside = ",".join(['instance=~"$instance"', *matchers])
    return f"{metric}{{{inside}}}"


def rate(metric, *matchers):
    return f"rate({by_instance(metric, *matchers)}[$__rate_interval])"


def quantile(q, metric, *matchers, by=()):
    groups = ",".join(("le", *by))
    return f"histogram_quantile({q}, sum by ({groups}) ({rate(metric + '_bucket', *matchers)}))"


def eq(label, value):
    """A matcher, for use inside f-strings: eq("outcome=", "accepted")."""
    return f'{label}"{value}"'
