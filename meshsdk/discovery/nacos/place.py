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

from meshsdk.discovery.url_hosts import MAX_PORT, hosts_of, no_path
from meshsdk.discovery.url_parameters import Parameters, parameters_of
from meshsdk.discovery.url_secrets import user_of
from meshsdk.errors import ConfigurationError

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_KNOWN = (
    *("namespace", "group", "services_poll", "grace", "timeout"),
    *("grpc_port", "tls", "ca", "user", "password_file"),
)
_GRPC_OFFSET = 1000


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
    user, password_file = user_of(url, parameters)
    no_path(url, "namespace=ID")
    return Place(
        tuple(_server(host, port, parameters) for host, port in hosts_of(url)),
        namespace=_name("namespace", parameters.text("namespace")),
        group=_name("group", parameters.text("group", "DEFAULT_GROUP")),
        services_poll=parameters.seconds("services_poll", 5.0, 0.05, 3600),
        grace=parameters.seconds("grace", 10.0, 0, 600),
        timeout=parameters.seconds("timeout", 3.0, 0.1, 60),
        tls=parameters.switch("tls") or bool(parameters.text("ca")),
        ca=parameters.text("ca"),
        user=user,
        password_file=password_file,
    )


def _server(host: str, port: int, parameters: Parameters) -> Server:
    grpc_port = parameters.text("grpc_port") or str(port + _GRPC_OFFSET)
    if not (grpc_port.isascii() and grpc_port.isdigit() and 0 < int(grpc_port) <= MAX_PORT):
        raise ConfigurationError(f"the gRPC port {grpc_port!r} is not between 1 and {MAX_PORT}; write grpc_port=PORT")
    return Server(f"{host}:{port}", f"{host}:{grpc_port}")


def _name(what: str, text: str) -> str:
    if text and not _NAME.fullmatch(text):
        raise ConfigurationError(f"{what} {text!r} is not a name of Nacos")
    return text
