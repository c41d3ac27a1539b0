"""The report's figures, worked out by hand from small runs, and its texts cleaned and compared."""

import json

import pytest
from report_runs import make_run

from constitute.errors import DataError, UsageError
from constitute.report.build import build, figure
from constitute.report.charts import curve, histogram, nice_ticks
from constitute.report.read import read_run
from constitute.report.render import show_figure, show_interval, write_report
from constitute.report.rows import spaced
from constitute.report.scores import training_of
from constitute.report.text import clip, share_changed
from constitute.report.view import Figure
from constitute.stats import wilson
from constitute.store import Store
from constitute.text import harmless


@pytest.fixture
def view(tmp_path):
    run = make_run(tmp_path / "run")
    with Store.open(run, readonly=True) as store:
        return build(store, read_run(run), rows=9)


def test_rows_by_stage_add_up(view):
    counts = {stage.name: (stage.ok, stage.abstain, stage.failed, stage.total) for stage in view.stages}
    assert counts == {"generate": (9, 0, 3, 12), "revise": (9, 0, 0, 9), "label": (6, 3, 0, 9)}
    generate = view.stages[0]
    # Cut at 3, 7 and 11 tokens: one kind of reason.
    assert [(r.status, r.text, r.count) for r in generate.reasons] == [
        ("failed", "response was cut at # tokens", 3)
    ]


def test_principles_by_hand(view):
    by_id = {one.id: one for one in view.principles}
    # Rows 0, 2, 4, 6, 8, 10 are kind; 1, 5, 9 brief (3, 7, 11 failed).
    assert {name: one.drawn for name, one in by_id.items()} == {"kind": 6, "brief": 3}
    # "a b c d" to "a b d e": 3 of 4 words in common in order, so 1 - 2 * 3 / 8.
    assert by_id["kind"].changed.value == pytest.approx(0.25)
    # Labels of rows 2, 5, 8 abstained: kind has 0, 4, 6, 10 and brief 1, 9.
    assert (by_id["kind"].votes, by_id["brief"].votes) == (4, 2)
    # Kind votes 0.2 and 0.4: P(A) 0.3; brief votes 0.2 and 0.6: P(A) 0.4, and its orders disagree.
    assert by_id["kind"].margin.value == pytest.approx(0.4)
    assert by_id["brief"].prefers_revision.value == pytest.approx(0.6)
    assert (by_id["kind"].flips.value, by_id["brief"].flips.value) == (0.0, 1.0)
    assert (by_id["brief"].flips.low, by_id["brief"].flips.high) == wilson(2, 2)


def test_label_card_by_hand(view):
    card = view.labels
    assert (card.pairs, card.abstained, card.failed) == (6, 3, 0)
    assert card.flips.value == pytest.approx(2 / 6)
    # P(first shown): kind (0.2 + 0.6) / 2, brief (0.2 + 0.4) / 2.
    assert card.first_shown.value == pytest.approx((4 * 0.4 + 2 * 0.3) / 6)
    assert card.mass.value == pytest.approx(0.85)
    assert [bar.count for bar in card.histogram.bars if bar.count] == [4, 2]


def test_chains_hold_diff_and_both_orders(view):
    assert (len(view.chains), view.chains_of) == (9, 9)
    first = view.chains[0]
    assert (first.id, first.response) == ("p0/0", "a b c d")
    assert [(span.kind, span.text) for span in first.steps[0].diff] == [
        ("kept", "a b "),
        ("gone", "c d"),
        ("new", "d e"),
    ]
    assert [(vote.p_ab, vote.p_ba, vote.mass) for vote in first.pairs[0].votes] == [(0.2, 0.4, 0.8)]
    unlabelled = [chain.unlabelled for chain in view.chains if chain.unlabelled]
    assert unlabelled[0][0].value == "abstain: label mass 0.01"


def test_policies_headline_evals_and_training(view):
    assert view.policies.policies == ("base", "ppo")
    assert [(row.name, [f.value for f in row.figures]) for row in view.policies.rows] == [
        ("harmful", [0.9, 0.1])
    ]
    assert [(one.name, one.figure.value) for one in view.headline] == [
        ("KL from the reference, nats a response", 2.5)
    ]
    (flatters,) = view.evals
    assert [(row.policy, row.share.value, row.unparsed) for row in flatters.rows] == [
        ("base", 0.8, 4),
        ("ppo", 0.2, 4),
    ]
    states = {one.name: (one.state, [c.title for c in one.curves]) for one in view.training}
    assert states == {"sft": ("not run", []), "reward": ("not run", []), "ppo": ("", ["reward", "kl"])}
    assert (view.training[2].curves[0].first, view.training[2].curves[0].last) == (0.5, 2.0)


def test_facts_come_from_the_manifest(view):
    facts = {fact.name: fact.value for fact in view.facts}
    assert facts["constitution hash"] == "abc123"
    assert facts["answered by"] == "vllm · pocket (generate)"
    assert facts["seed"] == "3"
    assert facts["versions"] == "torch 2.13.0"
    assert "nowhere.yaml can no longer be read" in view.principles_note


