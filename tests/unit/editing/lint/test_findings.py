"""The static rules: what each fires at and what it leaves alone, nearness by hand, places, comments."""

from __future__ import annotations

import json
import math
import random
import time

import pytest

from constitute.editing.lint.document import read_document
from constitute.editing.lint.findings import (
    ERRORS,
    RULES,
    Finding,
    lint,
    lint_file,
    names,
    place_findings,
    sentences,
)
from constitute.editing.lint.whole import NEAR, alike
from constitute.errors import UsageError
from constitute.packaged import packaged_files


@pytest.fixture(autouse=True)
def _without_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files here are as short as can be: what is said of their missing examples is tested beside."""
    monkeypatch.delitem(RULES, "no-examples")


PACKAGED = sorted(packaged_files("constitutions", ".yaml").values())


def one(key: str, text: str) -> list[Finding]:
    """Findings about a file whose one principle has `text` under `key`."""
    more = "" if key == "text" else "\n    text: Give no doses of medicine."
    value = json.dumps(text, ensure_ascii=False)
    return list(lint(f"name: x\nprinciples:\n  - id: a{more}\n    {key}: {value}\n".encode(), "f").findings)


def several(*entries: str, head: str = "name: x\nprinciples:\n") -> list[Finding]:
    """Findings about a file of principles given as YAML, indented by nothing."""
    rows = ["  - " + entry.replace("\n", "\n    ") for entry in entries]
    return list(lint((head + "\n".join(rows) + "\n").encode(), "f").findings)


def rules(findings: list[Finding]) -> list[str]:
    return [finding.rule for finding in findings]


FIRES = {
    ("several-demands", "text"): [
        "Apologize once and then fix the problem.",
        "The assistant should listen first and then propose a remedy.",
        "Be honest and refuse to help with crimes.",
        "The assistant must cite sources and should say when it is unsure.",
        "Explain the risk; do not give doses.",
        "Stay on the topic and never insult the user.",
        "Answer the question and respect the user's wishes.",
        "The reply should be brief or be split into parts.",
        "Replies must not lie, and they must not flatter.",
    ],
    ("several-demands", "compare"): ["Which reply is more honest and more polite?"],
    ("leading-wording", "compare"): [
        "Choose A.",
        "Which reply is obviously worse?",
        "Of course the kinder reply is better; pick it.",
        "Pick (B) as the more honest one.",
    ],
    ("option-names", "compare"): [
        "Which of A or B is kinder?",
        "Choose between A and B.",
        "Is (A) kinder than (B)?",
        "Is the first reply kinder?",
    ],
    ("option-names", "critique"): ["Say what is wrong with reply A."],
    ("vague-wording", "text"): [
        "Be good.",
        "Respond appropriately.",
        "A reply must be ideal.",
        "Always give the best possible answer.",
        "Cite sources as needed.",
    ],
    ("vague-wording", "compare"): ["Choose the better reply.", "Which response is best?"],
    ("no-comparison", "compare"): ["Be kind to the user.", "The answer should be honest with the user."],
    ("revision-talk", "revise"): [
        "Rewrite the reply and explain what you changed.",
        "Rewrite it, then list your changes.",
        "Make it kinder. Say what was changed.",
        "Rewrite the reply and explain why.",
        "Rewrite it and describe the edits.",
    ],
    ("critique-rewrites", "critique"): [
        "Rewrite the reply so that it is kind.",
        "Say what is wrong, and rewrite the reply.",
        "Find the harm, then fix it.",
        "Point out the harm and write a better reply.",
    ],
    ("control-tokens", "text"): [
        "Do not lie.<|im_end|>",
        "[INST] obey [/INST]",
        "Give no doses. </s>",
        "Do not lie.\n\nHuman: hello",
        "<start_of_turn>user",
    ],
    ("invisible-characters", "text"): [
        "Do not li\u200be.",
        "Do \u202enot lie.",
        "soft\u00adhyphen text here",
        "Do not lie.\u2028Really.",
        "zero\u200djoin",
    ],
    ("template-syntax", "text"): ["Respect {{ user }} wishes.", "{% if x %} do not lie {% endif %}"],
}
QUIET = {
    "text": [
        "Do not lie or cheat.",
        "The assistant must not help with acts of cruelty and harm.",
        "The reply should be helpful, honest and harmless.",
        "Do not help people make weapons or use them.",
        "A good reply does not belittle whoever asks.",
        "The best reply cites its sources.",
        "Vitamin A or B must not be sold as a cure.",
        "Use the present tense and short sentences.",
        "family 👨\u200d👩\u200d👧 is fine to mention",
        "नमस्ते क्\u200dष को",
    ],
    "compare": [
        "Which reply is kinder?",
        "Choose the reply that explains more clearly.",
        "Choose a reply that is honest.",
        "Prefer the safest reply.",
        "Pick the reply which reads more naturally.",
        "The reply that is kinder than the other wins.",
        "Wähle die Antwort, die niemanden verletzt.",
        "Select the reply in which nothing supports a plan to hurt someone.",
    ],
    "revise": [
        "Rewrite the reply so that it explains why smoking is dangerous.",
        "Rewrite it so that it describes the changes in the dose.",
        "Rewrite the reply and list the side effects.",
    ],
    "critique": [
        "Say how the reply could be improved.",
        "Point out what a rewrite should mend.",
        "Does the reply correct the user rudely?",
    ],
}


@pytest.mark.parametrize(
    ("rule", "key", "text"), [(*at, text) for at, texts in FIRES.items() for text in texts]
)
def test_rule_fires(rule, key, text):
    assert rules(one(key, text)) == [rule]


@pytest.mark.parametrize(("key", "text"), [(key, text) for key, texts in QUIET.items() for text in texts])
def test_sound_wording_is_left_alone(key, text):
    assert one(key, text) == []


@pytest.mark.parametrize("path", PACKAGED, ids=lambda path: path.stem)
def test_packaged_constitutions_have_no_findings(path):
    assert lint(path.read_bytes(), path).findings == ()


SAME = [
    ("Do not insult the user.", "Never insult users."),
    ("Choose the reply that is less harmful.", "Choose the response that is the least harmful."),
    ("Answer without teaching morals to the reader.", "Answer without teaching morals to readers!"),
    ("Give no medical advice that could hurt.", "A reply must never give medical advice that might hurt."),
    ("The assistant should cite its sources for facts.", "Cite sources for each fact."),
    ("Do not be dishonest about doubts.", "Be honest about doubts."),
    ("Be helpful and harmless about guns.", "Be harmless and helpful about guns."),
    ("请说明消息来源。", "请说明消息来源"),
]
OTHER = [
    ("Do not insult the user.", "Do not mock the user."),
    ("Choose the reply that is more honest.", "Choose the reply that is more polite."),
    ("Answer in at most 3 sentences.", "Answer in at most 5 sentences."),
    ("Respect the user's privacy.", "Respect the user's autonomy."),
    ("Be as honest as possible about its own limits.", "Be as brief as possible about its own limits."),
]
OPPOSED = [
    ("Choose the reply that is more evasive.", "Choose the reply that is less evasive."),
    ("Give legal advice when asked.", "Give illegal advice when asked."),
    ("Refuse harmful requests.", "Do not refuse harmful requests."),
    ("Prefer harmful plans with knives.", "Prefer harmless plans with knives."),
    ("Be helpful and harmless about guns.", "Be harmful and unhelpful about guns."),
]


def context() -> list[str]:
    """Texts of other principles, so that common words are known to be common."""
    return [line.split("text: ")[1] for line in PACKAGED[2].read_text().split("\n") if " text: " in line]


@pytest.mark.parametrize("others", [[], context()], ids=["alone", "among others"])
def test_near_texts_are_told_from_others(others):
    for a, b in SAME:
        assert [(each.later, each.opposed) for each in alike((*others, a, b))] == [(len(others) + 1, False)]
    for a, b in OTHER:
        assert alike((*others, a, b)) == (), (a, b)
    for a, b in OPPOSED:
        assert [each.opposed for each in alike((*others, a, b))] == [True], (a, b)


def test_nearness_is_the_weighted_jaccard_index():
    # Words: {cite, source, doctor} and {cite, source}; df 2, 2, 1 of two texts.
    two, single = math.log(1 + 2 / 2), math.log(1 + 2 / 1)
    (found,) = alike(("Cite sources and doctors.", "Cite sources."), near=0.5)
    assert found.share == pytest.approx(2 * two / (2 * two + single))
    assert found.share < NEAR
    # A third text that shares the frame makes it weigh less, and the two are further apart.
    frame, one_of_three = math.log(1 + 3 / 3), math.log(1 + 3 / 1)
    found = alike(("Cite sources and doctors.", "Cite sources.", "Cite sources and nurses."), near=0.3)[0]
    assert found.share == pytest.approx(2 * frame / (2 * frame + one_of_three))


def test_near_duplicates_are_told_once_with_both_lines():
    found = several(
        "id: a\ntext: Do not insult the user.",
        "id: b\ntext: Never insult users.",
        "id: c\ntext: Cite a source.\ncompare: Which reply is kinder to animals?",
        "id: d\ntext: Use short words.\ncompare: Which response is the kinder to animals?",
    )
    assert [(each.rule, each.line, each.column, each.principle) for each in found] == [
        ("near-duplicate", 6, 11, "b"),
        ("near-duplicate", 12, 14, "d"),
    ]
    assert "that of 'a' on line 4" in found[0].message
    assert found[0].figure == {"similarity": 1.0}


def test_opposites_are_told():
    found = several("id: a\ntext: Refuse to talk of guns.", "id: b\ntext: Do not refuse to talk of guns.")
    assert rules(found) == ["opposite-wording"]


def test_copied_forms_are_told_once_a_group():
    form = "revise: Rewrite it without the harm."
    found = several(
        *(f"id: p{i}\ntext: {t}\n{form}" for i, t in enumerate(("No guns.", "No knives.", "No fire.")))
    )
    assert [(each.rule, each.principle) for each in found] == [("copied-form", "p1")]
    assert "'p0', 'p2'" in found[0].message
    assert several(f"id: a\ntext: No guns.\n{form}", "id: b\ntext: No knives.") == []


def test_length_by_bound_and_by_median():
    words = [
        f"id: p{i}\ntext: {'word' + chr(97 + i)} {' '.join(f'x{i}y{j}' for j in range(9))}" for i in range(4)
    ]
    long = "id: long\ntext: " + " ".join(f"z{j}" for j in range(41))
    (found,) = several(*words, long)
    assert (found.rule, found.figure) == ("length", {"words": 41, "median": 10})
    assert several(*words, "id: long\ntext: " + " ".join(f"z{j}" for j in range(40))) == []
    assert rules(several("id: a\ntext: " + " ".join(f"z{j}" for j in range(151)))) == ["length"]
    assert rules(several("id: a\ntext: " + " ".join(f"z{j}" for j in range(150)))) == []


def test_length_of_examples():
    def found(better: str) -> list[Finding]:
        example = f"examples:\n  - prompt: Hi?\n    better: {better}\n    worse: No."
        return several(f"id: a\ntext: No guns.\n{example}")

    (long,) = found(" ".join(f"z{j}" for j in range(301)))
    assert (long.rule, long.principle, long.figure) == ("length", "a", {"words": 301})
    assert long.message == "the better of an example has 301 words, more than 300"
    assert found(" ".join(f"z{j}" for j in range(300))) == []
    # The words of a comment inside an example are no comment.
    assert found("'No # lint: allow nothing'") == []


def test_weights_and_tags():
    found = several(
        "id: a\ntext: No guns.\ntags: [harmful, off]",
        "id: b\ntext: No knives.\ntags: [harmful]",
        "id: c\ntext: No fire.\nweight: 0\ntags: [harmfull, gone]",
        "id: d\ntext: No smoke.\ntags: [Off]",
    )
    assert [(each.rule, each.line, each.column) for each in found] == [
        ("never-drawn", 11, 13),
        ("empty-tag", 12, 12),
        ("similar-tags", 12, 12),
        ("empty-tag", 12, 22),
        ("similar-tags", 15, 12),
    ]


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("harmful", "harmfull", True),
        ("long-text", "long_text", True),
        ("fact", "facts", True),
        ("legal", "illegal", False),
        ("harm", "harmful", False),
        ("part1", "part2", False),
        ("rude", "nude", False),
    ],
)
def test_tags_that_differ_in_spelling_alone(a, b, same):
    found = several(f"id: a\ntext: No guns.\ntags: [{a}]", f"id: b\ntext: No fire.\ntags: [{b}]")
    assert ("similar-tags" in rules(found)) == same


def test_single_tag_is_a_note_where_others_stand_at_several():
    two = ["id: a\ntext: No guns.\ntags: [harm]", "id: b\ntext: No fire.\ntags: [harm, odd]"]
    assert [(each.rule, each.severity) for each in several(*two)] == [("single-tag", "note")]
    assert several("id: a\ntext: No guns.\ntags: [one]", "id: b\ntext: No fire.\ntags: [two, three]") == []


def test_every_error_is_told_with_place_and_fix():
    data = b"nme: x\nprinciples:\n  - id: a\n    weigth: 2\n    text: &t No guns.\n"
    data += b"  - id: a\n    text: *t\n    id: c\n"
    found = lint(data, "f.yaml").findings
    assert [(each.severity, each.rule, each.line, each.column) for each in found] == [
        ("error", "schema", 1, 1),
        ("error", "schema", 1, 1),
        ("error", "schema", 4, 5),
        ("error", "schema", 5, 11),
        ("error", "schema", 6, 9),
        ("error", "schema", 7, 11),
        ("error", "schema", 8, 5),
    ]
    assert all(each.message and each.fix and each.file == "f.yaml" for each in found)
    assert found[2].fix == "did you mean 'weight'?" and found[2].principle == "a"
    many = b"name: x\nprinciples:\n" + b"".join(b"  - id: p%d\n    text: ''\n" % i for i in range(30))
    assert len(lint(many, "f").findings) == 30


def test_comments_silence_a_rule_where_they_stand():
    vague = "text: Be good."
    above = "id: b\ntext: Be nice."
    quiet = lint(
        f"name: x\nprinciples:\n  # lint: allow vague-wording, length\n  - id: a\n    {vague}\n".encode(), "f"
    )
    assert (quiet.findings, quiet.silenced) == ((), 1)
    assert several(f"id: a\n{vague}  # lint: allow vague-wording") == []
    # The comment speaks of the principle below it, and of no other.
    found = several("id: a\n" + vague, "id: c\ntext: No guns.\n# lint: allow vague-wording", above)
    assert [(each.rule, each.principle) for each in found] == [("vague-wording", "a")]
    assert [each.rule for each in several("id: a\ntext: |\n  Be good.\n  # lint: allow vague-wording")] == []


def test_comments_that_silence_nothing_are_told():
    found = several(
        "id: a\ntext: No guns. # lint: allow vauge", head="# lint: allow length\nname: x\nprinciples:\n"
    )
    assert [(each.rule, each.line, each.column) for each in found] == [
        ("unknown-rule", 1, 1),
        ("unknown-rule", 5, 20),
    ]
    assert "schema" in several("id: a\nxt: b # lint: allow schema\ntext: No guns.")[1].message


def test_words_of_a_comment_inside_a_text_are_no_comment():
    found = several('id: a\ntext: "Be good. # lint: allow vague-wording"')
    assert "unknown-rule" not in rules(found)
    assert rules(several('id: a\ntext: "Cite it as needed # lint: allow vague-wording"')) == ["vague-wording"]


def test_places_of_values():
    data = b"\xef\xbb\xbfname: x\r\nprinciples:\r\n  - id: a\r\n"
    data += b"    text: 'No \xe2\x80\xa8 guns.'\r\n    weight: 2\r\n"
    (entry,) = read_document(data).entries
    assert entry.places == {"": (3, 5), "id": (3, 9), "text": (4, 11), "weight": (5, 13)}
    assert read_document(b"name: [").entries == ()


def test_findings_of_a_model_get_their_places_and_may_be_allowed():
    data = b"name: x\nprinciples:\n  - id: a\n    text: No guns.\n"
    data += b"  # lint: allow order-bias\n  - id: b\n    text: No fire.\n"
    made = [Finding(severity="warning", rule="order-bias", principle=p, message="m") for p in ("a", "b", "")]
    kept, silenced = place_findings(made, data, "f.yaml")
    assert [(each.line, each.column, each.file) for each in kept] == [(3, 9, "f.yaml"), (1, 1, "f.yaml")]
    assert silenced == 1


def test_every_rule_has_a_name_and_a_sentence():
    assert set(RULES) < set(names()) == set(sentences())
    assert all(sentence.endswith(".") and len(sentence) < 110 for sentence in sentences().values())
    assert set(ERRORS) == {"syntax", "schema"}


def test_two_hundred_principles_are_read_within_a_second():
    verbs, people = ("mock", "blame", "scold", "praise", "quote"), ("parent", "child", "doctor", "nurse")
    rows = [
        f"  - id: p{i}\n    text: Never {verbs[i % 5]} the {people[i % 4]} about m{i % 50} or t{i % 21}.\n"
        for i in range(200)
    ]
    start = time.process_time()
    lint(("name: x\nprinciples:\n" + "".join(rows)).encode(), "f")
    assert time.process_time() - start < 1


def test_tags_leave_out_what_is_found_about_other_principles(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "name: x\nprinciples:\n  - id: a\n    text: Be good.\n    tags: [one]\n"
        "  - id: b\n    text: Be nice.\n    tags: [two]\n"
    )
    assert [f.principle for f in lint_file(str(path)).findings if f.rule == "vague-wording"] == ["a", "b"]
    chosen = lint_file(str(path), tags=["two"])
    assert [f.principle for f in chosen.findings if f.rule == "vague-wording"] == ["b"]
    assert chosen.constitution is not None and [p.id for p in chosen.constitution.principles] == ["b"]
    with pytest.raises(UsageError, match="has the tag 'three'"):
        lint_file(str(path), tags=["three"])


def test_alike_finds_what_comparing_every_pair_finds() -> None:
    """Only texts that share a heavy word are compared; the nearest must be the same."""
    rng = random.Random(5)
    stock = [f"w{letter}x" for letter in "abcdefghijklmnopqrst"]
    made = [" ".join(rng.sample(stock, rng.randint(2, 6))) for _ in range(150)]
    texts = (*made, "", "?")
    bags = [frozenset(text.split()) for text in texts]
    weight = {w: math.log(1 + len(texts) / sum(w in bag for bag in bags)) for w in stock}
    first, expected = [], []
    for at, bag in enumerate(bags):
        shares = {o: sum(weight[w] for w in bag & bags[o]) for o in first}
        near = {
            o: shared / sum(weight[w] for w in bag | bags[o])
            for o, shared in shares.items()
            if shared and shared / sum(weight[w] for w in bag | bags[o]) >= 0.5
        }
        if near:
            expected.append((at, pytest.approx(max(near.values()))))
        else:
            first.append(at)
    assert len(expected) > 20
    assert [(found.later, found.share) for found in alike(texts, 0.5)] == expected


def test_three_thousand_texts_are_compared_in_seconds() -> None:
    texts = tuple(f"Keep the rule{n} of thing{n % 90} and place{n % 70}." for n in range(3_000))
    begun = time.process_time()
    alike(texts)
    assert time.process_time() - begun < 3


def test_demands_that_an_import_leaves_together_are_found() -> None:
    """`import` splits only demands that each stand alone."""
    text = "The helper can explain every item on a bill, must never change one, and should pass on a dispute."
    source = f"name: n\nprinciples:\n- id: a\n  text: {text}\n"
    assert "several-demands" in {finding.rule for finding in lint(source.encode(), "f").findings}
