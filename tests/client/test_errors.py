"""The tree of exceptions, as its module draws it, and the exit codes they end in."""

from __future__ import annotations

import builtins
import pickle
import re
from inspect import isclass

import pytest

from edgelut import errors, exits
from edgelut.errors import EdgelutError

ALL = [value for value in vars(errors).values() if isclass(value) and issubclass(value, EdgelutError)]
DRAWN = re.findall(r"[├└]── (\w+)(?: \((\w+)\))?", errors.__doc__ or "")


def test_the_drawing_names_every_class() -> None:
    assert {name for name, _ in DRAWN} == {error.__name__ for error in ALL if error is not EdgelutError}


@pytest.mark.parametrize(("name", "builtin"), DRAWN)
def test_each_class_is_also_the_builtin_that_is_drawn(name: str, builtin: str) -> None:
    error = getattr(errors, name)
    assert issubclass(error, EdgelutError) and error.__doc__
    assert issubclass(error, getattr(builtins, builtin) if builtin else errors.InvalidSpec)


@pytest.mark.parametrize("error", ALL)
def test_an_error_crosses_a_process_border_with_its_text(error: type[EdgelutError]) -> None:
    again = pickle.loads(pickle.dumps(error("why")))
    assert type(again) is error and str(again) == "why"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidSpec, 2),
        (errors.UnknownKind, 2),
        (errors.UnlikeMeasures, 2),
        (errors.StorageError, 3),
        (errors.ArtifactCorrupted, 3),
        (errors.SnapshotCorrupted, 3),
        (errors.ServiceError, 4),
        (errors.Conflict, 2),
        (errors.Forbidden, 2),
        (errors.LatencyNotFound, 5),
        (errors.NotEstimable, 5),
        (errors.OtherUnit, 5),
        (errors.BackendMissing, 6),
        (errors.Unsupported, 6),
        (errors.DeviceBusy, 6),
        (errors.DeviceUnusable, 6),
        (errors.ParityFailed, 1),
        (errors.UnlikeRuns, 1),
        (EdgelutError, 1),
    ],
)
def test_each_error_has_the_exit_code_that_the_command_line_promises(error: type[EdgelutError], code: int) -> None:
    assert exits.code_of(error("why")) == code


def test_every_error_is_in_the_list_above() -> None:
    assert len(ALL) == 19
