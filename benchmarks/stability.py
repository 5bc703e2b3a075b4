"""How far a row moves between fresh sessions on a loaded host, beside one contiguous loop of 300 calls.

Ten times over: a sweep in new processes of a few blocks, and a fresh process that times each block in
one loop of 300. Another process loads the machine in bursts all the while. A row's coefficient of variation is over the ten.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from report import Figure, parser, publish

from db.engine import open_store
from edgelut import EMBEDDING, MB3D, MB4D, STEM, Target
from edgelut.plan import Point, Policy
from profiler.artifacts import Stored
from profiler.export_points import ExportPool
from profiler.sweep import run_sweep
from profiler.worker import Worker

TARGET = Target("host", "onnxruntime-cpu")
SPECS = (
    STEM.spec(48, 224),
    MB4D.spec(48, 56),
    EMBEDDING.spec(96, 28, width_out=224),
    MB4D.spec(224, 14),
    MB4D.spec(448, 7),
    MB3D.spec(448, 7),
    MB3D.spec(224, 14),
)
CONTIGUOUS = 300
GOAL = 2.0
LOAD = """
import random, time, numpy
draw = random.Random({seed})
matrix = numpy.random.default_rng(0).random((400, 400))
end = time.monotonic() + {limit}
while time.monotonic() < end:
    stop = time.monotonic() + draw.uniform(0.05, 1.5)
    while time.monotonic() < stop:
        matrix @ matrix
    time.sleep(draw.uniform(0.05, 1.0))
"""


def main() -> None:
    """Run the sessions; print the coefficients of variation."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--sessions", type=int, default=10)
    arguments.add_argument("--idle", action="store_true", help="without the process that loads the host")
    options = arguments.parse_args()
    ours, raws, loops, walls = [], [], [], []
    with tempfile.TemporaryDirectory() as folder, _load(options.seed, not options.idle):
        for session in range(options.sessions):
            row, raw = _sweep(Path(folder), session, options.seed)
            ours.append(row)
            raws.append(raw)
            cpu, wall = _contiguous(Path(folder))
            loops.append(cpu)
            walls.append(wall)
            print(f"session {session + 1} of {options.sessions}", file=sys.stderr, flush=True)
    publish(_figures(_cv(ours), _cv(raws), _cv(loops), _cv(walls)), options.json)


def _sweep(home: Path, session: int, seed: int) -> tuple[list[float], list[float]]:
    """Return each row's p10, and that before the machine's drift was divided out, from a sweep with nothing known before.

    The database is one for all, for it holds the machine's nominal reference time; every row is measured again.
    """
    points = [Point(spec, TARGET, "onnx") for spec in SPECS]
    store = open_store(f"sqlite:///{home / 'edgelut.db'}", migrate=True)
    try:
        result = run_sweep(points, store, home, Policy(seed=seed + session), again=True)
    finally:
        store.close()
    if result.failures:
        raise SystemExit(f"a row failed: {result.failures[0].reason}")
    found = {entry.spec: entry for entry in result.measured}
    rows = [found[spec] for spec in SPECS]
    return [row.latency.p10_ns for row in rows], [float(row.provenance["raw_p10_ns"]) for row in rows]


def _contiguous(home: Path) -> tuple[list[float], list[float]]:
    """Return each block's p10 of CPU time and mean of wall time from one loop in a fresh process: what most tools do."""
    cpu, wall = [], []
    with Worker("profiler.timing") as worker:
        for number, stored in enumerate(_stored(home)):
            worker.call("open_session", number=number, path=str(stored.path), target=TARGET, shapes=stored.shapes)
            timing = worker.call("time_session", number=number, warmups=10, samples=CONTIGUOUS, inner=1)
            cpu.append(float(np.quantile(timing.cpu_ns, 0.1)))
            wall.append(float(np.mean(timing.wall_ns)))
            worker.call("close_session", number=number)
    return cpu, wall


def _stored(home: Path) -> list[Stored]:
    found: dict[int, Stored] = {}
    with ExportPool(home / "artifacts", workers=1) as pool:
        points = [Point(spec, TARGET, "onnx") for spec in SPECS]
        pool.export_all(points, lambda index, stored, made: found.update({index: stored}), _raise)
    return [found[index] for index in range(len(SPECS))]


def _raise(index: int, error: Exception) -> None:
    raise error


@contextmanager
def _load(seed: int, wanted: bool) -> Iterator[None]:
    """Load one core in bursts until the block ends."""
    if not wanted:
        yield
        return
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", LOAD.format(seed=seed, limit=3600)], env=environment)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _cv(sessions: Sequence[Sequence[float]]) -> np.ndarray:
    """Return each block's coefficient of variation over the sessions, in percent."""
    values = np.asarray(sessions)
    return np.asarray(100 * values.std(axis=0, ddof=1) / values.mean(axis=0))


def _figures(ours: np.ndarray, raws: np.ndarray, loops: np.ndarray, walls: np.ndarray) -> list[Figure]:
    names = ", ".join(f"{spec} {value:.1f}" for spec, value in zip(SPECS, ours, strict=True))
    median, worst = float(np.median(ours)), float(ours.max())
    loop = f"contiguous loop of {CONTIGUOUS}: CPU p10 {np.median(loops):.1f} (worst {loops.max():.1f}), "
    loop += f"wall mean {np.median(walls):.1f} (worst {walls.max():.1f})"
    print(names)
    return [
        Figure(
            "stability, CV of a row between sessions, median row", median, "%", f"<= {GOAL:g} %", median <= GOAL, loop
        ),
        Figure("stability, CV of a row between sessions, worst row", worst, "%", f"<= {GOAL:g} %", worst <= GOAL, loop),
        Figure("stability, the same rows as measured, drift left in", float(np.median(raws)), "%", None, None, median),
    ]


if __name__ == "__main__":
    main()
