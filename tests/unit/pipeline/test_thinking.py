"""What a model thinks is kept with its answer, and is never shown to a later question or taken for one."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted import ScriptedEngine, constitution, prompt

from constitute.config import load_config
from constitute.constitution.write import to_yaml
from constitute.pipeline import run_stages
from constitute.store import Store
from constitute.types import Completion, Request


class Thinker(ScriptedEngine):
    """Thinks SECRET before each answer; prompts with [cut] or [mute] get no answer after it."""

    def __init__(self) -> None:
        super().__init__("thinker")
        self.requests: list[Request] = []

    async def generate(self, request: Request) -> Completion:
        self.requests.append(request)
        found = await super().generate(request)
        if "[cut]" in request.messages[0].content:
            return found.model_copy(update={"text": "", "reasoning": "SECRET"})
        if "[mute]" in request.messages[0].content:
            return found.model_copy(update={"text": " ", "reasoning": "SECRET", "finish_reason": "stop"})
        return found.model_copy(update={"reasoning": "SECRET"})


def run(folder: Path, text: str, **changes: object) -> tuple[Thinker, list[str | None]]:
    """Generate, critique and revise on one prompt; returns the engine and the reason of the first failure."""
    folder.mkdir()
    (folder / "c.yaml").write_text(to_yaml(constitution()))
    settings = {"model": "m", "run": folder, "constitution": str(folder / "c.yaml")} | changes
    engine = Thinker()
    run_stages(
        load_config(overrides=settings), ["generate", "revise"], prompts=[prompt("a", text)], engine=engine
    )
    with Store.open(folder, readonly=True) as store:
        return engine, [outcome.reason for outcome in store.outcomes("generate")]


def test_reasoning_flows_into_nothing(tmp_path):
    engine, reasons = run(
        tmp_path / "r", "Hi", **{"generate.thinking_tokens": 9, "revise.thinking_tokens": 7}
    )
    assert reasons == [None]
    assert [request.thinking for request in engine.requests] == [9, 7, 7]
    assert "SECRET" not in "".join(m.content for request in engine.requests for m in request.messages)
    with Store.open(tmp_path / "r", readonly=True) as store:
        rows = [outcome.model_dump_json() for stage in store.stages() for outcome in store.outcomes(stage)]
        kept = [answer["reasoning"] for _, _, answer in store.answers_of("a/0")]
    assert len(rows) == 2 and "SECRET" not in "".join(rows)
    # With its answer it stays readable.
    assert kept == ["SECRET"] * 3


def test_thinking_is_off_unless_asked_for(tmp_path):
    engine, _ = run(tmp_path / "r", "Hi")
    assert [request.thinking for request in engine.requests] == [0, 0, 0]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    ("text", "tokens", "reason"),
    [
        ("[cut]", 9, "thinking was cut at 9 tokens; raise generate.thinking_tokens"),
        ("[cut]", 0, "response: the model thought for all of its 256 tokens although thinking is off; give "
         "generate.thinking_tokens"),
        ("[mute]", 9, "response: the model thought and gave no answer"),
    ],
)  # fmt: skip
def test_a_thought_without_an_answer_is_an_attempt(tmp_path, keep, text, tokens, reason):
    changes = {"generate.thinking_tokens": tokens, "generate.keep_truncated": keep}
    _, reasons = run(tmp_path / "r", text, **changes)
    assert reasons == [reason]
    with Store.open(tmp_path / "r", readonly=True) as store:
        ((_, why, answer),) = store.attempts_of("a/0")
        assert not list(store.answers_of("a/0"))
    assert why == reason and answer is not None and answer["reasoning"] == "SECRET"
