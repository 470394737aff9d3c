"""Kubernetes: a fake API server that is true to the protocol (tests/servers/kubernetes_fake.py), a namespace a test.

Each client is a pod of its own. The fake enforces the rights of docs/kubernetes-role.yaml and nothing more is granted.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from meshsdk.discovery.kubernetes import KubernetesRegistry
from meshsdk.discovery.opening import open_registry
from meshsdk.discovery.registry import Registry
from tests.contract.registries.lab import ServerLab
from tests.servers.kubernetes_fake import KubernetesFake

ROLE = Path(__file__).resolve().parents[3] / "docs" / "kubernetes-role.yaml"
_PODS = 6  # there from the beginning: clients are opened also while the server is away


class TheLab(ServerLab):
    """Has every feature. A lease lapses with its pod and not with time: `elapse` lets none pass."""

    name = "kubernetes"
    ttl = 30.0

    def __init__(self, server: KubernetesFake) -> None:
        super().__init__(server)
        self._clients = 0
        for number in range(_PODS):
            self._create_pod(f"pod-{number}")

    @classmethod
    def launch(cls) -> KubernetesFake:
        """Starts the server."""
        rules = next(each for each in yaml.safe_load_all(ROLE.read_text()) if each["kind"] == "Role")["rules"]
        control = {"resources": ["pods", "endpointslices"], "verbs": ["create", "delete", "update"]}  # of the suite
        return KubernetesFake(rules=[*rules, control]).start()

    def connect(self) -> Registry:
        """Returns a client in a pod of its own."""
        pod = f"pod-{self._clients % _PODS}"
        self._clients += 1
        url = f"kubernetes://{self.server.address}?plain=1&namespace={self.space}&pod={pod}&timeout=3"
        return open_registry(url, "the suite")

    def elapse(self, seconds: float) -> None:
        """Time alone lapses nothing."""

    def lapse(self, registry: Registry) -> None:
        """Removes the client's pod, and starts another one of its name, as a StatefulSet would."""
        assert isinstance(registry, KubernetesRegistry)
        pod = registry._place.pod
        self.server.delete("pods", self.space, pod)
        self._create_pod(pod)

    def compact(self) -> None:
        """Forgets the history, and ends the watches so that they ask for it."""
        self.server.control("compact")
        self.server.control("end_watches")

    def put_raw(self, app: str, key_hint: str, value: bytes) -> None:
        """Writes a slice that claims to be an instance's own."""
        item = {
            "metadata": {
                "name": key_hint,
                "labels": {
                    "kubernetes.io/service-name": app,
                    "endpointslice.kubernetes.io/managed-by": "meshsdk.io",
                },
                "annotations": {"meshsdk.io/instance": value.decode(errors="replace")},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.9.9.9"]}],
            "ports": [{"name": "grpc", "port": 1, "protocol": "TCP"}],
        }
        try:
            self.server.create("endpointslices", self.space, item)
        except AssertionError:  # it is there
            self.server.replace("endpointslices", self.space, item)

    def remove_raw(self, app: str, key_hint: str) -> None:
        """Removes that slice."""
        self.server.delete("endpointslices", self.space, key_hint)

    def _create_pod(self, name: str) -> None:
        self.server.create("pods", self.space, {"metadata": {"name": name}})
