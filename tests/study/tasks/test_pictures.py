import functools
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import torch

from study.data.images import load
from study.errors import UserError
from study.tasks import measures, pictures
from study.tasks.base import Snapshot
from study.tasks.drawing import split
from study.tasks.table import FILES, TASKS, get_task
from tests.study.data import files

SAMPLES = 64
CLASSES = 4


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("MANYPATHS_DATA", str(folder))
    monkeypatch.setenv("MANYPATHS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MANYPATHS_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.delenv("MANYPATHS_DOWNLOAD", raising=False)
    return folder


def drawn(n, side, *, seed=0, wide=None):
    """Colour images of a few classes: each class has a colour, and each image a bright spot somewhere."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    colours = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [180, 180, 60]])[labels]
    images = np.tile(colours[:, None, None], (1, side, wide or side, 1)) + random.normal(0, 10, (n, 1, 1, 3))
    for image in images:
        top, left = random.integers(0, side // 2, 2)
        image[top : top + side // 2, left : left + side // 2] += 50
    return images.clip(0, 255).astype(np.uint8), labels


def cifar10(root):
    files.write_cifar_pickles(root / "cifar-10-batches-py", drawn(300, 32), drawn(100, 32, seed=1))
    return "cifar10"


def celeba(root):
    images, _ = drawn(160, 218, wide=178)
    files.write_celeba(root, images, [0] * 120 + [1] * 20 + [2] * 20)
    return "celeba"


def imagenet(side, root):
    train, test = drawn(120, side), drawn(40, side, seed=1)
    if side == 128:
        for name, (images, labels) in {"train": train, "val": test}.items():
            files.write_folder(root / "imagenet" / name, images, [f"n{i:08}" for i in labels], suffix="JPEG")
    else:
        files.write_imagenet_batches(root / f"imagenet{side}", train, test)
    return f"imagenet{side}"


def npz(root):
    files.write_npz(root / "faces.npz", *drawn(200, 16), test=drawn(60, 16, seed=1))
    return "images:faces.npz"


def parquet(root):
    files.write_parquet(root / "some.parquet", drawn(200, 16)[0])
    return "images:some.parquet"


def folder(root):
    files.write_folder(root / "pictures", drawn(150, 12)[0])
    return "images:pictures"


MAKERS = {
    "cifar10": (cifar10, ""),
    "celeba": (celeba, ""),
    "imagenet32": (functools.partial(imagenet, 32), ""),
    "imagenet64": (functools.partial(imagenet, 64), ""),
    "imagenet128": (functools.partial(imagenet, 128), ""),
    "npz": (npz, ""),
    "parquet": (parquet, ""),
    "folder": (folder, "size=16, "),
}
every_set = pytest.mark.parametrize("name", MAKERS)


def made(root, name, *, samples=SAMPLES):
    make, options = MAKERS[name]
    return get_task(f"{make(root)}[{options}features=pixels, samples={samples}]")


def uniforms(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@every_set
def test_a_task_of_files_is_made_sampled_and_evaluated(root, name):
    task = made(root, name)
    assert task is get_task(task.name)
    for leading in ((), (7,), (2, 3)):
        numbers = uniforms(*leading, 1)
        x = task.sample(numbers)
        assert x.shape == (*leading, task.data_width)
        assert x.dtype == torch.float32
        singly = torch.stack([task.sample(u) for u in numbers.reshape(-1, 1)])
        assert torch.equal(x.reshape(singly.shape), singly)
    assert float(x.abs().max()) <= 1
    values = task.evaluate(Snapshot({}, task.sample(uniforms(2, SAMPLES, 1))))
    assert tuple(values) == (*task.metrics, "selection")
    assert all(value.shape == (2,) and torch.isfinite(value).all() for value in values.values())
    assert float(values[task.primary].max()) <= task.threshold
    grey = task.evaluate(Snapshot({}, torch.zeros(1, SAMPLES, task.data_width)))
    assert float(grey[task.primary]) > task.threshold


@every_set
def test_controls_lie_where_they_must(root, name):
    task = made(root, name)
    assert {control.must for control in task.controls} >= {"pass", "fail"}
    for control in task.controls:
        if control.must:
            assert (control.value <= task.threshold) == (control.must == "pass"), control
    assert 0 < task.anchors[0] < task.threshold < task.anchors[1]


def test_evaluation_is_blind_to_pack_mates_and_tells_the_broken_trial_only(root):
    task = made(root, "cifar10")
    samples = task.sample(uniforms(4, SAMPLES, 1))
    together = task.evaluate(Snapshot({}, samples))
    assert all(torch.equal(value, task.evaluate(Snapshot({}, samples))[key]) for key, value in together.items())
    for index in ([3], [2, 0], [1] * 5):
        apart = task.evaluate(Snapshot({}, samples[index]))
        assert all(torch.equal(value, together[key][index]) for key, value in apart.items())
    for bad in (math.nan, math.inf):
        broken = samples.clone()
        broken[2, -1, 0] = bad
        for key, value in task.evaluate(Snapshot({}, broken)).items():
            assert torch.isnan(value[2])
            assert torch.equal(value[[0, 1, 3]], together[key][[0, 1, 3]])


def test_distance_of_pooled_pixels_is_the_textbook_formula(root):
    task = made(root, "cifar10")
    images = load("cifar10")
    samples = task.sample(uniforms(1, SAMPLES, 1, seed=3))

    def features(x):
        return x.reshape(-1, 3, 8, 4, 8, 4).mean((3, 5)).reshape(len(x), -1)

    def real(part):
        return features(part.pixels / 127.5 - 1)

    a, b = features(samples[0].double().numpy()), real(images.test)
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    # both covariances are singular, for which sqrtm needs a little on the diagonal
    ridge = 1e-9 * np.eye(len(cov_a))
    cross = scipy.linalg.sqrtm((cov_a + ridge) @ (cov_b + ridge)).real
    distance = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * cross)
    expected = 100 * distance / real(images.train).var(0, ddof=1).sum()
    value = float(task.evaluate(Snapshot({}, samples))[f"fd_pixels8_n{SAMPLES}_test100"])
    # pixels are float32, and the ridge adds at most 2 * 192 * sqrt(1e-9 * variance)
    assert value == pytest.approx(expected, rel=0.02)


def test_controls_are_what_they_are_called(root):
    task = made(root, "cifar10", samples=2000)
    values = {control.name: control.value for control in task.controls}
    images = load("cifar10")
    pixels = torch.tensor(np.array(images.train.pixels)).flatten(1) / 127.5 - 1
    labels = torch.tensor(np.array(images.train.labels))
    generator = torch.Generator().manual_seed(7)

    def score(x):
        picked = torch.stack([x[torch.randint(len(x), (2000,), generator=generator)] for _ in range(3)])
        return task.evaluate(Snapshot({}, picked))[task.primary]

    blurred = pixels.reshape(-1, 3, 4, 8, 4, 8).mean((3, 5), keepdim=True).expand(-1, 3, 4, 8, 4, 8)
    makers = {
        "training images": pixels,
        "half of the classes": pixels[labels >= labels.unique()[CLASSES // 2]],
        "mean image": pixels.mean(0, keepdim=True),
        "blurred images": blurred.reshape(len(pixels), -1),
    }
    for name, of in makers.items():
        found = score(of)
        # recorded is one draw, this the mean of three: five standard deviations, and 2 % for an sd of three draws only
        tolerance = 5 * float(found.std()) + 0.02 * values[name]
        assert float(found.mean()) == pytest.approx(values[name], abs=tolerance), name
    assert values["half of the images"] > task.threshold


def test_threshold_and_controls_are_the_same_measured_anew(root, monkeypatch):
    first = made(root, "npz")
    monkeypatch.setenv("MANYPATHS_CACHE", str(root.parent / "another"))
    second = get_task(first.name)
    assert second is not first
    assert (second.controls, second.threshold, second.anchors) == (first.controls, first.threshold, first.anchors)
    assert second.fingerprint == first.fingerprint


def test_what_was_measured_is_kept(root, monkeypatch):
    task = made(root, "npz")
    monkeypatch.setattr(measures, "_measured", None)  # would fail if called
    measures._reference.cache_clear()
    again = pictures.from_path("images:faces.npz", features="pixels", samples=SAMPLES)
    assert again.controls == task.controls


def test_a_kept_file_that_is_cut_off_is_made_anew(root):
    task = made(root, "npz")
    for path in (root.parent / "cache").glob("controls-*.safetensors"):
        path.write_bytes(path.read_bytes()[:-3])
    again = pictures.from_path("images:faces.npz", features="pixels", samples=SAMPLES)
    assert again.controls == task.controls


def test_labels_are_those_of_the_sampled_images(root):
    task = made(root, "cifar10")
    numbers = uniforms(100, 1)
    brightest = task.sample(numbers).reshape(100, 3, -1).mean(2)
    yellow = (brightest[:, :2].amin(1) - brightest[:, 2]) > 0.3
    wanted = torch.where(yellow, 3, brightest.argmax(1))
    assert torch.equal(task.label(numbers), wanted)
    assert task.classes == 10


def test_images_without_labels_have_none(root):
    task = made(root, "folder")
    assert (task.label, task.classes) == (None, 1)
    assert task.shape == (3, 16, 16)


def test_sampling_reaches_both_ends_and_reads_what_the_file_has(root):
    npz(root)
    images = load("images:faces.npz")
    train = split(images, "train")
    assert train.drawn(torch.tensor([1e-9, 1.0])).tolist() == [0, train.size - 1]
    expected = torch.tensor(np.array(images.train.pixels[5])).flatten() / 127.5 - 1
    assert torch.equal(train.images(torch.tensor(5)), expected)


def test_a_frame_is_black_and_the_image_in_its_middle(root):
    npz(root)
    images = load("images:faces.npz")
    framed = split(images, "train", side=20).images(torch.tensor([0, 1])).reshape(2, 3, 20, 20)
    plain = split(images, "train").images(torch.tensor([0, 1])).reshape(2, 3, 16, 16)
    assert torch.equal(framed[..., 2:18, 2:18], plain)
    framed[..., 2:18, 2:18] = -1
    assert (framed == -1).all()


def test_missing_weights_are_said_with_the_way_out(root):
    npz(root)
    with pytest.raises(UserError, match=r"weights-inception-2015-12-05-6726825d\.pth.*; features=pixels needs none"):
        get_task("images:faces.npz")


def test_missing_files_are_said(root):
    with pytest.raises(UserError, match=r"cifar10"):
        get_task("cifar10[features=pixels]")
    for name in ("images:nothing[features=pixels]", "images:nothing"):
        with pytest.raises(UserError, match=r"images:nothing: there is no "):
            get_task(name)


def test_options_that_are_not_there_are_refused(root):
    npz(root)
    for name, message in {
        "cifar10[features=pixel]": r"unknown features of cifar10 'pixel': choose from pixels",
        "cifar10[features=pixels, samples=3]": r"samples = 3 must be at least 10",
        "images:faces.npz[size=12, features=pixels]": r"has images of 12 x 12: .*a power of two from 8",
        "cifar10[size=12]": r"unknown option",
        "cifar10[features=pixels, threshold=-1]": r"threshold = -1 must be above 0",
        "mnist[features=classifer]": r"unknown features of mnist 'classifer': choose from classifier",
        "stacked-digits[samples=3]": r"unknown option",
        "images:faces.npz[features=pixels, size=8]": r"has one way to be written, 'images:faces\.npz\[size=8, features",
    }.items():
        with pytest.raises(UserError, match=message):
            get_task(name)


def test_too_few_held_out_images_are_refused(root):
    files.write_npz(root / "few.npz", drawn(40, 8)[0])
    with pytest.raises(UserError, match=r"images:few\.npz has 4 images in a held-out split"):
        get_task("images:few.npz[features=pixels, samples=64]")


def test_a_threshold_of_the_users_own_is_taken(root):
    npz(root)
    task = get_task("images:faces.npz[features=pixels, samples=64, threshold=7.5]")
    assert task.threshold == 7.5


def inception_of_ours(images, extractor, *, device="cpu"):
    """Features that are a fixed projection of pooled pixels: stands in for the network, whose weights are not here."""
    assert images.dtype == torch.uint8
    pooled = torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 4).flatten(1)
    weight = torch.randn(pooled.shape[1], 24, generator=torch.Generator().manual_seed(0))
    found = pooled @ weight
    return SimpleNamespace(features=found, logits=found[:, :10] if extractor == "inception" else None)


@pytest.mark.parametrize("name", ["cifar10", "celeba"])
def test_inceptions_metrics_are_named_by_their_protocol(root, monkeypatch, name):
    monkeypatch.setattr(pictures, "check", lambda _extractor: None)
    monkeypatch.setattr(measures, "features", inception_of_ours)
    task = get_task(f"{MAKERS[name][0](root)}[samples=320]")
    tests = 100 if name == "cifar10" else 20
    similar = ("ms_ssim_b64x5_window11_scales5",) if name == "celeba" else ()
    assert task.metrics == (
        f"fid_n320_test{tests}",
        f"kid_n320_test{tests}",
        "inception_score_n320_splits10",
        f"precision_k3_n320_test{tests}",
        f"recall_k3_n320_test{tests}",
        *similar,
    )
    one_image = bool(similar)
    samples = task.sample(uniforms(1, 1 if one_image else 320, 1)).expand(1, 320, -1)
    values = task.evaluate(Snapshot({}, samples))
    assert tuple(values) == (*task.metrics, "selection")
    assert all(torch.isfinite(value).all() for value in values.values())
    assert 0 <= float(values[f"recall_k3_n320_test{tests}"]) <= 1
    if one_image:
        assert float(values[similar[0]]) == pytest.approx(1)


def test_fid_is_in_the_extractors_own_units(root, monkeypatch):
    monkeypatch.setattr(pictures, "check", lambda _extractor: None)
    monkeypatch.setattr(measures, "features", inception_of_ours)
    cifar10(root)
    task = get_task("cifar10[samples=320]")
    samples = task.sample(uniforms(1, 320, 1))
    bytes_of = ((samples[0].double() + 1) * 127.5).round().to(torch.uint8).reshape(-1, 3, 32, 32)
    a = inception_of_ours(bytes_of, "inception").features.double().numpy()
    b = inception_of_ours(torch.tensor(np.array(load("cifar10").test.pixels)), "inception").features.double().numpy()
    cross = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * cross)
    # features are float32: errors of 1e-7 of their size, about 5, in a square root of a small eigenvalue
    assert float(task.evaluate(Snapshot({}, samples))["fid_n320_test100"]) == pytest.approx(expected, rel=1e-3)
    assert task.threshold == 30
    assert task.anchors == (5.19, 300)


def test_other_extractors_give_no_fid_and_need_a_threshold(root, monkeypatch):
    monkeypatch.setattr(pictures, "check", lambda _extractor: None)
    monkeypatch.setattr(measures, "features", inception_of_ours)
    cifar10(root)
    with pytest.raises(UserError, match="features=vgg16 has no reference: say which threshold"):
        get_task("cifar10[features=vgg16]")
    task = get_task("cifar10[features=vgg16, samples=64, threshold=100]")
    assert task.primary == "fd_vgg16_n64_test100"
    assert not any("fid" in name or "inception" in name for name in task.metrics)


def test_every_set_but_mnist_is_made_here():
    assert {name for name in FILES if "mnist" not in name} <= set(MAKERS)
    assert not set(FILES) & set(TASKS)


def test_import_reads_no_set():
    program = (
        "import study.tasks.table as table\n"
        "from study.data import images\n"
        "from study.tasks import mnist_classifier\n"
        "assert len(table.FILES) >= 8\n"
        "assert images._load.cache_info().currsize == 0\n"
        "assert mnist_classifier._classifier.cache_info().currsize == 0\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=50)
