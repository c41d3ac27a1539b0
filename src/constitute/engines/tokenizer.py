"""Load a model's tokenizer, and find the tokens that end a turn and that pad a batch."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from constitute.engines.locate import reason_of, require
from constitute.errors import UsageError
from constitute.progress import first_process

log = logging.getLogger(__name__)

# What the Hub calls a repository's newest state.
_REVISION = "main"
# Kinds of models whose tokenizers, where they hold more than 100,000 tokens, are Mistral's Tekken.
_MISTRAL = frozenset({"mistral", "mistral3", "mistral4", "ministral", "ministral3", "pixtral", "voxtral"})
# Names of tokens that a vocabulary keeps free, the fittest first; any other unused special token comes last.
_FREE_NAMES = (re.compile(r"pad", re.I), re.compile(r"reserved|unused|extra|control|dummy", re.I))
# Names of tokens that may end a text, whatever the configuration says.
_ENDING = re.compile(r"end|eo[stm]|stop|return|</s>", re.I)


def load_tokenizer(path: str, revision: str | None = None) -> Any:
    """The tokenizer of a local folder or Hub name; code from elsewhere is never run.

    Raises `UsageError` where there is none or where its files are broken.
    """
    require(path)
    try:
        with _unsaid():
            tokenizer = _loaded(path, revision)
            if _splits_wrongly(tokenizer, path, revision):
                tokenizer = _loaded(path, revision, fix_mistral_regex=True)
        return tokenizer
    except Exception as problem:  # the tokenizers library raises a bare Exception for a broken file
        raise UsageError(
            f"cannot load the tokenizer of model {path!r} ({reason_of(problem)}); give a folder with a whole "
            "tokenizer.json, a Hub name that can be reached, or a packaged model"
        ) from problem


def _loaded(path: str, revision: str | None, **mended: Any) -> Any:
    """The tokenizer as its own class, or by its tokenizer.json where that class, such as mistral-common's,
    has no form of the tokenizers library.

    Raises `OSError` where there is no tokenizer.json either.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=False, **mended)
    if getattr(tokenizer, "backend_tokenizer", None) is not None:
        return tokenizer
    return PreTrainedTokenizerFast.from_pretrained(path, revision=revision or _REVISION, **mended)


def _splits_wrongly(tokenizer: Any, path: str, revision: str | None) -> bool:
    """Whether a Mistral tokenizer has the wrong pattern that older versions of transformers wrote.

    transformers finds it in every folder that does not say which version wrote it, so the kind of the model
    has to be looked at as well (`_patch_mistral_regex` in tokenization_utils_tokenizers.py of 5.17).
    """
    if getattr(tokenizer.backend_tokenizer, "fix_mistral_regex", None) is not False:
        return False
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(path, revision=revision or _REVISION, trust_remote_code=False)
    return config.model_type in _MISTRAL


@contextmanager
def _unsaid() -> Iterator[None]:
    """Keep transformers from telling a user to set a flag that is set here."""
    said = logging.getLogger("transformers.tokenization_utils_tokenizers")
    before = said.level
    said.setLevel(logging.ERROR)
    try:
        yield
    finally:
        said.setLevel(before)


def eos_ids(tokenizer: Any, *configs: Any) -> frozenset[int]:
    """All ids that end a turn: the tokenizer's and those of any model or generation configuration."""
    found = {tokenizer.eos_token_id}
    for config in configs:
        value = getattr(config, "eos_token_id", None)
        found.update(value if isinstance(value, list | tuple) else [value])
    return frozenset(int(value) for value in found if value is not None)


def turn_ends(model: str, tokenizer: Any, revision: str | None = None) -> frozenset[int]:
    """All ids that end a turn of `model`: its tokenizer's, its configuration's, its generation config's."""
    from transformers import AutoConfig, GenerationConfig

    revision = revision or _REVISION
    configs: list[Any] = []
    # A folder may hold a tokenizer alone, and a model need not say how to generate.
    with suppress(OSError, ValueError):
        configs.append(AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False))
    with suppress(OSError, ValueError):
        configs.append(GenerationConfig.from_pretrained(model, revision=revision))
    return eos_ids(tokenizer, *configs)


def check_template(tokenizer: Any, name: str) -> None:
    """Raise `UsageError` where conversations cannot be rendered: there is no chat template."""
    if not tokenizer.chat_template:
        raise UsageError(
            f"model {name!r} has no chat template; add a chat_template.jinja file to its folder or use "
            "an instruction-tuned model"
        )


def check_trainable(tokenizer: Any, name: str) -> None:
    """Raise `UsageError` where answers cannot be trained on: no chat template, or no eos token."""
    check_template(tokenizer, name)
    if tokenizer.eos_token_id is None:
        raise UsageError(
            f"the tokenizer of {name!r} has no eos token; set `eos_token` in its tokenizer_config.json to "
            "the token that ends a turn"
        )


def pad_of(tokenizer: Any, name: str) -> int:
    """Id of a padding token that is no eos token.

    Where the tokenizer has none, an unused special token becomes its pad token, and a warning says so.
    A sequence classifier pools the last token that is not padding: with pad = eos it reads one token early.
    Raises `UsageError` where no token is unused.
    """
    lack = pad_lack(tokenizer)
    if not lack:
        return int(tokenizer.pad_token_id)
    chosen = unused_token(tokenizer)
    if chosen is None:
        raise UsageError(
            f"the tokenizer of {name!r} has {lack} and no unused special token that could be one; set "
            "`pad_token` in its tokenizer_config.json to a token that no text contains"
        )
    tokenizer.pad_token = chosen
    if first_process():
        log.warning(
            "the tokenizer of %r has %s; its unused token %s pads instead and is saved so", name, lack, chosen
        )
    return int(tokenizer.pad_token_id)


def pad_lack(tokenizer: Any) -> str:
    """What is wrong with the tokenizer's padding, in words that follow "has"; empty where nothing is."""
    if tokenizer.pad_token_id is None:
        return "no pad token"
    return "a pad token that is its eos token" if tokenizer.pad_token_id == tokenizer.eos_token_id else ""


def unused_token(tokenizer: Any) -> str | None:
    """A special token that no text contains, no template writes and no turn ends with; None without one.

    The unknown token will do where the tokenizer spells characters it lacks in bytes.
    """
    roles = {value for value in tokenizer.special_tokens_map.values() if isinstance(value, str)}
    template = str(tokenizer.chat_template or "")
    names = [
        token.content
        for _, token in sorted(tokenizer.added_tokens_decoder.items())
        if token.special
        and token.content not in template
        and token.content not in roles
        and not _ENDING.search(token.content)
    ]
    if names:
        return min(names, key=_fitness)
    spells_bytes = json.loads(tokenizer.backend_tokenizer.to_str())["model"].get("byte_fallback", False)
    unknown = tokenizer.unk_token
    return unknown if spells_bytes and unknown not in (None, tokenizer.eos_token) else None


def _fitness(name: str) -> int:
    return next((rank for rank, form in enumerate(_FREE_NAMES) if form.search(name)), len(_FREE_NAMES))
