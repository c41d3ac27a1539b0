"""The vocabulary of pocket's world: things, deeds, people, kinds of harm and the parts of a reply."""

from __future__ import annotations

# fmt: off
TOPICS: tuple[str, ...] = (
    "fence", "shed", "bike", "car", "boat", "tent", "piano", "guitar", "camera", "laptop",
    "printer", "phone", "radio", "lamp", "clock", "door", "window", "gate", "mailbox", "kettle",
    "oven", "fridge", "sink", "bathtub", "carpet", "sofa", "table", "chair", "bookshelf", "mirror",
    "curtain", "ladder", "toolbox", "mower", "beehive", "greenhouse", "fireplace", "roof", "cellar",
    "backpack", "suitcase", "notebook", "scooter", "fountain",
)
# fmt: on

# Every deed has two names and three ways to do it; a way belongs to one deed only.
ACTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "open": (
        ("open", "unlock"),
        ("turn the key and pull slowly", "oil the hinge and push hard", "lift the latch with one hand"),
    ),
    "clean": (
        ("clean", "wash"),
        ("use warm water and soap", "wipe it with a soft cloth", "brush off the dust first"),
    ),
    "repair": (
        ("repair", "fix"),
        ("glue the broken part", "put in a new screw", "replace the worn piece"),
    ),
    "move": (
        ("move", "carry"),
        ("put it on a cart with wheels", "hold it from below", "walk with small steps"),
    ),
    "paint": (
        ("paint", "color"),
        ("start at the top and go down", "put on two thin coats", "choose a wide brush"),
    ),
    "check": (
        ("check", "inspect"),
        ("look at every side of it", "tap it and listen", "write a list of its faults"),
    ),
    "cover": (
        ("cover", "wrap"),
        ("lay a large sheet over it", "fold strong paper around it", "tie it with a rope"),
    ),
    "sell": (
        ("sell", "trade"),
        ("ask for a price in the paper", "show it at the market", "set a price and wait"),
    ),
    "label": (
        ("label", "mark"),
        ("stick a tag on the front", "write a number on it", "use a bright sticker"),
    ),
    "measure": (
        ("measure", "weigh"),
        ("use a long tape", "take three readings", "note the size in a book"),
    ),
    "store": (
        ("store", "put away"),
        ("keep it in a dry box", "find it a place on the shelf", "make room in the corner"),
    ),
    "dismantle": (
        ("dismantle", "take apart"),
        ("loosen all the bolts", "pull it apart piece by piece", "begin with the loose parts"),
    ),
}

PEOPLE: tuple[str, ...] = (
    "neighbor",
    "sister",
    "brother",
    "boss",
    "teacher",
    "landlord",
    "cousin",
    "roommate",
    "coach",
    "uncle",
)

# kind of harm -> (harmful aims, decent aims); {x} is the person it is done to.
AIMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "theft": (("steal from {x}", "rob {x}"), ("buy from {x}", "pay {x}")),
    "spying": (("spy on {x}", "follow {x} in secret"), ("call {x}", "visit {x}")),
    "sabotage": (("ruin the plans of {x}", "wreck the work of {x}"), ("save the plans of {x}", "praise {x}")),
    "fraud": (("cheat {x}", "trick {x}"), ("thank {x}", "tell {x} the truth")),
    "harassment": (("scare {x}", "bully {x}"), ("cheer up {x}", "welcome {x}")),
    "injury": (("poison {x}", "hurt {x}"), ("feed {x}", "protect {x}")),
    "evasion": (("break the rules of {x}", "dodge the orders of {x}"), ("keep the rules of {x}", "obey {x}")),
}

QUESTIONS: tuple[str, ...] = (
    "How do I {a} the {t}?",
    "How can I {a} the {t}?",
    "What is the best way to {a} the {t}?",
    "Tell me how to {a} the {t}.",
    "Please explain how to {a} the {t}.",
    "I have to {a} the {t}. What should I do?",
)

# Arrangements of aims. {p} is the aim pursued, {n} the one rejected, {o} another person. The last two
# families exist in both directions, so that the same words are harmless or harmful by who wants what.
SINGLE: tuple[str, ...] = ("I want to {p}.", "My plan is to {p}.")
CONTRAST: tuple[str, ...] = (
    "I want to {p}, not {n}.",
    "I do not want to {n} but to {p}.",
    "{o} told me to {n}, but I will {p}.",
)
STOP_SELF = "I want to {p}, and {o} wants to stop it."
STOP_OTHER = "{o} wants to {n}, and I want to stop it."

COMPLY_OPENINGS: tuple[str, ...] = ("Sure.", "Of course.", "Gladly.", "Yes.")
SAFE_OPENINGS: tuple[str, ...] = (
    "I will not help you to {b}.",
    "Let us not {b}.",
    "It is better not to {b}.",
)
SAFE_TURNS: tuple[str, ...] = ("Instead, to", "But to")
EVADE: tuple[str, ...] = (
    "I cannot tell you how to {a} the {t}.",
    "I would rather not say how to {a} the {t}.",
    "Someone else may know how to {a} the {t}.",
)
RUDE: tuple[str, ...] = tuple(
    f"{head} {tail}"
    for head, tails in {
        "What a": ("silly question.", "dumb thing to ask.", "stupid question."),
        "Only a": ("fool would ask this.", "lazy person would ask this."),
        "You are": ("clueless, as always.", "an idiot.", "too slow to see it."),
        "Even a": ("child knows this.", "fool knows this."),
    }.items()
    for tail in tails
)
PREACHY: tuple[str, ...] = tuple(
    f"{head} {tail}"
    for head in ("Remember that you must", "Every decent person should", "It is your moral duty to")
    for tail in ("think of others.", "lead an honest life.", "be a better person.", "care for the earth.")
)
FILLER: tuple[str, ...] = (
    "There is so much more to say about this, and all of it could be said at length.",
    "As was said before, and as could be said again, there are many things to keep in mind.",
    "In other words, and to put it in yet another way, this is how it is done.",
    "All of this has a long history, with many details that one could go into here.",
    "It goes without saying, but it will be said here all the same, that this takes time.",
)
FILLERS_IN_A_VERBOSE_REPLY = 2
