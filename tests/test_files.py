import errno
import os

import pytest
from safetensors import SafetensorError

from trueup.errors import OutputError
from trueup.files import atomic_write, check_output, move_into_place, output_errors, remove_leftovers, write_text


def test_content_appears_whole_and_alone(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    with atomic_write(path) as handle:
        handle.write(b"first half, ")
        assert not path.exists()
        handle.write(b"second half")
    assert path.read_bytes() == b"first half, second half"
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "free some space"),
        (OSError(errno.EIO, "Input/output error"), "name a place that can be written"),
        (ValueError("mine"), "mine"),
        (KeyboardInterrupt("stop"), "stop"),
    ],
)
def test_any_interruption_leaves_the_old_file_and_nothing_else(tmp_path, error, words):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    expected = OutputError if isinstance(error, OSError) else type(error)

    def interrupted():
        with atomic_write(path) as handle:
            handle.write(b"new, but not wh")
            raise error

    with pytest.raises(expected, match=words):
        interrupted()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    for path in (tmp_path / "file" / "below", tmp_path, "/dev/null/x", "nul\0byte", tmp_path / ("x" * 5000)):
        with pytest.raises(OutputError), atomic_write(path) as handle:
            handle.write(b"new")
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_ordinary_permissions_and_links_are_kept(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with atomic_write(tmp_path / "link") as handle:
        handle.write(b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"x"
    assert (tmp_path / "target").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_text_is_utf8_even_where_a_file_name_is_not(tmp_path):
    assert write_text(tmp_path / "a" / "f", "naïve \udcff") == tmp_path / "a" / "f"
    assert (tmp_path / "a" / "f").read_bytes() == "naïve ".encode() + b"\\udcff"


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / name).write_text(name)
    move_into_place(tmp_path / "new", tmp_path / "old")
    assert os.listdir(tmp_path) == ["old"]
    assert os.listdir(tmp_path / "old" / "inner") == ["new"]


def test_leftovers_alone_are_removed(tmp_path):
    for name in (".partial", ".partial-model", ".old-model", "model", ".hidden"):
        (tmp_path / name / "inner").mkdir(parents=True)
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "model"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
        RuntimeError("basic_ios::clear: iostream error"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        Exception("No space left on device (os error 28)"),
    ],
)
def test_words_of_libraries_for_a_full_disk(tmp_path, error):
    with pytest.raises(OutputError, match="free some space") as raised, output_errors(tmp_path / "x"):
        raise error
    assert str(raised.value).startswith(f"{tmp_path / 'x'}: cannot be written (")


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), ValueError("write"), Exception("mine"), KeyError("k")])
def test_other_errors_pass_through(tmp_path, error):
    with pytest.raises(type(error)) as raised, output_errors(tmp_path):
        raise error
    assert raised.value is error


def test_output_is_checked_before_long_work(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    check_output(tmp_path / "new" / "deep", folder=True)
    check_output(tmp_path / "folder", folder=True)
    check_output(tmp_path / "file", folder=False)
    for path, folder in (("file", True), ("folder", False), ("file/below", True), ("x" * 300, False), ("nul\0", True)):
        with pytest.raises(OutputError):
            check_output(tmp_path / path, folder=folder)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
