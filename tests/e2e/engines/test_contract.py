"""What every engine promises, asked of all four; numbers are compared with a plain transformers forward."""

from __future__ import annotations

import asyncio
import math

import pytest
from tolerance import LOGPROB

from constitute.config import EngineConfig
from constitute.engines import open_engine
from constitute.engines.base import Engine, RolloutEngine, as_bytes
from constitute.engines.choosing import choose_by_ids
from constitute.engines.render import Renderer
from constitute.engines.tokenizer import load_tokenizer
from constitute.errors import PromptTooLong, RowError
from constitute.threads import threads_set_to
from constitute.types import Message, Request, SamplingParams

torch = pytest.importorskip("torch")
KINDS = [
    "fake",
    "transformers",
    pytest.param("vllm", marks=pytest.mark.vllm),
    pytest.param("openai", marks=pytest.mark.vllm),
]
EXACT = KINDS[1:]
ROLLOUT = KINDS[1:3]
LABELS = ("A", "B", "A or B")


def _open(kind: str, request) -> Engine:
    if kind == "fake":
        return open_engine("fake", EngineConfig(kind="fake", context_length=512))
    if kind == "openai":
        return open_engine(request.getfixturevalue("vllm_server_url"), EngineConfig())
    return request.getfixturevalue(f"{kind}_engine")


@pytest.fixture(params=KINDS)
def engine(request):
    return _open(request.param, request)


@pytest.fixture(params=EXACT)
def exact(request):
    return _open(request.param, request)


@pytest.fixture(params=ROLLOUT)
def rollout(request):
    return _open(request.param, request)


@pytest.fixture(scope="module")
def renderer(model_folder):
    return Renderer(load_tokenizer(str(model_folder)), "reference")


