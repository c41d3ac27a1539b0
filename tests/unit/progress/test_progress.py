"""Progress: plain lines off a terminal, a live line on one, JSON events for programs."""

from __future__ import annotations

import io
import json
import time

import pytest

from constitute.progress import Silent, open_progress
from constitute.progress.show import Events, Live, Plain
from constitute.progress.state import StageState, describe


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_say_start_and_end() -> None:
    out = io.StringIO()
    with open_progress(out=out) as progress:
        progress.start("generate", 3, 1)
        progress.advance("generate", "ok")
        progress.advance("generate", "failed")
        progress.tokens("generate", 70)
        progress.note("something to know")
        progress.finish("generate")
    first, note, last = out.getvalue().splitlines()
    assert (first, note) == ("generate: 3 rows, 1 done before", "something to know")
    assert last.startswith("generate: 3 of 3 rows, 1 failed, ") and "tokens/s" in last


def test_the_end_says_how_many_rows_never_came() -> None:
    state = StageState("revise", 5, 0)
    state.ended(1.0)
    assert "1 of 5 rows, 4 did not come this far, " in describe(state, ended=True, now=2.0)
    assert "did not come" not in describe(state, now=2.0)


def test_plain_lines_come_every_so_often_and_not_a_row() -> None:
    out = io.StringIO()
    progress = Plain(out)
    progress.start("label")
    for _ in range(100):
        progress.advance("label")
    assert out.getvalue() == "label: started\n"
    progress.every_s = 0.0
    progress.advance("label", loss=0.25)
    assert "101 rows, loss 0.25" in out.getvalue().splitlines()[-1]


def test_events_are_json_with_rate_and_time_left() -> None:
    out = io.StringIO()
    progress = Events(out)
    progress.every_s = 0.0
    progress.start("revise", 4)
    progress.advance("revise", "abstain")
    progress.finish("revise")
    start, event, finish = [json.loads(line) for line in out.getvalue().splitlines()]
    assert (start["event"], start["eta_s"], start["total"]) == ("start", None, 4)
    assert (event["event"], event["done"], event["abstain"]) == ("progress", 1, 1)
    assert event["rows_per_s"] > 0 and event["eta_s"] is None
    assert finish["event"] == "finish"


def test_a_live_line_shows_no_markup_and_ends_with_the_figures() -> None:
    out = Terminal()
    with open_progress(out=out) as progress:
        assert isinstance(progress, Live)
        progress.start("generate", 2)
        progress.advance("generate")
        progress.advance("generate")
        progress.note("[bold]as it is[/bold]")
        progress.finish("generate")
    assert "[bold]as it is[/bold]" in out.getvalue()
    assert "generate: 2 of 2 rows" in out.getvalue()


def ended(state: StageState, *times: float) -> StageState:
    for now in times:
        state.ended(now)
    return state


def test_rate_and_time_left_count_this_run_alone() -> None:
    state = StageState("s", 100, done=50, started=0.0, tokens=660)
    ended(state, 15.0, *[40.0] * 9)
    # 10 rows in 40 s, and 40 rows to go.
    assert state.rate(40.0) == pytest.approx(0.25) and state.eta_s(40.0) == pytest.approx(160.0)
    assert state.token_rate(40.0) == pytest.approx(16.5)
    assert describe(state, now=40.0) == "60 of 100 rows, 0.25 rows/s, 16 tokens/s, 2 min 40 s left"
    assert StageState("s", None, 0).eta_s(110.0) is None


def test_a_batch_that_ends_all_at_once_is_no_pace_of_its_own() -> None:
    # All eight in flight end within 7 s, after 80: the next eight take as long.
    state = ended(StageState("label", 16, 0, started=0.0), *(73.0 + at for at in range(8)))
    assert state.eta_s(80.0) == pytest.approx(80.0)
    assert describe(state, now=80.0) == "8 of 16 rows, 0.10 rows/s, 1 min 20 s left"
    # Nothing has ended since: the pace falls and the time left grows with it.
    assert (state.rate(160.0), state.eta_s(160.0)) == pytest.approx((0.05, 160.0))


def test_a_slow_start_leaves_the_window() -> None:
    # The first row took 100 s, then one came a second.
    state = ended(StageState("s", 300, 0, started=0.0), *(100.0 + at for at in range(81)))
    # Of the marks 60 s back or more the last is at 120 s, with 21 rows of 81.
    assert (state.rate(180.0), state.eta_s(180.0)) == pytest.approx((1.0, 219.0))
    assert state.mean_rate(180.0) == pytest.approx(0.45)
    assert describe(state, ended=True, now=180.0) == (
        "81 of 300 rows, 219 did not come this far, 0.45 rows/s, in 180 s"
    )
    # What is before the window is forgotten, and a second keeps one mark.
    assert len(ended(state, *[180.5] * 1000).marks) == 61


def test_events_show_a_rate_and_a_time_left_that_agree() -> None:
    out = io.StringIO()
    progress = Events(out)
    progress.start("label", 18)
    state = ended(StageState("label", 18, 0, started=time.monotonic() - 50.0), *[time.monotonic() - 20.0] * 2)
    progress._show("progress", state)
    told = json.loads(out.getvalue().splitlines()[-1])
    assert told["rows_per_s"] == pytest.approx(0.04, abs=0.001)
    assert told["eta_s"] == pytest.approx(16 / 0.04, rel=0.02)


@pytest.mark.parametrize(("fresh", "now"), [(1, 160.0), (40, 101.5)])
def test_no_time_left_is_told_from_one_row_or_one_batch(fresh: int, now: float) -> None:
    assert StageState("s", 100, done=fresh, fresh=fresh, started=0.0, first=100.0).eta_s(now) is None


