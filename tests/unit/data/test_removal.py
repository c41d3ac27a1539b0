"""What an export leaves out on request: the right rows, each counted and listed with its reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from constitute.cli.export import export as command
from constitute.config import ExportConfig, RunConfig, load_config
from constitute.data.export import export_run
from constitute.data.removal import read_exclusion
from constitute.errors import DataError, UsageError
from constitute.store import Store
from constitute.store.manifest import save_config
from constitute.types import (
    Comparison,
    CritiqueRevision,
    LabelledPair,
    Message,
    Outcome,
    PreferenceLabel,
    PrincipleVote,
    Prompt,
    Response,
)

MARGIN = "a margin below 0.2 (export.min_margin)"
FLIP = "most votes change with the order (export.drop_order_flips)"
LISTED = "listed in export.exclude"


def pair(name: str, p_a: float, *votes: tuple[float, float | None]) -> LabelledPair:
    prompt = Prompt(id=name.split("/")[0], messages=(Message(role="user", content="hi"),))
    return LabelledPair(
        id=name,
        comparison=Comparison(id=name, prompt=prompt, a="left", b="right"),
        label=PreferenceLabel(
            p_a=p_a,
            votes=tuple(
                PrincipleVote(principle_id=f"c{i}", weight=1, p_ab=ab, p_ba=ba, mass_ab=1, mass_ba=1)
                for i, (ab, ba) in enumerate(votes or ((p_a, p_a),))
            ),
        ),
    )


@pytest.fixture
def run(tmp_path) -> Path:
    pairs = [
        # 2 * 0.6 - 1 is 0.19999999999999996 in binary: it has the margin 0.2.
        pair("p0/0-1", 0.6),
        pair("p1/0-1", 0.41),
        pair("p2/0-1", 0.0),
        # One vote of two flips: no majority. Two of three do. A vote without an order says nothing of it.
        pair("p3/0-1", 0.9, (0.9, 0.4), (0.9, 0.9)),
        pair("p4/0-1", 0.9, (0.9, 0.4), (0.2, 0.9), (0.9, 0.9)),
        pair("p5/0-1", 0.9, (0.9, None)),
        pair("p5/0-2", 0.9, (0.9, 0.1), (0.9, None)),
    ]
    prompt = Prompt(id="p2", messages=(Message(role="user", content="hi"),))
    steps = tuple(CritiqueRevision(principle_id="c0", critique="no", revision=text) for text in "ab")
    with Store.open(tmp_path / "run") as store:
        for at, each in enumerate(pairs):
            store.put_outcome(
                "label", Outcome(row_id=each.id, position=at, status="ok", data=each.model_dump())
            )
        for at in range(2):
            row = Response(id=f"p2/{at}", prompt=prompt, sample=at, response="first", steps=steps)
            store.put_outcome(
                "revise", Outcome(row_id=row.id, position=at, status="ok", data=row.model_dump())
            )
    return tmp_path / "run"


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def removed(run: Path) -> list[tuple[str, str, str]]:
    lines = (run / "export" / "removed.jsonl").read_text().splitlines()
    return [tuple(json.loads(line).values()) for line in lines]


def test_thin_margins_and_order_flips_are_left_out_and_listed(run):
    (part,) = export_run(run, ExportConfig(), kinds=("preferences",))
    assert part.rows == 7 and not (run / "export" / "removed.jsonl").exists()
    config = ExportConfig(min_margin=0.2, drop_order_flips=True)
    (part,) = export_run(run, config, kinds=("preferences",))
    assert ids(part.path) == ["p0/0-1", "p2/0-1", "p3/0-1", "p5/0-1"]
    assert part.left_out == {MARGIN: 1, FLIP: 2}
    name = "preferences.jsonl"
    assert removed(run) == [(name, "p1/0-1", MARGIN), (name, "p4/0-1", FLIP), (name, "p5/0-2", FLIP)]
    card = (run / "export" / "README.md").read_text()
    assert f"- not exported, ok but {MARGIN}: 1" in card and f"- not exported, ok but {FLIP}: 2" in card
    # Labels say nothing of SFT rows that no label chose.
    (part,) = export_run(run, config, kinds=("sft",))
    assert part.rows == 2 and len(removed(run)) == 3, "the other set's list stays"
    export_run(run, ExportConfig(), kinds=("preferences",))
    assert not (run / "export" / "removed.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ids.txt", "p2\n\np5/0-1 \np2/1/r1\nnone\n"),
        ("ids.jsonl", '{"id": "p2"}\n{"row_id": "p5/0-1"}\n{"id": "p2/1/r1"}\n{"id": "none"}\n'),
    ],
)
def test_listed_rows_and_all_of_listed_prompts_are_left_out(run, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    config = ExportConfig(exclude=str(tmp_path / name))
    (part,) = export_run(run, config, kinds=("preferences",))
    assert ids(part.path) == ["p0/0-1", "p1/0-1", "p3/0-1", "p4/0-1", "p5/0-2"]
    assert part.left_out == {LISTED: 2} and part.unmet == ("none", "p2/1/r1")
    with pytest.raises(UsageError, match=r"left out: 2 listed in export\.exclude"):
        export_run(run, config, kinds=("sft",))


def test_one_revision_of_a_response_can_be_listed(run, tmp_path):
    (tmp_path / "ids.txt").write_text("p2/1/r1\n")
    config = ExportConfig(exclude=str(tmp_path / "ids.txt"), revisions="all")
    (part,) = export_run(run, config, kinds=("sft",))
    assert ids(part.path) == ["p2/0/r1", "p2/0/r2", "p2/1/r2"]
    assert part.left_out == {LISTED: 1} and part.unmet == ()
    assert removed(run) == [("sft.jsonl", "p2/1/r1", LISTED)]


def test_a_broken_list_is_one_sentence(tmp_path):
    (tmp_path / "ids.jsonl").write_text('{"id": "a"}\n{"name": "b"}\n')
    with pytest.raises(DataError, match=r"ids\.jsonl:2: no id; give each line an id"):
        read_exclusion(str(tmp_path / "ids.jsonl"))
    with pytest.raises(UsageError, match="no such file"):
        read_exclusion(str(tmp_path / "none.txt"))


def test_the_command_takes_the_options_and_says_what_was_left_out(run, tmp_path):
    (tmp_path / "bad.txt").write_text("p0\nnone\n")
    options = ["--min-margin", "0.2", "--drop-order-flips", "--exclude", str(tmp_path / "bad.txt")]
    done = CliRunner().invoke(command, ["--run", str(run), "--what", "preferences", *options])
    assert done.exit_code == 0, done.output
    assert f"left out: 1 {LISTED}; left out: 1 {MARGIN}; left out: 2 {FLIP}" in done.output
    assert "the exclude list names ids that no row of these sets has: 1, none" in done.output
    twice = CliRunner().invoke(command, ["--run", str(run), "--run", str(tmp_path)])
    assert twice.exit_code == 2 and "--run was given 2 times and takes one value" in twice.output


def test_a_run_keeps_the_list_under_its_full_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = save_config(tmp_path, RunConfig(run=tmp_path, export=ExportConfig(exclude="bad.txt")))
    assert load_config(path).export.exclude == str(tmp_path / "bad.txt")
