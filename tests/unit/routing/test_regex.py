"""Regular expressions: RE2's syntax and answers from both engines, in linear time."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from meshsdk.routing import regex
from meshsdk.routing.linear_regex import automaton
from meshsdk.routing.regex import MAX_PATTERN, MAX_TEXT, compile_regex, compile_rewrite, replace_all
from meshsdk.routing.regex_engine import LINEAR, native

NATIVE = native()
ENGINES = [
    pytest.param(LINEAR, id="linear"),
    pytest.param(NATIVE, id="re2", marks=pytest.mark.skipif(NATIVE is None, reason="google-re2 (extra: re2)")),
]
needs_re2 = pytest.mark.skipif(NATIVE is None, reason="compares with google-re2 (extra: re2)")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("", ["" ], ["a"]),
        ("abc", ["abc"], ["ab", "abcd", "xabc", "abc\n"]),
        ("a.c", ["abc", "a\u00e9c"], ["a\nc", "ac"]),
        ("(?s)a.c", ["a\nc"], []),
        ("a|bc|", ["a", "bc", ""], ["b", "abc"]),
        ("a*b+c?", ["b", "aabbc"], ["a", "bcc"]),
        ("a{2,3}", ["aa", "aaa"], ["a", "aaaa"]),
        ("a{2}", ["aa"], ["a", "aaa"]),
        ("a{2,}", ["aa", "aaaaa"], ["a"]),
        ("a{0}", [""], ["a"]),
        ("a{,2}|x{|a{01}|a{1,1000000000}", ["a{,2}", "x{", "a{01}", "a{1,1000000000}"], ["a"]),
        ("a+?b??", ["a", "aab"], ["b"]),
        ("(?:ab)+", ["abab"], ["aba"]),
        ("(a+)+b", ["aaab"], ["aaaa"]),
        ("[a-c]-[^a-c]", ["b-x", "a-\n"], ["b-a"]),
        ("[]a-]+", ["]a-"], ["b"]),
        ("[^]]", ["a"], ["]"]),
        ("[\\d.]+", ["1.5"], ["1,5"]),
        ("[[:alpha:]_][[:^digit:]]", ["a!", "_ "], ["a1", "1a"]),
        ("\\d\\D\\w\\W\\s\\S", ["1a_- x"], ["aaaaaa"]),
        ("\\s", ["\t", "\n", "\f", "\r", " "], ["\v", "\u00a0"]),
        ("\\w", ["a", "_", "0"], ["\u00e9"]),
        ("\\x41\\x{1F600}\\t\\123\\0\\.", ["A\U0001f600\tS\0."], []),
        ("\\Qa.b*\\E+", ["a.b*", "a.b**"], ["axb*"]),
        ("\\Qa.b", ["a.b"], []),
        ("^a$", ["a"], ["a\n", "ba"]),
        ("a$b", [], ["ab"]),
        ("(?m)a$\n^b", ["a\nb"], ["ab"]),
        ("\\Aa\\z", ["a"], ["ab"]),
        ("\\bfoo\\b.*", ["foo", "foo bar"], ["foobar"]),
        ("a\\Bb", ["ab"], ["a b"]),
        ("(?i)aB[c-d]", ["AbD", "abc"], ["abe"]),
        ("(?i:a)b", ["Ab", "ab"], ["aB"]),
        ("a(?i)b|c", ["aB", "C"], ["AB"]),
        ("(?i)k", ["k", "K", "\u212a"], ["l"]),
        ("(?i)[^k]", ["l"], ["k", "K"]),
        ("(?P<x>a)(?<y>b)", ["ab"], []),
        ("(?U)a*", ["", "aaa"], ["b"]),
        ("(?i-s:A.)", ["ab"], ["a\n"]),
        ("(|a)*", ["", "aa"], ["b"]),
        ("(a*)*b", ["b", "aab"], ["aa"]),
        ("x{1000}", ["x" * 1000], ["x" * 999]),
        ("\\/v[12]\\-\\_", ["/v1-_"], []),
    ],
)  # fmt: skip
def test_full_match(engine, pattern, yes, no):
    """A pattern of RE2's syntax matches whole texts as RE2 says, whichever engine runs it."""
    matches = engine.test(pattern)
    assert [text for text in yes if not matches(text)] == []
    assert [text for text in no if matches(text)] == []


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "pattern",
    [
        "(a", "a)", "[a", "[b-a]", "[[:nope:]]", "*a", "a**", "a*+", "a++", "a{2}{3}", "a{1001}", "a{3,2}", "|*", "(*)",
        "(a)\\1", "\\8", "(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "(?>a)", "(?(1)a|b)", "(?#x)", "(?P=x)",
        "(?P<>a)", "(?", "(?z)", "(?i", "\\", "\\Z", "\\G", "\\q", "\\x{110000}", "\\xg", "[\\b]", "a{2,100000000}",
        "((((a{100}){100}){100}){100})",
    ],
)  # fmt: skip
def test_refused_pattern(engine, pattern):
    """What is not RE2's syntax, or grows without measure, is refused with a reason."""
    with pytest.raises(ValueError, match=r"."):
        engine.test(pattern)


