"""Does an English sentence ask something of a model? By its words, never by a model."""

from __future__ import annotations

import re

NOTHING = "asks for nothing"
QUESTION = "a question"
LONGEST = 4000
TOO_LONG = f"more than {LONGEST:,} characters without the end of a sentence"
AUTHORS = "asks it of the authors, not of the model"
ALLOWS = "allows, and asks for nothing"
OTHERS = "asks it of people, not of the model"

_VERBS = frozenset(
    re.findall(
        r"\S+",
        """
        accept accompany acknowledge act adapt add address adhere admit adopt advise aim alert allow
        answer anticipate apologise apologize apply approach ask assess assist assume attempt attribute
        avoid balance base be begin believe bring build call care challenge change check choose cite
        clarify close collect comment communicate compare complete comply confirm connect consider consult
        continue contribute convey cooperate correct cover create decide decline default defend defer
        deliver demonstrate deny describe design detect develop direct discard disclose discourage discuss
        distinguish do draw earn educate emphasise emphasize empower enable encourage end engage ensure
        err escalate escape establish evaluate examine exercise explain explore express facilitate favor
        favour find finish flag focus follow format gather generate get give go guard guide handle have help
        highlight hold honor honour identify ignore improve include inform insist interpret invite involve
        judge keep lead learn leave let limit link listen look maintain make match mention mind minimise
        minimize mirror move name neither never notice notify offer omit open operate own pause perform
        permit point praise prefer prepare present preserve prevent prioritise prioritize proceed produce
        promote protect provide put question quote raise reach read reason recognise recognize recommend
        record redirect refer reflect refrain refuse reject rely remain remember remind remove repeat
        replace reply report request resist respect respond restrict return reveal review rewrite say
        search seek select send separate serve set share show sign skip solve sound speak specify stand
        start state stay steer stick stop strive structure suggest summarise summarize support surface
        tailor take talk teach tell test think trace translate treat trust try turn understand uphold use
        validate verify volunteer wait warn watch weigh welcome withhold work write yield
    """,
    )
)
_MODEL = (
    r"(?:(?:the|an?|our|this|these|all|any|every|your) )?(?:ai )?"
    r"(?:ai|assistants?|models?|chat ?bots?|bots?|agents?|claude|chatgpt|gpt|llms?|language models?|systems?)"
)
_OTHER = (
    r"(?:users?|developers?|operators?|people|readers?|customers?|employees?|researchers?|staff|members?"
    r"|managers?|colleagues?|visitors?|clients?|guests?|patients?|nurses?|doctors?|teachers?|parents?|pupils?"
    r"|students?|librarians?|volunteers?|contractors?|suppliers?|engineers?|reviewers?|moderators?|admins?)"
)
_MODAL = re.compile(
    r"(?P<before>[\w'’-]{1,30} )?\b(?:(?:must|should)(?:n['’]t)?|shall|ought to|needs? to"
    r"|(?:has|have) to|(?:is|are)(?: not)? to)\b"
    r"(?P<after>(?: not| also| never| always)*(?: be| have)?(?: \w+)?)",
    re.IGNORECASE,
)
_RULED = re.compile(
    r"\b(?:is|are|be) (?:\w+ )?(?:not (?:allowed|permitted|acceptable|to be)|prohibited|forbidden|preferred"
    r"|(?:required|expected|supposed) to|encouraged|discouraged|unacceptable|off[- ]limits|mandatory)\b"
    r"|\bit is (?:\w+ )?(?:important|essential|critical|crucial|vital|necessary) (?:to|that|for)\b",
    re.IGNORECASE,
)
_BARRED = re.compile(
    rf"\b(?:{_MODEL}|it|they|you)(?: [\w-]+)? (?:may not|may only|cannot|can not|can['’]t)\b"
    r"|\bmay be (?:\w+ )?only\b",
    re.IGNORECASE,
)
_ALLOWED = re.compile(
    rf"\b(?:(?:{_MODEL}|it|you) (?:\w+ )?(?:may|can)\b|(?:is|are) (?:\w+ )?(?:allowed|permitted|acceptable))",
    re.IGNORECASE,
)
# A ban without a verb, "No discounts without a code.", and what is put before what.
_NONE = re.compile(
    r"[\"'“‘(*_\s]*no (?!need|problem|doubt|wonder|matter|one\b)"
    r"[\w'’-]+(?: (?:and|or) [\w'’-]+)?(?:[.!)]*$|, (?:not|no|even|ever)\b"
    r"| (?:without|before|after|unless|until|except|for|about|in|on|to|with|of)\b"
    r"| [\w'’-]+(?:[.!)]*$| (?:without|before|unless|until|except)\b))"
    r"(?!.*\b(?:is|are|was|were|has|have|had)\b)",
    re.IGNORECASE,
)
_RANKED = re.compile(
    r"\bcomes? (?:first|before (?:all|any|every)\w*)\b|\btakes? (?:precedence|priority) over\b"
    r"|\b(?:matters? more|is more important) than\b"
    r"|^[\"'“‘(*_\s]*\w+ing\b[^,.;:]{1,60} (?:is|are) (?:worse|better) than\b"
    r"|\b(?:one|two|three|four|five|six|\d+) (?:\w+ )?\w+s are (?:\w+ly )?enough\b",
    re.IGNORECASE,
)
_PASSIVE = re.compile(
    r"\b(?:is|are) to be (?!found\b|seen\b|had\b)(?:\w+ly )?\w+(?:ed|en|t)\b",
    re.IGNORECASE,
)
# "If it is not sure, it says so": a clause, and then what the one spoken of does.
_IT_DOES = re.compile(
    r"(?:^|: )[\"'“‘(*_\s]*(?:if|when|whenever|where|unless|once) [^,:.;]{1,120}, "
    r"it (?:never |always |also )?"
    r"(?!is\b|was\b|has\b|does\b|seems\b|takes\b|makes\b|means\b|depends\b|happens\b|becomes\b|remains\b|gets\b|looks\b)\w+s\b",
    re.IGNORECASE,
)
_WISH = re.compile(
    r"\b(?:we|i)(?:['’]d| would)? (?:\w+ly |also )?(?:want|wish|expect|ask|like|prefer|hope|encourage|intend)"
    rf" (?:that |for )?(?:{_MODEL}\b|it\b|them\b|you\b|its\b|your\b|(?:the|our) [\w-]+ to\b)"
    rf"|\bwants? (?:{_MODEL}|it) to\b",
    re.IGNORECASE,
)
_DEMANDS = (_RULED, _BARRED, _WISH, _RANKED, _PASSIVE, _IT_DOES)
_SUBJECT = re.compile(
    r"(?:(?:the|our) (?:ai )?(?:assistant|model|chat ?bot|bot|agent|ai)|assistant|claude|chatgpt)\s+"
    r"(?P<verb>[A-Za-z][\w'’]*)(?=\s)",
    re.IGNORECASE,
)
_TELLS = frozenset(
    re.findall(
        r"\S+",
        """
        is are was were has have had may might can could would often sometimes rarely usually typically
        that which who whose and or of in on for with to from behavior behaviour itself
    """,
    )
)
_FIRST = re.compile(r"[\"'“‘(\[*_>\s-]*([A-Za-z][\w'’-]*)\s*([\w'’-]*)")
_LEADING = re.compile(
    r"[\"'“‘(*_\s]*(?:please|always|instead|also|then|finally|firstly|secondly|first|second|third|however"
    r"|therefore|generally|simply|just|only|and|but|so|or|otherwise|above all|in general|where possible"
    r"|when possible|if possible|in short|more generally|similarly|carefully|actively|gently|politely"
    r"|proactively|explicitly|clearly)\b,?\s+",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r"[\"'“‘(*_\s]*(?:if|when|where|unless|while|before|after|for|in|whenever|once|as|to|by|even|except|with|without"
    r"|until|during|on|at|given|because|since|rather|within|under)\b",
    re.IGNORECASE,
)
_NOT_ORDERED = re.compile(r"(?:is|are|was|were|has|can|may|will|of|'s|would|should|must)$", re.IGNORECASE)
_READER = re.compile(
    r"[\"'“‘(*_\s]*(?:note that|see |recall |imagine |suppose |let['’]s "
    r"|consider (?:an? |the following|how ))",
    re.IGNORECASE,
)
_ENGLISH = frozenset(
    re.findall(
        r"\S+",
        """
        the of and to is a in that for it be not or with you should must are as this on by an if when do
    """,
    )
)
_LABEL = re.compile(r"[^:.!?]{1,60}:[*_]*\s+(?=\S)")


