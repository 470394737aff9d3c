"""`meshsdk shim status | head -1`."""

from __future__ import annotations

import argparse
import os

from meshsdk.shim import command


def test_a_reader_that_has_enough(monkeypatch, tmp_path):
    """Whoever reads has gone: no traceback, and nothing is left that Python could not write at its end."""
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(command, "ask", lambda *_, **__: {"app": "orders"})
    with os.fdopen(writing, "w") as output:
        monkeypatch.setattr("sys.stdout", output)
        assert command.main(argparse.Namespace(action="status", app="orders", folder=str(tmp_path))) == 0
        output.write("what is written later")
