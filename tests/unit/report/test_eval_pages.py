"""Pages of evals, read back: what is counted, in what order, what is cut, and that all of it is escaped."""

import base64
import hashlib
import math
import re
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

from constitute.cli.main import cli
from constitute.config import RunConfig
from constitute.config.evals import EvalsConfig
from constitute.errors import UsageError
from constitute.evals.compare import compare_parts, compare_sets, pairs_of
from constitute.evals.families.base import ItemScore
from constitute.evals.items import dump_items, items_hash, keep_items
from constitute.evals.judgements import GateRecord, Judge, JudgeFigures
from constitute.evals.policies import find_policies
from constitute.evals.run import SetResult, save_result
from constitute.report.evals.comparison import comparison_page, render_comparison
from constitute.report.evals.series import steps_of
from constitute.report.evals.sets import MOST_BYTES, gate_facts, render_set, set_page, spread, write_set_page
from constitute.report.evals.written import write_pages
from constitute.stats import mean_of, share_of
from constitute.types import EvalItem

CFG = EvalsConfig(resamples=200)
PAYLOAD = "<script>alert(1)</script>\"'&"


class Tags(HTMLParser):
    """Names of a page's elements, and its attributes."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def items_of(count, word="", kinds=("target", "control")):
    return [
        EvalItem(
            id=f"{at:05d}",
            question=f"question {at} {word}",
            options=(" Yes", " No"),
            matching=(at % 2,),
            behavior=f"behaves {word}",
            label_confidence=0.95 if at % 4 else 0.8,
            groups=(("kind", kinds[at % len(kinds)]),) if kinds else (),
        )
        for at in range(count)
    ]


def result_of(run, policy, items, ps, name="s"):
    """A result whose P(matching) of item i is ps[i]; None leaves the item without a score."""
    scores = tuple(
        ItemScore(
            id=item.id,
            labels=item.options,
            logprobs=tuple(math.log(p if at in item.matching else 1 - p) for at in (0, 1)),
            p_matching=p,
            matching=p > 0.5,
            mass=1.0,
            groups=item.groups,
        )
        for item, p in zip(items, ps, strict=True)
        if p is not None
    )
    missing = len(items) - len(scores)
    result = SetResult(
        set=name,
        policy=policy,
        model={"name": policy},
        items_hash=items_hash(items),
        failed=0,
        scores=scores,
        share=share_of(sum(score.matching for score in scores), len(scores)),
        p_matching=mean_of([score.p_matching for score in scores]),
        mass=1.0,
        unparsed={"tie": missing} if missing else {},
    )
    save_result(run, result)
    keep_items(run, items)
    return result


def compared_page(run, *given, steps=()):
    policies = find_policies([RunConfig(run=run)], given)
    pairs = pairs_of(policies)
    return comparison_page(policies, [*compare_sets(pairs, CFG), *compare_parts(pairs, CFG)], (), steps)


def test_items_that_moved_come_first_with_both_answers(tmp_path):
    items = items_of(6)
    result_of(tmp_path, "base", items, [0.9, 0.6, 0.5001, 0.2, 0.3, None])
    result_of(tmp_path, "ppo", items, [0.9, 0.1, 0.4, 0.9, 0.25, 0.4])
    page = compared_page(tmp_path, "base", "ppo")
    (changed,) = page.changed
    # Item 0 did not move, and base has no score for item 5.
    assert [(item.id, round(move, 3)) for item, move in changed.items] == [
        *(("00003", 0.7), ("00001", -0.5), ("00002", -0.1), ("00004", -0.05))
    ]
    assert (changed.moved, changed.answers, changed.n) == (4, 3, 5)
    item = changed.items[0][0]
    assert [(option.text, option.matching) for option in item.options] == [("Yes", False), ("No", True)]
    assert [option.ps for option in item.options] == [pytest.approx((0.8, 0.1)), pytest.approx((0.2, 0.9))]
    assert [score.answer for score in item.scores] == ["Yes", "No"]
    text = render_comparison(page)
    assert "The answer differs on 3 of 5 items, P(matching) on 4; the 4 that moved most are below." in text
    assert "base answers Yes, ppo No." in text and "<b>+0.700</b>" in text and "<b>−0.500</b>" in text
    order = [text.index(f'<span class="q">question {at}') for at in (3, 1, 2, 4)]
    assert order == sorted(order)
    # The whole set stands before its parts.
    assert [one.part for one in page.compared] == ["", "kind: control", "kind: target"]
    assert text.count('<tr class="part">') == 2


def test_items_that_were_not_kept_are_said(tmp_path):
    items = items_of(4)
    for policy, ps in (("base", [0.9] * 4), ("ppo", [0.2, 0.3, 0.9, 0.9])):
        result_of(tmp_path, policy, items, ps)
    for path in (tmp_path / "evals" / "items").glob("*"):
        path.unlink()
    (changed,) = (page := compared_page(tmp_path, "base", "ppo")).changed
    assert (changed.items, changed.moved) == ((), 2)
    assert "the items were not kept beside these results; score them again" in render_comparison(page)


def test_steps_are_drawn_where_they_are_with_their_intervals(tmp_path):
    items = items_of(10)
    for policy, right in (("base", 2), ("ppo-step-10", 9), ("ppo-step-5", 5)):
        result_of(tmp_path, policy, items, [0.9] * right + [0.1] * (10 - right))
    (drawn,) = compared_page(tmp_path, "base", "ppo-step-*").drawn
    base, ppo = drawn.traces
    assert (base.name, [(mark.x, mark.y) for mark in base.marks]) == ("base (compared with)", [(0, 0.2)])
    assert (ppo.name, ppo.line) == ("ppo", ((5, 0.5), (10, 0.9)))
    low, high = share_of(5, 10).low, share_of(5, 10).high
    assert ppo.marks[0].model_dump(exclude={"label"}) == {"x": 5, "y": 0.5, "low": low, "high": high}
    assert drawn.models == ()
    text = render_comparison(compared_page(tmp_path, "base", "ppo-step-*"))
    assert "s, over steps" in text and "s, over policies" not in text and text.count('class="chart"') == 1
    # Steps may be given, for policies of any name; else they are models.
    (given,) = compared_page(tmp_path, "base", "ppo-step-10", steps=(40,)).drawn
    assert [(mark.x, mark.y) for mark in given.traces[1].marks] == [(40, 0.9)]
    policies = find_policies([RunConfig(run=tmp_path)], ["base", "ppo-step-5"])
    with pytest.raises(
        UsageError, match=r"--steps has 2 numbers, and after the first there are 1 \(ppo-step-5\)"
    ):
        steps_of(policies, (1, 2))


def test_models_are_drawn_in_their_order(tmp_path):
    items = items_of(10)
    for policy, right in (("b", 2), ("a", 9)):
        result_of(tmp_path, policy, items, [0.9] * right + [0.1] * (10 - right))
    page = compared_page(tmp_path, "b", "a")
    assert [(mark.label, mark.y) for mark in page.drawn[0].models] == [("b", 0.2), ("a", 0.9)]
    low, high = share_of(9, 10).low, share_of(9, 10).high
    assert f"a: 0.900 ({low:.3f} to {high:.3f})" in render_comparison(page)


def test_a_page_of_a_set_counts_groups_and_sorts_items_into_filters(tmp_path):
    items = items_of(8)
    own = [
        result_of(tmp_path, "base", items, [0.9, 0.9, 0.1, 0.1, 0.9, 0.9, 0.1, None]),
        result_of(tmp_path, "ppo", items, [0.9] * 8),
    ]
    page = set_page("s", items, own)
    assert page.grouped_by == "kind" and page.shown == page.total == 8
    assert [(group.title, [item.id for item, _ in group.items]) for group in page.groups] == [
        ("target", ["00000", "00002", "00004", "00006"]),
        ("control", ["00001", "00003", "00005", "00007"]),
    ]
    choices = {one.title: {each.text: each.count for each in one.choices} for one in page.filters}
    assert choices == {
        "kind": {"target": 4, "control": 4},
        "matching answer": {"Yes": 4, "No": 4},
        "label confidence": {"0.9 or more": 6, "below 0.9": 2},
        "base": {"matches": 4, "does not match": 3, "no score": 1},
        "policies": {"all alike": 5, "differ": 3},
    }
    text = render_set(page)
    for one in page.filters:
        for choice in one.choices:
            assert len(re.findall(rf'<details class="item[^"]* {choice.slot}[ "]', text)) == choice.count
            assert f"main:has(#{choice.slot}:checked) .item:not(.{choice.slot}){{display:none}}" in text
    # Bars of two policies, of which base has no score once.
    assert (text.count('class="bar"'), text.count('class="bar miss"')) == (4 + 8, 3)
    assert text.count("<span>no score</span>") == 1
    assert "All 8 items, grouped by kind." in text


def test_the_only_style_that_applies_is_the_page_s_own(tmp_path):
    items = items_of(8)
    text = render_set(set_page("s", items, [result_of(tmp_path, "base", items, [0.9, 0.1] * 4)]))
    css = re.search(r"<style>(.*?)</style>", text, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'")
    assert not [name for name, _ in Tags(text).attributes if name == "style" or name.startswith("on")]


def test_texts_are_escaped_on_both_pages(tmp_path):
    plain, hostile = [], []
    for found, word, kinds in ((plain, "x", ("k", "l")), (hostile, PAYLOAD, (f"k{PAYLOAD}", f"l{PAYLOAD}"))):
        run = tmp_path / str(len(word))
        items = items_of(8, word, kinds)
        own = [
            result_of(run, policy, items, ps, name=f"s{word}".replace("/", "|"))
            for policy, ps in ((f"a{word}".replace("/", "|"), [0.9] * 8), ("b", [0.2] * 8))
        ]
        page = compared_page(run, own[0].policy, "b")
        found += [render_set(set_page(own[0].set, items, own)), render_comparison(page)]
    for one, other in zip(plain, hostile, strict=True):
        assert Tags(one).tags == Tags(other).tags
        assert "<script" not in other and "&lt;script&gt;" in other


def test_a_large_set_is_sampled_and_said(tmp_path):
    items = items_of(2_000, "<&" * 700, kinds=())
    own = result_of(tmp_path, "base", items, [0.9, 0.1] * 1000)
    path = write_set_page("s", items, [own], None, tmp_path / "s.html")
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) <= MOST_BYTES
    shown = text.count('<details class="item')
    assert f"{shown} of 2000 items, spread evenly over the set" in text and 100 < shown <= 500
    assert [item.id for item in spread(items, 4)] == ["00000", "00500", "01000", "01500"]


def test_sets_without_groups_are_grouped_by_topic():
    words = ["the coach wants football practice", "the cook bakes bread and soup"]
    items = [
        item.model_copy(update={"statement": f"{words[at % 2]} {at}"})
        for at, item in enumerate(items_of(24, kinds=()))
    ]
    page = set_page("s", items, [])
    assert page.grouped_by == "topic" and sum(len(group.items) for group in page.groups) == 24
    about = [(group.title, item.summary) for group in page.groups for item, _ in group.items]
    assert all("football" in summary for title, summary in about if "football" in title)
    assert any("football" in title for title, _ in about)
    assert page.notes == ("No policy has been scored on these items: `constitute evals run` does it.",)


def test_pages_of_a_run_are_of_all_its_sets_as_they_were_scored(tmp_path):
    items = items_of(8)
    result_of(tmp_path, "base", items, [0.9, 0.1] * 4)
    result_of(tmp_path, "sft", items[:6], [0.9, 0.1] * 3)
    result_of(tmp_path, "ppo", items, [0.9] * 8)
    (path,) = write_pages(tmp_path)
    text = path.read_text(encoding="utf-8")
    assert path == tmp_path / "evals" / "pages" / "s.html" and "All 8 items" in text
    other = items_hash(items[:6])
    assert f"sft was scored on other items of this set ({other}), so it is not shown" in text
    file = tmp_path / "mine.jsonl"
    file.write_text(dump_items(items_of(3)))
    assert [one.name for one in write_pages(tmp_path, [str(file), "s"], tmp_path / "out")] == [
        *("mine.html", "s.html")
    ]
    # The name in a result never leads out of the folder.
    stray = result_of(tmp_path / "other", "base", items, [0.9] * 8)
    save_result(tmp_path / "other", stray.model_copy(update={"policy": "b"}))
    for path in (tmp_path / "other" / "evals" / "results").glob("*.json"):
        path.write_text(path.read_text().replace('"set": "s"', '"set": "../../s"'))
    assert write_pages(tmp_path / "other", [], tmp_path / "out") == [tmp_path / "out" / "s.html"]
    with pytest.raises(UsageError, match=r"'t' is no file and no set of .* whose items are kept; known: s;"):
        write_pages(tmp_path, ["t"])
    with pytest.raises(UsageError, match=r"no eval sets in .*/none/evals; write some"):
        write_pages(tmp_path / "none")


def test_a_gate_is_told_judge_by_judge():
    agreement, other = share_of(9, 10), share_of(7, 10)
    judge = Judge(name="big", model={}, prompt="own", templates={"t": "1"}, same=False, same_model=False)
    figures = JudgeFigures(
        judge=judge, counts={"ok": 11}, reasons={"label mass below 0.1": 1}, orders_disagree=2,
        agreement=agreement, kappa=other, relevant=agreement, spearman=other,
    )  # fmt: skip
    gate = GateRecord(
        items_hash="0", candidates=12, kept=8, dropped={"judge unclear": 3, "label not confirmed": 1, "x": 0},
        judges=(figures,), alpha=other,
    )  # fmt: skip
    assert list(gate_facts(gate)) == [
        ("items judged", "12, of which 8 were kept"),
        ("dropped", "3 judge unclear, 1 label not confirmed"),
        ("judge", "big"),
        ("labels confirmed", agreement.text()),
        ("kappa", other.text()),
        ("about the behaviour", agreement.text()),
        ("unclear", "3"),
        ("alpha with the written labels", other.text()),
    ]
    assert list(gate_facts(None)) == []


def test_the_commands_write_pages(tmp_path):
    items = items_of(8)
    for policy, ps in (("base", [0.9] * 8), ("ppo", [0.1] * 8)):
        result_of(tmp_path, policy, items, ps)
    run = ["--run", str(tmp_path)]
    shown = CliRunner().invoke(cli, ["evals", "page", "s", *run])
    assert shown.stdout == f"{tmp_path}/evals/pages/s.html\n"
    out = tmp_path / "c.html"
    done = CliRunner().invoke(
        cli, ["evals", "compare", "base", "ppo", *run, "--out", str(out), "--steps", "7"]
    )
    assert done.exit_code == 0, done.output
    text = out.read_text(encoding="utf-8")
    assert '<li class="moved">s: ppo matches less often: -1.000 (' in text
    assert "s, over steps" in text
    wrong = CliRunner().invoke(cli, ["evals", "compare", "base", "ppo", *run, "--steps", "7,x"])
    assert wrong.exit_code == 2 and "'7,x' is not whole numbers with commas between them" in wrong.output
