"""What phones print becomes facts; what one does not say is a fact less."""

from __future__ import annotations

import pytest

from backends.adb import texts
from tests.phones.printed import OLD, PIXEL, SAMSUNG, printed


def facts(phone: dict[str, str]) -> dict[str, object]:
    return dict(texts.all_facts(texts.sections(printed(phone))))


def test_a_pixel_is_told_whole() -> None:
    assert facts(PIXEL) == {
        "device_model": "Pixel 6",
        "manufacturer": "Google",
        "soc": "Google Tensor",
        "os": "Android 14 (API 34)",
        "build": "google/oriole/oriole:14/AP2A.240805.005/12025142:user/release-keys",
        "abi": "arm64-v8a",
        "cores": 8,
        "max_khz": "1803000x4+2253000x2+2802000x2",
        "big_mask": "f0",
        "little_mask": "f",
        "governor": "sched_pixel",
        "kernel": "5.10.198-android13-4-00050-g12f3388846c3-ab11920634",
        "observed_battery_percent": 87,
        "observed_battery_c": 26.8,
        "observed_charging": True,
        "observed_thermal_status": 0,
        "observed_temperature_c": 41.0,
        "observed_skin_c": 32.4,
        "observed_frequency_khz": 1401000,
        "observed_memory_free_bytes": 3145728 * 1024,
    }
    assert texts.throttled(PIXEL) == ""


def test_a_makers_own_lines_are_not_taken_for_androids() -> None:
    found = facts(SAMSUNG)
    assert found["observed_battery_c"] == 46.2
    assert found["observed_charging"] is False
    assert found["soc"] == "exynos990"
    assert found["governor"] == "energy_step+schedutil"
    assert found["observed_temperature_c"] == 61.6  # of the cached ones: its HAL says none
    assert found["observed_skin_c"] == 44.7
    assert "observed_frequency_khz" not in found


def test_a_hot_phone_says_all_that_speaks_against_a_round() -> None:
    assert texts.throttled(SAMSUNG) == (
        "thermal status 2 (moderate), cpus 4-5 capped at 1.69 of 2.50 GHz, battery at 46 °C, above 45"
    )


def test_a_battery_is_to_be_cooler_before_a_round_than_within() -> None:
    warm = {"battery": "  present: true\n  temperature: 420\n"}
    assert texts.throttled(warm) == ""
    assert texts.throttled(warm, 40.0) == "battery at 42 °C, above 40"


def test_an_old_phone_has_no_thermal_status_and_is_never_called_hot_for_it() -> None:
    found = facts(OLD)
    assert not {"observed_thermal_status", "observed_temperature_c", "governor"} & set(found)
    assert found["observed_battery_c"] == -1.5
    assert found["soc"] == "msm8953"
    assert texts.throttled(OLD) == ""


def test_cores_that_are_switched_off_are_told_by_their_cluster() -> None:
    found = facts(OLD)
    assert (found["cores"], found["max_khz"]) == (8, "2016000x4+2208000x4")
    assert (found["big_mask"], found["little_mask"]) == ("f0", "f")


def test_equal_cores_are_all_big() -> None:
    text = "".join(f"cpu{cpu}/cpufreq/cpuinfo_max_freq:1500000\n" for cpu in range(4))
    assert texts.clusters(texts.cpus(text)) == {"cores": 4, "max_khz": "1500000x4", "big_mask": "f"}


def test_a_phone_that_refuses_everything_has_no_facts() -> None:
    assert texts.all_facts(texts.sections(printed(dict.fromkeys(PIXEL, "")))) == {}
    assert texts.all_facts({}) == {}
    assert texts.throttled({}) == ""


def test_lines_may_end_as_on_a_terminal() -> None:
    assert facts({name: text.replace("\n", "\r\n") for name, text in PIXEL.items()})["device_model"] == "Pixel 6"


def test_a_board_without_a_battery_has_none() -> None:
    assert texts.battery("  status: 1\n  present: false\n  level: 0\n  scale: 100\n  temperature: 0\n") == {}


@pytest.mark.parametrize(
    ("text", "free"),
    [
        (PIXEL["space"], 72762284 * 1024),
        (SAMSUNG["space"], 10000 * 1024),
        ("", None),
        ("df: /data/local/tmp: Permission denied\n", None),
    ],
)
def test_room_is_read_of_df(text: str, free: int | None) -> None:
    assert texts.free_bytes(text) == free


def test_the_script_asks_for_what_is_read_and_hides_what_is_refused() -> None:
    script = texts.script(texts.ALL)
    assert script.count("2>/dev/null") == len(texts.ALL)
    assert "dumpsys thermalservice" in script
