"""Parts that several pages are made of: charts that scroll, text to copy, sliders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui

from .figures import Figure
from .layout import button, card, text

HALF = 620  # pixels of a map that has room beside another


def add_map(page: str, name: str, width: int, height: int) -> Figure:
    """Add the place of a map, as large as it will be; its image is saved under the page's name and its own."""
    with card().classes("el-span" if width > HALF else ""):
        figure = Figure(name, {}, gist="", file=f"{page}-{name}", height=height)
        scrolled(figure, width)
    return figure


def scrolled(figure: Figure, width: int) -> None:
    """Let a chart be at least so wide, and scroll by itself where the window is narrower."""
    chart = figure.chart
    assert chart.parent_slot is not None
    children = chart.parent_slot.children
    place = children.index(chart)
    with chart.parent_slot.parent:
        box = ui.element("div").classes("el-scroll").props('tabindex=0 role=group aria-label="scrolls sideways"')
    box.move(target_index=place)
    chart.move(box)
    chart.style(f"min-width: {width}px")


class Copied:
    """Text that a button copies."""

    def __init__(self, title: str) -> None:
        with ui.element("div").classes("el-spread"):
            text(title, "h3")
            self._button = button("Copy")
            self._button.props(f'aria-label="Copy: {title}"')
        self._text = text("", "pre").classes("el-copy").props(f'tabindex=0 aria-label="{title}"')
        self._button.on("click", js_handler=f"() => edgelut.copyFrom({self._text.id}, {self._button.id})")

    def show(self, words: str) -> None:
        """Show another text."""
        self._text.set_text(words)


class Slider:
    """A slider with its figure: the browser's own, which keys and screen readers know. `on_change` hears whole numbers."""

    def __init__(
        self, label: str, legend: str, least: int, most: int, step: int, value: int, on_change: Callable[[int], Any]
    ) -> None:
        with ui.element("div").classes("el-slider"):
            with ui.element("div").classes("el-spread"):
                text(label).classes("el-small")
                self._shown = text(str(value), "output")
            self._input = ui.element("input").props(
                f'type=range min={least} max={most} step={step} value={value} aria-label="{legend}"'
            )
        self._on_change = on_change
        self.value = value
        self._input.on("input", self._moved, js_handler="event => emit(Number(event.target.value))", throttle=0.05)

    def set(self, value: int, most: int | None = None) -> None:
        """Move it; nobody is told."""
        moved = "" if most is None else f"slider.max = {most};"
        self.value = value
        self._shown.set_text(str(value))
        ui.run_javascript(
            f"const slider = getHtmlElement({self._input.id}); if (slider) {{ {moved} slider.value = {value}; }}"
        )

    def _moved(self, event: Any) -> None:
        value = int(event.args)
        if value != self.value:
            self.value = value
            self._shown.set_text(str(value))
            self._on_change(value)
