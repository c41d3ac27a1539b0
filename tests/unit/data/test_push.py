"""What is uploaded to the Hub: the files that the card names, and nothing without a token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from constitute.cli.push import push as command
from constitute.data.push import check_repo, plan_upload, upload
from constitute.errors import DataError, UsageError

CARD = """---
license: "cc0-1.0"
configs:
- config_name: sft
  default: true
  data_files:
  - split: train
    path: "sft.jsonl"
---

# Data card
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "export"
    made.mkdir()
    (made / "README.md").write_text(CARD)
    for name, size in (("sft.jsonl", 700), ("removed.jsonl", 30), ("old.parquet", 9), ("sets.json", 2)):
        (made / name).write_text("x" * size)
    return made


class FakeHub:
    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def create_repo(self, repo_id: str, **more: Any) -> None:
        self.calls.append({"repo_id": repo_id, **more})

    def upload_folder(self, **more: Any) -> None:
        self.calls.append(more)


def test_a_dry_run_lists_files_sizes_and_the_card(folder):
    done = CliRunner().invoke(command, [str(folder), "me/data", "--dry-run"])
    assert done.exit_code == 0, done.output
    assert done.stdout == CARD
    lines = [line.split() for line in done.stderr.splitlines()[:5]]
    size = len(CARD)
    assert lines == [
        ["file", "bytes"],
        ["README.md", str(size)],
        ["sft.jsonl", "700"],
        ["removed.jsonl", "30"],
        ["in", "all", str(size + 730)],
    ]
    assert "not uploaded, as the card does not name them: old.parquet, sets.json" in done.stderr
    assert "nothing was sent; the private data set me/data would get this card:" in done.stderr
    shown = CliRunner().invoke(command, [str(folder), "me/data", "--dry-run", "--json"])
    found = json.loads(shown.stdout)
    assert found["bytes"] == size + 730 and found["licence"] == "cc0-1.0" and found["public"] is False


def test_a_missing_licence_is_said(folder):
    (folder / "README.md").write_text(CARD.replace('license: "cc0-1.0"\n', ""))
    done = CliRunner().invoke(command, [str(folder), "me/data", "--dry-run"])
    assert "the card names no licence" in done.stderr


def test_nothing_is_sent_without_a_token(folder):
    hub = FakeHub()
    with pytest.raises(UsageError, match=r"uploading to me/data needs a token .* or set HF_TOKEN"):
        upload(plan_upload(folder), "me/data", public=False, token=None, hub=hub)
    assert hub.calls == []


def test_the_upload_names_each_file_and_is_private_unless_asked(folder):
    hub = FakeHub()
    address = upload(plan_upload(folder), "me/data", public=False, token="t", hub=hub)
    assert address == "https://huggingface.co/datasets/me/data"
    made, sent = hub.calls
    assert made == {"repo_id": "me/data", "repo_type": "dataset", "private": True, "exist_ok": True}
    assert sent["repo_id"] == "me/data" and sent["repo_type"] == "dataset" and sent["folder_path"] == folder
    assert sent["allow_patterns"] == ["README.md", "sft.jsonl", "removed.jsonl"]
    upload(plan_upload(folder), "me/data", public=True, token="t", hub=hub)
    assert hub.calls[2]["private"] is False


def test_the_hub_has_the_two_calls():
    hub = pytest.importorskip("huggingface_hub")
    import inspect

    for name, wanted in (
        ("create_repo", {"repo_id", "repo_type", "private", "exist_ok"}),
        ("upload_folder", {"repo_id", "repo_type", "folder_path", "allow_patterns", "commit_message"}),
    ):
        assert wanted <= inspect.signature(getattr(hub.HfApi, name)).parameters.keys()


def test_what_the_hub_refuses_is_one_sentence(folder):
    class Refusing(FakeHub):
        def create_repo(self, repo_id: str, **more: Any) -> None:
            raise OSError("403 Forbidden\nmore")

    with pytest.raises(UsageError, match=r"the Hub did not take me/data \(403 Forbidden\); check the name"):
        upload(plan_upload(folder), "me/data", public=False, token="t", hub=Refusing())


@pytest.mark.parametrize("name", ["data", "a/b/c", "me/--x", "me/.."])
def test_a_wrong_name_is_one_sentence(name):
    with pytest.raises(UsageError, match=r"is no name of a data set on the Hub .* give owner/name"):
        check_repo(name)


def test_a_folder_that_is_no_export_is_refused(folder, tmp_path):
    with pytest.raises(UsageError, match=r"holds no README\.md; write it with `constitute export"):
        plan_upload(tmp_path)
    (folder / "sft.jsonl").unlink()
    with pytest.raises(UsageError, match=r"sft\.jsonl is no file of this folder"):
        plan_upload(folder)
    (folder / "sft.jsonl").symlink_to(folder / "README.md")
    with pytest.raises(UsageError, match=r"sft\.jsonl is no file of this folder"):
        plan_upload(folder)
    (folder / "README.md").write_text(CARD.replace("sft.jsonl", "../run.sqlite"))
    with pytest.raises(UsageError, match=r"run\.sqlite is no file of this folder"):
        plan_upload(folder)
    (folder / "README.md").write_text("# Data card\n")
    with pytest.raises(DataError, match=r"README\.md:1: no YAML block"):
        plan_upload(folder)
