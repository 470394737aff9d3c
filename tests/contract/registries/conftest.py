"""The labs: every `lab_*.py` of this folder, each test once with each lab that has what it needs.

A lab's server is started when its first test runs and ended with the session.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.registries.lab import Feature, Lab


def _load(stem: str) -> type[Lab] | Exception:
    """Returns the lab of a file; what is wrong with one lab must not take the others' tests along."""
    try:
        lab: type[Lab] = importlib.import_module(f"tests.contract.registries.{stem}").TheLab
    except Exception as error:  # noqa: BLE001 - told by every test of that lab
        return error
    return lab


LABS: dict[str, type[Lab] | Exception] = {
    path.stem.removeprefix("lab_"): _load(path.stem) for path in sorted(Path(__file__).parent.glob("lab_*.py"))
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs each test that asks for a `lab` with the labs that have the features it needs."""
    if "lab" not in metafunc.fixturenames:
        return
    needed: tuple[Feature, ...] = getattr(metafunc.function, "needs", ())
    labs = [
        pytest.param(name, marks=[pytest.mark.peers] if not isinstance(lab, Exception) and lab.peer else [])
        for name, lab in LABS.items()
        if isinstance(lab, Exception) or all(lab.has(feature) for feature in needed)
    ]
    metafunc.parametrize("lab", labs, indirect=True)


@pytest.fixture(scope="session")
def server_of() -> Iterator[Callable[[type[Lab]], Any]]:
    """Returns the server of a lab, started the first time."""
    started: dict[type[Lab], Any] = {}

    def of(lab: type[Lab]) -> Any:
        if lab not in started:
            started[lab] = lab.launch()
        return started[lab]

    yield of
    for lab, server in started.items():
        lab.remove(server)


@pytest.fixture
def lab(request, server_of) -> Iterator[Lab]:
    """Each lab in turn, with entries of its own."""
    kind = LABS[request.param]
    if isinstance(kind, Exception):
        raise kind
    made = kind(server_of(kind))
    try:
        yield made
    finally:
        made.close()
