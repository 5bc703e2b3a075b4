"""Parts that several pages are made of: charts that scroll, text to copy."""

from __future__ import annotations

from nicegui import ui

from .figures import Figure
from .layout import button, text


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
