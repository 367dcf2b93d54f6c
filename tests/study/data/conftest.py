"""A data root and a cache folder of the test's own."""

import pytest

from study.data.images import load
from study.errors import UserError


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The data root: an empty folder; the cache is beside it, at `root.parent / "cache"`."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("MANYPATHS_DATA", str(folder))
    monkeypatch.setenv("MANYPATHS_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture(scope="session")
def refusal():
    """A function loading what has to be refused; gives the sentence."""

    def refused(source, **options):
        with pytest.raises(UserError) as caught:
            load(source, **options)
        sentence = str(caught.value)
        assert "\n" not in sentence
        return sentence

    return refused
