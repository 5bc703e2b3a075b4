"""Published tables: what a key becomes, that it can be written again, and what a figure's interval is."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelut.errors import BackendMissing, InvalidSpec
from edgelut.exchange import Asked, KeyedFormat, load
from edgelut.exchange.formats.nn_meter import FORMS, NnMeter
from edgelut.exchange.formats.ofa import Ofa
from edgelut.exchange.formats.proxylessnas import ProxylessNas
from edgelut.exchange.layers import LayerFormat
from edgelut.types import BlockSpec, Entry, Params
from tests.exchange.conftest import DATA

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
FILES = {
    "nn_meter_pixel1_v3.json": ("nn-meter", 12_116),
    "nn_meter_pixel4_v3.json": ("nn-meter", 12_116),
    "ofa_note10_224.yaml": ("ofa", 96),
    "proxylessnas_mobile_trim.yaml": ("proxylessnas", 72),
}
FEW = {
    "nn_meter_pixel4_v3.json": ("nn-meter", 40),
    "ofa_note10_224.yaml": ("ofa", 24),
    "proxylessnas_mobile_trim.yaml": ("proxylessnas", 18),
}
MS = Asked("phone", "tflite-cpu", values_in="ms")
NN_METER, OFA, PROXYLESS = NnMeter(), Ofa(), ProxylessNas()


def keyed(name: str) -> KeyedFormat:
    form = load(name)
    assert isinstance(form, KeyedFormat)
    return form


def check_file(path: Path, name: str, count: int) -> None:
    form, content = keyed(name), path.read_bytes()
    keys = [figure.key for figure in form.figures(content)]
    rows = form.read(content, MS)
    assert len(rows) == len(set(keys)) == len({row.spec.key for row in rows}) == count
    assert [form.key(row.spec) for row in rows] == keys
    assert [form.key(form.spec(key)) for key in keys] == keys
    assert all(row.spec.kind.startswith(f"{name}.") for row in rows)
    assert all(0 < row.latency.low_ns <= row.latency.p10_ns <= row.latency.high_ns for row in rows)


@pytest.mark.parametrize("file", FILES)
def test_every_published_row_is_a_spec_of_its_own_whose_key_is_written_again(file: str) -> None:
    if not (SHARED / file).exists():
        pytest.skip("the published tables lie beside the checkout, not in it; the rows in tests/exchange/data stand in")
    check_file(SHARED / file, *FILES[file])


@pytest.mark.parametrize("file", FEW)
def test_the_rows_kept_here_are_specs_whose_keys_are_written_again(file: str) -> None:
    check_file(DATA / file, *FEW[file])


def test_a_key_of_nn_meter_becomes_widths_resolution_and_parameters() -> None:
    conv = {"expansion": 6, "stride": 2, "act": "hard_swish", "kernel": 3, "se": "nose"}
    assert NN_METER.spec("conv_64_16_24_6_2_hard_swish_3_nose") == BlockSpec(
        "nn-meter.conv", 16, 24, 64, params=Params(conv)
    )
    attention = Params({"act": "hard_swish", "v": 2, "norm": "ln"})
    assert NN_METER.spec("transattn_16_48_hard_swish_2_ln") == BlockSpec(
        "nn-meter.transattn", 48, 48, 16, params=attention
    )
    assert NN_METER.spec("transds_8_96_128_2_6") != NN_METER.spec("transds_8_96_128_2_4")


def test_a_key_of_layers_becomes_widths_resolution_and_parameters() -> None:
    key = "expanded_conv-input:56x56x32-output:28x28x48-expand:128-kernel:7-stride:2-idskip:0-se:1-hs:0"
    params = {"expand": 128, "kernel": 7, "stride": 2, "idskip": 0, "se": 1, "hs": 0, "side_out": 28}
    assert OFA.spec(key) == BlockSpec("ofa.expanded_conv", 32, 48, 56, params=Params(params))
    assert OFA.spec("Logits-input:1x1x1536-output:1000") == BlockSpec("ofa.Logits", 1536, 1000, 1)


@pytest.mark.parametrize(
    "key",
    [
        "conv_064_16_24_6_2_hard_swish_3_nose",
        "conv_0_16_24_6_2_hard_swish_3_nose",
        "conv_64_16_24_6_2_hard_swish_3",
        "conv_64_16_24_6_2_hard_swish_3_se_se",
        "conv_٦٤_16_24_6_2_hard_swish_3_se",
        "transattn_16_48_hard_swish_2_gn",
        "nasvit_transattn_16_48_swish_2_ln",
        "conv_64_16_24_6_2_hard_swish_3_nose\n",
        "CONV_64_16_24_6_2_hard_swish_3_nose",
    ],
)
def test_a_key_of_no_form_is_refused_with_the_forms(key: str) -> None:
    with pytest.raises(InvalidSpec, match=r"is of no form of nn-meter: firstconv_\{hw\}_\{cin\}"):
        NN_METER.spec(key)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("Conv-input:224x112x3-output:112x56x24", "not square"),
        ("Pool-input:7x7x3-output:1x1x3", "no form of ofa"),
        ("Conv-input:07x07x3-output:7x7x24", "no form of ofa"),
        ("Conv-input:7x7x3-output:7x7x24-stride:2", "Conv has the fields none"),
        ("expanded_conv-input:7x7x3-output:7x7x3-kernel:3-expand:3", "has the fields expand, kernel"),
    ],
)
def test_a_layer_of_no_form_is_refused_with_its_key(key: str, said: str) -> None:
    with pytest.raises(InvalidSpec, match=said) as refused:
        OFA.spec(key)
    assert key in str(refused.value)


_whole = st.integers(1, 10**9 - 1)


@st.composite
def nn_meter_keys(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(sorted(FORMS)))
    texts = {
        "act": st.from_regex("[a-z]{1,5}(_[a-z]{1,5})?", fullmatch=True),
        "se": st.sampled_from(("se", "nose")),
        "norm": st.sampled_from(("ln", "bn")),
    }
    return "_".join([name, *(str(draw(texts.get(field, _whole))) for field in FORMS[name])])


@st.composite
def layer_keys(draw: st.DrawFn, form: LayerFormat) -> str:
    name = draw(st.sampled_from(sorted(form.layers)))
    side, cin, cout, out = (draw(_whole) for _ in range(4))
    after = draw(st.sampled_from((f"{cout}", f"{out}x{out}x{cout}")))
    fields = "".join(f"-{field}:{draw(st.integers(0, 10**9 - 1))}" for field in form.layers[name])
    return f"{name}-input:{side}x{side}x{cin}-output:{after}{fields}"


@settings(deadline=None)
@given(nn_meter_keys(), nn_meter_keys())
def test_any_key_of_nn_meter_is_written_again_and_another_is_another_spec(one: str, other: str) -> None:
    assert NN_METER.key(NN_METER.spec(one)) == one
    assert (NN_METER.spec(one) == NN_METER.spec(other)) == (one == other)


@settings(deadline=None)
@given(layer_keys(OFA), layer_keys(PROXYLESS))
def test_any_key_of_layers_is_written_again_and_formats_never_share_a_spec(one: str, other: str) -> None:
    assert OFA.key(OFA.spec(one)) == one and PROXYLESS.key(PROXYLESS.spec(other)) == other
    assert OFA.spec(one) != PROXYLESS.spec(other)


@pytest.mark.parametrize("form", [NN_METER, OFA, PROXYLESS], ids=lambda form: type(form).__name__)
def test_a_block_of_another_kind_has_no_key(form: KeyedFormat) -> None:
    for kind in ("MB4D", "conv", "nn-meter", "nn-meter.other", "ofa.other", "proxylessnas.other"):
        with pytest.raises(InvalidSpec, match="is no"):
            form.key(BlockSpec(kind, 8, 8, 8))


def one(form: KeyedFormat, content: str, asked: Asked = MS) -> Entry:
    (row,) = form.read(content.encode(), asked)
    return row


def test_a_mean_has_the_interval_of_the_mean_at_95_percent() -> None:
    row = one(OFA, "Conv-input:8x8x3-output:4x4x8:\n  count: 11\n  mean: 2.0\n  std: 0.5\n")
    half = 2.228138851964939 * 0.5 / math.sqrt(11) * 1e6  # t at 97.5 % with 10 degrees of freedom
    assert row.latency.low_ns == pytest.approx(2e6 - half, rel=1e-9)
    assert row.latency.high_ns == pytest.approx(2e6 + half, rel=1e-9)
    assert (row.latency.p10_ns, row.latency.samples, row.provenance["statistic"]) == (2e6, 11, "mean")
    assert (row.provenance["published_std_ns"], row.provenance["published_count"]) == (5e5, 11)
    assert "a mean, no 10th percentile" in row.latency.doubts[0]


def test_a_variance_is_a_squared_deviation() -> None:
    row = one(PROXYLESS, "Conv-input:8x8x3-output:4x4x8:\n  count: 11\n  mean: 2.0\n  var: 0.25\n")
    assert row.provenance["published_std_ns"] == 5e5


def test_an_interval_never_falls_below_zero() -> None:
    row = one(OFA, "Conv-input:8x8x3-output:4x4x8:\n  count: 2\n  mean: 0.1\n  std: 5\n")
    assert row.latency.low_ns == 0.0


LONE = one(NN_METER, '{"transds_8_96_128_2_6": 2}')
ONCE = one(OFA, "Logits-input:1x1x8-output:9:\n  count: 1\n  mean: 2\n  std: 0\n")


@pytest.mark.parametrize("row", [LONE, ONCE], ids=["a lone value", "a single call"])
def test_where_no_interval_is_known_the_row_says_so(row: Entry) -> None:
    assert row.latency.low_ns == row.latency.high_ns == row.latency.p10_ns == 2e6
    assert "no interval is known (low and high repeat it), conditions unknown" in row.latency.doubts[0]
    assert not row.latency.stable and row.latency.clock == "wall" and row.kind == "measured"


@pytest.mark.parametrize(("unit", "ns"), [("ns", 2.5), ("us", 2.5e3), ("ms", 2.5e6), ("s", 2.5e9)])
def test_values_are_read_in_the_unit_that_was_said(unit: str, ns: float) -> None:
    row = one(NN_METER, '{"transds_8_96_128_2_6": 2.5}', replace(MS, values_in=unit))
    assert row.latency.p10_ns == ns and row.provenance["values_in"] == unit


def test_rows_may_be_said_to_be_predicted() -> None:
    assert one(NN_METER, '{"transds_8_96_128_2_6": 2}', replace(MS, kind="predicted")).kind == "predicted"


ROW = "Conv-input:8x8x3-output:4x4x8:\n"


@pytest.mark.parametrize(
    ("form", "content", "said"),
    [
        (NN_METER, '{"transds_8_96_128_2_6": 1,\n "transds_8_96_128_2_6": 1}', "key 'transds_8_96_128_2_6' is in the file twice"),
        (NN_METER, '{"transds_8_96_128_2_6": "1"}', "key 'transds_8_96_128_2_6': '1' is a text"),
        (NN_METER, '{"a": 1,\n "b"', "line 2, column 5"),
        (NN_METER, '{"x": 1}', "key 'x' is of no form"),
        (NN_METER, "[1, 2]", "one object of keys"),
        (NN_METER, "{}", "one object of keys"),
        (NN_METER, '{"transds_8_96_128_2_6": 1e12}', "at most 11 days"),
        (OFA, ROW + "  count: 2\n  mean: 1.0\n", "line 1, key 'Conv-input:8x8x3-output:4x4x8': std is missing"),
        (OFA, ROW + "  count: 2\n  mean: 1.0\n  mean: 1.0\n  std: 1\n", "line 4, .*'mean' is there twice"),
        (OFA, ROW + "  count: 2\n  mean: 1.0\n  std: -1\n", "std is not negative"),
        (OFA, ROW + "  count: 0\n  mean: 1.0\n  std: 1\n", "count must be a whole number"),
        (OFA, ROW + "  count: 2\n  mean: 1.0\n  var: 1\n", "'var' is none of its fields: count, mean, std"),
        (OFA, ROW + "  count: 2\n  mean: 1.0\n  std: 1\n" + ROW + "  count: 2\n", "line 5: key .* twice, first on line 1"),
        (OFA, ROW + "  count: 2\n  mean: 1.0\n  std: 0.0", "the last line has no end: was the file cut off"),
        (OFA, ROW + "  count: 2\n  mean: {a: 1}\n  std: 1\n", "mean must be a number"),
        (OFA, "a: &x [1]\nb: *x\n", "must be a mapping"),
        (OFA, "? [a]\n: 1\n", "a key must be a text"),
        (OFA, "a: !!python/object:os.system {}\n", "mean, std is missing"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_is_refused_with_line_or_key(form: KeyedFormat, content: str, said: str) -> None:
    with pytest.raises(InvalidSpec, match=said) as refused:
        form.read(content.encode(), MS)
    assert re.search(r"line \d|key '", str(refused.value))


def test_without_pyyaml_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(BackendMissing, match=r"pip install 'edgelut\[exchange\]'"):
        OFA.read(OFA.example, MS)
