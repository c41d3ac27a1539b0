"""Training sets from a run: exact rows, fixed bytes, files that the trainers' library loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt
from registry_examples import add_module, example
from scripted import ScriptedEngine

from constitute.cli.export import export as command
from constitute.config import ExportConfig, RunConfig, load_config
from constitute.config.data import EXPORT_FORMATS, OverlapConfig
from constitute.config.engine import EngineConfig
from constitute.data.export import export_run
from constitute.data.formats import NotExportable, preference_row, sft_rows
from constitute.data.pairs import read_preferences
from constitute.data.sets import exported_file
from constitute.data.trl import HH
from constitute.engines.render import Renderer
from constitute.errors import DataError, UsageError
from constitute.pipeline import run_stages
from constitute.progress import Silent
from constitute.store import Store
from constitute.store.unfinished import Unfinished, begin, end
from constitute.train.common.data import read_conversations
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

SYSTEM = Message(role="system", content="Be brief.")
PROMPT = Prompt(id="p", messages=(SYSTEM, Message(role="user", content="Wie? 😀")))
TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Wie? 😀"}]


def response(name: str = "p/0", *revisions: str) -> Response:
    steps = tuple(
        CritiqueRevision(principle_id=f"c{i}", critique="no", revision=text)
        for i, text in enumerate(revisions)
    )
    return Response(id=name, prompt=PROMPT, sample=0, response="first", steps=steps)


def pair(p_a: float, name: str = "p", a: str = "left", b: str = "right") -> LabelledPair:
    comparison = Comparison(id=name, prompt=PROMPT, a=a, b=b, a_source="response", b_source="revision")
    vote = PrincipleVote(principle_id="c0", weight=1.0, p_ab=p_a, p_ba=p_a, mass_ab=1.0, mass_ba=1.0)
    return LabelledPair(id=name, comparison=comparison, label=PreferenceLabel(p_a=p_a, votes=(vote,)))


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_sft_rows():
    row = response("p/0", "second", "third")
    assert sft_rows(row, "last") == [
        {"id": "p/0", "messages": [*TURNS, said("third")], "principle_ids": ["c0", "c1"]}
    ]
    assert sft_rows(row, "all") == [
        {"id": "p/0/r1", "messages": [*TURNS, said("second")], "principle_ids": ["c0"]},
        {"id": "p/0/r2", "messages": [*TURNS, said("third")], "principle_ids": ["c1"]},
    ]
    assert sft_rows(row, "none") == [{"id": "p/0", "messages": [*TURNS, said("first")], "principle_ids": []}]
    with pytest.raises(NotExportable, match="no revision"):
        sft_rows(response(), "last")
    with pytest.raises(NotExportable, match="empty answer"):
        sft_rows(response("p/0", " "), "last")


def test_a_revision_that_announces_itself_is_left_out_and_counted(tmp_path):
    rows = [
        response("p/0", "Hello."),
        response("p/1", "Here is the revised reply:\n\nHello."),
        # The last revision is what is imitated.
        response("p/2", "Revised reply: Hello.", "Hello!"),
        # Its first response opens so as well: the prompt asked for a revised text.
        response("p/3", "Here is a better version:\nOne.").model_copy(
            update={"response": "Here is a new version:\nTwo."}
        ),
    ]
    with Store.open(tmp_path, create=True) as store:
        for at, row in enumerate(rows):
            store.put_outcome(
                "revise", Outcome(row_id=row.id, position=at, status="ok", data=row.model_dump())
            )
    reason = "a revision that announces itself (export.preambles=keep keeps it)"
    for settings, ids, left_out in (
        ({}, ["p/0", "p/2", "p/3"], {reason: 1}),
        ({"revisions": "all"}, ["p/0/r1", "p/3/r1"], {reason: 2}),
        ({"preambles": "keep"}, ["p/0", "p/1", "p/2", "p/3"], {}),
    ):
        (written,) = export_run(tmp_path, ExportConfig(**settings), kinds=["sft"])
        assert [json.loads(line)["id"] for line in written.path.read_text().splitlines()] == ids
        assert written.left_out == left_out
    export_run(tmp_path, ExportConfig(), kinds=["sft"])
    card = (tmp_path / "export" / "README.md").read_text()
    assert f"- not exported, ok but {reason}: 1" in card


@pytest.mark.parametrize(
    ("p_a", "chosen", "prob", "source"),
    [
        (0.7300000000000001, "left", 0.7300000000000001, "response"),
        (0.5, "left", 0.5, "response"),
        (0.25, "right", 0.75, "revision"),
        (1.0, "left", 1.0, "response"),
        (0.0, "right", 1.0, "revision"),
    ],
)
def test_preference_rows(p_a, chosen, prob, source):
    row = preference_row(pair(p_a))
    rejected = "right" if chosen == "left" else "left"
    assert row == {
        "id": "p",
        "prompt": TURNS,
        "chosen": [said(chosen)],
        "rejected": [said(rejected)],
        "chosen_prob": prob,
        "chosen_source": source,
        "rejected_source": "revision" if source == "response" else "response",
        "principle_ids": ["c0"],
    }


@pytest.mark.parametrize(
    ("source", "model", "shown"),
    [("chosen", "", "given as chosen"), ("chosen", "gpt-4", "gpt-4"), ("a", "", "given as a"), ("", "", "")],
)
def test_the_source_of_an_answer_of_ones_own_pairs_is_no_verdict(source, model, shown):
    """`chosen_source: rejected` would contradict itself where a label turns a file's preference round."""
    row = pair(0.9)
    own = row.comparison.model_copy(update={"a_source": source, "a_model": model})
    assert preference_row(row.model_copy(update={"comparison": own}))["chosen_source"] == shown


