"""A data folder of these tests' own, where runners are built once for all of them; and no runner is left when they are done."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGELUT_HOME", str(folder))
        patch.delenv("EDGELUT_RUNNER_DIR", raising=False)
        yield folder
        link = sys.modules.get("backends.native.link")
        if link is not None:
            link.close_all()
