"""Configuration: defaults, files, --set, overrides, and one sentence for whatever is not understood."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from constitute.config import RunConfig, load_config
from constitute.config.load import dump_config, load_for_run
from constitute.errors import ConstituteError, DataError, UsageError
from constitute.strict_yaml import MAX_BYTES


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(folder: Path, text: str | bytes, *sets: str) -> str:
    with pytest.raises((UsageError, DataError)) as problem:
        load_config(write(folder, text), sets)
    assert "\n" not in str(problem.value)
    return str(problem.value)


def test_defaults_need_no_file() -> None:
    config = load_config()
    assert config == RunConfig()
    assert (config.generate.n, config.label.pairs, config.run) == (1, "samples", Path("run"))


def test_sets_stand_over_overrides_and_these_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "seed: 1\ngenerate:\n  n: 2\n  temperature: 0.5\n")
    config = load_config(path, ["generate.temperature=0.1"], {"generate.n": 3, "seed": None})
    assert (config.seed, config.generate.n, config.generate.temperature) == (1, 3, 0.1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("label.principles=all", "all"),
        ("label.principles=4", 4),
        ("revise.critique=false", False),
        ("generate.stop=[a, b]", ("a", "b")),
        ("engine.context_length=", None),
        ("train.ppo.learning_rate=3e-6", 3e-6),
    ],
)
def test_a_set_is_read_as_yaml(text: str, value: object) -> None:
    found: object = load_config(None, [text])
    for key in text.split("=")[0].split("."):
        found = getattr(found, key)
    assert found == value


def test_the_resolved_configuration_reads_back_equal(tmp_path: Path) -> None:
    config = load_config(
        None, ["generate.stop=['\\n', 'no']", "label.principles=2", "generate.system='no: yes'"]
    )
    path = write(tmp_path, dump_config(config))
    assert load_config(path).model_dump(exclude={"run"}) == config.model_dump(exclude={"run"})


def test_an_unknown_key_names_file_line_and_the_nearest(tmp_path: Path) -> None:
    message = refused(tmp_path, "seed: 1\n\ngenerate:\n  temprature: 1\n")
    assert message == (
        f"{tmp_path}/run.yaml:4:3: unknown key 'temprature' in generate; did you mean 'temperature'?"
    )


def test_an_unknown_key_in_a_set_names_the_set(tmp_path: Path) -> None:
    assert refused(tmp_path, "", "sed=1") == "--set sed=1: unknown key 'sed'; did you mean 'seed'?"


def test_a_wrong_value_names_key_line_and_value(tmp_path: Path) -> None:
    message = refused(tmp_path, "generate:\n  n: many\n")
    assert message.startswith(
        f"{tmp_path}/run.yaml:2:3: generate.n cannot be 'many': input should be a valid integer"
    )


def test_a_section_that_is_a_value_is_refused(tmp_path: Path) -> None:
    assert "seed is a value, not a section" in refused(tmp_path, "seed: 1\n", "seed.a=1")
    assert "generate cannot be 3" in refused(tmp_path, "generate: 3\n")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("seed: 1\nseed: 2\n", "run.yaml:2:1: the key 'seed' is given twice (first on line 1); remove one"),
        ("a: &x 1\n", "run.yaml:1:4: the anchor &x is not allowed; remove it"),
        ("b: *x\n", "run.yaml:1:4: the alias *x is not allowed; write the value out"),
        ("seed: [1\n", "run.yaml:2:1: this is not YAML"),
        ("\tseed: 1\n", "run.yaml:1:1: a tab is used for indentation; use spaces"),
        ("- 1\n", "run.yaml:1:1: the file holds a list; write keys and values"),
        (b"seed: \xff\n", "run.yaml:1:7: byte 0xff is not UTF-8"),
        ("x: !!python/object:os.system 1\n", "run.yaml:1:4: the tag"),
        ("1: 2\n", "run.yaml:1:1: a key must be text, not the number 1"),
        ("#" * (MAX_BYTES + 1), "run.yaml:1:1: the file is larger than"),
        ("seed: " + "[" * 5000, "run.yaml:1:26: nested more than 20 deep"),
        ("generate: " + "{n: " * 5000, "nested more than 20 deep"),
        ("seed: " + "9" * 5000, "run.yaml:1:1: seed cannot be '999"),
        ('model: "\\U99999999"\n', "run.yaml:1:1: cannot be read after this point"),
        ('model: "\\ud800"\n', "run.yaml:1:8: control character U+D800"),
        ('model: "a\\0b"\n', "run.yaml:1:8: control character U+0000"),
    ],
)
def test_a_broken_file_is_one_sentence_with_line_and_column(
    tmp_path: Path, text: str | bytes, part: str
) -> None:
    message = refused(tmp_path, text)
    assert part in message and len(message) < 300 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("seed=" + "[" * 5000, "--set seed: 1:21 of the value: nested more than 20 deep"),
        ("seed=" + "9" * 5000, "seed cannot be '999"),
        ('model="\\U99999999"', "--set model: 1:1 of the value: cannot be read after this point"),
        ("model=[a", "--set model: 1:3 of the value: this is not YAML"),
        ("model=\udcff", "--set model: 1:1 of the value: byte 0xff is not UTF-8"),
        ("model=*a", "--set model: 1:1 of the value: the alias *a is not allowed"),
        ("generate.n" + ".a" * 5000 + "=1", "nested more than 20 deep"),
        ("x" * 5000 + "=1", "unknown key 'xxx"),
    ],
)
def test_a_broken_set_is_one_sentence(text: str, part: str) -> None:
    with pytest.raises(UsageError) as problem:
        load_config(None, [text])
    assert part in str(problem.value) and len(str(problem.value)) < 600 and "\n" not in str(problem.value)


def test_a_file_that_holds_nothing_gives_the_defaults(tmp_path: Path) -> None:
    for text in ("", "# a comment\n", "---\n"):
        assert load_config(write(tmp_path, text), ["run=run"]) == RunConfig()


def test_a_quoted_text_may_name_a_control_character(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, 'generate:\n  stop: ["\\r\\n", "\\e"]\n'))
    assert config.generate.stop == ("\r\n", "\x1b")
    assert load_config(write(tmp_path, dump_config(config))).generate.stop == ("\r\n", "\x1b")


def test_an_absent_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such configuration file: .*init"):
        load_config(tmp_path / "absent.yaml")


@pytest.mark.parametrize("text", ["generate.n", "=1", "a..b=1", ".=1"])
def test_a_malformed_set_shows_the_form(text: str) -> None:
    with pytest.raises(UsageError, match=r"not of the form a\.b=value"):
        load_config(None, [text])


def test_names_in_a_file_are_read_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("")
    path = write(tmp_path, "constitution: mine.yaml\nprompts: elsewhere.jsonl\nrun: out\n")
    config = load_config(path)
    assert config.constitution == str(tmp_path / "mine.yaml")
    assert (config.prompts, config.run) == ("elsewhere.jsonl", tmp_path / "out")


def test_a_command_goes_on_with_the_run_s_own_configuration(tmp_path: Path) -> None:
    from constitute.store.manifest import save_config

    save_config(tmp_path, load_config(None, ["generate.n=4", "limit=7"]))
    config = load_for_run(tmp_path, None, (), {"seed": 3})
    assert (config.run, config.generate.n, config.seed) == (tmp_path, 4, 3)
    assert config.limit is None, "a limit belongs to one command"


def test_a_damaged_configuration_of_a_run_is_told_with_its_place_or_harmless(tmp_path: Path) -> None:
    whole = dump_config(load_config(None, ["generate.stop=[a, b]", "constitution=pocket/harmless"])).encode()
    rng, told = random.Random(7), 0
    pieces = [
        b"\xff",
        b"\x00",
        b"[",
        b"{",
        b"'",
        b'"',
        b"*a",
        b"&a ",
        b"!!x ",
        b": ",
        b"\t",
        b"- ",
        b"9" * 99,
    ]
    for _ in range(60):
        at, data = rng.randrange(len(whole)), whole
        data = data[:at] + rng.choice([b"", *pieces]) + data[at + rng.choice((0, 1, 40, len(data))) :]
        (tmp_path / "config.yaml").write_bytes(data)
        try:
            load_for_run(tmp_path, None)
        except ConstituteError as problem:
            told += 1
            for line in str(problem).splitlines():
                assert re.match(r".*config\.yaml:(\d+:\d+: .+| and \d+ more)|[a-z_.]+: .+", line), line
    assert told > 30
