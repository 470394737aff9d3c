"""Reading a directory of YAML files and seeing that it changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controlplane.config.directory import fingerprint, load
from controlplane.config.tree import MAX_BYTES
from meshsdk.errors import ConfigurationError

SERVICE = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {0}}}
spec: {{hosts: [{0}], ports: [{{number: 80, name: grpc}}]}}
"""


def test_yaml_files_are_read_in_order(tmp_path: Path) -> None:
    """Files ending in .yaml and .yml are read by name; others and hidden ones are not."""
    for name in ("b.yml", "a.yaml", ".c.yaml", "d.txt", "e.yaml~"):
        (tmp_path / name).write_text(SERVICE.format(name[:1].strip(".") or "c"))
    documents = load(tmp_path)
    assert [Path(entry.file).name for entry in documents.entries] == ["a.yaml", "b.yml"]


def test_every_change_changes_the_fingerprint(tmp_path: Path) -> None:
    """Writing, replacing, adding and removing a file all show; looking again does not."""
    file = tmp_path / "a.yaml"
    seen = [fingerprint(tmp_path)]
    file.write_text("a")
    seen.append(fingerprint(tmp_path))
    file.write_text("bb")
    seen.append(fingerprint(tmp_path))
    stat = file.stat()
    other = tmp_path / "new"
    other.write_text("cc")
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(file)  # same size and time: only the inode tells
    seen.append(fingerprint(tmp_path))
    file.unlink()
    assert len({*seen}) == 4
    assert fingerprint(tmp_path) == seen[0]


def test_what_cannot_be_read_is_a_problem_of_its_file(tmp_path: Path) -> None:
    """A file that is not UTF-8 or too large is named, and does not hide the others."""
    (tmp_path / "a.yaml").write_bytes(b"x: 1\ny: \xff\n")
    (tmp_path / "b.yaml").write_bytes(b" " * (MAX_BYTES + 1))
    (tmp_path / "c.yaml").write_text(SERVICE.format("c"))
    documents = load(tmp_path)
    assert [str(problem) for problem in documents.problems] == [
        f"{tmp_path}/a.yaml:2: is not UTF-8",
        f"{tmp_path}/b.yaml:1: larger than {MAX_BYTES} bytes",
    ]
    assert len(documents.entries) == 1


def test_missing_directory_is_said(tmp_path: Path) -> None:
    """A directory that is not there is one clear error."""
    with pytest.raises(ConfigurationError, match=r"cannot read the configuration directory .*gone: No such file"):
        load(tmp_path / "gone")
