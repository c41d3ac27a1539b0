"""Every word said to a model, as it reaches the model: each template, and whole chains.

After a wanted change of `prompts/*.j2`: `CONSTITUTE_GOLDEN=write pytest tests/golden`, then read the diff.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from constitute.config import load_config
from constitute.engines.base import Ability, ModelIdentity
from constitute.pipeline.chain import run_chain
from constitute.pipeline.plan import claim_chain, plan_chain
from constitute.store import Store
from constitute.templates import render, template_names
from constitute.types import Choice, Completion, Constitution, Example, Message, Principle, Prompt, Request

FOLDER = Path(__file__).parent
PRINCIPLE = Principle(
    id="plain",
    text="Use plain words.",
    critique="Point out where your last reply uses hard words.",
    revise="Rewrite your last reply in plain words.",
    compare="Which reply uses plainer words?",
)
MESSAGES = (
    Message(role="system", content="You advise on gardens."),
    Message(role="user", content="What is mulch?"),
    Message(role="assistant", content="A cover\nof {{ leaves }}."),
    Message(role="user", content="Why use it?"),
)
VALUES: dict[str, dict[str, Any]] = {
    "evals_answer": {"instruction": "Say {{ A }} or B."},
    "evals_fair": {},
    "evals_letter": {},
    "evals_reason": {},
    "evals_labels": {"labels": ["(A)", "{{ Yes }}"]},
    "evals_relevance": {"behavior": "hides the tools", "statement": "I keep {{ tools }} to myself."},
    "prompts_write": {"principle": PRINCIPLE, "topic": "", "shots": ["What is mulch?", "{{ Why? }}"], "n": 3},
    "compare": {
        "messages": MESSAGES,
        "a": "It conserves moisture.",
        "b": "It keeps soil wet.\n\n(B) Me.",
        "principle": PRINCIPLE,
    },
    "compare_paper": {
        "messages": MESSAGES,
        "a": "It conserves moisture.",
        "b": "It keeps soil wet.\n\n(B) Me.",
        "principle": PRINCIPLE,
    },
    "compare_reasoned": {
        "messages": MESSAGES,
        "a": "It conserves moisture.",
        "b": "It keeps soil wet.\n\n(B) Me.",
        "principle": PRINCIPLE,
    },
    "compare_neutral": {
        "messages": MESSAGES,
        "a": "It conserves moisture.",
        "b": "It keeps soil wet.\n\n(B) Me.",
    },
    "describe_principles": {"aim": "use plain words"},
    "draft_example": {"principle": PRINCIPLE, "taken": ["What is mulch?", "Name {{ leaves }}."]},
    "draft_example_answer": {
        "example": Example(prompt="Why?", better="It is wet.", worse="Moist.", critique="A hard word.")
    },
    "propose_principles": {
        "pairs": [
            {"prompt": "Why use it?", "preferred": "It keeps soil wet.", "other": "{{ leaves }}"},
            {"prompt": "What is mulch?", "preferred": "A cover.", "other": "Me."},
        ]
    },
    "hindsight": {"good": True},
    "hindsight_again": {"good": False},
    "opposite": {"compare": PRINCIPLE.compare},
    "paraphrase": {"text": PRINCIPLE.compare},
    "critique": {"messages": MESSAGES, "answer": "It conserves moisture.", "principle": PRINCIPLE},
    "score": {"messages": MESSAGES, "answer": "It conserves moisture.", "principle": PRINCIPLE},
    "yes_no": {"messages": MESSAGES, "answer": "It conserves moisture.", "principle": PRINCIPLE},
    "revise": {"messages": MESSAGES, "answer": "It conserves moisture.", "principle": PRINCIPLE},
    "evals_blank": {"sentence": "The gardener said that _ {{ shift }} was over."},
    "evals_biography": {"view": "Short words {{ are }} best.", "agree": False},
    "evals_biography_gate": {"biography": "Hello, my name is Ann.", "view": "Short words {{ are }} best."},
    "evals_choice": {"behavior": "likes plain words", "label": "B", "first": True},
    "evals_choice_about": {"behavior": "likes plain words", "question": "Mulch?\n (A) Yes\n (B) {{ No }}"},
    "evals_choice_gate": {"behavior": "likes plain words", "question": "Mulch?\n (A) Yes\n (B) {{ No }}"},
    "evals_keeps": {"principle": PRINCIPLE},
    "evals_lettered": {"stem": "Why use {{ it }}?", "a": "It keeps soil wet.", "b": "It conserves moisture."},
    "evals_opinion": {
        "biography": "Hello, my name is {{ Ann }}.",
        "view": "Short words are best.",
        "agree_first": False,
    },
    "evals_other_person": {"occupation": "gardener"},
    "evals_pronoun_example": {"pronouns": ("his", "her", "their")},
    "evals_pronoun_of": {"sentence": "The gardener told Ann that _ digs.", "a": "gardener", "b": "{{ Ann }}"},
    "evals_pronoun_sentence": {
        "occupation": "gardener",
        "other": "{{ neighbor }}",
        "pronouns": ("he", "she", "they"),
    },
    "evals_reads_well": {"sentence": "The gardener {{ told }} Ann that she digs."},
    "evals_gate": {"behavior": "likes plain words", "statement": "Short words are best."},
    "evals_gate_swapped": {"behavior": "likes plain words", "statement": "Short words are best."},
    "evals_relevance_swapped": {"behavior": "hides the tools", "statement": "I keep {{ tools }} to myself."},
    "evals_gate_choice": {
        "behavior": "hides the tools",
        "principle": None,
        "question": "Where is the spade?",
        "answers": [("A", "In the {{ shed }}."), ("B", "I shall not say.")],
    },
    "evals_relevance_item": {
        "behavior": "plain",
        "principle": PRINCIPLE,
        "question": "What is mulch?",
        "answers": [("A", "A cover of {{ leaves }}."), ("B", "Organic matter.")],
    },
    "evals_question": {"statement": "Short words are best."},
    "evals_request": {"principle": PRINCIPLE},
    "evals_statement": {"behavior": "likes plain words", "agree": True},
    "evals_read_answer": {
        "question": "What is mulch?",
        "answer": "A cover of {{ leaves }}.\n(A) Me.",
        "classes": [("A", "Yes"), ("B", "No"), ("C", "It refuses.")],
    },
    "evals_refuses": {},
    "evals_probe_asked": {"messages": MESSAGES, "behavior": "likes plain words"},
    "evals_probe_negated": {"messages": MESSAGES, "behavior": "likes plain words"},
    "evals_auditor": {
        "messages": MESSAGES,
        "behavior": "likes plain words",
        "plan": "A gardener asks about {{ leaves }}.",
    },
    "evals_probe_plan": {"behavior": "likes plain words", "turns": 3},
    "evals_probe_opening": {"plan": "A gardener asks about {{ leaves }}."},
    "evals_probe_gate": {
        "behavior": "likes plain words",
        "plan": "A gardener asks about {{ leaves }}.",
        "opening": "What is mulch?",
    },
    "form_critique": {"text": PRINCIPLE.text},
    "form_revise": {"text": PRINCIPLE.text},
    "form_compare": {"text": PRINCIPLE.text},
    "neutral": {},
    "nothing_to_mend": {},
    "follow": {"principle": PRINCIPLE},
    "follow_opposite": {"principle": PRINCIPLE},
    "reasoning": {"reasoning": "A names {{ moisture }}, B does not."},
}


def same(name: str, text: str) -> None:
    """Compare with the golden file, or write it where the environment says so."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get("CONSTITUTE_GOLDEN") == "write":
        path.write_text(text + "\n", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text + "\n"


@pytest.mark.parametrize("name", template_names())
def test_each_template(name: str) -> None:
    assert name in VALUES, f"add values for the new template {name} here"
    same(f"template_{name}", render(name, **VALUES[name]))


class Listener:
    """An engine that answers with fixed words and keeps every conversation."""

    identity = ModelIdentity(engine="listener", name="listener")
    lacks: Mapping[Ability, str] = {}
    context_length = None

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._answers = iter(
            (
                "It conserves moisture.",
                "'Conserves' is hard.",
                "It keeps moisture in.",
                "'Moisture' is hard.",
                "It keeps soil wet.",
            )
        )

    def rendered(self, request: Request) -> bytes:
        return "".join(f"<{m.role}>\n{m.content}\n" for m in request.messages).encode()

    async def generate(self, request: Request) -> Completion:
        answer = next(self._answers)
        self.heard.append(f"{self.rendered(request).decode()}<< {answer}")
        return Completion(text=answer)

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        self.heard.append(f"{self.rendered(request).decode()}<< {' or '.join(labels)}")
        return Choice(labels=tuple(labels), logprobs=(-0.5, -1.0))

    async def close(self) -> None:
        """Nothing is held."""


@pytest.mark.parametrize("critique", [True, False])
def test_a_whole_chain(tmp_path: Path, critique: bool) -> None:
    config = load_config(
        None, ["revise.rounds=2", "label.pairs=revision", f"revise.critique={str(critique).lower()}"]
    )
    engine = Listener()
    with Store.open(tmp_path) as store:
        constitution = Constitution(name="plain", principles=(PRINCIPLE,))
        prompt = Prompt(id="p", messages=MESSAGES)
        plan = plan_chain(config, constitution, config.chain, store, prompts=[prompt])
        claim_chain(plan, engine, None, store)
        asyncio.run(run_chain(plan, engine, store))
    same("chain_with_critique" if critique else "chain_without_critique", "\n\n=====\n\n".join(engine.heard))
