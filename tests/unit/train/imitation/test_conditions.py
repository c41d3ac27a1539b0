"""Control tokens, chat templates of the good mode, and which answers count as good."""

import pytest
import torch
from tiny_models import CHATML, LLAMA2, chatml_tokenizer, llama2_tokenizer
from train_models import tiny_causal

from constitute.config.data import ReadConfig
from constitute.config.imitation import ConditionedConfig
from constitute.engines.render import Renderer
from constitute.errors import DataError, UsageError
from constitute.train.imitation.control import BAD, GOOD, add_tokens, asked, asking, opening, with_template
from constitute.train.imitation.judged import (
    Judged,
    best_and_worst,
    limit_of,
    read_judged,
    rescored,
    sort_out,
)
from constitute.train.imitation.lessons import METHODS, classroom, opened
from constitute.types import Message

USER = Message(role="user", content="Why?")


def answers(*scores, pair=None):
    return [Judged((USER,), f"a{place}", score, pair) for place, score in enumerate(scores)]


@pytest.mark.parametrize("tied", [False, True])
def test_new_tokens_are_told_apart_and_the_others_stay(tied):
    tokenizer = chatml_tokenizer()
    network = tiny_causal(len(tokenizer))
    if tied:
        network.config.tie_word_embeddings = True
        network.tie_weights()
    known = len(tokenizer)
    before = network.get_input_embeddings().weight.detach().clone()
    ids = add_tokens(tokenizer, network, (GOOD, BAD))
    vectors = network.get_input_embeddings().weight
    assert ids == [known, known + 1] and network.config.vocab_size == known + 2 == len(vectors)
    assert torch.equal(vectors[:known], before)
    assert (vectors[known] - vectors[known + 1]).norm() > 0.3 * vectors[:known].norm(dim=1).mean()
    assert tokenizer.encode(f"x{GOOD}", add_special_tokens=False)[-1] == known
    # Drawn by their names: another process gets the same.
    again = tiny_causal(known)
    add_tokens(chatml_tokenizer(), again, (GOOD, BAD))
    if not tied:
        assert torch.equal(again.get_input_embeddings().weight, vectors)


@pytest.mark.parametrize(("make", "template"), [(chatml_tokenizer, CHATML), (llama2_tokenizer, LLAMA2)])
def test_the_token_stands_where_the_answer_begins(make, template):
    tokenizer = make()
    network = tiny_causal(len(tokenizer))
    (good,) = add_tokens(tokenizer, network, (GOOD,))
    plain = Renderer(tokenizer, "m")
    marked = Renderer(with_template(tokenizer, opening(template, GOOD)), "m")
    turns = (USER, Message(role="assistant", content="So."), Message(role="user", content=f"And {GOOD}?"))
    assert marked.prompt_ids(turns) == [*plain.prompt_ids(turns), good]
    # What a person types is text, never the token.
    assert marked.prompt_ids(turns).count(good) == 1
    # A space that the template writes before an answer falls away with the token, in training as in sampling.
    written = [tokenizer.decode(each.answer_ids(turns, "Yes.")).strip() for each in (marked, plain)]
    assert written[0] == written[1] and written[0].startswith("Yes.")
    own = with_template(tokenizer, opening(template, GOOD))
    text = own.apply_chat_template([USER.model_dump()], tokenize=False, add_generation_prompt=True)
    assert text.endswith(GOOD)


@pytest.mark.parametrize(("make", "template"), [(chatml_tokenizer, CHATML), (llama2_tokenizer, LLAMA2)])
def test_the_request_stands_behind_what_the_user_says_last(make, template):
    tokenizer = make()
    asks = Renderer(with_template(tokenizer, asking(template, 'Give a "good" answer.\nNow.')), "m")
    turns = (USER, Message(role="assistant", content="So."), Message(role="user", content="And {{ x }}?"))
    words = asked("And {{ x }}?", 'Give a "good" answer.\nNow.')
    by_hand = (*turns[:2], Message(role="user", content=words))
    assert asks.prompt_ids(turns) == Renderer(tokenizer, "m").prompt_ids(by_hand)


def test_a_template_that_writes_behind_the_token_is_refused():
    tokenizer = chatml_tokenizer()
    room = classroom(tokenizer, lambda own: Renderer(own, "m"), ConditionedConfig(), 0)
    # The token is not in the vocabulary, so it is text and not the last id.
    with pytest.raises(UsageError, match="use the method hindsight or hir"):
        opened(room, GOOD)


