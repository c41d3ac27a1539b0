"""Whether labels are worth training on, by what stands beside their file."""

from __future__ import annotations

from pathlib import Path

from constitute.data.rows import Sources, files_of, source_list
from constitute.data.sets import labels_verdict, unmet_gates
from constitute.errors import GateFailed
from constitute.progress import Progress
from constitute.stages.verdict import joined


def check_labels(sources: Sources, progress: Progress, *, force: bool) -> str:
    """Why the labels of the files are not to be trained on, empty where nothing of the kind is noted.

    That is their verdict, and gates that they did not pass when they were exported. Raises `GateFailed` with
    it unless `force`.
    """
    paths = [path for source in source_list(sources) for path in files_of(source) or [Path(source)]]
    said = [sentence for path in paths for sentence in (labels_verdict(path), *unmet_gates(path)) if sentence]
    found = joined(list(dict.fromkeys(said)))
    if not found:
        return ""
    if not force:
        raise GateFailed(f"{found}; or give --force to train on them")
    progress.note(f"trained by --force although {found}")
    return found
