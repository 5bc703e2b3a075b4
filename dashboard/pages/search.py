"""One search as it goes on: accuracy against latency, what each round of slimming did, trainings, and the networks found."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from dashboard.charts_search import front, predicted, slimming, training
from dashboard.figures import Figure
from dashboard.jobs_view import moment
from dashboard.layout import Page, View, button, card, facts, text
from dashboard.search_rows import (
    ACTIONS,
    NETWORKS,
    ROUNDS,
    SLIMMING_GIST,
    action_rows,
    front_gist,
    headline,
    network_row,
    predicted_gist,
    round_row,
    round_said,
    said,
    training_gist,
)
from dashboard.searches import (
    CHIPS,
    SAID,
    EventsPage,
    Round,
    Story,
    composer,
    going,
    meets,
    methods,
    ms_of,
    share_of,
    silence,
    thinned,
)
from dashboard.tables import Grid
from edgelut.searches import MOST_EVENTS, SearchRun

MOST = 50_000  # events that a page reads
SILENT_EVERY_S = 30.0
ANNOUNCE_EVERY = 10  # percent
ACCURACIES = {"": "test images, else validation", "valid": "validation images", "inherited": "before training"}


async def build(view: View) -> None:
    """Show a search and follow it."""
    id = view.path_params["id"]
    page = SearchPage(view, await view.calls.get(SearchRun, f"/searches/{id}", fresh_s=0.0, note=False))
    page.draw()
    await page.read()
    view.watch(SearchRun, f"/searches/{id}", page.told)
    timer = ui.timer(SILENT_EVERY_S, page.show_state)
    view.on_end(timer.cancel)


class SearchPage:
    """The parts of the page that change."""

    def __init__(self, view: View, run: SearchRun) -> None:
        self.view, self.run, self.story = view, run, Story()
        self.accuracy = view.address.one_of("accuracy", ACCURACIES)
        self.near = view.address.flag("near")
        self.round = view.address.number("round")
        self.announced = ""

    def draw(self) -> None:
        """Build the page as the search is now; what there is nothing of yet is hidden."""
        self.view.title(f"Search {self.run.name}")
        with card() as top:
            top.props('aria-label="Progress"')
            with ui.element("div").classes("el-row"):
                self.chip = text("").classes("el-chip")
                self.quiet = text("").classes("el-chip warn")
            self.now = text("", "div").classes("el-figure").style("margin: 4px 0 10px")
            self.bar = ui.element("div").classes("el-bar").props("role=progressbar aria-valuemin=0 aria-valuemax=100")
            self.figures = ui.element("div").classes("el-figures")
            self.spoken = text("", "div").classes("el-hidden").props("role=status aria-live=polite")
        self.empty = text("Nothing has happened yet.", "div").classes("el-soft")
        self.draw_front()
        self.draw_slimming()
        self.draw_trainings()
        with ui.element("div").classes("el-two"):
            with card("What is searched"):
                self.asked = ui.element("div")
            with card("What happened"):
                self.log = ui.element("div").classes("el-log").props('role=log tabindex=0 aria-label="Stages"')
                self.unread = text("", "div").classes("el-soft el-small")
        self.show_state()

    def draw_front(self) -> None:
        """Build accuracy against latency, and the networks."""
        with card() as self.front_card:
            with ui.element("div").classes("el-controls"):
                ui.select(
                    ACCURACIES,
                    value=self.accuracy,
                    label="Accuracy of networks",
                    on_change=lambda event: self.choose(event.value),
                ).props("outlined dense options-dense")
                ui.checkbox("near the target only", value=self.near, on_change=lambda event: self.zoom(event.value))
            self.front = Figure(
                "Accuracy against latency", front([], [], self.run.target_ms), gist="", file=f"search-{self.run.id}-front",
                height=430, on_click=self.clicked,
            )  # fmt: skip
        with card("Networks") as self.networks_card:
            self.methods = ui.element("div").classes("el-scroll").props('tabindex=0 role=group aria-label="Methods"')
            self.networks = Grid(
                "Every network",
                NETWORKS,
                file=f"search-{self.run.id}-networks",
                address=self.view.address,
                prefix="n",
                opens=True,
            )
            text("Enter opens the network of a row on the page Network.", "div").classes("el-soft el-small")

    def draw_slimming(self) -> None:
        """Build the slimming path with its rounds, and what one of them could do."""
        with card() as self.slimming_card:
            self.path = Figure(
                "Slimming path", slimming([], self.run.target_ms), gist="", file=f"search-{self.run.id}-slimming",
                height=370, on_click=self.clicked,
            )  # fmt: skip
            self.rounds = Grid(
                "Rounds",
                ROUNDS,
                file=f"search-{self.run.id}-rounds",
                height=330,
                on_select=lambda row: self.look_at(row["round"]),
            )
            with ui.element("div").classes("el-row").style("margin: 14px 0 6px"):
                button("Round before", lambda: self.step(-1))
                button("Round after", lambda: self.step(1))
                self.which = text("", "div").classes("el-soft el-small").props("role=status aria-live=polite")
            self.actions = Grid("What the round could do", ACTIONS, file=f"search-{self.run.id}-round")

    def draw_trainings(self) -> None:
        """Build the curves of trainings, and the predictions against what was measured."""
        with ui.element("div").classes("el-two") as self.trainings:
            with card():
                self.loss = Figure("Training: loss", training([], "loss"), gist="", file=f"search-{self.run.id}-loss")
            with card():
                self.learned = Figure(
                    "Training: accuracy", training([], "accuracy"), gist="", file=f"search-{self.run.id}-accuracy"
                )
        with card() as self.predicted_card:
            self.predicted = Figure(
                "Predicted against measured", predicted([]), gist="", file=f"search-{self.run.id}-predicted"
            )

    async def told(self, run: SearchRun) -> None:
        """Show the search as it is now."""
        self.run = run
        self.show_state()
        await self.read()

    async def read(self) -> None:
        """Read what happened since, and show it."""
        kinds: set[str] = set()
        path = f"/searches/{self.run.id}/events"
        while self.story.last + 1 < min(self.run.events, MOST):
            after = self.story.last if self.story.last >= 0 else None
            page = await self.view.calls.get(EventsPage, path, note=after is None, after=after, limit=MOST_EVENTS)
            if self.view.closed or not page.events:
                break
            kinds |= self.story.add(page.events)
        if not self.view.closed:
            self.show(kinds)

    def show_state(self) -> None:
        """Show how far the search is."""
        run, quiet = self.run, silence(self.run)
        self.chip.set_text(run.state)
        self.chip.classes(replace=f"el-chip {CHIPS[run.state]}")
        self.quiet.set_text(quiet)
        self.quiet.set_visibility(bool(quiet))
        running = run.state == "running"
        done = 100 if run.share is None else int(100 * run.share)
        self.now.set_text(headline(run, len(self.story.networks)))
        self.bar.set_visibility(running and run.share is not None)
        self.bar.props(f'aria-valuenow={done} aria-label="of what goes on now"')
        self.bar.clear()
        with self.bar:
            ui.element("span").classes("el-part measured").style(f"width: {done}%")
        spoken = f"{run.state} {run.stage} {done // ANNOUNCE_EVERY}"
        if spoken != self.announced:
            self.announced = spoken
            self.spoken.set_text(going(run))
        self.show_figures()
        self.show_asked()

    def show_figures(self) -> None:
        """Show the figures that tell most."""
        path, full = self.story.path, self.run.about.get("full_ms")
        shown = {
            "target": f"{self.run.target_ms:.4g} ms",
            "the whole supernet's network": ms_of(full) if isinstance(full, int | float) else "",
            f"after {path[-1].round} rounds" if path else "": ms_of(path[-1].latency_ms) if path else "",
            "best accuracy at the target": share_of(self.run.best_accuracy),
        }
        self.figures.clear()
        with self.figures:
            for label, figure in shown.items():
                if figure:
                    with ui.element("div"):
                        text(figure, "div").classes("el-figure")
                        text(label, "div").classes("el-soft el-small")

    def show_asked(self) -> None:
        """Show what is searched in words."""
        run = self.run
        pairs = {"id": run.id, "target": str(run.target), "target latency": f"{run.target_ms:.4g} ms"}
        pairs |= {name.replace("_", " "): said(value) for name, value in run.about.items()}
        pairs |= {"begun": f"{moment(run.created_at)} UTC", "last heard of": f"{moment(run.updated_at)} UTC"}
        self.asked.clear()
        with self.asked:
            facts({name: value for name, value in pairs.items() if value})

    def show(self, kinds: set[str]) -> None:
        """Show what of the page is of these kinds of events."""
        story = self.story
        self.empty.set_visibility(not story.last >= 0)
        for part, there in (
            (self.front_card, story.rounds or story.networks),
            (self.networks_card, story.networks),
            (self.slimming_card, story.rounds),
            (self.trainings, story.epochs),
            (self.predicted_card, any(one.measured_ms is not None for one in story.networks.values())),
        ):
            part.set_visibility(bool(there))
        if "stage" in kinds:
            self.show_stages()
        if "epoch" in kinds:
            curves = [(of, thinned(story.training(of))) for of in story.epochs]
            self.loss.update(training(curves, "loss"), training_gist(story, "loss"))
            self.learned.update(training(curves, "accuracy"), training_gist(story, "accuracy"))
        if kinds & {"round", "network"}:
            self.show_front()
        if "round" in kinds:
            self.show_figures()
            self.rounds.show([round_row(one) for one in story.path])
            self.show_round()
        if "network" in kinds:
            self.networks.show([network_row(one, self.run) for one in story.found])
            self.show_methods()
            self.predicted.update(predicted(story.found), predicted_gist(story.found))
        unread = f"{story.unread} events are in a form that this page does not read. " if story.unread else ""
        more = f"The first {MOST:,} of {self.run.events:,} events." if self.run.events > MOST else ""
        self.unread.set_text(unread + more)

    def show_front(self) -> None:
        """Show accuracy against latency."""
        path, found, target_ms = self.story.path, self.story.found, self.run.target_ms
        self.front.update(front(path, found, target_ms, self.accuracy, self.near), front_gist(found, target_ms))

    def show_stages(self) -> None:
        """Show what the search did, one line a stage."""
        self.log.clear()
        with self.log:
            for at, words in self.story.stages:
                text(f"{at:%m-%d %H:%M:%S} {words}", "div").classes("el-line")
        self.view.js(f"edgelut.toEnd({self.log.id})")

    def show_methods(self) -> None:
        """Show what each method came to."""
        self.methods.clear()
        headings = ("method", "networks", "accuracy, mean", "± one deviation", "latency, mean", "meet the target")
        with self.methods, ui.element("table").classes("el-plain").style("margin-bottom: 14px; min-width: 620px"):
            with ui.element("thead"), ui.element("tr"):
                for number, heading in enumerate(headings):
                    text(heading, "th").props("scope=col").classes("num" if number else "")
            with ui.element("tbody"):
                for one in methods(self.story.found):
                    met = sum(meets(network, self.run.target_ms) for network in one.networks)
                    cells = (
                        str(len(one.networks)), share_of(one.mean, 2), share_of(one.spread, 2), ms_of(one.ms),
                        f"{met} of {len(one.networks)}",
                    )  # fmt: skip
                    with ui.element("tr"):
                        with ui.element("td"):
                            text(one.name, "b")
                            text(f" {SAID.get(one.name, '')}").classes("el-soft")
                        for cell in cells:
                            text(cell, "td").classes("num")

    def show_round(self) -> None:
        """Show what the chosen round could do and did."""
        path = self.story.path
        one = self.chosen()
        self.path.update(slimming(path, self.run.target_ms, one.round if one else None), SLIMMING_GIST)
        self.actions.title("What the round could do" if one is None else f"What round {one.round} could do")
        self.actions.show([] if one is None else action_rows(one))
        self.which.set_text("" if one is None else round_said(one))

    def chosen(self) -> Round | None:
        """Return the round that is looked at: the last one that did something, where none is chosen."""
        if self.round in self.story.rounds:
            return self.story.rounds[self.round]
        path = self.story.path
        return next((one for one in reversed(path) if one.actions), path[-1] if path else None)

    def look_at(self, number: int) -> None:
        """Look at a round."""
        self.round = int(number)
        self.view.address.set(round=self.round)
        self.show_round()

    def step(self, by: int) -> None:
        """Look at the next round, or the one before."""
        one = self.chosen()
        numbers = sorted(self.story.rounds)
        if one is not None:
            place = numbers.index(one.round) + by
            self.look_at(numbers[min(max(place, 0), len(numbers) - 1)])

    def choose(self, accuracy: str) -> None:
        """Show another accuracy of the networks."""
        self.accuracy = accuracy
        self.view.address.set(accuracy=accuracy)
        self.show_front()

    def zoom(self, near: bool) -> None:
        """Show only what is near the target, or everything."""
        self.near = near
        self.view.address.set(near=1 if near else None)
        self.show_front()

    def clicked(self, event: Any) -> None:
        """Look at the round of a point, or open its network."""
        data = event.data if isinstance(event.data, dict) else {}
        if isinstance(data.get("round"), int):
            self.look_at(data["round"])
        elif to := {one.name: composer(one, self.run) for one in self.story.found}.get(str(data.get("network"))):
            ui.navigate.to(to)


PAGES = (Page("/searches/{id}", "Search", build),)
