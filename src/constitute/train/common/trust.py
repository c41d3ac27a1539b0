"""Whether labels are worth training on, by what stands beside their file."""

from __future__ import annotations

from pathlib import Path

from constitute.data.rows import Sources, source_list
from constitute.data.sets import labels_verdict
from constitute.errors import GateFailed
from constitute.progress import Progress


def check_labels(sources: Sources, progress: Progress, *, force: bool) -> str:
    """Why the labels of the files say nothing, in a sentence that is empty where that is not noted.

    Raises `GateFailed` with it unless `force`.
    """
    found = next(filter(None, (labels_verdict(Path(source)) for source in source_list(sources))), "")
    if not found:
        return ""
    if not force:
        raise GateFailed(f"{found}; or give --force to train on them")
    progress.note(f"trained by --force although {found}")
    return found
