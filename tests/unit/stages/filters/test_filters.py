"""Each filter on rows made by hand: what it removes, what it keeps, and the words it says it in."""

from __future__ import annotations

from pathlib import Path

import pytest
from registry_examples import add_module, example

from constitute.config import FilterConfig
from constitute.config.data import FILTER_PRESETS
from constitute.errors import UsageError
from constitute.stages.filters import FILTERS, filter_named
from constitute.stages.filters.base import Shown, grams, words
from constitute.stages.filters.copies import contained, likeness
from constitute.stages.filters.language import language, scripts
from constitute.stages.filters.refusal import phrases
from constitute.stages.filters.repetition import repeated
from constitute.stages.filters.stage import chosen, removed
from constitute.types import CritiqueRevision, Message, Principle, Prompt, Response

CRITIQUE = "The answer gives away where the neighbour lives. It should leave the address out and say why."
ANSWER = "Your neighbour lives at number nine, behind the old mill."
PRINCIPLE = Principle(
    id="privacy",
    text="Keep to yourself what people have told you about where they live.",
    critique="Say whether the answer gives away where somebody lives.",
    revise="Rewrite the answer so that it gives nobody's address away to a stranger.",
    compare="Which answer keeps an address private?",
)


NOTHING = Shown()


def row(
    text: str, *, response: str = ANSWER, critique: str = CRITIQUE, prompt: str = "Where does she live?"
) -> Response:
    return Response(
        id="p/0",
        prompt=Prompt(id="p", messages=(Message(role="user", content=prompt),)),
        sample=0,
        response=response,
        steps=(CritiqueRevision(principle_id="privacy", critique=critique, revision=text),),
    )


def why(name: str, found: Response, shown: Shown = NOTHING, **settings: object) -> str:
    said = removed(found, FilterConfig.model_validate({"use": (name,), **settings}), shown)
    return said.removeprefix(f"removed by {name}: ")


def test_words_and_runs() -> None:
    assert words("Don’t stop, 2 x!") == ["don't", "stop", "2", "x"]
    assert words("犬と cat") == ["犬", "と", "cat"]
    assert grams(["a", "b", "c"], 2) == [("a", "b"), ("b", "c")]
    assert grams(["a"], 2) == [("a",)] and grams([], 2) == []


def test_likeness_by_hand() -> None:
    # Runs abc, bcd, cde against abc, bcd, cdx: two of three on each side.
    assert likeness("a b c d e", "a b c d x") == pytest.approx(2 * 2 / 6)
    assert contained("a b c d", "a b c d e") == 1.0 and contained("a b c d e", "a b c d") == 2 / 3
    assert likeness("", "") == 0.0


@pytest.mark.parametrize(
    ("text", "critique", "copied"),
    [
        (CRITIQUE, CRITIQUE, True),
        (CRITIQUE.upper() + "!", CRITIQUE, True),
        # One word of seventeen differs: 12 of 15 runs are shared.
        (CRITIQUE.replace("leave", "let"), CRITIQUE, True),
        # Cut after nine words.
        ("The answer gives away where the neighbour lives. It", CRITIQUE, True),
        ("I would rather not say where she lives.", CRITIQUE, False),
        # It takes up the wording that a critique proposes.
        ("I do not give out addresses.", f"Better: I do not give out addresses. {CRITIQUE}", False),
        # The critique only repeats the answer, and nothing was revised.
        (ANSWER, ANSWER, False),
        # Both only repeat its beginning.
        ("Your neighbour lives at number nine", "Your neighbour lives at number nine.", True),
        ("Anything.", "", False),
    ],
)
def test_a_revision_that_is_its_critique(text: str, critique: str, copied: bool) -> None:
    reason = "the revision is the critique, word for word or nearly"
    assert why("copies_critique", row(text, critique=critique)) == (reason if copied else "")


