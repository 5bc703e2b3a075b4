"""The file edgelut-ci.yaml: what is measured, compared with what, and how much slower is too much."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgelut import presets
from edgelut.errors import EdgelutError, InvalidSpec
from edgelut.gate import GatePolicy
from edgelut.jobs import JobRequest
from edgelut.notation import parse_blocks
from edgelut.request import parse_numbers
from edgelut.types import BlockSpec, digest

from .document import Value, read
from .result import names

FILE = "edgelut-ci.yaml"
TIMEOUT_S = 3600.0
LONGEST_S = 7 * 86400.0
SHOWN = 8  # blocks in an error
FIELDS = (
    "name", "url", "job", "baseline", "reference", "tolerance", "fdr", "confirm", "record", "timeout",
)  # fmt: skip
TEXTS = ("presets", "blocks", "networks", "devices", "runtimes", "precisions", "formats")
NUMBERS = ("widths", "widths_out", "resolutions", "batches", "threads")
JOB_FIELDS = (
    "presets", "blocks", "widths", "widths_out", "resolutions", "batches", "params", "specs", "networks", "alone",
    "devices", "selector", "runtimes", "precisions", "threads", "unit", "formats", "options", "half_width", "max_rounds",
    "seed", "priority", "environment",
)  # fmt: skip
_DURATION = re.compile(r"(?:(\d+)h)?\s*(?:(\d+)m)?\s*(?:(\d+)s)?")


@dataclass(frozen=True, slots=True)
class Tolerances:
    """By how much a row may be slower, relative: for all rows, for rows of a kind, for single blocks (they win over kinds)."""

    default: float = GatePolicy().tolerance
    kinds: Mapping[str, float] = field(default_factory=dict)  # by kind, in lower case
    blocks: Mapping[BlockSpec, float] = field(default_factory=dict)

    def of(self, spec: BlockSpec) -> float:
        """Return the tolerance of a row."""
        return self.blocks.get(spec, self.kinds.get(spec.kind.lower(), self.default))


@dataclass(frozen=True, slots=True)
class Config:
    """What a configuration asks for. `request` has no baseline and no labels yet: the flow adds what it knows of the build."""

    name: str
    request: JobRequest
    url: str = ""  # empty: EDGELUT_URL
    baseline: str = "previous"  # as in a JobRequest
    reference: str = ""
    tolerances: Tolerances = field(default_factory=Tolerances)
    fdr: float = GatePolicy().fdr
    confirm: bool = True
    record_on: str = ""  # the branch whose runs fill the table
    timeout_s: float = TIMEOUT_S
    record_alone: bool = False  # leave out of the table what sums need
    file: str = FILE

    @property
    def recorded(self) -> JobRequest:
        """What fills the table: the same blocks, with what their sums need."""
        return replace(self.request, alone=self.record_alone)

    @property
    def key(self) -> str:
        """The hash of what is asked: builds of the same configuration have the same one."""
        blocks = {spec.key: value for spec, value in self.tolerances.blocks.items()}
        asked = [self.request.key, self.name, self.baseline, self.reference, self.tolerances.default]
        return digest([*asked, dict(self.tolerances.kinds), blocks, self.fdr, self.confirm, self.record_on])


def load(path: Path) -> Config:
    """Return the configuration of a file; raise InvalidSpec that names line and field."""
    return from_value(read(path))


def from_value(whole: Value) -> Config:
    """Return the configuration in a document; raise InvalidSpec that names line and field."""
    found = whole.fields(FIELDS)
    for name in ("name", "job"):
        if name not in found:
            whole.wrong(f"the field {name!r} is missing; 'edgelut ci init' writes an example")
    config = Config(
        name=_name(found["name"]),
        request=JobRequest(devices=("host",)),
        file=whole.file,
        **_given(
            found,
            url=_url,
            baseline=_baseline,
            reference=_reference,
            tolerances=("tolerance", _tolerances),
            fdr=lambda value: _share(value, 0.5),
            confirm=Value.flag,
            record_on=("record", _record),
            timeout_s=("timeout", _timeout),
        ),
    )
    request, alone = _request(found["job"], config)
    if "tolerance" in found and isinstance(found["tolerance"].data, dict):
        _check_exceptions(found["tolerance"], request)
    return replace(config, request=request, record_alone=alone)


def _given(found: Mapping[str, Value], **readers: Any) -> dict[str, Any]:
    """Return the fields that are there, each read by its reader; a pair gives the field's name in the document."""
    values = {}
    for name, reader in readers.items():
        wanted, read_value = reader if isinstance(reader, tuple) else (name, reader)
        if wanted in found:
            values[name] = read_value(found[wanted])
    return values


def _name(value: Value) -> str:
    name = value.text()
    if len(name) > 100 or not name.isprintable():
        value.wrong("a name has at most 100 printable characters")
    return name


def _url(value: Value) -> str:
    from edgelut.rest import Connection

    url = value.text()
    try:
        Connection(url).close()
    except InvalidSpec as error:
        value.wrong(str(error))
    return url


def _baseline(value: Value) -> str:
    """Read `previous`, or one of branch, mark and job with a name."""
    if isinstance(value.data, str):
        text = value.text()
        kind, _, name = text.partition(":")
        if text == "previous" or (kind in ("branch", "mark", "job") and name):
            return text
        value.wrong(f"{text!r} is no baseline: write previous, 'branch: NAME', 'mark: NAME' or 'job: ID'")
    given = value.fields(("branch", "mark", "job"))
    if len(given) != 1:
        value.wrong("write previous, or one of 'branch: NAME', 'mark: NAME' and 'job: ID'")
    ((kind, named),) = given.items()
    return f"{kind}:{named.text()}"


