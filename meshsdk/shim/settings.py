"""What a shim was asked to be: the command line, checked and made into frozen values. Mistakes end here, in words.

Called by `command`; read by all parts. Opens nothing.
"""

from __future__ import annotations

import enum
import ipaddress
import os
import re
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from meshsdk.errors import ConfigurationError
from meshsdk.lifecycle.drain import DrainTiming

_LONGEST_FOLDER = 80  # characters: a Unix socket's path has at most 107
_PORTS = range(1, 65_536)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")
_MOST_TARGETS = 1_000
_MOST_INBOUNDS = 32


class Protocol(enum.Enum):
    """What the application speaks behind an inbound listener; AUTO: what the caller speaks."""

    AUTO = "auto"
    H2C = "h2c"
    HTTP1 = "http1"


class ProbeKind(enum.Enum):
    """How the application is asked whether it is well."""

    GRPC = "grpc"  # grpc.health.v1.Health/Check
    HTTP = "http"  # GET, 200 to 399
    TCP = "tcp"  # a connection is accepted
    NONE = "none"  # taken to be well


@dataclass(frozen=True, slots=True)
class Probe:
    """`detail`: the gRPC service or the HTTP path that is asked for. Seconds."""

    kind: ProbeKind = ProbeKind.TCP
    detail: str = ""
    interval: float = 1.0
    timeout: float = 2.0
    failures: int = 3  # in a row, that make a healthy application an unhealthy one


@dataclass(frozen=True, slots=True)
class Inbound:
    """A listener in front of the application. `listen`: `ip:port`; `target`: `ip:port` or `unix:path`."""

    listen: str
    target: str
    protocol: Protocol = Protocol.AUTO


def _nothing() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Settings:
    """One shim. `address`: of the first inbound listener, as peers dial it; "" without one: nothing is registered.

    `outbound`: `ip:port` on loopback or `unix:path`; "": none. `folder`: of this shim alone, sockets are in it.
    """

    app: str
    folder: Path
    inbound: tuple[Inbound, ...] = ()
    outbound: str = ""
    targets: tuple[str, ...] = ()
    address: str = ""
    labels: Mapping[str, str] = field(default_factory=_nothing)
    unit: str = ""
    zone: str = ""
    weight: int = 1
    probe: Probe = Probe()
    drain: DrainTiming = field(default_factory=DrainTiming)
    executable: Path | None = None  # None: the installed one
    concurrency: int = 2
    log_level: str = "warning"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.app):
            raise ConfigurationError(f"--app {self.app[:80]!r} is not a name (letters, digits, '.', '_', '-')")
        if not self.inbound and not self.outbound:
            raise ConfigurationError("neither --inbound nor --outbound is given, so there is nothing to do")
        if self.targets and not self.outbound:
            raise ConfigurationError("--target needs --outbound, the address that the application calls through")
        if len(self.targets) > _MOST_TARGETS or len(self.inbound) > _MOST_INBOUNDS:
            raise ConfigurationError(f"at most {_MOST_TARGETS} targets and {_MOST_INBOUNDS} inbound listeners")
        listens = [one.listen for one in self.inbound] + ([self.outbound] if self.outbound else [])
        if twice := [one for number, one in enumerate(listens) if one in listens[:number]]:
            raise ConfigurationError(f"{twice[0]} is given twice as a listener; each needs a port of its own")
        if self.outbound and not _is_local(self.outbound):
            raise ConfigurationError(f"--outbound {self.outbound}: calls out are for this machine only; use 127.0.0.1")
        if len(str(self.folder)) > _LONGEST_FOLDER:
            raise ConfigurationError(f"--folder {self.folder}: longer than {_LONGEST_FOLDER} characters")


def read_inbound(text: str, protocol: Protocol) -> Inbound:
    """Reads `LISTEN=TARGET`, such as `0.0.0.0:8080=127.0.0.1:50051`. Raises ConfigurationError."""
    listen, sign, target = text.partition("=")
    if not sign:
        raise ConfigurationError(f"--inbound {text!r}: write LISTEN=TARGET, such as 0.0.0.0:8080=127.0.0.1:50051")
    inbound = Inbound(read_address(listen, "--inbound"), read_address(target, "--inbound", unix=True), protocol)
    if inbound.listen == inbound.target:
        raise ConfigurationError(f"--inbound {text}: the shim would call itself; LISTEN is not the application's own")
    return inbound