def test_a_bare_run_says_what_is_missing(tmp_path):
    Store.open(tmp_path / "run").close()
    page = write_report(tmp_path / "run").read_text()
    for sentence in ("does not say what made it", "No stage has run.", "No rows to show."):
        assert sentence in page
    assert page.count("Not run.") == 5


def test_broken_files_are_named(tmp_path):
    with pytest.raises(UsageError, match="no run in"):
        write_report(tmp_path / "nothing")
    run = make_run(tmp_path / "run", 2)
    (run / "ppo" / "metrics.jsonl").write_text('{"iteration": 1}\n{"iter\n{"iteration": 3}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: not JSON"):
        write_report(run)
    # The line being written just now is no error.
    (run / "ppo" / "metrics.jsonl").write_text('{"iteration": 1}\n{"iter')
    write_report(run)
    (run / "summary.json").write_text("[")
    with pytest.raises(DataError, match=r"summary\.json is not JSON"):
        write_report(run)


def test_long_runs_make_short_reports(tmp_path):
    run = make_run(tmp_path / "run", 2000, word=lambda text: text + " " + "lorem ipsum dolor " * 40)
    page = write_report(run).read_text(encoding="utf-8")
    assert len(page.encode()) < 3_000_000
    assert "24 of 1500 rows, evenly spaced over the run" in page


def test_text_is_cleaned_and_clipped():
    assert harmless("\x1b[31mred\x1b[0m \x1b]0;title\x07bell\x07 a\tb\r\nc\x00\x9b") == "red bell a\tb\nc"
    assert harmless("abc\u202egnp.exe\u2066 \ud800x") == "abcgnp.exe ?x"
    assert clip("x" * 12, 10) == "x" * 10 + "… (2 more characters)"
    assert harmless("family 👨\u200d👩\u200d👧") == "family 👨\u200d👩\u200d👧"


def test_share_changed_by_hand():
    assert share_changed("a b c d", "a b c d") == 0.0
    assert share_changed("a b", "c d") == 1.0
    assert share_changed("a b c d", "a b") == pytest.approx(1 - 2 * 2 / 6)


def test_ticks_are_round_and_enclose():
    assert nice_ticks(0.03, 0.97) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert nice_ticks(-1, 7) == [-2, 0, 2, 4, 6, 8]
    assert nice_ticks(5, 5)[0] <= 5 <= nice_ticks(5, 5)[-1]


def test_curves_and_histograms_keep_to_their_box():
    drawn = curve("loss", list(range(1000)), [i % 7 for i in range(1000)], "step")
    points = [tuple(map(float, pair.split(","))) for pair in drawn.points.split()]
    assert len(points) <= 401
    assert points[0][0] == 46.0
    assert points[-1][0] == 312.0
    assert all(8 <= y <= 128 for _, y in points)
    bars = histogram([0.0, 0.04, 0.05, 1.0]).bars
    assert [(i, bar.count) for i, bar in enumerate(bars) if bar.count] == [(0, 2), (1, 1), (19, 1)]
    # The fullest bar takes the whole height, one of half its count half.
    assert [bar.height for bar in bars if bar.count] == [120, 60, 60]


def test_spaced_rows_reach_both_ends():
    assert spaced(3, 5) == [0, 1, 2]
    assert spaced(100, 4) == [0, 33, 66, 99]
    assert spaced(9, 0) == []
    assert spaced(9, 1) == [0]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0.5, Figure(value=0.5)),
        ({"value": 0.5, "n": 4, "low": 0.1, "high": 0.9}, Figure(value=0.5, n=4, low=0.1, high=0.9)),
        ({"value": 1, "n": None}, Figure(value=1.0)),
        ({"n": 3}, None),
        (float("nan"), None),
        (True, None),
        ("0.5", None),
    ],
)
def test_figures_are_read_or_left_out(given, expected):
    assert figure(given) == expected


def test_figures_are_shown_with_interval_and_n():
    assert show_figure(Figure(value=0.1234)) == "12.3 %"
    assert show_interval(Figure(value=0.1, low=0.05, high=0.2, n=1200)) == "5.0 to 20.0, n = 1\u202f200"
    assert show_figure(Figure(value=-1.23456, percent=False)) == "-1.235"
    assert show_interval(Figure(value=0.1)) == ""


def test_a_trainer_without_usable_lines_says_so():
    views = {view.name: view.state for view in training_of({"sft": [], "reward": [{"accuracy": None}]})}
    assert views == {"sft": "no figures written yet", "reward": "no figures written yet", "ppo": "not run"}


def test_metrics_survive_a_json_round_trip(tmp_path):
    run = make_run(tmp_path / "run", 2)
    files = read_run(run)
    assert [line["iteration"] for line in files.metrics["ppo"]] == [1, 2, 3, 4]
    assert json.loads((run / "summary.json").read_text()) == files.summary
