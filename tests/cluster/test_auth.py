import pytest

from cluster.auth import not_let_in, token
from study.errors import UserError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return path


def test_without_any_there_is_none():
    assert token() is None


def test_rays_order(home, monkeypatch):
    write(home / ".ray" / "auth_token", "of-the-home\n")
    assert token().headers == {"Authorization": "Bearer of-the-home"}
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(write(home / "named", " of-the-path\n\n")))
    assert token().text == "of-the-path"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-the-variable")
    assert token().text == "of-the-variable"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert token() is None


def test_it_does_not_show(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-the-variable")
    assert "of-the-variable" not in f"{token()!r} {token()}"


@pytest.mark.parametrize("content", ["two words", "line\nline", "tökén", "a\x07b", "  \n", b"\xff\xfe"])
def test_what_is_no_token_is_refused_without_being_shown(home, monkeypatch, content):
    path = home / "named"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    with pytest.raises(UserError, match="RAY_AUTH_TOKEN_PATH") as refused:
        token()
    text = content if isinstance(content, str) else ""
    assert not text.strip() or text not in str(refused.value)


def test_a_file_that_is_not_there(home, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "absent"))
    with pytest.raises(UserError, match="absent\\): there is no such file"):
        token()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home))
    with pytest.raises(UserError, match="cannot read the token: Is a directory"):
        token()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "wrong-one"}, "refuses the token from RAY_AUTH_TOKEN: it is ano"),
        ({"RAY_AUTH_TOKEN": "right-one"}, "set RAY_AUTH_MODE=token, and the token from RAY_AUTH_TOKEN is sent then"),
        ({}, "set RAY_AUTH_MODE=token, and for the token set RAY_AUTH_TOKEN, or"),
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "right-one"}, "set RAY_AUTH_MODE=token, and for the token"),
        ({"RAY_AUTH_TOKEN_PATH": "/none"}, "RAY_AUTH_TOKEN_PATH (/none): there is no such file"),
    ],
)
def test_who_was_not_let_in_is_told_what_is_wrong_with_what_was_given(monkeypatch, settings, sentence):
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert sentence in not_let_in()
    assert "-one" not in not_let_in()
