"""What can be checked by reading alone."""

import re
import subprocess
import tempfile
from pathlib import Path

import yaml

import kit
from composed import compose_is_whole
from queries import HERE, dashboards, metric_names, of_dashboards, of_rules, panels, rules

RUNBOOKS = HERE / "runbooks"
# Troubles that users report, which no single alert is about; index leads to all.
TROUBLES = {"ledger-lost", "index", "counts-frozen", "campaign-does-not-send", "statuses-stuck-at-sent", "template-rejected", "account-held"}
SUFFIXES = ("_bucket", "_sum", "_count")
# Names that Prometheus itself makes.
OF_PROMETHEUS = {"ALERTS", "up"}
COLOURS = set(kit.PALETTE) | {kit.DARK, kit.DARKER}
# Grafana shows an unit that it does not know as plain text beside the number.
UNITS = {"none", "short", "s", "d", "dtdurations", "bytes", "Bps", "percentunit", "mps", "cps", "cpm", "reqps", "ops"}
SECTIONS = ["How it looks", "Check", "Do", "Wake"]


def kebab(alert):
    return re.sub(r"(?<!^)(?=[A-Z])", "-", alert.removeprefix("Sluice")).lower()


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, **more)
    return [] if done.returncode == 0 else [f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}"]


def generated():
    return run(HERE / "build", "--check")


def promtool():
    """Rules, their unit tests, the sample configuration, and every query of every panel as a rule."""
    folder = HERE / "prometheus"
    problems = run("promtool", "check", "rules", "recording.yml", "alerts.yml", cwd=folder)
    problems += run("promtool", "check", "config", "prometheus.yml", cwd=folder)
    problems += run("promtool", "test", "rules", *sorted(p.name for p in (folder / "tests").glob("*.yml")), cwd=folder / "tests")
    records = [{"record": "panel:query", "expr": query.expr, "labels": {"n": str(n)}} for n, query in enumerate(of_dashboards())]
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "panels.yml"
        file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": records}]}))
        problems += run("promtool", "check", "rules", file)
    return problems


def every_panel_is_whole():
    problems, uids, names = [], set(), {name for name, _ in dashboards()}
    if names != set(kit.NAMES):
        problems.append(f"dashboards are {sorted(names)}, not {sorted(kit.NAMES)}")
    for name, dashboard in dashboards():
        say = lambda panel, text: problems.append(f"{name}: {panel.get('title', '?')}: {text}")
        if dashboard["uid"] in uids or not dashboard.get("description"):
            problems.append(f"{name}: its uid is taken, or it has no description")
        uids.add(dashboard["uid"])
        taken, titles = set(), set()
        for panel in panels(dashboard):
            if len(panel.get("description", "")) < 20:
                say(panel, "no description for the person on call")
            if not panel.get("links"):
                say(panel, "no link to what to do")
            unit = panel["fieldConfig"]["defaults"].get("unit")
            if unit not in UNITS:
                say(panel, f"its unit is {unit}: take one of {sorted(UNITS)}")
            if not panel.get("targets"):
                say(panel, "no query")
            if panel["title"] in titles:
                say(panel, "its title is taken")
            titles.add(panel["title"])
            problems += [f"{name}: {panel['title']}: {text}" for text in links(panel) + thresholds(panel)]
            grid = panel["gridPos"]
            for x in range(grid["x"], grid["x"] + grid["w"]):
                for y in range(grid["y"], grid["y"] + grid["h"]):
                    if (x, y) in taken or x >= kit.WIDTH:
                        say(panel, f"overlaps another panel, or leaves the screen, at {x}, {y}")
                    taken.add((x, y))
        for colour in re.findall(r"#[0-9a-fA-F]{6}\b|(?<=\"color\": \")[a-z-]+(?=\")", (HERE / "grafana" / f"{name}.json").read_text()):
            if colour not in COLOURS:
                problems.append(f"{name}: the colour {colour} is not of the palette")
    return sorted(set(problems))


def links(panel):
    problems = []
    for link in panel["links"]:
        url = link["url"]
        if url.startswith(f"{kit.RUNBOOKS}/"):
            file = url.removeprefix(f"{kit.RUNBOOKS}/")
            if not (RUNBOOKS / file).is_file():
                problems.append(f"links to {file}, which is not there")
        elif not re.match(rf"/d/sluice-({'|'.join(kit.NAMES)})\?", url):
            problems.append(f"links to {url}")
    return problems


def thresholds(panel):
    """A threshold's colour is told by words too."""
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    mapped = any(m["type"] == "value" for m in panel["fieldConfig"]["defaults"]["mappings"])
    said = panel["description"]
    for step in steps[1:]:
        value = kit.number(step["value"])
        if not mapped and f"from {value}." not in said and f"below {value}." not in said:
            return [f"the threshold {value} is told by its colour alone"]
    return []


