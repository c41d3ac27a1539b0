"""The rows that SFT learns from and those it is measured on, in tokens: cut, mixed and counted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from constitute.config.train import SFTConfig
from constitute.engines.render import Renderer, TokenRow
from constitute.errors import DataError
from constitute.train.common.data import Conversation
from constitute.train.common.fit import Job
from constitute.train.imitation.held_out import split_conversations


@dataclass(frozen=True)
class RowSplit:
    """Rows to learn and rows held out, how many of the first were mixed in, and how many were too long."""

    train: list[TokenRow]
    held_out: list[TokenRow]
    too_long: int
    held_out_too_long: int
    mixed: int = 0
    mixed_too_long: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of the rows to learn."""
        return sum(len(ids) for ids, _ in self.train)

    def counts(self) -> dict[str, int]:
        """The numbers of rows and tokens, as summaries name them."""
        return {
            "rows": len(self.train),
            "rows_held_out": len(self.held_out),
            "rows_held_out_too_long": self.held_out_too_long,
            "rows_too_long": self.too_long,
            "rows_mixed": self.mixed,
            "rows_mixed_too_long": self.mixed_too_long,
            "tokens": self.tokens,
        }


def split_rows(
    conversations: Sequence[Conversation], renderer: Renderer, config: SFTConfig, seed: int, source: str
) -> RowSplit:
    """The rows of conversations to learn and of those held out, each of at most `config.max_length` tokens.

    Raises `DataError` where every row of `source` to learn is longer.
    """
    learned, kept_out = split_conversations(conversations, config.held_out, seed)
    own, too_long = _fitting(learned, None, renderer, config.max_length)
    held_out, held_out_too_long = _fitting(kept_out, None, renderer, config.max_length)
    if not own:
        raise DataError(
            f"all {too_long} rows of {source} are longer than {config.max_length} "
            "tokens; raise train.sft.max_length"
        )
    return RowSplit(own, held_out, too_long, held_out_too_long)


def mixed_in(
    split: RowSplit, others: Sequence[Conversation], renderer: Renderer, config: SFTConfig, job: Job
) -> RowSplit:
    """The split and rows of `others`, a share `config.mix_ratio` of all; says where they are too few."""
    order = random.Random(f"{job.seed}:mix").sample(others, len(others))
    wanted = round(len(split.train) * config.mix_ratio / (1 - config.mix_ratio)) if others else 0
    added, too_long = _fitting(order, wanted, renderer, config.max_length)
    if len(added) < wanted:
        job.progress.note(f"{config.mix_data} has {len(added)} rows to mix in and {wanted} were wanted")
    return replace(split, train=[*split.train, *added], mixed=len(added), mixed_too_long=too_long)


def _fitting(
    conversations: Sequence[Conversation], wanted: int | None, renderer: Renderer, limit: int
) -> tuple[list[TokenRow], int]:
    """The first `wanted` rows of at most `limit` tokens (all for None), and how many were longer."""
    rows: list[TokenRow] = []
    too_long = 0
    for row in (row for one in conversations for row in one.rows(renderer)):
        if len(rows) == wanted:
            break
        if len(row[0]) <= limit:
            rows.append(row)
        else:
            too_long += 1
    return rows, too_long
