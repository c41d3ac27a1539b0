"""What each part of pocket's training consists of: the kinds of conversations and their shares."""

from __future__ import annotations

from tools.pocket.corpus import (
    Kind,
    assistant_tree,
    chain_tree,
    filled_chain_tree,
    filled_judge_tree,
    heavy_rating_tree,
    judge_tree,
    paraphrase_tree,
    plain_judge_tree,
    rating_tree,
    turned_judge_tree,
)
from tools.pocket.corpus_evals import (
    gate_tree,
    plain_gate_tree,
    plain_question_tree,
    plain_statement_tree,
    question_tree,
    relevance_tree,
    request_tree,
    statement_tree,
)

# Kind of tree -> share of the training tokens. Each part builds on the one before: judging on reading and
# copying, and judging in every direction and layout on judging at all (learnt together, none is learnt).
FIRST_MIX: dict[Kind, float] = {
    chain_tree: 0.65,
    assistant_tree: 0.25,
    plain_statement_tree: 0.05,
    request_tree: 0.05,
}
PLAIN_MIX: dict[Kind, float] = {
    chain_tree: 0.37,
    plain_judge_tree: 0.25,
    assistant_tree: 0.23,
    plain_statement_tree: 0.03,
    plain_gate_tree: 0.03,
    plain_question_tree: 0.04,
    request_tree: 0.05,
}
WIDER_MIX: dict[Kind, float] = {
    filled_chain_tree: 0.25,
    judge_tree: 0.40,
    assistant_tree: 0.20,
    plain_statement_tree: 0.02,
    plain_gate_tree: 0.02,
    plain_question_tree: 0.03,
    request_tree: 0.03,
    rating_tree: 0.03,
    paraphrase_tree: 0.02,
}
TURNED_MIX: dict[Kind, float] = {
    filled_chain_tree: 0.14,
    turned_judge_tree: 0.62,
    assistant_tree: 0.12,
    plain_statement_tree: 0.01,
    plain_gate_tree: 0.01,
    plain_question_tree: 0.01,
    request_tree: 0.01,
    rating_tree: 0.04,
    paraphrase_tree: 0.04,
}
FILLED_MIX: dict[Kind, float] = {
    filled_chain_tree: 0.22,
    filled_judge_tree: 0.40,
    assistant_tree: 0.18,
    plain_statement_tree: 0.015,
    plain_gate_tree: 0.015,
    plain_question_tree: 0.015,
    request_tree: 0.015,
    heavy_rating_tree: 0.12,
    paraphrase_tree: 0.02,
}
STATED_MIX: dict[Kind, float] = {
    filled_chain_tree: 0.21,
    filled_judge_tree: 0.32,
    assistant_tree: 0.16,
    statement_tree: 0.10,
    gate_tree: 0.03,
    relevance_tree: 0.04,
    question_tree: 0.03,
    request_tree: 0.04,
    heavy_rating_tree: 0.05,
    paraphrase_tree: 0.02,
}
KINDS: tuple[Kind, ...] = tuple(PLAIN_MIX | WIDER_MIX | TURNED_MIX | FILLED_MIX | STATED_MIX)
