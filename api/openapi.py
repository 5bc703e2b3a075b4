"""The OpenAPI document. The committed copy: `python -m api.openapi > docs/openapi.json`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from edgelut import __version__
from edgelut.types import ENTRY_KINDS, MEASURES

from . import bodies, describe
from .auth import declared
from .parameters import MOST_ROWS, NAMES, NUMBERS, PARAM, ROWS

if TYPE_CHECKING:
    from db.store import SqlStore

DESCRIPTION = (
    "How long will this block take on that device? Every refusal is application/problem+json and says what there is. "
    "A search loop asks POST /latency/batch or a snapshot, never one GET a block."
)
TOKEN = (
    "A token with the scope that the operation lists; submit and agent include read, and admin includes all. A service on "
    "loopback that has no token at all needs none."
)
_ABOUT = {
    "block": ("Kind of block", "MB3D"),
    "width": ("Input width C", 224),
    "width_out": ("Output width", 224),
    "resolution": ("Side of the square input map, in pixels", 7),
    "batch": ("Batch size", 1),
    "device": ("Device", "host"),
    "runtime": ("Runtime with its provider", "onnxruntime-cpu"),
    "precision": ("Precision", "fp32"),
    "threads": ("Threads", 1),
    "unit": ("Compute unit that was asked for", "cpu"),
    "kind": ("Kind of row", "measured"),
    "measure": ("What rows tell: a time, or a count of instructions", "time"),
    "require_unit": ("Only rows that ran on this compute unit alone, such as `cpu`, `ne` or `ne+cpu`", "cpu"),
}
_WORDS = {"kind": ENTRY_KINDS, "measure": MEASURES}


def document(app: FastAPI) -> dict[str, Any]:
    """Return the app's OpenAPI document with what FastAPI cannot see: GET /latency, our types, the token."""
    found = get_openapi(title="EdgeLUT", version=__version__, description=DESCRIPTION, routes=app.routes)
    found["paths"] = {"/latency": {"get": latency()}, **found["paths"]}
    found.setdefault("components", {})["schemas"] = describe.components()
    found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer", "description": TOKEN}}
    return cast("dict[str, Any]", json.loads(json.dumps(found)))


def latency() -> dict[str, Any]:
    """Return the description of GET /latency."""
    responses = {
        200: describe.content(bodies.PageOut, bodies.PageOut([describe.ROW], None)),
        **describe.refusals("no-match", "other-unit", "unknown-name", "empty-table", "invalid", "storage"),
    }
    return {
        "tags": ["latency"],
        "summary": "Look up latencies",
        "description": "Answer every current row that matches, a page at a time, ordered by block, widths, resolution, "
        "batch and target. Names match whatever their case. Each row says its kind (measured, interpolated, ...), its doubts "
        "(none = stable), whether it is a time or counts instructions, and which compute unit it ran on.",
        "operationId": "get_latency",
        "security": declared("read"),
        "parameters": [*(parameter(name) for name in (*NAMES, *NUMBERS, *ROWS)), *_paging(), _block_parameter()],
        "responses": {str(status): response for status, response in responses.items()},
    }


def parameter(name: str, *, needed: bool = False) -> dict[str, Any]:
    """Return the description of a filter, or of one that is needed."""
    found = _parameter(name)
    return found | {"required": True} if needed else found


def like_parameter() -> dict[str, Any]:
    """Return the description of the target whose table helps to estimate."""
    about = "Another target whose table is to help: DEVICE/RUNTIME/PRECISION/THREADS/UNIT, as far as it differs"
    return _query("like", about, {"type": "string", "minLength": 1, "maxLength": 1000}, "pixel4/tflite-cpu")


def _parameter(name: str) -> dict[str, Any]:
    about, example = _ABOUT[name]
    text = {"type": "string", "minLength": 1, "maxLength": 200}
    number = {"type": "integer", "minimum": 1, "maximum": bodies.SMALL}
    if name in _WORDS:
        return _query(name, about, {"type": "string", "enum": list(_WORDS[name])}, example)
    return _query(name, about, number if name in NUMBERS else text, example)


def _paging() -> list[dict[str, Any]]:
    limit = {"type": "integer", "minimum": 1, "maximum": MOST_ROWS, "default": 100}
    cursor = {"type": "string", "minLength": 1, "maxLength": 4000}
    return [
        _query("limit", "Rows in a page", limit, 100),
        {"name": "cursor", "in": "query", "description": "The previous page's next_cursor", "schema": cursor},
    ]


def _block_parameter() -> dict[str, Any]:
    """Describe `param.<name>=<value>`: an object whose members OpenAPI spreads over the query string."""
    about = (
        f"Any parameter of the block, one a name: `{PARAM}expansion=4`, `{PARAM}activation=gelu`. A number is a number; "
        'quote what only looks like one (`"4"`).'
    )
    return _query(f"{PARAM}expansion", about, {"type": "integer", "minimum": 1, "maximum": bodies.SMALL}, 4)


def _query(name: str, about: str, schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": about, "schema": schema, "example": example}


def text() -> str:
    """Return the document as it is committed."""
    from .app import create_app

    app = create_app(cast("SqlStore", None))  # no endpoint is called, so none is needed
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