def test_linear_engine_refuses_what_needs_tables():
    """Unicode classes are refused by the linear engine, and the reason names google-re2."""
    with pytest.raises(ValueError, match="need google-re2"):
        LINEAR.test("\\pL+")


@pytest.mark.parametrize("engine", ENGINES)
def test_catastrophic_patterns_end(engine):
    """Patterns that stop a backtracking engine for years answer at once, on the longest text taken."""
    for pattern in ("(a+)+b", "(a|a)*b", "(a|aa)+b", "a*a*a*a*a*a*b", "(.*a){20}", "(?:a?){50}a{50}b", "(x+x+)+y"):
        assert not engine.test(pattern)("a" * 2000 + "x" * (2000 - 1) + "!")


def test_linear_engine_remembers_a_bounded_number_of_steps(monkeypatch):
    """An automaton that meets ever new states starts afresh rather than grow, and goes on deciding rightly."""
    monkeypatch.setattr(automaton, "_MAX_MOVES", 50)
    matches = LINEAR.test("(a|b)*a(a|b){6}")
    machine = matches.__self__
    for number in range(300):
        text = f"{number * 2654435761 % 4096:012b}".replace("0", "a").replace("1", "b")
        assert matches(text) is (text[-7] == "a")
        assert machine._remembered <= 51


def test_limits(monkeypatch):
    """A pattern that is too long is refused, a text that is too long never matches; both say at what length."""
    with pytest.raises(ValueError, match=f"at most {MAX_PATTERN}"):
        compile_regex("a" * (MAX_PATTERN + 1))
    assert compile_regex("a*")("a" * MAX_TEXT)
    assert not compile_regex("a*")("a" * (MAX_TEXT + 1))
    assert compile_rewrite("a", "b")("a" * (MAX_TEXT + 1)) == "a" * (MAX_TEXT + 1)
    monkeypatch.setattr(regex, "_engine", lambda: (LINEAR, False))
    with pytest.raises(ValueError, match=re.escape("install meshsdk[re2]")):
        compile_regex("\\pN")


@pytest.mark.parametrize("engine", ENGINES)
def test_lone_surrogate_matches_nothing_it_is_not(engine):
    """A text with half a surrogate pair, which no header can carry, is decided without an error."""
    assert engine.test("a")("\ud800") is False


