"""A real run: simulator, server, campaigns on both providers, a real Prometheus that scrapes it. Then every query is asked."""

import base64
import contextlib
import hashlib
import hmac
import json
import math
import os
import re
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

from queries import HERE, of_dashboards, of_rules

ROOT = HERE.parent
SECRET = "only-for-runs-on-loopback-0123456789"
SAMPLES_SECONDS = 30
# Everything with a wait in it gives up after this.
PATIENCE = 60

# Queries that may be without data in a run in which nothing is wrong: by what stands in their name, and why.
MAY_BE_EMPTY = [
    (r"^alerts\.yml: ", "an alert's condition is met only when something is wrong; its unit tests show that it can be"),
    (r"annotation Alerts", "no alert fires"),
    (r"^instance_campaign_binding|sluice_campaign_bound:ratio15m", "no limit binds that nobody asked for"),
]
# The run has one server, alone. These are there only where nodes share a ledger: the stories of nodes look for them (loadtest/tests/stories/nodes.rs).
AMONG_NODES = re.compile(r"\bsluice_(node_|forwarded_|late_facts_)")
SIMULATOR = """
listen = "127.0.0.1:0"
control = "127.0.0.1:0"
seed = 7
[[meta]]
account = "meta-main"
token = "simulated-meta-access-token"
app_secret = "simulated-meta-app-secret"
waba_id = "100000000000001"
rate_http = 400
lines = [{ id = "200000000000001", number = "+15550200001", ceiling = 60 }, { id = "200000000000002", number = "+15550200002", ceiling = 20 }]
[[meta.templates]]
name = "spring_sale"
language = "en_US"
header = "none"
body = 2
[[twilio]]
account = "twilio-main"
sid = "AC00000000000000000000000000000001"
auth_token = "0123456789abcdef0123456789abcdef"
lines = [{ id = "+15550100001", ceiling = 20 }]
[plan]
failed = 0.03
delivered = 0.95
read = 0.6
sent_ms = [20, 200]
delivered_ms = [50, 800]
read_ms = [200, 3000]
unknown = 0.02
forged = 0.02
"""

SERVER = """
data_dir = "data"
public_base_url = "https://hooks.example.test"
[listen]
grpc = "127.0.0.1:0"
webhooks = "127.0.0.1:0"
ops = "127.0.0.1:0"
[tls.grpc]
cert_file = "{root}/api/testdata/tls-cert.pem"
key_file = "{root}/api/testdata/tls-key.pem"
[auth]
issuer = "sluice-checks"
audience = "sluice"
development_secret_file = "development.secret"
[metrics]
drift_pause_s = 1
[accounts.meta-main]
provider = "meta"
tenants = ["acme"]
base_url = "{api}"
access_token_file = "meta.token"
app_secret_file = "meta.secret"
verify_token_file = "meta.verify"
token_expires = "2999-12-31"
[accounts.twilio-main]
provider = "twilio"
tenants = ["acme"]
base_url = "{api}"
account_sid = "AC00000000000000000000000000000001"
auth_token_file = "twilio.token"
"""


def token():
    part = lambda value: base64.urlsafe_b64encode(value).rstrip(b"=")
    now = int(time.time())
    claims = {"tenant": "acme", "sub": "checks", "scope": "read send admin", "aud": "sluice", "iss": "sluice-checks",
              "iat": now, "nbf": now - 5, "exp": now + 3600}
    signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    return (signed + b"." + part(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest())).decode()


def fetch(url, data=None):
    body = json.dumps(data).encode() if data is not None else None
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=PATIENCE) as answer:
        return answer.read().decode()


def wait_for(what, condition, patience=PATIENCE):
    until = time.monotonic() + patience
    while True:
        with contextlib.suppress(OSError, ValueError, KeyError):
            if found := condition():
                return found
        if time.monotonic() > until:
            raise RuntimeError(f"{what}: not within {patience} s")
        time.sleep(0.2)


def last_words(scratch):
    """The ends of the logs, for whoever has to find out why a run did not come about."""
    logs = [(file.name, file.read_text(errors="replace").splitlines()[-15:]) for file in sorted(Path(scratch).glob("*.log"))]
    return [f"{name}: {line}" for name, lines in logs for line in lines]


class Processes(contextlib.ExitStack):
    """Processes that end with the block."""

    def begin(self, *command, log, **more):
        process = self.enter_context(subprocess.Popen(command, stderr=open(log, "w"), text=True, **more))
        self.callback(process.wait)
        self.callback(process.terminate)
        return process


