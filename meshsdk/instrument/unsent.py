"""Tells from an error whether the engine raised it before anything of the call had left the process.

Called by woven channels when a call on the mesh's way has failed in a way that no server caused. The proof is the
traceback: the step of the engine that raised, and no step before it that makes an attempt.
"""

from __future__ import annotations

from types import CodeType

from meshsdk.channel.aio import MeshAioChannel
from meshsdk.channel.blocking import BlockingCall
from meshsdk.channel.stack import Target
from meshsdk.channel.sync import MeshChannel
from meshsdk.channel.waiting import wait_for_backend
from meshsdk.interceptors.drivers import drive

# Steps that come before an attempt, and those that follow one.
_BEFORE: frozenset[CodeType] = frozenset(
    step.__code__ for step in (Target.take, MeshChannel.open, MeshAioChannel.open, wait_for_backend)
)
_AFTER: frozenset[CodeType] = frozenset(step.__code__ for step in (BlockingCall.resume, drive, Target.noticed))


def never_left(error: BaseException) -> bool:
    """Tells whether the request surely never left; False where that cannot be proven."""
    codes = set()
    step = error.__traceback__
    while step is not None:
        codes.add(step.tb_frame.f_code)
        step = step.tb_next
    return not codes.isdisjoint(_BEFORE) and codes.isdisjoint(_AFTER)
