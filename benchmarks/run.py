"""Run every benchmark of this folder and print one table of their figures."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from report import Figure, parser, publish, show

HERE = Path(__file__).parent
TIMEOUT_S = 3600


def main() -> int:
    """Run the scripts one after another; return 1 if one of them failed."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("names", nargs="*", help="scripts to run, without .py (default: all)")
    options = arguments.parse_args()
    shared = {"attached", "narrow", "report", "run", "slow_phone"}
    scripts = sorted(path for path in HERE.glob("*.py") if path.stem not in shared)
    figures: list[Figure] = []
    failed: list[str] = []
    for script in [path for path in scripts if not options.names or path.stem in options.names]:
        print(f"== {script.stem}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "figures.json")
            argv = [sys.executable, str(script), "--seed", str(options.seed), "--json", str(out)]
            done = subprocess.run(argv, timeout=TIMEOUT_S, check=False)
            if done.returncode or not out.exists():
                failed.append(script.stem)
                continue
            figures += [Figure(**row) for row in json.loads(out.read_text())]
    publish(figures, options.json) if options.json else show(figures)
    print(f"failed: {', '.join(failed)}" if failed else "all benchmarks ran")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
