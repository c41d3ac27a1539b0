"""Models that cannot be had are refused at once, and fingerprints tell weights apart."""

from __future__ import annotations

import pytest

from constitute.engines import identity
from constitute.engines.locate import require
from constitute.engines.scoring import branches, total
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
    assert [total(label, scores) for label in labels] == [-1.0, -2.0, -1.5, -1.25]
