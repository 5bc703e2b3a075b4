"""A Mac with a phone attached, made of files: coremltools as its wheel for macOS is, Xcode's tools on PATH, and the phone."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FAKE = Path(__file__).parent / "fake"
IDENTIFIER = "8648BE6E-199F-55FE-B508-5B42071FEE92"
UDID = "00008110-000559182E90401E"
TEAM = "ABCDE12345"
MACOS = "15.1"
PMSET = """case "$*" in
*batt) echo "Now drawing from 'AC Power'" ;;
*therm) cat "$FAKE_PHONE/therm" ;;
*) echo " lowpowermode         0" ;;
esac"""
TOOLS = {
    "sw_vers": f"echo {MACOS}",
    "sysctl": "case $2 in hw.model) echo Mac14,2 ;; kern.osversion) echo 24B83 ;; *) echo Apple M2 ;; esac",
    "pmset": PMSET,
}
PHONE: dict[str, Any] = {
    "identifier": IDENTIFIER,
    "udid": UDID,
    "connectionProperties": {"pairingState": "paired", "transportType": "wired", "tunnelState": "connected"},
    "deviceProperties": {
        "bootState": "booted",
        "ddiServicesAvailable": True,
        "developerModeStatus": "enabled",
        "name": "Somebody's iPhone",
        "osBuildUpdate": "22B83",
        "osVersionNumber": "18.1",
    },
    "hardwareProperties": {
        "deviceType": "iPhone",
        "marketingName": "iPhone 13",
        "platform": "iOS",
        "productType": "iPhone14,5",
        "reality": "physical",
        "udid": UDID,
    },
}
START = f"""
import platform, sys
sys.dont_write_bytecode = True
platform.mac_ver = lambda *_: ("{MACOS}", ("", "", ""), "arm64")
"""
# Its functions that ask the system for itself run `sw_vers` there.
ON_MACOS = """
from coremltools.models import utils as _utils
_utils._is_macos = lambda: True
"""


@dataclass(frozen=True)
class Mac:
    """The folder that the Mac is made in."""

    folder: Path

    @property
    def phone(self) -> Path:
        return self.folder / "phone"

    @property
    def env(self) -> dict[str, str]:
        """What processes need that are to think they run on it."""
        path = os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]])
        python = os.pathsep.join(filter(None, [str(self.folder / "site"), os.environ.get("PYTHONPATH")]))
        return {"PATH": path, "PYTHONPATH": python, "FAKE_PHONE": str(self.phone), "EDGELUT_APPLE_TEAM": TEAM}

    def make(self) -> Mac:
        """Make it."""
        (self.folder / "bin").mkdir(parents=True)
        (self.phone / "data").mkdir(parents=True)
        (self.phone / "therm").write_text("Note: No thermal warning level has been recorded\n")
        self.now()
        start = f"#!{sys.executable} -S\nimport sys\nsys.path.insert(0, {str(FAKE)!r})\n"
        for name in ("xcrun", "devicectl"):
            self._tool(name, f"{start}import xcrun\nsys.exit(xcrun.main({name!r}, sys.argv[1:]))\n")
        self._tool("xcodebuild", f"{start}import xcodebuild\nsys.exit(xcodebuild.main(sys.argv[1:]))\n")
        for name, text in TOOLS.items():
            self._tool(name, f"#!/bin/sh\n{text}\n")
        self._coremltools()
        return self

    def now(self, **changes: Any) -> None:
        """Let the phone be as it usually is, but for some changes; a mapping is merged."""
        told = {**PHONE}
        for name, value in changes.items():
            told[name] = {**told.get(name, {}), **value} if isinstance(value, dict) else value
        staged = self.phone / "phone.tmp"
        staged.write_text(json.dumps(told))
        staged.replace(self.phone / "phone.json")

    def calls(self) -> list[str]:
        """Return the commands that were given, in order."""
        log = self.phone / "calls"
        return log.read_text().splitlines() if log.exists() else []

    def launches(self) -> int:
        """Return how often the app was launched."""
        log = self.phone / "launches"
        return len(log.read_text()) if log.exists() else 0

    def is_running(self) -> bool:
        """Say whether the app that was launched last still runs."""
        try:
            os.kill(int((self.phone / "running").read_text()), 0)
        except ProcessLookupError:
            return False
        return True

    def kill_app(self) -> None:
        """Let the app end, as one that crashes."""
        os.kill(int((self.phone / "running").read_text()), signal.SIGKILL)

    def _tool(self, name: str, text: str) -> None:
        place = self.folder / "bin" / name
        place.write_text(text)
        place.chmod(0o755)

    def _coremltools(self) -> None:
        """Put coremltools together as it is on a Mac: what is installed here, a native module and the app's project."""
        spec = find_spec("coremltools")
        assert spec is not None and spec.submodule_search_locations
        here = self.folder / "site" / "coremltools"
        here.mkdir(parents=True)
        for entry in Path(spec.submodule_search_locations[0]).iterdir():
            if entry.name not in ("__pycache__", "__init__.py"):
                (here / entry.name).symlink_to(entry)
        (here / "__init__.py").write_text(Path(spec.origin or "").read_text() + ON_MACOS)
        (here / "libcoremlpython.py").symlink_to(FAKE / "libcoremlpython.py")
        (here / "modelrunner" / "ModelRunner.xcworkspace").mkdir(parents=True)
        (self.folder / "site" / "sitecustomize.py").write_text(START)
