"""Stands in for coremltools' ModelRunner app (its Swift is in the wheel for macOS): what it does with the files it is given.

It looks at the names in requests/messages, heeds those that it has not seen, answers one request after the other into
responses/ID, and deletes nothing but messages. A model gives back its inputs, in the time that `TIMES_NS` says.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
import uuid
from collections import deque
from pathlib import Path
from typing import Any

from libcoremlpython import JITTER, PLANS, TIMES_NS  # beside this file

FASTER = 0.5  # than the Mac
UNITS = {"cpu": {"cpu": {}}, "gpu": {"gpu": {}}, "ne": {"neuralEngine": {"totalCoreCount": 16}}}


class Refusal(Exception):
    """What the app answers as an error."""


class App:
    def __init__(self, documents: Path) -> None:
        self.root = documents / "modelrunnerd"
        self.root.mkdir(exist_ok=True)
        for name in ("requests/messages", "requests/resources", "responses"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.seen: set[str] = set()
        self.waiting: deque[Path] = deque()
        self.models: dict[str, Any] = {}

    def step(self) -> bool:
        """Heed what is new and answer one request; return whether there was one that was whole."""
        messages = self.root / "requests/messages"
        new = {entry.name for entry in os.scandir(messages) if not entry.name.startswith(".")} - self.seen
        self.seen |= new
        self.waiting.extend(messages / name for name in sorted(new))
        for _ in range(len(self.waiting)):
            folder = self.waiting.popleft()
            message = self._whole(folder)
            if message is not None:
                self._answer(message)
                (folder / "message.json").unlink()
                return True
            self.waiting.append(folder)  # it is tried again: it may have come in part
        return False

    def _whole(self, folder: Path) -> Any:
        try:
            message = json.loads((folder / "message.json").read_text())
        except (OSError, ValueError):
            return None
        resource = message.get("resource")
        return message if resource is None or self._resource(message).exists() else None

    def _resource(self, message: Any) -> Path:
        found: Path = self.root / "requests/resources" / message["id"] / message["resource"]
        return found

    def _answer(self, message: Any) -> None:
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        staged = self.root / f".staged-{uuid.uuid4().hex}"
        staged.mkdir()
        try:
            service, _, method = message["method"].partition(".")
            assert service == "MLModelService"
            answer["result"] = getattr(self, method)(message, staged)
            if "resource" in answer["result"]:
                answer["resource"] = answer["result"]["resource"]
        except Refusal as refusal:
            answer |= {"result": {}, "error": {"code": -32001, "message": str(refusal)}}
        (staged / "message.json").write_text(json.dumps(answer))
        place = self.root / "responses" / message["id"]
        shutil.rmtree(place, ignore_errors=True)
        staged.rename(place)

    def _model(self, params: Any) -> Any:
        model = self.models.get(params["modelID"])
        if model is None:
            raise Refusal(f"Missing resource: The model with ID '{params['modelID']}' is not currently loaded.")
        return model

    def Load(self, message: Any, staged: Path) -> Any:
        params, compiled = message["params"], self._resource(message)
        if compiled.suffix != ".mlmodelc":
            raise Refusal(f"Invalid resource: Expected an mlmodelc directory, but found: {compiled.name}")
        deadline = time.monotonic() + 5
        while not (compiled / "fake.json").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        times = itertools.cycle(int(TIMES_NS[params["computeUnits"]] * FASTER * one) for one in JITTER)
        facts = json.loads((compiled / "fake.json").read_text())
        self.models[params["modelID"]] = {"unit": params["computeUnits"], "times": times, **facts}
        return {"modelID": params["modelID"], "duration": 31_000_000, "isCached": False}

    def Unload(self, message: Any, staged: Path) -> Any:
        self._model(message["params"])
        del self.models[message["params"]["modelID"]]
        return {"modelID": message["params"]["modelID"]}

    def ComputePlan(self, message: Any, staged: Path) -> Any:
        shares = PLANS[self._model(message["params"])["unit"]]
        infos = [
            {
                "deviceUsage": {"preferred": UNITS[unit], "supported": [UNITS[unit]]},
                "estimatedCost": share,
                "path": {
                    "components": [
                        {"program": {}},
                        {"programFunction": {"data": {"name": "main"}}},
                        {"programBlock": {"data": {"index": -1}}},
                        {"programOperation": {"data": {"outputName": f"op_{unit}"}}},
                    ]
                },
            }
            for unit, share in shares.items()
        ]
        return {"modelID": message["params"]["modelID"], "infos": infos}

    def Prediction(self, message: Any, staged: Path) -> Any:
        params = message["params"]
        model = self._model(params)
        given, data = next(iter(params["inputs"].values())), self._resource(message).read_bytes()
        duration = next(model["times"])
        time.sleep(duration / 1e9)
        start = given["storage"]["offset"]
        content = data[start : start + given["storage"]["size"]]
        resource = f"{uuid.uuid4()}.bin"
        (staged / resource).write_bytes(content)
        outputs = {name: {**given, "storage": {"offset": 0, "size": len(content)}} for name in model["outputs"]}
        return {"modelID": params["modelID"], "outputs": outputs, "duration": duration, "resource": resource}
