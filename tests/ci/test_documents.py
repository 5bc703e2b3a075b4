"""docs/ci.md has all that a configuration can say."""

from __future__ import annotations

import re

import pytest
import yaml

from edgelut.ci.config import FIELDS, JOB_FIELDS, Config
from edgelut.ci.document import parse
from edgelut.ci.result import EXIT_CODES
from tests.docs import markdown
from tests.fakes import ROOT

GUIDE = ROOT / "docs" / "ci.md"
ROWS = [line for line in GUIDE.read_text().splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("name", [*FIELDS, *JOB_FIELDS])
def test_every_field_is_described(name: str) -> None:
    assert any(f"`{name}`" in row.split("|")[1] for row in ROWS)


def test_defaults_are_those_of_the_code() -> None:
    said = {row.split("|")[1].strip(" `"): row.split("|")[-2].strip(" `") for row in ROWS}
    assert float(said["tolerance"]) == Config.__dataclass_fields__["tolerances"].default_factory().default  # type: ignore[misc]
    assert float(said["fdr"]) == 0.05 and said["confirm"] == "true" and said["timeout"] == "1h"


def test_every_exit_code_is_described() -> None:
    text = GUIDE.read_text()
    for outcome, code in EXIT_CODES.items():
        word = {"unclear": "could not tell"}.get(outcome, outcome)
        assert f"| {code} | {word} |" in text


def test_its_yaml_can_be_read() -> None:
    blocks = [block for block in markdown.blocks(GUIDE) if block.language == "yaml"]
    assert len(blocks) >= 2
    for block in blocks:
        assert isinstance(yaml.safe_load(block.text), dict)
    tolerances = [block for block in blocks if block.text.startswith("tolerance:")]
    parse(tolerances[0].text.encode(), "docs/ci.md").fields(FIELDS)


def test_it_says_what_the_examples_are() -> None:
    links = set(re.findall(r"\(examples/([\w.-]+)\)", GUIDE.read_text()))
    assert links == {path.name for path in (ROOT / "docs" / "examples").iterdir()}
