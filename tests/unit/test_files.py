"""Files are written whole or not at all, never through a link, and read back exactly."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constitute import files
from constitute.errors import DataError, StorageError, UsageError
from constitute.files import (
    BadLine,
    Row,
    append_log,
    atomic,
    atomic_folder,
    file_in_the_way,
    json_lines,
    read_json,
    read_log,
    read_text,
    refuse_binary,
    text_lines,
    write_json,
    write_new,
    write_text,
)

# A text that starts with a byte-order mark would lose it; half surrogate pairs are no text.
TEXT = st.text(st.characters(exclude_categories=("Cs",))).filter(lambda text: not text.startswith("\ufeff"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=4)
PACKED = {".gz": gzip.compress, ".xz": lzma.compress}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def in_new_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@settings(max_examples=100, deadline=None)
@given(TEXT, VALUES)
def test_any_text_and_any_json_come_back(text, value):
    with in_new_folder() as folder:
        assert read_text(write_text(Path(folder) / "a.txt", text)) == text
        assert read_json(write_json(Path(folder) / "a.json", value)) == value


@settings(max_examples=50, deadline=None)
@given(st.lists(OBJECTS, min_size=1, max_size=5), st.booleans(), st.booleans(), st.booleans())
def test_one_object_a_line_in_every_dress(rows, mark, windows, escaped):
    """With a byte-order mark, Windows line ends, blank lines, escapes, and packed in each known way."""
    end = "\r\n\r\n" if windows else "\n"
    text = "".join(json.dumps(row, ensure_ascii=escaped) + end for row in rows)
    data = text.encode("utf-8-sig" if mark else "utf-8")
    step = 2 if windows else 1
    with in_new_folder() as folder:
        for ending, pack in {"": bytes, **PACKED}.items():
            path = Path(folder) / f"a.jsonl{ending}"
            path.write_bytes(pack(data))
            wanted = [Row(f"{path}:{1 + step * place}", row) for place, row in enumerate(rows)]
            assert list(json_lines(path)) == wanted


@settings(max_examples=100, deadline=None)
@given(st.lists(OBJECTS, min_size=1, max_size=5), st.data())
def test_a_file_cut_anywhere_gives_its_whole_lines_and_names_the_rest(rows, data):
    whole = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    cut = data.draw(st.integers(0, len(whole)))
    complete = whole[:cut].count(b"\n") + (whole[cut : cut + 1] == b"\n")
    with in_new_folder() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_bytes(whole[:cut])
        found = list(json_lines(path))
        assert [row.value for row in found if isinstance(row, Row)] == rows[:complete]
        torn = [row.where for row in found if isinstance(row, BadLine)]
        rest = whole[:cut].split(b"\n")[complete:]
        assert torn == [f"{path}:{complete + 1}"] * any(map(bytes.strip, rest))


def test_a_log_leaves_out_a_last_line_that_is_still_being_written(tmp_path):
    path = tmp_path / "log.jsonl"
    assert read_log(path) == []
    append_log(path, ['{"a": 1}', '{"a": 2}'])
    append_log(path, [])
    append_log(path, ['{"a": 3}'])
    assert read_log(path) == [{"a": 1}, {"a": 2}, {"a": 3}]
    path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert read_log(path) == [{"a": 1}, {"a": 2}]
    path.write_text('{"a": 1}\nbroken\n{"a": 2}\n')
    with pytest.raises(DataError, match=r"log\.jsonl:2: not JSON at column 1"):
        read_log(path)


def test_files_of_another_encoding_are_refused_by_line(tmp_path):
    path = tmp_path / "a.jsonl"
    for mark in (b"\xff\xfe", b"\xfe\xff"):
        path.write_bytes(mark + '{"a": 1}\n'.encode("utf-16-le" if mark[0] == 0xFF else "utf-16-be"))
        for read in (read_text, read_json, lambda path: list(json_lines(path))):
            with pytest.raises(DataError, match=r"a\.jsonl:1: the file is UTF-16; save it as UTF-8"):
                read(path)
    path.write_bytes('{"a": 1}\n{"a": "é"}\n'.encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.jsonl:2: byte 0xe9 is not UTF-8"):
        read_text(path)
    good, bad = json_lines(path)
    assert good == Row(f"{path}:1", {"a": 1})
    assert bad == BadLine(where=f"{path}:2", reason="byte 8 (0xe9) is not UTF-8")


def test_what_cannot_be_opened_is_one_sentence(tmp_path):
    for read in (read_text, read_json, lambda path: list(text_lines(path))):
        for name in ("none.jsonl", "none.jsonl.gz"):
            with pytest.raises(UsageError, match=f"no such file: .*{name}"):
                read(tmp_path / name)
        with pytest.raises(DataError, match=r"cannot be opened \(Is a directory\)"):
            read(tmp_path)
    (tmp_path / "a.xz").write_bytes(lzma.compress(b"text\n" * 1000)[:60])
    with pytest.raises(DataError, match=r"a\.xz cannot be read"):
        read_text(tmp_path / "a.xz")
    assert "broken or cut off here" in list(text_lines(tmp_path / "a.xz"))[-1].reason
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(DataError, match=r"deep\.json: JSON that cannot be read"):
        read_json(tmp_path / "deep.json")


def test_a_line_too_long_is_named_and_the_lines_after_it_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST_LINE", 100)
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n' + "x" * 1000 + '\n{"a": 2}\n' + "y" * 101)
    first, second, third, last = json_lines(path)
    assert (first.value, third.value) == ({"a": 1}, {"a": 2})
    assert [row.where for row in (second, third, last)] == [f"{path}:{n}" for n in (2, 3, 4)]
    assert "longer than" in second.reason and "longer than" in last.reason


@pytest.mark.parametrize("place", ["target", "temporary"])
def test_nothing_is_written_through_a_link(tmp_path, monkeypatch, place):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    target = tmp_path / "run" / "a.txt"
    target.parent.mkdir()
    if place == "target":
        target.symlink_to(victim)
        write_text(target, "new")
        assert not target.is_symlink() and target.read_text() == "new"
    else:
        # Even a name that somebody guessed is not opened when a file of that name is there.
        monkeypatch.setattr(files.secrets, "token_hex", lambda size: "0" * 2 * size)
        (target.parent / f".a.txt.{'0' * 16}.tmp").symlink_to(victim)
        with pytest.raises(StorageError, match="File exists"):
            write_text(target, "new")
    log = target.with_name("log.jsonl")
    log.symlink_to(victim)
    with pytest.raises(StorageError, match=r"cannot write .*log\.jsonl: Too many levels of symbolic links"):
        append_log(log, ["{}"])
    assert victim.read_text() == "mine"


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "out" / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic(path) as stream:
        stream.write(b"half")
        raise RuntimeError
    with pytest.raises(StorageError, match=r"cannot write .*a\.txt: No space left"), atomic(path):
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old" and names(path.parent) == ["a.txt"]
    with pytest.raises(UsageError, match="exists already"):
        write_new(path, "new", force=False)
    with pytest.raises(StorageError, match="cannot write"):
        write_text(path / "below", "x")


def test_a_folder_takes_the_place_of_the_old_one_or_of_a_link(tmp_path):
    kept, path = tmp_path / "kept", tmp_path / "model"
    kept.mkdir()
    (kept / "mine").touch()
    for before in ("nothing", "folder", "link"):
        if before == "link":
            files.shutil.rmtree(path)
            path.symlink_to(kept)
        with atomic_folder(path) as staging:
            (staging / "weights").write_text(before)
        assert (names(path), (path / "weights").read_text()) == (["weights"], before)
    with pytest.raises(RuntimeError), atomic_folder(path) as staging:
        (staging / "half").touch()
        raise RuntimeError
    assert names(tmp_path) == ["kept", "model"] and names(path) == ["weights"] and names(kept) == ["mine"]


CHILD = """
import sys, time
from pathlib import Path
from constitute.files import atomic, atomic_folder
with {writer}(Path(sys.argv[1])) as half:
    {fill}
    print("writing", flush=True)
    time.sleep(60)
