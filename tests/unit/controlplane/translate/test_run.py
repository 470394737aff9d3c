"""A sorted run: whatever was put and removed in whatever order, it is its entries in the order of their addresses."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.server.framing import length_delimited
from controlplane.translate.run import Run

STEPS = st.lists(st.tuples(st.integers(0, 900).map(lambda n: f"10.0.0.{n}:80"), st.booleans()), max_size=60)


def joined(entries: dict[str, bytes]) -> bytes:
    """The fields of a dict's entries by address."""
    return b"".join(length_delimited(b"\x12", entries[address]) for address in sorted(entries))


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(0, 900))
def test_is_its_entries_by_address(steps: list[tuple[str, bool]], size: int) -> None:
    """Additions, replacements and removals leave the bytes that the content alone makes."""
    run = Run()
    model = {f"10.0.0.{number}:80": b"x" for number in range(size)}
    for address, value in model.items():
        run.put(address, value)
    for index, (address, there) in enumerate(steps):
        if there:
            model[address] = str(index).encode() * 40
            run.put(address, model[address])
        elif model.pop(address, None) is not None:
            run.remove(address)
        if index % 7 == 0:
            assert b"".join(run.joined()) == joined(model)
    assert b"".join(run.joined()) == joined(model)


def test_a_change_joins_one_piece() -> None:
    """Of 10,000 entries, one that changes leaves all pieces but its own the very same bytes."""
    run = Run()
    for number in range(10_000):
        run.put(f"{number:05}", b"x" * 40)
    before = run.joined()
    run.put("05000", b"y" * 40)
    after = run.joined()
    assert sum(one is not other for one, other in zip(before, after, strict=True)) == 1
    assert len(before) > 30
