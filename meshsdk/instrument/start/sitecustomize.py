"""Runs first in a program that `meshsdk run` started, and in Python programs that this one starts.

Python's `site` imports it by name, before the program's first line. It has `grpc` woven when the program imports it, so
that a program without grpc pays for a hook only; then it gives way to the `sitecustomize` of the environment, if there
is one. Whatever goes wrong here, the program runs: without the mesh, and one line on standard error says so.
"""

# ruff: noqa: INP001 - a folder for PYTHONPATH, not a package

from __future__ import annotations

import importlib.util
import os
import sys
from types import ModuleType

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib costs every program milliseconds


def _prepare() -> None:
    try:
        import wrapt  # noqa: PLC0415 - it may not be there

        if importlib.util.find_spec("meshsdk") is None:
            raise ModuleNotFoundError("No module named 'meshsdk'")
    except ImportError as error:
        # A Python of another environment, started by the program, may rightly know nothing of the mesh.
        if os.environ.get("MESHSDK_RUN_PID") == str(os.getpid()):
            _complain(error)
    else:
        wrapt.register_post_import_hook(_weave, "grpc")


def _weave(grpc: ModuleType) -> None:
    try:
        from meshsdk.instrument.weaving import weave  # noqa: PLC0415 - grpc is there only now

        weave(grpc)
    except Exception as error:  # noqa: BLE001 - the program must run
        _complain(error)


def _complain(error: Exception) -> None:
    words = f"{type(error).__name__}: {error}; running without the mesh"
    sys.stderr.write(f"meshsdk run: this Python ({sys.executable}) cannot load meshsdk: {words}\n")


def _give_way() -> None:
    """Imports the `sitecustomize` that this file stands in front of."""
    sys.path[:] = [place for place in sys.path if os.path.abspath(place or os.curdir) != _HERE]  # noqa: PTH100
    own = sys.modules.pop("sitecustomize")
    found = importlib.util.find_spec("sitecustomize")
    if found is None or found.loader is None:
        sys.modules["sitecustomize"] = own
        return
    module = sys.modules["sitecustomize"] = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)


_prepare()
_give_way()
