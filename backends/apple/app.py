"""The ModelRunner app on one phone: it is built, installed and launched when it is first needed, and timed in queues.

The app answers what lies before it one request after the other. So the predictions of a burst are put there together, by one
transfer, and their answers fetched together: between two samples the phone reads and writes some small files, instead of
waiting half a second for the next request. docs/apple.md, "The loop", has every step.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from backends.base import Array
from edgelut.errors import DeviceUnusable, Unsupported
from edgelut.types import Scalar

from . import devicectl, remote
from .devicectl import Refused
from .remote import Answer, AppSession, Model, RemoteError, Signing, Socket

T = TypeVar("T")
MOST_AHEAD = 128  # requests before the app at once, each with inputs of its own
MOST_REQUESTS = 1000  # of one launch: the app lists them all on its screen, and their folders whenever one more comes
FIRST_S = 20.0  # for the first answer out of a queue; an app that gives none is asked one by one
QUIET_S = 60.0  # for the next answer
POLL_S = 0.02  # between two fetches, each of which takes its time


@dataclass(slots=True)
class PhoneModel:
    """A compiled model and its place in the app, which is another after each launch."""

    compiled: Path
    unit: str
    load_ns: int = 0
    service: Model | None = None
    launch: int = -1
    inputs: Mapping[str, Array] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Queue:
    """Predictions that were asked for together. `names` are those of their requests; an answer is taken once."""

    model: PhoneModel
    warmups: int
    calls: int
    names: Sequence[str] = ()
    began: float = 0.0
    answers: dict[str, Answer] = field(default_factory=dict)
    refused: str = ""

    @property
    def size(self) -> int:
        """How many requests it has."""
        return self.warmups + self.calls

    @property
    def heard(self) -> int:
        """How many were answered."""
        return len(self.answers)

    @property
    def is_answered(self) -> bool:
        """True where nothing more is to come."""
        return self.heard == self.size


@dataclass(frozen=True, slots=True)
class Burst:
    """What predictions took, in ns on the phone's clock, and the longest pause between two of them; None where not known."""

    durations_ns: tuple[int, ...]
    pause_ns: int | None


