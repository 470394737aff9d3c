"""What a server serves, as a revision: methods, their options, and a hash over both.

Called by `serve` once; two processes that serve the same have the same revision, whatever their address.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType

from meshsdk.discovery.limits import revision_problem
from meshsdk.errors import ConfigurationError
from meshsdk.interceptors.rpc import options_of
from meshsdk.model.instance import MethodInfo, Revision

_DIGITS = 16  # hex digits kept of the SHA-256: 64 bits, compared only among one application's revisions
_INFRASTRUCTURE = "/grpc."  # health, reflection, channelz: every server may have them, no application is found by them


def revision_of(app: str, handlers: Mapping[str, object]) -> Revision:
    """Builds the revision of `handlers` (`/pkg.Service/Method` -> the function behind it).

    Raises ConfigurationError for what no registry takes.
    """
    methods = []
    for name in sorted(handlers):
        if not name.startswith(_INFRASTRUCTURE):
            options = options_of(handlers[name])
            methods.append(MethodInfo(name, MappingProxyType(options.published() if options else {})))
    canonical = json.dumps(
        [[method.name, dict(method.options)] for method in methods], sort_keys=True, separators=(",", ":")
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:_DIGITS]
    revision = Revision(app, digest, tuple(methods))
    if problem := revision_problem(revision):
        raise ConfigurationError(f"serve(app={app!r}): {problem}")
    return revision
