"""What every page stands on: addresses, shared readings, the way to the service, sessions, and the columns that grids load."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import msgspec
import pytest

from dashboard.address import Address, link
from dashboard.cli import address as shown_address
from dashboard.coverage import shares
from dashboard.data import pack
from dashboard.login import local
from dashboard.poller import Poller, Watch
from dashboard.rest import AWAY, Call, Calls, Service
from dashboard.rows import Columns, RowCache, choose, variant_of
from dashboard.session import IDLE_S, Sessions
from dashboard.settings import Settings
from edgelut.blocks import MB4D
from edgelut.coverage import COLUMNS, Coverage
from edgelut.errors import Forbidden, InvalidSpec, LatencyNotFound, ServiceError
from edgelut.types import Target
from tests.dashboard.test_table_charts import row

URL = "http://127.0.0.1:8321"
HOST = Target("host", "onnxruntime-cpu")
Answer = Callable[[httpx.Request], httpx.Response]


class Said(msgspec.Struct, frozen=True):
    """An answer of a made-up service."""

    n: int


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


def service(answer: Answer) -> Service:
    return Service(Settings(URL), httpx.MockTransport(answer))


def counted(asked: list[httpx.Request]) -> Answer:
    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json={"n": len(asked)})

    return answer


def test_an_address_holds_what_is_not_empty_and_tells_what_changed() -> None:
    told: list[dict[str, str | None]] = []
    page = Address("/table", [("device", "a b&c"), ("q", ""), ("log", "1"), ("n", "12")], told.append)
    assert str(page) == "/table?device=a+b%26c&log=1&n=12"
    assert (page.get("q", "-"), page.flag("log"), page.number("n"), page.number("device")) == ("-", True, 12, None)
    assert page.one_of("device", ["x"], "x") == "x"
    page.set(device="d", log=None, n=12)
    page.set(device="d")
    assert told == [{"device": "d", "log": None}] and str(page) == "/table?device=d&n=12"
    assert page.keep(n=3) == "/table?device=d&n=3" and page.number("n") == 12
    assert link("/", a=None, b="", c=0) == "/?c=0"


def test_a_call_is_shown_as_a_command_with_no_token_in_it() -> None:
    assert Call.of("GET", "/latency", {"block": "MB3D", "limit": 2, "cursor": None}).curl(URL, True) == (
        f'curl "{URL}/latency?block=MB3D&limit=2" -H "Authorization: Bearer $EDGELUT_TOKEN"'
    )
    assert Call.of("POST", "/jobs/7f/cancel").curl(URL, False) == f'curl -X POST "{URL}/jobs/7f/cancel"'
    quoted = Call.of("POST", "/history", None, {"name": "it's"}).curl(URL, False)
    assert quoted == f"""curl "{URL}/history" -d '{{"name":"it'\\''s"}}'"""


def test_those_who_ask_the_same_at_once_share_one_answer_and_other_tokens_do_not() -> None:
    asked: list[httpx.Request] = []

    async def test() -> None:
        reached = service(counted(asked))
        call = Call.of("GET", "/fleet")
        same = await asyncio.gather(*(reached.shared(Said, call, "t1", 5.0) for _ in range(50)))
        assert {one.n for one in same} == {1}
        assert (await reached.shared(Said, call, "t1", 5.0)).n == 1
        assert (await reached.shared(Said, call, "t2", 5.0)).n == 2
        assert (await reached.shared(Said, call, "t1", 0.0)).n == 1  # kept by the first who asked
        reached.forget()
        assert (await reached.shared(Said, call, "t1", 5.0)).n == 3
        await reached.close()

    run(test())
    assert [request.headers["authorization"] for request in asked] == ["Bearer t1", "Bearer t2", "Bearer t1"]


def test_refusals_are_raised_as_what_they_mean_and_the_token_is_in_none() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        kind, _, status = request.url.path.strip("/").partition(".")
        problem = {"type": f"urn:problem-type:edgelut:{kind}", "detail": f"{kind} of s3cret"}
        return httpx.Response(int(status), content=json.dumps(problem))

    async def test() -> None:
        reached = service(answer)
        refused: dict[str, type[Exception]] = {
            "/no-such-entry.404": LatencyNotFound,
            "/invalid.422": InvalidSpec,
            "/forbidden.403": Forbidden,
            "/unauthorized.401": ServiceError,
        }
        for path, raised in refused.items():
            with pytest.raises(raised) as caught:
                await reached.ask(Said, Call.of("GET", path), "s3cret")
            assert "s3cret" not in str(caught.value) and "***" in str(caught.value)

    run(test())