class App:
    """One phone's app. Safe for one thread; close it.

    It raises DeviceUnusable where the phone refuses or goes away, and Unsupported for what the app does not do. An app that
    ended, or was asked often enough, is launched again, and models are loaded into it when they are used.
    """

    def __init__(self, identifier: str, signing: Signing, home: Path) -> None:
        """`home` keeps the built app; nothing is reached for yet."""
        self.queued = True  # False: this app was seen to answer no queue
        self._identifier, self._signing, self._home = identifier, signing, home
        self._runner = asyncio.Runner()
        self._folder = Path(tempfile.mkdtemp(prefix="edgelut-"))
        self._session: AppSession | None = None
        self._socket: Socket | None = None
        self._launches = 0
        self._requests = 0
        self._pending: deque[Queue] = deque()
        self._flying: list[Queue] = []
        self._pauses: list[int | None] = []
        self._rename()

    def open(self, compiled: Path, unit: str) -> PhoneModel:
        """Load a compiled model for a compute unit (`CPU_AND_NE`)."""
        model = PhoneModel(compiled, unit)
        self._loaded(model)
        return model

    def plan(self, model: PhoneModel) -> list[tuple[str, float | None]]:
        """Return the preferred unit and the estimated cost of each operation; raise Unsupported before iOS 17.4."""
        service = self._loaded(model)
        found = self._ask(service.retrieve_compute_plan())
        names = {"CPUDevice": "cpu", "GPUDevice": "gpu", "NeuralEngineDevice": "ne"}
        return [
            (names[type(info.device_usage.preferred).__name__], info.estimated_cost) for info in found.infos.values()
        ]

    def predict(self, model: PhoneModel, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs by name."""
        service = self._loaded(model)
        self._requests += 1
        outputs: dict[str, Array] = self._ask(service.predict(dict(inputs)))
        return outputs

    def bind(self, model: PhoneModel, inputs: Mapping[str, Array]) -> None:
        """Keep the inputs that `time` uses."""
        model.inputs = dict(inputs)

    def begin(self, model: PhoneModel, warmups: int, calls: int) -> Queue:
        """Let the phone predict `warmups + calls` times on the bound inputs, after what it has before it; `wait` gives the times.

        What does not fit before the app any more is put there when something was waited for.
        """
        queue = Queue(model, warmups, calls)
        self._pending.append(queue)
        self._pump()
        return queue

    def wait(self, queue: Queue) -> Burst:
        """Return what the last `calls` of a queue took; raise what it was refused for."""
        try:
            while not queue.is_answered and self.queued:
                self._pump()
                self._fetch(queue)
            burst = self._one_by_one(queue) if not self.queued else _in_order(queue)
        finally:
            self._drop(queue)
        self._pump()
        self._pauses.append(burst.pause_ns)
        return burst

    def take_observed(self) -> dict[str, Scalar]:
        """Return how contiguous samples were since this was last asked: the longest pause between two of a burst, where known."""
        pauses, self._pauses = [pause for pause in self._pauses if pause is not None], []
        found: dict[str, Scalar] = {"observed_loop": "queued" if self.queued else "one by one"}
        return {**found, "observed_pause_ms": round(max(pauses) / 1e6, 1)} if pauses else found

    def release(self, model: PhoneModel) -> None:
        """Unload a model; one that cannot be reached any more is gone."""
        if model.service is not None and model.launch == self._launches and self._is_alive():
            with suppress(DeviceUnusable, Unsupported):
                self._ask(model.service.unload())
        model.service = None

    def close(self) -> None:
        """End the app."""
        self._end()
        self._runner.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    # The app

    def build(self) -> Path:
        """Return the app for this phone, built where it is not yet: the one step that takes a minute."""
        return remote.build_app(self._phone(), self._home / "build", self._signing)

    def _phone(self) -> devicectl.Phone:
        phone = self._tell(lambda: devicectl.find_phone(self._identifier))
        if phone is None:
            raise devicectl.unusable(self._identifier, "not found")
        why = devicectl.why_not(phone)
        if why:
            raise DeviceUnusable(f"iphone:{self._identifier}: {why}")
        return phone

    def _loaded(self, model: PhoneModel) -> Model:
        """Return a model that is loaded into the app that runs now."""
        if not self._flying and (not self._is_alive() or self._requests >= MOST_REQUESTS):
            self._launch()
        if model.service is None or model.launch != self._launches:
            model.service = self._runner.run(self._new_model(model))
            self._ask(model.service.load())
            model.load_ns = model.load_ns or int(model.service.load_duration_in_nano_seconds or 0)
            model.launch = self._launches
        return model.service

    async def _new_model(self, model: PhoneModel) -> Model:
        return remote.model_of(self._to_app(), model.compiled, model.unit)

    def _is_alive(self) -> bool:
        return self._session is not None and bool(self._session.is_alive)

    def _launch(self) -> None:
        """Install the app, empty its data, and start it."""
        self._end()
        phone, app = self._phone(), self.build()
        bundle = self._tell(lambda: devicectl.install(phone.identifier, app)) or self._signing.bundle
        self._empty(phone.identifier, bundle)
        self._session = remote.launch_app(phone, bundle, self._folder)
        self._socket = remote.open_socket(self._session)
        self._launches, self._requests = self._launches + 1, 0
        self._rename()

    def _empty(self, identifier: str, bundle: str) -> None:
        """Let the app begin with nothing: it keeps every request, answer and model until it is deleted."""
        empty = self._folder / "empty"
        empty.mkdir(exist_ok=True)
        (empty / "edgelut").touch()
        with suppress(Refused):  # it begins with what it has
            devicectl.copy_to(identifier, bundle, empty, remote.SOURCE, replace=True)

    def _rename(self) -> None:
        """Begin new names of requests, unlike those before, whose answers may still lie there."""
        self._prefix, self._named = uuid.uuid4().hex[:12], 0
        self._free: list[str] = []
        self._tokens: dict[str, str] = {}
        self._sent: set[tuple[str, str]] = set()  # request, and the inputs that it has

    def _end(self) -> None:
        if self._session is not None:
            self._session.stop()
        self._session = self._socket = None

    # Asking

    def _ask(self, request: Coroutine[Any, Any, T]) -> T:
        """Wait for what coremltools asks of the app."""
        try:
            with remote.without_bars():
                return self._runner.run(request)
        except RemoteError as error:
            raise self._why(error) from error

    def _tell(self, command: Callable[[], T]) -> T:
        try:
            return command()
        except Refused as error:
            raise devicectl.unusable(self._identifier, error.text) from error

    def _why(self, error: Any) -> Exception:
        """Return what a failure means: the app's own refusal, an app that ended, or a phone that went away."""
        if isinstance(error.error_code, int) and error.error_code < -32000:
            return Unsupported(f"the phone refuses: {error.message}")
        said = "" if self._is_alive() else self._said()
        return devicectl.unusable(self._identifier, said or str(error.message))

    def _pump(self) -> None:
        """Put waiting queues before the app, as long as there is room and it can answer several at once."""
        while self.queued and self._pending and self._has_room(self._pending[0]):
            queue = self._pending[0]
            service = self._loaded(queue.model)
            names = [self._free.pop() if self._free else self._new_name() for _ in range(queue.size)]
            try:
                request = self._request(queue.model, service, names)
                self._to_app().send_all([{"id": name, **request} for name in names])
            except RemoteError as error:
                raise self._why(error) from error
            self._requests += queue.size
            queue.names, queue.began = names, time.monotonic()
            self._flying.append(self._pending.popleft())

    def _has_room(self, queue: Queue) -> bool:
        unanswered = sum(one.size - one.heard for one in self._flying)
        return not unanswered or unanswered + queue.size <= MOST_AHEAD

    def _new_name(self) -> str:
        self._named += 1
        return f"{self._prefix}-{self._named}"

    def _drop(self, queue: Queue) -> None:
        """Let the names of a queue be used again, unless some of its requests may still be answered."""
        if queue in self._flying:
            self._flying.remove(queue)
            if queue.is_answered:
                self._free += queue.names
        elif queue in self._pending:
            self._pending.remove(queue)

    def _request(self, model: PhoneModel, service: Model, names: Sequence[str]) -> dict[str, Any]:
        """Return the request that all of a queue are, once the app has its inputs."""
        described, file = service._prepare_data_for_transfer(values=dict(model.inputs))
        try:
            name = f"{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}.bin"
            missing = [request for request in names if (request, name) not in self._sent]
            if missing:
                self._to_app().send_inputs(missing, name, file)
                self._sent |= {(request, name) for request in missing}
        finally:
            file.unlink()
        params = {"modelID": service.model_id, "computeUnits": model.unit, "inputs": described}
        return {"method": "MLModelService.Prediction", "params": params, "resource": name}

    def _fetch(self, queue: Queue) -> None:
        """Fetch what the app answered by now, and give it to the queues that wait for it; raise where no more is to come."""
        before = queue.heard
        try:
            with suppress(RemoteError):  # there is nothing yet, or a folder was replaced while it was copied
                self._heed(self._to_app().receive_all())
            if not self._is_alive():
                raise RemoteError(self._said() or "the app ended", 1)
        except RemoteError as error:
            raise self._why(error) from error
        if queue.refused:
            raise Unsupported(f"the phone refuses: {queue.refused}")
        now = time.monotonic()
        if queue.heard > before:
            queue.began = now
        elif not self._tokens and now - queue.began > FIRST_S:
            self.queued = False  # nothing was ever answered out of a queue
        elif now - queue.began > QUIET_S:
            left = queue.size - queue.heard
            raise self._why(RemoteError(f"timed out: {left} of {queue.size} requests are unanswered", 1))
        if not queue.is_answered:
            time.sleep(POLL_S)

    def _heed(self, found: Mapping[str, Answer]) -> None:
        """Give answers to their queues; an old one has the outputs' name that was seen then."""
        for queue in self._flying:
            for name in queue.names:
                answer = found.get(name)
                if answer is None or name in queue.answers:
                    continue
                error = answer.message.get("error")
                if error:
                    queue.refused = str(error.get("message"))
                elif answer.token != self._tokens.get(name):
                    queue.answers[name] = answer
                    self._tokens[name] = answer.token

    def _one_by_one(self, queue: Queue) -> Burst:
        """Predict as coremltools does: a request, its answer, the next request."""
        model, durations = queue.model, []
        service = self._loaded(model)
        started = time.monotonic_ns()
        for _ in range(queue.size):
            self._requests += 1
            self._ask(service.predict(dict(model.inputs)))
            durations.append(int(service.last_predict_duration_in_nano_seconds))
        rested = (time.monotonic_ns() - started - sum(durations)) // queue.size
        return Burst(tuple(durations[queue.warmups :]), rested)

    def _to_app(self) -> Socket:
        assert self._socket is not None
        return self._socket

    def _said(self) -> str:
        return self._session.last_words() if self._session is not None else ""


def _in_order(queue: Queue) -> Burst:
    """Return the durations of all but the first answers, and the longest pause before one of those.

    What came first warmed up. Between two answers lie a prediction and a pause, which is not known where dates are not kept.
    """
    ordered = sorted(queue.answers.values(), key=lambda answer: answer.written_ns)
    durations = [int(answer.message["result"]["duration"]) for answer in ordered]
    dates = [answer.written_ns for answer in ordered]
    pauses = [dates[index] - dates[index - 1] - durations[index] for index in range(1, len(ordered))]
    kept = tuple(durations[queue.warmups :])
    if any(pause < 0 for pause in pauses):  # no prediction can have taken so long: these are not the phone's dates
        return Burst(kept, None)
    return Burst(kept, max(pauses[max(queue.warmups - 1, 0) :], default=0))