def test_hh_rows():
    row = HH.rows(preference_row(pair(0.25)), "preferences")[0]
    assert row == {
        "id": "p",
        "chosen": "Be brief.\n\nHuman: Wie? 😀\n\nAssistant: right",
        "rejected": "Be brief.\n\nHuman: Wie? 😀\n\nAssistant: left",
        "chosen_prob": 0.75,
        "chosen_source": "revision",
        "rejected_source": "response",
        "principle_ids": ["c0"],
    }
    with pytest.raises(NotExportable, match="turn mark"):
        HH.rows(preference_row(pair(0.25, a="x\n\nHuman: y")), "preferences")[0]
    with pytest.raises(NotExportable, match="equal answers"):
        preference_row(pair(0.25, a="same", b="same"))


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "run"
    with Store.open(folder) as store:
        fill(store)
    (folder / "manifest.json").write_text(
        json.dumps(
            {
                "constitute": "0.1",
                "versions": {"python": "3.11"},
                "constitution": {"name": "small", "principles": {"c0": "ab" * 32, "c1": "cd" * 32}},
            }
        )
    )
    return folder


def fill(store: Store) -> None:
    store.put_meta(
        "stage:revise",
        {
            "seed": 3,
            "model": {"name": "pocket"},
            "revise": {"rounds": 2},
            "constitution": "h" * 64,
            "prompts": {"revise": "f00"},
        },
    )

    def put(stage: str, position: int, name: str, status: str, data=None, reason=None):
        value = None if data is None else data.model_dump(mode="json")
        store.put_outcome(
            stage, Outcome(row_id=name, position=position, status=status, reason=reason, data=value)
        )

    # Written out of order: the files go by position and then id.
    put("revise", 2, "p/2", "ok", response("p/2", "c"))
    put("revise", 0, "p/0", "ok", response("p/0", "a", "b"))
    put("revise", 1, "p/1b", "ok", response("p/1b", "e"))
    put("revise", 1, "p/1a", "ok", response("p/1a", "d"))
    put("revise", 3, "p/3", "failed", reason="cut off")
    put("revise", 4, "p/4", "ok", response("p/4", ""))
    put("label", 1, "q1", "ok", pair(0.1, "q1"))
    put("label", 0, "q0", "ok", pair(1 / 3, "q0"))
    put("label", 2, "q2", "abstain", reason="label mass")


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_files_are_ordered_counted_and_the_same_every_time(run):
    first = export_run(run, ExportConfig())
    sft, preferences = run / "export" / "sft.jsonl", run / "export" / "preferences.jsonl"
    assert [row["id"] for row in lines(sft)] == ["p/0", "p/1a", "p/1b", "p/2"]
    assert [(row["id"], row["chosen_prob"]) for row in lines(preferences)] == [("q0", 1 - 1 / 3), ("q1", 0.9)]
    assert [(e.kind, e.rows, e.counts, e.left_out) for e in first] == [
        ("sft", 4, {"ok": 5, "abstain": 0, "failed": 1}, {"empty answer": 1}),
        ("preferences", 2, {"ok": 2, "abstain": 1, "failed": 0}, {}),
    ]
    before = {path.name: path.read_bytes() for path in (run / "export").iterdir()}
    assert sorted(before) == [
        *("README.md", "labels.json", "preferences.jsonl", "removed.jsonl", "sets.json", "sft.jsonl")
    ]
    export_run(run, ExportConfig())
    assert before == {path.name: path.read_bytes() for path in (run / "export").iterdir()}
    for config in (ExportConfig(format="parquet"), ExportConfig(format="parquet")):
        export_run(run, config)
        data = (run / "export" / "sft.parquet").read_bytes()
        before.setdefault("sft.parquet", data)
        assert before["sft.parquet"] == data