class Run:
    """A run under way: `page` is the newest metrics page, `ask` asks Prometheus."""

    def __init__(self, binaries, scratch, processes):
        self.binaries, self.scratch, self.processes = Path(binaries), Path(scratch), processes
        self.began = time.time()

    def cli(self, *words, bearer=None):
        command = [self.binaries / "sluice", "--server", f"https://{self.grpc}", "--ca-file", ROOT / "api/testdata/tls-ca.pem", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.scratch, env=os.environ | {"SLUICE_TOKEN": bearer or token()}, timeout=PATIENCE)
        if done.returncode != 0:
            raise RuntimeError(f"sluice {' '.join(map(str, words))}: {done.stdout}{done.stderr}")
        return done.stdout

    def start_programs(self):
        folder = self.scratch
        (folder / "simulator.toml").write_text(SIMULATOR)
        simulator = self.processes.begin(self.binaries / "provider-sim", "--config", folder / "simulator.toml", "--until-stdin-closes",
                                         log=folder / "simulator.log", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.simulator = json.loads(simulator.stdout.readline())
        for name, secret in {"development.secret": SECRET, "meta.token": "simulated-meta-access-token", "meta.secret": "simulated-meta-app-secret",
                             "meta.verify": "simulated-verify-token", "twilio.token": "0123456789abcdef0123456789abcdef"}.items():
            (folder / name).write_text(secret)
        (folder / "sluice.toml").write_text(SERVER.format(root=ROOT, api=f"http://{self.simulator['api']}"))
        server = self.processes.begin(self.binaries / "sluice", "serve", "--config", folder / "sluice.toml", "--print-addresses",
                                      log=folder / "server.log", stdout=subprocess.PIPE)
        addresses = json.loads(server.stdout.readline())
        self.grpc, self.ops = addresses["grpc"], f"http://{addresses['ops']}"
        self.control("/targets", {"meta-main": f"http://{addresses['webhooks']}/webhooks/meta/meta-main", "twilio-main": addresses["webhooks"]})
        wait_for("the server is ready", lambda: fetch(f"{self.ops}/readyz").startswith("ready"))

    def control(self, path, body):
        return fetch(f"http://{self.simulator['control']}{path}", body)

    def start_prometheus(self):
        folder = self.scratch / "prometheus"
        folder.mkdir()
        for file in ("recording.yml", "alerts.yml"):
            # As often as is scraped: a run is short.
            (folder / file).write_text((HERE / "prometheus" / file).read_text().replace("interval: 15s", "interval: 1s"))
        target = self.ops.removeprefix("http://")
        (folder / "prometheus.yml").write_text(yaml.safe_dump({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": ["recording.yml", "alerts.yml"],
            "scrape_configs": [{"job_name": "sluice", "static_configs": [{"targets": [target]}]}],
        }))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.processes.begin("prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                             f"--web.listen-address={address}", log=self.scratch / "prometheus.log", stdout=subprocess.DEVNULL)
        self.prometheus = f"http://{address}"
        wait_for("Prometheus has scraped", lambda: self.ask("sluice_build_info"))

    def start_campaigns(self):
        self.cli("lines", "create", "line-1", "--account", "meta-main", "--provider", "meta", "--phone-number-id", "200000000000001", "--ceiling", "60", "--pool", "meta")
        # A ceiling above what the provider grants: it gets slowed.
        self.cli("lines", "create", "line-2", "--account", "meta-main", "--provider", "meta", "--phone-number-id", "200000000000002", "--ceiling", "40", "--pool", "meta")
        self.cli("lines", "create", "line-3", "--account", "twilio-main", "--provider", "twilio_sms", "--from-number", "+15550100001", "--ceiling", "20", "--pool", "sms")
        self.cli("templates", "put", "spring", "--kind", "whatsapp", "--name", "spring_sale", "--language", "en_US", "--body", "Hello {{1}}, {{2}} off")
        self.cli("templates", "put", "text", "--kind", "text", "--name", "text", "--language", "en_US", "--body", "Hello {{1}}, {{2}} off")
        size = {"meta-a": 40 * SAMPLES_SECONDS, "meta-b": 40 * SAMPLES_SECONDS, "sms-a": 20 * SAMPLES_SECONDS}
        for campaign, count in size.items():
            rows = [f"+9995550{number:06},Ada,{number % 50} %" for number in range(count)]
            (self.scratch / f"{campaign}.csv").write_text("\n".join(["phone,body_param_1,body_param_2", *rows, "+999,short,1"]) + "\n")
            template, pool = ("text", "sms") if campaign.startswith("sms") else ("spring", "meta")
            limit = ["--rate", "15/s"] if campaign == "meta-b" else []
            self.cli("campaigns", "create", campaign, "--template", template, "--pool", pool, *limit)
            # Rows that cannot be sent make the command say so by its exit code.
            with contextlib.suppress(RuntimeError):
                self.cli("import", campaign, f"{campaign}.csv")
            self.cli("start", campaign)

    def watch(self):
        """Somebody watches, and somebody else comes with a token that is not believed."""
        command = [self.binaries / "sluice", "--server", f"https://{self.grpc}", "--ca-file", ROOT / "api/testdata/tls-ca.pem", "watch", "meta-a"]
        self.processes.begin(*command, log=self.scratch / "watch.log", stdout=subprocess.DEVNULL, env=os.environ | {"SLUICE_TOKEN": token()})
        for _ in range(3):
            with contextlib.suppress(RuntimeError):
                self.cli("info", bearer="not.a.token")
            time.sleep(1.5)

    def trouble(self):
        """For a few seconds: answers that are unclear, turned down, or about single recipients."""
        rule = lambda **more: {"for_ms": 3000, **more}
        self.cli("lines", "hold", "line-3", "--reason", "to see it on the dashboards")
        self.control("/faults", {"rules": [rule(kind="error", share=0.05, http=502, body="html"), rule(kind="error", share=0.05, http=400, code=131026)]})

    def ask(self, expr, *, whole_run=False):
        """Values that are numbers."""
        now = time.time()
        if whole_run:
            params = {"query": expr, "start": self.began, "end": now, "step": 1}
            answer = json.loads(fetch(f"{self.prometheus}/api/v1/query_range?{urllib.parse.urlencode(params)}"))
        else:
            answer = json.loads(fetch(f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expr})}"))
        result = answer["data"]["result"]
        if answer["data"]["resultType"] == "scalar":
            return [float(result[1])]
        values = [float(value) for series in result for _, value in (series.get("values") or [series["value"]])]
        return [value for value in values if not math.isnan(value)]


def page_problems(page):
    """The page against the conventions, and against the reference page."""
    problems = []
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True)
    # The names that every client library gives a process are not ours to choose.
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("sluice") or "error" in line.lower()]
    problems += [f"promtool check metrics: {line}" for line in complaints]
    reference = re.findall(r"^## `(\w+)`\n\n(\w+), .*?, (no labels|by .+)$", (HERE / "metrics.md").read_text(), re.M)
    described = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in reference}
    types = dict(re.findall(r"^# TYPE (\S+) (\w+)$", page, re.M))
    for name in (name for name in described.keys() - types.keys() if not AMONG_NODES.match(name)):
        problems.append(f"the page of a real run lacks {name}")
    for name, kind in types.items():
        if name not in described:
            problems.append(f"the page has {name}, which the reference lacks")
        elif described[name][0] != kind:
            problems.append(f"{name} is a {kind} on the page and a {described[name][0]} in the reference")
    for name, labels in set(re.findall(r"^(\w+)(\{[^}]*\})? ", page, re.M)):
        base = next((name.removesuffix(s) for s in ("_bucket", "_sum", "_count") if types.get(name.removesuffix(s)) == "histogram"), name)
        found = set(re.findall(r'(\w+)="', labels)) - {"le"}
        if base in described and not found <= described[base][1]:
            problems.append(f"{name} has the labels {sorted(found)}, the reference {sorted(described[base][1])}")
    if re.search(r'="[^"]*\+?\d{9,}', page):
        problems.append("a label holds what looks like a phone number")
    return sorted(set(problems))


