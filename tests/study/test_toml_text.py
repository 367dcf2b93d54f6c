"""TOML that is written is read back as it was."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from study.toml_text import toml_lines

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
leaves = st.one_of(texts, st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)


@given(st.dictionaries(texts, values, max_size=4))
def test_what_is_written_is_read_back(content):
    assert tomllib.loads(toml_lines(content)) == content


def test_what_is_none_is_left_out_and_keys_are_dotted():
    assert toml_lines({"a": {"b": 1, "c": None}, "d": [{"e": "f"}]}) == 'a.b = 1\nd = [{"e" = "f"}]\n'
