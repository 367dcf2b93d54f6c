import pytest

from study.errors import UserError
from study.options import without_key


@pytest.mark.parametrize(
    "run",
    [
        "s3://KEY:hunter2@bucket/runs",
        "s3://KEY@bucket/runs",
        "S3://KEY:hunter2@bucket",
        "s3://KEY:hun/ter2+=@bucket/x",
        "s3://KEY:12/hunter2@bucket/x",
        "abfs://account:hunter2@account/x",
        "abfs://container@account/x?client_secret=hunter2",
    ],
)
def test_a_key_is_refused_and_not_repeated(run):
    with pytest.raises(UserError, match="holds a key or password") as caught:
        without_key(run)
    assert "hun" not in str(caught.value)
    assert "@" not in str(caught.value)


@pytest.mark.parametrize(
    "run",
    [
        None,
        "runs/x",
        "/home/a:b@c/runs",
        "s3://bucket/x?endpoint_override=127.0.0.1:9000&scheme=http",
        "s3://bucket/a@b:c",
        "gs://anonymous@bucket/x",
        "abfss://container@account.dfs.core.windows.net/x",
        "hdfs://host:8020/user/me@there",
        "small-0123456789ab-4f1d2c",
    ],
)
def test_what_holds_no_key_is_as_it_was(run):
    assert without_key(run) == run
