"""Tokenizers as they come: broken files, missing tokens, and the padding that training needs."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from tiny_models import CHATML, byte_tokenizer, chatml_tokenizer

from constitute.engines.tokenizer import check_trainable, eos_ids, load_tokenizer, pad_of, unused_token
from constitute.errors import UsageError

pytest.importorskip("transformers")
CHAT = ("<|im_start|>", "<|im_end|>")
QWEN_BASE = ("<|endoftext|>", *CHAT, "<|object_ref_start|>", "<|box_end|>", "<|vision_pad|>", "<|image_pad|>")
LLAMA3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", *CHAT, "<|eot_id|>")
SMOL = ("<|endoftext|>", *CHAT, "<repo_name>", "<file_sep>", "<jupyter_start>")


def test_all_ends_of_a_turn_are_found():
    tokenizer = chatml_tokenizer()
    assert eos_ids(tokenizer) == {2}
    several = SimpleNamespace(eos_token_id=[2, 7])
    assert eos_ids(tokenizer, several, SimpleNamespace(eos_token_id=9), None) == {2, 7, 9}
    assert eos_ids(SimpleNamespace(eos_token_id=None)) == frozenset()


@pytest.mark.parametrize(
    ("special", "eos", "pad", "chosen"),
    [
        (QWEN_BASE, "<|endoftext|>", "<|endoftext|>", "<|vision_pad|>"),
        (LLAMA3, "<|eot_id|>", "", "<|reserved_special_token_0|>"),
        (SMOL, "<|im_end|>", "<|im_end|>", "<repo_name>"),
    ],
)
def test_stock_tokenizers_are_padded_by_an_unused_token_and_that_is_said(caplog, special, eos, pad, chosen):
    tokenizer = byte_tokenizer(CHATML, special=special, eos=eos, pad=pad)
    size = len(tokenizer)
    assert pad_of(tokenizer, "stock") == tokenizer.convert_tokens_to_ids(chosen)
    assert (tokenizer.pad_token, tokenizer.eos_token, len(tokenizer)) == (chosen, eos, size)
    lack = "a pad token that is its eos token" if pad else "no pad token"
    assert f"'stock' has {lack}; its unused token {chosen} pads instead" in caplog.text
    # The second time there is nothing to say.
    caplog.clear()
    assert pad_of(tokenizer, "stock") == tokenizer.convert_tokens_to_ids(chosen)
    assert not caplog.text


def test_a_pad_token_of_its_own_stays():
    assert pad_of(chatml_tokenizer(), "tiny") == 0


def test_where_no_token_is_unused_the_remedy_is_said():
    tokenizer = byte_tokenizer(CHATML, special=CHAT, eos="<|im_end|>", pad="<|im_end|>")
    assert unused_token(tokenizer) is None
    with pytest.raises(
        UsageError, match=r"'tiny' has a pad token that is its eos token and no unused special"
    ):
        pad_of(tokenizer, "tiny")


def test_the_unknown_token_pads_where_characters_are_spelled_in_bytes():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    def tokenizer(byte_fallback):
        vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3}
        backend = Tokenizer(
            models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=byte_fallback)
        )
        return PreTrainedTokenizerFast(
            tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
        )

    assert unused_token(tokenizer(True)) == "<unk>"
    assert unused_token(tokenizer(False)) is None


def test_what_cannot_be_trained_on_is_said_early():
    check_trainable(chatml_tokenizer(), "tiny")
    with pytest.raises(UsageError, match=r"model 'tiny' has no chat template; add a chat_template\.jinja"):
        check_trainable(byte_tokenizer("", special=CHAT, eos="<|im_end|>"), "tiny")
    with pytest.raises(UsageError, match="tokenizer of 'tiny' has no eos token; set `eos_token`"):
        check_trainable(byte_tokenizer(CHATML, special=CHAT), "tiny")


@pytest.mark.parametrize("content", ["", "{", '{"model": 3}', "[]", '{"version": "1.0", "added_tokens": []}'])
def test_a_broken_tokenizer_file_is_one_sentence(tmp_path, content):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    chatml_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(
        UsageError, match=r"^cannot load the tokenizer of model .*; give a folder with a whole"
    ):
        load_tokenizer(str(tmp_path))


# Tekken's pattern as transformers before 5 wrote it, which is that of cl100k.
WRONG = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def save_tekken(folder):
    """More than 100,000 tokens, and merges of "aB" and "12", which Tekken's own pattern keeps apart."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "aB", "12"]
    names += [f"unused{number}" for number in range(100_000)]
    vocab = {name: place for place, name in enumerate(names)}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[("a", "B"), ("1", "2")]))
    split = pre_tokenizers.Split(Regex(WRONG), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("config", "pieces"),
    [
        ({"model_type": "mistral3", "transformers_version": "4.50.0"}, ["a", "B", "1", "2"]),
        ({"model_type": "mistral"}, ["a", "B", "1", "2"]),
        # Written by a version that knows better, and a model of another kind: as the file says.
        ({"model_type": "mistral3", "transformers_version": "5.1.0"}, ["aB", "12"]),
        ({"model_type": "llama"}, ["aB", "12"]),
        ({"model_type": "llama", "transformers_version": "4.50.0"}, ["aB", "12"]),
    ],
)
def test_the_wrong_pattern_of_mistral_tokenizers_is_mended(tmp_path, config, pieces):
    save_tekken(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    tokenizer = load_tokenizer(str(tmp_path))
    assert [tokenizer.decode([token]) for token in tokenizer.encode("aB12")] == pieces