def read_address(text: str, option: str, *, unix: bool = False) -> str:
    """Reads `ip:port` (or `unix:path`); `localhost` is 127.0.0.1. Raises ConfigurationError."""
    if unix and text.startswith("unix:/"):
        return text
    host, _, port = text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        fits = port.isascii() and port.isdigit() and int(port) in _PORTS
    except ValueError:
        fits = False
    if not fits:
        wanted = "IP:PORT or unix:/PATH" if unix else "IP:PORT"
        raise ConfigurationError(f"{option}: {text!r} is not {wanted}, with a port from 1 to 65535")
    return f"{host}:{port}"


def read_labels(texts: list[str]) -> Mapping[str, str]:
    """Reads `KEY=VALUE`s. Raises ConfigurationError."""
    found: dict[str, str] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise ConfigurationError(f"--label {text!r}: write KEY=VALUE")
        if not text.isprintable():
            raise ConfigurationError(f"--label {text!r}: no control characters")
        found[key] = value
    return MappingProxyType(found)


def read_probe(text: str) -> Probe:
    """Reads `grpc[:SERVICE]`, `http:/PATH`, `tcp` or `none`. Raises ConfigurationError."""
    kind, _, detail = text.partition(":")
    if kind not in [one.value for one in ProbeKind] or (kind == "http" and not detail.startswith("/")):
        raise ConfigurationError(f"--health {text!r}: write grpc, grpc:SERVICE, http:/PATH, tcp or none")
    return Probe(ProbeKind(kind), detail)


def advertised(address: str, inbound: tuple[Inbound, ...]) -> str:
    """Returns the address that peers dial: the one given, else that of the first inbound listener.

    Raises ConfigurationError where that is every address of the machine and its name does not say which to use.
    """
    if address or not inbound:
        return address
    host, _, port = inbound[0].listen.rpartition(":")
    if not ipaddress.ip_address(host.strip("[]")).is_unspecified:
        return inbound[0].listen
    try:
        found = socket.gethostbyname(socket.gethostname())
    except OSError:
        found = "127.0.0.1"
    if ipaddress.ip_address(found).is_loopback:
        raise ConfigurationError(
            f"--inbound {inbound[0].listen} listens on every address; say with --address IP:PORT which one peers dial"
        )
    return f"{found}:{port}"


def run_directory(environ: Mapping[str, str]) -> Path:
    """Returns where the folders of this user's shims are."""
    if given := environ.get("MESHSDK_RUN_DIR"):
        return Path(given)
    if session := environ.get("XDG_RUNTIME_DIR"):
        return Path(session) / "meshsdk"
    return Path("/tmp") / f"meshsdk-{os.getuid()}"  # noqa: S108 - made and checked by `private_folder`


def private_folder(path: Path) -> Path:
    """Makes a folder, and the one above it, that only this user may enter. Raises ConfigurationError."""
    mine = os.getuid()
    try:
        for each in (path.parent, path):
            each.mkdir(mode=0o700, exist_ok=True)
        # Whoever owns the folder above may put another one in the place of ours.
        above = path.parent.stat()
        theirs = above.st_uid not in (0, mine)
        if above.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not above.st_mode & stat.S_ISVTX:
            raise ConfigurationError(
                f"others may replace what is in {path.parent}: take their right to write there (chmod go-w), "
                "or give another folder with --folder"
            )
        facts = path.lstat()
        if theirs or not stat.S_ISDIR(facts.st_mode) or facts.st_uid != mine:
            raise ConfigurationError(f"the folder {path} is not this user's alone; give another with --folder")
        path.chmod(0o700)
    except OSError as error:
        raise ConfigurationError(f"cannot use the folder {path}: {error.strerror or error}") from None
    return path


def _is_local(address: str) -> bool:
    if address.startswith("unix:"):
        return True
    return ipaddress.ip_address(address.rpartition(":")[0].strip("[]")).is_loopback
