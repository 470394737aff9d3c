"""Revisions as ConfigMaps: what applications serve, and who serves a gRPC service. Called by `registry`.

One immutable ConfigMap a revision, named by (app, revision), with the content as JSON and a label for each gRPC service
in it, so that "who serves pkg.Service" is one list by label, of metadata alone. They stay when the pods are gone, as
other registries keep revisions; `kubectl delete configmap -l meshsdk.io/revision-of=APP` removes an application's.
"""

from __future__ import annotations

from meshsdk.discovery import limits
from meshsdk.discovery.entries import revision_from_text, revision_to_text, services_of
from meshsdk.discovery.kubernetes.api import WHOLE, ApiServer, Refused
from meshsdk.discovery.kubernetes.own_slice import check_app, digest
from meshsdk.discovery.kubernetes.reflector import METADATA_LIST
from meshsdk.discovery.registry import MalformedEntry
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Revision

_APP = "meshsdk.io/revision-of"  # label
_SERVICE_PREFIX = "service.meshsdk.io"  # labels: a gRPC service, by digest; its name may be longer than a label's
_CONTENT = "revision.json"
_MOST = 900 * 1024  # bytes of content; the API takes ConfigMaps of 1 MiB
_CONFLICT = 409
_NOT_FOUND = 404


class ConfigMapCatalog:
    """Implements `meshsdk.discovery.registry.Catalog` in one namespace."""

    def __init__(self, api: ApiServer, namespace: str) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/configmaps"

    def publish_revision(self, revision: Revision) -> None:
        """See `Catalog`. RegistryError for what `limits` refuses, and for what is too large for a ConfigMap."""
        if problem := limits.revision_problem(revision):
            raise RegistryError(problem)
        check_app(revision.app)
        content = revision_to_text(revision).decode()
        if len(content) > _MOST:
            raise RegistryError(f"revision {revision.revision}: {len(content)} bytes are more than a ConfigMap takes")
        labels = {_APP: revision.app, **{_label(service): "1" for service in services_of(revision)}}
        body: dict[str, object] = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": _name(revision.app, revision.revision), "labels": labels},
            "immutable": True,
            "data": {_CONTENT: content},
        }
        try:
            self._api.ask("publish a revision at", "POST", self._path, body=body)
        except Refused as refused:
            if refused.status != _CONFLICT:  # it was published before: a revision is named by its content
                raise

    def get_revision(self, app: str, revision: str) -> Revision | None:
        """See `Catalog`."""
        try:
            found = self._api.ask("get a revision from", "GET", f"{self._path}/{_name(app, revision)}")
        except Refused as refused:
            if refused.status == _NOT_FOUND:
                return None
            raise
        data = found.get("data")
        text = data.get(_CONTENT) if isinstance(data, dict) else None
        words = f"ConfigMap {_name(app, revision)}"
        try:
            read = revision_from_text(str(text).encode())
        except MalformedEntry as error:
            raise MalformedEntry(f"{words}: {error}") from None
        if (read.app, read.revision) != (app, revision):
            raise MalformedEntry(f"{words} is about {read.app} {read.revision}")
        return read

    def map_service(self, service: str) -> tuple[str, ...]:
        """See `Catalog`."""
        apps: set[str] = set()
        query = {"labelSelector": _label(service), "limit": "500"}
        while True:
            page = self._api.get("map a service at", self._path, query, f"{METADATA_LIST},{WHOLE}")
            items = page.get("items")
            apps |= {app for item in (items if isinstance(items, list) else ()) if (app := _app(item))}
            metadata = page.get("metadata")
            token = metadata.get("continue") if isinstance(metadata, dict) else None
            if not token:
                return tuple(sorted(apps))
            query = {**query, "continue": str(token)}


def _name(app: str, revision: str) -> str:
    return f"meshsdk-{digest('revision', app, revision)}"


def _label(service: str) -> str:
    return f"{_SERVICE_PREFIX}/{digest('service', service)}"


def _app(item: object) -> str:
    metadata = item.get("metadata") if isinstance(item, dict) else None
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    app = labels.get(_APP) if isinstance(labels, dict) else None
    return app if isinstance(app, str) else ""
