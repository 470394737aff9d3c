"""Where Nacos is and what of it is meant: the registry's URL.

Called by `open_url`. Reads no file and dials nothing. Parameters:

    namespace=ID          namespace; the public one without
    group=NAME            group of the services; DEFAULT_GROUP without
    services_poll=SECONDS how often the list of services is asked for, by a watch of all applications; 5 without
    grace=SECONDS         how long instances that a restarted server does not know yet are kept; 10 without
    timeout=SECONDS       of one request; 3 without
    grpc_port=PORT        else the port plus 1000, as Nacos has it
    tls=1, ca=FILE        TLS with the system's authorities, or with those of FILE (PEM)
    user=NAME, password_file=FILE   logs in; a password in the URL would end up in logs: refused
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult

from meshsdk.discovery.url_parameters import Parameters, parameters_of
from meshsdk.errors import ConfigurationError

_ENDPOINT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_KNOWN = (
    *("namespace", "group", "services_poll", "grace", "timeout"),
    *("grpc_port", "tls", "ca", "user", "password_file"),
)
_GRPC_OFFSET = 1000
_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Server:
    """One Nacos server: `http` and `grpc` are `host:port`."""

    http: str
    grpc: str


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace and a group of a Nacos cluster. Times are seconds."""

    servers: tuple[Server, ...]
    namespace: str = ""
    group: str = "DEFAULT_GROUP"
    services_poll: float = 5.0
    grace: float = 10.0
    timeout: float = 3.0
    tls: bool = False
    ca: str = ""
    user: str = ""
    password_file: str = ""

    @property
    def words(self) -> str:
        """Names the place in messages."""
        return f"Nacos {','.join(server.http for server in self.servers)}"


def place_of(url: SplitResult) -> Place:
    """Reads a URL; ConfigurationError says in a few words what is wrong with it."""
    parameters = parameters_of(url, _KNOWN)
    if "@" in url.netloc:
        raise ConfigurationError("write user=NAME&password_file=FILE instead of a password in the URL")
    if url.path.strip("/"):
        raise ConfigurationError("nothing may follow the hosts but ?parameters; write ?namespace=ID")
    if bool(parameters.text("user")) != bool(parameters.text("password_file")):
        raise ConfigurationError("user and password_file go together")
    return Place(
        tuple(_server(endpoint, parameters) for endpoint in url.netloc.split(",")),
        namespace=_name("namespace", parameters.text("namespace")),
        group=_name("group", parameters.text("group", "DEFAULT_GROUP")),
        services_poll=parameters.seconds("services_poll", 5.0, 0.05, 3600),
        grace=parameters.seconds("grace", 10.0, 0, 600),
        timeout=parameters.seconds("timeout", 3.0, 0.1, 60),
        tls=parameters.switch("tls") or bool(parameters.text("ca")),
        ca=parameters.text("ca"),
        user=parameters.text("user"),
        password_file=parameters.text("password_file"),
    )


def _server(endpoint: str, parameters: Parameters) -> Server:
    found = _ENDPOINT.fullmatch(endpoint)
    if not found:
        raise ConfigurationError(f"{endpoint!r} is not HOST:PORT")
    written = parameters.text("grpc_port")
    port = written or str(int(found[2]) + _GRPC_OFFSET)
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= _MAX_PORT):
        raise ConfigurationError(f"the gRPC port {port!r} is not between 1 and {_MAX_PORT}; write grpc_port=PORT")
    return Server(endpoint, f"{found[1]}:{port}")


def _name(what: str, text: str) -> str:
    if text and not _NAME.fullmatch(text):
        raise ConfigurationError(f"{what} {text!r} is not a name of Nacos")
    return text
