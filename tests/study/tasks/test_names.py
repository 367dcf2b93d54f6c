import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.errors import UserError
from study.tasks.names import call, cut


def made(*, n: int = 3, scale: float = 2.0, kind: str = "affine", centred: bool = False) -> tuple[object, ...]:
    return n, scale, kind, centred


def of(name):
    return call(name, made, cut(name)[1])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("rings", (3, 2.0, "affine", False)),
        ("rings[n=5]", (5, 2.0, "affine", False)),
        ("rings[n=-1, scale=0.5, kind=mlp, centred=true]", (-1, 0.5, "mlp", True)),
        ("rings[scale=1e-05]", (3, 1e-5, "affine", False)),
    ],
)
def test_options_are_keyword_arguments_of_their_defaults_types(name, values):
    assert of(name) == values


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("rings[m=5]", "unknown option of 'rings[m=5]': 'm': choose from centred, kind, n, scale"),
        ("rings[n=2.5]", "'rings[n=2.5]': n = '2.5' must be a whole number"),
        ("rings[scale=big]", "'rings[scale=big]': scale = 'big' must be a number"),
        ("rings[centred=yes]", "'rings[centred=yes]': centred = 'yes' must be true or false"),
        ("rings[n=3]", "'rings[n=3]': it has one way to be written, 'rings'"),
        ("rings[]", "'rings[]': options have the form [key=value, ...], each key once"),
        ("rings[scale=1.50]", "'rings[scale=1.50]': it has one way to be written, 'rings[scale=1.5]'"),
        ("rings[scale=1,n=5]", "'rings[scale=1,n=5]': it has one way to be written, 'rings[n=5, scale=1]'"),
        ("rings[n=5, n=6]", "'rings[n=5, n=6]': options have the form [key=value, ...], each key once"),
        ("rings[n]", "'rings[n]': options have the form [key=value, ...], each key once"),
        ("rings[n=5", "'rings[n=5' is not of the form NAME or NAME[key=value, ...]"),
        ("", "'' is not of the form NAME or NAME[key=value, ...]"),
        ("rings[scale=nan]", "'rings[scale=nan]': scale = 'nan' must be a number"),
    ],
)
def test_a_name_with_a_fault_is_refused_in_one_sentence(name, sentence):
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}"):
        of(name)


@given(n=st.integers(-5, 5), scale=st.floats(-10, 10).map(lambda x: round(x, 3)), centred=st.booleans())
def test_every_choice_of_options_has_one_name(n, scale, centred):
    changed = {"n": n, "scale": scale, "centred": centred}
    parts = [
        f"{key}={str(value).lower() if isinstance(value, bool) else f'{value:.12g}' if key == 'scale' else value}"
        for key, value in changed.items()
        if value != {"n": 3, "scale": 2.0, "centred": False}[key]
    ]
    name = "rings" + (f"[{', '.join(parts)}]" if parts else "")
    assert of(name) == (n, scale, "affine", centred)
