"""Applied resources as keys and values in etcd, below the registry's prefix. Pure.

config/generation                           written with every change of a resource: changes are made against it
config/resources/{kind}/{namespace}/{name}  the document as it was applied, as JSON
replicas/{id}                               held by the lease of each control plane that runs
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import quote, unquote

from controlplane.model.identity import ResourceId, ResourceKind
from controlplane.store.port import StoredResource
from meshsdk.errors import RegistryError

_MAX_ROW = 8 * 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class StoreLayout:
    """Makes and reads keys. `prefix` starts with "/" and does not end with one."""

    prefix: str

    @property
    def generation(self) -> str:
        """The key that every change of a resource writes."""
        return f"{self.prefix}/config/generation"

    @property
    def resources(self) -> str:
        """The prefix of all applied resources."""
        return f"{self.prefix}/config/resources/"

    def resource(self, identity: ResourceId) -> str:
        """Returns the key of a resource."""
        parts = (identity.kind.value, identity.namespace, identity.name)
        return self.resources + "/".join(quote(part, safe="") for part in parts)

    def replica(self, identifier: str) -> str:
        """Returns the key of a running control plane."""
        return f"{self.replicas}{quote(identifier, safe='')}"

    @property
    def replicas(self) -> str:
        """The prefix of the running control planes."""
        return f"{self.prefix}/replicas/"

    @property
    def instances(self) -> str:
        """The prefix of all instances."""
        return f"{self.prefix}/instances/"

    @property
    def revisions(self) -> str:
        """The prefix of all revisions."""
        return f"{self.prefix}/revisions/"

    def row(self, key: str, raw: bytes) -> StoredResource:
        """Reads a resource. Raises RegistryError in words."""
        parts = [unquote(part) for part in key.removeprefix(self.resources).split("/")]
        if len(parts) != 3:  # noqa: PLR2004 - kind, namespace, name
            raise RegistryError(f"the key is not {self.resources}KIND/NAMESPACE/NAME")
        try:
            kind = ResourceKind(parts[0])
        except ValueError:
            raise RegistryError(f"the kind {parts[0]!r} is not known to this version") from None
        if len(raw) > _MAX_ROW:
            raise RegistryError(f"{len(raw)} bytes are more than {_MAX_ROW}")
        try:
            found = json.loads(raw)
            text, file, line = found["text"], found["file"], found["first_line"]
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            raise RegistryError(f"not the JSON of a resource: {error!r}") from None
        if not (isinstance(text, str) and isinstance(file, str) and type(line) is int):
            raise RegistryError("text, file (strings) and first_line (a whole number) are needed")
        return StoredResource(ResourceId(kind, parts[1], parts[2]), text, file, line)


def row_text(row: StoredResource) -> bytes:
    """Encodes a resource."""
    return json.dumps({"text": row.text, "file": row.file, "first_line": row.first_line}).encode()
