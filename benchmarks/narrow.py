"""onnxruntime on an x86 machine with vectors of 128 bits, as wide as an arm64 phone's, for processes started meanwhile.

Nothing tells onnxruntime which vectors to use: it asks the processor, by the instruction `cpuid`. So in a copy of the package each
of them is replaced by `ud2`, of the same length, and what the kernel then signals is answered by `narrow.c`: the truth less AVX.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

TIMEOUT_S = 120
CPUID, UD2 = b"\x0f\xa2", b"\x0f\x0b"
NEEDS = ("gcc", "objdump")  # both come with Debian's gcc


def missing() -> str | None:
    """Say why this machine cannot do it, if it cannot."""
    if platform.machine() != "x86_64":
        return f"narrow vectors are for x86_64, and this is {platform.machine()}"
    lacking = [tool for tool in NEEDS if shutil.which(tool) is None]
    return f"{' and '.join(lacking)} missing: apt-get install gcc" if lacking else None


@contextmanager
def narrow_vectors() -> Iterator[None]:
    """Have every Python that is started meanwhile import an onnxruntime that finds no vectors wider than 128 bits."""
    found = importlib.util.find_spec("onnxruntime")
    assert found and found.origin
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        package = shutil.copytree(Path(found.origin).parent, folder / "onnxruntime")
        (module,) = package.glob("capi/onnxruntime_pybind11_state*.so")
        _replace(module)
        answers = folder / "narrow.so"
        _run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(answers), str(Path(__file__).with_suffix(".c"))])
        with patch.dict(os.environ, PYTHONPATH=str(folder), LD_PRELOAD=str(answers)):
            said = _run([sys.executable, "-P", "-c", "import onnxruntime; print(onnxruntime.__file__)"])
            if not said.startswith(str(folder)):
                raise SystemExit(f"the copy of onnxruntime in {folder} is not what is imported, but {said.strip()}")
            yield


def _replace(library: Path) -> None:
    """Replace the instruction where the disassembler finds it, and nowhere else."""
    text = _run(["objdump", "--section-headers", "--section=.text", str(library)])
    _, _, address, _, offset = re.search(r"\.text((?:\s+[0-9a-f]+){4})", text)[0].split()  # type: ignore[index]
    listing = _run(["objdump", "--disassemble", "--no-show-raw-insn", "--section=.text", str(library)])
    places = [int(found[1], 16) for found in re.finditer(r"^\s*([0-9a-f]+):\s+cpuid", listing, re.MULTILINE)]
    content = bytearray(library.read_bytes())
    for place in places:
        start = place - int(address, 16) + int(offset, 16)
        if content[start : start + 2] != CPUID:
            raise SystemExit(f"{library.name} has no cpuid at {start:#x}, though objdump says so")
        content[start : start + 2] = UD2
    if not places:
        raise SystemExit(f"{library.name} asks the processor nothing: it cannot be made to find other vectors")
    library.write_bytes(content)


def _run(argv: list[str]) -> str:
    """Run a tool; return what it printed."""
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=TIMEOUT_S).stdout