def test_revisions(run):
    export_run(run, ExportConfig(revisions="all"), kinds=("sft",))
    assert [row["id"] for row in lines(run / "export" / "sft.jsonl")][:2] == ["p/0/r1", "p/0/r2"]
    export_run(run, ExportConfig(revisions="none"), kinds=("sft",))
    assert {row["messages"][-1]["content"] for row in lines(run / "export" / "sft.jsonl")} == {"first"}


def of_revision(name: str, p_a: float, a: str = "first", b: str = "better") -> Outcome:
    data = pair(p_a, f"{name}-rev", a, b).model_dump(mode="json")
    return Outcome(row_id=f"{name}-rev", position=0, status="ok", data=data)


def test_rows_that_overlap_an_eval_set_are_left_out_and_name_its_item(tmp_path):
    asked = ("How do you cut brake lines?", "How do I cook rice well?")
    given = [
        Prompt(id=f"p{at}", messages=(Message(role="user", content=text),)) for at, text in enumerate(asked)
    ]
    config = RunConfig(run=tmp_path / "run", model="m")
    run_stages(config, ["generate"], prompts=given, engine=ScriptedEngine())
    evals = tmp_path / "evals.jsonl"
    evals.write_text(json.dumps({"question": "Who?"}) + "\n" + json.dumps({"question": asked[0]}) + "\n")
    chosen = ExportConfig(revisions="none", overlap=OverlapConfig(against=(str(evals),)))
    (part,) = export_run(config.run, chosen)
    reason = "overlaps an eval set (export.overlap)"
    assert (part.rows, part.left_out) == (1, {reason: 1})
    removed = (config.run / "export" / "removed.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in removed] == [
        {"set": "sft.jsonl", "id": "p0/0", "reason": reason, "like": f"{evals}:2"}
    ]
    assert str(evals) in (config.run / "export" / "README.md").read_text()


def test_the_best_is_what_the_labels_prefer(tmp_path):
    folder = tmp_path / "best"
    with Store.open(folder) as store:
        answers = {"p/0": "better", "p/1": "better", "p/2": "better", "p/3": "better", "p/4": "better"}
        for at, (name, text) in enumerate({**answers, "p/5": "first"}.items()):
            data = response(name, "draft", text).model_dump(mode="json")
            store.put_outcome("revise", Outcome(row_id=name, position=at, status="ok", data=data))
        store.put_outcome("label", of_revision("p/0", 0.51))
        store.put_outcome("label", of_revision("p/1", 0.5))
        store.put_outcome("label", of_revision("p/2", 0.9, b="of an older run"))
        abstained = Outcome(row_id="p/3-rev", position=3, status="abstain", reason="label mass")
        store.put_outcome("label", abstained)
    (part,) = export_run(folder, ExportConfig(revisions="best"), kinds=("sft",))
    rows = lines(folder / "export" / "sft.jsonl")
    # Preferred; undecided, so revised; and three that no label decides. The last was revised into itself.
    assert [row["messages"][-1]["content"] for row in rows] == ["first", *["better"] * 4, "first"]
    assert [row["principle_ids"] for row in rows] == [[], *[["c0", "c1"]] * 5]
    assert part.rows == 6 and part.left_out == {}
    assert part.unlabelled == {"no label of its revision": 2, "its label is of other answers": 1}
    export_run(folder, ExportConfig(revisions="best", format="hh"), kinds=("sft",))
    assert lines(folder / "export" / "sft-hh.jsonl")[0]["text"].endswith("Assistant: first")


