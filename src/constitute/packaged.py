"""Find a file by explicit path, in the working directory, or among those the package carries."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from constitute.errors import UsageError

_PACKAGE = Path(__file__).parent
# A real model that `constitute fetch` brings into the user's cache.
SMOLLM = "smollm2"
# The constitution that gives an eval set its controls; nobody trains on it.
CONTROLS = "controls"
# A wheel carries the folders inside the package; a checkout has them at its root.
_ROOTS = (_PACKAGE / "_packaged", _PACKAGE.parents[1])


def roots() -> list[Path]:
    """Folders that hold the packaged `prompts/` and `constitutions/`."""
    return [root for root in _ROOTS if (root / "prompts").is_dir()]


def packaged_files(kind: str, suffix: str) -> dict[str, Path]:
    """The packaged files of a kind by name; the embedded model's own as `pocket/NAME`."""
    own = {f"pocket/{path.stem}": path for path in sorted((_PACKAGE / "pocket" / kind).glob(f"*{suffix}"))}
    library = {path.stem: path for root in roots() for path in sorted((root / kind).glob(f"*{suffix}"))}
    return library | own


def find(name: str | Path, kind: str, suffix: str) -> Path:
    """Resolve `name` to a file: a path that exists, else `kind/name[suffix]` here, else packaged.

    Raises `UsageError` naming every place that was looked in and what is packaged.
    """
    given, known = Path(name), packaged_files(kind, suffix)
    key = given.as_posix().removesuffix(suffix)
    here = Path(kind) / f"{key}{suffix}"
    for candidate in (given, here, known.get(key)):
        if candidate is not None and candidate.is_file():
            return candidate
    near = get_close_matches(key, known, n=1) or [each for each in known if Path(each).name == given.stem]
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UsageError(
        f"no such file: {str(name)!r} (looked for {given} and {here}); "
        f"{hint}give a path, or one of the packaged {kind}: {', '.join(known) or 'none'}"
    )


def anchored(name: str, kind: str, suffix: str) -> str:
    """`name` as it can be found from every working directory: a packaged name as it is, a file in full.

    What is found nowhere is returned as it is.
    """
    try:
        path = find(name, kind, suffix)
    except UsageError:
        return name
    packaged = not Path(name).is_file() and path in packaged_files(kind, suffix).values()
    return name if packaged else str(path.resolve())


def fetched_folder(name: str) -> Path:
    """Where a fetched model lies in the user's cache, whether it is there or not."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "constitute" / "models" / name


def model_path(name: str) -> str:
    """Folder of a local, packaged or fetched model; any other name is returned as it is, for the Hub.

    Raises `UsageError` for the model that has to be fetched first.
    """
    if Path(name).exists():
        return name
    packaged = _PACKAGE / name / "weights"
    if name.isidentifier() and (packaged / "config.json").is_file():
        return str(packaged)
    if name == SMOLLM:
        folder = fetched_folder(name)
        if not (folder / "config.json").is_file():
            raise UsageError(f"the model {name!r} is not in {folder} yet; run `constitute fetch` once")
        return str(folder)
    return name