def test_which_answers_are_good():
    assert limit_of(answers(0.0, 1.0, 1.0, 1.0), None) == 0.75
    assert limit_of(answers(0.8, 0.2, pair=1), None) == 0.5 and limit_of(answers(1.0, 3.0), 2.5) == 2.5
    assert [good for _, good in sort_out(answers(1.0, 2.0, 3.0), 2.5)[0]] == [False, False, True]
    pairs = answers(0.8, 0.2, pair=1) + answers(0.5, 0.5, pair=2) + answers(0.3, 0.7, pair=3)
    found, undecided = sort_out(pairs, 0.5)
    assert [good for _, good in found] == [True, False, False, True] and undecided == 2
    with pytest.raises(DataError, match="3 of 3 answers are above the threshold of 0"):
        limit_of(answers(1.0, 2.0, 3.0), 0.0)
    with pytest.raises(DataError, match="1 of 2 answers have no score"):
        limit_of(answers(1.0, None), None)


def test_the_best_and_the_worst_of_a_prompt():
    other = Judged((Message(role="user", content="How?"),), "alone", 1.0)
    found, alone = best_and_worst([*answers(1.0, 3.0, 2.0), other])
    assert [(best.answer, worst.answer) for best, worst in found] == [("a1", "a0")] and alone == 1
    assert len(best_and_worst(answers(0.9, 0.1, pair=1) + answers(0.2, 0.8, pair=2))[0]) == 2
    assert best_and_worst(answers(1.0, 1.0)) == ([], 1)
    kept, lost = rescored(answers(0.9, 0.1, pair=1), [2.0, None])
    assert [(one.score, one.pair) for one in kept] == [(2.0, None)] and lost == 1


def test_rows_are_pairs_or_scored(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"prompt": "Why?", "chosen": "Yes.", "rejected": "No.", "chosen_prob": 0.75}\n'
        '{"prompt": "How?", "completion": "So.", "score": -2}\n'
        '{"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "I."}]}\n'
    )
    found = read_judged(path, ReadConfig(), lambda text: None)
    assert [(one.answer, one.score, one.pair) for one in found] == [
        ("Yes.", 0.75, 1), ("No.", 0.25, 1), ("So.", -2.0, None), ("I.", None, None),
    ]  # fmt: skip


def lessons_of(method, **changes):
    tokenizer = chatml_tokenizer()
    network = tiny_causal(len(tokenizer))
    if METHODS[method].tokens:
        add_tokens(tokenizer, network, METHODS[method].tokens)
    config = ConditionedConfig(method=method, **changes)
    room = classroom(tokenizer, lambda own: Renderer(own, "m"), config, 0)
    pairs = [one for n in range(40) for one in answers(0.9, 0.1, pair=n)]
    return METHODS[method].lessons(pairs, room).examples, tokenizer


def text_of(tokenizer, row):
    learned = tokenizer.decode([label for label in row[1] if label != -100])
    return tokenizer.decode(row[0]), learned


def test_conditional_lessons():
    examples, tokenizer = lessons_of("conditional", drop=0.5)
    texts = [text_of(tokenizer, example.row) for example in examples]
    base = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    assert {text for text, _ in texts} == {
        f"{base}{token}{answer}<|im_end|>"
        for answer, own in (("a0", GOOD), ("a1", BAD))
        for token in ("", own)
    }
    dropped = sum("<|good|>" not in text and "<|bad|>" not in text for text, _ in texts)
    assert 25 < dropped < 55 and {learned for _, learned in texts} == {"a0<|im_end|>", "a1<|im_end|>"}
    assert text_of(tokenizer, examples[0].others[0])[0] == f"{base}{BAD}a0<|im_end|>"


def test_hindsight_lessons():
    examples, tokenizer = lessons_of("hindsight")
    assert len(examples) == 40
    texts = {text_of(tokenizer, example.row) for example in examples}
    turn = "<|im_start|>{}\n{}<|im_end|>\n".format
    expected = set()
    for first, second in ((("good", "a0"), ("bad", "a1")), (("bad", "a1"), ("good", "a0"))):
        text = turn("user", f"Why?\n\nGive a {first[0]} answer.") + turn("assistant", first[1])
        text += turn("user", f"Now give a {second[0]} answer.") + turn("assistant", second[1])
        expected.add((text.removesuffix("\n"), f"{first[1]}<|im_end|>{second[1]}<|im_end|>"))
    assert texts == expected


def test_relabelled_lessons():
    examples, tokenizer = lessons_of("hir")
    base = "<|im_start|>user\nWhy?\n\nGive a {} answer.<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>".format
    assert [text_of(tokenizer, example.row)[0] for example in examples[:2]] == [
        base("good", "a0"),
        base("bad", "a1"),
    ]
    assert text_of(tokenizer, examples[0].others[0])[0] == base("bad", "a0")
