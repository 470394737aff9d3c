"""The instances that the suite's tests register."""

from __future__ import annotations

from dataclasses import replace

from meshsdk.model.instance import Instance

ONE = Instance("orders", "1", "10.0.0.1:50051", revision="r", unit="u1", zone="z", weight=3, labels={"version": "v1"})
TWO = replace(ONE, id="2", address="10.0.0.2:50051", unit="u2")
PLAIN = Instance("orders", "3", "10.0.0.3:50051")
OTHER = Instance("users", "1", "10.0.1.1:50051")


def many(count: int, app: str = "orders") -> list[Instance]:
    """Returns instances 0 ... count-1 of an application."""
    return [Instance(app, f"i{n}", f"10.1.{n // 250}.{n % 250 + 1}:50051", labels={"n": str(n)}) for n in range(count)]
