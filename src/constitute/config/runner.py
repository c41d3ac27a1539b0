"""Settings of where the data stages run: which part of the prompts, and on which machines."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, model_serializer, model_validator

from constitute.types import Record

_SHARD = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


class Shard(Record):
    """One of `of` parts of a run's prompts, counted from 1; written `2/4`.

    It takes the prompts whose place in the input, counted from 0, leaves the rest `index - 1` when divided
    by `of`: sizes differ by at most one, and prompts that are appended move no other.
    """

    index: int
    of: int

    @model_validator(mode="before")
    @classmethod
    def _read(cls, given: Any) -> Any:
        found = _SHARD.fullmatch(given) if isinstance(given, str) else None
        if isinstance(given, str) and not (found and 1 <= int(found[1]) <= int(found[2])):
            raise ValueError("a shard is written i/N with i from 1 to N, such as 2/4")
        return given if found is None else {"index": int(found[1]), "of": int(found[2])}

    @model_serializer
    def _written(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    def takes(self, place: int) -> bool:
        """Whether the prompt at `place` is this shard's."""
        return place % self.of == self.index - 1

    def places(self, total: int) -> range:
        """The places that it takes of `total`."""
        return range(self.index - 1, total, self.of)


class RayConfig(Record):
    """How `run --on ray` uses a cluster. One actor holds one engine."""

    address: str | None = Field(
        default=None,
        description="the cluster to join, such as auto or 10.0.0.1:6379; None starts one on this machine",
    )
    actors: int | None = Field(
        default=None, ge=1, description="engines; None takes as many as the GPUs serve, one without a GPU"
    )
    num_gpus: float | None = Field(
        default=None,
        ge=0,
        description="GPUs of an actor; None takes engine.tensor_parallel where the cluster has GPUs, "
        "and none for a model that is a server",
    )
    prompts: int = Field(default=32, ge=1, description="prompts that an actor takes at once")
    object_store_mib: int = Field(
        default=128, ge=80, description="shared memory of a cluster that is started here"
    )


class RunnerConfig(Record):
    """Where the data stages of `constitute run` run."""

    on: str = Field(default="local", description="a name in constitute.runners.RUNNERS")
    ray: RayConfig = RayConfig()
