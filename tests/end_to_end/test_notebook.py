"""The notebook of examples/ runs as it is, on a run that exists and without any."""

import base64
import os
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.analysis.stored import ENDINGS, finished

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "explore.ipynb"

# of the kernel's client, not of ours
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def executed(folder, monkeypatch):
    """The notebook after a run inside a folder of its own, and its outputs."""
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    place = folder / "examples"
    place.mkdir()
    shutil.copy(NOTEBOOK, place)
    book = nbformat.read(place / NOTEBOOK.name, as_version=4)
    NotebookClient(book, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(place)}}).execute()
    return [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]


def pictures(outputs):
    found = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return [base64.b64decode(text) for text in found]


def test_no_outputs_are_committed():
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    codes = [cell for cell in book.cells if cell.cell_type == "code"]
    assert len(codes) > 8
    assert all(cell.outputs == [] and cell.execution_count is None for cell in codes)


def test_it_shows_a_run_that_exists(tmp_path, monkeypatch):
    directory = finished(tmp_path / "runs" / "quickstart", ENDINGS)
    outputs = executed(tmp_path, monkeypatch)
    assert len(pictures(outputs)) == 4
    assert any("| Task | Method |" in output.get("data", {}).get("text/markdown", "") for output in outputs)
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert Path(directory.root).is_dir()


@pytest.mark.slow
def test_without_a_run_it_trains_a_small_one(tmp_path, monkeypatch):
    outputs = executed(tmp_path, monkeypatch)
    assert len(pictures(outputs)) == 4
    assert (tmp_path / "examples" / "runs" / "tiny" / "trials").is_dir()
