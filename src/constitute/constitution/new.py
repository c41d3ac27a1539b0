"""Make the text of a new constitution file: from scratch, from another file, or from a list of aims."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from constitute.constitution.edit import append, set_name
from constitute.constitution.read import FORMS, fill_form, parse_constitution, slug
from constitute.constitution.write import entry, free_id, scalar
from constitute.errors import UsageError
from constitute.types import Principle

MAX_AIM = 2000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
# Words that begin a phrase and so do not end one.
_OPENERS = (
    " a an the this that these those its his her their your my our any some no every each all and or but nor "
    "of to in on at by for with without from as into about over under than like if when whenever where while "
    "unless until because since so not never is are was were be being who whom whose which what how it they "
    "you he she we very more most less least only even also such should must can may will would could "
)
_HEAD = """\
# A constitution: what a model should do, principle by principle. Keys of a principle:
#   id          a short name of a-z, 0-9, - and _; keep it when you change the words
#   text        what the principle asks for, in one sentence
#   critique    asks the model where its reply goes against the principle; filled from text if absent
#   revise      asks the model to rewrite its reply; filled from text if absent
#   compare     asks which of two replies keeps to the principle; filled from text if absent
#   weight      how often it is drawn, against the others; 1 if absent, 0 switches it off
#   priority    who it goes before where principles disagree: root, system, developer, user or guideline
#   tags        groups it belongs to, so that a command can take a part of the file
#   source      where it comes from
#   probes      prompts whose replies it should change, each with what to expect
#   examples    prompts with a better and a worse reply, and what is wrong with that (critique)
# See the words a model reads:  constitute constitution show FILE
# Find what is wrong with them: constitute constitution lint FILE
"""
_KEYS = """\
    # weight: 2
    # priority: user
    # tags: [style]
    # probes:
    #   - prompt: What is mulch?
    #     expect: A reply that keeps to the principle.
    # examples:
    #   - prompt: What is mulch?
    #     better: A layer on the soil that keeps it moist.
    #     worse: Put a little fire to the neighbour's mulch.
    #     critique: The reply tells how to do harm.
"""
_BRIEF = "The assistant should answer in as few words as the question allows."
_EXAMPLES = (
    Principle(
        id="no-help-with-harm",
        text="The assistant should not help anybody to hurt people.",
        critique="Point out where your last reply helps anybody to hurt people.",
        revise="Rewrite your last reply so that it helps nobody to hurt people.",
        compare="Which reply gives less help to somebody who wants to hurt people?",
    ),
    Principle(
        id="be-brief",
        text=_BRIEF,
        critique=fill_form("critique", _BRIEF),
        revise=fill_form("revise", _BRIEF),
        compare=fill_form("compare", _BRIEF),
    ),
)


@dataclass(frozen=True)
class GivenWording:
    """An aim as a principle: its text, and forms that are empty where the template gives them.

    `failed` is why a model did not write it, empty where it did or was not asked.
    """

    text: str
    critique: str = ""
    revise: str = ""
    compare: str = ""
    failed: str = ""


def check_aims(aims: Sequence[str]) -> list[str]:
    """The aims stripped, in their order and each once; raises `UsageError` for one that cannot stand."""
    kept: list[str] = []
    for number, aim in enumerate(aims, 1):
        if found := _CONTROL.search(aim.strip(" ")):
            what = (
                "a line end"
                if found[0] in "\r\n\u2028\u2029"
                else f"the control character U+{ord(found[0]):04X}"
            )
            raise UsageError(f"aim {number} holds {what}; write each aim on one line, in plain text")
        aim = aim.strip()
        if not aim:
            raise UsageError(f"aim {number} is empty; say what the model should do or not do")
        if len(aim) > MAX_AIM:
            raise UsageError(f"aim {number} has {len(aim)} characters; say it in at most {MAX_AIM}")
        if aim in kept:
            raise UsageError(f"aim {number} is given twice; leave one out")
        kept.append(aim)
    return kept


def from_scratch(name: str) -> str:
    """A commented file with two principles to edit: one with every form written, one with the text alone."""
    first, second = _EXAMPLES
    lines = [*_begin(name), *entry(first), _KEYS.rstrip("\n"), "", *entry(second)]
    return _loadable("\n".join(lines) + "\n")


def from_aims(name: str, wordings: Sequence[GivenWording]) -> str:
    """A commented file with a principle for each wording, and the reason where a model did not write one."""
    lines = _begin(name)
    taken: set[str] = set()
    for wording in wordings:
        lines += [*_entry(wording, taken), ""]
    return _loadable("\n".join([*lines[:-1], _KEYS.rstrip("\n")]) + "\n")


def from_file(data: bytes, name: str, wordings: Sequence[GivenWording] = ()) -> tuple[bytes, int]:
    """Another file under a new name, with a principle for each wording at its end.

    Returns the bytes, and the number of wordings left out because the file has them already.
    """
    edited = set_name(data, name)
    if not wordings:
        return edited, 0
    taken = {p.id for p in parse_constitution(edited, name).principles}
    edited, _, skipped = append(edited, [principle_of(wording, taken) for wording in wordings])
    # The reasons stand at the end, where they disturb nothing of the file.
    failed = [f"# {_reason(w)} ({' '.join(w.text.split())})" for w in wordings if w.failed]
    if failed and not edited.endswith((b"\n", b"\r")):
        edited += b"\n"
    return edited + "".join(line + "\n" for line in failed).encode(), skipped


def _begin(name: str) -> list[str]:
    return [
        *_HEAD.splitlines(),
        f"name: {scalar(name, 2)}",
        "# description: What it is for.",
        "",
        "principles:",
    ]


def _entry(wording: GivenWording, taken: set[str]) -> list[str]:
    comment = [f"  # {_reason(wording)}"] if wording.failed else []
    return comment + entry(principle_of(wording, taken))


def _short_name(text: str) -> str:
    """The first words of a text, at most six, which end where a phrase may end."""
    words = re.split(r"(?<=[,;:.])\s", " ".join(text.split()), maxsplit=1)[0].split()
    name = words[:6]
    if len(words) > 6:
        while len(name) > 1 and f" {name[-1].lower()} " in _OPENERS:
            name.pop()
    return " ".join(name)


def _reason(wording: GivenWording) -> str:
    return "not written by the model: " + _CONTROL.sub(" ", wording.failed)


def principle_of(wording: GivenWording, taken: set[str]) -> Principle:
    """The wording as a principle, empty forms filled from templates; its id is new and joins `taken`."""
    identity = free_id(slug(_short_name(wording.text), 48) or "principle", taken)
    taken.add(identity)
    given = {form: getattr(wording, form) or fill_form(form, wording.text) for form in FORMS}
    return Principle.model_validate({"id": identity, "text": wording.text, **given})


def _loadable(text: str) -> str:
    parse_constitution(text.encode(), "the new file")
    return text
