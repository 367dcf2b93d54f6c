import pytest

from analysis.origin import origin
from study.store import MANIFEST
from tests.analysis.stored import plan


@pytest.fixture
def directory(tmp_path):
    return plan(tmp_path / "run")[0]


def test_it_is_what_the_manifest_says(directory):
    said = directory.read_json(MANIFEST)
    directory.write_json(MANIFEST, said | {"commit": "abc+", "engine_epoch": 7})
    found = dict(origin(directory).facts)
    assert found["commit"] == "abc (with changes of its own)"
    assert found["engine epoch"] == "7"
    assert found["begun"] == said["created"]
    assert found["manypaths"] == said["versions"]["manypaths"]
    assert 'name = "tiny"' in origin(directory).sweep


def test_a_clean_commit_is_told_as_it_is(directory):
    directory.write_json(MANIFEST, directory.read_json(MANIFEST) | {"commit": "abc"})
    assert ("commit", "abc") in origin(directory).facts


def test_what_is_not_on_record_is_not_told(directory):
    directory.remove(MANIFEST)
    assert origin(directory).facts == ()


def test_an_import_says_where_it_came_from(directory):
    directory.write_json(MANIFEST, {"imported": {"source": "study.db"}})
    assert (origin(directory).facts, origin(directory).sweep) == ((("imported from", "study.db"),), None)
