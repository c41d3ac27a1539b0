"""Read run.yaml, put `--set` and the command's own options on top, and refuse what is not understood."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from constitute.config.run import RunConfig
from constitute.errors import UsageError
from constitute.strict_yaml import MAX_DEPTH, Node, parse_yaml, read_bytes, read_yaml, shorten
from constitute.urls import is_url, usable

# Names of files and models that mean something relative to the file they are written in.
_BESIDE_THE_FILE = ("model", "judge", "constitution", "prompts")


def load_config(
    path: Path | None = None, sets: Sequence[str] = (), overrides: Mapping[str, Any] | None = None
) -> RunConfig:
    """Resolve the configuration: defaults, then the file, then `overrides`, then `sets`.

    `overrides` maps dotted keys to values and skips those that are None (options not given); `sets`
    holds texts `a.b=c` whose values are read as YAML. Raises `DataError` for a file that is not YAML, and
    `UsageError` in one sentence with the place (file:line:column or the --set) for what is not understood.
    """
    data: dict[str, Any] = {}
    places: dict[tuple[str, ...], str] = {}
    if path is not None:
        root = _read(path)
        data = root.plain() or {}
        places = dict(_places(root, path))
        _resolve_beside(data, path.parent)
    for dotted, value in (overrides or {}).items():
        if value is not None:
            _assign(data, tuple(dotted.split(".")), value, f"option for {dotted}")
            places[tuple(dotted.split("."))] = f"option for {dotted}"
    for text in sets:
        keys, value = _parse_set(text)
        places[keys] = f"--set {shorten(text)}"
        _assign(data, keys, value, places[keys])
    try:
        config = RunConfig.model_validate(data)
    except ValidationError as problem:
        raise UsageError(_explain(problem, places, path)) from None
    # It is written into the run directory, whichever of its servers a command asks.
    for name in (config.model, config.judge, config.engine.rollout_url, *config.engine.endpoints):
        if name is not None and is_url(name):
            usable(name)
    return config


def load_for_run(
    run_dir: Path | None,
    path: Path | None,
    sets: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> RunConfig:
    """`load_config` for a command on a run directory: without a file, the run's own configuration is used.

    `run_dir` is None where the user gave none; then the file's `run`, or the default, names it. A `limit`
    applies to one command and is not taken over from an earlier one.
    """
    overrides = dict(overrides or {})
    folder = run_dir or (RunConfig().run if path is None else None)
    if folder is not None:
        overrides["run"] = str(folder)
        if path is None and (folder / "config.yaml").is_file():
            path = folder / "config.yaml"
    return load_config(path, sets, overrides)


def dump_config(config: RunConfig) -> str:
    """The resolved configuration as YAML that `load_config` reads back to an equal value."""
    from io import StringIO

    from ruamel.yaml import YAML

    out = StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(config.model_dump(mode="json"), out)
    return out.getvalue()


def _read(path: Path) -> Node:
    """The file's mapping; a scalar without a value where the file holds nothing."""
    if not path.is_file():
        raise UsageError(f"no such configuration file: {path}; `constitute init` writes one")
    root = parse_yaml(read_bytes(path), path, escapes=True)
    if root.kind != "mapping" and root.plain() is not None:
        place = f"{path}:{root.line}:{root.column}"
        raise UsageError(f"{place}: the file holds {root.describe()}; write keys and values (model: …)")
    return root


def _places(node: Node, path: Path, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The keys that lead to each key of the file, and where it stands, as `file:line:column`."""
    for key, at in node.keys.items():
        yield (*above, key), f"{path}:{at.line}:{at.column}"
        yield from _places(node.entries[key], path, (*above, key))


def _resolve_beside(data: dict[str, Any], folder: Path) -> None:
    """Read names in the file relative to the file's own folder, where such a file exists."""
    for key in _BESIDE_THE_FILE:
        value = data.get(key)
        if isinstance(value, str) and value and (folder / value).exists():
            data[key] = str(folder / value)
    for section in ("revise", "label"):
        if isinstance(held := data.get(section), dict):
            name = held.get("few_shot_file")
            if isinstance(name, str) and name and (folder / name).exists():
                held["few_shot_file"] = str(folder / name)
    for section in ("read", "export"):
        overlap = held.get("overlap") if isinstance(held := data.get(section), dict) else None
        named = overlap.get("against") if isinstance(overlap, dict) else None
        if isinstance(overlap, dict) and isinstance(named, list):
            there = [isinstance(name, str) and bool(name) and (folder / name).exists() for name in named]
            overlap["against"] = [str(folder / n) if at else n for n, at in zip(named, there, strict=True)]
    run = data.get("run")
    if isinstance(run, str) and run:
        data["run"] = str(folder / run)


def _parse_set(text: str) -> tuple[tuple[str, ...], Any]:
    key, equals, value = text.partition("=")
    if not equals or not all(key.strip().split(".")):
        given = shorten(text)
        raise UsageError(f"--set {given!r} is not of the form a.b=value, such as generate.temperature=0.7")
    if key.count(".") > MAX_DEPTH:
        raise UsageError(f"--set {shorten(text)!r} is nested more than {MAX_DEPTH} deep; name a known key")
    # A command line may hold bytes that are no text; read as YAML they are refused with their place.
    node, problems = read_yaml(value.encode("utf-8", "surrogateescape"), escapes=True)
    if problems or node is None:
        line, column, what = min(problems)
        raise UsageError(f"--set {shorten(key)}: {line}:{column} of the value: {what}")
    return tuple(key.strip().split(".")), node.plain()


def _assign(data: dict[str, Any], keys: tuple[str, ...], value: Any, place: str) -> None:
    for depth, key in enumerate(keys[:-1]):
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise UsageError(f"{place}: {'.'.join(keys[: depth + 1])} is a value, not a section")
    data[keys[-1]] = value


def _explain(problem: ValidationError, places: Mapping[tuple[str, ...], str], path: Path | None) -> str:
    """The first thing wrong, in one sentence."""
    error = problem.errors()[0]
    keys = tuple(str(part) for part in error["loc"])
    known = tuple(key for key in keys if key in _all_names())
    place = next((places[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in places), str(path or ""))
    prefix = f"{place}: " if place else ""
    if error["type"] == "extra_forbidden":
        section = keys[:-1]
        names = list(_fields(section))
        near = get_close_matches(keys[-1], names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
        where = f" in {'.'.join(section)}" if section else ""
        return f"{prefix}unknown key {shorten(keys[-1])!r}{where}; {hint}"
    message = error["msg"][0].lower() + error["msg"][1:]
    if isinstance(error["input"], Mapping) and error["type"] == "value_error":
        # Settings contradict each other: none is wrong alone, and the whole section is too much to show.
        return f"{'.'.join(known or keys)}: {message.removeprefix('value error, ')}"
    return f"{prefix}{'.'.join(known or keys)} cannot be {shorten(repr(error['input']))}: {message}"


def _fields(section: Sequence[str]) -> Sequence[str]:
    model: type[BaseModel] = RunConfig
    for key in section:
        annotation = model.model_fields[key].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ()
        model = annotation
    return tuple(model.model_fields)


def _all_names(model: type[BaseModel] = RunConfig) -> set[str]:
    names: set[str] = set()
    for name, field in model.model_fields.items():
        names.add(name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names |= _all_names(field.annotation)
    return names
