"""Rules about the wording of one principle: what makes a form ask for something else than it should."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from constitute.editing.lint import words
from constitute.editing.lint.document import TEXTS, Document, Remark, quoted

_PAIRED = re.compile(r"\b(?:more|less) [\w-]+(?: \w+)?,? (?:and|or) (?:more|less) [\w-]+", re.I)
_HOLDS = re.compile(rf"\b{words.MODALS}\b|^(?:please |only )?(?:{words.VERBS}|{words.NOUN_VERBS})\b", re.I)
_JOINED = re.compile(
    rf"(?:;|,?\s(?P<by>and|or))\s+(?:(?:and|but|or|also|then|it|they|the assistant|replies)\s+){{0,2}}"
    rf"(?P<demand>{words.DEMAND})\b"
    # "and then" joins two things to do, whatever the verb.
    r"|,?\sand then\s+(?!some\b)[a-z]+\b",
    re.I,
)


def several_demands(document: Document) -> Iterator[Remark]:
    """One principle holds two demands, so that a vote under it does not say which was followed."""
    fix = "make each demand a principle of its own"
    for at, key, text in _texts(document, ("text", "compare")):
        joint = _PAIRED.search(text) or (_joint(text) if key == "text" else None)
        if joint:
            yield _found(
                document, at, key, f"the {key} asks for two things, joined at {quoted(joint[0])}", fix
            )


def _joint(text: str) -> re.Match[str] | None:
    """Where a sentence that demands something demands another thing."""
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        if not _HOLDS.search(sentence):
            continue
        for joint in _JOINED.finditer(sentence):
            before = sentence[: joint.start()]
            # Under a negation "or" lists what one prohibition covers.
            refused = any(word in words.NEGATIONS for word in re.findall(r"\w+", before.lower()))
            if _HOLDS.search(before) and not (joint["by"] == "or" and refused):
                return joint
    return None


def leading_wording(document: Document) -> Iterator[Remark]:
    """The compare form gives its own answer: it names the reply to choose, or calls it obvious."""
    yield from _matches(
        document,
        ("compare",),
        words.LEADING,
        "the compare form suggests the answer with {}",
        "ask which reply does more of what the principle wants, and leave the answer open",
    )


def option_names(document: Document) -> Iterator[Remark]:
    """A text speaks of reply A or B, or the first or second; both orders are asked, and letters are added."""
    fix = "say 'the reply', or 'which reply'; the labels are added to the question in both orders"
    for at, key, text in _texts(document, TEXTS):
        found = words.LETTERS.search(text)
        if found and not (key == "compare" and words.LEADING.search(text)):
            yield _found(document, at, key, f"the {key} names an option: {quoted(found[0].strip())}", fix)


def vague_wording(document: Document) -> Iterator[Remark]:
    """Nothing in the text can be seen in a reply: it praises without saying what a good reply does.

    Source: C3AI (WWW 2025) finds that principles about behaviour match people's choices better.
    """
    fix = "say what a reply does or leaves out, such as 'Do not give a dose without its source'"
    for at, key, text in _texts(document, ("text", "compare")):
        said = re.findall(r"[^\W\d_]+", text.lower())
        content = [word for word in said if word not in words.COMMON | words.NEGATIONS]
        if any(word in words.VAGUE for word in content) and all(word in words.VAGUE for word in content):
            named = ", ".join(sorted(set(content)))
            yield _found(
                document, at, key, f"the {key} says no more than {named!r}, which no reply shows", fix
            )
        elif found := words.HEDGES.search(text):
            what = f"the {key} leaves the demand open with {quoted(found[0])}"
            yield _found(document, at, key, what, "say when, or what else is meant")


def no_comparison(document: Document) -> Iterator[Remark]:
    """The compare form neither asks a question nor compares, so that A or B is no answer to it."""
    for at, key, text in _texts(document, ("compare",)):
        degree = any(word.lower() not in words.NO_DEGREE for word in words.DEGREE.findall(text))
        if not degree and not words.COMPARES.search(text) and _english(text):
            said = f"the compare form compares nothing: {quoted(text)}"
            yield _found(document, at, key, said, "ask for a choice, such as 'Which reply is less …?'")


def revision_talk(document: Document) -> Iterator[Remark]:
    """The revise form asks for talk about the revision, which then stands in the revised reply."""
    yield from _matches(
        document,
        ("revise",),
        words.META,
        "the revise form asks for words about the revision: {}",
        "ask for the new reply alone",
    )


def critique_rewrites(document: Document) -> Iterator[Remark]:
    """The critique form asks for a rewrite, which is the revise form's part."""
    yield from _matches(
        document,
        ("critique",),
        words.REWRITE,
        "the critique form asks for a rewrite: {}",
        "ask what is wrong with the reply, and leave the rewrite to the revise form",
    )


