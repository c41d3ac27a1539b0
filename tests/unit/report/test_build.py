"""The report's figures, worked out by hand from small runs, and its texts cleaned and compared."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from report_runs import make_run

from constitute.errors import DataError, UsageError
from constitute.report.build import build, show_figure, show_interval, write_report
from constitute.report.charts import curve, histogram, nice_ticks
from constitute.report.page import clip
from constitute.report.read import Training, read_run
from constitute.report.rows import share_changed, spaced
from constitute.report.training import curves_of, figure_of
from constitute.stats import Estimate, share_of
from constitute.store import Store
from constitute.types import Outcome


@pytest.fixture
def view(tmp_path):
    run = make_run(tmp_path / "run")
    with Store.open(run, readonly=True) as store:
        return build(store, read_run(run), rows=9)


def test_rows_by_stage_add_up(view):
    counts = {stage.stage: (stage.ok, stage.abstain, stage.failed, stage.total) for stage, _ in view.stages}
    assert counts == {"generate": (9, 0, 3, 12), "revise": (9, 0, 0, 9), "label": (6, 3, 0, 9)}
    _, reasons = view.stages[0]
    # Cut at 3, 7 and 11 tokens: one kind of reason, shown as status does, by an example.
    assert reasons == [("failed", "response was cut at 11 tokens", 3)]


def test_principles_by_hand(view):
    by_id = {one.id: one for one in view.principles}
    # Rows 0, 2, 4, 6, 8, 10 are kind; 1, 5, 9 brief (3, 7, 11 failed).
    assert {name: one.drawn for name, one in by_id.items()} == {"kind": 6, "brief": 3}
    # "a b c d" to "a b d e": 3 of 4 words in common in order, so 1 - 2 * 3 / 8.
    kind, brief = by_id["kind"].figures, by_id["brief"].figures
    assert kind[0].value == pytest.approx(0.25)
    # Labels of rows 2, 5, 8 abstained: kind has 0, 4, 6, 10 and brief 1, 9.
    assert (kind[1].n, brief[1].n) == (4, 2)
    # Kind votes 0.2 and 0.4: P(A) 0.3; brief votes 0.2 and 0.6: P(A) 0.4, and its orders disagree.
    assert kind[1].value == pytest.approx(0.4)
    assert brief[3].value == pytest.approx(0.6)
    assert (kind[2], brief[2]) == (share_of(0, 4), share_of(2, 2))


def test_label_card_by_hand(view):
    labels = view.labels
    assert (labels.card.pairs, labels.card.abstained, labels.card.failed) == (6, 3, 0)
    assert labels.flips == share_of(2, 6)
    assert labels.undecided == share_of(2, 6)
    # P(first shown): kind (0.2 + 0.6) / 2, brief (0.2 + 0.4) / 2.
    assert labels.first_shown.value == pytest.approx((4 * 0.4 + 2 * 0.3) / 6)
    assert labels.mass.value == pytest.approx(0.85)
    assert [bar.count for bar in labels.histogram.bars if bar.count] == [4, 2]


def test_chains_hold_diff_and_both_orders(view):
    assert (len(view.chains), view.chains_of) == (9, 9)
    first = view.chains[0]
    assert (first.id, first.row.response) == ("p0/0", "a b c d")
    assert [(before, step.revision) for before, step in first.rounds] == [("a b c d", "a b d e")]
    assert [(vote.p_ab, vote.p_ba) for vote in first.pairs[0].label.votes] == [(0.2, 0.4)]
    unlabelled = [chain.unlabelled for chain in view.chains if chain.unlabelled]
    assert (unlabelled[0][0].status, unlabelled[0][0].reason) == ("abstain", "label mass 0.01")


def test_a_revision_shows_what_it_changed(tmp_path):
    page = write_report(make_run(tmp_path / "run", 1)).read_text(encoding="utf-8")
    assert "a b <del>c </del>d<ins> e</ins>" in page
    assert "abstain: label mass" not in page and "P(A) = 0.300" in page


def test_policies_headline_evals_and_training(view):
    assert {name: figures["harmful"].value for name, figures in view.policies.items()} == {
        "base": 0.9,
        "ppo": 0.1,
    }
    assert (view.axes, view.headline) == (
        ["harmful"],
        [("KL from the reference, nats a response", 2.5, False)],
    )
    assert [(row.policy, row.share.value, row.n_unparsed) for row in view.evals["flatters"]] == [
        ("base", 0.8, 4),
        ("ppo", 0.2, 4),
    ]
    ((ppo, figures, curves),) = view.training
    assert (ppo.name, figures, [curve.title for curve in curves]) == ("ppo", [], ["reward", "kl"])
    assert (curves[0].first, curves[0].last) == (0.5, 2.0)


def test_a_reply_that_loops_is_shown_as_replaced_whole(tmp_path):
    before, after = "a " * 2000, "a b " * 1000
    run = make_run(tmp_path / "run", 1, word=lambda t: {"a b c d": before, "a b d e": after}.get(t, t))
    page = write_report(run).read_text(encoding="utf-8")
    assert f"<del>{before}</del><ins>{after}</ins>" in page


def test_every_trainer_that_ran_is_shown(tmp_path):
    run = make_run(tmp_path / "run", 2)
    accuracy = {"value": 0.75, "low": 0.5, "high": 0.9, "n": 40}
    record = {"made_by": {"kind": "dpo"}, "summary": {"held_out": {"accuracy": accuracy, "by_length": {}}}}
    for name, kept in {"dpo": record, "dpo-2": record, "best-of-n/sft": {"made_by": {"kind": "sft"}}}.items():
        (run / name).mkdir(parents=True)
        (run / name / "training.json").write_text(json.dumps(kept))
    best = {"summary": {"reward": {"best of 4": accuracy | {"value": 1.5}}}, "made_by": {"kind": "best-of-n"}}
    (run / "best-of-n" / "best_of_n.json").write_text(json.dumps(best))
    lines = [json.dumps({"step": step, "loss": 0.7 - step / 10}) for step in (1, 2)]
    (run / "dpo" / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    with Store.open(run, readonly=True) as store:
        shown = build(store, read_run(run)).training
    assert [(one.name, one.kind) for one, _, _ in shown] == [
        ("dpo", "dpo"),
        ("best-of-n", "best-of-n"),
        ("best-of-n/sft", "sft"),
        ("ppo", "ppo"),
        ("dpo-2", "dpo"),
    ]
    assert shown[0][1] == [("accuracy", Estimate.model_validate(accuracy))]
    assert [curve.title for curve in shown[0][2]] == ["loss"]
    assert [(name, figure.value) for name, figure in shown[1][1]] == [("best of 4", 1.5)]
    page = write_report(run).read_text()
    assert "best of 4" in page and "0.5 to 0.9, n = 40" in page


def test_facts_come_from_the_manifest(view):
    facts = dict(view.facts)
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
    assert page.count("Not run.") == 3


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
    with pytest.raises(DataError, match=r"summary\.json:1: not JSON"):
        write_report(run)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("manifest.json", '{"stages": [1]}', r"manifest\.json: stages is not what a manifest holds"),
        ("manifest.json", '{"stages": {"label": 3}}', r"manifest\.json: stages\.label is not what"),
        ("manifest.json", '{"versions": {"torch": 3}}', r"versions\.torch is not what a manifest holds"),
        ("manifest.json", '{"config": {"tags": 3.5}}', r"config\.tags is not what a manifest holds"),
        ("manifest.json", '{"constitution": {"hash": 3}}', r"constitution\.hash is not what a manifest"),
        ("manifest.json", "[]", r"manifest\.json holds no JSON object"),
        ("summary.json", "5", r"summary\.json holds no JSON object"),
        ("ppo/metrics.jsonl", "[]\n", r"metrics\.jsonl:1: a JSON list where an object is needed"),
        ("ppo/training.json", '"x"', r"training\.json holds no JSON object"),
        ("evals/results/0.json", '{"set": 3}', r"0\.json is not a result of `constitute evals run`"),
        ("evals/results/0.json", "[" * 100_000, r"0\.json: JSON that cannot be read"),
    ],
)
def test_a_tampered_file_is_one_sentence(tmp_path, name, text, sentence):
    run = make_run(tmp_path / "run", 2)
    (run / name).write_text(text)
    with pytest.raises(DataError, match=sentence):
        write_report(run)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("summary.json", '{"policies": {"base": 3, "ppo": {"x": []}}, "labels": 3, "ppo": {"kl": 1e999}}'),
        ("ppo/metrics.jsonl", '{"iteration": [], "reward": "x"}\n{"reward": 1' + "0" * 400 + "}\n"),
        ("ppo/training.json", '{"made_by": 3, "summary": [1]}'),
        ("manifest.json", '{"config": {"more": 3}, "stages": {"label": {"settings": [1]}}}'),
    ],
)
def test_values_that_mean_nothing_are_left_out(tmp_path, name, text):
    run = make_run(tmp_path / "run", 2)
    (run / name).write_text(text)
    assert "constitute report" in write_report(run).read_text()


def test_a_damaged_row_is_named(tmp_path):
    run = make_run(tmp_path / "run", 2)
    with Store.open(run) as store:
        store.put_outcome("label", Outcome(row_id="x", position=9, status="ok", data={"id": 3}))
    with pytest.raises(DataError, match="the stored row 'x' is damaged at"):
        write_report(run)


def test_six_reports_at_once_all_succeed(tmp_path):
    run = make_run(tmp_path / "run")
    with ThreadPoolExecutor(6) as pool:
        paths = list(pool.map(lambda _: write_report(run), range(6)))
    assert set(paths) == {run / "report.html"}
    assert sorted(path.name for path in run.iterdir() if "report" in path.name) == ["report.html"]
    assert "</html>" in (run / "report.html").read_text()


def test_long_runs_make_short_reports(tmp_path):
    run = make_run(tmp_path / "run", 2000, word=lambda text: text + " " + "lorem ipsum dolor " * 40)
    page = write_report(run).read_text(encoding="utf-8")
    assert len(page.encode()) < 3_000_000
    assert "24 of 1500 rows, evenly spaced over the run" in page


def test_text_is_cleaned_and_clipped():
    assert clip("\x1b[31mred\x1b[0m \x1b]0;title\x07bell\x07 a\tb\r\nc\x00\x9b") == "red bell a\tb\nc"
    assert clip("abc\u202egnp.exe\u2066 \u200bx\ufeff") == "abcgnp.exe x"
    assert clip("x" * 12, 10) == "x" * 10 + "… (2 more characters)"
    assert clip("family 👨\u200d👩\u200d👧") == "family 👨\u200d👩\u200d👧"


def test_share_changed_by_hand():
    assert share_changed("a b c d", "a b c d") == 0.0
    assert share_changed("a b", "c d") == 1.0
    assert share_changed("a b c d", "a b") == pytest.approx(1 - 2 * 2 / 6)
    assert share_changed("a " * 2000, "a b " * 1000) == pytest.approx(1 - 2 * 1000 / 4000)


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
        (0.5, 0.5),
        ({"value": 0.5, "n": 4, "low": 0.1, "high": 0.9}, Estimate(value=0.5, n=4, low=0.1, high=0.9)),
        ({"value": 0.5, "n": "many", "low": 0.1, "high": 0.9}, 0.5),
        ({"value": 1, "n": None}, 1.0),
        ({"n": 3}, None),
        (float("nan"), None),
        (True, None),
        ("0.5", None),
    ],
)
def test_figures_are_read_or_left_out(given, expected):
    assert figure_of(given) == expected


def test_figures_are_shown_with_interval_and_n():
    assert show_figure(0.1234) == "12.3 %"
    tenth = Estimate(value=0.1, low=0.05, high=0.2, n=1200)
    assert show_interval(tenth) == "5.0 to 20.0, n = 1\u202f200"
    assert show_figure(tenth, percent=False) == "0.1"
    assert show_figure(-1.23456, percent=False) == "-1.235"
    assert show_interval(0.1) == ""
    assert (show_figure(share_of(0, 0)), show_interval(share_of(0, 0))) == ("–", "n = 0")


def test_a_trainer_without_usable_lines_says_so():
    for lines in ([], [{"accuracy": None}], [{"accuracy": 0.5}]):
        assert curves_of(Training(name="reward", kind="reward", summary={}, metrics=lines)) == []


def test_metrics_survive_a_json_round_trip(tmp_path):
    run = make_run(tmp_path / "run", 2)
    files = read_run(run)
    assert [line["iteration"] for line in files.training[0].metrics] == [1, 2, 3, 4]
    assert json.loads((run / "summary.json").read_text()) == files.summary
