"""meshsdk.private_file."""

import pytest

from meshsdk.private_file import replace_file


def test_a_file_is_replaced_whole(tmp_path):
    """The content is all parts in order, the size is told, only the user may read it, and nothing else is left."""
    path = tmp_path / "kept.json"
    path.write_bytes(b"old and longer")
    assert replace_file(path, iter([b"new", b"er"])) == 5
    assert path.read_bytes() == b"newer"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_keeps_the_old_content(tmp_path):
    """Parts that cannot be made: the error comes through and readers still see the old file."""
    path = tmp_path / "kept.json"
    path.write_bytes(b"old")

    def parts():
        yield b"half"
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        replace_file(path, parts())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
