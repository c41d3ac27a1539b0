"""Every format of training sets: exact rows, and read by the program it is written for where that is here."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, get_args

import pytest

from constitute.config import ExportConfig
from constitute.config.data import EXPORT_FORMATS
from constitute.data.export import export_run
from constitute.data.formats import Kind, NotExportable, export_format, write_jsonl
from constitute.data.sets import exported_file
from constitute.errors import UsageError
from constitute.store import Store
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

SHORT = Prompt(
    id="p", messages=(Message(role="system", content="Be brief."), Message(role="user", content="Hi"))
)
LONG = Prompt(
    id="q",
    messages=(
        Message(role="user", content="One?"),
        Message(role="assistant", content="Uno."),
        Message(role="user", content="Two?"),
    ),
)
ASKED = {"p": [m.model_dump() for m in SHORT.messages], "q": [m.model_dump() for m in LONG.messages]}
EARLIER = "an earlier answer in the prompt, which {} would train on"


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


@pytest.fixture
def run(tmp_path) -> Path:
    with Store.open(tmp_path / "run") as store:

        def put(stage: str, at: int, row: Any) -> None:
            store.put_outcome(stage, Outcome(row_id=row.id, position=at, status="ok", data=row.model_dump()))

        for at, prompt in enumerate((SHORT, LONG)):
            step = CritiqueRevision(principle_id="c0", critique="no", revision=f"{prompt.id} better")
            for sample in range(2):
                row = Response(id=f"{prompt.id}/{sample}", prompt=prompt, sample=sample, response="first")
                put("generate", 2 * at + sample, row)
            put("revise", at, row.model_copy(update={"steps": (step,)}))
            p_a = 0.25 if at else 0.75
            vote = PrincipleVote(principle_id="c0", weight=1, p_ab=p_a, p_ba=p_a, mass_ab=1, mass_ba=1)
            pair = Comparison(id=f"{prompt.id}/0-1", prompt=prompt, a="left", b="right")
            label = PreferenceLabel(p_a=p_a, votes=(vote,))
            put("label", at, LabelledPair(id=pair.id, comparison=pair, label=label))
    return tmp_path / "run"


def written(run: Path, name: str, kind: Kind) -> list[dict[str, Any]]:
    (part,) = export_run(run, ExportConfig(format=name), kinds=(kind,))
    if part.path.suffix == ".parquet":
        pq = pytest.importorskip("pyarrow.parquet")
        return pq.read_table(part.path).to_pylist()
    if part.path.suffix == ".json":
        return json.loads(part.path.read_text())
    return [json.loads(line) for line in part.path.read_text().splitlines()]


TAIL = {"chosen_source": "", "rejected_source": "", "principle_ids": ["c0"]}
P_HH, Q_HH = (
    "Be brief.\n\nHuman: Hi\n\nAssistant:",
    "\n\nHuman: One?\n\nAssistant: Uno.\n\nHuman: Two?\n\nAssistant:",
)
P_MARGIN = {"chosen_prob": 0.75, **TAIL}
FIRST_ROWS: dict[tuple[str, Kind], Any] = {
    ("jsonl", "prompts"): {"id": "p", "prompt": ASKED["p"]},
    ("parquet", "prompts"): {"id": "p", "prompt": ASKED["p"]},
    ("hh", "prompts"): {"id": "p", "prompt": P_HH},
    ("hh-prompt", "prompts"): {"id": "p", "prompt": P_HH},
    ("hh-prompt", "sft"): {"id": "p/1", "prompt": P_HH, "completion": " p better"},
    ("hh-prompt", "preferences"): {
        "id": "p/0-1",
        "prompt": P_HH,
        "chosen": " left",
        "rejected": " right",
        **P_MARGIN,
    },
    ("trl-implicit", "preferences"): {
        "id": "p/0-1",
        "chosen": [*ASKED["p"], said("left")],
        "rejected": [*ASKED["p"], said("right")],
        **P_MARGIN,
    },
    ("trl-unpaired", "preferences"): {
        "id": "p/0-1/chosen",
        "prompt": ASKED["p"],
        "completion": [said("left")],
        "label": True,
    },
    ("trl-prompt-completion", "sft"): {"id": "p/1", "prompt": ASKED["p"], "completion": [said("p better")]},
    ("openai", "sft"): {"messages": [*ASKED["p"], said("p better")]},
    ("openai", "preferences"): {
        "input": {"messages": ASKED["p"], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [said("left")],
        "non_preferred_output": [said("right")],
    },
    ("openrlhf", "sft"): {"id": "p/1", "input": ASKED["p"], "output": [said("p better")]},
    ("openrlhf", "prompts"): {"id": "p", "prompt": ASKED["p"]},
    ("openrlhf", "preferences"): {
        "id": "p/0-1",
        "prompt": ASKED["p"],
        "chosen": [said("left")],
        "rejected": [said("right")],
        "margin": 0.5,
    },
    ("verl", "sft"): {"messages": [*ASKED["p"], said("p better")], "extra_info": {"id": "p/1"}},
    ("verl", "prompts"): {
        "data_source": "constitute",
        "prompt": ASKED["p"],
        "ability": "chat",
        "reward_model": {"style": "model", "ground_truth": ""},
        "extra_info": {"id": "p"},
    },
    ("nemo-rl", "sft"): {"messages": [*ASKED["p"], said("p better")]},
    ("nemo-rl", "preferences"): {
        "context": ASKED["p"],
        "completions": [
            {"rank": 0, "completion": [said("left")]},
            {"rank": 1, "completion": [said("right")]},
        ],
        "task_name": "constitute",
    },
    ("argilla", "sft"): {
        "id": "p/1",
        "metadata": {"principle_ids": ["c0"]},
        "responses": {},
        "vectors": {},
        "fields": {"prompt": ASKED["p"], "response": "p better"},
        "suggestions": {},
    },
}


@pytest.mark.parametrize(("name", "kind"), FIRST_ROWS)
def test_the_first_row(run, name, kind):
    assert written(run, name, kind)[0] == FIRST_ROWS[name, kind]


def test_every_format_is_held_to_a_row():
    elsewhere = {("argilla", "preferences")} | {
        (name, kind) for name in ("jsonl", "parquet", "hh") for kind in ("sft", "preferences")
    }
    every = {(name, kind) for name in EXPORT_FORMATS for kind in export_format(name).kinds}
    assert every == FIRST_ROWS.keys() | elsewhere


def test_prompts_are_written_once_each(run):
    assert [row["id"] for row in written(run, "jsonl", "prompts")] == ["p", "q"]
    assert written(run, "hh", "prompts")[1]["prompt"] == Q_HH


def test_an_unpaired_pair_is_two_rows_that_keep_the_better_one(run):
    rows = written(run, "trl-unpaired", "preferences")
    found = [(row["id"], row["completion"][0]["content"], row["label"]) for row in rows]
    assert found == [
        ("p/0-1/chosen", "left", True),
        ("p/0-1/rejected", "right", False),
        ("q/0-1/chosen", "right", True),
        ("q/0-1/rejected", "left", False),
    ]


@pytest.mark.parametrize(("name", "program"), [("verl", "verl"), ("nemo-rl", "NeMo-RL")])
def test_rows_whose_earlier_answers_would_be_trained_on_are_left_out(run, name, program):
    (part,) = export_run(run, ExportConfig(format=name), kinds=("sft",))
    assert part.rows == 1 and part.left_out == {EARLIER.format(program): 1}


def test_where_an_earlier_answer_bears_no_weight_it_is_kept(run):
    assert written(run, "openai", "sft")[1]["messages"][1] == said("Uno.", weight=0)
    assert written(run, "openrlhf", "sft")[1]["input"] == ASKED["q"]


def test_the_place_of_an_answer_tells_an_annotator_nothing():
    form = export_format("argilla")
    firsts = 0
    for at in range(200):
        row = {"id": f"r{at}", "prompt": [], "chosen": [said("good")], "rejected": [said("bad")]}
        (record,) = form.rows({**row, "chosen_prob": 0.8, "principle_ids": []}, "preferences")
        suggestion = record["suggestions"]["preference"]
        assert record["fields"][suggestion["value"]] == "good" and suggestion["score"] == 0.8
        firsts += suggestion["value"] == "response_1"
    # 200 fair coins: 100 ± 4 standard deviations of 7.07.
    assert 72 <= firsts <= 128


def test_what_a_format_does_not_know_is_refused(run):
    with pytest.raises(UsageError, match="the format trl-unpaired has no sft set, only preferences; give"):
        export_run(run, ExportConfig(format="trl-unpaired"), kinds=("sft",))
    with pytest.raises(NotExportable, match="turn mark"):
        row = {"id": "a", "prompt": [{"role": "user", "content": "x\n\nAssistant: y"}]}
        export_format("hh-prompt").rows(row, "prompts")


def test_training_goes_on_reading_the_sets_it_can_read(run):
    export_run(run, ExportConfig())
    for name in ("openai", "argilla", "verl", "openrlhf"):
        export_run(run, ExportConfig(format=name))
    assert exported_file(run, "preferences").name == "preferences.jsonl"
    assert exported_file(run, "sft").name == "sft.jsonl"
    (run / "export" / "sets.json").unlink()
    assert exported_file(run, "sft").name == "sft.jsonl"


@pytest.mark.parametrize("name", sorted(EXPORT_FORMATS))
def test_every_folder_loads_as_a_data_set(run, tmp_path, name):
    datasets = pytest.importorskip("datasets")
    kinds = export_format(name).kinds
    export_run(run, ExportConfig(format=name), kinds=kinds)
    for kind in kinds:
        found = datasets.load_dataset(str(run / "export"), kind, cache_dir=str(tmp_path / "cache"))
        lost = name in ("verl", "nemo-rl") and kind == "sft"
        assert len(found["train"]) == (4 if name == "trl-unpaired" else 1 if lost else 2)
    assert set(kinds) <= set(get_args(Kind))


TRL = [
    ("jsonl", "sft", "SFT"),
    ("trl-prompt-completion", "sft", "SFT"),
    ("hh", "sft", "SFT"),
    ("hh-prompt", "sft", "SFT"),
    ("jsonl", "preferences", "DPO"),
    ("trl-implicit", "preferences", "DPO"),
    ("hh-prompt", "preferences", "DPO"),
    ("jsonl", "preferences", "Reward"),
    ("trl-implicit", "preferences", "Reward"),
    ("hh", "preferences", "Reward"),
    ("trl-unpaired", "preferences", "KTO"),
]


_LEARNED = ("input_ids", "prompt_ids", "chosen_ids", "rejected_ids", "completion_ids")
_CHATML = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
_HH_ASKED = "Be brief.\n\nHuman: Hi\n\nAssistant:"
_SAID = ("p better", "left", "right")
_END = {False: "<|im_end|>\n", True: "<|im_end|>"}


@pytest.mark.parametrize(("name", "kind", "trainer"), TRL)
def test_trl_reads_its_types(run, tmp_path, name, kind, trainer):
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    from tiny_models import chatml_tokenizer, random_llama
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    export_run(run, ExportConfig(format=name), kinds=(kind,))
    loaded = datasets.load_dataset(str(run / "export"), split="train", cache_dir=str(tmp_path / "cache"))
    tokenizer = chatml_tokenizer()
    auto = AutoModelForSequenceClassification if trainer == "Reward" else AutoModelForCausalLM
    more = {"num_labels": 1} if trainer == "Reward" else {}
    model = auto.from_pretrained(random_llama(tmp_path / "model"), **more)
    model.config.pad_token_id = tokenizer.pad_token_id
    config = getattr(trl, f"{trainer}Config")(
        output_dir=str(tmp_path / "out"),
        report_to=[],
        use_cpu=True,
        max_length=None,
        bf16=False,
        per_device_train_batch_size=2,
    )
    made = getattr(trl, f"{trainer}Trainer")(
        model=model, args=config, train_dataset=loaded, processing_class=tokenizer
    )
    rows = list(made.train_dataset)
    found = {k: tokenizer.decode(v) for k, v in rows[0].items() if k in _LEARNED}
    hh = name.startswith("hh")
    asked, (better, left, right) = (
        _HH_ASKED if hh else _CHATML,
        (f"{' ' * hh}{text}{_END[hh]}" for text in _SAID),
    )
    assert (
        found
        == {
            "SFT": {"input_ids": f"{asked}{better}"},
            "DPO": {"prompt_ids": asked, "chosen_ids": left, "rejected_ids": right},
            "Reward": {"chosen_ids": f"{asked}{left}", "rejected_ids": f"{asked}{right}"},
            "KTO": {"prompt_ids": asked, "completion_ids": left},
        }[trainer]
    )
    assert len(rows) == len(loaded)
    if trainer == "KTO":
        assert [row["label"] for row in rows] == [True, False, True, False]


def test_argilla_reads_its_records(run):
    records = pytest.importorskip("argilla.records._io._json").JsonIO
    (part,) = export_run(run, ExportConfig(format="argilla"), kinds=("preferences",))
    first = records._records_from_json(part.path)[0]
    assert first.id == "p/0-1" and first.fields["prompt"] == ASKED["p"]
    suggestion = first.suggestions["preference"]
    assert first.fields[suggestion.value] == "left" and suggestion.score == 0.75


def test_openrlhf_reads_its_rows(run):
    reward = pytest.importorskip("openrlhf.datasets.reward_dataset", exc_type=ImportError)
    sft = pytest.importorskip("openrlhf.datasets.sft_dataset", exc_type=ImportError)
    from tiny_models import chatml_tokenizer

    template = chatml_tokenizer().apply_chat_template
    pair = written(run, "openrlhf", "preferences")[0]
    found = reward.preprocess_data(pair, prompt_key="prompt", apply_chat_template=template)
    assert found[:4] == (_CHATML, "left<|im_end|>\n", "right<|im_end|>\n", 0.5)
    row = written(run, "openrlhf", "sft")[0]
    found = sft.preprocess_data(row, output_key="output", apply_chat_template=template)
    assert found[:2] == (_CHATML, "p better<|im_end|>\n")


def test_lines_are_the_bytes_that_json_writes() -> None:
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x11000)]))
    row = {
        "id": every,
        "n": None,
        "weight": 0,
        "chosen_prob": [0.5, 1.0, 1 / 3, 0.0001, 1e16],
        "more": [True, {}],
    }
    stream = io.BytesIO()
    assert write_jsonl(stream, [row, {}], "sft") == 2
    told = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
    assert stream.getvalue() == f"{told}\n{{}}\n".encode()
