"""The command `edgelut`, whose exports are made by `tests.ci.outside.exporting`: no worker loads torch."""

from __future__ import annotations

from edgelut.cli import main
from profiler import export_points

if __name__ == "__main__":
    export_points.TASKS = "tests.ci.outside.exporting"
    main()
