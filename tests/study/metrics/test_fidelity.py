"""The door to torch-fidelity, with an Inception of random weights where one has to run."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from study.errors import UserError
from study.metrics import features as metrics
from study.metrics import fidelity
from study.metrics.fidelity import EXTRACTORS, check, features, weights_file

fidelity.mend_torchvision()

import torch_fidelity  # noqa: E402  # importable only by now
from torch_fidelity import feature_extractor_clip, feature_extractor_inceptionv3  # noqa: E402
from torchvision.models import VGG16_Weights  # noqa: E402

INCEPTION = EXTRACTORS["inception"].file


def pictures(n, *, channels=3, side=32, seed=0):
    return torch.randint(256, (n, channels, side, side), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, tmp_path):
    for name in ("MANYPATHS_WEIGHTS", "MANYPATHS_DOWNLOAD", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture(scope="module")
def random_inception(tmp_path_factory):
    """A file of random weights, under a name that ends in its hash."""
    module = feature_extractor_inceptionv3
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    path = tmp_path_factory.mktemp("weights") / "new.pth"
    torch.save(network.state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path.rename(path.with_name(f"weights-random-{digest[:8]}.pth"))


def test_table_says_what_torch_fidelity_would_look_for():
    assert EXTRACTORS["inception"].url == feature_extractor_inceptionv3.URL_INCEPTION_V3
    assert VGG16_Weights.IMAGENET1K_V1.url == EXTRACTORS["vgg16"].url
    for name in ("inception", "vgg16"):
        assert EXTRACTORS[name].url.endswith("/" + EXTRACTORS[name].file)
    for name in (name for name in EXTRACTORS if name.startswith("clip")):
        assert feature_extractor_clip.MODEL_URLS[name] == EXTRACTORS[name].url
        assert f"{name}-{feature_extractor_clip.MODEL_METADATA[name]['hash']}.pt" == EXTRACTORS[name].file
    for entry in EXTRACTORS.values():
        provided = fidelity._builders()[entry.name].get_provided_features_list()
        assert {entry.layer, entry.logits} - {""} <= set(provided)
        assert fidelity._prefix(entry.file)


def test_weights_are_expected_where_torch_keeps_them_or_in_the_folder_that_is_named(monkeypatch, tmp_path):
    assert weights_file("vgg16") == tmp_path / "torch" / "hub" / "checkpoints" / "vgg16-397923af.pth"
    monkeypatch.setenv("MANYPATHS_WEIGHTS", str(tmp_path / "mine"))
    assert weights_file("inception") == tmp_path / "mine" / "weights-inception-2015-12-05-6726825d.pth"


@pytest.mark.parametrize("name", EXTRACTORS)
def test_missing_weights_are_refused_with_name_folder_and_source(monkeypatch, tmp_path, name):
    monkeypatch.setenv("MANYPATHS_WEIGHTS", str(tmp_path))
    for call in (check, lambda extractor: features(pictures(1), extractor)):
        with pytest.raises(UserError) as refused:
            call(name)
        sentence = str(refused.value)
        assert all(part in sentence for part in (name, EXTRACTORS[name].file, str(tmp_path), EXTRACTORS[name].url))
        assert "\n" not in sentence


def test_check_passes_with_the_file_there_or_to_be_downloaded(monkeypatch, tmp_path):
    monkeypatch.setenv("MANYPATHS_DOWNLOAD", "1")
    check("vgg16")
    monkeypatch.setenv("MANYPATHS_DOWNLOAD", "0")
    with pytest.raises(UserError):
        check("vgg16")
    monkeypatch.setenv("MANYPATHS_WEIGHTS", str(tmp_path))
    weights_file("vgg16").touch()
    check("vgg16")


def test_unknown_extractor_lists_those_there_are():
    for call in (check, weights_file):
        with pytest.raises(UserError, match=r"unknown extractor 'inceptoin': choose from inception, .*vgg16"):
            call("inceptoin")


def test_check_says_which_package_is_missing(monkeypatch):
    monkeypatch.setattr(fidelity.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="the extractor vgg16 needs torch-fidelity, which is not installed"):
        check("vgg16")


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


def test_a_file_that_is_not_what_its_name_says_is_refused_before_it_can_run_code(monkeypatch, tmp_path):
    monkeypatch.setenv("MANYPATHS_WEIGHTS", str(tmp_path))
    bomb = Bomb()
    bomb.path = str(tmp_path / "exploded")
    torch.save(bomb, weights_file("inception"))
    with pytest.raises(
        UserError, match=rf"{INCEPTION} is not what its name says: its SHA-256 starts with [0-9a-f]{{8}}$"
    ):
        features(pictures(1), "inception")
    assert not (tmp_path / "exploded").exists()


def test_a_named_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"gone\.pth cannot be read: No such file"):
        features(pictures(1), "inception", weights=tmp_path / "gone.pth")


def test_download_asks_for_the_hash_and_a_failure_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("MANYPATHS_DOWNLOAD", "1")
    asked = []

    def download(url, file, *, hash_prefix, progress):
        asked.append((url, file, hash_prefix, progress))
        raise RuntimeError("invalid hash value")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(UserError, match=r"6726825d\.pth cannot be fetched to .*: invalid hash value"):
        features(pictures(1), "inception")
    assert asked == [(EXTRACTORS["inception"].url, str(weights_file("inception")), "6726825d", False)]


@pytest.mark.parametrize(
    ("images", "found"),
    [(torch.zeros(1, 3, 8, 8), "float32"), (pictures(1, channels=2), r"\(1, 2, 32, 32\)"), (pictures(1)[0], "uint8")],
)
def test_what_is_no_picture_is_refused(images, found):
    with pytest.raises(ValueError, match=rf"needs bytes \(n, 1 or 3, h, w\), got .*{found}"):
        features(images, "inception")


def test_random_inception_is_deterministic_independent_of_batches_and_leaves_the_generator_alone(random_inception):
    x = pictures(3)
    before = torch.random.get_rng_state()
    found = features(x, "inception", weights=random_inception)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert found.features.shape == (3, 2048)
    assert found.logits.shape == (3, 1008)
    assert float(found.features.std(0).max()) > 0
    assert torch.equal(features(x, "inception", weights=random_inception).features, found.features)
    one_by_one = features(x, "inception", weights=random_inception, batch=1)
    # Kernels may sum in another order for another batch: float32's 2^-24, through some ninety layers.
    torch.testing.assert_close(one_by_one.features, found.features, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(one_by_one.logits, found.logits, rtol=1e-4, atol=1e-6)


def test_grey_pictures_are_those_with_three_equal_channels(random_inception):
    grey = pictures(1, channels=1)
    found = features(grey, "inception", weights=random_inception)
    colours = features(grey.repeat(1, 3, 1, 1), "inception", weights=random_inception)
    assert torch.equal(found.features, colours.features)


class Pictures(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def test_features_give_what_torch_fidelity_calculates(random_inception):
    x, y = pictures(6), pictures(6, seed=1) // 2
    theirs = torch_fidelity.calculate_metrics(
        input1=Pictures(x),
        input2=Pictures(y),
        cuda=False,
        batch_size=6,
        isc=True,
        kid=True,
        prc=True,
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(random_inception),
        isc_splits=2,
        samples_shuffle=False,
        kid_subsets=1,
        kid_subset_size=6,
        save_cpu_ram=True,
        cache=False,
        verbose=False,
    )
    generated, real = (features(side, "inception", weights=random_inception) for side in (x, y))
    one = generated.features[None], real.features
    nearby = metrics.precision_recall(*one)
    # torch-fidelity's sums of six by six kernel values near 1 are in float32.
    assert float(metrics.kid(*one)[0]) == pytest.approx(theirs["kernel_inception_distance_mean"], abs=1e-5)
    score = metrics.inception_score(generated.logits[None], splits=2)
    assert float(score[0]) == pytest.approx(theirs["inception_score_mean"], rel=1e-12)
    assert [float(nearby.precision[0]), float(nearby.recall[0])] == pytest.approx(
        [theirs["precision"], theirs["recall"]]
    )


def test_importing_the_door_imports_neither_torch_fidelity_nor_torchvision_nor_torch():
    code = "import sys, study.metrics.fidelity as f; print([m for m in sys.modules if m.startswith('torch')])"
    root = Path(__file__).parents[3]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