def template_syntax(document: Document) -> Iterator[Remark]:
    """A text holds template syntax, which is kept as it is written and never filled in."""
    yield from _matches(
        document,
        TEXTS,
        words.TEMPLATE,
        "the {key} holds {}, which the model reads as it stands",
        "remove it unless it is meant literally",
    )


def control_tokens(document: Document) -> Iterator[Remark]:
    """A text holds what chat templates mark turns with; a model may take it for the end of a turn."""
    yield from _matches(
        document,
        TEXTS,
        words.CONTROL_TOKENS,
        "the {key} holds the control token {}",
        "remove it, or describe it in words",
    )


def invisible_characters(document: Document) -> Iterator[Remark]:
    """A text or tag holds a character nobody sees: zero-width, soft hyphen, direction or another line end."""
    for at, entry in enumerate(document.entries):
        tags = [("tags", tag, place) for tag, place in entry.tags]
        texts = [(key, text, entry.place(key)) for key, text in entry.texts.items()]
        for key, text, place in [*texts, *tags]:
            if found := words.INVISIBLE.search(text):
                kind = "the direction mark" if found[0] in words.BIDI else "the invisible character"
                after = (
                    f" after {quoted(text[max(0, found.start() - 20) : found.start()])}"
                    if found.start()
                    else ""
                )
                more = len(words.INVISIBLE.findall(text)) - 1
                said = f"{kind} U+{ord(found[0]):04X} stands in {key}{after}" + (
                    f", and {more} more" if more else ""
                )
                yield Remark(at, place, said, "remove it: two texts that look alike are not the same")


def _english(text: str) -> bool:
    """Whether a quarter of the words are common English ones: the lists hold no other language."""
    said = re.findall(r"[^\W\d_]+", text.lower())
    return 4 * sum(word in words.COMMON | words.NEGATIONS for word in said) >= len(said) > 0


def _texts(document: Document, keys: tuple[str, ...]) -> Iterator[tuple[int, str, str]]:
    for at, entry in enumerate(document.entries):
        for key in keys:
            if key in entry.texts:
                yield at, key, entry.texts[key]


def _matches(
    document: Document, keys: tuple[str, ...], pattern: re.Pattern[str], said: str, fix: str
) -> Iterator[Remark]:
    """One finding for each text that has the pattern, naming what first matched it."""
    for at, key, text in _texts(document, keys):
        if found := pattern.search(text):
            named = said.replace("{key}", key).replace("{}", quoted(found[0].strip()))
            yield _found(document, at, key, named, fix)


def _found(document: Document, at: int, key: str, said: str, fix: str) -> Remark:
    return Remark(at, document.entries[at].place(key), said, fix)


Rule = Callable[[Document], Iterator[Remark]]
WORDING: dict[str, Rule] = {
    "several-demands": several_demands,
    "leading-wording": leading_wording,
    "option-names": option_names,
    "vague-wording": vague_wording,
    "no-comparison": no_comparison,
    "revision-talk": revision_talk,
    "critique-rewrites": critique_rewrites,
    "control-tokens": control_tokens,
    "invisible-characters": invisible_characters,
    "template-syntax": template_syntax,
}
