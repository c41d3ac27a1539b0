"""`constitute serve`: vLLM's OpenAI-compatible server with sound settings."""

from __future__ import annotations

from pathlib import Path

import click

from constitute.cli import options
from constitute.errors import ExitCode


@options.command()
@click.argument("model")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen; besides loopback the only host it answers to.",
)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--allow-remote", is_flag=True, help="Permit a host other than loopback (no password!).")
@click.option("--context-length", type=click.IntRange(16), help="Tokens; the model's own by default.")
@click.option("--kv-cache-gib", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True)
@click.option("--dtype", type=click.Choice(["auto", "float32", "bfloat16", "float16"]), default="auto")
@click.option(
    "--gpu-memory",
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of each GPU's memory; vLLM's own (0.9) by default.",
)
@click.option("--tensor-parallel", type=click.IntRange(1), default=1, help="GPUs that share each layer.")
@click.option("--pipeline-parallel", type=click.IntRange(1), default=1, help="GPUs that share the layers.")
@click.option(
    "--data-parallel", type=click.IntRange(1), default=1, help="Copies of the model, each on its own GPUs."
)
@click.option("--rollouts", is_flag=True, help="Let PPO sample here and replace the weights (loopback only).")
@click.option(
    "--sync",
    type=click.Choice(["files", "nccl", "ipc"]),
    default="files",
    show_default=True,
    help="How PPO's weights arrive: a folder, from another GPU, or on the trainer's own GPU.",
)
@click.option("--log", type=click.Path(dir_okay=False, path_type=Path), help="Append the server's log here.")
@options.debug
def serve(
    model: str,
    host: str,
    port: int,
    allow_remote: bool,
    context_length: int | None,
    kv_cache_gib: float,
    dtype: str,
    gpu_memory: float | None,
    tensor_parallel: int,
    pipeline_parallel: int,
    data_parallel: int,
    rollouts: bool,
    sync: str,
    log: Path | None,
) -> int:
    """Serve MODEL with vLLM until interrupted; the URL goes to stdout once it is healthy.

    \b
    Examples:
      constitute serve pocket
      constitute serve ./my-model --port 8001 --log server.log
      constitute serve pocket --rollouts
      constitute serve ./my-70b --tensor-parallel 4 --gpu-memory 0.85
    """
    from constitute.engines.server import ServeOptions, running, wait

    wanted = ServeOptions(
        model=model,
        host=host,
        port=port,
        allow_remote=allow_remote,
        context_length=context_length,
        kv_cache_gib=kv_cache_gib,
        dtype=dtype,
        gpu_memory=gpu_memory,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
        data_parallel=data_parallel,
        rollouts=rollouts,
        sync=sync,
        log=log,
    )
    try:
        with running(wanted, say=lambda text: click.echo(text, err=True)) as child:
            click.echo(wanted.url)
            following = f"generate --model {wanted.url} --prompts FILE"
            if rollouts:
                following = f"train ppo --model {model} --set engine.rollout_url={wanted.url}"
            click.echo(f"next: constitute {following}", err=True)
            wait(child, log)
    except KeyboardInterrupt:
        click.echo(f"constitute: the server at {wanted.url} is stopped", err=True)
    return ExitCode.INTERRUPTED
