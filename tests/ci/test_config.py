"""The configuration: what it gives, and what each slip is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgelut import MB3D, MB4D
from edgelut.ci.config import Config, Tolerances, load
from edgelut.ci.document import LARGEST_BYTES, parse
from edgelut.ci.example import EXAMPLE
from edgelut.errors import BackendMissing, InvalidSpec
from edgelut.jobs import JobRequest
from tests.ci.fakes import configured
from tests.fakes import ROOT

SHORT = "name: blocks\njob: {presets: efficientformer-l1, devices: lab-1}\n"


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    config = configured(tmp_path, SHORT)
    assert config == Config(
        "blocks",
        JobRequest(presets=("efficientformer-l1",), devices=("lab-1",), alone=True, name="blocks"),
        file=str(tmp_path / "edgelut-ci.yaml"),
    )
    assert (config.baseline, config.tolerances, config.fdr, config.confirm) == (
        "previous",
        Tolerances(0.05),
        0.05,
        True,
    )
    assert (config.record_on, config.timeout_s, config.url, config.reference) == ("", 3600.0, "", "")


def test_every_field_is_read(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        """
name: all of it
url: https://edgelut.example.com/
job:
  presets: [demo]
  blocks: [embedding]
  widths: [208, "224..240:16"]
  widths_out: [256]
  resolutions: 14
  batches: [1, 2]
  params: {stride: 2}
  specs: ["MB4D:48@56 + MB4D:96@28"]
  networks: [l3]
  alone: true
  devices: [a, b]
  selector: {device_model: Pixel 8, cores: 8}
  runtimes: [x]
  precisions: [int8]
  threads: [1, 2]
  unit: gpu
  formats: [onnx]
  options: {opset: 20}
  half_width: 0.03
  max_rounds: 40
  seed: 7
  priority: 5
  environment: previous