def test_a_service_that_cannot_be_reached_is_away_and_an_action_is_not_sent_twice() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        raise httpx.ConnectError("refused")

    async def test() -> None:
        reached = service(answer)
        for method in ("GET", "POST"):
            with pytest.raises(ServiceError) as caught:
                await reached.ask(Said, Call.of(method, "/jobs"), None)
            assert caught.value.problem == AWAY

    run(test())
    assert asked == ["GET", "GET", "POST"]


def test_a_page_notes_its_calls_and_the_last_of_a_path_is_shown() -> None:
    async def test() -> None:
        calls = Calls(service(counted([])), lambda: None)
        await calls.get(Said, "/table", device="a")
        await calls.get(Said, "/table", device="b")
        await calls.post(Said, "/history", {"x": 1})
        await calls.get(Said, "/quiet", note=False)
        assert [call.curl("", False) for call in calls.asked.values()] == [
            'curl "/table?device=b"',
            """curl "/history" -d '{"x":1}'""",
        ]

    run(test())


def test_fifty_pages_cost_one_reading_and_hear_only_what_changed() -> None:
    async def test() -> None:
        reads, heard = [0], []
        poller = Poller()

        async def read() -> int:
            reads[0] += 1
            return min(reads[0] // 3, 1)

        async def told(value: int) -> None:
            heard.append(value)

        ends = [poller.watch("fleet", read, Watch(told), 0.02) for _ in range(50)]
        while len(heard) < 100:
            await asyncio.sleep(0.01)
        assert heard == [0] * 50 + [1] * 50 and reads[0] < 20
        late: list[int] = []

        async def joined(value: int) -> None:
            late.append(value)

        ends.append(poller.watch("fleet", read, Watch(joined), 5.0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert late == [1]
        for end in ends:
            end()
        before = reads[0]
        await asyncio.sleep(0.1)
        assert reads[0] == before  # nobody looks: nobody asks

    run(test())


def test_a_service_that_was_away_is_told_once_and_what_failed_is_read_again() -> None:
    async def test() -> None:
        state, told, values, errors = ["up"], [], [], []
        poller = Poller()

        async def read() -> int:
            if state[0] == "away":
                raise ServiceError("no answer", problem=AWAY)
            if state[0] == "refuses":
                raise LatencyNotFound("not there")
            return len(values)

        async def away(error: ServiceError | None) -> None:
            told.append(error is None)

        async def value(found: int) -> None:
            values.append(found)

        async def failed(error: Exception) -> None:
            errors.append(str(error))

        async def wait(what: Callable[[], object]) -> None:
            while not what():
                await asyncio.sleep(0.01)

        poller.watch_away(away)
        end = poller.watch("x", read, Watch(value, failed), 0.02)
        await wait(lambda: values)
        state[0] = "away"
        await wait(lambda: told)
        await asyncio.sleep(0.1)
        state[0] = "refuses"
        await wait(lambda: errors)
        await asyncio.sleep(0.1)
        assert told == [False, True] and errors == ["not there"]
        end()

    run(test())


def test_a_page_that_breaks_breaks_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        heard: list[int] = []
        poller = Poller()

        async def read() -> int:
            return 1

        async def broken(_: int) -> None:
            raise RuntimeError("a page of its own")

        async def told(value: int) -> None:
            heard.append(value)

        ends = [poller.watch("x", read, Watch(one), 5.0) for one in (broken, told)]
        while not heard:
            await asyncio.sleep(0.01)
        for end in ends:
            end()

    run(test())
    assert "a page could not show" in caplog.text


def test_a_session_is_nobodys_until_it_is_logged_in_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions()
    assert sessions.of("guessed").token is None
    made = sessions.log_in("s3cret")
    assert sessions.of(made.id) is made and "s3cret" not in repr(made) and len(made.id) == 43
    sessions.log_out(made)
    assert made.token is None and sessions.of(made.id).token is None
    again = sessions.log_in("s3cret")
    again.used -= IDLE_S + 1
    assert sessions.of(again.id).token is None


@pytest.mark.parametrize(
    ("host", "allowed", "asked", "is_let_in"),
    [
        ("127.0.0.1", (), "localhost", True),
        ("127.0.0.1", (), "127.0.0.1", True),
        ("::1", (), "::1", True),
        ("127.0.0.1", (), "evil.example", False),
        ("127.0.0.1", ("lut.example",), "lut.example", True),
        ("0.0.0.0", (), "lut.example", True),
        ("0.0.0.0", ("lut.example",), "evil.example", False),
    ],
)
def test_a_dashboard_of_this_machine_goes_by_its_names_alone(
    host: str, allowed: tuple[str, ...], asked: str, is_let_in: bool
) -> None:
    assert Settings(URL, host=host, allowed_hosts=allowed).allows(asked) is is_let_in


@pytest.mark.parametrize("to", ["//evil.example", "/\\evil.example", "https://evil.example", "", "/a\nb"])
def test_logging_in_leads_nowhere_else(to: str) -> None:
    assert local(to) == "/" and local("/table?device=a") == "/table?device=a"


def test_the_settings_are_checked() -> None:
    assert Settings(f"{URL}/").public_url == URL
    for wrong in ("ftp://x", "http://u:p@x", "nowhere"):
        with pytest.raises(InvalidSpec):
            Settings(wrong)
    with pytest.raises(InvalidSpec):
        Settings(URL, poll_s=0.0)
    assert (shown_address("::1", 80), shown_address("127.0.0.1", 80)) == ("http://[::1]:80", "http://127.0.0.1:80")


def test_a_targets_rows_are_read_once_for_all_until_they_change() -> None:
    asked: list[httpx.Request] = []

    def line(id: int) -> list[Any]:
        figures = [1e6, 1.1e6, 1.2e6, 0.9e6, 1.1e6, None, 1.0e6, None, 4, 40]
        params = {"expansion": 4, "pool": 5, "activation": "gelu"}
        return [
            id,
            "MB4D",
            48,
            48,
            14,
            1,
            params,
            "measured",
            "cpu",
            *figures,
            "noisy" if id == 2 else "",
            "2026-01-02",
            "s-1",
        ]

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        first = "cursor" not in request.url.params
        columns = [list(values) for values in zip(*([line(1), line(2)] if first else [line(3)]), strict=True)]
        return httpx.Response(200, json={"names": COLUMNS, "columns": columns, "next_cursor": "9" if first else None})

    async def test() -> None:
        calls, cache = Calls(service(answer), lambda: None), RowCache()
        found = (await asyncio.gather(*(cache.get(calls, HOST, "3:3") for _ in range(5))))[0]
        assert len(asked) == 2 and [one.id for one in found.rows] == [1, 2, 3]
        assert (await cache.get(calls, HOST, "3:3")) is found and len(asked) == 2
        await cache.get(calls, HOST, "3:4")
        assert len(asked) == 4
        assert [one.standing for one in found.rows] == ["measured", "doubtful", "measured"]
        assert found.kinds("time") == {"MB4D": 3} and found.variants("time", "MB4D") == {"pool=5": 3}
        assert found.measures == ["time"] and len(choose(found.rows, block="MB4D", variant="pool=5")) == 3

    run(test())
    assert msgspec.convert({"names": [], "columns": []}, Columns).next_cursor is None


def test_what_is_not_usual_of_a_blocks_parameters_names_its_variant() -> None:
    assert variant_of("MB4D", MB4D.spec(48, 14).params) == "defaults"
    assert variant_of("MB4D", MB4D.spec(48, 14, params={"expansion": 3}).params, 2) == "expansion=3, batch=2"
    assert variant_of("theirs", {"b": 1, "a": "x"}) == "a=x, b=1"


def test_columns_hold_figures_in_the_unit_they_count() -> None:
    packed = json.loads(pack([row(48, p10_ns=1.5e6), row(64, p10_ns=123456.0, clock="instructions", kind="emulated")]))
    found = dict(zip(packed["names"], packed["columns"], strict=True))
    assert found["value"] == [1.5, 123456.0] and found["standing"] == ["measured", "emulated"]
    assert found["href"] == ["/entry/48", "/entry/64"]
    assert not any(json.loads(pack([]))["columns"])


def test_the_coverage_of_a_device_is_told_target_by_target() -> None:
    def part(block: str, kind: Any, rows: int, doubtful: int, newest: int, target: Target = HOST) -> Coverage:
        from datetime import UTC, datetime

        return Coverage(target, block, kind, rows, doubtful, newest, datetime(2026, 1, newest, tzinfo=UTC))

    other = Target("host", "torchscript-cpu")
    listed = [
        part("chain", "measured", 4, 0, 2),
        part("MB4D", "measured", 10, 2, 3),
        part("MB4D", "interpolated", 5, 0, 9),
        part("MB4D", "measured", 30, 0, 1, other),
        part("MB4D", "measured", 1, 0, 1, Target("elsewhere", "null")),
    ]
    most, fewer = shares(listed, "host")
    assert (most.target, most.rows, most.name) == (other, 30, "torchscript-cpu fp32")
    assert (fewer.rows, fewer.doubtful, fewer.estimated, fewer.version) == (19, 2, 5, "19:9")
    assert fewer.kinds == (("MB4D", 15, 2), ("chain", 4, 0)) and fewer.newest_at.day == 9
