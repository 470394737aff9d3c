"""Instances, increments and revisions between model and wire (`registration.proto`).

Called by the `controlplane` adapter and by the control plane's registration service: both sides of the wire share this
file. Checks what comes in by `limits`; never keeps anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import MappingProxyType

from meshsdk.discovery import limits
from meshsdk.discovery import registration_pb2 as pb
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Increment, Instance, InstanceState, MethodInfo, Revision

_CHUNK = 2_000  # instances in one message
_WIRE_STATES: dict[InstanceState, pb.State] = {
    InstanceState.STARTING: pb.STARTING,
    InstanceState.ONLINE: pb.ONLINE,
    InstanceState.DRAINING: pb.DRAINING,
    InstanceState.OFFLINE: pb.OFFLINE,
}
_STATES: dict[int, InstanceState] = {number: state for state, number in _WIRE_STATES.items()}


def state_to_wire(state: InstanceState) -> pb.State:
    """Returns the enum value of a state."""
    return _WIRE_STATES[state]


def state_from_wire(number: int) -> InstanceState:
    """Returns the state; RegistryError for STATE_UNSPECIFIED and for numbers of a later version."""
    try:
        return _STATES[number]
    except KeyError:
        raise RegistryError(f"instance state {number} is not one of STARTING, ONLINE, DRAINING, OFFLINE") from None


def instance_to_wire(instance: Instance) -> pb.Instance:
    """Encodes an instance."""
    return pb.Instance(
        app=instance.app,
        id=instance.id,
        address=instance.address,
        revision=instance.revision,
        unit=instance.unit,
        region=instance.region,
        zone=instance.zone,
        weight=instance.weight,
        labels=dict(instance.labels),
        state=state_to_wire(instance.state),
        started_at=instance.started_at,
    )


def instance_from_wire(message: pb.Instance) -> Instance:
    """Decodes an instance; RegistryError says in words what is not acceptable.

    An unset weight is 1, an unset state ONLINE.
    """
    instance = Instance(
        app=message.app,
        id=message.id,
        address=message.address,
        revision=message.revision,
        unit=message.unit,
        region=message.region,
        zone=message.zone,
        weight=message.weight or 1,
        labels=MappingProxyType(dict(message.labels)),
        state=state_from_wire(message.state or pb.ONLINE),
        started_at=message.started_at,
    )
    if problem := limits.instance_problem(instance):
        raise RegistryError(problem)
    return instance


def increment_to_wire(increment: Increment) -> pb.Increment:
    """Encodes an increment."""
    return pb.Increment(
        app=increment.app,
        put=[instance_to_wire(instance) for instance in increment.put],
        removed_ids=increment.removed,
        reset=increment.reset,
    )


def increment_to_messages(increment: Increment) -> Iterator[pb.Increment]:
    """Encodes an increment as one message, or as several that are far below gRPC's limit of 4 MB each."""
    put = increment.put
    message = increment_to_wire(replace(increment, put=put[:_CHUNK]))
    for start in range(_CHUNK, len(put), _CHUNK):
        message.more = True
        yield message
        message = increment_to_wire(Increment(increment.app, put[start : start + _CHUNK]))
    yield message


def joined(parts: Sequence[Increment]) -> Increment:
    """Returns the increment that came in several messages; the first says what is removed, and whether it is all."""
    if len(parts) == 1:
        return parts[0]
    return replace(parts[0], put=tuple(instance for part in parts for instance in part.put))


def increment_from_wire(message: pb.Increment) -> tuple[Increment, tuple[str, ...]]:
    """Decodes an increment; instances that are not acceptable are left out and told in words beside it."""
    put: list[Instance] = []
    problems: list[str] = []
    for entry in message.put:
        try:
            put.append(instance_from_wire(entry))
        except RegistryError as error:
            problems.append(f"{entry.app}/{entry.id}: {error}")
    return Increment(message.app, tuple(put), tuple(message.removed_ids), message.reset), tuple(problems)


def revision_to_wire(revision: Revision) -> pb.Revision:
    """Encodes a revision; options become JSON texts."""
    methods = [
        pb.Method(name=method.name, options_json=json.dumps(dict(method.options), sort_keys=True))
        for method in revision.methods
    ]
    return pb.Revision(app=revision.app, revision=revision.revision, methods=methods)


def revision_from_wire(message: pb.Revision) -> Revision:
    """Decodes a revision; RegistryError for options that are no JSON object and for what `limits` refuses."""
    methods = tuple(_method_from_wire(method) for method in message.methods)
    revision = Revision(message.app, message.revision, methods)
    if problem := limits.revision_problem(revision):
        raise RegistryError(problem)
    return revision


def _method_from_wire(message: pb.Method) -> MethodInfo:
    try:
        options = json.loads(message.options_json or "{}")
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"method {message.name}: options_json is not JSON: {error}") from None
    if not isinstance(options, dict):
        raise RegistryError(f"method {message.name}: options_json is not a JSON object")
    return MethodInfo(message.name, MappingProxyType(options))
