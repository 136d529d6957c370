"""Timestamps: RFC 3339 in UTC, and back."""

import pytest

from ucloud.base.clock import SystemClock, parse_timestamp, timestamp


@pytest.mark.parametrize(
    ("now_s", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_800_000_000.0, "2027-01-15T08:00:00.000Z"),
        (1_763_823_091.0425, "2025-11-22T14:51:31.042Z"),
        (951_825_600.0, "2000-02-29T12:00:00.000Z"),
    ],
)
def test_a_timestamp_has_milliseconds_and_comes_back(now_s: float, text: str) -> None:
    assert timestamp(now_s) == text
    assert parse_timestamp(text) == pytest.approx(now_s, abs=0.001)


def test_timestamps_sort_as_text() -> None:
    times_s = [0.0, 0.999, 1.0, 59.9, 60.0, 86_400.0, 1_000_000_000.0, 4_000_000_000.5]
    texts = [timestamp(time_s) for time_s in times_s]
    assert texts == sorted(texts)


@pytest.mark.parametrize("text", ["", "yesterday", "2027-13-01T00:00:00.000Z"])
def test_what_is_no_timestamp_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_timestamp(text)


def test_the_systems_clock_goes_on() -> None:
    clock = SystemClock()
    first_s = clock.monotonic_s()
    assert clock.monotonic_s() >= first_s
    assert clock.now_s() > 1_600_000_000
