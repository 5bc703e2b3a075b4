"""Charts on a page: with a label for who cannot see them, and a button that saves the image."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from nicegui import ui

from .layout import button, text


class Figure:
    """A chart with its title and its button. `update` shows another option in its place.

    The chart is made empty and gets its option once the browser has given it the colours of the theme, so that thousands of
    points are drawn once and not twice, and are no part of the page's first answer.
    """

    def __init__(
        self,
        title: str,
        option: dict[str, Any],
        *,
        gist: str,
        file: str,
        height: int = 360,
        on_click: Callable[[Any], Any] | None = None,
    ) -> None:
        self._option, self._painted = option, False
        with ui.element("figure").style("margin: 0"):
            with ui.element("div").classes("el-spread"):
                self._title = text("", "h3")
                self._button = button("Save image")
            self.chart = ui.echart({}, on_point_click=on_click).classes("el-chart").style(f"height: {height}px")
            self.chart.props("role=img")
            self._gist = text("", "figcaption").classes("el-soft el-small")
        save = f"() => edgelut.saveImage({self.chart.id}, getHtmlElement({self._button.id}).dataset.file)"
        self._button.on("click", js_handler=save)
        self.name(title, file)
        self.chart.on("painted", self._draw, [])
        self.say(gist)

    def name(self, title: str, file: str) -> None:
        """Set the heading, and what a saved image is called."""
        self._title.set_text(title)
        self._button.props(f"aria-label={json.dumps(f'Save image: {title}')} data-file={json.dumps(file)}")

    def say(self, gist: str) -> None:
        """Set what the chart says in words."""
        self._gist.set_text(gist)
        self.chart.props(f"aria-label={json.dumps(gist)}")

    def update(self, option: dict[str, Any], gist: str) -> None:
        """Show another option."""
        self._option = option
        self.say(gist)
        if self._painted:
            self._draw()

    def _draw(self) -> None:
        self._painted = True
        if self._option:
            self.chart.options.clear()
            self.chart.options.update(self._option)
            self.chart.update()
