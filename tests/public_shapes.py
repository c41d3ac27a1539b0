"""Rows in the public shapes of data, in words of our own, and what each is read as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@dataclass
class Case:
    """Rows in a public shape, in words of our own, and what they are read as.

    Prompts, and the last turns of them; (prompt, a, b, P(a) of people); (prompt, chosen, rejected, P); the
    answers imitated; how often something is left out of the pairs to train on, by a word of the reason.
    """

    family: str
    rows: list[dict[str, Any]]
    prompts: list[str]
    compared: list[tuple[str, str, float | None]]
    preferred: list[tuple[str, str, float]]
    imitated: list[str]
    left_out: dict[str, int]


SIDES_438 = {"correct": "one", "incorrect": "two"}


def shp(a: int, b: int, label: int, **more: Any) -> dict[str, Any]:
    row = {"post_id": "x1", "domain": "askbakers_train", "upvote_ratio": 0.9, "history": "Why &gt; 3 eggs?"}
    row |= {"c_root_id_A": "c1", "c_root_id_B": "c2", "created_at_utc_A": 5, "created_at_utc_B": 9}
    row |= {"score_A": a, "score_B": b, "human_ref_A": "To bind &amp; lift.", "human_ref_B": "No idea."}
    return row | {"labels": label, "seconds_difference": 4.0, "score_ratio": max(a, b) / min(a, b)} | more


def node(name: str, role: str, text: str | None, *replies: dict[str, Any], **more: Any) -> dict[str, Any]:
    made = {"message_id": name, "parent_id": None, "user_id": "u", "role": role, "text": text, "lang": "en"}
    made |= {"review_result": True, "deleted": False, "rank": None, "synthetic": False, "emojis": {}}
    for reply in replies:
        reply["parent_id"] = name
    return made | {"replies": list(replies)} | more


def tree() -> dict[str, Any]:
    return node(
        "m1",
        "prompter",
        "Name a river.",
        node("m2", "assistant", "The Elbe.", node("m3", "prompter", "Where?"), rank=1),
        node(
            "m4",
            "assistant",
            "The Rhine, for one.",
            node("m5", "prompter", "And a lake?", node("m6", "assistant", "Lake Como.", rank=0)),
            rank=0,
        ),
        node("m7", "assistant", "Gone.", rank=2, deleted=True),
    )


def flat(root: dict[str, Any]) -> list[dict[str, Any]]:
    """The same tree, one message a row."""
    out = [{**root, "message_tree_id": "m1", "tree_state": "ready_for_export"}]
    del out[0]["replies"]
    for reply in root["replies"]:
        out += flat(reply)
    return out


TREE_READ = (
    ["Name a river.", "Where?", "And a lake?"],
    [("The Elbe.", "The Rhine, for one.", 0.0)],
    [("The Rhine, for one.", "The Elbe.", 1.0)],
    ["The Rhine, for one.", "Lake Como."],
)


def webgpt(one: float) -> dict[str, Any]:
    question = {"dataset": "own", "id": "q", "full_text": "What floats?"}
    quotes = {"title": ["t"], "extract": ["e"]}
    tokens = {"prefix": [1, 2], "completion": [3]}
    row = {
        "question": question,
        "quotes_0": quotes,
        "quotes_1": quotes,
        "tokens_0": tokens,
        "tokens_1": tokens,
    }
    return row | {"answer_0": "Wood [1, 2].", "score_0": one, "answer_1": "Ice[1] does.", "score_1": -one}


def feedback(rating: str | None) -> dict[str, Any]:
    aspects = ("instruction_following", "honesty", "truthfulness", "helpfulness")
    return {aspect: {"Rating": rating or "N/A", "Rationale": "r"} for aspect in aspects}


def ultrafeedback(*ratings: str | None) -> dict[str, Any]:
    completions = [
        {"model": f"m{at}", "principle": "honesty", "custom_system_prompt": "s", "response": f"answer {at}"}
        | {"annotations": feedback(rating), "critique": "c", "overall_score": 10.0, "fine-grained_score": 1.0}
        for at, rating in enumerate(ratings)
    ]
    row = {"source": "own", "instruction": "Say it.", "models": ["m0"], "completions": completions}
    return row | {"correct_answers": [], "incorrect_answers": []}


def helpsteer(prompt: str, response: str, helpful: int) -> dict[str, Any]:
    more = {"correctness": 3, "coherence": 4, "complexity": 1, "verbosity": 2}
    return {"prompt": prompt, "response": response, "helpfulness": helpful, **more}


def summary(text: str) -> dict[str, Any]:
    return {"text": text, "policy": "sup4", "note": None}


INFO = {"id": "t3", "post": "We moved.", "title": "Move", "subreddit": "life", "site": None, "article": None}
TASK = "SUBREDDIT: r/life\n\nTITLE: Move\n\nPOST: We moved.\n\nTL;DR:"
NO_PAIR = {"not two answers": 1}


def instruction(family: str, row: dict[str, Any], prompt: str = "Add.\n\n1 and 2", answer: str = "3") -> Case:
    return Case(family, [row], [prompt], [], [], [answer], NO_PAIR)


CASES = [
    Case(
        "shp",
        [shp(9, 3, 1), shp(4, 8, 0), shp(5, 5, 1)],
        ["Why > 3 eggs?"] * 3,
        [
            ("To bind & lift.", "No idea.", 1.0),
            ("To bind & lift.", "No idea.", 0.0),
            ("To bind & lift.", "No idea.", 0.5),
        ],
        [
            ("To bind & lift.", "No idea.", 1.0),
            ("No idea.", "To bind & lift.", 1.0),
            ("To bind & lift.", "No idea.", 0.5),
        ],
        ["To bind & lift.", "No idea."],
        {},
    ),
    Case(
        "oasst_trees",
        [{"message_tree_id": "m1", "tree_state": "ready_for_export", "prompt": tree()}],
        *TREE_READ,
        {"deleted": 1, "not two answers": 2},
    ),
    Case("oasst_messages", flat(tree()), *TREE_READ, {"deleted": 1, "not two answers": 2}),
    Case(
        "webgpt",
        [webgpt(-0.75), webgpt(0.0)],
        ["What floats?"] * 2,
        [("Wood.", "Ice does.", 0.0), ("Wood.", "Ice does.", 0.5)],
        [("Ice does.", "Wood.", 1.0), ("Wood.", "Ice does.", 0.5)],
        ["Ice does."],
        {},
    ),
    Case(
        "summaries",
        [{"info": INFO, "summaries": [summary(" Long."), summary(" Short.")], "choice": 1, "worker": "w"}],
        [TASK],
        [("Long.", "Short.", 0.0)],
        [("Short.", "Long.", 1.0)],
        ["Short."],
        {},
    ),
    Case(
        "summary_axes",
        [
            {
                "info": {**INFO, "post": None, "article": "News."},
                "summary": summary(" N.") | {"axes": {"overall": 6}},
            }
        ],
        ["News.\n\nTL;DR:"],
        [],
        [],
        ["N."],
        NO_PAIR,
    ),
    Case(
        "stack_exchange",
        [
            {
                "qid": 1,
                "question": "<p>How do I <b>sort</b>?</p>\n<pre><code>x = [2,\n  1]\n</code></pre>",
                "answers": [
                    {
                        "answer_id": 1,
                        "text": "<p>Use <code>sorted</code>.</p>",
                        "pm_score": 3,
                        "selected": True,
                    },
                    {"answer_id": 2, "text": "<p>By hand &amp; eye.</p>", "pm_score": 1, "selected": False},
                    {"answer_id": 3, "text": "<ul><li>One</li><li>Two</li></ul>", "pm_score": 1},
                ],
                "date": "2020/01/02",
                "metadata": ["https://example.org"],
            }
        ],
        ["How do I sort?\n\n```\nx = [2,\n  1]\n```"],
        [
            ("Use `sorted`.", "By hand & eye.", 1.0),
            ("Use `sorted`.", "- One\n- Two", 1.0),
            ("By hand & eye.", "- One\n- Two", 0.5),
        ],
        [("Use `sorted`.", "By hand & eye.", 1.0), ("Use `sorted`.", "- One\n- Two", 1.0)],
        ["Use `sorted`."],
        {"a tie": 1},
    ),
    Case(
        "ultrafeedback",
        [ultrafeedback("2", "5", None)],
        ["Say it."],
        [("answer 0", "answer 1", 0.0), ("answer 0", "answer 2", None), ("answer 1", "answer 2", None)],
        [("answer 1", "answer 0", 1.0)],
        [],
        {"not said which": 2},
    ),
    Case(
        "gpt4_llm",
        [
            {
                "user_input": "A task.\n\n### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:",
                "completion_a": "3",
                "responses_and_scores": [
                    {"response": "3", "source": "gpt4", "score": 9.0},
                    {"response": "", "source": "icm-1.3b", "score": 1.0},
                    {"response": "12", "source": "text-davinci-003", "score": 4.0},
                ],
            }
        ],
        ["Add.\n\n1 and 2"],
        [("3", "12", 1.0)],
        [("3", "12", 1.0)],
        ["3"],
        {"an answer is empty": 2},
    ),
    Case(
        "pku_saferlhf",
        [
            {"prompt": "Q", "response_0": "one", "response_1": "two", "is_response_0_safe": True}
            | {"is_response_1_safe": False, "better_response_id": 1, "safer_response_id": 0}
        ],
        ["Q"],
        [("one", "two", 0.0)],
        [("two", "one", 1.0)],
        ["two"],
        {},
    ),
    Case(
        "helpsteer2",
        [helpsteer("Q", "one", 1), helpsteer("Q", "two", 4), helpsteer("R", "three", 2)],
        ["Q", "R"],
        [("one", "two", 0.0)],
        [("two", "one", 1.0)],
        ["two", "three"],
        NO_PAIR,
    ),
    Case(
        "helpsteer2_preference",
        [
            {
                "split": "train",
                "prompt": "Hi<extra_id_1>Assistant\nYes?\n<extra_id_1>User\nQ",
                "response_1": "one",
            }
            | {"response_2": "two", "preference_strength": -2}
        ],
        ["Q"],
        [("one", "two", 1.0)],
        [("one", "two", 1.0)],
        ["one"],
        {},
    ),
    Case(
        "helpsteer3",
        [
            {"domain": "code", "language": "python", "context": [user("Hi"), said("Yes?"), user("Q")]}
            | {"response1": "one", "response2": "two", "overall_preference": 3, "individual_preference": []}
        ],
        ["Q"],
        [("one", "two", 0.0)],
        [("two", "one", 1.0)],
        ["two"],
        {},
    ),
    Case(
        "ranked",
        [{"prompt": "Q", "ranked": ["best", "middle", "worst"], "weight": 0.5}],
        ["Q"],
        [("best", "middle", 1.0), ("best", "worst", 1.0), ("middle", "worst", 1.0)],
        [("best", "middle", 1.0), ("best", "worst", 1.0), ("middle", "worst", 1.0)],
        ["best"],
        {},
    ),
    Case(
        "scored",
        [
            {"prompt": "\n\nHuman: Q\n\nAssistant:", "answers": ["a", "b", "c"], "scores": [1, 7, 1]},
            {"prompt": "R", "answers": ["d", "e"], "ranks": [1, 2]},
        ],
        ["Q", "R"],
        [("a", "b", 0.0), ("a", "c", 0.5), ("b", "c", 1.0), ("d", "e", 1.0)],
        [("b", "a", 1.0), ("b", "c", 1.0), ("d", "e", 1.0)],
        ["b", "d"],
        {"tie": 1},
    ),
    Case(
        "nectar",
        [
            {"prompt": "\n\nHuman: Q\n\nAssistant: ", "turns": 1, "num_responses": 3, "good_natured": True}
            | {
                "answers": [
                    {"answer": f" {x}", "model": x, "rank": r}
                    for x, r in (("a", 2.0), ("b", 1.0), ("c", 3.0))
                ]
            }
        ],
        ["Q"],
        [("a", "b", 0.0), ("a", "c", 1.0), ("b", "c", 1.0)],
        [("b", "a", 1.0), ("a", "c", 1.0), ("b", "c", 1.0)],
        ["b"],
        {},
    ),
    Case(
        "rewardbench",
        [
            {"prompt": "Q", "chosen": "one", "chosen_model": "m", "rejected": "two", "rejected_model": "n"}
            | {"subset": part, "id": 0}
            for part in ("chat", "code")
        ],
        ["Q", "Q"],
        [("one", "two", 1.0)] * 2,
        [("one", "two", 1.0)] * 2,
        ["one", "one"],
        {},
    ),
    Case(
        "rewardbench2",
        [
            {"id": "7", "prompt": "Q", "chosen": ["r"], "rejected": ["w", "x"], "num_correct": 1}
            | {"total_completions": 3, "subset": "Math", "models": ["m"]}
        ],
        ["Q"],
        [("r", "w", 1.0), ("r", "x", 1.0), ("w", "x", 0.5)],
        [("r", "w", 1.0), ("r", "x", 1.0)],
        ["r"],
        {"a tie": 1},
    ),
    Case(
        "scored_pair",
        [
            {
                "prompt": "Q",
                "prompt_id": "0",
                "chosen": [user("Q"), said("one")],
                "rejected": [user("Q"), said("two")],
            }
            | {"messages": [user("Q"), said("one")], "score_chosen": high, "score_rejected": 5.0}
            for high in (8.5, 5.0)
        ],
        ["Q", "Q"],
        [("one", "two", 1.0), ("one", "two", 0.5)],
        [("one", "two", 1.0), ("one", "two", 0.5)],
        ["one"],
        {},
    ),
    Case(
        "openai_preference",
        [
            {"input": {"messages": [user("Q")], "tools": [], "parallel_tool_calls": True}}
            | {"preferred_output": [said("one")], "non_preferred_output": [said("two")]}
        ],
        ["Q"],
        [("one", "two", 1.0)],
        [("one", "two", 1.0)],
        ["one"],
        {},
    ),
    Case(
        "nemo_rl",
        [
            {"context": [user("Q")], "task_name": "t"}
            | {"completions": [{"rank": r, "completion": [said(x)]} for r, x in ((1, "one"), (0, "two"))]}
        ],
        ["Q"],
        [("one", "two", 0.0)],
        [("two", "one", 1.0)],
        ["two"],
        {},
    ),
    Case(
        "unpaired",
        [{"prompt": [user("Q")], "completion": [said("one")], "label": label} for label in (True, False)],
        ["Q", "Q"],
        [],
        [],
        ["one"],
        {"not two answers": 2},
    ),
    Case(
        "red_team",
        [
            {
                "min_harmlessness_score_transcript": -1.5,
                "transcript": "\n\nHuman: Q\n\nAssistant: No.\n\nHuman: R",
            }
            | {"num_params": "1B", "model_type": "plain lm", "rating": 2.0, "tags": None}
        ],
        ["Q"],
        [],
        [],
        [],
        NO_PAIR,
    ),
    Case(
        "real_toxicity",
        [
            {"filename": "0.txt", "begin": 0, "end": 9, "challenging": False}
            | {
                "prompt": {"text": "The cat", "toxicity": 0.1},
                "continuation": {"text": " sat", "toxicity": 0.1},
            }
        ],
        ["The cat"],
        [],
        [],
        [],
        NO_PAIR,
    ),
    Case(
        "hhh_438",
        [
            {
                "prompt": "Which? Options: (A) [[[one]]] (B) [[[two]]]",
                "corrects": [" (A)"],
                "incorrects": [" (B)"],
            }
            | {f"text_{kind}": f"\n\nHuman: Q\n\nAssistant: {x}" for kind, x in SIDES_438.items()}
        ],
        ["Q"],
        [("one", "two", 1.0)],
        [("one", "two", 1.0)],
        ["one"],
        {},
    ),
    Case(
        "choices",
        [{"input": "Q", "targets": {"choices": ["one", "two"], "labels": [1, 0]}}],
        ["Q"],
        [("one", "two", 1.0)],
        [("one", "two", 1.0)],
        ["one"],
        {},
    ),
    Case(
        "truthfulqa",
        [{"type": "t", "category": "c", "question": "Q", "best_answer": "one", "incorrect_answers": ["two"]}],
        ["Q"],
        [("one", "two", 1.0)],
        [("one", "two", 1.0)],
        ["one"],
        {},
    ),
    Case(
        "unnatural",
        [
            {
                "instruction": "Add.",
                "instances": [
                    {
                        "instruction_with_input": "Add 1 and 2.",
                        "input": "1, 2",
                        "constraints": "",
                        "output": "3",
                    }
                ],
                "reformulations": [
                    {
                        "instruction": "Sum up",
                        "instruction_with_input": "Sum up 1, 2",
                        "input": "1, 2",
                        "output": "3",
                    }
                ],
            }
        ],
        ["Add 1 and 2.", "Sum up 1, 2"],
        [],
        [],
        ["3", "3"],
        {"not two answers": 2},
    ),
    Case(
        "super_natural",
        [
            {
                "Contributors": ["us"],
                "Definition": ["Add."],
                "Positive Examples": [{"input": "1", "output": "1", "explanation": ""}],
                "Instances": [{"id": "t-1", "input": "1 and 2", "output": ["3", "three"]}],
            }
        ],
        ["Add.\n\n1 and 2"],
        [],
        [],
        ["3"],
        NO_PAIR,
    ),
    instruction("alpaca", {"instruction": "Add.", "input": "1 and 2", "output": "3", "text": "all of it"}),
    instruction("alpaca", {"instruction": "Hi.", "input": "<noinput>", "output": "3"}, "Hi."),
    instruction("gpteacher", {"instruction": "Add.", "input": "1 and 2", "response": "3"}),
    instruction("dolly", {"instruction": "Add.", "context": "1 and 2", "response": "3", "category": "qa"}),
    instruction(
        "oasst_instruction",
        {"INSTRUCTION": "Add.", "RESPONSE": "3", "SOURCE": "s", "METADATA": {"CONTEXT": "1 and 2"}},
    ),
    instruction("flan", {"inputs": "Add.\n\n1 and 2", "targets": "3", "task": "sums"}),
    Case(
        "sharegpt",
        [
            {"id": "x_0", "conversations": [{"from": f, "value": v} for f, v in turns]}
            for turns in (
                (("system", "S"), ("human", "P"), ("gpt", "p"), ("human", "Q"), ("gpt", "one")),
                (("gpt", "first"), ("human", "P")),
                (),
                (("human", "R"),),
            )
        ],
        ["Q", "R"],
        [],
        [],
        ["one"],
        {"not two answers": 2, "begins with an answer": 1, "is empty": 1},
    ),
    Case(
        "oig",
        [{"text": "<human>: P\n<bot>: p\n<human>: Q\nmore\n<bot>: one", "metadata": {"source": "own"}}],
        ["Q\nmore"],
        [],
        [],
        ["one"],
        NO_PAIR,
    ),
]
