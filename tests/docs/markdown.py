"""Reading the documents: their fenced blocks, headings and links.

A fenced block of `python` or `console` says in its info string what a test does with it:

    python run               executed, in order, in one namespace a document
    python run service       the same, with a live service; `http://127.0.0.1:8321` in it becomes that service's address
    python example PATH      a worked plug-in file: tests/docs/test_contributing.py installs it and runs its contract suite
    python no-run "REASON"   not executed, and why
    console                  each line that starts with `$ edgelut` is executed against a small database
    console service          the same, and lines that start with `$ curl`, with a live service
    console exit=5           ... where the last command must end with that code; `status=404` for what curl is answered
    console has="WORDS"      ... where the last command must print these words
    console no-run "REASON"  not executed, and why
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTED = ("python", "console")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, what it is written in, its info string's other words and its text."""

    document: Path
    line: int
    language: str
    words: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"

    def option(self, name: str) -> str | None:
        """Return the value of `name=value` in the info string."""
        return next((word.partition("=")[2] for word in self.words if word.startswith(f"{name}=")), None)

    @property
    def reason(self) -> str | None:
        """Why it is not executed; None where it is to be."""
        if "no-run" not in self.words:
            return None
        after = self.words[self.words.index("no-run") + 1 :]
        return after[0] if after else ""


def documents() -> list[Path]:
    """List every document that a reader is sent to."""
    named = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "client/README.md")]
    return [*named, *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(document: Path) -> list[Block]:
    """Return a document's fenced blocks in order."""
    content = document.read_text()
    found = []
    for match in _FENCE.finditer(content):
        language, *words = shlex.split(match["info"]) or [""]
        line = content.count("\n", 0, match.start()) + 1
        found.append(Block(document, line, language, tuple(words), match["text"]))
    return found


def prose(document: Path) -> str:
    """Return a document without its fenced blocks."""
    return _FENCE.sub("", document.read_text())


def links(document: Path) -> list[str]:
    """Return where a document's links go."""
    return [markdown or html for markdown, html in _LINK.findall(prose(document))]


def anchors(document: Path) -> set[str]:
    """Return the anchors that a document's headings have, as code hosts make them."""
    found = set()
    for heading in _HEADING.findall(prose(document)):
        kept = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading)).strip().lower()
        found.add(kept.replace(" ", "-"))
    return found


def section(document: Path, heading: str) -> str | None:
    """Return the text below a heading, up to the next one of its level or above; None where there is no such heading."""
    content = document.read_text()
    for match in re.finditer(r"^(#{1,6}) +(.+?) *$", content, re.MULTILINE):
        if match[2].replace("`", "") == heading:
            rest = content[match.end() :]
            after = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
            return rest[: after.start()] if after else rest
    return None