def test_a_slow_start_is_no_pace() -> None:
    # The engine warmed up for 25 s; of 2400 rows two ended, which would make hours.
    state = ended(StageState("label", 2400, 0, started=0.0), 25.0, 25.1)
    assert state.eta_s(28.0) is None and "left" not in describe(state, now=28.0)
    # Many more have ended soon after, but in less time than half of the start took.
    ended(state, *(25.0 + at / 20 for at in range(3, 200)))
    assert state.eta_s(35.0) is None
    # 599 rows in 55 s, of which 25 were the start: still too long, but no more than by half.
    ended(state, *(35.0 + at / 20 for at in range(400)))
    assert state.eta_s(55.0) == pytest.approx(1801 / (599 / 55.0))
    # Nearly all rows ended at once: what is left is told.
    few = ended(StageState("label", 10, 0, started=0.0), *[100.0] * 6)
    assert few.eta_s(103.0) == pytest.approx(4 / (6 / 103.0))


def test_the_first_of_many_steps_is_no_pace() -> None:
    state = StageState("train sft", 200, done=0, started=0.0, begun=0.0)
    ended(state, 5.0)
    assert state.eta_s(8.0) is None
    # Two more took a second each: the first, which warmed up, is left out.
    ended(state, 6.0, 6.9)
    assert state.eta_s(7.1) == pytest.approx(197 / (2 / 2.1))
    # A step that takes minutes is told from its first minute on.
    long = StageState("train ppo", 100, done=0, started=0.0, begun=0.0, share=0.25)
    assert long.eta_s(59.0) is None and long.eta_s(60.0) == pytest.approx(99.75 * 240)


def test_tokens_belong_to_the_stage_that_wrote_them_and_text_is_harmless() -> None:
    out = io.StringIO()
    progress = Plain(out)
    progress.start("generate", 1)
    progress.start("label", 1)
    progress.tokens("generate", 500)
    for stage in ("generate", "label"):
        progress.advance(stage)
        progress.finish(stage)
    progress.note("model \x1b]0;owned\x07x\x1b[2J")
    generated, labelled, note = out.getvalue().splitlines()[2:]
    assert "tokens/s" in generated and "tokens/s" not in labelled and note == "model x"


def test_what_takes_a_while_is_said_before_it_is_done() -> None:
    plain, events, terminal = io.StringIO(), io.StringIO(), Terminal()
    with Plain(plain).waiting("loading m"):
        assert plain.getvalue() == "loading m…\n"
    with Events(events).waiting("loading m"):
        assert json.loads(events.getvalue()) == {"event": "wait", "text": "loading m", "seconds": 0.0}
    assert json.loads(events.getvalue().splitlines()[-1])["event"] == "waited"
    with open_progress(out=terminal) as live, live.waiting("loading \x1b[31mm"):
        assert "loading m… 0 s" in terminal.getvalue()
    with Silent().waiting("loading m"):
        pass


def test_a_wait_ends_with_its_block_also_where_it_fails() -> None:
    progress = Plain(io.StringIO())
    with pytest.raises(ValueError, match="broken"), progress.waiting("loading m"):
        raise ValueError("broken")
    assert progress.waits == {}


@pytest.mark.parametrize("kind", [Plain, Events])
def test_a_sign_of_life_comes_while_nothing_ends(kind: type[Plain] | type[Events]) -> None:
    out = io.StringIO()
    progress = kind(out)
    progress.beat_s = 0.02
    with progress.running(), progress.waiting("loading m"):
        progress.start("train sft", 1)
        end = time.monotonic() + 10
        while out.getvalue().count("so far" if kind is Plain else '"waiting"') < 2:
            assert time.monotonic() < end
            time.sleep(0.01)
    if kind is Plain:
        assert "loading m: 0 s so far\n" in out.getvalue()
        assert "train sft: 0 of 1 step, 0 s so far\n" in out.getvalue()
    else:
        assert '"progress", "stage": "train sft", "done": 0' in out.getvalue()


def test_a_long_step_is_told_when_it_begins_and_with_its_first_estimate() -> None:
    out = io.StringIO()
    progress = Plain(out)
    progress.start("train sft", 2)
    progress.part("train sft", 0.0)
    assert out.getvalue().splitlines()[-1] == "train sft: the first step is under way"
    # A quarter of the first of two steps took 10 s: seven more quarters are to come.
    state = progress.stages["train sft"]
    state.started = state.begun = time.monotonic() - 10.0
    progress.part("train sft", 0.25)
    assert out.getvalue().splitlines()[-1] == (
        "train sft: 0 of 2 steps, 25 % of the next, 10 s so far, 1 min 10 s left"
    )
    told = out.getvalue()
    progress.part("train sft", 0.5)
    assert out.getvalue() == told


def test_the_time_left_counts_the_part_of_a_step_that_is_done() -> None:
    state = StageState("train sft", 4, done=0, started=0.0, begun=0.0, share=0.5)
    assert state.eta_s(10.0) == pytest.approx(70.0)
    assert state.eta_s(1.0) is None
    ended(state, 20.0)
    assert state.eta_s(20.0) == pytest.approx(60.0)
    # The first step warmed up; one and a half more took 15 s, and one and a half are left.
    ended(state, 30.0)
    state.share = 0.5
    assert (state.rate(35.0), state.eta_s(35.0)) == pytest.approx((0.1, 15.0))
    # Four steps of 20 s after a slow one of 100: the window of a minute holds no four, so it reaches back.
    state = StageState("train sft", 10, done=0, started=0.0, begun=0.0)
    ended(state, 100.0, 120.0, 140.0, 160.0, 180.0)
    assert state.eta_s(180.0) == pytest.approx(100.0)
