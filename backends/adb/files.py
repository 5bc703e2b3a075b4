"""Files on a phone: pushed once for the same content, whole or not at all, and the least used removed where room is needed.

They lie in /data/local/tmp/edgelut/<sha256>/<name>. The folder's date is that of the last use.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edgelut.errors import DeviceUnusable

from . import remedies, texts
from .shell import Phone

ROOT = "/data/local/tmp/edgelut"
STAGED = "staged-"
ASK_S = 30.0
SLOWEST_BYTES_S = 1 << 20  # of a push, beyond ASK_S
SPARE_BYTES = 16 << 20  # that a push leaves free
LIVE_S = 3600  # what was used within it may be another process's
RECENT_S = LIVE_S / 2  # what was used within it is taken to be there for TRUST_S: nobody makes room by it before
TRUST_S = 0.8 * (LIVE_S - RECENT_S)
_FULL = re.compile(r"no space left|enospc|disk full", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Content:
    """What a file or folder holds: sizes and hashes by relative path, which of them are programs, and a hash of it all."""

    name: str
    files: Mapping[str, tuple[int, str]]
    programs: tuple[str, ...]
    links: bool  # adb pushes a link as a link, so such a folder is copied first
    sha256: str

    @property
    def size(self) -> int:
        """Bytes, in all."""
        return sum(size for size, _ in self.files.values())

    @property
    def there(self) -> str:
        """Its path on a phone."""
        return f"{ROOT}/{self.sha256}/{self.name}"


def content(path: Path) -> Content:
    """Read a file or folder; raise FileNotFoundError. A file's hash is the SHA-256 of its bytes."""
    path = path.absolute()
    if not path.is_dir():
        size, sha256 = _hash(path)
        return Content(path.name, {path.name: (size, sha256)}, _programs(path, [path]), False, sha256)
    inside = sorted(file for file in path.rglob("*") if file.is_file())
    links = any(entry.is_symlink() for entry in path.rglob("*"))
    files = {str(file.relative_to(path.parent)): _hash(file) for file in inside}
    programs = _programs(path, inside)
    whole = "".join(f"{sha} {name in programs:d} {name}\n" for name, (_, sha) in files.items())
    return Content(path.name, files, programs, links, hashlib.sha256(whole.encode()).hexdigest())


def _programs(path: Path, files: list[Path]) -> tuple[str, ...]:
    return tuple(str(file.relative_to(path.parent)) for file in files if os.access(file, os.X_OK))


def _hash(file: Path) -> tuple[int, str]:
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        return opened.tell(), sha256


