"""Fails where the tree leaves its own habits that no linter knows. Called by `make lint` and by pre-commit.

A file is about one concept (length), a name says what is in it, a function fits a screen, a test asserts something.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("meshsdk", "controlplane", "tests", "examples", "benchmarks", "scripts")
SAYS_NOTHING = re.compile(r"^_?(utils?|helpers?|common|managers?|base|misc)$")
CHECKS = re.compile(r"Assert\(|raises|assert_|fail|check|expect|verify|wait|until")
FILE_LINES = {True: 700, False: 400}  # a test file, any other
FUNCTION_LINES = 45  # not asked of tests: a scenario is told in one piece


def complaints(path: Path) -> Iterator[str]:
    """Yields one line for each habit that the file leaves."""
    place = path.relative_to(ROOT)
    is_test = place.parts[0] == "tests"
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    if lines > FILE_LINES[is_test]:
        yield f"{place}: {lines} lines hold more than one concept; at most {FILE_LINES[is_test]}"
    if SAYS_NOTHING.match(path.stem):
        yield f"{place}: the name does not say what is in the file"
    for node in ast.walk(ast.parse(text, str(place))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if not is_test and length > FUNCTION_LINES:
            yield f"{place}:{node.lineno}: {node.name} has {length} lines; at most {FUNCTION_LINES}"
        if is_test and node.name.startswith("test_") and not CHECKS.search(ast.dump(node)):
            yield f"{place}:{node.lineno}: {node.name} asserts nothing"


def main() -> int:
    """Prints every complaint; returns the exit code."""
    files = sorted(
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if not re.search(r"_pb2(_grpc)?\.py$|/node_modules/", path.as_posix())
    )
    found = [line for path in files for line in complaints(path)]
    for line in found:
        print(line, file=sys.stderr)
    print(f"Habits: {len(files)} files, {len(found)} complaints.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