def query_problems(run):
    problems = []
    for query in [*of_dashboards(), *of_rules()]:
        try:
            values = run.ask(query.expr, whole_run=True)
        except OSError as error:
            problems.append(f"{query.where}: {error}: {query.expr}")
            continue
        excuse = next((why for pattern, why in MAY_BE_EMPTY if re.search(pattern, query.where)), None)
        if not values and not excuse and not AMONG_NODES.search(query.expr):
            problems.append(f"{query.where}: no data: {query.expr}")
    return problems


def check(binaries, keep=None):
    """All problems of a real run. `keep`: called with the run at its end, before it is taken down."""
    with tempfile.TemporaryDirectory(prefix="sluice-checks-") as scratch, Processes() as processes:
        run = Run(binaries, scratch, processes)
        try:
            run.start_programs()
            run.start_prometheus()
            run.start_campaigns()
            run.watch()
            time.sleep(SAMPLES_SECONDS / 3)
            run.trouble()
            time.sleep(SAMPLES_SECONDS / 6)
            held = fetch(f"{run.ops}/metrics")
            run.cli("lines", "release", "line-3")
            time.sleep(SAMPLES_SECONDS / 2)
        except (OSError, RuntimeError, ValueError) as error:
            return [str(error), *last_words(scratch)]
        problems = [] if re.search(r'^sluice_line_held{line="\d+",kind="operator"} 1$', held, re.M) else ["a held line is not shown as held"]
        page = fetch(f"{run.ops}/metrics")
        problems += page_problems(page) + query_problems(run)
        if drift := [value for value in run.ask("sluice_tally_drift_messages", whole_run=True) if value]:
            problems.append(f"the tally drifted: {drift}")
        firing = f"{run.prometheus}/api/v1/alerts"
        for alert in json.loads(fetch(firing))["data"]["alerts"]:
            if alert["state"] == "firing":
                problems.append(f"{alert['labels']['alertname']} fires in a run in which nothing is wrong: {alert['annotations']['summary']}")
        if keep:
            keep(run)
        return problems