class Store:
    """The files of one phone.

    Obligations: what `push` returns is whole; a push that fails leaves nothing; what this process pushed is never removed to make
    room, nor what anybody used within the last hour.
    """

    def __init__(self) -> None:
        self._own: set[str] = set()  # hashes pushed or found by this process
        self._known: dict[str, float] = {}  # paths on the phone, and until when each is sure to be there
        self._turn = threading.Lock()

    def push(self, phone: Phone, path: Path) -> str:
        """Bring a file or folder to a phone and return its path there; raise DeviceUnusable, FileNotFoundError."""
        wanted = content(path)
        with self._turn:
            if self._known.get(wanted.there, 0.0) < time.monotonic():
                self._bring(phone, wanted, path.absolute())
                self._known[wanted.there] = time.monotonic() + TRUST_S
            self._own.add(wanted.sha256)
        return wanted.there

    def forget(self) -> None:
        """Believe no more that anything is there: the phone was away."""
        self._known.clear()

    def _bring(self, phone: Phone, wanted: Content, path: Path) -> None:
        """Send it, unless it is there, by a folder of our own that is left in no case."""
        stage = f"{ROOT}/{STAGED}{secrets.token_hex(6)}"
        here, free = self._look(phone, wanted, stage)
        if here:
            return
        try:
            self._make_room(phone, wanted, free)
            self._send(phone, wanted, path, stage)
        except BaseException:
            with suppress(DeviceUnusable, TimeoutError):  # gone: it is removed by a later prune
                phone.shell(f"rm -rf {stage}", ASK_S)
            raise

    def _look(self, phone: Phone, wanted: Content, stage: str) -> tuple[bool, int | None]:
        """Say whether it is there, which is a use of it, and how many bytes are free, having made a folder for it.

        Whatever else was used lately is noted, and not looked for again.
        """
        folder = shlex.quote(f"{ROOT}/{wanted.sha256}")
        make = f"{{ df -k /data/local/tmp; mkdir -p {stage}; }}"
        script = (
            f"{{ [ -e {shlex.quote(wanted.there)} ] && touch {folder} && echo here || {make}; echo @@; cd {ROOT} && "
            f"for used in $(find . -maxdepth 1 -name '[0-9a-f]*' -mmin -{RECENT_S / 60:.0f}); "
            'do printf "%s\\n" "$used"/*; done; } 2>/dev/null'
        )
        said, _, used = phone.ask(script, ASK_S).partition("@@")
        until = time.monotonic() + TRUST_S
        for name in re.findall(r"^\./([0-9a-f]{64}/.+)$", used, flags=re.MULTILINE):
            self._known[f"{ROOT}/{name}"] = until
        return said.strip() == "here", texts.free_bytes(said)

    def _make_room(self, phone: Phone, wanted: Content, free: int | None) -> None:
        needed = wanted.size + SPARE_BYTES
        if free is None or free >= needed:
            return
        freed = prune(phone, needed - free, self._own | {wanted.sha256})
        if free + freed < needed:
            raise DeviceUnusable(_full(phone, wanted, free + freed))

    def _send(self, phone: Phone, wanted: Content, path: Path, stage: str) -> None:
        """Push to a folder of our own, check what arrived, and rename it."""
        with _without_links(path, wanted) as source:
            self._copy(phone, wanted, source, stage)
        _check(phone, wanted, stage)
        _keep(phone, wanted, stage)

    def _copy(self, phone: Phone, wanted: Content, source: Path, stage: str) -> None:
        limit = ASK_S + wanted.size / SLOWEST_BYTES_S
        for attempt in range(2):
            try:
                done = phone.adb(["push", str(source), f"{stage}/"], limit)
            except TimeoutError as error:
                raise DeviceUnusable(remedies.silent(phone.name, limit)) from error
            if done.code == 0:
                return
            said = (done.err + done.out).decode(errors="replace")
            if phone.state():
                raise phone.gone(said)
            if not _FULL.search(said):
                raise DeviceUnusable(f"{wanted.name} cannot be pushed to {phone.name}: {done.said}")
            if attempt or not prune(phone, wanted.size + SPARE_BYTES, self._own | {wanted.sha256}):
                break
        raise DeviceUnusable(_full(phone, wanted, texts.free_bytes(phone.ask("df -k /data/local/tmp", ASK_S))))


def pull(phone: Phone, path: str, to: Path) -> None:
    """Bring a file from a phone, whole or not at all; raise FileNotFoundError, OSError, DeviceUnusable."""
    size = phone.ask(
        f"stat -c %s {shlex.quote(path)} 2>/dev/null || wc -c < {shlex.quote(path)} 2>/dev/null", ASK_S
    ).strip()
    if not size.isdigit():
        raise FileNotFoundError(f"no file {path} on {phone.name}")
    staged = to.with_name(f".{to.name}.{os.getpid()}")
    try:
        try:
            done = phone.adb(["pull", path, str(staged)], limit := ASK_S + int(size) / SLOWEST_BYTES_S)
        except TimeoutError as error:
            raise DeviceUnusable(remedies.silent(phone.name, limit)) from error
        if done.code or not staged.exists() or staged.stat().st_size != int(size):
            if phone.state():
                raise phone.gone(done.said)
            raise OSError(f"{path} cannot be pulled from {phone.name}: {done.said}")
        staged.replace(to)
    finally:
        staged.unlink(missing_ok=True)


def clean(phone: Phone) -> int:
    """Remove every file of ours; return how many bytes they held."""
    said = phone.ask(f"[ -d {ROOT} ] && du -sk {ROOT} 2>/dev/null; rm -rf {ROOT}; [ -e {ROOT} ] && echo left", ASK_S)
    words = said.split()
    if "left" in words:
        raise DeviceUnusable(
            f"{ROOT} on {phone.name} is another user's: remove it by 'adb -s {phone.serial} root' and rm"
        )
    return 1024 * int(words[0]) if words and words[0].isdigit() else 0


