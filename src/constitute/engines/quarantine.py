"""Make a copy of a tokenizer that cannot produce a control token from text.

Every control token is renamed, in the list of added tokens and in the model's vocabulary, to a random
string nobody can write; ids and merges of ordinary text stay as they are.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

_MARKUP = re.compile(r"[^\w\s]")


def control_ids(state: dict[str, Any], template: str) -> frozenset[int]:
    """Ids of special tokens, and of any other added token that the chat template itself writes.

    Added tokens the template does not name (runs of spaces, HTML tags) are ordinary text.
    """
    return frozenset(
        token["id"]
        for token in state["added_tokens"]
        if token["special"] or (token["content"] in template and _MARKUP.search(token["content"]))
    )


def added_ids(state: dict[str, Any]) -> frozenset[int]:
    """Ids of all added tokens; `quarantined` can rename these and no others."""
    return frozenset(token["id"] for token in state["added_tokens"])


def unknown_id(state: dict[str, Any]) -> int | None:
    """The id a tokenizer gives to characters it does not know, or None."""
    model = state["model"]
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    vocab = model.get("vocab")
    name = model.get("unk_token")
    return vocab.get(name) if isinstance(vocab, dict) and name else None


def quarantined(state: dict[str, Any], control: frozenset[int], *, first: bool) -> str:
    """JSON of the tokenizer `state` with the `control` tokens renamed, so that no text gives them.

    `first` says whether the text to encode opens the prompt: SentencePiece-like tokenizers put a space
    before the very first text only.
    """
    state = json.loads(json.dumps(state))
    secret = secrets.token_hex(16)
    names = {
        token["content"]: f"\ue000{secret}{token['id']}"
        for token in state["added_tokens"]
        if token["id"] in control
    }
    for token in state["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    _rename_vocabulary(state["model"], names)
    state["post_processor"] = None
    state["truncation"] = state["padding"] = None
    if not first:
        _drop_first_space(state.get("pre_tokenizer"))
    return json.dumps(state)


def _rename_vocabulary(model: dict[str, Any], names: dict[str, str]) -> None:
    vocab = model.get("vocab")
    if isinstance(vocab, dict):
        model["vocab"] = {names.get(piece, piece): index for piece, index in vocab.items()}
    elif isinstance(vocab, list):
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocab]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if model.get("merges"):
        model["merges"] = [merge for merge in model["merges"] if not _touches(merge, names)]


def _touches(merge: str | list[str], names: dict[str, str]) -> bool:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left in names or right in names or left + right in names


def _drop_first_space(pre_tokenizer: dict[str, Any] | None) -> None:
    if pre_tokenizer is None:
        return
    if pre_tokenizer["type"] == "Sequence":
        for part in pre_tokenizer["pretokenizers"]:
            _drop_first_space(part)
    elif pre_tokenizer["type"] == "Metaspace" and pre_tokenizer.get("prepend_scheme") == "first":
        pre_tokenizer["prepend_scheme"] = "never"
