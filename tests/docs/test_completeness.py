"""What the code offers is in the documents; each list is read from the code, so that what is new fails until it is described."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import typer

from api.app import create_app
from api.parameters import ACCEPTED
from api.problems import STATUS
from backends import registry
from db.engine import open_store
from db.schema import metadata
from edgelut import KINDS, cli, exits, presets
from edgelut.errors import BackendMissing
from edgelut.plan import Policy
from tests.docs import markdown
from tests.docs.markdown import ROOT

DOCS = ROOT / "docs"
CODE = (
    "client/src",
    "api",
    "backends",
    "db",
    "emulator",
    "jobs",
    "migrations",
    "profiler",
    "search",
    "supernet",
    "dashboard",
    "benchmarks",
)
FILES = ("Makefile", "docker-compose.yml", "Dockerfile", "alembic.ini", ".ci/run")
BACKENDS = [(axis, name) for axis in registry.AXES for name in registry.names(axis)]


@cache
def text(name: str) -> str:
    return (DOCS / name).read_text()


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its name, as `edgelut db upgrade`."""
    whole = typer.Typer()
    whole.registered_commands += cli.app.registered_commands
    with patch.object(cli, "app", whole):
        cli._add_commands()
    waiting = [("edgelut", typer.main.get_command(whole))]
    while waiting:
        name, command = waiting.pop()
        inside = getattr(command, "commands", {})
        waiting += [(f"{name} {word}", one) for word, one in inside.items()]
        if name != "edgelut":
            yield name, command


COMMANDS = dict(commands())


def test_the_commands_were_found() -> None:
    assert {"edgelut get", "edgelut profile", "edgelut serve", "edgelut db upgrade"} <= set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_its_section_with_every_option(name: str) -> None:
    section = markdown.section(DOCS / "cli.md", name)
    assert section is not None, f"docs/cli.md has no heading {name!r}"
    options = [option for one in COMMANDS[name].params for option in one.opts if option.startswith("--")]
    missing = [option for option in options if option != "--help" and not re.search(rf"{option}(?![\w-])", section)]
    assert not missing, f"docs/cli.md, {name}: {', '.join(missing)}"


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_is_named(name: str) -> None:
    assert f"`{name}`" in text("cli.md")


def test_every_exit_code_is_named() -> None:
    codes = {name: value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert len(codes) >= 8
    missing = [name for name, code in codes.items() if f"| {code} | `{name}` |" not in text("cli.md")]
    assert not missing


def test_every_endpoint_is_described(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path / 'empty.db'}", migrate=True) as store:
        paths = create_app(store).openapi()["paths"]
    endpoints = [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]
    assert len(endpoints) >= 13
    missing = [endpoint for endpoint in endpoints if f"`{endpoint}`" not in text("serving.md")]
    assert not missing


def test_every_query_parameter_is_described() -> None:
    missing = [name for name in ACCEPTED if f"`{name}`" not in text("serving.md")]
    assert not missing


def test_every_refusal_is_described() -> None:
    rows = [line for line in text("serving.md").splitlines() if line.startswith("| `")]
    missing = [
        name
        for name, (status, _) in STATUS.items()
        if not any(f"`{name}`" in row and str(status) in row for row in rows)
    ]
    assert not missing


def test_every_variable_is_described() -> None:
    sources = [file for folder in CODE for file in (ROOT / folder).rglob("*.py")] + [ROOT / name for name in FILES]
    used = set()
    for file in sources:
        content = file.read_text() if file.exists() else ""
        used |= set(re.findall(r"EDGELUT_[A-Z]+(?:_[A-Z]+)*", content))
        if file.suffix == ".yml":
            used |= set(re.findall(r"\$\{([A-Z_]+)", content))
    assert len(used) >= 8
    missing = sorted(name for name in used if f"| `{name}` |" not in text("settings.md"))
    assert not missing


@pytest.mark.parametrize(("axis", "name"), BACKENDS)
def test_every_backend_is_described(axis: registry.Axis, name: str) -> None:
    page = "exporting.md" if axis == "exporters" else "measuring.md"
    rows = [line for line in text(page).splitlines() if line.startswith(f"| `{name}` |")]
    assert rows, f"docs/{page} has no line of a table that starts with {name!r}"
    if axis != "exporters":
        return
    try:
        exporter = registry.load_exporter(name)
    except BackendMissing as error:
        pytest.skip(str(error))
    assert ", ".join(exporter.precisions) in rows[0]
    missing = [option for option, value in exporter.options.items() if f"`{option}={value}`" not in rows[0]]
    assert not missing


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_block_kind_has_its_parameters_with_their_defaults(name: str) -> None:
    (row,) = [line for line in text("client.md").splitlines() if line.startswith(f"| `{name}` |")]
    missing = [param for param, default in KINDS[name].params.items() if f"{param} ({default})" not in row]
    assert not missing


def test_every_benchmark_is_described() -> None:
    missing = [
        file.name for file in (ROOT / "benchmarks").glob("*.py") if f"`{file.name}`" not in text("benchmarks.md")
    ]
    assert not missing


def test_every_table_of_the_database_is_described() -> None:
    missing = [name for name in metadata.tables if f"`{name}`" not in text("storage.md")]
    assert not missing


def test_the_policy_is_described_with_its_values() -> None:
    rows = [line.replace(",", "") for line in text("measuring.md").splitlines() if line.startswith("| `")]
    missing = [
        one.name
        for one in fields(Policy)
        if not any(f"`{one.name}`" in row and f" {one.default}" in row for row in rows)
    ]
    assert not missing


def test_every_target_of_the_makefile_is_named_somewhere() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    everything = "\n".join(document.read_text() for document in markdown.documents())
    missing = [target for target in targets if target != "help" and f"make {target}" not in everything]
    assert not missing
