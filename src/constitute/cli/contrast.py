"""`constitute contrast`: answers under a principle and under its opposite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from constitute.cli import options
from constitute.cli.stages import retry, run_stage

if TYPE_CHECKING:
    from constitute.pipeline.budget import Limits


@options.command()
@options.compose(options.common, options.model, options.constitution, options.prompts, options.samples)
@options.compose(options.limit, options.skip_bad, options.reuse, retry, options.limits)
def contrast(
    run_dir: Path,
    config_file: Path | None,
    sets: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    model: str | None,
    constitution_file: str | None,
    prompts_file: str | None,
    samples: int | None,
    limit: int | None,
    skip_bad: bool,
    reuse_dir: Path | None,
    retry: bool,
    limits: Limits,
) -> int:
    """Answer each prompt in pairs: under a principle, and under its opposite.

    It takes the place of `generate`: set chain=[contrast, label] and label.pairs=contrast, and label the
    pairs next. The opposite is the principle's own where the constitution has one. -n is even: two answers
    make a pair.

    \b
    Examples:
      constitute contrast --config run.yaml --prompts prompts.jsonl -n 2
      constitute contrast --run rlcd --constitution assistant --set "chain=[contrast, label]"
    """
    wanted = {"model": model, "constitution": constitution_file, "prompts": prompts_file, "limit": limit}
    more = {"contrast.n": samples, "seed": seed, "reuse": reuse_dir}
    config = options.configured(run_dir, config_file, sets, {**wanted, **more})
    return run_stage(config, "contrast", as_json=as_json, skip_bad=skip_bad, retry=retry, limits=limits)
