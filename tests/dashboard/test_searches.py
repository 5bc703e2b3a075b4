"""What a search's events tell, put together for its page."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from dashboard.address import Address
from dashboard.charts_search import front, predicted, slimming, training
from dashboard.networks import config_of
from dashboard.search_rows import action_rows, front_gist, headline, predicted_gist, said
from dashboard.searches import METHODS, Epoch, Network, Shape, Story, composer, going, meets, methods, silence, thinned
from edgelut.efficientformer import Config
from edgelut.testing_searches import make_event, make_search
from tests.dashboard import made_up_search

RUN = make_search(target_ms=made_up_search.TARGET_MS)


@pytest.fixture(scope="module")
def story() -> Story:
    made = Story()
    made.add(made_up_search.ended())
    return made


def net(method: str = "slimmed", seed: int = 0, ms: float = 3.0, test: float | None = 0.9) -> Network:
    shape = Shape((32, 48, 64, 96), (2, 2, 3, 2), 1, 32, 2, 10, distillation=False)
    return Network(method, seed, shape, ms, 0.8, test)


def test_a_story_has_what_its_events_told(story: Story) -> None:
    assert [of for of, _ in story.epochs.items()][:2] == ["supernet", "slimmed seed 0"]
    assert story.path[0].latency_ms == made_up_search.FULL_MS and story.path[-1].taken is None
    assert story.path[0].taken in story.path[0].actions
    assert [(one.name, len(one.networks)) for one in methods(story.found)] == [
        *((name, 3) for name in METHODS[:-1]),
        ("full", 1),
    ]
    assert story.unread == 0 and story.stages[1][1] == "training the supernet"


def test_what_comes_again_takes_the_place_of_what_was_before() -> None:
    story = Story()
    first = make_event(0, "epoch", of="supernet", step=10, loss=1.0)
    assert story.add([first, make_event(1, "epoch", of="supernet", step=10, loss=2.0)]) == {"epoch"}
    assert story.add([first]) == set()
    assert [one.loss for one in story.training("supernet")] == [2.0] and story.last == 1


def test_events_that_cannot_be_read_are_counted_and_left_out() -> None:
    story = Story()
    story.add(
        [
            make_event(0, "round", round="one"),
            make_event(1, "network", method="slimmed"),
            make_event(2, "epoch", of=1, step=1),
            make_event(3, "epoch", of="a", step=1, loss=float("nan")),
            make_event(4, "stage", text=None),
        ]
    )
    assert story.unread == 3 and story.training("a")[0].loss is None


def test_methods_have_means_and_deviations_of_their_seeds() -> None:
    found = [net(seed=0, test=0.90), net(seed=1, test=0.92), net("full", ms=6.0, test=None)]
    slimmed, full = methods(found)
    assert slimmed.mean == pytest.approx(0.91) and slimmed.spread == pytest.approx(0.01414, rel=1e-3)
    assert (full.mean, full.spread, full.ms) == (0.8, None, 6.0)
    assert meets(found[0], 2.95) and not meets(found[0], 2.94)
    assert "slimmed 91.00 % ± 1.41" in front_gist(found, 3.0) and "full" not in front_gist(found, 3.0)
    assert "No trained network" in front_gist(found, 1.0)


def test_a_network_leads_to_the_composer_as_it_is() -> None:
    run = make_search()
    to = urlsplit(composer(net(), run))
    found = config_of(Address(to.path, [(name, values[0]) for name, values in parse_qs(to.query).items()]))
    assert found == Config((32, 48, 64, 96), (2, 2, 3, 2), 1, 32, 1, 10, False, 2, "efficientformer-l1")
    assert parse_qs(to.query)["targets"] == [str(run.target)]
    odd = Network("slimmed", 0, Shape((1, 1, 1, 1), (0, 1, 1, 1), 0), 1.0)
    assert composer(odd, run) == ""


def test_a_search_that_says_nothing_for_long_is_told() -> None:
    later = RUN.updated_at + timedelta(minutes=7)
    assert silence(RUN, later).startswith("nothing was heard of it for 7 min")
    assert silence(replace(RUN, state="done"), later) == silence(RUN, RUN.updated_at) == ""
    assert silence(RUN, RUN.updated_at + timedelta(days=3)).startswith("nothing was heard of it for 3 days")


def test_a_search_is_said_in_a_few_words() -> None:
    run = replace(RUN, stage="slimming", share=0.359)
    assert going(run) == "▶ running 35 %: slimming" and headline(run, 0) == "slimming · 35 %"
    assert headline(replace(run, state="failed"), 0) == "failed while slimming"
    assert headline(replace(run, state="done"), 1) == "one network trained"
    assert (
        said({"lr": 0.024, "stages": [1, 2]}) == "lr 0.024, stages 1, 2" and said(None) == "" and said(True) == "true"
    )


def test_a_long_training_is_thinned_by_means() -> None:
    points = [Epoch("a", step, float(step), step / 1000) for step in range(1000)]
    few = thinned(points, 100)
    assert len(few) == 100 and few[0].loss == 4.5 and few[0].accuracy == 0.009 and few[-1].step == 999
    assert thinned(points[:50], 100) == points[:50]


def test_charts_hold_what_was_found_and_no_markup(story: Story) -> None:
    option = front(story.path, story.found, 3.4)
    assert [one["name"] for one in option["series"]] == [
        "slimming, inherited weights", "slimmed", "evolutionary", "random", "uniform", "full",
    ]  # fmt: skip
    assert option["xAxis"]["min"] <= 3.2
    near = front(story.path, story.found, 3.4, near=True)
    assert not near["series"][0]["data"] and "full" not in [one["name"] for one in near["series"]]
    inherited = front(story.path, story.found, 3.4, "inherited")
    assert not next(one for one in inherited["series"] if one["name"] == "uniform")["data"]
    assert len(slimming(story.path, 3.4, 5)["series"][0]["data"]) == len(story.path)
    assert len(predicted(story.found)["series"][1]["data"]) == 13
    assert "13 networks" in predicted_gist(story.found)
    evil = Network("<img src=x>", 0, Shape((1, 1, 1, 1), (1, 1, 1, 1), 0), 3.0, 0.5)
    assert "<img" not in front([], [evil], 3.4)["series"][1]["data"][0]["name"]
    curves = training([("supernet", story.training("supernet")), ("new way seed 1", [])], "accuracy")
    assert len(curves["series"][0]["data"]) == 30 and curves["xAxis"]["name"] == "epoch"


def test_the_ways_of_a_round_say_which_was_taken(story: Story) -> None:
    rows = action_rows(story.path[0])
    assert [row["taken"] for row in rows].count("✓ taken") == 1 and rows[0]["score"] is not None
