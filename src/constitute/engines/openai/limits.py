"""How fast a server may be asked: requests in flight, ceilings a minute, Retry-After; pure but for jitter."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime

# A server that asks for more is asked again after this time: it may have been told to come back tomorrow.
RETRY_AFTER_CAP_S = 60.0
_BACKOFF_S = 0.5
_BACKOFF_CAP_S = 8.0
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")


@dataclass
class Window:
    """How many requests may be in flight: one more after each window of answers, half after a refusal.

    Additive increase and multiplicative decrease, as in TCP (RFC 5681, section 3.1). `most` is the start
    and the ceiling.
    """

    most: int
    limit: int = field(init=False)
    _answers: int = field(default=0, init=False)
    _halved: float = field(default=-math.inf, init=False)

    def __post_init__(self) -> None:
        self.limit = self.most

    def answered(self) -> None:
        """A request was answered."""
        self._answers += 1
        if self._answers >= self.limit:
            self._answers = 0
            self.limit = min(self.most, self.limit + 1)

    def refused(self, sent: float, now: float) -> bool:
        """A request that went out at `sent` was refused at `now` for coming too fast: whether this is news.

        Requests that were out before the last halving say nothing new: a window is halved once.
        """
        if sent <= self._halved:
            return False
        self._halved = now
        self._answers = 0
        self.limit = max(1, self.limit // 2)
        return True


class Bucket:
    """A ceiling a minute, spent evenly: a second's worth may go out at once.

    A cost above that is let through when the bucket is full and paid off afterwards, so that the ceiling
    holds over a minute whatever single requests cost.
    """

    def __init__(self, per_minute: float) -> None:
        self._rate = per_minute / 60
        self._room = max(1.0, self._rate)
        self._level = self._room
        self._filled = -math.inf

    def wait(self, now: float, cost: float) -> float:
        """Seconds until `cost` may be taken; 0 for now."""
        if now > self._filled:
            if self._filled > -math.inf:
                self._level = min(self._room, self._level + (now - self._filled) * self._rate)
            self._filled = now
        lack = min(cost, self._room) - self._level
        # The clock's own rounding must not make a wait of nothing.
        return lack / self._rate if lack > 1e-9 * self._room else 0.0

    def take(self, cost: float) -> None:
        """Spend `cost`; below 0, gives back what was taken too much."""
        self._level = min(self._room, self._level - cost)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a server asks to wait, at most `RETRY_AFTER_CAP_S`; None where it does not say.

    Reads `retry-after-ms` (OpenAI) and `Retry-After` as whole or decimal seconds or as an HTTP date (RFC
    9110, section 10.2.3). `headers` are by lower-case name, `now` is in seconds since the epoch.
    """
    milliseconds = headers.get("retry-after-ms", "").strip()
    value = headers.get("retry-after", "").strip()
    if _NUMBER.fullmatch(milliseconds):
        seconds = float(milliseconds) / 1000
    elif _NUMBER.fullmatch(value):
        seconds = float(value)
    else:
        try:
            date = parsedate_to_datetime(value)
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
    return min(max(seconds, 0.0), RETRY_AFTER_CAP_S)


def pause(attempt: int, asked: float | None) -> float:
    """Seconds before the next try: what the server asked for, else a doubling random time."""
    if asked is not None:
        return asked
    longest = min(_BACKOFF_S * 2.0 ** min(attempt, 16), _BACKOFF_CAP_S)
    return random.uniform(longest / 2, longest)