def test_how_alike_is_a_setting() -> None:
    near = row(CRITIQUE.replace("leave", "let"))
    assert likeness(near.final, CRITIQUE) == 12 / 15
    assert why("copies_critique", near, alike=0.81) == ""
    assert why("copies_critique", near, alike=0.8) != ""


@pytest.mark.parametrize(
    ("text", "same"), [(ANSWER, True), (f" {ANSWER.upper()}\n", True), (ANSWER.replace("nine", "ten"), False)]
)
def test_an_unchanged_revision(text: str, same: bool) -> None:
    assert why("unchanged", row(text)) == ("the revision changed nothing" if same else "")


def test_a_row_in_which_nothing_was_to_be_mended_is_unchanged_for_that_reason() -> None:
    clean = CritiqueRevision(principle_id="privacy", critique=ANSWER, revision=ANSWER, skipped=True)
    found = row("x").model_copy(update={"steps": (clean,)})
    assert why("unchanged", found) == "the critique found nothing to mend"
    assert why("copies_critique", found) == ""
    mended = found.model_copy(update={"steps": (*row("Ask her.").steps, clean)})
    mended = mended.model_copy(
        update={"steps": (mended.steps[0], clean.model_copy(update={"revision": "Ask her."}))}
    )
    assert why("unchanged", mended) == ""
    assert why("unchanged", mended, every_round=True) == "the critique found nothing to mend"


def test_a_preamble() -> None:
    said = "Here is the revised reply:\n\nAsk her."
    assert why("preamble", row(said)) == "the text announces itself as a revision"
    assert why("preamble", row("Ask her.")) == ""
    assert why("preamble", row(said, response="Here is a new version:\nAsk him.")) == ""


def test_a_leak_of_an_example_or_a_principle() -> None:
    shown = Shown((PRINCIPLE,), ("Boil the kettle twice before you pour any tea at all.",))
    leaks = row("First boil the kettle twice before you pour any tea.")  # eight words of the example, exactly
    assert why("leak", leaks, shown) == "the text repeats an example that models are shown"
    assert why("leak", leaks, shown, leak_words=9) == "the text repeats an example that models are shown"
    assert why("leak", leaks, shown, leak_words=10) == ""
    told = row("I keep to yourself what people have told you about.")
    assert why("leak", told, shown) == "the text repeats a principle or its request"
    assert why("leak", told) == ""
    # The user said it first.
    asked = row(leaks.final, prompt="Should I boil the kettle twice before you pour any tea?")
    assert why("leak", asked, shown) == ""


def test_boilerplate_of_refusals(tmp_path: Path) -> None:
    canned = row("I’m sorry, but I can’t   help with that.")
    assert why("refusal", canned) == "the text holds boilerplate of a refusal"
    assert why("refusal", row("No. Her address is hers to give.")) == ""
    file = tmp_path / "own.txt"
    file.write_text("# ours\nhers to give\n\n")
    assert why("refusal", row("No. Her address is HERS to give."), refusals=str(file)) != ""
    assert why("refusal", canned, refusals=str(file)) == ""
    (tmp_path / "none.txt").write_text("# nothing\n")
    with pytest.raises(UsageError, match="holds no phrase"):
        filter_named("refusal").check(FilterConfig(refusals=str(tmp_path / "none.txt")))
    assert len(phrases(None)) == len(set(phrases(None))) > 30


ENGLISH = "This is what the teacher said to you, and it is the answer that they have for the class."
GERMAN = "Das ist die Antwort, die der Lehrer auf die Frage hat, und sie ist nicht für dich."


def test_languages_and_scripts() -> None:
    assert (language(ENGLISH), language(GERMAN), language("Paris, 1789")) == ("English", "German", "")
    assert language("C'est une réponse pour vous, que nous avons dans les livres.") == "French"
    assert scripts("Ab яз 犬か") == {"LATIN": 2, "CYRILLIC": 2, "EAST ASIAN": 2}


