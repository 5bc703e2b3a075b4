"""Tables on a page: AG Grid with sorting and filters that are kept in the address, and a button that saves what is shown as CSV."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from nicegui import ui

from .address import Address
from .layout import button, text

OPEN = "event => { if (!event.event || event.event.key === undefined || event.event.key === 'Enter') edgelut.openRow(event) }"


ROOM_FOR_BUTTON = 90  # a narrower column has room for what it is filtered by, or for the button with more ways to


@dataclass(frozen=True, slots=True)
class Column:
    """A column: the row's field, its heading, what it is (text, link, number, share), and how wide."""

    field: str
    title: str
    kind: str = "text"
    width: int | None = None
    tip: str = ""
    hide: bool = False
    pinned: bool = False
    more: dict[str, Any] | None = None  # further options of AG Grid

    def definition(self) -> dict[str, Any]:
        """Return AG Grid's column definition."""
        made: dict[str, Any] = {"field": self.field, "headerName": self.title, "sortable": True, "filter": True}
        if self.kind in ("number", "share"):
            made |= {"filter": "agNumberColumnFilter", "type": "rightAligned", "useValueFormatterForExport": False}
            formatter = "edgelut.figure" if self.kind == "number" else "edgelut.share"
            made[":valueFormatter"] = f"params => {formatter}(params.value)"
        else:
            made["filter"] = "agTextColumnFilter"
        if self.kind == "link":
            made[":cellRenderer"] = "params => edgelut.cellLink(params)"
        if self.width is not None:
            made["width"] = self.width
            if self.width < ROOM_FOR_BUTTON:
                made |= {"suppressFloatingFilterButton": True, "suppressHeaderFilterButton": True}
        else:
            made |= {"flex": 1, "minWidth": 90}
        if self.tip:
            made["headerTooltip"] = self.tip
        if self.hide:
            made["hide"] = True
        if self.pinned:
            made["pinned"] = "left"
        return made | (self.more or {})


class Grid:
    """A table of rows (dictionaries with the columns' fields; `href` is where a row leads, `id` what it is known by).

    `address` with `prefix` keeps sorting and filters in the page's address. With `url` the browser loads the rows itself, in the
    form of `dashboard.data.pack`. `words` are looked for in all columns, and `filters` adds a line to type in what each column
    is filtered by. Where `opens`, Enter or a double click leads to `href`.
    """

    def __init__(
        self,
        title: str,
        columns: Sequence[Column],
        rows: Sequence[dict[str, Any]] = (),
        *,
        file: str,
        address: Address | None = None,
        prefix: str = "",
        url: str = "",
        height: int | None = None,
        opens: bool = False,
        words: str = "",
        filters: bool = False,
        on_select: Callable[[Any], Any] | None = None,
    ) -> None:
        with ui.element("div").classes("el-spread"):
            self._title = text(title, "h3")
            with ui.element("div").classes("el-row"):
                self.tools = ui.element("div").classes("el-row")
                saves = button("Save CSV")
                saves.props(f'aria-label="Save CSV: {title}"')
        options: dict[str, Any] = {
            "columnDefs": [column.definition() | ({"floatingFilter": True} if filters else {}) for column in columns],
            "rowData": list(rows),
            "suppressDragLeaveHidesColumns": True,
            "suppressFieldDotNotation": True,
            "animateRows": False,
            "tooltipShowDelay": 300,
            "enableCellTextSelection": True,
            "overlayNoRowsTemplate": "<span>nothing here</span>",
        }
        if height is None:
            options["domLayout"] = "autoHeight"
        if url or any("id" in row for row in rows[:1]):
            options[":getRowId"] = "params => String(params.data.id)"
        if opens:
            options |= {":onCellDoubleClicked": OPEN, ":onCellKeyDown": OPEN}
        if address is not None:
            options |= _kept_in(address, prefix)
        if words:
            options["quickFilterText"] = words
        if url:
            options["loading"] = True
            options[":onGridReady"] = f"event => edgelut.load(event.api, {json.dumps(url)})"
        self.grid = ui.aggrid(options, auto_size_columns=False).classes("el-grid")
        self.grid.style(f"height: {height}px" if height is not None else "height: auto")
        self.grid.props(f"role=region aria-label={json.dumps(title)}")
        saves.on("click", js_handler=f"() => edgelut.saveCsv({self.grid.id}, {json.dumps(file)})")
        if on_select is not None:
            self.grid.on("rowClicked", lambda event: on_select(event.args["data"]), ["data"])

    def title(self, words: str) -> None:
        """Set the heading."""
        self._title.set_text(words)

    def load(self, url: str) -> None:
        """Let the browser load rows; place, sorting and filters stay."""
        ui.run_javascript(f"edgelut.load(getElement({self.grid.id}).api, {json.dumps(url)})")

    def show(self, rows: Sequence[dict[str, Any]]) -> None:
        """Show other rows in place; sorting, filters and place stay."""
        self.grid.options["rowData"] = list(rows)
        names = list(dict.fromkeys(name for row in rows for name in row))
        columns = [[row.get(name) for row in rows] for name in names]
        packed = msgspec.json.encode({"names": names, "columns": columns}).decode()
        # As a text: the browser reads JSON in a fraction of the time that it takes to read as many rows as a program.
        self.grid.client.run_javascript(f"edgelut.show({self.grid.id}, {json.dumps(packed)})")

    def search(self, words: str) -> None:
        """Show only rows that hold these words."""
        self.grid.run_grid_method("setGridOption", "quickFilterText", words)


def _kept_in(address: Address, prefix: str) -> dict[str, Any]:
    """Return the options that restore sorting and filters from an address and write them there as they change."""
    state: dict[str, Any] = {}
    sort = [part.partition(":") for part in address.get(f"{prefix}sort").split(",") if part]
    if sort:
        state["sort"] = {
            "sortModel": [{"colId": name, "sort": "desc" if way == "desc" else "asc"} for name, _, way in sort]
        }
    try:
        model = json.loads(address.get(f"{prefix}filter") or "{}")
    except ValueError:
        model = {}
    if isinstance(model, dict) and model:
        state["filter"] = {"filterModel": model}
    changed = f"event => edgelut.gridChanged(event, {msgspec.json.encode(prefix).decode()})"
    kept: dict[str, Any] = {":onSortChanged": changed, ":onFilterChanged": changed}
    return kept | ({"initialState": state} if state else {})
