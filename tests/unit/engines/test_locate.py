"""Models that cannot be had are refused at once, and fingerprints tell weights apart."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError, model_validator

from constitute.engines import identity
from constitute.engines.base import branches, label_logprob
from constitute.engines.locate import reason_of, require
from constitute.errors import UsageError


@pytest.mark.parametrize(
    "name", ["./nowhere", "/nowhere/at/all", "a/b/c", "nosuchmodel", "no/such-model", "bad name!"]
)
def test_unknown_models_are_one_sentence(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UsageError, match=f"no such model: '{name}'"):
        require(name)


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


def test_a_large_file_is_sampled_over_its_whole_length(tmp_path, monkeypatch):
    monkeypatch.setattr(identity, "WHOLE_FILE_LIMIT", 1 << 20)
    file = tmp_path / "big"
    file.write_bytes(b"\0" * (8 << 20))
    before = identity.file_digest(file)
    for place in (0, (8 << 20) - 1):
        data = bytearray(8 << 20)
        data[place] = 1
        file.write_bytes(data)
        assert identity.file_digest(file) != before


def test_labels_that_share_a_prefix_are_asked_once():
    labels = [(1,), (2,), (1, 3), (1, 4)]
    assert branches(labels) == {(): (1, 2), (1,): (3, 4)}
    scores = {(): {1: -1.0, 2: -2.0}, (1,): {3: -0.5, 4: -0.25}}
    assert [label_logprob(label, scores) for label in labels] == [-1.0, -2.0, -1.5, -1.25]
