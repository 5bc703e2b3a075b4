"""Refusals as application/problem+json (RFC 9457): what was asked, what there is, what to type."""

from __future__ import annotations

import http
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from edgelut.errors import Conflict, Forbidden, InvalidSpec, LatencyNotFound, OtherUnit, StorageError

TYPE = "urn:problem-type:edgelut:"
MEDIA_TYPE = "application/problem+json"
STATUS: Mapping[str, tuple[int, str]] = {
    "unauthorized": (401, "A token is needed"),
    "forbidden": (403, "The token may not do that"),
    "no-match": (404, "Nothing matches"),
    "unknown-name": (404, "There is no such name"),
    "other-unit": (404, "What matches ran on another compute unit"),
    "empty-table": (404, "The table is empty"),
    "no-estimate": (404, "There is no estimate"),
    "incomplete-network": (404, "The table lacks rows of the network"),
    "no-such-entry": (404, "There is no such entry"),
    "no-such-run": (404, "There is no such run"),
    "no-such-job": (404, "There is no such job"),
    "no-such-batch": (404, "There is no such batch"),
    "no-baseline": (404, "There is nothing to compare with"),
    "no-such-mark": (404, "There is no such mark"),
    "no-such-search": (404, "There is no such search"),
    "no-such-token": (404, "There is no such token"),
    "no-such-path": (404, "There is no such path"),
    "method": (405, "This path does not take that method"),
    "conflict": (409, "That is taken, or was asked otherwise before"),
    "protocol": (409, "Agent and service speak different protocols"),
    "session": (409, "The agent's session is not known"),
    "too-large": (413, "The body is too large"),
    "invalid": (422, "The request is malformed"),
    "internal": (500, "The service failed"),
    "storage": (503, "The database cannot be used"),
}

log = logging.getLogger("edgelut.api")


class Problem(Exception):
    """A refusal to be sent: one of STATUS, its detail for a person and members for a program."""

    def __init__(
        self,
        name: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.name = name
        self.detail = detail
        self.headers = headers
        self.members = members or {}

    def response(self) -> Response:
        """Return the answer that says it."""
        status, title = STATUS[self.name]
        body = {"type": TYPE + self.name, "title": title, "status": status, "detail": self.detail, **self.members}
        return Response(msgspec.json.encode(body), status, self.headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make the app answer every failure with a problem, never with a trace or a secret."""
    app.add_exception_handler(Problem, lambda _, error: _of(error).response())
    app.add_exception_handler(InvalidSpec, lambda _, error: Problem("invalid", str(error)).response())
    app.add_exception_handler(LatencyNotFound, lambda _, error: Problem("no-such-entry", str(error)).response())
    app.add_exception_handler(OtherUnit, _other_unit)
    app.add_exception_handler(Conflict, _conflict)
    app.add_exception_handler(Forbidden, lambda _, error: Problem("forbidden", str(error)).response())
    app.add_exception_handler(StorageError, _storage)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _internal)


@contextmanager
def missing(name: str) -> Iterator[None]:
    """Answer what is not there with that problem."""
    try:
        yield
    except LatencyNotFound as error:
        raise Problem(name, str(error)) from error


def storage(error: StorageError, **members: Any) -> Problem:
    """Return the problem for a failing database. The error goes to the log alone: it may name hosts, paths and users."""
    log.error("storage: %s", error)
    detail = "the database cannot be read or written now; try again shortly (the reason is in the service's log)"
    return Problem("storage", detail, headers={"Retry-After": "1"}, members=members)


def _of(error: Exception) -> Problem:
    assert isinstance(error, Problem)
    return error


def _storage(_: Request, error: Exception) -> Response:
    assert isinstance(error, StorageError)
    return storage(error).response()


def other_unit(error: OtherUnit) -> Problem:
    """Return the problem for rows that did not run where they had to."""
    return Problem("other-unit", str(error), members={"known": list(error.ran_on)})


def _other_unit(_: Request, error: Exception) -> Response:
    assert isinstance(error, OtherUnit)
    return other_unit(error).response()


def _conflict(_: Request, error: Exception) -> Response:
    assert isinstance(error, Conflict)
    return Problem(error.problem, str(error)).response()


def _validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()]
    return Problem("invalid", "; ".join(wrong)).response()


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == http.HTTPStatus.NOT_FOUND:
        return Problem("no-such-path", f"there is no {request.url.path}; GET / lists what there is").response()
    if error.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        detail = f"{request.url.path} does not take {request.method}; it takes {allowed or 'another method'}"
        return Problem("method", detail, headers=error.headers).response()
    return Problem("invalid", str(error.detail), headers=error.headers).response()


def _internal(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return Problem("internal", "the service failed on this request; the reason is in its log").response()