"""
WRITERS = {"atomic": 'half.write(b"half"); half.flush()', "atomic_folder": '(half / "half").touch()'}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path, writer):
    path = tmp_path / "out" / "a*b"
    (tmp_path / "out").mkdir()
    code = CHILD.format(writer=writer, fill=WRITERS[writer])
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"writing\n"
        (left,) = names(path.parent)
        assert left.startswith(".a*b.") and left.endswith(".tmp")
        # While its writer lives, a file is nobody's to remove; nor are files of another name.
        write_text(path.with_name("a_b"), "")
        write_text(path, "between")
        assert names(path.parent) == [left, "a*b", "a_b"]
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    assert left in names(path.parent)
    write_text(path, "after")
    assert names(path.parent) == ["a*b", "a_b"] and path.read_text() == "after"


def test_a_folder_moved_aside_by_a_killed_writer_is_moved_back(tmp_path):
    aside = tmp_path / f".model.{'0' * 16}.old"
    aside.mkdir()
    (aside / "weights").touch()
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "model"):
        raise RuntimeError
    assert names(tmp_path) == ["model"] and names(tmp_path / "model") == ["weights"]


@pytest.mark.parametrize(
    ("head", "refused"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", True),
        (b"\x00" * 50, True),
        (bytes(range(256)) * 40, True),
        ("Größe\n".encode("latin-1") * 200, False),
        ("Привет, мир\n".encode("cp1251") * 200, False),
        # Text may hold a control character in one line, and a byte of another code in the next.
        (b'{"prompt": "words"}\n' * 50 + b"\x1b[0m\n" + b"\xe9t\xe9\n", False),
        ("ж".encode() * 8192, False),
        ("\ufeffone".encode("utf-16-le"), False),
        (b"", False),
    ],
)
def test_a_file_that_is_no_text_is_told_from_text_in_another_code(
    tmp_path: Path, head: bytes, refused: bool
) -> None:
    (tmp_path / "f").write_bytes(head)
    if not refused:
        refuse_binary(tmp_path / "f")
        return
    with pytest.raises(DataError, match="f is not a text file; give JSON lines or other text in UTF-8"):
        refuse_binary(tmp_path / "f")


def test_the_file_in_the_way_of_a_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    assert file_in_the_way(tmp_path / "f" / "a" / "b") == file_in_the_way(tmp_path / "f") == tmp_path / "f"
    assert file_in_the_way(tmp_path) is file_in_the_way(tmp_path / "new" / "er") is None
