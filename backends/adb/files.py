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
PULL_S = 120.0  # what is pulled are outputs, of some MB at most
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
        self._others: set[str] = set()  # paths that were there at the last look, but may be removed at any time
        self._looked = 0.0  # until when a path that is in neither is taken not to be there
        self._free = 0  # bytes, less what was pushed since
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
        self._looked = 0.0

    def _bring(self, phone: Phone, wanted: Content, path: Path) -> None:
        """Send it, unless it is there, by a folder of our own that is left in no case."""
        stage = f"{ROOT}/{STAGED}{secrets.token_hex(6)}"
        free: int | None = self._free
        if path.is_dir() or not self._is_new(wanted):
            here, free = self._look(phone, wanted, stage)
            if here:
                return
        try:
            self._make_room(phone, wanted, free)
            self._send(phone, wanted, path, stage)
            self._free -= wanted.size
        except BaseException:
            with suppress(DeviceUnusable, TimeoutError):  # gone: it is removed by a later prune
                phone.shell(f"rm -rf {stage}", ASK_S)
            raise

    def _is_new(self, wanted: Content) -> bool:
        """Say whether a look would say no more than that it is not there and has room. If that is wrong, it is pushed twice."""
        fresh = time.monotonic() < self._looked and wanted.there not in self._known.keys() | self._others
        return fresh and self._free >= wanted.size + SPARE_BYTES

    def _look(self, phone: Phone, wanted: Content, stage: str) -> tuple[bool, int | None]:
        """Say whether it is there, which is a use of it, and how many bytes are free, having made a folder for it.

        Whatever else is there is noted: what was used lately is not looked for again, and neither is what is not there.
        """
        folder = shlex.quote(f"{ROOT}/{wanted.sha256}")
        make = f"{{ df -k /data/local/tmp; mkdir -p {stage}; }}"
        script = (
            f"{{ [ -e {shlex.quote(wanted.there)} ] && touch {folder} && echo here || {make}; echo @@; cd {ROOT} && "
            f"for used in $(find . -maxdepth 1 -name '[0-9a-f]*' -mmin -{RECENT_S / 60:.0f}); "
            'do printf "%s\\n" "$used"/*; done; echo @@; printf "./%s\\n" [0-9a-f]*/*; } 2>/dev/null'
        )
        said, _, listed = phone.ask(script, ASK_S).partition("@@")
        used, _, every = listed.partition("@@")
        until = time.monotonic() + TRUST_S
        self._known.update((path, until) for path in _paths(used))
        free = texts.free_bytes(said)
        if free is not None:
            self._others, self._free, self._looked = _paths(every), free, until
        return said.strip() == "here", free

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
            self._copy(phone, wanted, source, f"{stage}/{'' if path.is_dir() else wanted.name}")
        _keep(phone, wanted, stage)

    def _copy(self, phone: Phone, wanted: Content, source: Path, to: str) -> None:
        limit = ASK_S + wanted.size / SLOWEST_BYTES_S
        for attempt in range(2):
            try:
                done = phone.adb(["push", str(source), to], limit)
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
    staged = to.with_name(f".{to.name}.{os.getpid()}")
    try:
        try:
            done = phone.adb(["pull", path, str(staged)], PULL_S)
        except TimeoutError as error:
            raise DeviceUnusable(remedies.silent(phone.name, PULL_S)) from error
        if done.code or not staged.is_file():
            if phone.state():
                raise phone.gone(done.said)
            if phone.ask(f"[ -e {shlex.quote(path)} ] || echo none", ASK_S).strip() == "none":
                raise FileNotFoundError(f"no file {path} on {phone.name}")
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


def _keep(phone: Phone, wanted: Content, stage: str) -> None:
    """Have the phone rename what arrived if it is what was sent, by size, and by hash where it has sha256sum.

    Where it cannot tell, since its commands print otherwise than most, what they print is read here.
    """
    inside = "find . -type f -exec"
    listed = f"{{ {inside} stat -c '%s %n' {{}} +; }} | LC_ALL=C sort"
    hashed = f"{{ {inside} sha256sum {{}} +; }} | LC_ALL=C sort"
    sizes = "\n".join(sorted(f"{size} ./{name}" for name, (size, _) in wanted.files.items()))
    sums = "\n".join(sorted(f"{sha}  ./{name}" for name, (_, sha) in wanted.files.items()))
    right = f'[ "$sizes" = {shlex.quote(sizes)} ] && {{ [ -z "$sums" ] || [ "$sums" = {shlex.quote(sums)} ]; }}'
    script = (
        f"cd {stage} || exit 1; sizes=$({listed}); sums=$(command -v sha256sum >/dev/null && {hashed}); "
        f'printf "%s\\n" "$sizes" @@ "$sums" @@; if {right}; then\n{_renaming(wanted, stage)}\nfi'
    )
    found, _, kept = phone.ask(script, ASK_S + wanted.size / (16 * SLOWEST_BYTES_S)).rpartition("@@")
    if kept.strip() != "kept":
        _check(phone, wanted, found)
        said = phone.shell(_renaming(wanted, stage), ASK_S)
        if said.out.strip() != b"kept":
            raise DeviceUnusable(f"{wanted.name} cannot be kept in {ROOT} on {phone.name}: {said.said}")


def _check(phone: Phone, wanted: Content, found: str) -> None:
    """Raise DeviceUnusable for a file that arrived otherwise than it was sent, by what the phone listed."""
    listed, _, hashes = found.partition("@@")
    sizes = {name: int(size) for size, name in re.findall(r"^(\d+) \./(.+)$", listed, flags=re.MULTILINE)}
    sums = {name: sha for sha, name in re.findall(r"^([0-9a-f]{64}) [ *]\./(.+)$", hashes, flags=re.MULTILINE)}
    for name, (size, sha256) in wanted.files.items():
        if sizes.get(name) != size or (sums and sums.get(name) != sha256):
            has = "nothing" if name not in sizes else f"{sizes[name]} bytes" if sizes[name] != size else "other bytes"
            raise DeviceUnusable(
                f"{name} of {size} bytes arrived on {phone.name} as {has}, and was removed: try another cable or port"
            )


def _renaming(wanted: Content, stage: str) -> str:
    """Return a script that gives a stage its name and says `kept`; where another process was first, its files stay."""
    folder, there = f"{ROOT}/{wanted.sha256}", shlex.quote(wanted.there)
    modes = f"cd {stage} && chmod 755 {shlex.join(wanted.programs)} && " if wanted.programs else ""
    return (
        f"{modes}mkdir -p {folder} && {{ [ -e {there} ] || mv {stage}/{shlex.quote(wanted.name)} {there}; }} && cd {ROOT} && "
        f"rm -rf {stage} && touch {folder} && [ -e {there} ] && echo kept"
    )


def _paths(listed: str) -> set[str]:
    """Return the paths in a listing of ROOT that are of ours, whole."""
    return {f"{ROOT}/{name}" for name in re.findall(r"^\./([0-9a-f]{64}/.+)$", listed, flags=re.MULTILINE)}


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
