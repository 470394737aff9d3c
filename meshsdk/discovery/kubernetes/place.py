"""Where an API server is, how to log in, and what of its namespace is wanted: the registry's URL.

Called by `open_url`. Reads the kubeconfig and the pod's namespace, dials nothing. Parameters of the URL:

    namespace=NAME        else the pod's, the kubeconfig context's, or "default"
    port=NAME|NUMBER      the Service port to call; else the one with appProtocol grpc or kubernetes.io/h2c, the one
                          named grpc or grpc-..., or the only one
    pods=0                pods are not watched: no labels, units and weights from them
    pod_labels=SELECTOR   only pods with these labels are watched
    pod=NAME              the pod that registers; else $POD_NAME, or $HOSTNAME in a pod
    timeout=SECONDS       of one request; 5 without
    token_file=FILE       bearer token, read anew at every request: it rotates
    ca=FILE               authorities to trust; the system's without
    cert=FILE, key=FILE   client certificate
    plain=1               HTTP instead of HTTPS (`kubectl proxy`, tests)
    kubeconfig=FILE, context=NAME   takes all of the above but the first six from there
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import SplitResult

from meshsdk.discovery.kubernetes.login import Login
from meshsdk.discovery.url_parameters import Parameters, parameters_of
from meshsdk.errors import ConfigurationError

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_WANTS = ("namespace", "port", "pods", "pod_labels", "pod", "timeout")
_LOGIN = ("token_file", "ca", "cert", "key", "plain")
_KUBECONFIG = ("kubeconfig", "context")


@dataclass(frozen=True, slots=True)
class Place:
    """One namespace at an API server. `timeout` is seconds per request; `pod` is who registers, "" if unknown."""

    login: Login
    namespace: str
    port: str = ""
    pods: bool = True
    pod_labels: str = ""
    pod: str = ""
    timeout: float = 5.0

    @property
    def words(self) -> str:
        """Names the place in messages."""
        return f"Kubernetes {self.login.server.partition('//')[2]} namespace {self.namespace}"


def place_of(url: SplitResult) -> Place:
    """Reads a URL; ConfigurationError says in a few words what is wrong with it."""
    parameters = parameters_of(url, (*_WANTS, *_LOGIN, *_KUBECONFIG))
    if url.path.strip("/"):
        raise ConfigurationError("nothing may follow the host but ?parameters; write ?namespace=NAME")
    login = _login(url, parameters)
    namespace = parameters.text("namespace") or login.namespace or "default"
    if not _NAMESPACE.fullmatch(namespace):
        raise ConfigurationError(f"namespace {namespace!r} is not a name of Kubernetes")
    return Place(
        login,
        namespace,
        port=parameters.text("port"),
        pods=parameters.switch("pods", default=True),
        pod_labels=parameters.text("pod_labels"),
        pod=parameters.text("pod") or _own_pod(),
        timeout=parameters.seconds("timeout", 5.0, 0.1, 60),
    )


def _login(url: SplitResult, parameters: Parameters) -> Login:
    kubeconfig = parameters.text("kubeconfig")
    if parameters.text("context") and not kubeconfig:
        raise ConfigurationError("context is of a kubeconfig, which is not given")
    if kubeconfig:
        if url.netloc or any(parameters.text(name) for name in _LOGIN):
            raise ConfigurationError("the kubeconfig says which server and how to log in; name nothing beside it")
        try:
            from meshsdk.discovery.kubernetes.kubeconfig import login_of_kubeconfig  # noqa: PLC0415 - needs PyYAML
        except ModuleNotFoundError:
            raise ConfigurationError("a kubeconfig needs PyYAML: pip install 'meshsdk[kubernetes]'") from None
        return login_of_kubeconfig(Path(kubeconfig), parameters.text("context"))
    if bool(parameters.text("cert")) != bool(parameters.text("key")):
        raise ConfigurationError("cert and key go together")
    if not url.netloc:
        return _in_cluster(parameters)
    if not _HOST.fullmatch(url.netloc):
        raise ConfigurationError(f"{url.netloc!r} is not HOST:PORT")
    scheme = "http" if parameters.switch("plain") else "https"
    return _with_files(Login(f"{scheme}://{url.netloc}"), parameters)


def _with_files(login: Login, parameters: Parameters) -> Login:
    return replace(
        login,
        token_file=parameters.text("token_file", login.token_file),
        ca_file=parameters.text("ca", login.ca_file),
        cert_file=parameters.text("cert"),
        key_file=parameters.text("key"),
    )


def _in_cluster(parameters: Parameters) -> Login:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        raise ConfigurationError("this is no pod ($KUBERNETES_SERVICE_HOST is not set): name HOST:PORT or a kubeconfig")
    if parameters.switch("plain"):
        raise ConfigurationError("plain is not for a pod")
    try:
        namespace = (_SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
    except OSError:
        namespace = ""
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    files = {"token_file": str(_SERVICE_ACCOUNT / "token"), "ca_file": str(_SERVICE_ACCOUNT / "ca.crt")}
    return _with_files(Login(server, namespace=namespace, **files), parameters)


def _own_pod() -> str:
    """A pod's host name is its own unless its spec says otherwise; $POD_NAME (downward API) is then set by hand."""
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ
    return os.environ.get("POD_NAME", "") or (os.environ.get("HOSTNAME", "") if in_pod else "")
