"""How to speak to an API server: its address and what proves who is asking. Values only; read by `api`.

Files are named rather than read: tokens and certificates of pods rotate.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Login:
    """How to speak to an API server: `server` is a URL; of each pair of file and text, one is given or none."""

    server: str
    token_file: str = ""
    token: str = ""
    ca_file: str = ""
    ca: str = ""  # PEM
    cert_file: str = ""
    key_file: str = ""
    cert: str = ""  # PEM, as is `key`
    key: str = ""
    namespace: str = ""
