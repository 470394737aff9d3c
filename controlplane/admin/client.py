"""The client of the admin interface, for `meshctl`. One request a call, no retries."""

from __future__ import annotations

import http.client
import json
from urllib.parse import quote, urlencode

from controlplane.admin.address import split_address
from meshsdk.errors import MeshError

_PATIENCE = 30.0  # seconds
_LIMIT = 256 * 1024 * 1024  # bytes of an answer


class AdminError(MeshError):
    """The control plane refused, or could not be asked. `texts`: one line for each reason."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        super().__init__("\n".join(texts))


class AdminClient:
    """Asks the control plane at `address` (`HOST:PORT`). Raises ConfigurationError for what is no address."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._host, self._port = split_address(address)

    def get(self, *parts: str) -> object:
        """Returns the JSON value at `/v1/parts...`. Raises AdminError."""
        return self._ask("GET", parts)

    def ask(self, subject: str, query: dict[str, str]) -> object:
        """Returns the JSON value at `/v1/subject?query`. Raises AdminError."""
        return self._ask("GET", (subject,), query=query)

    def apply(self, text: bytes, file: str) -> object:
        """Applies YAML that came from `file`. Raises AdminError."""
        return self._ask("POST", ("resources",), text, {"file": file})

    def delete(self, kind: str, namespace: str, name: str) -> object:
        """Deletes an applied resource. Raises AdminError."""
        return self._ask("DELETE", ("resources", kind, namespace, name))

    def _ask(
        self, method: str, parts: tuple[str, ...], body: bytes = b"", query: dict[str, str] | None = None
    ) -> object:
        path = "/v1/" + "/".join(quote(part, safe="") for part in parts)
        if query:
            path += "?" + urlencode(query)
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_PATIENCE)
        try:
            connection.request(method, path, body or None, {"Content-Type": "application/yaml"} if body else {})
            response = connection.getresponse()
            raw = response.read(_LIMIT)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or error
            raise AdminError(
                f"no control plane answers at {self._address}: {reason} (start one with meshctl serve, or name it with "
                "--server)"
            ) from None
        finally:
            connection.close()
        return self._value(response.status, raw)

    def _value(self, status: int, raw: bytes) -> object:
        try:
            value: object = json.loads(raw)
        except ValueError:
            raise AdminError(f"{self._address} is not a control plane's admin interface (HTTP {status})") from None
        if status == http.client.OK:
            return value
        texts = value.get("errors") if isinstance(value, dict) else None
        raise AdminError(*(map(str, texts) if isinstance(texts, list) and texts else [f"refused with HTTP {status}"]))
