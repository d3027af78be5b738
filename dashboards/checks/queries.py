"""Every query that dashboards and rules contain, as Prometheus can read it."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent.parent
# What Grafana puts in at the time of asking.
FILLED_IN = {"$__rate_interval": "15s", "$__interval": "5s", "$__range": "1h"}


@dataclass
class Query:
    where: str
    expr: str
    instant: bool = False
    links: list = field(default_factory=list)


def dashboards():
    """(name, dashboard) of every file in grafana/."""
    for file in sorted((HERE / "grafana").glob("*.json")):
        yield file.stem, json.loads(file.read_text())


def panels(dashboard):
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            yield panel
        yield from panel.get("panels", [])


def filled(expr, variables):
    for name, value in FILLED_IN.items():
        expr = expr.replace(name, value)
    for name in variables:
        expr = re.sub(rf"\$\{{{name}(:\w+)?\}}|\${name}\b", ".*", expr)
    if "$" in expr:
        raise ValueError(f"an unknown variable in: {expr}")
    return expr


def of_dashboards():
    for name, dashboard in dashboards():
        variables = [variable["name"] for variable in dashboard["templating"]["list"]]
        for panel in panels(dashboard):
            for target in panel["targets"]:
                where = f"{name}: {panel['title']} ({target['legendFormat'] or target['refId']})"
                yield Query(where, filled(target["expr"], variables), target["instant"])
        for annotation in dashboard["annotations"]["list"]:
            if "expr" in annotation:
                yield Query(f"{name}: annotation {annotation['name']}", filled(annotation["expr"], variables))
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                inner = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
                if not inner:
                    raise ValueError(f"{name}: variable {variable['name']} is no label_values(metric, label)")
                expr = f"count by ({inner[2]}) ({filled(inner[1], variables)})"
                yield Query(f"{name}: variable {variable['name']}", expr)


def rules():
    """Every rule as (file, rule)."""
    for file in ("recording.yml", "alerts.yml"):
        content = yaml.safe_load((HERE / "prometheus" / file).read_text())
        for group in content["groups"]:
            for rule in group["rules"]:
                yield file, rule


def of_rules():
    for file, rule in rules():
        yield Query(f"{file}: {rule.get('record') or rule.get('alert')}", rule["expr"])


def metric_names(expr):
    """Names of metrics in a query: words before a selector or a range that are neither functions nor labels."""
    bare = re.sub(r'"[^"]*"', '""', expr)
    bare = re.sub(r"\{[^}]*\}", "{}", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    words = re.findall(r"(?<![\w:$])([a-zA-Z_:][\w:]*)(?!\s*\()(?![\w:])", bare)
    keywords = {"and", "or", "unless", "bool", "offset", "le", "inf", "group_left", "group_right", "by", "on"}
    return {word for word in words if word.lower() not in keywords and len(word) > 2}