baseline: {mark: v1}
reference: L1
tolerance: {default: 0.1, kinds: {MB3D: 0.2}, blocks: {"MB4D:48@56": 0.01}}
fdr: 0.1
confirm: false
record: {on-branch: main}
timeout: 1h30m
""",
    )
    request = config.request
    assert (request.widths, request.threads, request.precisions) == ((208, 224, 240), (1, 2), ("int8",))
    assert (request.half_width, request.max_rounds, request.seed, request.priority) == (0.03, 40, 7, 5)
    assert request.specs == (MB4D.spec(48, 56), MB4D.spec(96, 28))
    assert request.networks == ("l3", "efficientformer-l1")
    assert dict(request.selector) == {"device_model": "Pixel 8", "cores": 8}
    assert (request.unit, request.formats, dict(request.options)) == ("gpu", ("onnx",), {"opset": 20})
    assert request.environment == "previous" and request.alone and config.recorded.alone
    assert (config.baseline, config.reference, config.fdr, config.confirm) == (
        "mark:v1",
        "efficientformer-l1",
        0.1,
        False,
    )
    assert (config.record_on, config.timeout_s) == ("main", 5400.0)
    assert config.tolerances.of(MB4D.spec(48, 56)) == 0.01
    assert config.tolerances.of(MB3D.spec(48, 7)) == 0.2
    assert config.tolerances.of(MB4D.spec(96, 28)) == 0.1


def test_a_table_is_filled_with_what_sums_need_unless_it_is_said_otherwise(tmp_path: Path) -> None:
    config = configured(tmp_path, SHORT)
    assert config.request.alone and not config.recorded.alone
    assert len(config.recorded.blocks_asked()) > len(config.request.blocks_asked())


@pytest.mark.parametrize(
    ("text", "baseline"),
    [
        ("previous", "previous"),
        ("{branch: main}", "branch:main"),
        ("branch:main", "branch:main"),
        ('"job:abc"', "job:abc"),
        ("{job: abc}", "job:abc"),
        ("{mark: v1.0}", "mark:v1.0"),
    ],
)
def test_baselines_are_named(text: str, baseline: str, tmp_path: Path) -> None:
    assert configured(tmp_path, f"{SHORT}baseline: {text}").baseline == baseline


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1h", 3600), ("90m", 5400), ("1h 30m 5s", 5405), ("45s", 45)]
)
def test_timeouts_are_durations(text: str, seconds: float, tmp_path: Path) -> None:
    assert configured(tmp_path, f"{SHORT}timeout: {text}").timeout_s == seconds


JOB = "name: x\njob:\n  presets: [efficientformer-l1]\n  devices: [host]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"line 1: a mapping with name, url, job.* is wanted here, not nothing"),
        ("- a\n", r"line 1: a mapping .* not a list"),
        ("name: x\n", r"line 1: the field 'job' is missing; 'edgelut ci init'"),
        ("job: {devices: [host]}\n", r"the field 'name' is missing"),
        ("name: x\njob:\n\n  widht: [1]\n", r"line 4: job.widht: there is no such field; is it 'widths'\? there are"),
        (f"{JOB}tolerence: 1\n", r"line 5: tolerence: there is no such field; is it 'tolerance'\?"),
        ("name: on\njob: {}\n", r"line 1: name: a text .* YAML reads true: put it in quotation marks"),
        ("name: 12\njob: {}\n", r"line 1: name: a text .* YAML reads 12: put it in quotation marks"),
        ('name: "a\\nb"\njob: {}\n', r"line 1: name: a name has at most 100 printable"),
        ("name: x\nname: y\njob: {}\n", r"line 2: name: it is here twice, first on line 1"),
        ("name: x\njob: 3\n", r"line 2: job: a mapping with .* is wanted here, not 3"),
        ("name: x\njob: {devices: [host]}\n", r"line 2: job: name what is measured: presets"),
        ("name: x\njob: {presets: [demo]}\n", r"line 2: job: name devices, or choose them by facts"),
        (
            "name: x\njob:\n  presets: [nonsense]\n  devices: [host]\n",
            r"line 2: job: no preset 'nonsense'; there are eff",
        ),
        ("name: x\njob:\n  blocks: [zz]\n  devices: [host]\n  widths: 1\n  resolutions: 1\n", r"line 2: job: .*'zz'"),
        ("name: x\njob:\n  blocks: [MB3D]\n  devices: [host]\n", r"line 2: job: MB3D: give --width and --resolution"),
        ("name: x\njob:\n  widths: [1.5]\n", r"line 3: job.widths\[0\]: a whole number is wanted here, not 1.5"),
        ("name: x\njob:\n  widths: [a..b]\n", r"line 3: job.widths: widths 'a..b': write 224"),
        ("name: x\njob:\n  widths: [true]\n", r"line 3: job.widths\[0\]: a whole number is wanted here, not true"),
        ("name: x\njob:\n  devices: [[a]]\n", r"line 3: job.devices\[0\]: a text is wanted here, not a list"),
        ("name: x\njob:\n  alone: maybe\n", r"line 3: job.alone: true or false is wanted here, not 'maybe'"),
        ("name: x\njob:\n  specs: ['MB4D48']\n", r"line 3: job.specs\[0\]: 'MB4D48' is no block: write"),
        ("name: x\njob:\n  params: [1]\n", r"line 3: job.params: a mapping of names to values is wanted"),
        ("name: x\njob:\n  params:\n    a: [1]\n", r"line 4: job.params.a: a text or a number is wanted here"),
        (f"{JOB}  priority: 1000\n", r"line 2: job: priority must be from -100 to 100"),
        (f"{JOB}  half_width: 7\n", r"line 2: job: half_width must be from 0.001 to 0.5"),
        (f"{JOB}  labels: {{a: b}}\n", r"line 5: job.labels: there is no such field"),
        (f"{JOB}url: ftp://x\n", r"line 5: url: the service's URL must be like"),
        (f"{JOB}url: http://me:secret@x\n", r"line 5: url: the service's URL holds a user name or password"),
        (f"{JOB}baseline: main\n", r"line 5: baseline: 'main' is no baseline: write previous, 'branch: NAME'"),
        (f"{JOB}baseline: {{}}\n", r"line 5: baseline: write previous, or one of"),
        (f"{JOB}baseline: {{branch: a, mark: b}}\n", r"line 5: baseline: write previous, or one of"),
        (f"{JOB}baseline: {{tag: a}}\n", r"line 5: baseline.tag: there is no such field"),
        (f"{JOB}reference: resnet\n", r"line 5: reference: no network 'resnet'; there are efficientformer-l1"),
        (f"{JOB}tolerance: 5\n", r"line 5: tolerance: a share above 0 and up to 1 .* \(0.05 is 5 %\), not 5"),
        (f"{JOB}tolerance: 5%\n", r"line 5: tolerance: a number is wanted here, not '5%'"),
        (f"{JOB}tolerance: .nan\n", r"line 5: tolerance: a number is wanted here"),
        (
            f"{JOB}tolerance:\n  blocks:\n    nonsense: 0.1\n",
            r"line 7: tolerance.blocks.nonsense: 'nonsense' is no block",
        ),
        (f"{JOB}tolerance:\n  kinds: {{MB3D: 0}}\n", r"line 6: tolerance.kinds.MB3D: a share above 0"),
        (
            f"{JOB}tolerance:\n  kinds: {{MB5D: 0.1}}\n",
            r"line 6: tolerance.kinds.MB5D: .* has no such blocks; it has .*MB3D",
        ),
        (
            f"{JOB}tolerance:\n  blocks: {{'MB4D:50@56': 0.1}}\n",
            r"tolerance.blocks.MB4D:50@56: the job has no such blocks",
        ),
        (f"{JOB}fdr: 0.9\n", r"line 5: fdr: a share above 0 and up to 0.5"),
        (f"{JOB}confirm: 1\n", r"line 5: confirm: true or false is wanted here, not 1"),
        (f"{JOB}record: main\n", r"line 5: record: a mapping with on-branch is wanted here, not 'main'"),
        (f"{JOB}record: {{}}\n", r"line 5: record: say which branch"),
        (f"{JOB}timeout: soon\n", r"line 5: timeout: 'soon' is no duration: write 1h"),
        (f"{JOB}timeout: 0\n", r"line 5: timeout: a timeout is from 1 s to 7 days"),
        ("name: x\njob: [\n", r"line 3: this is no YAML"),
        ("name: &a x\njob: *a\n", r"aliases \(\*name\) are not read here"),
        ("name: !!python/object:os.system x\njob: {}\n", r"line 1: name: could not determine a constructor"),
        ("name: x\n? [1]\n: 2\n", r"line 2: a field's name must be a text"),
        ("name: x\n---\nname: y\n", r"this is no YAML: expected a single document"),
        ("name: x\njob: {seed: 2026-13-45}\n", r"line 2: job.seed: .* cannot be read"),
        ("[" * 5000, r"is nested too deeply|this is no YAML"),
    ],
)
def test_a_slip_is_told_with_its_line_and_what_there_is(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match=said) as caught:
        configured(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message and "edgelut-ci.yaml" in message and "secret" not in message


def test_a_file_that_is_no_text_or_too_long_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="x is no UTF-8 text"):
        parse(b"\xff\xfe", "x")
    with pytest.raises(InvalidSpec, match="a configuration has at most"):
        parse(b" " * (LARGEST_BYTES + 1), "x")


def test_a_file_that_is_not_there_says_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match=r"there is no .*none.yaml; 'edgelut ci init' writes one"):
        load(tmp_path / "none.yaml")
    with pytest.raises(InvalidSpec, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_without_a_reader_of_yaml_the_install_line_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(BackendMissing, match=r"pip install 'edgelut\[ci\]'"):
        configured(tmp_path, SHORT)


def test_the_example_is_the_one_in_the_documents_and_is_right(tmp_path: Path) -> None:
    assert (ROOT / "docs" / "examples" / "edgelut-ci.yaml").read_text() == EXAMPLE
    config = configured(tmp_path, EXAMPLE)
    assert (config.name, config.baseline, config.record_on) == ("my-blocks", "branch:main", "main")


def test_what_the_example_leaves_out_by_a_comment_is_right_too(tmp_path: Path) -> None:
    lines = [line for line in EXAMPLE.splitlines() if not line.startswith("tolerance:")]
    opened = [
        line.replace("# ", "", 1) if line.strip().startswith("# ") and ":" in line else line for line in lines[1:]
    ]
    opened = [line for line in opened if "edgelut.example.com" not in line]
    config = configured(tmp_path, "\n".join(opened))
    assert config.request.blocks == ("MB4D", "MB3D") and config.tolerances.kinds == {"mb3d": 0.08}
    assert config.request.selector


def test_configurations_that_ask_the_same_have_the_same_key(tmp_path: Path) -> None:
    one = configured(tmp_path, SHORT)
    same = configured(tmp_path, "# a comment\njob: {devices: [lab-1], presets: [efficientformer-l1]}\nname: blocks\n")
    others = [
        configured(tmp_path, SHORT + more)
        for more in ("fdr: 0.1", "baseline: job:1", "confirm: false", "tolerance: 0.1")
    ]
    assert one.key == same.key
    assert len({one.key, *(other.key for other in others)}) == 5
