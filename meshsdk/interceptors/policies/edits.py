"""Header edits: metadata as the configuration wants it sent, or read. Pure.

Called by the channel façades with a plan's `request_edits` and `response_edits`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from meshsdk.model.filters import HeaderEdit

Pair = tuple[str, "str | bytes"]


def edited(metadata: Iterable[Pair] | None, edits: Sequence[HeaderEdit]) -> tuple[Pair, ...]:
    """Returns the metadata after all edits, in order (envoy.config.core.v3.HeaderValueOption.HeaderAppendAction)."""
    pairs = [(key, value) for key, value in metadata or ()]
    for edit in edits:
        present = any(key == edit.name for key, _ in pairs)
        if (edit.only_if_absent and present) or (edit.only_if_present and not present):
            continue
        if edit.value is None or not edit.append:
            pairs = [pair for pair in pairs if pair[0] != edit.name]
        if edit.value is not None:
            pairs.append((edit.name, edit.value))
    return tuple(pairs)