def test_a_switch_of_language() -> None:
    other = "the text is in another language than what it answers"
    assert why("language", row(GERMAN, response=ENGLISH)) == other
    assert why("language", row(GERMAN, response=GERMAN, prompt=ENGLISH)) == ""
    assert why("language", row(ENGLISH, response=ENGLISH)) == ""
    script = "the text is in another script than its conversation"
    half = "She lives at the mill. 她住在老磨坊后面的九号房子里，请你不要告诉任何人。"
    assert why("language", row(half)) == script
    assert why("language", row(half, prompt="她住在哪里？")) == ""
    assert why("language", row("She lives at the mill, called 老磨坊 by those who built it.")) == ""


def test_loops() -> None:
    once = "you can ask her for it"
    # Twelve words six times: 24 - 3 = 21 runs of four words from 24 words, 6 of them different.
    assert repeated(" ".join([once] * 4)) == pytest.approx(1 - 6 / 21)
    assert repeated(" ".join([once] * 2)) == 0.0  # 12 words are too few to tell
    looping = row("Well. " + f"{once}. " * 4)
    assert why("repetition", looping) == "the text repeats itself in a loop"
    assert why("repetition", looping, repeated=0.8) == ""
    assert why("repetition", row(" ".join([ENGLISH, GERMAN]))) == ""
    song = "row row row your boat gently down the stream " * 3
    assert why("repetition", row(song, prompt=f"Sing it three times: {song}")) == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>She may not want", "the text holds reasoning that was cut"),
        ("[THINK]She may not want", "the text holds reasoning that was cut"),
        ("she may not.</think>Ask her.", "the text holds reasoning"),
        ("<think>no</think>Ask her.", "the text holds reasoning"),
        ("I think you should ask her.", ""),
    ],
)
def test_reasoning_in_the_text(text: str, said: str) -> None:
    assert why("reasoning", row(text)) == said
    assert why("reasoning", row(text, prompt="What does <think> mean?")) == ""


def test_presets_and_names() -> None:
    assert chosen(("standard", "unchanged", "preamble")) == [*FILTER_PRESETS["standard"], "unchanged"]
    assert set(chosen(("strict",))) == set(FILTERS)
    with pytest.raises(UsageError, match="no such filter or preset: 'loops'; known: copies_critique"):
        chosen(("loops",))


def test_the_first_filter_that_finds_something_names_the_reason() -> None:
    both = row(f"{ANSWER}", critique="")
    assert removed(both, FilterConfig(use=("refusal", "unchanged")), Shown()) == (
        "removed by unchanged: the revision changed nothing"
    )
    assert removed(both, FilterConfig(use=()), Shown()) == ""


def test_every_round_is_judged_where_every_revision_is_exported() -> None:
    good = CritiqueRevision(principle_id="privacy", critique="No.", revision="Ask her.")
    two = row("Here is the revised reply:\n\nAsk.")
    two = two.model_copy(update={"steps": (*two.steps, good)})
    assert why("preamble", two) == ""
    assert why("preamble", two, every_round=True) != ""
    # Against the answer before it, and against the first response.
    other = row("Other.")
    again = good.model_copy(update={"revision": ANSWER})
    back = other.model_copy(update={"steps": (*other.steps, again)})
    assert why("unchanged", back) != "" and why("unchanged", back, every_round=True) == ""


def test_a_response_that_was_never_revised_is_judged_by_itself() -> None:
    alone = row("x").model_copy(update={"steps": (), "response": "<think>Hm"})
    assert why("unchanged", alone) == why("copies_critique", alone) == ""
    assert why("reasoning", alone) == "the text holds reasoning that was cut"


def test_a_filter_of_ones_own_is_one_module_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    add_module(monkeypatch, "shouting_filter", example("A filter"))
    monkeypatch.setitem(FILTERS, "shouting", "shouting_filter:FILTER")
    assert why("shouting", row("ASK HER!")) == "the text shouts"
    assert why("shouting", row("Ask her!")) == ""
