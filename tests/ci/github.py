"""What of GitHub's runner the tests need: expressions, and the run steps of a composite action in order, by bash.

Written from GitHub's documents of expressions, metadata syntax and workflow commands. Steps that use another action are noted
and not run.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_TOKEN = re.compile(r"\s*('(?:[^']|'')*'|[A-Za-z_][\w-]*(?:\.[A-Za-z_*][\w-]*)*\(?|\d+|==|!=|&&|\|\||[!()])")
_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
FUNCTIONS = ("always", "failure", "success", "cancelled")


class WrongExpression(ValueError):
    """An expression that GitHub would refuse."""


def load(path: Path) -> Any:
    """Return a file as YAML 1.2 would have it: `on` is a name and no truth value."""
    return {"on" if key is True else key: value for key, value in yaml.safe_load(path.read_text()).items()}


@dataclass
class Expression:
    """Evaluates one expression. Names are looked up in `contexts`; unknown ones are empty, as GitHub has them."""

    text: str
    contexts: Mapping[str, Any] = field(default_factory=dict)
    failed: bool = False
    names: list[str] = field(default_factory=list)
    _tokens: list[str] = field(default_factory=list)

    def value(self) -> Any:
        """Return the value; raise WrongExpression."""
        place = 0
        while self.text[place:].strip():
            matched = _TOKEN.match(self.text, place)
            if matched is None:
                raise WrongExpression(f"{self.text!r} at {place}")
            self._tokens.append(matched[1])
            place = matched.end()
        found = self._either()
        if self._tokens:
            raise WrongExpression(f"{self.text!r}: {self._tokens[0]!r} is too much")
        return found

    def _next(self) -> str:
        if not self._tokens:
            raise WrongExpression(f"{self.text!r} ends too early")
        return self._tokens.pop(0)

    def _is(self, *words: str) -> bool:
        return bool(self._tokens) and self._tokens[0] in words

    def _either(self) -> Any:
        found = self._both()
        while self._is("||"):
            self._next()
            other = self._both()
            found = found or other
        return found

    def _both(self) -> Any:
        found = self._compared()
        while self._is("&&"):
            self._next()
            other = self._compared()
            found = found and other
        return found

    def _compared(self) -> Any:
        found = self._one()
        while self._is("==", "!="):
            equal = self._next() == "=="
            other = self._one()
            found = (str(found).lower() == str(other).lower()) == equal
        return found

    def _one(self) -> Any:
        token = self._next()
        if token == "!":
            return not self._one()
        if token == "(":
            found = self._either()
            if self._next() != ")":
                raise WrongExpression(f"{self.text!r}: a bracket is open")
            return found
        if token.startswith("'"):
            return token[1:-1].replace("''", "'")
        if token.endswith("("):
            return self._called(token[:-1])
        if token.isdigit() or token in ("true", "false"):
            return {"true": True, "false": False}.get(token, token)
        return self._named(token)

    def _called(self, name: str) -> bool:
        if name not in FUNCTIONS or self._next() != ")":
            raise WrongExpression(f"{self.text!r}: {name}() is not known here")
        return {"always": True, "failure": self.failed, "success": not self.failed, "cancelled": False}[name]

    def _named(self, token: str) -> Any:
        self.names.append(token)
        found: Any = self.contexts
        for part in token.split("."):
            found = found.get(part, "") if isinstance(found, Mapping) else ""
        return found


def expressions(value: Any) -> Iterator[str]:
    """Yield every expression in a document."""
    if isinstance(value, str):
        yield from _EXPRESSION.findall(value)
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from expressions(one)
    elif isinstance(value, list):
        for one in value:
            yield from expressions(one)


def names(value: Any) -> set[str]:
    """Return every name that the expressions of a document use; raise WrongExpression for one that is none."""
    found: set[str] = set()
    for text in expressions(value):
        expression = Expression(text)
        expression.value()
        found |= set(expression.names)
    return found


def filled(text: Any, contexts: Mapping[str, Any], failed: bool = False) -> str:
    """Return a text with its expressions evaluated."""

    def one(match: re.Match[str]) -> str:
        found = Expression(match[1], contexts, failed).value()
        return {True: "true", False: "false"}[found] if isinstance(found, bool) else str(found)

    return _EXPRESSION.sub(one, str(text))


@dataclass
class Ended:
    """How a composite action ended: its outputs, the steps that ran, all that was printed, and the summary."""

    failed: bool
    outputs: dict[str, str]
    ran: list[str]
    printed: str
    summary: str


def run_action(
    action: Mapping[str, Any],
    inputs: Mapping[str, str],
    *,
    workspace: Path,
    temp: Path,
    env: Mapping[str, str],
    action_path: Path,
    without: tuple[str, ...] = (),
    timeout_s: float = 300.0,
) -> Ended:
    """Run the steps of a composite action in order as a runner would; those of the ids in `without` do nothing."""
    defaults = {name: str(one.get("default", "")) for name, one in action["inputs"].items()}
    unknown = set(inputs) - set(defaults)
    assert not unknown, f"no such inputs: {unknown}"
    steps: dict[str, Any] = {}
    contexts = {"inputs": {**defaults, **inputs}, "steps": steps, "github": {"action_path": str(action_path)}}
    summary = temp / "summary.md"
    summary.touch()
    failed, ran, printed = False, [], ""
    for step in action["runs"]["steps"]:
        wanted = Expression(_bare(step.get("if", "success()")), contexts, failed)
        value = wanted.value()
        if not value or (failed and not re.search(r"\b(always|failure)\(\)", str(step.get("if", "")))):
            continue
        ran.append(step["name"])
        if "uses" in step or step.get("id") in without:
            continue
        code, outputs, text = _run(step, contexts, summary, workspace, temp, env, timeout_s)
        printed += text
        failed = failed or code != 0
        if "id" in step:
            steps[step["id"]] = {"outputs": outputs}
    outputs = {name: filled(one["value"], contexts, failed) for name, one in action["outputs"].items()}
    return Ended(failed, outputs, ran, printed, summary.read_text())


def script_of(step: Mapping[str, Any], temp: Path) -> list[str]:
    """Return the command that a runner makes of a step whose shell is bash."""
    assert step["shell"] == "bash"
    with tempfile.NamedTemporaryFile("w", dir=temp, suffix=".sh", delete=False) as file:
        file.write(step["run"])
    return ["bash", "--noprofile", "--norc", "-eo", "pipefail", file.name]


def _run(
    step: Mapping[str, Any],
    contexts: Mapping[str, Any],
    summary: Path,
    workspace: Path,
    temp: Path,
    env: Mapping[str, str],
    timeout_s: float,
) -> tuple[int, dict[str, str], str]:
    with tempfile.NamedTemporaryFile(dir=temp, delete=False) as output:
        pass
    own = {name: filled(value, contexts) for name, value in step.get("env", {}).items()}
    files = {"GITHUB_OUTPUT": output.name, "GITHUB_STEP_SUMMARY": str(summary), "RUNNER_TEMP": str(temp)}
    folder = workspace / filled(step.get("working-directory", "."), contexts)
    done = subprocess.run(
        script_of(step, temp),
        cwd=folder,
        env={**os.environ, **env, **files, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return done.returncode, outputs_of(Path(output.name)), done.stdout


def outputs_of(file: Path) -> dict[str, str]:
    """Return what a step wrote into its file of outputs."""
    pairs = (line.partition("=") for line in file.read_text().splitlines())
    return {name: value for name, equals, value in pairs if equals}


def _bare(condition: str) -> str:
    return condition.strip().removeprefix("${{").removesuffix("}}")