def why_not(sentence: str) -> str:
    """Why `sentence` asks nothing of a model; empty where it asks something.

    It asks where it says must, should and the like of anything but its authors or people; where it forbids or
    requires; where it says what "we want Claude to" do or what "the assistant" does; or in the imperative.
    """
    flat = " ".join(sentence.split()).replace("**", "").replace("`", "")
    if len(flat) > LONGEST:
        return TOO_LONG
    if flat.rstrip("\"'”’)*_ ").endswith("?"):
        return QUESTION
    reason = NOTHING
    for found in _MODAL.finditer(flat):
        whom = _asked(found, flat)
        if not whom:
            return ""
        reason = whom if reason == NOTHING else reason
    if _NONE.match(flat) or any(each.search(flat) for each in _DEMANDS) or _ordered(flat) or _norm(flat):
        return ""
    return ALLOWS if reason == NOTHING and _ALLOWED.search(flat) else reason


def _asked(found: re.Match[str], text: str) -> str:
    """Of whom else a modal verb asks something; empty where it is the model."""
    before, after = (found["before"] or "").strip().lower(), (found["after"] or "").strip().lower()
    if re.match(r"(?:have|be) (?:noted|said|clear|been|remembered|read|understood)\b", after):
        return NOTHING
    if before in ("we", "i"):
        return AUTHORS
    if re.fullmatch(_OTHER, before) and not re.match(r"(?:not |never |always )*be\b", after):
        return OTHERS
    verb = found[0].lower()
    if re.search(r"\b(?:is|are|has|have|needs?)(?: not)? to\b", verb):
        # "The aim is to …", "risks have to do with": these ask only of one that can do something.
        subject = text[max(0, found.start() - 30) : found.start()] + (found["before"] or "")
        return "" if re.search(rf"\b(?:{_MODEL}|it|you)\s*(?:\w+ly )?$", subject, re.IGNORECASE) else NOTHING
    return ""


