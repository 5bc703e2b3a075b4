"""Every fenced block of the documents runs, or says why not; the words of the info string are in `markdown.py`."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.docs import markdown
from tests.docs.forks import Commands, Done
from tests.docs.markdown import ROOT, TESTED, Block

ADDRESS = "http://127.0.0.1:8321"  # the documents' service
BLOCKS = [block for document in markdown.documents() for block in markdown.blocks(document) if block.language in TESTED]
PYTHON = sorted({block.document for block in BLOCKS if block.language == "python" and "run" in block.words})
CONSOLE = [block for block in BLOCKS if block.language == "console" and block.reason is None]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_runs_or_says_why_not(block: Block) -> None:
    if block.reason is not None:
        assert len(block.reason.split()) >= 3, f"{block}: no-run needs a reason in quotation marks"
    elif block.language == "python":
        assert {"run", "example"} & set(block.words), f'{block}: say `run`, `example PATH` or `no-run "reason"`'
    else:
        assert _commands(block), f"{block}: it has no line that starts with `$ edgelut`; is it `sh`, or `text`?"


@pytest.mark.parametrize("document", PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_python_of_a_document_runs(
    document: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGELUT_HOME", str(home))
    for name in ("EDGELUT_DATABASE_URL", "EDGELUT_URL", "EDGELUT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    namespace: dict[str, Any] = {"__name__": "documentation"}
    for block in markdown.blocks(document):
        if block.language != "python" or "run" not in block.words:
            continue
        text = block.text
        if "service" in block.words:
            text = text.replace(ADDRESS, request.getfixturevalue("service"))
        lines = "\n" * block.line  # so that a traceback names the document's own line
        exec(compile(lines + text, str(document), "exec"), namespace)


@pytest.mark.parametrize("block", CONSOLE, ids=str)
def test_the_commands_of_a_block_end_as_they_should(
    block: Block, home: Path, commands: Commands, environment: dict[str, str], request: pytest.FixtureRequest
) -> None:
    live = request.getfixturevalue("service") if "service" in block.words else ADDRESS
    asked = [shlex.split(command.replace(ADDRESS, live)) for command in _commands(block)]
    for number, words in enumerate(asked):
        last = number == len(asked) - 1
        variables = {}
        while "=" in words[0]:
            name, _, variables[name] = words.pop(0).partition("=")
        if words[0] == "curl":
            _ask(block, words[1:], last)
            continue
        assert words[0] == "edgelut", f"{block}: only edgelut and curl are run here"
        done = commands.run(words[1:], environment | variables)
        expected = int(block.option("exit") or 0) if last else 0
        assert done.code == expected, f"{block}: {shlex.join(words)} ended with {done.code}\n{done.out}{done.err}"
        if last:
            _holds(block, done)


def _commands(block: Block) -> list[str]:
    """Return the commands of a block, lines that end in a backslash joined."""
    joined = re.sub(r"\\\n\s*", "", block.text)
    found = [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
    return [command for command in found if re.match(r"(\w+=\S+ )*(edgelut|curl)\b", command)]


def _holds(block: Block, done: Done) -> None:
    wanted = block.option("has")
    if wanted is not None:
        printed = " ".join((done.out + done.err).split())
        assert wanted in printed, f"{block}: {wanted!r} is not in what was printed:\n{done.out}{done.err}"


def _ask(block: Block, words: list[str], last: bool) -> None:
    """Do what curl would, for the few options that the documents use."""
    method, url, headers, body = "", "", {}, None
    rest = iter(words)
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(":")
            headers[name] = os.path.expandvars(value.strip())
        elif word in ("-d", "--data"):
            body = next(rest)
        elif not word.startswith("-"):
            url = word
    method = method or ("GET" if body is None else "POST")
    answer = httpx.request(method, url, headers=headers, content=body, timeout=30)
    expected = block.option("status") if last else None
    right = answer.status_code == int(expected) if expected else answer.is_success
    assert right, f"{block}: {method} {url} was answered {answer.status_code}: {answer.text}"
