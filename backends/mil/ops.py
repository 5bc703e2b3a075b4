"""What each MIL operation computes, after the operation's own documentation in coremltools.

An operation is the function of that name; its parameters are the operation's inputs, by their MIL names. It gets tensors in
fp32 where the program has fp16: rounding the result to the declared type is the interpreter's part.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgelut.errors import ArtifactCorrupted, Unsupported

Op = Callable[..., "Tensor | tuple[Tensor, ...]"]
CASTS = {
    "fp16": torch.float16, "fp32": torch.float32, "bool": torch.bool, "int8": torch.int8, "uint8": torch.uint8,
    "int16": torch.int16, "int32": torch.int32,
}  # fmt: skip
PAIRWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "real_div": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "pow": torch.pow,
}
UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "erf": torch.erf,
    "exp": torch.exp,
    "identity": torch.clone,
    "relu": torch.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tanh": torch.tanh,
}


def ints(value: Tensor | None) -> list[int]:
    """Return an integer input as a list; a missing one as []."""
    return [] if value is None else [int(number) for number in value.reshape(-1)]


def flag(value: Tensor | None) -> bool:
    """Return a boolean input; a missing one is false."""
    return value is not None and bool(value)


def _pairwise(function: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    return function(x, y)


def _unary(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return function(x)


# Elementwise


def cast(x: Tensor, dtype: str) -> Tensor:
    """Convert to a named type; towards zero from floats to integers."""
    if dtype not in CASTS:
        raise Unsupported(f"MIL cast: no type {dtype!r}; there are {', '.join(CASTS)}")
    return x.to(CASTS[dtype])


def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """Apply x * Phi(x), or one of its two approximations."""
    if mode == "EXACT":
        return F.gelu(x)
    if mode == "TANH_APPROXIMATION":
        return F.gelu(x, approximate="tanh")
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    raise Unsupported(f"MIL gelu: no mode {mode!r}")


def clip(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Limit to [alpha, beta]."""
    return torch.minimum(torch.maximum(x, alpha), beta)


def leaky_relu(x: Tensor, alpha: Tensor) -> Tensor:
    """Return x, or alpha * x where x is negative."""
    return torch.where(x >= 0, x, alpha * x)


def thresholded_relu(x: Tensor, alpha: Tensor) -> Tensor:
    """Return x, or 0 where x is below alpha."""
    return torch.where(x >= alpha, x, torch.zeros_like(x))