def _reference(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def reference(model_folder):
    return _reference(model_folder)


def logprobs_of(model, context, completion) -> list[float]:
    """log P of each completion token under `model`, by one unpadded forward pass."""
    with torch.no_grad():
        scores = model(torch.tensor([[*context, *completion]])).logits[0].float().log_softmax(-1)
    return [float(scores[len(context) + i - 1, token]) for i, token in enumerate(completion)]


def ask(text: str = "How do I cook rice well?", *, prefill: str = "", **sampling) -> Request:
    settings = SamplingParams(**{"max_tokens": 16, **sampling})
    return Request(messages=(Message(role="user", content=text),), prefill=prefill, sampling=settings)


def test_implements_the_protocol(engine):
    assert isinstance(engine, Engine)
    assert engine.context_length is not None and engine.context_length >= 256
    assert engine.identity.fingerprint
    assert engine.rendered(ask()) == engine.rendered(ask(max_tokens=3))
    ids = engine.prompt_ids(ask())
    assert (ids is None) == (engine.identity.engine == "fake")
    assert ids is None or engine.rendered(ask()) == as_bytes(ids)
    assert engine.rendered(ask()) != engine.rendered(ask("Another question?"))


async def test_temperature_zero_and_seeds_repeat(engine):
    greedy = [await engine.generate(ask(temperature=0.0)) for _ in range(2)]
    assert greedy[0] == greedy[1]
    seeded = [await engine.generate(ask(temperature=1.0, seed=5)) for _ in range(2)]
    assert seeded[0] == seeded[1]
    others = await asyncio.gather(*(engine.generate(ask(temperature=1.5, seed=seed)) for seed in range(12)))
    assert len({other.token_ids for other in others}) > 3


async def test_length_ends_a_completion_with_length(engine):
    completion = await engine.generate(
        ask("Tell me about rice and its history", temperature=0.0, max_tokens=2)
    )
    assert completion.finish_reason == "length"
    assert len(completion.token_ids) == 2
    assert completion.prompt_tokens is not None and completion.prompt_tokens > 5


async def test_a_stop_string_ends_the_text_before_it(engine):
    whole = (await engine.generate(ask(temperature=0.0, max_tokens=12))).text
    words = [word for word in whole.split() if word.isascii() and word.isprintable() and len(word) > 1]
    stop = words[-1] if words else whole[len(whole) // 2]
    stopped = await engine.generate(ask(temperature=0.0, max_tokens=12, stop=(stop,)))
    assert stopped.finish_reason == "stop"
    assert stopped.text == whole[: whole.index(stop)]


@pytest.mark.parametrize(("prefill", "labels"), [("", LABELS), ("The answer is", (" A", " B", " A or B"))])
async def test_choices_are_exact(exact, renderer, reference, prefill, labels):
    request = ask("Answer with A or B.", prefill=prefill)
    choice = await exact.choose(request, labels)
    context = renderer.ids(request)
    for label, value in zip(labels, choice.logprobs, strict=True):
        ids = renderer.label_ids(request, label)
        assert value == pytest.approx(sum(logprobs_of(reference, context, ids)), **LOGPROB)
    assert len(renderer.label_ids(request, labels[2])) > 1


@pytest.mark.parametrize("prefill", ["", "The answer is"])
async def test_given_answers_are_scored_exactly(exact, renderer, reference, prefill):
    """Many at once, of unlike lengths, some with a prefix that the engine has kept from another question."""
    answers = [f"{prefill and ' '}Rice {'is good ' * n}and done" for n in range(8)]
    request = ask("How do I cook rice well?" * 6, prefill=prefill)
    await exact.generate(request)
    scores = await asyncio.gather(*(exact.score(request, answer) for answer in answers))
    again = await exact.score(request, answers[3])
    context = renderer.ids(request)
    for answer, score in zip(answers, scores, strict=True):
        ids = renderer.label_ids(request, answer)
        assert score.token_ids == ids
        assert score.logprobs == pytest.approx(logprobs_of(reference, context, ids), **LOGPROB)
    assert again.logprobs == pytest.approx(scores[3].logprobs, **LOGPROB)


@pytest.mark.parametrize("options", [("A", "B"), tuple(str(rating) for rating in range(1, 11))])
async def test_spelled_options_are_exact(exact, renderer, reference, options):
    """The reference model reads the same plan, its next tokens one by one."""
    request = ask("Answer with one of them.")
    choice = await exact.choose(request, options, spelled=True)

    async def following(prompt, tokens):
        return {token: logprobs_of(reference, prompt, (token,))[0] for token in tokens}

    wanted = await choose_by_ids(renderer, request, options, following, limit=None, spelled=True)
    assert choice.logprobs == pytest.approx(wanted.logprobs, **LOGPROB)


async def test_a_label_that_has_no_tokens_of_its_own_fails_the_row(exact, renderer):
    request = ask("Answer with A or B.", prefill="The answer is ")
    context, whole = (
        renderer.ids(request),
        renderer.ids(ask("Answer with A or B.", prefill="The answer is A")),
    )
    if whole[: len(context)] == context:
        pytest.skip("this tokenizer keeps the space apart")
    with pytest.raises(RowError, match="end the prefill at a token boundary"):
        await exact.choose(request, ("A", "B"))


async def test_choices_are_probabilities(engine):
    choice = await engine.choose(ask("Answer with A or B."), ("A", "B"))
    assert choice.labels == ("A", "B")
    assert all(value is not None and value <= 0.0 for value in choice.logprobs)
    assert choice.mass == pytest.approx(sum(math.exp(value) for value in choice.logprobs), rel=1e-9)
    assert 0.0 < choice.mass <= 1.0
    again = await engine.choose(ask("Answer with A or B."), ("B", "A"))
    assert again.logprobs == pytest.approx(choice.logprobs[::-1], **LOGPROB)


async def test_a_prompt_beyond_the_context_names_both_numbers(engine):
    text = "rice is good " * engine.context_length
    with pytest.raises(
        PromptTooLong, match=rf"prompt is \d+ tokens long and the context holds {engine.context_length}"
    ):
        await engine.generate(ask(text))
    with pytest.raises(PromptTooLong):
        await engine.choose(ask(text), ("A", "B"))
    with pytest.raises(PromptTooLong):
        await engine.score(ask(), text)
    assert (await engine.generate(ask(temperature=0.0))).token_ids


async def test_a_prefill_is_continued(exact, renderer, reference):
    request = ask(prefill="Rice is", temperature=0.0, max_tokens=4)
    completion = await exact.generate(request)
    context = renderer.ids(request)
    assert completion.prompt_tokens == len(context)
    with torch.no_grad():
        expected = int(reference(torch.tensor([context])).logits[0, -1].argmax())
    assert completion.token_ids[0] == expected


async def test_control_tokens_in_a_message_stay_text(exact, renderer):
    names = [name for name in renderer.tokenizer.convert_ids_to_tokens(sorted(renderer.control)) if name]
    bare = sum(token in renderer.control for token in renderer.ids(ask("x")))
    for name in names:
        request = ask(f"one {name} two{name}", temperature=0.0, max_tokens=2)
        ids = renderer.ids(request)
        assert sum(token in renderer.control for token in ids) == bare
        assert exact.rendered(request) == as_bytes(ids)
        assert (await exact.generate(request)).prompt_tokens == len(ids)


async def test_two_hundred_at_once_answer_as_one_by_one(engine):
    def question(number: int) -> Request:
        return ask(f"What is {number} and why?", temperature=1.0, seed=number, max_tokens=6 + number % 7)

    async def both(number: int):
        completion = await engine.generate(question(number))
        return completion, await engine.choose(question(number), LABELS)

    crowd = await asyncio.gather(*(both(number) for number in range(200)))
    assert len(crowd) == 200
    for number in range(0, 200, 25):
        completion, choice = await both(number)
        assert completion == crowd[number][0]
        assert choice.logprobs == pytest.approx(crowd[number][1].logprobs, **LOGPROB)


async def test_cancelling_one_leaves_the_others(engine):
    tasks = [asyncio.ensure_future(engine.generate(ask(temperature=0.0, max_tokens=40))) for _ in range(6)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert len({completion.text for completion in done[1:]}) == 1


PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12, 13], [14, 15, 16, 17]]


def test_rollouts_score_as_the_reference_does(rollout, reference):
    assert isinstance(rollout, RolloutEngine)
    sampling = SamplingParams(max_tokens=8, temperature=0.7, seed=3)
    completions = rollout.generate_ids(PROMPTS, sampling, logprobs=True)
    assert completions == rollout.generate_ids(PROMPTS, sampling, logprobs=True)
    assert rollout.generate_ids(PROMPTS, sampling, logprobs=False)[0].logprobs == ()
    scores = rollout.score_ids(PROMPTS, [completion.token_ids for completion in completions])
    for prompt, completion, score in zip(PROMPTS, completions, scores, strict=True):
        expected = logprobs_of(reference, prompt, completion.token_ids)
        assert list(completion.logprobs) == pytest.approx(expected, **LOGPROB)
        assert score == pytest.approx(expected, **LOGPROB)


def _yield_and_spoil(model):
    """Checkpoint tensors that are overwritten and freed as soon as the next one is asked for.

    A tied output layer is not among them, as it is in no checkpoint: the engine has to derive it.
    """
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    for name, tensor in model.state_dict().items():
        if name in tied:
            continue
        copy = tensor.detach().clone()
        yield name, copy
        copy.fill_(float("nan"))
        del copy


async def test_new_weights_answer_at_once_and_exactly(rollout, renderer, model_folder):
    model = _reference(model_folder)
    request = ask("Answer with A or B.")
    before, names = await rollout.choose(request, LABELS), {rollout.identity.fingerprint}
    try:
        for step in range(3):
            torch.manual_seed(step)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.1 * parameter.std().nan_to_num(0.1) * torch.randn_like(parameter))
            rollout.update_weights(_yield_and_spoil(model))
            completions = [[20, 21, 22, 23, 24], [25, 26], [27]]
            scores = rollout.score_ids(PROMPTS, completions)
            for prompt, completion, score in zip(PROMPTS, completions, scores, strict=True):
                assert score == pytest.approx(logprobs_of(model, prompt, completion), **LOGPROB)
            # The prompt is in the prefix cache from before: stale keys and values would show here.
            choice = await rollout.choose(request, LABELS)
            for label, value in zip(LABELS, choice.logprobs, strict=True):
                ids = renderer.label_ids(request, label)
                assert value == pytest.approx(sum(logprobs_of(model, renderer.ids(request), ids)), **LOGPROB)
            names.add(rollout.identity.fingerprint)
        assert len(names) == 4
        assert choice.logprobs != pytest.approx(before.logprobs, abs=1e-3)
    finally:
        rollout.update_weights(_yield_and_spoil(_reference(model_folder)))
    assert (await rollout.choose(request, LABELS)).logprobs == pytest.approx(before.logprobs, **LOGPROB)


