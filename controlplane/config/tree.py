"""YAML text to plain trees that know their lines. Called by `documents`; knows nothing of resources.

Built from parser events with a stack of our own, so neither depth nor aliases can exhaust the process: every node,
also one reached again through an alias, counts against `MAX_NODES`. No tag constructs anything but YAML's own scalars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from controlplane.config.problems import FieldRefused, Problem
from controlplane.model.identity import Origin
from meshsdk.errors import ConfigurationError

try:
    import yaml
except ModuleNotFoundError as error:
    raise ConfigurationError("reading YAML needs PyYAML: pip install 'meshsdk[controlplane]'") from error

MAX_BYTES = 8 * 1024 * 1024  # of one file
MAX_NODES = 400_000  # of one file, aliases expanded
MAX_DEPTH = 64

# libyaml is ten times as fast; PyYAML builds without it exist.
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SCALARS = {
    "tag:yaml.org,2002:str": "string",
    "tag:yaml.org,2002:int": "number",
    "tag:yaml.org,2002:float": "number",
    "tag:yaml.org,2002:bool": "boolean",
    "tag:yaml.org,2002:null": "nothing",
    "tag:yaml.org,2002:timestamp": "timestamp",
    "tag:yaml.org,2002:merge": "string",
    "tag:yaml.org,2002:value": "string",
}
_resolve: Callable[[type[yaml.Node], str, tuple[bool, bool]], str] = yaml.resolver.Resolver().resolve


def _line(event: yaml.Event) -> int:
    return event.start_mark.line if event.start_mark else 0


@dataclass(slots=True)
class Node:
    """One value: `kind` is string, number, boolean, nothing, timestamp, list or map. Not changed once it is complete.

    `keys` maps each key of a map to the line it stands on. `weight` is the number of nodes with aliases expanded.
    """

    kind: str
    line: int
    text: str = ""
    items: list[Node] = field(default_factory=list)
    entries: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    weight: int = 1


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """One document of a file: its tree, its own text, and the line that text starts on."""

    root: Node
    text: str
    first_line: int


@dataclass(slots=True)
class _Builder:
    """Turns events into one document's tree. Lives for one document."""

    file: str
    offset: int
    stack: list[tuple[Node, str | None]] = field(default_factory=list)
    anchors: dict[str, Node] = field(default_factory=dict)
    root: Node | None = None
    key: str | None = None

    def refuse(self, line: int, what: str) -> FieldRefused:
        return FieldRefused(Problem(Origin(self.file, line), what))

    def take(self, event: yaml.Event) -> None:
        line = _line(event) + 1 + self.offset
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event, line)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._open(event, line)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            node, key = self.stack.pop()
            self.key = key
            self._place(node, line)

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        tag = event.tag
        if tag is None or tag == "!":
            tag = _resolve(yaml.ScalarNode, event.value, event.implicit)
        if tag not in _SCALARS:
            raise self.refuse(line, f"the tag {tag} is not allowed; only plain YAML values are")
        node = Node(_SCALARS[tag], line, event.value)
        if event.anchor:
            self.anchors[event.anchor] = node
        self._place(node, line)

    def _alias(self, event: yaml.AliasEvent, line: int) -> None:
        target = self.anchors.get(event.anchor or "")
        if target is None:
            # A collection gets its anchor when it ends, so an alias to its own parent lands here as well.
            raise self.refuse(line, f"the alias *{event.anchor} names no complete value before it")
        self._place(target, line)

    def _open(self, event: yaml.Event, line: int) -> None:
        if len(self.stack) >= MAX_DEPTH:
            raise self.refuse(line, f"nested deeper than {MAX_DEPTH} levels")
        mapping = isinstance(event, yaml.MappingStartEvent)
        tag = getattr(event, "tag", None)
        if tag not in {None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}:
            raise self.refuse(line, f"the tag {tag} is not allowed; only plain YAML values are")
        if self.stack and self.stack[-1][0].kind == "map" and self.key is None:
            raise self.refuse(line, "a key must be a string")
        node = Node("map" if mapping else "list", line)
        anchor = getattr(event, "anchor", None)
        if anchor:
            node.text = anchor
        self.stack.append((node, self.key))
        self.key = None

    def _place(self, node: Node, line: int) -> None:
        if node.kind in {"map", "list"} and node.text:
            self.anchors[node.text] = node
            node.text = ""
        if not self.stack:
            self.root = node
            return
        parent = self.stack[-1][0]
        if parent.kind == "map" and self.key is None:
            self._key(parent, node, line)
            return
        parent.weight += node.weight
        if parent.weight > MAX_NODES:
            raise self.refuse(line, f"more than {MAX_NODES} values, aliases expanded")
        if parent.kind == "list":
            parent.items.append(node)
        else:
            parent.entries[self.key or ""] = node
            self.key = None

    def _key(self, parent: Node, node: Node, line: int) -> None:
        if node.kind in {"map", "list", "nothing"}:
            raise self.refuse(line, "a key must be a string")
        if node.text in parent.keys:
            raise self.refuse(line, f"the key {node.text} was given before, on line {parent.keys[node.text]}")
        parent.keys[node.text] = line
        self.key = node.text


def read(text: str, file: str, first_line: int = 1) -> Iterator[YamlDocument]:
    """Yields the documents of `text` that are not empty; lines are counted from `first_line`.

    Raises FieldRefused where the text is not YAML, or over a limit; documents before it have been yielded.
    """
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise FieldRefused(Problem(Origin(file, first_line), f"larger than {MAX_BYTES} bytes"))
    offset = first_line - 1
    lines = text.splitlines(keepends=True)
    builder = _Builder(file, offset)
    start = total = 0
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.DocumentStartEvent):
                builder = _Builder(file, offset)
                start = _line(event)
                start += lines[start : start + 1] == ["---\n"]  # the marker is not part of the document
            elif isinstance(event, yaml.DocumentEndEvent):
                root = builder.root
                if root is not None and root.kind != "nothing":
                    total += root.weight
                    if total > MAX_NODES:
                        raise builder.refuse(root.line, f"more than {MAX_NODES} values, aliases expanded")
                    end = _line(event) + (event.start_mark is not None and event.start_mark.column > 0)
                    yield YamlDocument(root, "".join(lines[start:end]), start + first_line)
            else:
                builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = (mark.line if mark else 0) + first_line
        raise FieldRefused(Problem(Origin(file, line), f"not YAML: {error.problem or error.context}")) from None
    except yaml.YAMLError as error:  # a character YAML does not allow: the reader knows only its offset
        line = text.count("\n", 0, getattr(error, "position", 0)) + first_line
        raise FieldRefused(Problem(Origin(file, line), f"not YAML: {getattr(error, 'reason', error)}")) from None


def plain(node: Node) -> object:
    """Returns the JSON-like Python value of a tree (bounded: the tree was counted when it was read)."""
    if node.kind == "map":
        return {key: plain(value) for key, value in node.entries.items()}
    if node.kind == "list":
        return [plain(item) for item in node.items]
    if node.kind in {"string", "timestamp"}:
        return node.text
    value: object = yaml.safe_load(node.text)
    return value
