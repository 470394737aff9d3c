"""Edits of metadata to `*_headers_to_add` and `*_headers_to_remove`. Pure; used by `routes`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2 as route_pb2

from controlplane.model.traffic import HeaderEdits
from meshsdk.model.filters import HeaderEdit


def apply_edits(message: route_pb2.Route | route_pb2.WeightedCluster.ClusterWeight, edits: HeaderEdits) -> None:
    """Writes the edits into a route or one of its clusters. Envoy removes first, then sets and adds in order."""
    message.request_headers_to_remove.extend(_removed(edits.request))
    message.request_headers_to_add.extend(_added(edits.request))
    message.response_headers_to_remove.extend(_removed(edits.response))
    message.response_headers_to_add.extend(_added(edits.response))


def _removed(edits: Sequence[HeaderEdit]) -> Iterator[str]:
    return (edit.name for edit in edits if edit.value is None)


def _added(edits: Sequence[HeaderEdit]) -> Iterator[base_pb2.HeaderValueOption]:
    add, put = base_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD, base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    for edit in edits:
        if edit.value is not None:
            header = base_pb2.HeaderValue(key=edit.name, value=edit.value)
            yield base_pb2.HeaderValueOption(header=header, append_action=add if edit.append else put)
