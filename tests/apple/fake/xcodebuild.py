"""Stands in for `xcodebuild`: makes an app that is no more than its bundle identifier; fails without a team."""

from __future__ import annotations

import os
from pathlib import Path


def main(words: list[str]) -> int:
    """Build; return the exit code."""
    given = dict(word.split("=", 1) for word in words if "=" in word)
    with (Path(os.environ["FAKE_PHONE"]) / "calls").open("a") as log:
        log.write("xcodebuild\n")
    if given.get("DEVELOPMENT_TEAM", "BADTEAM000") == "BADTEAM000":
        return 65
    app = Path(given["SYMROOT"]) / "Release-iphoneos" / "modelrunner.app"
    app.mkdir(parents=True)
    (app / "bundle").write_text(given["PRODUCT_BUNDLE_IDENTIFIER"])
    return 0
