"""The part of a registry's URL after the "?": which parameters there are, and their values. Pure.

Called by the `open_url` of adapters. Every refusal is a ConfigurationError of a few words; who opens the URL adds
where it stands.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl

from meshsdk.errors import ConfigurationError

_ON, _OFF = frozenset({"1", "true"}), frozenset({"0", "false"})


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one URL, each there at most once."""

    given: Mapping[str, str]

    def text(self, name: str, default: str = "") -> str:
        """Returns a parameter as it is written."""
        return self.given.get(name, default)

    def seconds(self, name: str, default: float, least: float, most: float) -> float:
        """Returns a parameter in seconds, between `least` and `most`."""
        written = self.given.get(name)
        if written is None:
            return default
        try:
            value = float(written)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise ConfigurationError(f"{name} {written!r} is not between {least:g} and {most:g} seconds")
        return value

    def switch(self, name: str, *, default: bool = False) -> bool:
        """Returns whether a parameter is 1 or true; `default` where it is missing."""
        written = self.given.get(name)
        if written is None:
            return default
        if written not in _ON | _OFF:
            raise ConfigurationError(f"{name} {written!r} is not 1 or 0")
        return written in _ON


def parameters_of(url: SplitResult, known: Collection[str]) -> Parameters:
    """Reads the parameters of `url`; refuses a fragment, and a parameter that is not in `known` or that is repeated."""
    if url.fragment:
        raise ConfigurationError("nothing may follow a '#'")
    given: dict[str, str] = {}
    for name, value in parse_qsl(url.query, keep_blank_values=True):
        if name not in known:
            raise ConfigurationError(f"parameter {name!r} is none of {', '.join(sorted(known))}")
        if name in given:
            raise ConfigurationError(f"parameter {name!r} is there twice")
        given[name] = value
    return Parameters(given)
