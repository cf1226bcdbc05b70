import errno
import os

import pytest

from trueup.errors import OutputError
from trueup.files import atomic_write


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