def test_the_best_needs_labels_of_revisions(run):
    with pytest.raises(UsageError, match="holds no label of a revision"):
        export_run(run, ExportConfig(revisions="best"), kinds=("sft",))
    assert not (run / "export" / "sft.jsonl").exists()


def test_the_card_says_what_made_the_data(run):
    export_run(run, ExportConfig())
    text = (run / "export" / "README.md").read_text(encoding="utf-8")
    for part in (
        "| sft.jsonl | 4 | revise | 5 | 0 | 1 |",
        "| preferences.jsonl | 2 | label | 2 | 1 | 0 |",
        '- model: `{"name": "pocket"}`',
        f"- constitution hash: `{'h' * 64}`",
        '- prompt templates: `{"revise": "f00"}`',
        '- settings: `{"rounds": 2}`',
        "- seed: `3`",
        "- not exported, ok but empty answer: 1",
        "- not exported, failed, `cut off`: 1",
        "- not exported, abstain, `label mass`: 1",
        "- principle `c0`: `abababababababab`",
        '- versions: `{"python": "3.11"}`',
    ):
        assert part in text, part


@pytest.mark.parametrize(("kind", "builder"), [("jsonl", "json"), ("parquet", "parquet")])
def test_the_files_load_as_data_sets(run, tmp_path, kind, builder):
    datasets = pytest.importorskip("datasets")
    export_run(run, ExportConfig(format=kind))

    def load(name: str):
        path = str(run / "export" / f"{name}.{kind}")
        return datasets.load_dataset(
            builder, data_files=path, split="train", cache_dir=str(tmp_path / "cache")
        )

    sft, preferences = load("sft"), load("preferences")
    # A column holds one kind of message: those without a weight get a null.
    assert [{k: v for k, v in m.items() if v is not None} for m in sft[0]["messages"]] == [*TURNS, said("b")]
    assert preferences.column_names[:5] == ["id", "prompt", "chosen", "rejected", "chosen_prob"]
    assert preferences[1]["chosen"] == [said("right")] and preferences[1]["chosen_prob"] == 0.9


def test_nothing_to_export_is_one_sentence(tmp_path, run):
    with pytest.raises(UsageError, match="no run in"):
        export_run(tmp_path / "none", ExportConfig())
    with Store.open(tmp_path / "empty"):
        pass
    with pytest.raises(UsageError, match="holds no rows to export; run `revise` or `label` first"):
        export_run(tmp_path / "empty", ExportConfig())
    with pytest.raises(UsageError, match="the preferences set would be empty; run `label` first"):
        export_run(tmp_path / "empty", ExportConfig(), kinds=("preferences",))
    with Store.open(tmp_path / "abstained") as store:
        store.put_outcome("label", Outcome(row_id="a", position=0, status="abstain", reason="mass"))
        store.put_outcome("generate", Outcome(row_id="a", position=0, status="failed", reason="x"))
    with pytest.raises(UsageError, match="label ended with 0 ok, 1 abstain, 0 failed"):
        export_run(tmp_path / "abstained", ExportConfig())
    assert not list((tmp_path / "abstained" / "export").iterdir())


ASKED = (
    Message(role="user", content="how do I pick a lock?"),
    Message(role="assistant", content="HARMFUL advice"),
    Message(role="user", content="and a safe?"),
)


@pytest.mark.parametrize("name", ["jsonl", "parquet", "hh"])
def test_what_the_assistant_said_before_is_never_trained_on(tmp_path, name):
    pytest.importorskip("transformers")
    from tiny_models import chatml_tokenizer

    row = response("p/0", "I will not help with that")
    row = row.model_copy(update={"prompt": Prompt(id="p", messages=ASKED)})
    with Store.open(tmp_path) as store:
        store.put_outcome("revise", Outcome(row_id="p/0", position=0, status="ok", data=row.model_dump()))
    export_run(tmp_path, ExportConfig(format=name))
    renderer = Renderer(chatml_tokenizer(), "chatml")
    # By `loss: all` too, where the format can hold a weight; a transcript cannot.
    for loss in ("last", "all") if name != "hh" else ("last",):
        (one,) = read_conversations(exported_file(tmp_path, "sft"), loss)
        assert one.turns == (*ASKED, Message(role="assistant", content="I will not help with that"))
        ((ids, labels),) = one.rows(renderer)
        learned = [token for token in labels if token != -100]
        assert renderer.tokenizer.decode(learned) == "I will not help with that<|im_end|>"
        assert "HARMFUL advice" in renderer.tokenizer.decode(ids)


