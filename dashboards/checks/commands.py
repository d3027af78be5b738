"""Every `sluice …` command in the runbooks, in the README here and in OPERATING.md exists, with its flags, in the binary at hand."""

import functools
import re
import shlex
import subprocess

from queries import HERE

GLOBAL = {"--server", "--token-file", "--ca-file", "--timeout", "--output", "-o", "--help", "-h"}


def written():
    """(file, command) for everything that reads like a command line of sluice."""
    for file in [*sorted((HERE / "runbooks").glob("*.md")), HERE.parent / "OPERATING.md", HERE / "README.md", HERE / "metrics.md", *sorted((HERE / "grafana").glob("*.json"))]:
        text = file.read_text()
        quoted = re.findall(r"[`']sluice ([^`'\n]+)[`']", text)
        lines = re.findall(r"^sluice (.+)$", text, re.M)
        for command in quoted + lines:
            yield file.name, command.split("#")[0].split("|")[0].strip()


def problems(binary):
    @functools.cache
    def help_of(*words):
        done = subprocess.run([binary, *words, "--help"], capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else None

    @functools.cache
    def subcommands(*words):
        text = help_of(*words) or ""
        block = re.search(r"^Commands:\n(.*?)\n\n", text, re.M | re.S)
        return set(re.findall(r"^  ([a-z-]+)", block[1], re.M)) if block else set()

    found = []
    for file, command in written():
        words, path = shlex.split(command.replace("…", "")), []
        while words and words[0] in subcommands(*path):
            path.append(words.pop(0))
        if not path or subcommands(*path):
            found.append(f"{file}: 'sluice {command}' is no command")
            continue
        text = help_of(*path)
        flags = set(re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)", text)) | GLOBAL
        for word in words:
            flag = word.split("=")[0]
            if flag.startswith("-") and flag not in flags:
                found.append(f"{file}: 'sluice {command}': {' '.join(path)} has no {flag}")
    return found
