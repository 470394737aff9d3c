"""Runs first in a program that `meshsdk run` started, and in Python programs that this one starts.

Python's `site` imports it by name, before the program's first line. It has `grpc` woven when the program imports it, so
that a program without grpc pays for a finder only, and imports nothing of the mesh; then it gives way to the
`sitecustomize` of the environment, if there is one. Whatever goes wrong here, the program runs: without the mesh, and
one line on standard error says so.
"""

# ruff: noqa: INP001 - a folder for PYTHONPATH, not a package

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib costs every program milliseconds


class _Finder:
    """Finds grpc as the other finders do, and has it woven once it has been executed. Then it goes."""

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        if name != "grpc":
            return None
        for finder in [one for one in sys.meta_path if one is not self]:
            spec = finder.find_spec(name, path, target)  # type: ignore[arg-type]  # passed on as it came
            if spec is not None:
                self._follow(spec.loader)
                return spec
        return None

    def _follow(self, loader: object) -> None:
        """Weaves after `exec_module`. The loader stays what it is: programs ask modules for theirs."""
        execute = getattr(loader, "exec_module", None)
        if execute is None:  # a namespace's
            return

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
                _weave(module)

        loader.exec_module = exec_module  # type: ignore[attr-defined]  # of this one loader, made for grpc


def _prepare() -> None:
    for name in ("wrapt", "meshsdk"):
        if importlib.util.find_spec(name) is None:
            # A Python of another environment, started by the program, may rightly know nothing of the mesh.
            if os.environ.get("MESHSDK_RUN_PID") == str(os.getpid()):
                _complain(ModuleNotFoundError(f"No module named {name!r}"))
            return
    if "grpc" in sys.modules:  # a .pth file wanted it before
        _weave(sys.modules["grpc"])
    else:
        sys.meta_path.insert(0, _Finder())


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
