"""Decodes only what changed between two versions of one locality of an EDS resource.

Called by `endpoints` with the version before. State-of-the-world xDS repeats all endpoints when one changes; the bytes
before the first and after the last change are found equal at memory speed; between them, endpoints whose bytes are in
both versions are left alone, in whatever order, and the others are parsed. The result is that of a full decode; where
something other than endpoints changed, the answer is None and the caller decodes fully.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from meshsdk.model.endpoints import Endpoint, EndpointMap
from meshsdk.xds_client.codec import wire
from meshsdk.xds_client.codec.endpoint import Shared
from meshsdk.xds_client.codec.localities import BLOCK, ENDPOINT, Part, block, block_sizes
from meshsdk.xds_client.codec.refusal import FieldError
from meshsdk.xds_client.codec.values import UINT32_MAX

_SHORT = 8192  # bytes of a block that is left whole although endpoints came in


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes raw[start:end]."""

    raw: bytes
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def within(self, start: int, end: int) -> Span:
        """Returns the part from `start` to `end`, both counted from this span's start."""
        return Span(self.raw, self.start + start, self.start + end)


def updated(known: Part, old: Span, new: Span) -> tuple[Part, tuple[str, ...]] | None:
    """Returns (`known`, the decoded `old`, brought to `new`; the addresses that came in).

    None: more than endpoints changed, or what came in is not acceptable; a full decode says which.
    """
    before = common_prefix(old, new)
    if before == len(old) == len(new):
        return known, ()
    bounds = list(accumulate(map(abs, known.blocks)))
    if known.endpoints is None or not bounds or bounds[-1] != len(old):
        return None
    until = len(old) - common_suffix(old, new, before)
    first, last = _touched(known.blocks, bounds, before, until)
    if any(size < 0 for size in known.blocks[first : last + 1]):
        return None
    block_start = bounds[first - 1] if first else 0
    growth = len(new) - len(old)
    try:
        start, end = _boundaries(old, block_start, before, until)
        if not _is_run(new, start, end + growth):
            return None
        sizes = _sizes(new, block_start, bounds[last] + growth)
        return _exchanged(
            known,
            old.within(start, end),
            new.within(start, end + growth),
            (*known.blocks[:first], *sizes, *known.blocks[last + 1 :]) if growth or first != last else known.blocks,
        )
    except FieldError:
        return None


def common_prefix(a: Span, b: Span) -> int:
    """Returns how many bytes at the start of both are the same. Costs one comparison of those bytes."""
    view = memoryview(a.raw)
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if b.raw.startswith(view[a.start + low : a.start + middle], b.start + low):
            low = middle
        else:
            high = middle - 1
    return low


def common_suffix(a: Span, b: Span, prefix: int) -> int:
    """Returns how many bytes at the end of both are the same, those of the common prefix left out."""
    view = memoryview(a.raw)
    low, high = 0, min(len(a), len(b)) - prefix
    while low < high:
        middle = (low + high + 1) // 2
        if b.raw.startswith(view[a.end - middle : a.end - low], b.end - middle):
            low = middle
        else:
            high = middle - 1
    return low


def _touched(blocks: Sequence[int], bounds: Sequence[int], before: int, until: int) -> tuple[int, int]:
    """Returns the first and the last block that the change from `before` to `until` (in the old bytes) lies in."""
    first = min(bisect_right(bounds, before), len(blocks) - 1)
    last = bisect_left(bounds, until)
    if last < first:  # something came in exactly between two blocks: it joins the one that holds endpoints
        first = last = last if blocks[last] > 0 else first
    return first, last


def _boundaries(old: Span, block_start: int, before: int, until: int) -> tuple[int, int]:
    """Returns the ends of endpoints that enclose the change most closely, counted from the start of `old`."""
    start = end = block_start
    while end < until:
        reached = end
        for position in wire.run(old.raw, old.start + reached, old.end, ENDPOINT, BLOCK):
            end = position - old.start
            if end <= before:
                start = end
            if end >= until:
                break
        if end == reached:
            raise FieldError("", "the earlier version does not fit its notes")
    return start, end


def _is_run(new: Span, start: int, end: int) -> bool:
    """Whether the bytes from `start` to `end` are whole endpoints and nothing else."""
    if start > end:
        return False
    return sum(block_sizes(new.raw, new.start + start, new.start + end)) == end - start


def _sizes(new: Span, start: int, end: int) -> tuple[int, ...]:
    """Returns the sizes of the blocks that the endpoints from `start` to `end` make: one, while that is short."""
    if 0 < end - start <= _SHORT:
        return (end - start,)
    return tuple(block_sizes(new.raw, new.start + start, new.start + end))


def _exchanged(known: Part, old: Span, new: Span, blocks: tuple[int, ...]) -> tuple[Part, tuple[str, ...]] | None:
    """Returns `known` with the endpoints in `old` replaced by those in `new`."""
    if known.endpoints is None:
        return None
    were, are = dict.fromkeys(_each(old)), dict.fromkeys(new_ones := list(_each(new)))
    if len(are) != len(new_ones):
        return None  # one endpoint twice
    shared, noted_out, noted_in = Shared(), dict[str, int](), dict[str, int]()
    leaving = b"".join(raw for raw in were if raw not in are)
    gone = {one.address: one for one in block(leaving, shared, noted_out)}
    come: dict[str, Endpoint] = {}
    endpoints = known.endpoints.endpoints
    for one in block(b"".join(raw for raw in are if raw not in were), shared, noted_in):
        if one.address in come or (one.address not in gone and endpoints.get(one.address) is not None):
            return None  # a duplicate
        come[one.address] = one
    weights = known.weights - _weight(gone) + _weight(come)
    if weights > UINT32_MAX:
        return None
    changed = _changed(endpoints, gone, come)
    locality = known.endpoints if changed is endpoints else replace(known.endpoints, endpoints=changed)
    part = Part(locality, blocks, weights, _recounted(known.noted, noted_out, noted_in))
    return part, tuple(come.keys() - gone.keys())


def _each(run: Span) -> Iterator[bytes]:
    """Yields the endpoints of a run, each as its serialised field."""
    start = run.start
    for end in wire.run(run.raw, start, run.end, ENDPOINT, len(run)):
        yield run.raw[start:end]
        start = end


def _changed(endpoints: EndpointMap, gone: Mapping[str, Endpoint], come: Mapping[str, Endpoint]) -> EndpointMap:
    put = [one for one in come.values() if gone.get(one.address) != one]
    return endpoints.updated(put, gone.keys() - come.keys())


def _weight(endpoints: Mapping[str, Endpoint]) -> int:
    return sum(one.weight for one in endpoints.values())


def _recounted(noted: Mapping[str, int], less: Mapping[str, int], more: Mapping[str, int]) -> Mapping[str, int]:
    if less == more:
        return noted
    counts = dict(noted)
    for path in less.keys() | more.keys():
        counts[path] = counts.get(path, 0) + more.get(path, 0) - less.get(path, 0)
        if not counts[path]:
            del counts[path]
    return counts
