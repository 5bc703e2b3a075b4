"""The MIL interpreter: each operation against torch, the rounding, and packages that are wrong or broken."""

import gc
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgelut import blocks as kinds
from edgelut.errors import ArtifactCorrupted, Unsupported

pytest.importorskip("coremltools", reason="the extra 'coreml-mil' is not installed")

from backends.devices.null import Null as NullDevice
from backends.exporters.coreml import CoreML
from backends.mil.ops import OPS
from backends.mil.package import CONTENT, METADATA, Weights, read_model, weight_files
from backends.mil.program import Program
from backends.mil.toolchain import Builder as mb
from backends.mil.toolchain import coremltools, no_progress, quiet
from backends.runtimes.coreml_mil import CoreMLMIL
from supernet.blocks import build, example_inputs


@pytest.fixture(scope="module", autouse=True)
def frozen_heap() -> Iterator[None]:
    """Keep coremltools, which collects after each conversion, off a heap that holds torch."""
    gc.freeze()
    yield
    gc.unfreeze()


SPEC = kinds.MB4D.spec(32, 7)
Array = np.ndarray[Any, Any]


def package(folder: Path, function: Callable[..., Any], *shapes: tuple[int, ...], target: str = "iOS17") -> Path:
    """Write a program of the given operations, untouched by any pass; its inputs are fp32, named as the function's."""
    ios = getattr(coremltools.target, target)
    path = folder / "built.mlpackage"
    with quiet(), no_progress(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        specs = [mb.TensorSpec(shape=shape) for shape in shapes]
        program = mb.program(input_specs=specs, opset_version=ios)(function)
        coremltools.convert(
            program,
            source="milinternal",
            convert_to="mlprogram",
            minimum_deployment_target=ios,
            compute_precision=coremltools.precision.FLOAT32,
            pass_pipeline=coremltools.PassPipeline.EMPTY,
            skip_model_load=True,
            package_dir=str(path),
        )
    return path


def compute(path: Path, *inputs: Tensor, precision: str = "fp32") -> list[Tensor]:
    """Run a package on its inputs, in order."""
    with CoreMLMIL().open(path, NullDevice(), precision, 1, "cpu") as session:
        arrays = dict(zip(Program(path).inputs, (value.numpy() for value in inputs), strict=True))
        return [torch.from_numpy(array) for array in session.run(arrays)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def const(*shape: int, seed: int = 1) -> Array:
    return random(*shape, seed=seed).numpy()


def t(array: Array) -> Tensor:
    return torch.from_numpy(array)


def conv(**options: Any) -> Callable[..., Any]:
    return lambda a: mb.conv(x=a, weight=const(6, 4 // options.get("groups", 1), 3, 2), **options)


def pool(kind: str, kernel: tuple[int, ...], **options: Any) -> Callable[..., Any]:
    return lambda a: getattr(mb, kind)(x=a, kernel_sizes=kernel, **options)


def unary(name: str) -> Callable[..., Any]:
    return lambda a: getattr(mb, name)(x=a)


def pairwise(name: str) -> Callable[..., Any]:
    return lambda a, b: getattr(mb, name)(x=a, y=b)


MAP, ODD, TOKENS = (2, 4, 9, 8), (1, 3, 7, 10), (2, 5, 6)
W32, W43, B6 = const(6, 4, 3, 2), const(4, 6), const(6, seed=2)
CASES: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]], Callable[..., Any]]] = {
    "conv valid": (conv(), [MAP], lambda a: F.conv2d(a, t(W32))),
    "conv strided": (conv(strides=[2, 3], bias=B6), [MAP], lambda a: F.conv2d(a, t(W32), t(B6), stride=(2, 3))),
    "conv dilated": (conv(dilations=[2, 1]), [MAP], lambda a: F.conv2d(a, t(W32), dilation=(2, 1))),
    "conv grouped": (conv(groups=2), [MAP], lambda a: F.conv2d(a, t(const(6, 2, 3, 2)), groups=2)),
    "conv custom": (
        conv(pad_type="custom", pad=[1, 2, 0, 3]),
        [MAP],
        lambda a: F.conv2d(F.pad(a, (0, 3, 1, 2)), t(W32)),
    ),
    "conv same": (
        conv(pad_type="same", strides=[2, 1]),  # 9 -> 5 needs 2 rows, 8 -> 8 needs 1 column: after
        [MAP],
        lambda a: F.conv2d(F.pad(a, (0, 1, 1, 1)), t(W32), stride=(2, 1)),
    ),
    "conv same_lower": (
        conv(pad_type="same_lower", strides=[2, 1]),  # before
        [MAP],
        lambda a: F.conv2d(F.pad(a, (1, 0, 1, 1)), t(W32), stride=(2, 1)),
    ),
    "conv 1d": (
        lambda a: mb.conv(x=a, weight=const(3, 5, 2), pad_type="custom", pad=[1, 0]),
        [TOKENS],
        lambda a: F.conv1d(F.pad(a, (1, 0)), t(const(3, 5, 2))),
    ),
    "avg_pool valid": (pool("avg_pool", (3, 2), pad_type="valid"), [MAP], lambda a: F.avg_pool2d(a, (3, 2), 1)),
    "avg_pool 1d": (
        pool("avg_pool", (3,), strides=[2], pad_type="valid"), [TOKENS], lambda a: F.avg_pool1d(a, 3, 2),
    ),
    "avg_pool padding counted": (
        pool("avg_pool", (3, 3), pad_type="custom", pad=[1, 1, 1, 1]), [MAP], lambda a: F.avg_pool2d(a, 3, 1, 1),
    ),
    "avg_pool padding excluded": (
        pool("avg_pool", (5, 5), pad_type="custom", pad=[2] * 4, exclude_padding_from_average=True),
        [MAP],
        lambda a: F.avg_pool2d(a, 5, 1, 2, count_include_pad=False),
    ),
    "avg_pool same": (
        pool("avg_pool", (3, 3), strides=[2, 2], pad_type="same", exclude_padding_from_average=True),
        [(1, 2, 7, 7)],
        lambda a: F.avg_pool2d(a, 3, 2, 1, count_include_pad=False),
    ),
    "avg_pool ceil, padding counted": (
        pool("avg_pool", (3, 3), strides=[2, 2], pad_type="custom", pad=[1] * 4, ceil_mode=True),
        [ODD],
        lambda a: F.avg_pool2d(a, 3, 2, 1, ceil_mode=True),
    ),
    "avg_pool ceil, padding excluded": (
        pool(
            "avg_pool", (3, 3), strides=[2, 2], pad_type="custom", pad=[1] * 4, ceil_mode=True,
            exclude_padding_from_average=True,
        ),
        [ODD],
        lambda a: F.avg_pool2d(a, 3, 2, 1, ceil_mode=True, count_include_pad=False),
    ),
    "avg_pool ceil, whose last window would start in the padding": (
        pool("avg_pool", (2, 2), strides=[3, 3], pad_type="custom", pad=[1] * 4, ceil_mode=True),
        [(1, 2, 4, 5)],
        lambda a: F.avg_pool2d(a, 2, 3, 1, ceil_mode=True),
    ),
    "max_pool": (
        pool("max_pool", (3, 3), strides=[2, 2], pad_type="custom", pad=[1] * 4), [ODD], lambda a: F.max_pool2d(a, 3, 2, 1),
    ),
    "max_pool ceil": (
        pool("max_pool", (3, 3), strides=[2, 2], pad_type="custom", pad=[1] * 4, ceil_mode=True),
        [ODD],
        lambda a: F.max_pool2d(a, 3, 2, 1, ceil_mode=True),
    ),
    "linear": (lambda a: mb.linear(x=a, weight=W43, bias=const(4)), [TOKENS], lambda a: F.linear(a, t(W43), t(const(4)))),
    "linear without bias": (lambda a: mb.linear(x=a, weight=W43), [TOKENS], lambda a: F.linear(a, t(W43))),
    "matmul": (lambda a, b: mb.matmul(x=a, y=b), [(2, 3, 4), (4, 5)], torch.matmul),
    "matmul transposed": (
        lambda a, b: mb.matmul(x=a, y=b, transpose_x=True, transpose_y=True),
        [(2, 4, 3), (2, 5, 4)],
        lambda a, b: a.mT @ b.mT,
    ),
    "batch_norm": (
        lambda a: mb.batch_norm(x=a, mean=const(4), variance=abs(const(4, seed=2)), gamma=const(4, seed=3),
                                beta=const(4, seed=4), epsilon=1e-3),
        [MAP],
        lambda a: F.batch_norm(a, t(const(4)), t(abs(const(4, seed=2))), t(const(4, seed=3)), t(const(4, seed=4)), eps=1e-3),
    ),
    "layer_norm last": (
        lambda a: mb.layer_norm(x=a, axes=[-1], gamma=B6, beta=const(6), epsilon=1e-2),
        [TOKENS],
        lambda a: F.layer_norm(a, (6,), t(B6), t(const(6)), 1e-2),
    ),
    "layer_norm two axes": (
        lambda a: mb.layer_norm(x=a, axes=[1, 2], gamma=const(5, 6)),
        [TOKENS],
        lambda a: F.layer_norm(a, (5, 6), t(const(5, 6))),
    ),
    "layer_norm channels": (
        lambda a: mb.layer_norm(x=a, axes=[1], gamma=const(4), beta=const(4, seed=3)),
        [MAP],
        lambda a: F.layer_norm(a.movedim(1, -1), (4,), t(const(4)), t(const(4, seed=3))).movedim(-1, 1),
    ),
    "layer_norm all axes": (lambda a: mb.layer_norm(x=a, axes=[0, 1, 2]), [TOKENS], lambda a: F.layer_norm(a, a.shape)),
    "softmax": (lambda a: mb.softmax(x=a, axis=1), [TOKENS], lambda a: a.softmax(1)),
    "gelu exact": (lambda a: mb.gelu(x=a, mode="EXACT"), [TOKENS], F.gelu),
    "gelu tanh": (lambda a: mb.gelu(x=a, mode="TANH_APPROXIMATION"), [TOKENS], lambda a: F.gelu(a, approximate="tanh")),
    "gelu sigmoid": (
        lambda a: mb.gelu(x=a, mode="SIGMOID_APPROXIMATION"), [TOKENS], lambda a: a * torch.sigmoid(1.702 * a),
    ),
    "hardswish": (
        lambda a: mb.mul(x=mb.thresholded_relu(x=a, alpha=-3.0), y=mb.sigmoid_hard(x=a, alpha=1 / 6, beta=0.5)),
        [TOKENS],
        F.hardswish,
    ),
    "thresholded_relu": (lambda a: mb.thresholded_relu(x=a, alpha=0.5), [TOKENS], lambda a: a * (a >= 0.5)),
    "sigmoid_hard": (
        lambda a: mb.sigmoid_hard(x=a, alpha=0.7, beta=0.2), [TOKENS], lambda a: (0.7 * a + 0.2).clamp(0, 1),
    ),
    "leaky_relu": (lambda a: mb.leaky_relu(x=a, alpha=0.3), [TOKENS], lambda a: F.leaky_relu(a, 0.3)),
    "clip": (lambda a: mb.clip(x=a, alpha=-0.5, beta=1.0), [TOKENS], lambda a: a.clamp(-0.5, 1.0)),
    "rsqrt": (lambda a: mb.rsqrt(x=mb.square(x=a), epsilon=0.1), [TOKENS], lambda a: (a**2 + 0.1).rsqrt()),
    "inverse": (lambda a: mb.inverse(x=mb.exp(x=a), epsilon=0.1), [TOKENS], lambda a: 1 / (a.exp() + 0.1)),
    "log": (lambda a: mb.log(x=mb.abs(x=a), epsilon=0.1), [TOKENS], lambda a: (a.abs() + 0.1).log()),
    "sqrt": (lambda a: mb.sqrt(x=mb.abs(x=a)), [TOKENS], lambda a: a.abs().sqrt()),
    **{
        name: (unary(name), [TOKENS], function)
        for name, function in {
            "abs": torch.abs, "erf": torch.erf, "exp": torch.exp, "identity": torch.clone, "relu": torch.relu,
            "relu6": F.relu6, "sigmoid": torch.sigmoid, "silu": F.silu, "square": torch.square, "tanh": torch.tanh,
        }.items()
    },
    **{
        name: (pairwise(name), [TOKENS, (6,)], function)
        for name, function in {
            "add": torch.add, "sub": torch.sub, "mul": torch.mul, "real_div": torch.div, "maximum": torch.maximum,
            "minimum": torch.minimum,
        }.items()
    },
    "pow": (lambda a: mb.pow(x=mb.abs(x=a), y=1.5), [TOKENS], lambda a: a.abs() ** 1.5),
    "reduce_mean": (lambda a: mb.reduce_mean(x=a, axes=[-1, 1], keep_dims=True), [TOKENS], lambda a: a.mean((1, 2), True)),
    "reduce_sum": (lambda a: mb.reduce_sum(x=a, axes=[0]), [TOKENS], lambda a: a.sum(0)),
    "reduce_max": (lambda a: mb.reduce_max(x=a, axes=[1]), [TOKENS], lambda a: a.amax(1)),
    "reduce_min": (lambda a: mb.reduce_min(x=a, axes=[1]), [TOKENS], lambda a: a.amin(1)),
    "reshape": (lambda a: mb.reshape(x=a, shape=[5, -1]), [TOKENS], lambda a: a.reshape(5, 12)),
    "reshape with zeros": (lambda a: mb.reshape(x=a, shape=[0, 0, 2, -1]), [(5, 6)], lambda a: a.reshape(1, 1, 2, 15)),
    "transpose": (lambda a: mb.transpose(x=a, perm=[2, 0, -2]), [TOKENS], lambda a: a.permute(2, 0, 1)),
    "expand_dims": (lambda a: mb.expand_dims(x=a, axes=[0, -1]), [TOKENS], lambda a: a[None, ..., None]),
    "squeeze": (lambda a: mb.squeeze(x=a, axes=[1]), [(1, 1, 3)], lambda a: a[:, 0]),
    "squeeze all": (lambda a: mb.squeeze(x=a), [(1, 3, 1)], lambda a: a[0, :, 0]),
    "concat": (lambda a, b: mb.concat(values=(a, b), axis=-1), [TOKENS, (2, 5, 3)], lambda a, b: torch.cat((a, b), 2)),
    "concat interleaved": (
        lambda a, b: mb.concat(values=(a, b), axis=1, interleave=True),
        [TOKENS, TOKENS],
        lambda a, b: torch.stack((a, b), 2).reshape(2, 10, 6),
    ),
    "stack": (lambda a, b: mb.stack(values=(a, b), axis=1), [TOKENS, TOKENS], lambda a, b: torch.stack((a, b), 1)),
    "split sizes": (
        lambda a: mb.split(x=a, split_sizes=[1, 3, 2], axis=-1), [TOKENS], lambda a: a.split((1, 3, 2), 2),
    ),
    "split number": (lambda a: mb.split(x=a, num_splits=3, axis=2), [TOKENS], lambda a: a.split(2, 2)),
    "pad": (
        lambda a: mb.pad(x=a, pad=[1, 0, 2, 3], constant_val=0.5), [TOKENS], lambda a: F.pad(a, (2, 3, 1, 0), value=0.5),
    ),
    "pad reflect": (
        lambda a: mb.pad(x=a, pad=[0, 0, 0, 0, 2, 1], mode="reflect"), [TOKENS], lambda a: F.pad(a, (2, 1), "reflect"),
    ),
    "pad replicate": (
        lambda a: mb.pad(x=a, pad=[0, 0, 0, 0, 2, 1], mode="replicate"), [TOKENS], lambda a: F.pad(a, (2, 1), "replicate"),
    ),
    "slice_by_index": (
        lambda a: mb.slice_by_index(
            x=a, begin=[0, 1, 3], end=[0, -1, 0], stride=[1, 2, 1], begin_mask=[True, False, False],
            end_mask=[True, False, False], squeeze_mask=[False, False, True],
        ),
        [TOKENS],
        lambda a: a[:, 1:-1:2, 3],
    ),
    "tile": (lambda a: mb.tile(x=a, reps=[1, 2, 3]), [TOKENS], lambda a: a.repeat(1, 2, 3)),
    "cast": (
        lambda a: mb.cast(x=mb.cast(x=mb.mul(x=a, y=3.0), dtype="int32"), dtype="fp32"), [TOKENS], lambda a: (a * 3).trunc(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_operation_computes_what_torch_does(name: str, tmp_path: Path) -> None:
    function, shapes, expected = CASES[name]
    inputs = [random(*shape, seed=seed + 7) * 2 for seed, shape in enumerate(shapes)]
    wanted = expected(*inputs)
    got = compute(package(tmp_path, function, *shapes), *inputs)
    for one, other in zip(got, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_every_operation_has_its_test() -> None:
    named = {name.split()[0] for name in CASES}
    assert set(OPS) - named == set()


def test_inputs_that_are_left_out_have_the_documented_defaults() -> None:
    a = random(*TOKENS)
    torch.testing.assert_close(OPS["layer_norm"](a), F.layer_norm(a, a.shape))
    torch.testing.assert_close(OPS["gelu"](a), F.gelu(a))
    torch.testing.assert_close(OPS["reduce_mean"](a), a.mean())
    torch.testing.assert_close(OPS["inverse"](a), 1 / (a + 1e-4))
    torch.testing.assert_close(OPS["avg_pool"](a, torch.tensor([2])), F.avg_pool1d(a, 2, 1))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an fp16 package of an MB4D block."""
    path = tmp_path_factory.mktemp("exported") / "block.mlpackage"
    CoreML().export(build(SPEC), example_inputs(SPEC), "fp16", path, {})
    return path


@pytest.fixture
def broken(exported: Path, tmp_path: Path) -> Iterator[Path]:
    """Give a copy of it to break."""
    path = tmp_path / "broken.mlpackage"
    shutil.copytree(exported, path)
    yield path


def branch_error(path: Path, precision: str = "fp16") -> float:
    """Return max |dy| / max |branch| against the module."""
    inputs = example_inputs(SPEC)
    expected = build(SPEC)(*inputs.values()).detach()
    (got,) = compute(path, *inputs.values(), precision=precision)
    return float((got - expected).abs().max() / (expected - inputs["x"]).abs().max())


def test_one_weight_in_1400_set_to_zero_is_seen_in_the_outputs_and_in_the_digest(broken: Path) -> None:
    assert branch_error(broken) <= 3e-3
    before, (file,) = CoreML().digest(broken), weight_files(broken)
    content = bytearray(file.read_bytes())
    count = round(len(content) * 0.0007)
    _, _, size, start = METADATA.unpack_from(content, 64)
    middle = start + size // 4 * 2
    content[middle : middle + count] = bytes(count)
    file.write_bytes(content)
    assert branch_error(broken) > 3e-3
    assert CoreML().digest(broken) != before


def test_rounding_to_fp16_is_seen(tmp_path: Path) -> None:
    def rounded(a: Any) -> Any:
        half = mb.cast(x=a, dtype="fp16")
        return mb.cast(x=mb.add(x=half, y=np.float16(2048)), dtype="fp32")

    path = package(tmp_path, rounded, (3,))
    got = compute(path, torch.tensor([1.0, 1.5, 3.0]), precision="fp16")[0]
    assert got.tolist() == [2048.0, 2050.0, 2052.0]  # fp16 holds even numbers here: ties go to the even mantissa


def test_constants_of_small_integers_come_from_the_weight_file(tmp_path: Path) -> None:
    table = np.arange(-32, 32, dtype=np.int8).reshape(8, 8)
    path = package(tmp_path, lambda a: mb.add(x=a, y=mb.cast(x=mb.const(val=table), dtype="fp32")), (8, 8))
    assert weight_files(path)
    torch.testing.assert_close(compute(path, torch.zeros(8, 8))[0], t(table).float())


@pytest.mark.parametrize("asked", ["fp32", "int8", "fp64"])
def test_a_precision_that_the_package_does_not_have_is_refused(exported: Path, asked: str) -> None:
    with pytest.raises(Unsupported, match=f"not {asked}"), CoreMLMIL().open(exported, NullDevice(), asked, 1, "cpu"):
        pass


def test_a_program_of_two_precisions_has_neither(tmp_path: Path) -> None:
    def mixed(a: Any) -> Any:
        half = mb.relu(x=mb.cast(x=mb.relu(x=a), dtype="fp16"))
        return mb.cast(x=half, dtype="fp32")

    path = package(tmp_path, mixed, (3,))
    for asked in ("fp32", "fp16"):
        with pytest.raises(Unsupported, match="fp16 and fp32"), CoreMLMIL().open(path, NullDevice(), asked, 1, "cpu"):
            pass


def test_a_unit_other_than_the_cpu_is_refused(exported: Path) -> None:
    with pytest.raises(Unsupported, match="on ane"), CoreMLMIL().open(exported, NullDevice(), "fp16", 1, "ane"):
        pass


def test_it_never_gives_a_latency(exported: Path) -> None:
    assert not CoreMLMIL.timed
    with CoreMLMIL().open(exported, NullDevice(), "fp16", 1, "cpu") as session:
        session.prepare({"x": example_inputs(SPEC)["x"].numpy()})
        assert session.loaded.unit == "cpu"
        with pytest.raises(Unsupported, match="numerics only, never a latency"):
            session.time(1)


def test_an_unknown_operation_is_named_with_those_known(tmp_path: Path) -> None:
    path = package(tmp_path, lambda a: mb.cumsum(x=a, axis=0), (4,))
    with pytest.raises(Unsupported, match=r"cumsum; known are abs, add, .*transpose"):
        Program(path)


def test_inputs_of_another_shape_or_name_are_refused(exported: Path) -> None:
    for inputs in ({"x": np.ones((1, 2), np.float32)}, {"z": example_inputs(SPEC)["x"].numpy()}):
        with pytest.raises(ValueError, match="takes"):
            Program(exported).run(inputs)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_weight_file_is_corrupted(broken: Path, share: float) -> None:
    (file,) = weight_files(broken)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    with pytest.raises(ArtifactCorrupted, match=r"weight\.bin"):
        Program(broken)


def test_a_missing_weight_file_is_corrupted(broken: Path) -> None:
    weight_files(broken)[0].unlink()
    with pytest.raises(ArtifactCorrupted, match=r"weight\.bin.*cannot be read"):
        Program(broken)


@pytest.mark.parametrize("at", [0, 4, 8, 16])
def test_a_damaged_blob_header_is_corrupted(broken: Path, at: int) -> None:
    (file,) = weight_files(broken)
    content = bytearray(file.read_bytes())
    content[64 + at] ^= 3
    file.write_bytes(content)
    with pytest.raises(ArtifactCorrupted, match=r"weight\.bin at byte 64"):
        Program(broken)


def test_weights_outside_the_package_are_not_read(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "weight.bin").write_bytes(weight_files(exported)[0].read_bytes())
    with pytest.raises(ArtifactCorrupted, match="no weight file"):
        Weights(exported).get(f"@model_path/{'../' * 12}{tmp_path}/weight.bin", 64, "<f2", (1,))


def test_a_damaged_model_is_corrupted_or_unsupported_and_never_anything_else(broken: Path) -> None:
    file = broken / CONTENT / "model.mlmodel"
    whole = file.read_bytes()
    draw, refused = np.random.default_rng(0), 0
    for attempt in range(150):
        content = bytearray(whole[: draw.integers(len(whole))] if attempt % 2 else whole)
        content[draw.integers(len(content))] ^= int(draw.integers(1, 256))
        file.write_bytes(content)
        try:
            Program(broken)
        except (ArtifactCorrupted, Unsupported):
            refused += 1
    assert refused > 100


def test_what_is_no_package_is_corrupted(tmp_path: Path) -> None:
    with pytest.raises(ArtifactCorrupted, match="no Core ML package"):
        Program(tmp_path)


def test_a_program_that_says_a_wrong_shape_is_corrupted(broken: Path) -> None:
    model = read_model(broken)
    main = model.mlProgram.functions["main"]
    last = main.block_specializations[main.opset].operations[-1]
    last.outputs[0].type.tensorType.dimensions[1].constant.size += 1
    (broken / CONTENT / "model.mlmodel").write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactCorrupted, match=r"gives .* not "):
        compute(broken, *example_inputs(SPEC).values(), precision="fp16")
