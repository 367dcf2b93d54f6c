"""The token of a Ray cluster: where Ray looks for it, in Ray's order; never shown, logged or kept."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from study.errors import UserError

HOW = "set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a file with it, or put it into ~/.ray/auth_token"


@dataclass(frozen=True)
class Token:
    """A token and where it came from; only the latter shows."""

    text: str = field(repr=False)
    source: str

    @property
    def headers(self) -> dict[str, str]:
        """What a request carries."""
        return {"Authorization": f"Bearer {self.text}"}


def token() -> Token | None:
    """The token to send, or None where there is none or `RAY_AUTH_MODE` is `disabled`.

    Ray's own clients send one only if `RAY_AUTH_MODE` is `token`, although Ray writes the file, and turns
    authentication on, unasked: https://docs.ray.io/en/latest/ray-security/token-auth.html.

    Raises:
        UserError: If what is named cannot be read, or cannot be a token.
    """
    if os.environ.get("RAY_AUTH_MODE", "").strip().lower() == "disabled":
        return None
    if os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return _checked(os.environ["RAY_AUTH_TOKEN"], "RAY_AUTH_TOKEN")
    named = os.environ.get("RAY_AUTH_TOKEN_PATH", "").strip()
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    source = f"RAY_AUTH_TOKEN_PATH ({path})" if named else str(path)
    try:
        return _checked(path.read_text(encoding="utf-8"), source)
    except FileNotFoundError:
        if not named:
            return None
        raise UserError(f"{source}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise UserError(f"{source}: cannot read the token: {reason}") from None


def not_let_in() -> str:
    """What to do where a Ray process was not let in; unlike `token`, Ray sends one only if it is told to."""
    try:
        given = token()
    except UserError as error:
        return str(error)
    if os.environ.get("RAY_AUTH_MODE", "").strip().lower() == "token" and given:
        return f"where it is a Ray head, it refuses the token from {given.source}: it is another cluster's"
    where = f"the token from {given.source} is sent then" if given else f"for the token {HOW}"
    return f"where it is a Ray head that asks for a token, set RAY_AUTH_MODE=token, and {where}"


def _checked(text: str, source: str) -> Token:
    text = text.strip()
    if not text:
        raise UserError(f"{source} is empty: it has to hold the cluster's token")
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise UserError(f"{source} holds no token: one is a single word of ASCII characters")
    return Token(text, source)
