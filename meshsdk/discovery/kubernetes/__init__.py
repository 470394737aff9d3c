"""A Kubernetes cluster as a registry: Services' endpoints are read, and pods register themselves (extra `kubernetes`).

    kubernetes://[?parameters]                       in a pod: the service account's token, CA and namespace
    kubernetes://HOST:PORT[?parameters]              an API server (HTTPS)
    kubernetes:///?kubeconfig=FILE[&context=NAME]    as kubectl reaches it

`place` has the parameters. An application is a Service name: its EndpointSlices are listed and watched (`reflector`),
merged with what the pods' metadata says (`assembly`), and become instances. A process in a pod registers by an
EndpointSlice of its own, owned by the pod, so that Kubernetes removes it with the pod (`own_slice`); revisions are
ConfigMaps (`catalog`). docs/registries.md has the mapping and the Role that this needs.
"""

from __future__ import annotations

from urllib.parse import SplitResult

from meshsdk.discovery.kubernetes.place import place_of
from meshsdk.discovery.kubernetes.registry import KubernetesRegistry


def open_url(url: SplitResult) -> KubernetesRegistry:
    """Opens a URL as above; dials nothing. ConfigurationError says what is wrong."""
    return KubernetesRegistry(place_of(url))
