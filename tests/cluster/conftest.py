"""What tests of clusters get."""

import pytest

from tests.cluster.rays import PRETEND, Pretended


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory):
    """A folder for PYTHONPATH, below which packs pretend to train."""
    folder = tmp_path_factory.mktemp("stand_in")
    (folder / "sitecustomize.py").write_text(PRETEND)
    return folder


@pytest.fixture
def pretended(tmp_path, monkeypatch, stand_in):
    """Packs below this test's process pretend: its local Ray's, and its clusters'."""
    monkeypatch.setenv("PYTHONPATH", str(stand_in))
    (tmp_path / "run").mkdir()
    return Pretended(tmp_path / "run")
