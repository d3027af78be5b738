"""What compose.yaml starts: that its files are there, and that the programs take their settings. Docker itself is not asked."""

import os
import re
import subprocess

import yaml

from queries import HERE

ROOT = HERE.parent


def services():
    whole = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return whole, whole["services"]


def mounts(service):
    """(file or folder here, where it is in the container) of what is mounted from this repository."""
    for volume in service.get("volumes", []):
        source, inside = volume.split(":")[:2]
        if source.startswith("."):
            yield ROOT / source, inside


def here(service, inside):
    """The file of this repository that stands at a path of the container."""
    for source, mounted in mounts(service):
        if inside == mounted or inside.startswith(mounted + "/"):
            return source / inside[len(mounted):].lstrip("/") if inside != mounted else source
    return None


def compose_is_whole():
    """Everything that is mounted, named or waited for is there."""
    whole, all_of_them = services()
    problems = []
    for name, service in all_of_them.items():
        say = lambda text: problems.append(f"compose.yaml: {name}: {text}")
        if set(service.get("profiles", [])) - {"cluster", "watch"} or not service.get("profiles"):
            say("is in none of the profiles, or in another")
        if "image" not in service:
            say("has no image")
        if service.get("build") and not (ROOT / service["build"] / "Dockerfile").is_file():
            say("there is no Dockerfile")
        for source, _ in mounts(service):
            if not source.exists():
                say(f"{source.relative_to(ROOT)} is mounted and not there")
        for volume in service.get("volumes", []):
            if not volume.startswith(".") and volume.split(":")[0] not in whole["volumes"]:
                say(f"volume {volume} is not declared")
        others = list(service.get("depends_on", {})) + re.findall(r"^service:(.+)$", service.get("network_mode", ""))
        for other in others:
            if other not in all_of_them or set(all_of_them[other]["profiles"]) != set(service["profiles"]):
                say(f"waits for {other}, which is not there in its profile")
        for argument in service.get("command", []):
            found = re.search(r"(?:--config\.file=|^)(/etc/\S+)$", str(argument))
            file = found and here(service, found[1])
            if found and not (file and file.is_file()):
                say(f"{found[1]} is not mounted")
            elif found and file.suffix == ".yml":
                done = subprocess.run(["promtool", "check", "config", file.name], cwd=file.parent, capture_output=True, text=True)
                if done.returncode:
                    say(done.stdout + done.stderr)
                wanted = {target.split(":")[0] for job in yaml.safe_load(file.read_text())["scrape_configs"] for group in job["static_configs"] for target in group["targets"]}
                if service["profiles"] == ["cluster"] and not wanted <= all_of_them.keys():
                    say(f"{file.name} asks {wanted}")
    return problems


def taken_by(sluice):
    """What `sluice config check` says of each service that starts it, with that service's own environment."""
    problems = []
    for name, service in services()[1].items():
        if service["image"] != "sluice":
            continue
        command = service["command"]
        file = here(service, command[command.index("--config") + 1])
        kept = {key: value for key, value in os.environ.items() if not key.startswith("SLUICE")}
        done = subprocess.run([sluice, "config", "check", "--config", file], capture_output=True, text=True, env=kept | service["environment"])
        if done.returncode:
            problems.append(f"compose.yaml: {name}: {done.stdout}{done.stderr}")
        contacts = yaml.safe_load(re.search(r"contact_points = (\[.*\])", file.read_text())[1])
        if not {contact.split(":")[0] for contact in contacts} <= services()[1].keys():
            problems.append(f"compose.yaml: {name}: {contacts} are not its services")
    return problems
