"""YAML text to trees: lines, documents, and what hostile text cannot do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.config import tree
from controlplane.config.documents import parse
from controlplane.config.problems import FieldRefused

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + level)}: &{chr(98 + level)} [{','.join([f'*{chr(97 + level)}'] * 9)}]\n" for level in range(9)
)


def refusal(text: str) -> str:
    """Returns why `text` is refused."""
    with pytest.raises(FieldRefused) as caught:
        list(tree.read(text, "f.yaml"))
    return str(caught.value)


def test_documents_know_their_text_and_line() -> None:
    """Comments, several documents, empty ones and an explicit end keep their lines straight."""
    text = "# one\na: 1\n---\n---\nb: [x]\n...\n---\n# three\nc: {d: yes}\n"
    documents = list(tree.read(text, "f.yaml"))
    assert [(document.text, document.first_line) for document in documents] == [
        ("a: 1\n", 2),
        ("b: [x]\n", 5),
        ("# three\nc: {d: yes}\n", 8),
    ]
    assert [tree.plain(document.root) for document in documents] == [{"a": 1}, {"b": ["x"]}, {"c": {"d": True}}]


def test_a_part_of_a_file_keeps_the_lines_of_the_file() -> None:
    """A document taken out of a file and read again says the lines it had there."""
    document = list(tree.read("a: 1\n---\nb:\n  c: 2\n", "f.yaml"))[1]
    again = next(tree.read(document.text, "f.yaml", document.first_line))
    assert again.root.entries["b"].entries["c"].line == 4


def test_aliases_share_their_value() -> None:
    """An alias stands for the value it names."""
    document = next(tree.read("a: &x {b: 1}\nc: *x\n", "f.yaml"))
    assert tree.plain(document.root) == {"a": {"b": 1}, "c": {"b": 1}}


def test_alias_bomb_is_refused() -> None:
    """Nine aliases to nine aliases to ... count as what they stand for, and are refused before they are expanded."""
    assert "values, aliases expanded" in refusal(BOMB)


def test_recursive_alias_is_refused() -> None:
    """A value cannot hold itself."""
    assert refusal("a: &x [*x]\n") == "f.yaml:1: the alias *x names no complete value before it"


def test_deep_nesting_is_refused() -> None:
    """A hundred thousand brackets are refused at the 65th, without recursion."""
    assert refusal("[" * 100_000) == "f.yaml:1: nested deeper than 64 levels"


def test_large_text_is_refused() -> None:
    """A file over the limit is not parsed."""
    assert "larger than" in refusal("a" * (tree.MAX_BYTES + 1))


def test_control_character_is_refused_at_its_line() -> None:
    """A character that YAML does not allow is named with its line."""
    assert refusal("a: 1\nb: \x00\n").startswith("f.yaml:2: not YAML")


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"\n #,?%@0"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever the text, it gives documents or problems with a line, and no other error."""
    documents = parse(text, "f.yaml")
    assert all(problem.where.line >= 1 for problem in documents.problems)