def names_agree():
    """Code, reference page, dashboards, rules and tests speak of the same metrics."""
    # The page is what the code says: a test of the server's crate sees to it.
    known = set(re.findall(r"^## `(\w+)`$", (HERE / "metrics.md").read_text(), re.M))
    kinds = dict(re.findall(r"^## `(\w+)`\n\n(\w+),", (HERE / "metrics.md").read_text(), re.M))
    recorded = {rule["record"] for _, rule in rules() if "record" in rule}
    problems, used = [], set()
    for query in [*of_dashboards(), *of_rules()]:
        for name in metric_names(query.expr):
            base = next((name.removesuffix(s) for s in SUFFIXES if name.endswith(s) and kinds.get(name.removesuffix(s)) == "histogram"), name)
            used.add(base)
            if base not in known | recorded | OF_PROMETHEUS:
                problems.append(f"{query.where}: no metric is called {name}")
            elif kinds.get(name) == "histogram":
                problems.append(f"{query.where}: {name} is a histogram: ask for its _bucket, _sum or _count")
            elif kinds.get(name) == "counter" and ": variable " not in query.where and not re.search(rf"(rate|increase|resets)\(\s*{name}\b", query.expr):
                problems.append(f"{query.where}: {name} is a counter, and asked for without rate or increase")
    unused = known - used
    if unused:
        problems.append(f"on no dashboard and in no rule: {', '.join(sorted(unused))}")
    if recorded - used:
        problems.append(f"recorded and never asked for: {', '.join(sorted(recorded - used))}")
    for file in (HERE / "prometheus" / "tests").glob("*.yml"):
        for name in re.findall(r"series: '?\"?([\w:]+)", file.read_text()):
            base = next((name.removesuffix(s) for s in SUFFIXES if name.endswith(s) and kinds.get(name.removesuffix(s)) == "histogram"), name)
            if base not in known | recorded | OF_PROMETHEUS:
                problems.append(f"{file.name}: no metric is called {name}")
    for file in RUNBOOKS.glob("*.md"):
        for name in re.findall(r"`(sluice_\w+|process_\w+)", file.read_text()):
            if name not in known:
                problems.append(f"{file.name}: no metric is called {name}")
    return problems


def every_alert_is_tested():
    # An alert of two severities is two: each fires in a test, and each does not in one of the same alert.
    alerts = {(rule["alert"], rule["labels"]["severity"]) for _, rule in rules() if "alert" in rule}
    fires, silent, tested = set(), set(), set()
    for file in (HERE / "prometheus" / "tests").glob("*.yml"):
        for test in yaml.safe_load(file.read_text())["tests"]:
            for case in test.get("alert_rule_test", []):
                name = case["alertname"]
                here = {(name, one["exp_labels"]["severity"]) for one in case.get("exp_alerts") or []}
                fires |= here
                silent |= {alert for alert in alerts if alert[0] == name} - here
                tested.add(name)
    problems = [f"{name} ({severity}): no test in which it fires" for name, severity in sorted(alerts - fires)]
    problems += [f"{name} ({severity}): no test in which it does not fire" for name, severity in sorted(alerts - silent)]
    return problems + [f"{name} is tested and does not exist" for name in sorted(tested - {name for name, _ in alerts})]


def every_alert_has_its_runbook():
    problems, pages = [], {file.stem for file in RUNBOOKS.glob("*.md")}
    alerts = [(kebab(rule["alert"]), rule) for _, rule in rules() if "alert" in rule]
    known = {page for page, _ in alerts} | TROUBLES
    for page, rule in alerts:
        if not rule["annotations"]["runbook_url"].endswith(f"/runbooks/{page}.md"):
            problems.append(f"{rule['alert']}: its runbook_url does not end in {page}.md")
        if rule["labels"]["severity"] not in ("page", "ticket"):
            problems.append(f"{rule['alert']}: severity is page or ticket")
        for annotation in ("summary", "description"):
            if not rule["annotations"].get(annotation):
                problems.append(f"{rule['alert']}: no {annotation}")
    problems += [f"runbooks/{page}.md is missing" for page in known - pages]
    problems += [f"runbooks/{page}.md is of no alert and no known trouble" for page in pages - known]
    index = (RUNBOOKS / "index.md").read_text() if "index" in pages else ""
    for page in pages - {"index"}:
        text = (RUNBOOKS / f"{page}.md").read_text()
        headings = re.findall(r"^## (.+)$", text, re.M)
        if headings != SECTIONS:
            problems.append(f"runbooks/{page}.md: its sections are {headings}, not {SECTIONS}")
        if f"({page}.md)" not in index:
            problems.append(f"runbooks/index.md does not lead to {page}.md")
    for page in pages:
        for target in re.findall(r"\]\(([\w-]+)\.md\)", (RUNBOOKS / f"{page}.md").read_text()):
            if target not in pages:
                problems.append(f"runbooks/{page}.md links to {target}.md, which is not there")
    return problems


CHECKS = [generated, promtool, every_panel_is_whole, names_agree, every_alert_is_tested, every_alert_has_its_runbook, compose_is_whole]