def _reference(value: Value) -> str:
    try:
        return str(presets.whole(value.text()).name)
    except InvalidSpec as error:
        value.wrong(str(error))


def _tolerances(value: Value) -> Tolerances:
    """Read one number, or a mapping of `default`, `kinds` and `blocks`."""
    if not isinstance(value.data, dict):
        return Tolerances(_share(value, 1.0))
    given = value.fields(("default", "kinds", "blocks"))
    kinds = {
        name.lower(): _share(one, 1.0) for name, one in (given["kinds"].items() if "kinds" in given else {}).items()
    }
    blocks = {}
    for text, one in (given["blocks"].items() if "blocks" in given else {}).items():
        for spec in _blocks(text, one):
            blocks[spec] = _share(one, 1.0)
    default = _share(given["default"], 1.0) if "default" in given else Tolerances().default
    return Tolerances(default, kinds, blocks)


def _check_exceptions(value: Value, request: JobRequest) -> None:
    """Refuse an exception that no row would ever take: most often its name has a slip."""
    asked = names(request.blocks_asked())
    kinds = sorted({spec.kind for spec in asked})
    given = value.fields(("default", "kinds", "blocks"))
    for name, one in (given["kinds"].items() if "kinds" in given else {}).items():
        if name.lower() not in [kind.lower() for kind in kinds]:
            one.wrong(f"the job has no such blocks; it has {', '.join(kinds)}")
    for text, one in (given["blocks"].items() if "blocks" in given else {}).items():
        if not set(_blocks(text, one)) <= set(asked):
            one.wrong(f"the job has no such blocks; it has {', '.join(list(asked.values())[:SHOWN])}")


def _share(value: Value, most: float) -> float:
    number = value.number()
    if not 0 < number <= most:
        value.wrong(f"a share above 0 and up to {most:g} is wanted here (0.05 is 5 %), not {number:g}")
    return number


def _record(value: Value) -> str:
    given = value.fields(("on-branch",))
    if "on-branch" not in given:
        value.wrong("say which branch's runs are recorded: 'on-branch: main'")
    return given["on-branch"].text()


def _timeout(value: Value) -> float:
    """Read seconds, or 1h, 90m, 1h30m, 45s."""
    if isinstance(value.data, str):
        matched = _DURATION.fullmatch(value.data.strip())
        if matched is None or not any(matched.groups()):
            value.wrong(f"{value.data!r} is no duration: write 1h, 90m, 1h30m, 45s, or a number of seconds")
        hours, minutes, seconds = (float(part or 0) for part in matched.groups())
        total = 3600 * hours + 60 * minutes + seconds
    else:
        total = value.number()
    if not 1 <= total <= LONGEST_S:
        value.wrong("a timeout is from 1 s to 7 days")
    return total


def _request(value: Value, config: Config) -> tuple[JobRequest, bool]:
    """Read the job; blocks, presets and policy are tried here, so that a slip is told before anything is sent."""
    found = value.fields(JOB_FIELDS)
    readers: dict[str, Callable[[Value], Any]] = {
        **dict.fromkeys(TEXTS, _texts),
        **dict.fromkeys(NUMBERS, _numbers),
        **dict.fromkeys(("params", "selector", "options"), _params),
        **dict.fromkeys(("unit", "environment"), Value.text),
        **dict.fromkeys(("max_rounds", "seed", "priority"), Value.whole),
        "specs": lambda specs: tuple(spec for line in specs.many() for spec in _blocks(line.text(), line)),
        "alone": Value.flag,
        "half_width": Value.number,
    }
    given: dict[str, Any] = {"alone": True, **{name: readers[name](one) for name, one in found.items()}}
    try:
        request = JobRequest(**given, name=config.name)
        request.policy()
        if not (request.presets or request.blocks or request.specs or request.networks):
            raise InvalidSpec("name what is measured: presets, blocks with widths and resolutions, specs or networks")
        if config.reference and config.reference not in request.networks:
            request = replace(request, networks=(*request.networks, config.reference))
        request.blocks_asked()
    except EdgelutError as error:
        value.wrong(str(error))
    return request, request.alone if "alone" in found else False


def _texts(value: Value) -> tuple[str, ...]:
    return tuple(one.text() for one in value.many())


def _numbers(value: Value) -> tuple[int, ...]:
    """Read whole numbers: 224, [208, 224], "208..240:16"."""
    try:
        return tuple(parse_numbers(_number_texts(value.many()), value.path.rpartition(".")[2]))
    except InvalidSpec as error:
        value.wrong(str(error))


def _number_texts(values: Iterable[Value]) -> list[str]:
    return [one.data if isinstance(one.data, str) else str(one.whole()) for one in values]


def _params(value: Value) -> dict[str, Any]:
    return {name: one.scalar() for name, one in value.items().items()}


def _blocks(text: str, at: Value) -> tuple[BlockSpec, ...]:
    """Return the blocks of a line such as `MB4D:48@56`."""
    try:
        return parse_blocks(text)
    except EdgelutError as error:
        at.wrong(str(error))
