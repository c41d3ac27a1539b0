"""Put an export folder on the Hugging Face Hub as a data set: what would go there, and the upload itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from constitute.data.removal import REMOVED_FILE
from constitute.data.sets import CARD_FILE, LABELS_FILE
from constitute.errors import DataError, UsageError
from constitute.files import read_text
from constitute.strict_yaml import parse_yaml
from constitute.text import harmless


class Upload(NamedTuple):
    """What is uploaded: files with their bytes, the card among them, and the names that stay behind."""

    folder: Path
    files: tuple[tuple[str, int], ...]
    left: tuple[str, ...]
    card: str
    licence: str | None

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(size for _, size in self.files)


class Hub(Protocol):
    """The two calls of `huggingface_hub.HfApi` that an upload makes."""

    def create_repo(self, repo_id: str, *, repo_type: str, private: bool, exist_ok: bool) -> Any: ...
    def upload_folder(
        self,
        *,
        repo_id: str,
        repo_type: str,
        folder_path: Path,
        allow_patterns: list[str],
        commit_message: str,
    ) -> Any: ...


def plan_upload(folder: Path) -> Upload:
    """The card, the sets that its YAML block names, and what is known of them.

    Raises `UsageError` for a folder without a card or without one of its sets, and `DataError` for a card
    without the block.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        raise UsageError(
            f"{folder} holds no {CARD_FILE}; write it with `constitute export --run RUN` and give RUN/export"
        )
    card = read_text(path)
    block = _block(path, card)
    names = [CARD_FILE, *_sets(path, block)]
    names += [name for name in (LABELS_FILE, REMOVED_FILE) if (folder / name).is_file()]
    for name in names:
        file = folder / name
        if Path(name).name != name or file.is_symlink() or not file.is_file():
            raise UsageError(f"{file} is no file of this folder; run `constitute export` again")
    rest = sorted(each.name for each in folder.iterdir() if each.name not in names)
    sizes = tuple((name, (folder / name).stat().st_size) for name in names)
    licence = block.get("license")
    return Upload(folder, sizes, tuple(rest), card, None if licence is None else str(licence))


def upload(plan: Upload, repo: str, *, public: bool, token: str | None, hub: Hub | None = None) -> str:
    """Upload the files to the data set `repo`, made where it is missing; returns its address.

    Raises `UsageError` without a token, and for what the Hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if not token:
        raise UsageError(
            f"uploading to {repo} needs a token of the Hub with write access, and none is set; log in with "
            "`hf auth login` or set HF_TOKEN, or see what would be uploaded with --dry-run"
        )
    hub = hub or HfApi(token=token)
    try:
        hub.create_repo(repo, repo_type="dataset", private=not public, exist_ok=True)
        hub.upload_folder(
            repo_id=repo,
            repo_type="dataset",
            folder_path=plan.folder,
            allow_patterns=[name for name, _ in plan.files],
            commit_message="Upload from constitute",
        )
    except (HfHubHTTPError, OSError, ValueError) as problem:
        reason = harmless(str(problem)).strip().split("\n")[0]
        raise UsageError(
            f"the Hub did not take {repo} ({reason}); check the name, the token's rights and the network, "
            "then push again: what is there already is not sent twice"
        ) from problem
    return f"https://huggingface.co/datasets/{repo}"


def check_repo(repo: str) -> None:
    """Raise `UsageError` for what is no name `owner/name` of the Hub."""
    try:
        from huggingface_hub.utils import HFValidationError, validate_repo_id
    except ImportError:
        raise UsageError(
            "the Hub is reached with the package huggingface_hub; pip install 'constitute[train]'"
        ) from None
    try:
        validate_repo_id(repo)
        if "/" in repo:
            return
        reason = "the owner is missing"
    except HFValidationError as problem:
        reason = str(problem).split("\n")[0]
    raise UsageError(f"{repo!r} is no name of a data set on the Hub ({reason}); give owner/name")


def _block(path: Path, card: str) -> Mapping[str, Any]:
    parts = card.split("---\n", 2)
    if len(parts) < 3 or parts[0]:
        raise DataError(f"{path}:1: no YAML block; run `constitute export` again")
    found = parse_yaml(parts[1].encode("utf-8"), path).plain()
    if not isinstance(found, Mapping):
        raise DataError(f"{path}:2: the YAML block holds no keys; run `constitute export` again")
    return found


def _sets(path: Path, block: Mapping[str, Any]) -> list[str]:
    try:
        return [str(part["path"]) for each in block["configs"] for part in each["data_files"]]
    except (KeyError, TypeError):
        raise DataError(f"{path}: its YAML block names no sets; run `constitute export` again") from None
