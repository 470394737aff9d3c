"""URLs of Kubernetes registries: in a pod, by address, by kubeconfig; and what is refused."""

from __future__ import annotations

import base64
from urllib.parse import urlsplit

import pytest

from meshsdk.discovery.kubernetes.place import place_of
from meshsdk.errors import ConfigurationError

KUBECONFIG = """
current-context: here
contexts:
- {name: here, context: {cluster: c, user: u, namespace: shop}}
- {name: plugin, context: {cluster: c, user: plugin}}
- {name: lax, context: {cluster: lax, user: u}}
- {name: lost, context: {cluster: nowhere, user: u}}
clusters:
- {name: c, cluster: {server: "https://k8s:6443/", certificate-authority-data: CA}}
- {name: lax, cluster: {server: "https://k8s:6443", insecure-skip-tls-verify: true}}
users:
- {name: u, user: {client-certificate: cert.pem, client-key: /k/key.pem}}
- {name: plugin, user: {exec: {command: aws}}}
""".replace("CA}", base64.b64encode(b"pem").decode() + "}")


@pytest.fixture(autouse=True)
def _no_pod(monkeypatch):
    """The tests do not depend on where they run."""
    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "POD_NAME", "HOSTNAME"):
        monkeypatch.delenv(name, raising=False)


def test_an_address():
    """HTTPS unless told otherwise; everything else has a default."""
    place = place_of(urlsplit("kubernetes://10.0.0.1:6443"))
    assert (place.login.server, place.namespace, place.pods, place.pod) == (
        "https://10.0.0.1:6443",
        "default",
        True,
        "",
    )
    place = place_of(urlsplit("kubernetes://h:1?plain=1&namespace=shop&port=web&pods=0&pod=p&timeout=2&pod_labels=a=b"))
    assert (place.login.server, place.namespace, place.port, place.pods) == ("http://h:1", "shop", "web", False)
    assert (place.pod, place.timeout, place.pod_labels) == ("p", 2.0, "a=b")


def test_in_a_pod(monkeypatch):
    """The service account's files and the pod's own name are found."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setenv("HOSTNAME", "orders-0")
    place = place_of(urlsplit("kubernetes://"))
    assert place.login.server == "https://[fd00::1]:443"
    assert place.login.token_file.endswith("serviceaccount/token")
    assert place.login.ca_file.endswith("serviceaccount/ca.crt")
    assert place.pod == "orders-0"
    monkeypatch.setenv("POD_NAME", "orders-1")
    assert place_of(urlsplit("kubernetes://")).pod == "orders-1"


def test_a_kubeconfig(tmp_path):
    """Relative files count from its folder, data is decoded, the context's namespace is the default."""
    path = tmp_path / "config"
    path.write_text(KUBECONFIG)
    place = place_of(urlsplit(f"kubernetes:///?kubeconfig={path}"))
    login = place.login
    assert (login.server, login.ca, place.namespace) == ("https://k8s:6443", "pem", "shop")
    assert (login.cert_file, login.key_file) == (str(tmp_path / "cert.pem"), "/k/key.pem")
    for context, words in (("plugin", "exec"), ("lax", "insecure"), ("lost", "no cluster"), ("x", "no context 'x'")):
        with pytest.raises(ConfigurationError, match=words):
            place_of(urlsplit(f"kubernetes:///?kubeconfig={path}&context={context}"))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("kubernetes://", "this is no pod"),
        ("kubernetes://host", "not HOST:PORT"),
        ("kubernetes://h:1/ns", "nothing may follow the host"),
        ("kubernetes://h:1?namespace=A_B", "not a name of Kubernetes"),
        ("kubernetes://h:1?colour=red", "parameter 'colour'"),
        ("kubernetes://h:1?plain=1&plain=1", "there twice"),
        ("kubernetes://h:1?plain=maybe", "not 1 or 0"),
        ("kubernetes://h:1?timeout=0", "not between"),
        ("kubernetes://h:1?timeout=nan", "not between"),
        ("kubernetes://h:1?cert=c", "go together"),
        ("kubernetes://h:1?context=c", "kubeconfig, which is not given"),
        ("kubernetes://h:1?kubeconfig=c", "name nothing beside it"),
        ("kubernetes:///?kubeconfig=/nowhere", "cannot read /nowhere"),
        ("kubernetes://h:1#x", "'#'"),
    ],
)
def test_what_is_refused(url, words):
    """Every mistake is told in a few words."""
    with pytest.raises(ConfigurationError, match=words):
        place_of(urlsplit(url))
