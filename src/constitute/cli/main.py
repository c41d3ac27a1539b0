"""The command line: a table of commands, each imported only when it is asked for."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from importlib import import_module

import click

from constitute import __version__
from constitute.cli import options
from constitute.registry import nearest
from constitute.stages import STAGES

COMMANDS = {
    "init": ("constitute.cli.init:init", "Write a constitution, prompts and run.yaml that work as they are."),
    "data": ("constitute.cli.data:data", "Inspect files of data before anything runs."),
    "doctor": ("constitute.cli.doctor:doctor", "Say what this machine can do, and the remedy for each lack."),
    "serve": ("constitute.cli.serve:serve", "Serve a model with vLLM's OpenAI-compatible server."),
    "serve-reward": (
        "constitute.cli.serve_reward:serve_reward",
        "Serve a reward model, a judge or functions to other trainers.",
    ),
    "constitution": (
        "constitute.cli.constitution.group:constitution",
        "Constitutions, and what an edit changes: new, show, set, remove, check, lint, import, export, test, "
        "examples, keep, preview, diff, attribute, compare, recover.",
    ),
    "prompts": ("constitute.cli.prompts:prompts", "Have a model write red-team and other prompts."),
    "generate": ("constitute.cli.stages:generate", "Sample n responses for each prompt."),
    "contrast": ("constitute.cli.contrast:contrast", "Answer each prompt under a principle and against it."),
    "revise": ("constitute.cli.stages:revise", "Critique and revise responses under the constitution."),
    "filter": ("constitute.cli.filter:filter_rows", "Remove revisions that are not worth training on."),
    "label": ("constitute.cli.stages:label", "Label pairs with soft AI preferences, in both orders."),
    "judge": (
        "constitute.cli.judge:judge",
        "Compare ways to label with a model, on pairs that people judged.",
    ),
    "review": (
        "constitute.cli.review:review",
        "Choose between answers, blind, and measure agreement with the judge.",
    ),
    "export": ("constitute.cli.export:export", "Write SFT and preference data sets from a run."),
    "push": ("constitute.cli.push:push", "Upload an export folder to the Hub as a data set."),
    "train": (
        "constitute.cli.train.group:train",
        "Train with AI feedback: sft, reward, dpo, best-of-n, ppo, grpo.",
    ),
    "handoff": (
        "constitute.cli.handoff:handoff",
        "Hand a run over to OpenRLHF, verl or NeMo-RL.",
    ),
    "evals": ("constitute.cli.evals.group:evals", "Write model-written evals and run them."),
    "run": ("constitute.cli.run:run", "Run the whole loop of one YAML file."),
    "plan": ("constitute.cli.plan:plan", "Say what a run would ask, in requests and tokens, beforehand."),
    "status": ("constitute.cli.status:status", "Count a run's rows by outcome."),
    "merge": ("constitute.cli.merge:merge", "Make one run of several that have the same settings."),
    "rows": (
        "constitute.cli.rows:rows",
        "List a run's rows by reason or figure; as JSON, CSV or Parquet.",
    ),
    "show": ("constitute.cli.status:show", "Print one row's whole chain."),
    "prune": ("constitute.cli.prune:prune", "List what a run no longer needs on disk, and delete it."),
    "report": ("constitute.cli.report:report", "Write one self-contained HTML file about a run."),
    "fetch": ("constitute.cli.fetch:fetch", "Fetch SmolLM2-135M-Instruct, a small real model, as 'smollm2'."),
    "demo": ("constitute.cli.demo:demo", "Run the whole loop on the embedded model, on a CPU."),
}


class LazyGroup(options.Group):
    """Resolves a command to its module on first use, so that `--help` stays fast.

    A stage without a command of its own gets one.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *(name for name in STAGES if name not in COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            if cmd_name not in STAGES:
                return None
            from constitute.cli.stages import stage_command

            return stage_command(cmd_name)
        module, name = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and args[0] not in known:
            ctx.fail(f"no such command {args[0]!r}; {self._meant(ctx, args[0])}")
        return super().resolve_command(ctx, args)

    def _meant(self, ctx: click.Context, name: str) -> str:
        """The commands of that name in a group, such as `constitution import`; else the nearest name."""
        groups = [(each, self.get_command(ctx, each)) for each in COMMANDS]
        inner = [
            f"`constitute {each} {name}`"
            for each, group in groups
            if isinstance(group, click.Group) and name in group.commands
        ]
        if inner:
            return f"did you mean {' or '.join(inner)}?"
        return nearest(name, self.list_commands(ctx))


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="constitute")
def cli() -> None:
    """Reinforcement learning from AI feedback under a written constitution.

    \b
    Examples:
      constitute demo
      constitute init my-project
    """


def quiet_transformers() -> None:
    """Keep transformers' warnings off the terminal, of this process and of those it starts.

    They tell what is checked here, or set on purpose. Whoever wants them sets TRANSFORMERS_VERBOSITY.
    """
    if "TRANSFORMERS_VERBOSITY" not in os.environ:
        os.environ["TRANSFORMERS_VERBOSITY"] = "error"
        warnings.filterwarnings("ignore", module=r"transformers(\.|$)")


def main() -> None:
    """Entry point: run the command line and turn errors into one sentence and an exit code."""
    from constitute.cli.errors import run_and_exit
    from constitute.cli.interrupt import watch

    quiet_transformers()
    watch()
    code = run_and_exit(cli)
    # The interpreter would look through every object of torch and vLLM before it ends: seconds for nothing.
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    main()
