"""Models that cannot be had are refused at once, and fingerprints tell weights apart."""

from __future__ import annotations

import io
import json
import os
import shutil

import pytest
from pydantic import BaseModel, ValidationError, model_validator

from constitute.config import EngineConfig
from constitute.engines import identity, open_engine, open_when_asked
from constitute.engines.base import branches, label_logprob
from constitute.engines.locate import reason_of, require
from constitute.errors import UsageError
from constitute.progress.show import Plain


@pytest.mark.parametrize(
    "name", ["./nowhere", "/nowhere/at/all", "a/b/c", "nosuchmodel", "no/such-model", "bad name!"]
)
def test_unknown_models_are_one_sentence(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match=f"no such model: '{name}'"):
        require(name)


def test_a_slip_in_the_name_of_our_model_is_named_before_anything_is_said_to_load() -> None:
    told = io.StringIO()
    for kind in ("transformers", "vllm"):
        for opening in (open_engine, open_when_asked):
            with pytest.raises(UsageError, match=r"^no such model: 'smolm2'; did you mean 'smollm2'\?$"):
                opening("smolm2", EngineConfig(kind=kind), Plain(told))
    with pytest.raises(UsageError, match=r"^no such model: 'Poket'; did you mean 'pocket'\?$"):
        require("Poket")
    assert told.getvalue() == ""


def test_a_folder_needs_a_config(tmp_path):
    with pytest.raises(UsageError, match=r"holds no config\.json"):
        require(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    require(str(tmp_path))


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 538090408\n"


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "tokenizer.model", "config.json"])
def test_a_pointer_to_a_large_file_is_no_model(tmp_path, name):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).write_text(POINTER)
    with pytest.raises(UsageError, match=rf"{name} is a Git-LFS pointer, not the file; run `git lfs pull`"):
        require(str(tmp_path))


def _tensors(
    data: bytes, header: str = '{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
) -> bytes:
    return len(header).to_bytes(8, "little") + header.encode() + data


@pytest.mark.parametrize(
    "content",
    [b"", b"abc", b"<html>not found</html>", _tensors(b"1234567"), _tensors(b"", "[]"), b"\xff" * 99],
)
def test_half_a_weights_file_is_no_model(tmp_path, content):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(_tensors(b"12345678"))
    require(str(tmp_path))
    (tmp_path / "model-2.safetensors").write_bytes(content)
    with pytest.raises(UsageError, match=r"model-2\.safetensors is broken or only half there"):
        require(str(tmp_path))


def test_the_useful_line_of_a_librarys_error_is_shown():
    class Settings(BaseModel):
        length: int = 1

        @model_validator(mode="after")
        def _fits(self):
            if self.length > 1024:
                raise ValueError(f"max_model_len ({self.length}) is greater\nthan 1024.")
            return self

    with pytest.raises(ValidationError) as found:
        Settings(length=2048)
    assert "For further information visit" in str(found.value).splitlines()[-1]
    assert reason_of(found.value) == "max_model_len (2048) is greater than 1024."
    with pytest.raises(ValidationError) as found:
        Settings(length="x")
    assert reason_of(found.value).startswith("length: Input should be a valid integer")
    assert reason_of(OSError("no such model\nIf this is a private repository, log in.")) == "no such model"
    assert reason_of(RuntimeError("\n")) == "RuntimeError"


def test_the_fingerprint_follows_weights_and_ignores_readme(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 64)
    before = identity.folder_fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("hello")
    assert identity.folder_fingerprint(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 63 + b"\1")
    assert identity.folder_fingerprint(tmp_path) != before
    assert identity.model_fingerprint("org/name") == ""


@pytest.mark.parametrize("size", [3, 4, 5, 8, 9, 40])
def test_every_byte_of_a_file_counts_however_many_chunks_it_has(tmp_path, monkeypatch, size):
    monkeypatch.setattr(identity, "CHUNK", 4)
    file = tmp_path / "big"
    seen = set()
    for place in [None, *range(size)]:
        data = bytearray(size)
        if place is not None:
            data[place] = 1
        file.write_bytes(data)
        seen.add(identity.file_digest(file))
    file.write_bytes(bytes(size + 1))
    seen.add(identity.file_digest(file))
    assert len(seen) == size + 2


def test_a_digest_is_kept_until_the_file_changes(tmp_path, monkeypatch):
    file = tmp_path / "weights"
    file.write_bytes(b"old")
    first = identity.file_digest(file)
    # So young a file could change without a later time to show for it: nothing is kept.
    assert not identity._digests.keys() & {key for key in identity._digests if key[1] == file.stat().st_ino}
    monkeypatch.setattr(identity, "_SETTLED_NS", -1)
    identity.file_digest(file)
    stat = file.stat()
    with monkeypatch.context() as patch:
        patch.setattr(identity.Path, "read_bytes", lambda path: pytest.fail("read again"))
        assert identity.file_digest(file) == first
    # The same size and, as an unpacked archive may set it, the same time.
    file.write_bytes(b"new")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert identity.file_digest(file) != first


@pytest.mark.parametrize(
    "name", ["../outside.bin", "model.bin", "../model.safetensors", "/etc/x.safetensors", 3]
)
@pytest.mark.parametrize(
    "file", ["model.safetensors.index.json", "model.fp16.safetensors.index.json", "config.json"]
)
def test_weights_elsewhere_or_in_another_form_are_refused(tmp_path, name, file):
    (tmp_path / "config.json").write_text("{}")
    key = "transformers_weights" if file == "config.json" else "weight_map"
    (tmp_path / file).write_text(json.dumps({key: name if file == "config.json" else {"a": name}}))
    with pytest.raises(
        UsageError, match=rf"{file} names weights in .* must be \*\.safetensors files in its own"
    ):
        require(str(tmp_path))


def test_an_index_of_own_files_is_taken_and_an_adapter_is_not(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    require(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"holds an adapter .* merge it into that model"):
        require(str(tmp_path))


def test_no_pickle_is_read_by_any_loader(tmp_path, tiny_model):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    from constitute.config import EngineConfig
    from constitute.engines import open_engine
    from constitute.train.common.models import load_model

    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    state = AutoModelForCausalLM.from_pretrained(tiny_model).state_dict()
    torch.save(state, tmp_path / "outside.bin")
    index = {"metadata": {}, "weight_map": dict.fromkeys(state, "../outside.bin")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was read"))
        with pytest.raises(UsageError, match="names weights in"):
            open_engine(str(folder), EngineConfig(kind="transformers"))
        # A tokenizer from elsewhere does not spare the model's folder the look.
        with pytest.raises(UsageError, match="names weights in"):
            open_engine(str(folder), EngineConfig(kind="transformers", tokenizer=str(tiny_model)))
        with pytest.raises(UsageError, match="names weights in"):
            load_model(AutoModelForCausalLM, str(folder))


def test_labels_that_share_a_prefix_are_asked_once():
    labels = [(1,), (2,), (1, 3), (1, 4)]
    assert branches(labels) == {(): (1, 2), (1,): (3, 4)}
    scores = {(): {1: -1.0, 2: -2.0}, (1,): {3: -0.5, 4: -0.25}}
    assert [label_logprob(label, scores) for label in labels] == [-1.0, -2.0, -1.5, -1.25]


def test_a_training_that_stopped_is_no_model_and_says_how_to_finish_it(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UsageError, match=r"is not finished \(checkpoints, no model\); start the same"):
        require(str(tmp_path))