def prune(phone: Phone, needed: int, keep: set[str]) -> int:
    """Remove what was used least lately until so many bytes are freed; return how many were."""
    chosen: list[str] = []
    freed = 0
    for name, size in _idle(phone):
        if freed < needed and name not in keep:
            chosen.append(f"{ROOT}/{name}")
            freed += size
    if chosen:
        phone.ask(f"rm -rf {shlex.join(chosen)}", ASK_S)
    return freed


def _idle(phone: Phone) -> list[tuple[str, int]]:
    """Return what nobody used within the last hour, the longest unused first, with its bytes."""
    said = phone.ask(f"cd {ROOT} && date +%s && stat -c '%Y %n' * && echo @@ && du -sk *", ASK_S)
    dates, _, sizes = said.partition("@@")
    now, *rows = dates.split("\n")
    if not now.strip().isdigit():
        return []
    used = {name: int(date) for date, name in re.findall(r"^(\d+) (\S+)$", "\n".join(rows), flags=re.MULTILINE)}
    kilobytes = {name: int(size) for size, name in re.findall(r"^(\d+)\s+(\S+)$", sizes, flags=re.MULTILINE)}
    old = sorted((date, name) for name, date in used.items() if int(now) - date > LIVE_S)
    return [(name, 1024 * kilobytes.get(name, 0)) for _, name in old]


def _check(phone: Phone, wanted: Content, stage: str) -> None:
    """Compare what arrived by size, and by hash where the phone has sha256sum."""
    inside = "find . -type f -exec"
    said = phone.ask(
        f"cd {stage} || exit 1; {inside} stat -c '%s %n' {{}} +; echo @@; "
        f"command -v sha256sum >/dev/null && {inside} sha256sum {{}} +",
        ASK_S + wanted.size / (16 * SLOWEST_BYTES_S),
    )
    sizes, _, hashes = said.partition("@@")
    found = {name: int(size) for size, name in re.findall(r"^(\d+) \./(.+)$", sizes, flags=re.MULTILINE)}
    sums = {name: sha for sha, name in re.findall(r"^([0-9a-f]{64}) [ *]\./(.+)$", hashes, flags=re.MULTILINE)}
    for name, (size, sha256) in wanted.files.items():
        if found.get(name) != size or (sums and sums.get(name) != sha256):
            has = "nothing" if name not in found else f"{found[name]} bytes" if found[name] != size else "other bytes"
            raise DeviceUnusable(
                f"{name} of {size} bytes arrived on {phone.name} as {has}, and was removed: try another cable or port"
            )


def _keep(phone: Phone, wanted: Content, stage: str) -> None:
    """Rename what was checked; where another process was first, its files stay."""
    folder, there = f"{ROOT}/{wanted.sha256}", shlex.quote(wanted.there)
    programs = shlex.join(wanted.programs)
    modes = f"cd {stage} && chmod 755 {programs} && " if wanted.programs else ""
    script = (
        f"{modes}mkdir -p {folder} && {{ [ -e {there} ] || mv {stage}/{shlex.quote(wanted.name)} {there}; }} && cd {ROOT} && "
        f"rm -rf {stage} && touch {folder} && [ -e {there} ] && echo kept"
    )
    said = phone.shell(script, ASK_S)
    if said.out.strip() != b"kept":
        raise DeviceUnusable(f"{wanted.name} cannot be kept in {ROOT} on {phone.name}: {said.said}")


def _full(phone: Phone, wanted: Content, free: int | None) -> str:
    room = "" if free is None or free > wanted.size + SPARE_BYTES else f" ({free / 2**20:.0f} MiB)"
    serial = phone.name.partition(":")[2] or phone.name
    return (
        f"{phone.name} has too little room{room} for {wanted.name} of {wanted.size / 2**20:.1f} MiB: free some, or remove "
        f"our files by 'edgelut devices --clean {serial}'"
    )


@contextmanager
def _without_links(path: Path, wanted: Content) -> Iterator[Path]:
    """Yield the path, or a copy of it in which links are files."""
    if not wanted.links:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="edgelut-push-") as folder:
        copy = Path(folder) / path.name
        shutil.copytree(path, copy)
        yield copy