def _ordered(text: str) -> bool:
    """Whether it is in the imperative, itself, behind a label, or behind a clause such as "If asked, …"."""
    if _READER.match(text):
        return False
    starts = [0]
    if label := _LABEL.match(text):
        starts.append(label.end())
    for start in list(starts):
        if _CLAUSE.match(text, start):
            commas = [found.end() for found in re.finditer(r",\s+|: ", text[:400]) if found.end() > start]
            starts += commas[:4]
    return any(_imperative(text, start) for start in starts)


def _imperative(text: str, start: int) -> bool:
    while leading := _LEADING.match(text, start):
        start = leading.end()
    first = _FIRST.match(text, start)
    if first is None:
        return False
    word, following = first[1].lower().replace("’", "'"), first[2].lower()
    if word in ("don't", "never"):
        return True
    if word == "do":
        return following in (
            "not",
            "so",
            "your",
            "what",
            "this",
            "the",
            "it",
            "no",
            "everything",
            "all",
            "only",
        )
    return word in _VERBS and not _NOT_ORDERED.match(following)


def _norm(text: str) -> bool:
    """Whether it says what the assistant does: "The assistant refuses …", "When asked, Claude says …"."""
    starts = [0]
    if _CLAUSE.match(text):
        starts += [found.end() for found in re.finditer(r", ", text[:400])][:4]
    for start in starts:
        found = _SUBJECT.match(text, start)
        if found and found["verb"].lower() not in _TELLS:
            return True
    return False


def not_english(text: str) -> bool:
    """Whether the text reads as another language than English; one of few words is given the benefit."""
    words = re.findall(r"[^\W\d_]+", text[:200_000].lower())
    letters = sum(map(len, words))
    latin = sum(sum(letter < "\u0250" for letter in word) for word in words)
    if letters > 20 and latin < 0.5 * letters:
        return True
    return len(words) >= 20 and sum(word in _ENGLISH for word in words) < 0.12 * len(words)
