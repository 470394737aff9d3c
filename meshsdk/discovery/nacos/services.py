"""The names of the services of a group. Called by `registry` for watches of all applications."""

from __future__ import annotations

from meshsdk.discovery.nacos.place import Place
from meshsdk.discovery.nacos.session import Session
from meshsdk.discovery.nacos.wire import JsonObject
from meshsdk.errors import RegistryError

_PAGE = 500
_MOST = 50_000  # services


def listed_services(session: Session, place: Place) -> list[str]:
    """Returns the names, asked for page by page. RegistryError as `Session.ask`, and for more than can be."""
    names: dict[str, None] = {}
    where: JsonObject = {"module": "naming", "namespace": place.namespace, "groupName": place.group, "serviceName": ""}
    for page in range(1, _MOST // _PAGE + 1):
        asked: JsonObject = {"pageNo": page, "pageSize": _PAGE}
        answer = session.ask("list the services of", "ServiceListRequest", where | asked)
        found = answer.body.body.get("serviceNames")
        fresh = [str(name).rpartition("@@")[2] for name in found] if isinstance(found, list) else []
        names.update(dict.fromkeys(fresh))
        if len(fresh) < _PAGE:
            return list(names)
    raise RegistryError(f"group {place.group} of {place.words} has more than {_MOST} services")
