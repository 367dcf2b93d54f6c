"""Every example runs to the end, small; those on image sets against small files in the sets' own formats."""

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from study.data import images as images_module
from study.executor import InProcess
from study.progress import live
from study.spec import DATA_ROOT, read_sweep
from study.store import RunDirectory
from study.sweep_run import load, lost, run_sweep
from tests.study.data import files

EXAMPLES = Path(__file__).parents[2] / "examples"
OF_FILES = {
    "cifar10": ("cifar10", "cifar10[features=pixels, samples=64]"),
    "celeba": ("celeba", "celeba[features=pixels, samples=64]"),
    "stacked_mnist": ("stacked-mnist", "stacked-mnist[samples=2000]"),
}
"""Example to its task, and the task with what a CPU and no weights allow."""
BY_HAND = {"quickstart", "search", "thousands", "zoo"}
"""Run whole elsewhere: by `make demo`, test_searching.py, the benchmarks and test_zoo.py."""
NARROW = ["width_g = 8", "width_d = 8"]
"""Of networks for 32 and 64 pixels."""
SMALL = {
    "budget": {"steps": 4, "evaluations": 2},
    "design": {"points": 2},
    "execution": {"pack": 2, "device": "cpu"},
}


def small(name, folder, *, change=("", "")):
    """An example with a tiny budget, as a file."""
    text = (EXAMPLES / f"{name}.toml").read_text(encoding="utf-8").replace(f'["{change[0]}"]', f'["{change[1]}"]')
    content = tomllib.loads(text)
    kind = {"kind": "random"} if content["design"].get("kind") in ("random", "grid") else {}
    tables = {key: value | kind if key == "design" else value for key, value in SMALL.items()}
    if "data" in content.get("execution", {}):
        tables["execution"] = tables["execution"] | {"data": content["execution"]["data"]}
    lines, skipped = [], False
    for line in text.splitlines():
        if line.startswith("["):
            skipped = line.strip("[]").split(".")[0] in tables
        lines += [] if skipped else [line]
        lines += NARROW if line == "[space.override]" and change[0] else []
    for table, values in tables.items():
        pairs = (f"{key} = {value if isinstance(value, int) else repr(value)}" for key, value in values.items())
        lines += [f"[{table}]", *pairs]
    file = folder / f"{name}.toml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def run(file, out):
    sweep, trials = load(file)
    directory = RunDirectory(str(out))
    prepared, _ = run_sweep(directory, sweep, trials, InProcess(), watch=live, say=print)
    assert lost(prepared) == 0
    rows = pd.read_parquet(out / "trials")
    assert len(rows) == len(trials)
    assert set(rows["method"]) == set(sweep.methods)
    assert set(rows["task"]) == set(sweep.tasks)
    assert set(rows["status"]) <= {"completed", "diverged"}
    return rows


ON_CPU = sorted({path.stem for path in EXAMPLES.glob("*.toml")} - {*OF_FILES, *BY_HAND})


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ON_CPU)
def test_an_example_runs_to_the_end(name, tmp_path):
    run(small(name, tmp_path), tmp_path / "run")


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder with small CIFAR-10, CelebA and MNIST in their own formats; the real files' names, fewer images."""
    monkeypatch.setenv("MANYPATHS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(DATA_ROOT, "")  # set by the sweep file, and taken back afterwards
    images_module._load.cache_clear()
    root = tmp_path / "data"
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 10
    # each class a colour, so that a missing class shows
    colours = generator.integers(40, 215, (10, 1, 1, 3))
    pictures = np.clip(colours[labels] + generator.integers(-40, 40, (300, 32, 32, 3)), 0, 255).astype(np.uint8)
    files.write_cifar_pickles(root / "cifar-10-batches-py", (pictures, labels), (pictures[::-1], labels[::-1]))
    faces = [Image.fromarray(image).resize((178, 218)) for image in pictures[:120]]
    files.write_celeba(root, np.stack([np.asarray(face) for face in faces]), [0] * 80 + [1] * 20 + [2] * 20)
    digits, classes = load_digits(return_X_y=True)
    large = np.kron(digits.reshape(-1, 8, 8), np.ones((3, 3)))
    large = np.pad(np.clip(large * 16, 0, 255), ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    files.write_mnist(root / "mnist", (large[:1500], classes[:1500]), (large[1500:], classes[1500:]))
    return root


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", OF_FILES)
def test_an_example_on_image_sets_runs_on_small_files_of_their_formats(name, data, tmp_path):
    rows = run(small(name, tmp_path, change=OF_FILES[name]), tmp_path / "run")
    assert rows["primary"].notna().all()


@pytest.mark.parametrize("name", OF_FILES)
def test_an_example_whose_files_are_missing_says_which(name, tmp_path, monkeypatch):
    from study.errors import UserError

    monkeypatch.setenv("MANYPATHS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(DATA_ROOT, "")
    images_module._load.cache_clear()
    with pytest.raises(UserError, match=str(tmp_path / "data")) as caught:
        read_sweep(small(name, tmp_path, change=OF_FILES[name]))
    assert "\n" not in str(caught.value)
