"""The report's figures, worked out by hand from small runs, and its texts cleaned and compared."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from report_runs import make_run

from constitute.errors import DataError, UsageError
from constitute.report.build import build, write_report
from constitute.report.page import clip
from constitute.report.read import Training, read_run
from constitute.report.rows import share_changed, spaced
from constitute.report.training import curves_of, figure_of, trained
from constitute.stats import Estimate, share_of
from constitute.store import Store
from constitute.types import Outcome


@pytest.fixture
def view(tmp_path):
    run = make_run(tmp_path / "run")
    with Store.open(run, readonly=True) as store:
        return build(store, read_run(run), rows=9)


def test_rows_by_stage_add_up(view):
    counts = {
        one.counts.stage: (one.counts.ok, one.counts.abstain, one.counts.failed, one.counts.total)
        for one in view.stages
    }
    assert counts == {"generate": (9, 0, 3, 12), "revise": (9, 0, 0, 9), "label": (6, 3, 0, 9)}
    # Cut at 3, 7 and 11 tokens: one kind of reason, shown as status does, by an example.
    assert view.stages[0].reasons == (("failed", "response was cut at 11 tokens", 3),)


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
    # P(A) is 0.3 four times and 0.4 twice, in twentieths.
    assert {at: count for at, count in enumerate(labels.histogram) if count} == {6: 4, 8: 2}


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
    assert view.policies.names == ("base", "ppo")
    (harmful,) = view.policies.axes
    assert (harmful.name, [figure.value for figure in harmful.figures]) == ("harmful", [0.9, 0.1])
    assert view.headline == [("KL from the reference, nats a response", 2.5, False)]
    assert [(row.policy, row.share.value, row.n_unparsed) for row, _ in view.evals["flatters"]] == [
        ("base", 0.8, 4),
        ("ppo", 0.2, 4),
    ]
    (ppo,) = view.training
    assert (ppo.title, ppo.figures) == ("Train: PPO", ())
    assert [curve.title for curve in ppo.curves] == ["reward", "KL from the reference, nats a response"]
    assert ppo.curves[0].ends == (0.5, 2.0)


def test_what_ppo_earned_on_held_out_prompts_is_shown():
    figure = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 40}
    parts = {name: {"start": figure, "best": figure, "end": figure} for name in ("sum", "gold")}
    lines = [{"iteration": k, "held_out/reward": k / 2, "held_out/reward/gold": -k / 2} for k in (1, 2)]
    summary = {"held_out": {"parts": parts | {"x": 3}}}
    ppo = trained(Training(name="ppo", kind="ppo", summary=summary, metrics=lines))
    assert [(curve.title, curve.ends) for curve in ppo.curves] == [
        ("reward on held-out prompts", (0.5, 1.0)), ("gold on held-out prompts", (-0.5, -1.0)),
    ]  # fmt: skip
    assert [name for name, _ in ppo.figures] == [
        f"{name} on held-out prompts, {when}"
        for name in ("reward", "gold")
        for when in ("start", "best", "end")
    ]
    assert ppo.figures[0][1].high == 0.75


def test_a_reply_that_loops_is_shown_as_replaced_whole(tmp_path):
    before, after = "a " * 2000, "a b " * 1000
    run = make_run(tmp_path / "run", 1, word=lambda t: {"a b c d": before, "a b d e": after}.get(t, t))
    page = write_report(run).read_text(encoding="utf-8")
    assert f"<del>{before}</del><ins>{after}</ins>" in page


def test_every_trainer_that_ran_is_shown(tmp_path):
    run = make_run(tmp_path / "run", 2)
    accuracy = {"value": 0.75, "low": 0.5, "high": 0.9, "n": 40}
    record = {"made_by": {"kind": "dpo"}, "summary": {"held_out": {"accuracy": accuracy, "by_length": {}}}}
    for name, kept in {
        "dpo": record,
        "dpo-2": record,
        "best-of-n/sft": {"made_by": {"kind": "best-of-n"}},
    }.items():
        (run / name).mkdir(parents=True)
        (run / name / "training.json").write_text(json.dumps(kept))
    best = {"summary": {"reward": {"best of 4": accuracy | {"value": 1.5}}}, "made_by": {"kind": "best-of-n"}}
    (run / "best-of-n" / "best_of_n.json").write_text(json.dumps(best))
    lines = [json.dumps({"step": step, "loss": 0.7 - step / 10}) for step in (1, 2)]
    (run / "dpo" / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    with Store.open(run, readonly=True) as store:
        shown = build(store, read_run(run)).training
    assert [one.title for one in shown] == [
        "Train: DPO",
        "Best of n",
        "Train: SFT on the best of n",
        "Train: PPO",
        "Train: DPO (dpo-2)",
    ]
    assert shown[0].figures == (("accuracy", Estimate.model_validate(accuracy)),)
    assert [curve.title for curve in shown[0].curves] == ["loss"]
    assert [(name, figure.value) for name, figure in shown[1].figures] == [("best of 4", 1.5)]
    page = write_report(run).read_text()
    assert "best of 4" in page and "0.5 to 0.9, n = 40" in page


def test_facts_come_from_the_manifest(view):
    facts = dict(view.facts)
    assert facts["constitution hash"] == "abc123"
    assert facts["answered by"] == "vllm · pocket (generate)"
    assert facts["seed"] == "3"
    assert facts["versions"] == "torch 2.13.0"
    assert facts["model"] == "pocket"
    assert "nowhere.yaml can no longer be read" in view.principles_note


def test_last_written_is_when_a_file_was(tmp_path):
    run = make_run(tmp_path / "run", 2)
    for path in run.rglob("*"):
        os.utime(path, (0, 0))
    # 2021-01-02 03:04:05 UTC, in the metrics; the report is none of the run's own figures.
    os.utime(run / "ppo" / "metrics.jsonl", (0, 1609556645))
    (run / "report.html").write_text("")
    with Store.open(run, readonly=True) as store:
        assert dict(build(store, read_run(run)).facts)["last written"] == "2021-01-02 03:04 UTC"


def test_what_ppo_was_warned_of_and_a_value_that_never_moves_are_said(tmp_path):
    run = make_run(tmp_path / "run", 2)
    lines = [json.dumps({"iteration": i, "reward": i, "eos_rate": 1.0}) for i in range(1, 4)]
    (run / "ppo" / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    finding = {"kind": "length", "severity": "warning", "sentence": "responses <grow>", "remedy": "stop"}
    (run / "ppo" / "findings.jsonl").write_text(json.dumps({"iteration": 2, "finding": finding}) + "\n")
    page = write_report(run).read_text()
    assert "Train: PPO: responses &lt;grow&gt;." in page
    assert "<b>share of responses that end</b>: 1 throughout, 3 points." in page
    assert page.count('class="chart"') == 3  # the policies, the soft labels and the reward


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


def test_a_trainer_without_usable_lines_says_so():
    for lines in ([], [{"accuracy": None}], [{"accuracy": 0.5}]):
        one = Training(name="reward", kind="reward", summary={}, metrics=lines)
        assert curves_of(one) == [] and trained(one).counts == ()


def test_counts_of_a_summary_are_words():
    summary = {"rows": 1600, "rows_too_long": 0, "rows_mixed": 1, "steps": 1, "seconds": {"total": 65.8}}
    one = trained(Training(name="sft", kind="sft", summary=summary, metrics=[]))
    assert one.counts == ("1,600 rows", "1 step", "1 row mixed", "66 s")


def test_metrics_survive_a_json_round_trip(tmp_path):
    run = make_run(tmp_path / "run", 2)
    files = read_run(run)
    assert [line["iteration"] for line in files.training[0].metrics] == [1, 2, 3, 4]
    assert json.loads((run / "summary.json").read_text()) == files.summary
