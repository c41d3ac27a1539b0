"""Public eval sets that are run and not written: a YAML file a set says how its rows become items.

To add one, write a YAML file here, or anywhere for `evals run --set-spec FILE`; `spec` says what it holds.
"""

from __future__ import annotations

from pathlib import Path

from constitute.errors import UsageError
from constitute.evals.sets.spec import SetSpec, load_spec
from constitute.registry import nearest

_FOLDER = Path(__file__).parent


def set_specs() -> dict[str, SetSpec]:
    """All sets of this folder by name."""
    return {path.stem: load_spec(path) for path in sorted(_FOLDER.glob("*.yaml"))}


def find_spec(name: str) -> SetSpec:
    """The set of a YAML file or of that name. Raises `UsageError` naming the nearest one that exists."""
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise UsageError(
                f"no such file: {name!r}; give the YAML file of a set, or a name of `evals list`"
            )
        return load_spec(Path(name))
    path = _FOLDER / f"{name}.yaml"
    if Path(name).name != name or not path.is_file():
        known = [each.stem for each in sorted(_FOLDER.glob("*.yaml"))]
        raise UsageError(f"no such eval set: {name!r}; {nearest(name, known)}")
    return load_spec(path)
