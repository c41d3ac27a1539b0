"""Words that the rules look for in a principle, each list with the reason it holds what it holds."""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Carry no demand of their own: articles, pronouns, auxiliaries, and what a constitution says of every reply.
COMMON = _words(
    "a an the this that these those it its he she they them their his her you your we us our i me my "
    "is are was were be been being am do does did done has have had having will would shall should must can "
    "could may might ought of to in on at by for with from as into about if when where which who whom "
    "whoever whenever wherever what how than then so such and or but there here also very just too any "
    "all each every ai assistant model chatbot reply response answer output completion completions one ones "
    "choose pick select prefer compare please always"
)
NEGATIONS = _words("not no never none nor nothing nobody neither without cannot less least fewer avoid")
# Say that something is good without saying what a reply does. Behaviour-based principles match people's
# choices better than traits and bare praise (C3AI, WWW 2025).
VAGUE = _words(
    "good better best great fine nice nicer nicest right proper properly appropriate appropriately "
    "inappropriate ideal ideally suitable suitably adequate adequately acceptable reasonable reasonably "
    "optimal perfect excellent correct desirable bad worse worst poor wrong quality well overall generally "
    "way manner things thing behave behaves act acts respond responds possible possibly more most less "
    "least give gives make makes"
)
# Leave the demand to whoever reads it.
HEDGES = re.compile(
    r"\b(?:as|where|when|if|whenever|wherever)"
    r" (?:needed|necessary|appropriate|applicable|suitable|required)\b"
    r"|\betc\b\.?|\band so (?:on|forth)\b",
    re.I,
)
LEADING = re.compile(
    r"\b(?i:obviously|of course|undoubtedly|needless to say|it goes without saying|surely"
    r"|as (?:everyone|everybody) knows|(?:everyone|everybody) knows"
    r"|clearly (?:better|worse|the|more|less|wrong|right|harmful|harmless))\b"
    r"|\b(?i:choose|pick|select|prefer|answer(?: with)?|output) (?i:option |reply |response |answer )?"
    r"(?:\([AB]\)|[AB]\b(?! (?:or|and|vs|versus)\b))"
)
# The letters must be capitals: "a" is a word.
LETTERS = re.compile(
    r"\((?:A|B)\)"
    r"|\b(?i:options?|repl(?:y|ies)|responses?|answers?|completions?|candidates?) (?:[AB]|[12])\b(?!['’])"
    r"|(?:^|[.:;,?!]\s+|\b(?i:choose|between|either|whether|answer|output|pick|select|prefer|with|is|of|than|if)"
    r" )A (?:or|and|vs\.?|versus) B\b"
    r"|\b(?i:first|second|former|latter) (?i:reply|response|answer|option|completion)\b"
)
COMPARES = re.compile(
    r"\?|\b(?:choos(?:e|ing)|which|whichever|prefer\w*|pick\w*|select\w*|less|least|more|most|better|best|worse"
    r"|worst|rather|fewer|compar\w+|rank\w*|favou?r\w*|decide|judge)\b|\b\w{3,}er than\b",
    re.I,
)
# "the clearest", "the kinder"; nouns and adjectives that merely end so are left out.
DEGREE = re.compile(r"\bthe (\w{2,}(?:er|est))\b", re.I)
NO_DEGREE = _words(
    "user answer reader other another writer speaker asker customer number letter matter order paper author "
    "person after former latter offer player teacher member reviewer helper user's computer power water "
    "request rest test interest honest suggest west guest forest modest protest contest"
)
META = re.compile(
    r"\b(?:explain|describe|list|say|state|mention|note|summari[sz]e|point out|tell (?:me|us|the user)|report"
    r"|justify|outline|comment on)\b[^.;]{0,40}?"
    r"(?:\bwhat (?:you|has been|have been|was|were|is|i)\b[^.;]{0,20}\b"
    r"(?:chang|edit|revis|alter|modif|rewr|fix)\w*"
    r"|\b(?:your|the|any|all|these|those|each) (?:changes?|edits?|revisions?|modifications?|corrections?)"
    r"\b(?! (?:in|of)\b)"
    r"|\byour (?:reasoning|rewrite|reasons)\b|\bwhy you\b|\bhow you (?:chang|edit|revis|rewr|improv)\w+)"
    r"|\b(?:and|then) explain(?: (?:why|it|yourself))?\s*(?:[.!]|$)",
    re.I,
)
REWRITE = re.compile(
    r"(?:^|[.;:!?,]\s+|\b(?:and|then|please|also|to) )(?:please )?"
    r"(?:(?:rewrite|revise|rephrase|redraft|reword|fix|correct|improve|edit|replace)"
    r" (?:the|your|this|that|it|any|its|them|those)\b"
    r"|(?:write|give|produce|provide) (?:a|an|the|your) (?:\w+ )?(?:reply|response|answer|version)\b"
    r"(?= again|\b.{0,30}\binstead|[.]|$))",
    re.I,
)
# Start a demand wherever they stand; the second list does so only with an object, being nouns as well.
VERBS = (
    "be|avoid|refuse|explain|describe|ensure|include|remain|stay|admit|acknowledge|cite|tell|give|write|say|keep"
    r"|make|provide|suggest|respond|reply|decline|behave|apologi[sz]e|consider|remember|encourage|prefer|choose"
)
NOUN_VERBS = (
    "ask|answer|help|use|respect|support|offer|warn|point|show|name|state|note|list|report|treat|protect"
    "|fix|solve|check|thank|follow|repeat"
)
OBJECT = r"(?:the|a|an|any|all|their|its|his|her|your|them|people|users?|him|it|out|others|for|with)\b"
MODALS = (
    r"(?:must|should|shall|ought to|needs? to|has to|have to|do not|don't|does not|never|always|make sure)"
)
DEMAND = rf"(?:{MODALS}|(?:also |then )?(?:{VERBS})|(?:{NOUN_VERBS})(?= {OBJECT}))"
CONTROL_TOKENS = re.compile(
    r"<[|｜][^|｜<>\s]{1,40}[|｜]>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|<(?:bos|eos|pad|unk)>"
    r"|\[(?:BOS|EOS|PAD|CLS|SEP|MASK)\]|</?think>|(?:^|\n)\s*(?:Human|Assistant|System|User): ",
)
TEMPLATE = re.compile(r"\{\{|\}\}|\{%|%\}|\{#|#\}")
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\u3164\ufeff\uffa0"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
    # Joiners have their use between letters of some scripts and in emoji, and none beside ASCII.
    "|(?:(?<=[\x00-\x7f])|^)[\u200c\u200d]|[\u200c\u200d](?=[\x00-\x7f]|$)"
)
BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