def test_same_pattern_is_compiled_once():
    """Equal patterns share one compiled test, from a cache that is bounded."""
    assert compile_regex("cached.*") is compile_regex("cached.*")
    assert compile_regex.cache_info().maxsize is not None


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("pattern", "parts", "text", "rewritten"),
    [
        ("b", ("x",), "abcb", "axcx"),
        ("(\\w+)@(\\w+)", (2, " at ", 1), "me@home, you@work", "home at me, work at you"),
        ("a*", ("-",), "baac", "-b-c-"),
        ("", ("-",), "ab", "-a-b-"),
        ("a|ab", ("x",), "abab", "xbxb"),
        ("a+?", ("x",), "aaa", "xxx"),
        ("^a", ("x",), "aaa", "xaa"),
        ("a$", ("x",), "aaa", "aax"),
        ("\\bx", ("y",), "xx x", "yx y"),
        ("(a)|(b)", ("<", 1, "|", 2, ">"), "ab", "<a|><|b>"),
        ("z", ("x",), "abc", "abc"),
        ("(a*)(b?)", (0, "!"), "aab", "aab!"),
        ("\u00e9", ("e",), "caf\u00e9\u00e9", "cafee"),
    ],
)
def test_replace_all(engine, pattern, parts, text, rewritten):
    """Every match is replaced, leftmost and preferred first, as RE2::GlobalReplace does."""
    find, _ = engine.finder(pattern)
    assert replace_all(find, parts, text) == rewritten


@pytest.mark.parametrize("substitution", ["\\2", "\\x", "a\\"])
def test_bad_substitution(substitution):
    """A substitution with a group that is not there, or a stray backslash, is refused."""
    with pytest.raises(ValueError, match="substitution"):
        compile_rewrite("(a)", substitution)


def test_substitution_escapes():
    """A doubled backslash writes one, a digit writes the group, the rest is literal."""
    assert compile_rewrite("(a)(b)", "\\\\\\2$1\\0")("ab") == "\\b$1ab"


_ATOMS = [
    "a",
    "b",
    "B",
    "1",
    "_",
    " ",
    ".",
    "[ab]",
    "[^a]",
    "[a-z1]",
    "\\d",
    "\\W",
    "\\s",
    "^",
    "$",
    "\\b",
    "\\B",
    "\\A",
    "\\z",
]
_TEXTS = st.text("abB1_ \n!", max_size=8)


def _grow(inner):
    return st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "*?", "+?", "??", "{2}", "{0,2}", "{1,}", "{1,3}?"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
        inner.map(lambda part: f"({part})"),
        inner.map(lambda part: f"(?i:{part})"),
        inner.map(lambda part: f"(?ms:{part})"),
    )


PATTERNS = st.recursive(st.sampled_from(_ATOMS), _grow, max_leaves=8)


@needs_re2
@given(PATTERNS, st.lists(_TEXTS, min_size=1, max_size=5))
def test_engines_agree_on_matches(pattern, texts):
    """Whatever the pattern and the text, the linear engine answers as RE2 does."""
    linear, re2 = LINEAR.test(pattern), NATIVE.test(pattern)
    assert [linear(text) for text in texts] == [re2(text) for text in texts]


@needs_re2
@given(st.text("ab(|)[]^-$.*+?{}1,0\\dwQE:iP<>s", max_size=12), _TEXTS)
def test_engines_agree_on_syntax(pattern, text):
    """Whatever is thrown at them as a pattern, both engines take it or both refuse it."""
    assume("\\p" not in pattern.lower())
    outcomes = []
    for engine in (LINEAR, NATIVE):
        try:
            outcomes.append(engine.test(pattern)(text))
        except ValueError:
            outcomes.append("refused")
    assert outcomes[0] == outcomes[1]


_PLAIN = st.recursive(
    st.sampled_from(["a", "b", "(a)", "(b)", ".", "[ab]", "\\b", "^", "$"]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}|{pair[1]})"),
        st.tuples(st.sampled_from(["a", "b", ".", "(ab)", "(a|b)"]), st.sampled_from(["*", "+", "?", "*?", "+?"])).map(
            "".join
        ),
    ),
    max_leaves=6,
)


@needs_re2
@given(_PLAIN, st.text("ab ", max_size=8))
def test_engines_agree_on_groups(pattern, text):
    """The leftmost match and its groups are the same from both engines, from every place of the text."""
    (linear, groups), (re2, count) = LINEAR.finder(pattern), NATIVE.finder(pattern)
    assert groups == count
    for start in range(len(text) + 1):
        assert linear(text, start) == re2(text, start)
