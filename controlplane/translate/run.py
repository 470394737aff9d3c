"""A sorted run of serialised endpoints, joined piece by piece: a change costs one piece and not the whole. Pure.

Used by `roster`, one for each locality. The joined bytes depend on the content alone, never on how it came about.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

from controlplane.server.framing import length_delimited

_PIECE = 128  # entries of a piece; it is split at twice as many
_MEMBERS = b"\x12"  # field 2 of LocalityLbEndpoints: lb_endpoints


class _Piece:
    """Neighbours in the order of their addresses. `joined`: their fields one after the other, None after a change."""

    __slots__ = ("addresses", "fields", "joined")

    def __init__(self, addresses: list[str], fields: dict[str, bytes]) -> None:
        self.addresses = addresses
        self.fields = fields
        self.joined: bytes | None = None


class Run:
    """Address -> serialised LbEndpoint, in the order of addresses. Mutable; owned by its roster."""

    def __init__(self) -> None:
        self._pieces: list[_Piece] = []
        self._firsts: list[str] = []  # the first address of each piece

    def put(self, address: str, value: bytes) -> None:
        """Adds or replaces an entry."""
        if not self._pieces:
            self._pieces, self._firsts = [_Piece([], {})], [address]
        index = max(0, bisect_right(self._firsts, address) - 1)
        piece = self._pieces[index]
        if address not in piece.fields:
            insort(piece.addresses, address)
            self._firsts[index] = piece.addresses[0]
        piece.fields[address] = length_delimited(_MEMBERS, value)
        piece.joined = None
        if len(piece.addresses) >= 2 * _PIECE:
            self._split(index)

    def remove(self, address: str) -> None:
        """Removes an entry that is there."""
        index = max(0, bisect_right(self._firsts, address) - 1)
        piece = self._pieces[index]
        del piece.addresses[bisect_left(piece.addresses, address)], piece.fields[address]
        piece.joined = None
        if piece.addresses:
            self._firsts[index] = piece.addresses[0]
        else:
            del self._pieces[index], self._firsts[index]

    def joined(self) -> list[bytes]:
        """Returns all entries as fields of their locality, in pieces."""
        found: list[bytes] = []
        for piece in self._pieces:
            if piece.joined is None:
                piece.joined = b"".join([piece.fields[address] for address in piece.addresses])
            found.append(piece.joined)
        return found

    def _split(self, index: int) -> None:
        piece = self._pieces[index]
        halves = [
            _Piece(part, {address: piece.fields[address] for address in part})
            for part in (piece.addresses[:_PIECE], piece.addresses[_PIECE:])
        ]
        self._pieces[index : index + 1] = halves
        self._firsts[index : index + 1] = [half.addresses[0] for half in halves]
