"""coremltools' remote device, without its faults: its ModelRunner app on a phone, one request at a time or many in one transfer.

What is used of `coremltools.models.ml_program.experimental.remote_device` (9.0): the builder of the app, the JSON messages, and
the service that loads, predicts and tells its plan. Four things are done differently here:

- `prepare_for_model_debugging` hands the build folder over as the working folder, and the other way round: it is not called;
- `is_alive` is a method that is asked as if it were a property, so that an app that ended is waited for: here it is one;
- a model that is forgotten sends its unload by a coroutine that nobody awaits: here it does not;
- commands are run by a shell with unquoted paths and no time limit, and need `devicectl` on PATH although xcrun has it: here
  `devicectl.py` runs them.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any
from unittest.mock import patch

from backends.mil.toolchain import coremltools, quiet
from edgelut.errors import BackendMissing, Unsupported

from . import devicectl
from .devicectl import Phone, Refused

with quiet():
    from coremltools.models.ml_program.experimental import remote_device as experimental

SOURCE = "Documents/modelrunnerd"  # where the app looks, in its data
POLL_S = 0.2
ATTEMPTS = 300  # of one answer, each with a transfer: a model's first load on a phone compiles it for that phone
NOT_BUILT = "{}: the ModelRunner app is not built for team {team!r}; what to try is in docs/apple.md, 'The app'"

RemoteError = experimental._DeviceCtlError  # what a request ends with that the app, or the way to it, refused


@dataclass(frozen=True, slots=True)
class Signing:
    """Who signs the app: a team's identifier, and a bundle identifier that is that team's."""

    team: str
    bundle: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the app answered to one request: its JSON message, and when it was written, by the phone's clock."""

    message: Mapping[str, Any]
    written_ns: int

    @property
    def token(self) -> str:
        """What tells this answer from an earlier one of the same name: each prediction names its outputs anew."""
        return str((self.message.get("result") or {}).get("resource", ""))


class AppSession(experimental._AppSession):  # type: ignore[misc]
    """The running app. Every transfer ends within its time; one that fails is the error that coremltools tries again after."""

    @property
    def is_alive(self) -> bool:
        """True while the app runs."""
        return self._process.poll() is None

    def send_file_to_app(self, source_path: Path, destination: str, replace: bool = False) -> Any:
        """Copy a file, or what a folder holds, to the app's data."""
        with _translated():
            devicectl.copy_to(
                self.device.identifier, self.bundle_identifier, Path(source_path), destination, replace=replace
            )
        return experimental._DataTransferInfo(str(source_path), destination)

    def receive_file_from_app(self, destination_path: Path, source: str) -> Any:
        """Copy a file, or what a folder holds, from the app's data."""
        with _translated():
            devicectl.copy_from(self.device.identifier, self.bundle_identifier, source, Path(destination_path))
        return experimental._DataTransferInfo(source, str(destination_path))

    errors: IO[str]

    def last_words(self) -> str:
        """Return what the launch of an app that has ended said."""
        self.errors.seek(0)
        return " ".join(self.errors.read().split())

    def stop(self) -> None:
        """End the app."""
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.errors.close()


