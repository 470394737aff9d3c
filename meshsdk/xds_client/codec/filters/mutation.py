"""HeaderMutation and HeaderMutationPerRoute (filters) -> `HeaderMutation`. Called by `http_filters`.

Spec: envoy.extensions.filters.http.header_mutation.v3. What mutates queries and trailers is listed.
"""

from __future__ import annotations

from typing import Any

from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2

from meshsdk.model.filters import HeaderMutation
from meshsdk.xds_client.codec.header_edits import mutations
from meshsdk.xds_client.codec.ignored import Honoured, unhonoured

MESSAGE = header_mutation_pb2.HeaderMutation
PER_ROUTE = header_mutation_pb2.HeaderMutationPerRoute
_HONOURED: Honoured = {
    "mutations": {"request_mutations": None, "response_mutations": None},
    "most_specific_header_mutations_wins": None,
}


def header_mutation(message: Any, path: str, noted: set[str], listed: str) -> HeaderMutation:
    """Returns either form; what a route has is added to what the listener has."""
    noted.update(unhonoured(message, _HONOURED, listed))
    both = message.mutations
    requests, responses = "mutations.request_mutations", "mutations.response_mutations"
    return HeaderMutation(
        mutations(both.request_mutations, f"{path}.{requests}", noted, f"{listed}.{requests}"),
        mutations(both.response_mutations, f"{path}.{responses}", noted, f"{listed}.{responses}"),
        bool(getattr(message, "most_specific_header_mutations_wins", False)),
    )
