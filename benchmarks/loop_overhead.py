"""What our timing loop adds to a call, against a bare loop over the same session and the same bound memory."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from pathlib import Path
from time import perf_counter_ns, thread_time_ns

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from report import Figure, parser, publish

from backends.base import Loaded
from backends.clock import time_calls
from backends.runtimes.onnxruntime_cpu import OnnxruntimeSession
from edgelut.plan import Policy

CALL_NS = 200_000  # about what the model takes
INNER = Policy().inner(CALL_NS)  # calls a sample, as a sweep has them for such a block
SAMPLES = 6
CALLS = SAMPLES * INNER  # a burst: about 5 ms
ROUNDS = 400
GOAL = 0.01


def write_model(path: Path, seed: int, width: int = 84, side: int = 14) -> None:
    """Write a bottleneck of two convolutions, about 0.2 ms a call."""
    draws = np.random.default_rng(seed)
    shapes = {"a": (4 * width, width, 1, 1), "b": (width, 4 * width, 1, 1)}
    weights = [
        numpy_helper.from_array(draws.normal(0, 0.05, shape).astype(np.float32), name) for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "b"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, width, side, side)) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "bottleneck", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Return a plain single-threaded session."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def bare_ns(session: onnxruntime.InferenceSession, binding: onnxruntime.IOBinding) -> tuple[int, int]:
    """Time CALLS calls as a whole, as one would write it by hand: wall and CPU."""
    cpu, wall = thread_time_ns(), perf_counter_ns()
    for _ in range(CALLS):
        session.run_with_iobinding(binding)
    wall = perf_counter_ns() - wall
    return wall, thread_time_ns() - cpu


def loop_cost_ns(calls: int = 20_000) -> float:
    """Return what the loop itself costs a sample: time_calls of a function that does nothing, timed as a whole."""

    def nothing() -> None:
        pass

    costs = []
    for _ in range(5):
        started = perf_counter_ns()
        time_calls(nothing, calls)
        costs.append((perf_counter_ns() - started) / calls)
    return min(costs)


def main() -> None:
    """Interleave bursts of both loops, in random order, over one session and one binding."""
    options = parser(__doc__ or "").parse_args()
    order = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        write_model(path, options.seed)
        plain = open_session(path)
        session = OnnxruntimeSession(plain, Loaded("cpu"))
        session.prepare({"x": np.random.default_rng(options.seed).normal(size=(1, 84, 14, 14)).astype(np.float32)})
        rows = [burst_pair(plain, session, ours_first=order.random() < 0.5) for _ in range(ROUNDS)]
    publish(figures(np.array(rows[ROUNDS // 10 :], dtype=float)), options.json)


def burst_pair(plain: onnxruntime.InferenceSession, session: OnnxruntimeSession, ours_first: bool) -> tuple[int, ...]:
    """Return the ns of a bare burst (wall, CPU), of one of ours, and what ours reports (wall, CPU)."""
    bare = None if ours_first else bare_ns(plain, session.binding)
    started = perf_counter_ns()
    timing = session.time(SAMPLES, INNER)
    ours = perf_counter_ns() - started
    wall, cpu = bare or bare_ns(plain, session.binding)
    return wall, cpu, ours, sum(timing.wall_ns), sum(timing.cpu_ns)


def figures(rows: npt.NDArray[np.float64]) -> list[Figure]:
    """Return the ratios to the bare loop of what is reported as latency, and of what the caller waits for.

    Rows are pairs of neighbouring bursts, so the median is of the pairs' ratios: the host's drift divides out.
    """
    wall, cpu, ours, ours_wall, ours_cpu = rows.T
    table = [Figure("timing loop: a call in the bare loop", float(np.percentile(wall, 10)) / CALLS / 1e6, "ms")]
    for name, values, bare in (
        ("reported wall latency", ours_wall, wall),
        ("reported CPU latency", ours_cpu, cpu),
        ("whole loop", ours, wall),
    ):
        p10 = float(np.percentile(values, 10) / np.percentile(bare, 10)) - 1
        middle = float(np.median(values / bare)) - 1
        for statistic, ratio in (("p10", p10), ("median pair", middle)):
            met = ratio <= GOAL
            table.append(
                Figure(f"timing loop: {name} over bare, {statistic}", 100 * ratio, "%", "<= 1 %", met, "bare loop")
            )
    return [*table, Figure("timing loop: cost of a sample", loop_cost_ns() / 1e3, "us")]


if __name__ == "__main__":
    main()
