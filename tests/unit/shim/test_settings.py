"""The words of `meshsdk shim`: what they mean, and what is said to those that mean nothing."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from meshsdk.errors import ConfigurationError
from meshsdk.shim.settings import (
    Inbound,
    Probe,
    ProbeKind,
    Protocol,
    Settings,
    advertised,
    private_folder,
    read_address,
    read_inbound,
    read_labels,
    read_probe,
    run_directory,
)

_FOLDER = Path("/run/shim")
_INBOUND = Inbound("127.0.0.1:8080", "127.0.0.1:50051")


def test_ways_in() -> None:
    """LISTEN=TARGET, where the target may be a Unix socket, localhost is 127.0.0.1 and IPv6 stands in brackets."""
    assert read_inbound("0.0.0.0:8080=localhost:50051", Protocol.AUTO) == Inbound("0.0.0.0:8080", "127.0.0.1:50051")
    assert read_inbound("[::1]:80=unix:/run/app", Protocol.H2C) == Inbound("[::1]:80", "unix:/run/app", Protocol.H2C)


@pytest.mark.parametrize(
    "text", ["8080", "a=b", "127.0.0.1:0=127.0.0.1:1", "unix:/x=127.0.0.1:1", "host:1=127.0.0.1:1", "[::1]:1=[::1]:1"]
)
def test_ways_in_that_are_none(text: str) -> None:
    """Anything else is refused with the option's name and an example."""
    with pytest.raises(ConfigurationError, match="--inbound"):
        read_inbound(text, Protocol.AUTO)


def test_probes() -> None:
    """grpc, a service of it, a page, a connection, or none."""
    assert read_probe("grpc") == Probe(ProbeKind.GRPC)
    assert read_probe("grpc:shop.Orders") == Probe(ProbeKind.GRPC, "shop.Orders")
    assert read_probe("http:/healthz") == Probe(ProbeKind.HTTP, "/healthz")
    for wrong in ("http", "icmp", "http:x"):
        with pytest.raises(ConfigurationError, match="--health"):
            read_probe(wrong)


def test_labels() -> None:
    """KEY=VALUE; a value may be empty and may have an equals sign."""
    assert read_labels(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    with pytest.raises(ConfigurationError, match="KEY=VALUE"):
        read_labels(["a"])
    with pytest.raises(ConfigurationError, match="no control characters"):
        read_labels(["a=b\x1b[2J"])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"app": "a b", "inbound": (_INBOUND,)}, "not a name"),
        ({"app": "a"}, "nothing to do"),
        ({"app": "a", "inbound": (_INBOUND, _INBOUND)}, "127.0.0.1:8080 is given twice"),
        ({"app": "a", "inbound": (_INBOUND,), "outbound": _INBOUND.listen}, "127.0.0.1:8080 is given twice"),
        ({"app": "a", "inbound": (_INBOUND,), "targets": ("xds:///b",)}, "needs --outbound"),
        ({"app": "a", "outbound": "0.0.0.0:15001"}, "for this machine only"),
        ({"app": "a", "outbound": "127.0.0.1:1", "folder": Path("/" + "x" * 90)}, "longer than"),
        ({"app": "a", "outbound": "127.0.0.1:1", "targets": ("xds:///b",) * 1001}, "at most"),
    ],
)
def test_what_does_not_fit_together(fields: dict, words: str) -> None:
    """Settings that cannot be meant are refused in words."""
    with pytest.raises(ConfigurationError, match=words):
        Settings(**{"folder": _FOLDER, **fields})


def test_a_way_out_on_a_unix_socket() -> None:
    """Loopback of IPv6 and Unix sockets are of this machine."""
    assert Settings("a", _FOLDER, outbound=read_address("unix:/run/out", "--outbound", unix=True))
    assert Settings("a", _FOLDER, outbound="[::1]:15001")


def test_the_address_that_peers_dial(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was given, else where it listens, else what the machine's name says, unless that is loopback."""
    everywhere = (Inbound("0.0.0.0:8080", "127.0.0.1:1"),)
    assert advertised("10.0.0.1:80", everywhere) == "10.0.0.1:80"
    assert advertised("", (_INBOUND,)) == "127.0.0.1:8080"
    assert advertised("", ()) == ""
    monkeypatch.setattr("socket.gethostbyname", lambda _: "10.1.2.3")
    assert advertised("", everywhere) == "10.1.2.3:8080"
    monkeypatch.setattr("socket.gethostbyname", lambda _: "127.0.1.1")
    with pytest.raises(ConfigurationError, match="--address"):
        advertised("", everywhere)


def test_folders_are_private(tmp_path: Path) -> None:
    """The folder is made for this user alone; one that is no folder is refused."""
    made = private_folder(tmp_path / "run" / "shim-a")
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(made)
    with pytest.raises(ConfigurationError, match="not this user's alone"):
        private_folder(tmp_path / "link")
    with pytest.raises(ConfigurationError, match="cannot use the folder"):
        private_folder(tmp_path / "file")


def test_where_shims_are() -> None:
    """The folder that is named, else the session's, else one of the user's own below /tmp."""
    assert run_directory({"MESHSDK_RUN_DIR": "/x", "XDG_RUNTIME_DIR": "/y"}) == Path("/x")
    assert run_directory({"XDG_RUNTIME_DIR": "/y"}) == Path("/y/meshsdk")
    assert run_directory({}).name.startswith("meshsdk-")


@pytest.mark.parametrize(("mode", "refused"), [(0o777, True), (0o770, True), (0o1777, False), (0o755, False)])
def test_a_folder_where_others_write(tmp_path: Path, mode: int, refused: bool) -> None:
    """Whoever may write in the folder above could put another in the place of ours, unless it is sticky as /tmp is."""
    tmp_path.chmod(mode)
    if refused:
        with pytest.raises(ConfigurationError, match="others may replace what is in"):
            private_folder(tmp_path / "run")
    else:
        assert private_folder(tmp_path / "run").is_dir()