def sigmoid_hard(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Return alpha * x + beta, limited to [0, 1]."""
    return (alpha * x + beta).clamp(0, 1)


def rsqrt(x: Tensor, epsilon: Tensor | float = 1e-12) -> Tensor:
    """Return 1 / sqrt(x + epsilon)."""
    return torch.rsqrt(x + epsilon)


def inverse(x: Tensor, epsilon: Tensor | float = 1e-4) -> Tensor:
    """Return 1 / (x + epsilon)."""
    return 1 / (x + epsilon)


def log(x: Tensor, epsilon: Tensor | float = 1e-45) -> Tensor:
    """Return log(x + epsilon)."""
    return torch.log(x + epsilon)


# Convolution, pooling, linear algebra


def _padding(
    x: Tensor, pad_type: str, pad: Tensor | None, kernel: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Return the padding before and after each spatial dimension; `kernel` is the dilated one."""
    if pad_type == "valid":
        return [(0, 0)] * len(kernel)
    if pad_type == "custom":
        given = ints(pad) or [0] * (2 * len(kernel))
        return list(zip(given[::2], given[1::2], strict=True))
    if pad_type not in ("same", "same_lower"):
        raise Unsupported(f"MIL padding: no pad_type {pad_type!r}")
    pads = []
    for size, side, stride in zip(x.shape[2:], kernel, strides, strict=True):
        total = max((math.ceil(size / stride) - 1) * stride + side - size, 0)
        less, more = total // 2, total - total // 2
        pads.append((less, more) if pad_type == "same" else (more, less))
    return pads


def _pad_map(x: Tensor, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Pad the spatial dimensions: torch wants the last one first."""
    return F.pad(x, [side for pair in reversed(pads) for side in pair], value=value)


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Tensor | None = None,
    pad_type: str = "valid",
    pad: Tensor | None = None,
    dilations: Tensor | None = None,
    groups: Tensor | None = None,
) -> Tensor:
    """Convolve (N, C, *D) in 1, 2 or 3 dimensions."""
    rank = x.ndim - 2
    stride, dilation = ints(strides) or [1] * rank, ints(dilations) or [1] * rank
    kernel = [(side - 1) * step + 1 for side, step in zip(weight.shape[2:], dilation, strict=True)]
    padded = _pad_map(x, _padding(x, pad_type, pad, kernel, stride))
    function: Callable[..., Tensor] = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    return function(padded, weight, bias, stride=stride, dilation=dilation, groups=1 if groups is None else int(groups))


def _windows(
    x: Tensor, kernel: list[int], strides: Tensor | None, pad_type: str, pad: Tensor | None, ceil_mode: Tensor | None
) -> tuple[list[int], list[tuple[int, int]], list[int]]:
    """Return strides, padding, and by how much ceil_mode reaches beyond the padding; a last window starts inside it."""
    stride = ints(strides) or [1] * len(kernel)
    pads = _padding(x, pad_type, pad, kernel, stride)
    beyond = [0] * len(kernel)
    if flag(ceil_mode):
        for index, (size, (before, after)) in enumerate(zip(x.shape[2:], pads, strict=True)):
            count = math.ceil((size + before + after - kernel[index]) / stride[index]) + 1
            if (count - 1) * stride[index] >= size + before:
                count -= 1
            beyond[index] = max((count - 1) * stride[index] + kernel[index] - (size + before + after), 0)
    return stride, pads, beyond


def _sum_pool(x: Tensor, kernel: list[int], stride: list[int]) -> Tensor:
    function: Callable[..., Tensor] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    return function(x, kernel, stride) * math.prod(kernel)


def avg_pool(
    x: Tensor,
    kernel_sizes: Tensor,
    strides: Tensor | None = None,
    pad_type: str = "valid",
    pad: Tensor | None = None,
    exclude_padding_from_average: Tensor | None = None,
    ceil_mode: Tensor | None = None,
) -> Tensor:
    """Average windows; padding counts as zeros unless it is excluded, what ceil_mode adds never counts."""
    kernel = ints(kernel_sizes)
    stride, pads, beyond = _windows(x, kernel, strides, pad_type, pad, ceil_mode)
    tail = [(0, extra) for extra in beyond]
    inside = torch.ones(1, 1, *x.shape[2:])
    inside = _pad_map(inside, pads, 0.0 if flag(exclude_padding_from_average) else 1.0)
    total = _sum_pool(_pad_map(_pad_map(x, pads), tail), kernel, stride)
    return total / _sum_pool(_pad_map(inside, tail), kernel, stride)


def max_pool(
    x: Tensor,
    kernel_sizes: Tensor,
    strides: Tensor | None = None,
    pad_type: str = "valid",
    pad: Tensor | None = None,
    ceil_mode: Tensor | None = None,
) -> Tensor:
    """Take the largest value of each window; padding never is."""
    kernel = ints(kernel_sizes)
    stride, pads, beyond = _windows(x, kernel, strides, pad_type, pad, ceil_mode)
    padded = _pad_map(_pad_map(x, pads, -math.inf), [(0, extra) for extra in beyond], -math.inf)
    function: Callable[..., Tensor] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    return function(padded, kernel, stride)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x @ weight.T + bias."""
    return F.linear(x, weight, bias)


def matmul(x: Tensor, y: Tensor, transpose_x: Tensor | None = None, transpose_y: Tensor | None = None) -> Tensor:
    """Multiply matrices, the last two dimensions of either swapped on request (of a vector, nothing)."""
    left = x.mT if flag(transpose_x) and x.ndim > 1 else x
    right = y.mT if flag(transpose_y) and y.ndim > 1 else y
    return left @ right


# Normalisation and reduction


def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: Tensor | float = 1e-5,
) -> Tensor:
    """Normalise (N, C, *D) by given statistics of its channels."""
    return F.batch_norm(x, mean, variance, gamma, beta, eps=float(epsilon))


def layer_norm(
    x: Tensor,
    axes: Tensor | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: Tensor | float = 1e-5,
) -> Tensor:
    """Normalise over axes (default: all); gamma and beta have the shape of these axes."""
    over = sorted(axis % x.ndim for axis in ints(axes)) or list(range(x.ndim))
    shape = [size if axis in over else 1 for axis, size in enumerate(x.shape)]
    centred = x - x.mean(over, keepdim=True)
    y = centred * torch.rsqrt(centred.square().mean(over, keepdim=True) + epsilon)
    y = y if gamma is None else y * gamma.reshape(shape)
    return y if beta is None else y + beta.reshape(shape)


def softmax(x: Tensor, axis: Tensor | int = -1) -> Tensor:
    """Return exp(x) over its sum along an axis."""
    return torch.softmax(x, int(axis))


def _reduce(
    function: Callable[..., Tensor], x: Tensor, axes: Tensor | None = None, keep_dims: Tensor | None = None
) -> Tensor:
    """Reduce over axes (default: all)."""
    return function(x, ints(axes) or list(range(x.ndim)), keepdim=flag(keep_dims))


# Shape


def reshape(x: Tensor, shape: Tensor) -> Tensor:
    """Give a new shape: -1 is what remains, 0 the same dimension counted from the right, or 1 beyond the left end."""
    sides = ints(shape)
    for index, side in enumerate(sides):
        same = index - len(sides) + x.ndim
        if side == 0:
            sides[index] = x.shape[same] if same >= 0 else 1
    return x.reshape(sides)


def transpose(x: Tensor, perm: Tensor) -> Tensor:
    """Permute the dimensions."""
    return x.permute(ints(perm))


def expand_dims(x: Tensor, axes: Tensor) -> Tensor:
    """Insert dimensions of 1; axes are those of the result."""
    rank = x.ndim + axes.numel()
    for axis in sorted(axis % rank for axis in ints(axes)):
        x = x.unsqueeze(axis)
    return x


def squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Drop dimensions of 1 (default: all of them)."""
    return x.squeeze() if axes is None else x.squeeze(ints(axes))


def concat(values: list[Tensor], axis: Tensor, interleave: Tensor | None = None) -> Tensor:
    """Join along an axis, or take turns along it."""
    if not flag(interleave):
        return torch.cat(values, int(axis))
    at = int(axis) % values[0].ndim
    return torch.stack(values, at + 1).flatten(at, at + 1)


def stack(values: list[Tensor], axis: Tensor) -> Tensor:
    """Join along a new axis."""
    return torch.stack(values, int(axis))


def split(
    x: Tensor, axis: Tensor, num_splits: Tensor | None = None, split_sizes: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Cut along an axis into given sizes, or into a number of equal parts."""
    size, given = x.shape[int(axis)], ints(split_sizes)
    if not given:
        parts = builtins.max(ints(num_splits), default=0)
        if not parts or size % parts:
            raise ArtifactCorrupted(f"MIL split: {size} cannot be cut into {parts} equal parts")
        given = [size // parts] * parts
    return torch.split(x, given, int(axis))


def pad(x: Tensor, pad: Tensor, mode: str = "constant", constant_val: Tensor | float = 0.0) -> Tensor:
    """Pad the last dimensions: pairs of before and after, in the order of the dimensions."""
    given = ints(pad)
    pairs = [(0, 0)] * (x.ndim - len(given) // 2) + list(zip(given[::2], given[1::2], strict=True))
    if mode == "constant":
        return torch.from_numpy(np.pad(x.numpy(), pairs, constant_values=float(constant_val)))
    if mode == "reflect":
        return torch.from_numpy(np.pad(x.numpy(), pairs, mode="reflect"))
    if mode == "replicate":
        return torch.from_numpy(np.pad(x.numpy(), pairs, mode="edge"))
    raise Unsupported(f"MIL pad: no mode {mode!r}")


def slice_by_index(
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    """Take x[begin:end:stride] along every dimension; masks: from the start, to the end, the one index `begin`."""
    none = [0] * x.ndim
    steps, heads, tails = ints(stride) or [1] * x.ndim, ints(begin_mask) or none, ints(end_mask) or none
    if builtins.min(steps) < 1:
        raise Unsupported("MIL slice_by_index: negative strides")
    single = ints(squeeze_mask) or none
    index = tuple(
        first if one else slice(None if head else first, None if tail else last, step)
        for first, last, step, head, tail, one in zip(ints(begin), ints(end), steps, heads, tails, single, strict=True)
    )
    return x[index]


def tile(x: Tensor, reps: Tensor) -> Tensor:
    """Repeat along every dimension."""
    return x.repeat(ints(reps))


OPS: dict[str, Op] = {
    **{name: partial(_pairwise, function) for name, function in PAIRWISE.items()},
    **{name: partial(_unary, function) for name, function in UNARY.items()},
    **{
        f"reduce_{name}": partial(_reduce, function)
        for name, function in (("mean", torch.mean), ("sum", torch.sum), ("max", torch.amax), ("min", torch.amin))
    },
    **{
        function.__name__: function
        for function in (
            avg_pool, batch_norm, cast, clip, concat, conv, expand_dims, gelu, inverse, layer_norm, leaky_relu, linear, log,
            matmul, max_pool, pad, reshape, rsqrt, sigmoid_hard, slice_by_index, softmax, split, squeeze, stack,
            thresholded_relu, tile, transpose,
        )
    },
}  # fmt: skip
