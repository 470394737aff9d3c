"""How `meshctl` writes: tables, YAML, JSON, and one clear line of error. The only place that prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence

OK, FAILED, USAGE = 0, 1, 2  # exit codes (design.md section 3)


def say(line: str) -> None:
    """Writes a line to stdout at once, also where stdout is a pipe."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def complain(lines: Iterable[str]) -> None:
    """Writes lines to stderr."""
    for line in lines:
        sys.stderr.write(line + "\n")
    sys.stderr.flush()


def show(rows: Sequence[Mapping[str, object]], form: str, columns: Sequence[str]) -> None:
    """Writes rows as `table` (of these columns), `yaml` or `json`."""
    if form == "json":
        say(json.dumps(list(map(dict, rows)), indent=2))
    elif form == "yaml":
        say(yaml_text(list(map(dict, rows))))
    else:
        table([[_cell(row.get(column, "")) for column in columns] for row in rows], columns)


def yaml_text(value: object) -> str:
    """Returns a JSON-like value as YAML."""
    import yaml  # noqa: PLC0415 - an extra: `config.tree` says so in words where it is not installed

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True)).rstrip()


def table(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> None:
    """Writes columns, aligned, under their names in capitals."""
    heads = [column.upper() for column in columns]
    widths = [max(len(line[index]) for line in [heads, *rows]) for index in range(len(heads))]
    for line in [heads, *rows]:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={item}" for name, item in sorted(value.items()))
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).replace("\n", " ")
