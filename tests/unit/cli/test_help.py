"""Every command shows two examples, and every command line we print anywhere is one the parser knows."""

from __future__ import annotations

import os
import re
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from places import ROOT

from constitute.cli import options
from constitute.cli.main import COMMANDS, cli

DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]


def all_commands() -> list[tuple[str, click.Command]]:
    context = click.Context(cli)
    found: list[tuple[str, click.Command]] = []
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {sub}", inner) for sub, inner in command.commands.items()]
    return found


def command_lines(text: str) -> list[str]:
    """Lines that call constitute, in help texts and documents, continuation lines joined."""
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = re.findall(r"^\s*(?:\$ )?(constitute(?: .*)?)$", joined, flags=re.M)
    return [re.split(r"\s+#|\s+[|>&]+\s", line)[0].strip() for line in lines]


def parse(line: str) -> None:
    """Parse a command line without running it; raises click's UsageError where a flag is unknown."""
    command: click.Command = cli
    args = shlex.split(line)[1:]
    context: click.Context | None = None
    while True:
        context = command.make_context(command.name or "constitute", list(args), parent=context)
        # Until click 9 a group keeps the subcommand's name apart from the rest.
        left = [*context._protected_args, *context.args]
        if not isinstance(command, click.Group) or not left:
            return
        name, *args = left
        inner = command.get_command(context, name)
        assert inner is not None, f"{line}: no command {name!r}"
        command = inner


@pytest.mark.parametrize(("name", "command"), all_commands(), ids=[name for name, _ in all_commands()])
def test_help_has_two_examples_that_parse(name: str, command: click.Command) -> None:
    text = command.get_help(click.Context(command, info_name=f"constitute {name}"))
    examples = [line for line in command_lines(text) if line.startswith("constitute ")]
    assert len(examples) >= 2, f"{name}: {examples}"
    for example in examples:
        assert example.split()[1] == name.split()[0], example
        parse(example)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_documents_use_known_flags(path: Path) -> None:
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for line in command_lines("\n".join(blocks)):
        if line not in ("constitute", "constitute --help", "constitute --version"):
            parse(line)


def test_readme_and_the_top_level_help_name_every_command_of_constitution() -> None:
    group = cli.get_command(click.Context(cli), "constitution")
    assert isinstance(group, click.Group)
    table = re.findall(r"^\| `constitution ([a-z /]+)` \|", (ROOT / "README.md").read_text(), flags=re.M)
    in_readme = {name.strip() for row in table for name in row.split("/")}
    assert in_readme == set(group.commands) and len(in_readme) == 16
    said = " ".join(CliRunner().invoke(cli, ["--help"]).output.split())
    listed = re.search(r"constitution Constitutions, and what an edit changes: ([a-z, ]+)\.", said)
    assert listed is not None and set(listed[1].split(", ")) == in_readme


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("recover", "did you mean `constitute constitution recover`?"),
        (
            "import",
            "did you mean `constitute constitution import` or `constitute review import` "
            "or `constitute evals import`?",
        ),
        ("compare", "did you mean `constitute constitution compare` or `constitute evals compare`?"),
        ("ppo", "did you mean `constitute train ppo`?"),
        ("reprot", "did you mean 'report'?"),
    ],
)
def test_a_command_of_a_group_is_led_to_it(name: str, said: str) -> None:
    done = CliRunner().invoke(cli, [name])
    assert done.exit_code == 2 and f"no such command {name!r}; {said}" in done.output


def test_unknown_flag_is_caught() -> None:
    with pytest.raises(click.UsageError):
        parse("constitute status --no-such-flag")


def test_help_takes_less_than_half_a_second_of_processor_time() -> None:
    best = min(_seconds_of_help() for _ in range(5))
    assert best < 0.5, f"{best:.2f} s"


def _seconds_of_help() -> float:
    """Of the child alone: the wall clock would count what else runs on the machine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "constitute", "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_an_option_given_twice_is_refused_unless_it_adds_up() -> None:
    done = CliRunner().invoke(cli, ["generate", "--run", "a", "--run", "b", "--set", "x=1", "--set", "y=2"])
    assert done.exit_code == 2
    assert "--run was given 2 times and takes one value; give it once" in done.output


def test_every_command_refuses_repeats() -> None:
    def leaves(command: click.Command, ctx: click.Context) -> Iterator[click.Command]:
        if not isinstance(command, click.Group):
            yield command
            return
        for name in command.list_commands(ctx):
            yield from leaves(command.get_command(ctx, name), ctx)

    found = list(leaves(cli, click.Context(cli)))
    assert len(found) > 25 and all(isinstance(command, options.Command) for command in found)


def test_a_name_that_is_not_utf_8_is_one_sentence(tmp_path: Path) -> None:
    words = ["generate", "--model", "x", "--set", "engine.kind=fake", "--prompts", "a\udcff.jsonl"]
    done = CliRunner().invoke(cli, [*words, "--run", str(tmp_path / "run")])
    assert done.exit_code == 2 and "'a\\udcff.jsonl' is not valid UTF-8; rename the file" in done.output
    assert not (tmp_path / "run").exists()


def test_the_interpreter_ends_without_looking_through_what_is_loaded():
    program = (
        "import atexit, gc, sys; sys.argv = ['constitute', '--version']\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 1000))\n"
        "from constitute.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True"


@pytest.mark.parametrize(("given", "heard"), [(None, ["error"]), ("info", ["error", "info", "warned"])])
def test_transformers_warns_where_somebody_asks_for_it(given: str | None, heard: list[str]) -> None:
    code = (
        "import warnings\n"
        "from constitute.cli.main import quiet_transformers\n"
        "quiet_transformers()\n"
        "from transformers.utils import logging\n"
        "say = logging.get_logger('transformers.generation.utils')\n"
        "say.error('error'); say.info('info')\n"
        "warnings.warn_explicit('warned', UserWarning, 'x.py', 1, module='transformers.generation.utils')\n"
    )
    env = {name: value for name, value in os.environ.items() if name != "TRANSFORMERS_VERBOSITY"}
    env |= {} if given is None else {"TRANSFORMERS_VERBOSITY": given}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert [word for word in ("error", "info", "warned") if word in done.stderr] == heard


@pytest.mark.parametrize(
    ("name", "command"), [each for each in all_commands() if not isinstance(each[1], click.Group)]
)
def test_every_command_refuses_each_of_its_options_twice(name: str, command: click.Command) -> None:
    """`refuse_repeats` is the one place: no command goes round it, and no option keeps the last value."""
    assert isinstance(command, options.Command)
    single = [
        param
        for param in command.params
        if isinstance(param, click.Option) and not (param.multiple or param.is_flag or param.count)
    ]
    for param in single:
        option = max(param.opts, key=len)
        with pytest.raises(click.UsageError, match=f"{option} was given 2 times"):
            command.make_context(name, [option, "1", option, "2"])
