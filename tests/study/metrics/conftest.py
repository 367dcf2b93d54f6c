import pytest

from study.metrics import compiled


@pytest.fixture
def without_compiled_code(monkeypatch):
    """As on a machine without a compiler."""
    monkeypatch.setattr(compiled, "code", lambda: None)


@pytest.fixture(params=["compiled code", "none"])
def with_and_without_compiled_code(request, monkeypatch):
    """Twice: as it is here, and as on a machine without a compiler."""
    if request.param == "none":
        monkeypatch.setattr(compiled, "code", lambda: None)