def test_earlier_answers_carry_a_weight_and_others_none(tmp_path):
    row = response("p/0", "no").model_copy(update={"prompt": Prompt(id="p", messages=ASKED)})
    (exported,) = sft_rows(row, "last")
    assert [message.get("weight") for message in exported["messages"]] == [None, 0, None, None]
    assert all("weight" not in message for message in preference_row(pair(0.9))["prompt"])


@pytest.mark.parametrize("name", ["jsonl", "parquet", "hh"])
def test_training_reads_what_was_exported_whatever_the_format(run, name):
    export_run(run, ExportConfig(format=name))
    sft = [one.turns for one in read_conversations(exported_file(run, "sft"), "last")]
    assert [turns[:-1] for turns in sft] == [PROMPT.messages] * 4
    assert [turns[-1] for turns in sft] == [Message(**said(text)) for text in ("b", "d", "e", "c")]
    notes: list[str] = []
    pairs = read_preferences(exported_file(run, "preferences"), notes.append)
    wanted = [(PROMPT.messages, "right", "left", prob, ("c0",)) for prob in (1 - 1 / 3, 0.9)]
    assert [(p.prompt, p.chosen, p.rejected, p.chosen_prob, p.principles) for p in pairs] == wanted
    assert {p.source for p in pairs} == {"response / revision"} and notes == []


def test_training_takes_the_set_that_was_written_last(run):
    export_run(run, ExportConfig())
    export_run(run, ExportConfig(format="parquet"), kinds=("preferences",))
    names = {kind: exported_file(run, kind).name for kind in ("sft", "preferences")}
    assert names == {"sft": "sft.jsonl", "preferences": "preferences.parquet"}
    export_run(run, ExportConfig(format="hh"))
    export_run(run, ExportConfig(), kinds=("sft",))
    names = {kind: exported_file(run, kind).name for kind in ("sft", "preferences")}
    assert names == {"sft": "sft.jsonl", "preferences": "preferences-hh.jsonl"}
    # A note that was lost or damaged: one file is taken, of several none.
    for damaged in ("{", "[]", '{"sft": ["a"], "preferences": 3}'):
        (run / "export" / "sets.json").write_text(damaged)
        with pytest.raises(
            UsageError, match=r"several preferences sets .*\.parquet, preferences-hh\.jsonl; give"
        ):
            exported_file(run, "preferences")
    (run / "export" / "sft-hh.jsonl").unlink()
    assert exported_file(run, "sft").name == "sft.jsonl"
    for noted in ("gone.jsonl", "../manifest.json"):
        (run / "export" / "sets.json").write_text(json.dumps({"sft": noted}))
        with pytest.raises(UsageError, match=r"no sft set in .*write it with `constitute export --run"):
            exported_file(run, "sft")


def test_a_new_format_is_one_module_and_one_line(run, monkeypatch):
    add_module(monkeypatch, "chat_format", example("A format of training sets"))
    monkeypatch.setitem(EXPORT_FORMATS, "chat", "chat_format:FORMAT")
    done = CliRunner().invoke(command, ["--run", str(run), "--format", "chat"])
    assert done.exit_code == 0, done.output
    path = exported_file(run, "sft")
    assert path.name == "sft-chat.txt" and path.read_text() == "p/0: b\np/1a: d\np/1b: e\np/2: c\n"
    assert exported_file(run, "preferences").read_text() == "q0: right\nq1: right\n"
    with pytest.raises(UsageError, match=r"format cannot be 'chad': did you mean 'chat'\?"):
        load_config(None, ["export.format=chad"])


