"""Links between documents lead somewhere, and no document knows one machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs import markdown
from tests.docs.markdown import ROOT

DOCUMENTS = markdown.documents()
FILES = [*DOCUMENTS, *sorted((ROOT / "docs").glob("*.svg"))]
A_MACHINE = re.compile(r"(?<![\w.~$}/])/(?:work|root|home|Users|opt|mnt|tmp)/\w")


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_links_lead_to_files_and_headings_that_exist(document: Path) -> None:
    for link in markdown.links(document):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{_name(document)} links to {link}, which does not exist"
        if anchor:
            assert anchor in markdown.anchors(target), (
                f"{_name(document)} links to {link}; {sorted(markdown.anchors(target))}"
            )


@pytest.mark.parametrize("document", FILES, ids=_name)
def test_no_path_of_a_machine_is_mentioned(document: Path) -> None:
    content = document.read_text()
    found = [line for line in content.splitlines() if A_MACHINE.search(line)]
    assert not found
    for own in (str(ROOT), str(Path.home())):
        assert len(own) < 6 or own not in content


def test_every_document_is_on_the_map() -> None:
    index = ROOT / "docs" / "index.md"
    mapped = {(index.parent / link.partition("#")[0]).resolve() for link in markdown.links(index)}
    missing = [_name(document) for document in DOCUMENTS if document.resolve() not in mapped and document != index]
    assert not missing


def test_the_reader_of_the_first_page_finds_the_map() -> None:
    assert "docs/index.md" in markdown.links(ROOT / "README.md")