class Socket(experimental._DeviceCtlSocket):  # type: ignore[misc]
    """The way to the app's requests and answers, also for many at once."""

    def send_all(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Put requests before the app in one transfer; it answers them one after the other, in an order of its own."""
        folder = self.working_directory / f"queue-{uuid.uuid4().hex}"
        for message in messages:
            place = folder / uuid.uuid4().hex  # the app heeds folders whose names it has not seen
            place.mkdir(parents=True)
            (place / "message.json").write_text(json.dumps({"jsonrpc": "2.0", **message}))
        self.device.session.send_file_to_app(folder, f"{self.source}/requests/messages")
        shutil.rmtree(folder)

    def send_inputs(self, requests: Sequence[str], name: str, content: Path) -> None:
        """Put the same file before the app for each of some requests, in one transfer."""
        folder = self.working_directory / f"inputs-{uuid.uuid4().hex}"
        for request in requests:
            (folder / request).mkdir(parents=True)
            shutil.copyfile(content, folder / request / name)
        self.device.session.send_file_to_app(folder, f"{self.source}/requests/resources")
        shutil.rmtree(folder)

    def receive_all(self) -> dict[str, Answer]:
        """Return all answers that the app holds by their requests, in one transfer; one that is half written is left out."""
        folder = self.working_directory / f"answers-{uuid.uuid4().hex}"
        folder.mkdir()
        try:
            self.device.session.receive_file_from_app(folder, f"{self.source}/responses")
            found = {}
            for file in folder.rglob("message.json"):
                try:
                    message = json.loads(file.read_text())
                except ValueError:
                    continue
                found[str(message.get("id"))] = Answer(message, file.stat().st_mtime_ns)
            return found
        finally:
            shutil.rmtree(folder)


class Model(experimental._RemoteMLModelService):  # type: ignore[misc]
    """A model in the app. Unload it, or let the app end: it is not unloaded by being forgotten."""

    def __del__(self) -> None:
        """Nothing."""


def open_socket(session: AppSession) -> Socket:
    """Return a way to the app."""
    return Socket(device=replace(session.device, session=session), source=SOURCE)


def model_of(socket: Socket, compiled: Path, unit: str) -> Model:
    """Return a compiled model, which the app does not have yet; call it where an event loop runs."""
    service = experimental._DeviceCtlRemoteService(socket=socket, poll_time=POLL_S, max_attempts=ATTEMPTS)
    return Model(service=service, compiled_model_path=compiled, compute_units=coremltools.ComputeUnit[unit])


def device_of(phone: Phone) -> Any:
    """Return a phone as coremltools wants it."""
    return experimental.Device(
        name=phone.model,
        type=experimental.DeviceType(phone.kind.lower()),
        identifier=phone.identifier,
        udid=phone.udid,
        os_version=phone.os,
        os_build_number=phone.build,
        developer_mode_state=phone.developer_mode,
        state=experimental.DeviceState(phone.connection.lower()),
        session=None,
    )


def build_app(phone: Phone, build: Path, signing: Signing) -> Path:
    """Return the app for a phone, built where it is not yet; raise BackendMissing, or Unsupported where Xcode fails."""
    if any(character.isspace() for character in str(build)):
        raise Unsupported(
            f"coremltools cannot build in {build}, whose name has a space: set EDGELUT_HOME to one without"
        )
    credentials = experimental.AppSigningCredentials(development_team=signing.team, bundle_identifier=signing.bundle)
    try:
        app = experimental._ModelRunnerAppBuilder.build(
            device=device_of(phone), build_directory=build, credentials=credentials
        )
    except ValueError as error:  # no xcodebuild, or not the wheel for macOS
        raise BackendMissing(f"the ModelRunner app cannot be built here: {error}") from error
    except experimental._AppBuilder.Error as error:
        shutil.rmtree(build / phone.udid, ignore_errors=True)  # half an app would be taken for one
        raise Unsupported(NOT_BUILT.format(f"xcodebuild ended with {error.error_code}", team=signing.team)) from error
    if app is None:
        raise Unsupported(NOT_BUILT.format("xcodebuild left no app", team=signing.team))
    found: Path = app
    return found


def launch_app(phone: Phone, bundle: str, working: Path) -> AppSession:
    """Start the app, in place of one that runs, and return its session; `working` holds the files on their way."""
    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe would fill up and stop it
    process = subprocess.Popen(
        [
            *("xcrun", "devicectl", "device", "process", "launch", "--console", "--terminate-existing"),
            *("--device", phone.identifier, bundle),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        preexec_fn=_answer_sigterm,
    )
    info = experimental._AppInstallationInfo(bundle_identifier=bundle, database_uuid="")
    session = AppSession(device=device_of(phone), process=process, installation_info=info, working_directory=working)
    session.errors = errors
    return session


def _answer_sigterm() -> None:
    """Let a child be ended by SIGTERM, which workers ignore and would have it ignore too."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def without_bars() -> Iterator[None]:
    """Ask without the progress bars that coremltools draws for each request."""
    with patch.object(experimental, "_tqdm", SimpleNamespace(tqdm=lambda items, **_: items)):
        yield


@contextmanager
def _translated() -> Iterator[None]:
    """Raise what devicectl refused as coremltools' own error, after which it tries again."""
    try:
        yield
    except Refused as error:
        raise RemoteError(error.text, error.code) from error