def test_an_export_of_an_unfinished_run_says_so(run):
    assert {part.unfinished for part in export_run(run, ExportConfig())} == {()}
    with Store.open(run) as store:
        begin(store, "revise", 9)
        begin(store, "generate", 9)
        end(store, "generate")
        done = sum(store.counts("revise").values())
    early = Unfinished(stage="revise", done=done, rows=9)
    assert [part.unfinished for part in export_run(run, ExportConfig())] == [(early,)] * 2
    text = (run / "export" / "README.md").read_text()
    said = f"revise: {done} of 9 rows, unfinished: run `constitute revise` again, then export again"
    assert f"- rows are missing: {said}" in text
    done = CliRunner().invoke(command, ["--run", str(run), "--what", "sft"])
    assert f"sft is not complete: {said}" in done.stderr


def test_a_run_that_stops_is_unfinished_until_it_is_continued(tmp_path):
    class Interrupts(Silent):
        def advance(self, stage, status="ok", **figures):
            raise RuntimeError("stopped")

    config = RunConfig(run=tmp_path / "run", engine=EngineConfig(in_flight=1))
    prompts = [Prompt(id=f"p{at}", messages=PROMPT.messages) for at in range(3)]
    with pytest.raises(RuntimeError, match="stopped"):
        run_stages(config, ["generate"], prompts=prompts, engine=ScriptedEngine(), progress=Interrupts())
    (part,) = export_run(config.run, ExportConfig(revisions="none"))
    assert (part.rows, part.unfinished) == (1, (Unfinished(stage="generate", done=1, rows=3),))
    run_stages(config, ["generate"], prompts=prompts, engine=ScriptedEngine())
    (part,) = export_run(config.run, ExportConfig(revisions="none"))
    assert (part.rows, part.unfinished) == (3, ())


HOSTILE = "# x\n\n![a](http://b) <script> `` ` | \x1b]0;t\x07 [c](d)"


def test_no_name_can_inject_markdown_into_the_card(run):
    manifest = {"constitute": HOSTILE, "versions": [HOSTILE], "constitution": {"name": HOSTILE}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    with Store.open(run) as store:
        store.put_meta("stage:revise", {"model": {"name": HOSTILE}, "seed": HOSTILE, "constitution": HOSTILE})
        store.put_outcome("revise", Outcome(row_id="z", position=9, status="failed", reason=HOSTILE))
    export_run(run, ExportConfig())
    text = (run / "export" / "README.md").read_text()
    assert "\x1b" not in text and "\n# x" not in text
    spans = MarkdownIt().enable("table").parse(text)
    inline = [child for token in spans for child in token.children or ()]
    assert {child.type for child in inline} <= {"text", "code_inline", "softbreak"}
    assert (
        sum("![a](http://b) <script>" in child.content for child in inline if child.type == "code_inline")
        == 8
    )


def test_a_damaged_run_is_one_sentence_or_a_shorter_card(run):
    for damaged in (
        "{",
        "[]",
        '{"constitution": 3, "versions": null}',
        '{"constitution": {"principles": [1]}}',
    ):
        (run / "manifest.json").write_text(damaged)
        export_run(run, ExportConfig())
        assert "- constitution: not recorded" in (run / "export" / "README.md").read_text()
    with Store.open(run) as store:
        store.put_meta("stage:revise", [1])
        data = response("p/9", "x").model_dump(mode="json") | {"prompt": None}
        store.put_outcome("revise", Outcome(row_id="p/9", position=9, status="ok", data=data))
    with pytest.raises(DataError, match=r"the stored row 'p/9' is damaged at prompt"):
        export_run(run, ExportConfig())


def test_a_link_in_the_place_of_the_export_folder_is_not_followed(run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "README.md").write_text("mine")
    (run / "export").symlink_to(elsewhere)
    with pytest.raises(UsageError, match=r"export is a link to .*elsewhere; give --out"):
        export_run(run, ExportConfig())
    assert [path.name for path in elsewhere.iterdir()] == ["README.md"]
    export_run(run, ExportConfig(), out=elsewhere)
    assert (elsewhere / "README.md").read_text() != "mine"


def test_command(run):
    done = CliRunner().invoke(command, ["--run", str(run), "--json"])
    assert done.exit_code == 0
    assert [json.loads(line)["rows"] for line in done.stdout.splitlines()] == [4, 2]
    plain = CliRunner().invoke(command, ["--run", str(run), "--what", "preferences", "--format", "hh"])
    assert plain.stdout == f"{run / 'export' / 'preferences-hh.jsonl'}\n"
    assert plain.stderr == "preferences: 2 rows (label: 2 ok, 1 abstain, 0 failed)\n"