def test_the_same_weights_again_and_again_change_no_digit(rollout, model_folder):
    """What an engine derives from its weights does not drift, push after push."""
    model = _reference(model_folder)
    completions = [[20, 21, 22, 23, 24], [25, 26], [27]]
    rollout.update_weights(_yield_and_spoil(model))
    first = rollout.score_ids(PROMPTS, completions)
    for _ in range(20):
        rollout.update_weights(_yield_and_spoil(model))
    assert rollout.score_ids(PROMPTS, completions) == first


@pytest.mark.parametrize("threads", [1, 2])
def test_weights_may_be_pushed_with_another_number_of_threads(rollout, model_folder, threads):
    """A trainer takes every core, and packed weights have a layout for each number of threads."""
    completions = [[20, 21, 22, 23, 24], [25, 26], [27]]
    rollout.update_weights(_yield_and_spoil(_reference(model_folder)))
    first = rollout.score_ids(PROMPTS, completions)
    with threads_set_to(threads):
        rollout.update_weights(_yield_and_spoil(_reference(model_folder)))
        inside = rollout.score_ids(PROMPTS, completions)
    after = rollout.score_ids(PROMPTS, completions)
    for found, expected in zip([*inside, *after], [*first, *first], strict=True):
        assert found == pytest.approx(expected, **LOGPROB)


async def test_weights_are_refused_while_requests_are_in_flight(rollout):
    task = asyncio.ensure_future(rollout.generate(ask(temperature=0.0)))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="in flight"):
        rollout.update_weights(iter(()))
    await task
