"""Requests in flight, ceilings a minute and Retry-After, with a clock made up here."""

from __future__ import annotations

import pytest

from constitute.engines.openai.limits import Bucket, Window, pause, retry_after


def test_a_window_is_halved_once_and_grows_by_one_a_window_of_answers():
    window = Window(most=64)
    assert window.limit == 64
    # All 64 were sent at 0; the first refusal halves, the other 63 say nothing new.
    assert [window.refused(sent=0.0, now=1.0) for _ in range(64)] == [True] + [False] * 63
    assert window.limit == 32
    # Sent before the halving and refused after it: still of the old window.
    assert not window.refused(sent=1.0, now=1.5) and window.refused(sent=1.2, now=1.5)
    assert window.limit == 16
    for _ in range(15):
        window.answered()
    assert window.limit == 16
    window.answered()
    assert window.limit == 17
    for _ in range(17 + 18):
        window.answered()
    assert window.limit == 19
    for at in range(10):
        window.refused(sent=2.0 + at, now=2.5 + at)
    assert window.limit == 1
    for _ in range(10_000):
        window.answered()
    assert window.limit == 64


def test_a_bucket_lets_a_second_through_at_once_and_then_its_rate():
    bucket = Bucket(per_minute=600)
    sent, now = 0, 100.0
    while now < 160.0 - 1e-6:
        wait = bucket.wait(now, 1)
        if wait == 0.0:
            bucket.take(1)
            sent += 1
        now += wait
    # 10 at once, then one each 0.1 s until the minute ends.
    assert sent == 10 + 599
    slow = Bucket(per_minute=30)
    assert slow.wait(0.0, 1) == 0.0
    slow.take(1)
    assert slow.wait(0.0, 1) == pytest.approx(2.0)
    assert slow.wait(2.0, 1) == 0.0


def test_a_cost_above_the_bucket_is_paid_off_and_a_wrong_estimate_is_given_back():
    bucket = Bucket(per_minute=6000)  # 100 tokens a second
    assert bucket.wait(0.0, 1000) == 0.0
    bucket.take(1000)
    # 900 in debt, and the bucket must be full for the next of 1,000: 10 s.
    assert bucket.wait(0.0, 1000) == pytest.approx(10.0)
    bucket.take(200 - 1000)
    assert bucket.wait(0.0, 1000) == pytest.approx(2.0)
    bucket.take(-10_000)
    assert bucket.wait(0.0, 100) == 0.0
    bucket.take(100)
    assert bucket.wait(0.0, 50) == pytest.approx(0.5)


NOW = 1_000_000_000.0  # 2001-09-09 01:46:40 UTC


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2", 2.0),
        ("0", 0.0),
        ("1.5", 1.5),
        (" 3 ", 3.0),
        ("86400", 60.0),
        ("Sun, 09 Sep 2001 01:46:47 GMT", 7.0),
        ("Sun, 09 Sep 2001 01:46:30 GMT", 0.0),
        ("Sunday, 09-Sep-01 01:46:45 GMT", 5.0),
        ("Sun, 09 Sep 2001 01:46:47 -0000", 7.0),
        ("Mon, 10 Sep 2001 01:46:47 GMT", 60.0),
        ("²", None),
        ("٣", None),
        ("-5", None),
        ("1e9", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("9" * 5000, None),
        ("Sun, 99 Sep 2001 99:46:47 GMT", None),
    ],
)
def test_retry_after_is_read_in_every_form_up_to_a_cap(value, seconds):
    assert retry_after({"retry-after": value}, NOW) == seconds
    # OpenAI's own header is more precise and comes first.
    assert retry_after({"retry-after": value, "retry-after-ms": "250"}, NOW) == 0.25


def test_a_pause_doubles_up_to_a_cap_where_the_server_asks_for_none():
    assert pause(3, 0.0) == 0.0 and pause(0, 2.0) == 2.0
    assert 0.25 <= pause(0, None) <= 0.5
    assert 1.0 <= pause(2, None) <= 2.0
    assert 4.0 <= pause(100_000, None) <= 8.0
