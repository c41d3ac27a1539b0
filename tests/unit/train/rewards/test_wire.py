"""What other trainers send to be rewarded, field by field, and what is refused with the row's number."""

import json

import pytest

from constitute.errors import DataError
from constitute.train.rewards.service import payload
from constitute.train.rewards.wire import answer, classified, prompt_label, read_classify, read_request
from constitute.types import Completion, Message, Prompt

PROMPT = Prompt(
    id="p7", messages=(Message(role="system", content="Be kind."), Message(role="user", content="Why?"))
)
RENDERED = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"


def test_our_own_client_hands_over_all_that_a_judge_draws_by():
    (row,) = read_request(payload([(PROMPT, Completion(text="So."))]))
    assert row.prompt == PROMPT and row.answer == "So." and row.query is None


def test_a_query_is_cut_at_its_prompt_and_a_label_gives_the_messages():
    body = {
        "query": [RENDERED + "So.<|im_end|>", "…cut off So."],
        "prompts": [RENDERED, RENDERED],
        "labels": [prompt_label(PROMPT), "42"],
    }
    first, second = read_request(body)
    assert first.prompt == PROMPT and first.tail == "So.<|im_end|>" and first.query == body["query"][0]
    assert second.prompt is None and second.tail is None and second.query == "…cut off So."


def test_plain_prompts_with_responses():
    conversation = [{"role": "user", "content": "Why?"}]
    rows = read_request({"prompts": ["Why?", conversation], "responses": ["So.", "No."]})
    assert [row.answer for row in rows] == ["So.", "No."]
    assert rows[0].prompt == rows[1].prompt and rows[0].prompt.messages[0].content == "Why?"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([], "JSON object"),
        ({}, "needs `messages`"),
        ({"query": "one text"}, "`query` is a str"),
        ({"query": ["a", "b"], "prompts": ["a"]}, "2 query, 1 prompts"),
        ({"query": []}, "0 rows"),
        ({"query": ["a"] * 4097}, "4097 rows"),
        ({"query": ["a", None]}, "row 1: `query` is None"),
        ({"messages": [[{"role": "user", "content": "a"}]]}, "row 0: `messages` must be a prompt and end"),
        ({"messages": [[{"role": "boss", "content": "a"}]]}, "row 0: role"),
        ({"messages": ["hello"]}, "row 0: `messages` must be a prompt and end"),
        ({"prompts": ["a"], "responses": [3]}, "row 0: `responses` must be a text"),
    ],
)
def test_what_cannot_be_read_is_named(body, said):
    with pytest.raises(DataError, match=said.replace("(", r"\(")):
        read_request(body)


def test_classify_takes_one_text_or_several():
    assert [row.query for row in read_classify({"model": "rm", "input": "a"})] == ["a"]
    assert [row.query for row in read_classify({"input": ["a", "b"]})] == ["a", "b"]
    with pytest.raises(DataError, match="`input`"):
        read_classify({"input": [1]})


def test_what_clients_read_of_an_answer():
    told = json.loads(json.dumps(answer([1.5], {"judge": [3.0]})))
    # OpenRLHF takes `scores`, else `rewards`, and logs `extra_logs`.
    assert told == {"rewards": [1.5], "scores": [1.5], "extra_logs": {"judge": [3.0]}}
    # verl reads output["data"][-1]["probs"][-1].
    assert classified([0.25], "rm")["data"][-1]["probs"][-1] == 0.25
