from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATE_UNSPECIFIED: _ClassVar[State]
    STARTING: _ClassVar[State]
    ONLINE: _ClassVar[State]
    DRAINING: _ClassVar[State]
    OFFLINE: _ClassVar[State]
STATE_UNSPECIFIED: State
STARTING: State
ONLINE: State
DRAINING: State
OFFLINE: State

class Instance(_message.Message):
    __slots__ = ("app", "id", "address", "revision", "unit", "region", "zone", "weight", "labels", "state", "started_at")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    APP_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    app: str
    id: str
    address: str
    revision: str
    unit: str
    region: str
    zone: str
    weight: int
    labels: _containers.ScalarMap[str, str]
    state: State
    started_at: float
    def __init__(self, app: _Optional[str] = ..., id: _Optional[str] = ..., address: _Optional[str] = ..., revision: _Optional[str] = ..., unit: _Optional[str] = ..., region: _Optional[str] = ..., zone: _Optional[str] = ..., weight: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., state: _Optional[_Union[State, str]] = ..., started_at: _Optional[float] = ...) -> None: ...

class RegisterRequest(_message.Message):
    __slots__ = ("instance", "ttl_seconds")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    instance: Instance
    ttl_seconds: int
    def __init__(self, instance: _Optional[_Union[Instance, _Mapping]] = ..., ttl_seconds: _Optional[int] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("id", "ttl_seconds")
    ID_FIELD_NUMBER: _ClassVar[int]
    TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    id: str
    ttl_seconds: int
    def __init__(self, id: _Optional[str] = ..., ttl_seconds: _Optional[int] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("lease_id",)
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    def __init__(self, lease_id: _Optional[str] = ...) -> None: ...

class SetStateRequest(_message.Message):
    __slots__ = ("lease_id", "state")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    state: State
    def __init__(self, lease_id: _Optional[str] = ..., state: _Optional[_Union[State, str]] = ...) -> None: ...

class DeregisterRequest(_message.Message):
    __slots__ = ("lease_id",)
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    def __init__(self, lease_id: _Optional[str] = ...) -> None: ...

class DeregisterResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("app", "unit")
    APP_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    app: str
    unit: str
    def __init__(self, app: _Optional[str] = ..., unit: _Optional[str] = ...) -> None: ...

class Increment(_message.Message):
    __slots__ = ("app", "put", "removed_ids", "reset", "more")
    APP_FIELD_NUMBER: _ClassVar[int]
    PUT_FIELD_NUMBER: _ClassVar[int]
    REMOVED_IDS_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    app: str
    put: _containers.RepeatedCompositeFieldContainer[Instance]
    removed_ids: _containers.RepeatedScalarFieldContainer[str]
    reset: bool
    more: bool
    def __init__(self, app: _Optional[str] = ..., put: _Optional[_Iterable[_Union[Instance, _Mapping]]] = ..., removed_ids: _Optional[_Iterable[str]] = ..., reset: bool = ..., more: bool = ...) -> None: ...

class Method(_message.Message):
    __slots__ = ("name", "options_json")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    name: str
    options_json: str
    def __init__(self, name: _Optional[str] = ..., options_json: _Optional[str] = ...) -> None: ...

class Revision(_message.Message):
    __slots__ = ("app", "revision", "methods")
    APP_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    app: str
    revision: str
    methods: _containers.RepeatedCompositeFieldContainer[Method]
    def __init__(self, app: _Optional[str] = ..., revision: _Optional[str] = ..., methods: _Optional[_Iterable[_Union[Method, _Mapping]]] = ...) -> None: ...

class PublishRevisionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetRevisionRequest(_message.Message):
    __slots__ = ("app", "revision")
    APP_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    app: str
    revision: str
    def __init__(self, app: _Optional[str] = ..., revision: _Optional[str] = ...) -> None: ...

class MapServiceRequest(_message.Message):
    __slots__ = ("service",)
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    service: str
    def __init__(self, service: _Optional[str] = ...) -> None: ...

class MapServiceResponse(_message.Message):
    __slots__ = ("apps",)
    APPS_FIELD_NUMBER: _ClassVar[int]
    apps: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, apps: _Optional[_Iterable[str]] = ...) -> None: ...
