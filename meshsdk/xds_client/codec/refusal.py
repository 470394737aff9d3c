"""Why a resource is refused: the field and the reason, from the decoder that saw it up to the text of the NACK.

Raised by every decoder of this package; `decoding.decode` turns it into `InvalidResource`. Never leaves the package.
"""

from __future__ import annotations

_SHOWN = 80  # characters of a foreign value that a NACK repeats: it goes into logs and back over the wire


class FieldError(Exception):
    """The field at `path` (dotted, relative to the message being decoded) cannot be accepted, for `reason`."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason

    def under(self, parent: str) -> FieldError:
        """Returns the same refusal as seen from the message that holds this one in its field `parent`."""
        return FieldError(joined(parent, self.path), self.reason)


def joined(parent: str, child: str) -> str:
    """Returns the dotted path of `child` in `parent`; either may be empty."""
    return f"{parent}.{child}" if parent and child else parent or child


def shown(value: object) -> str:
    """Returns a foreign value as a NACK repeats it: quoted, control characters escaped, cut to a bounded length."""
    return cut(repr(value), _SHOWN)


def cut(text: str, most: int = 300) -> str:
    """Returns `text`, cut to `most` characters with a note that it was."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"
