import csv
import io
import json
import os
from pathlib import Path

import pytest

from analysis.query import FORMATS, query, views, write
from study import schema
from study.errors import UserError
from study.store import RunDirectory
from tests.analysis.stored import ENDINGS, end, finished, plan


@pytest.fixture
def directory(tmp_path):
    return finished(tmp_path / "run", ENDINGS)


def rows(directory, sql):
    return query(directory, sql).to_pylist()


def tree(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_success_by_method_is_what_was_stored(directory):
    found = rows(directory, "select method, avg(success::int) as s, count(*) as n from trials group by 1 order by 1")
    # ns: 0.1 of 0.1, 3.0, diverged; ns+gp1: 0.1 and 0.2 of those and an oom: a stopped trial is in no average
    assert found == [{"method": "ns", "s": 1 / 3, "n": 3}, {"method": "ns+gp1", "s": 2 / 3, "n": 4}]


def test_planned_holds_every_planned_trial_with_its_outcome_coded(directory):
    found = rows(directory, "select method, status, outcome, success from planned order by method, outcome, status")
    assert [tuple(row.values()) for row in found] == [
        ("ns", "completed", 0.1, True),
        ("ns", "completed", 3.0, False),
        ("ns", "diverged", float("inf"), False),
        ("ns", None, None, None),
        ("ns+gp1", "completed", 0.1, True),
        ("ns+gp1", "completed", 0.2, True),
        ("ns+gp1", "oom", float("inf"), False),
        ("ns+gp1", "stopped", None, None),
    ]


def test_a_quantile_of_outcomes_counts_failures_and_a_quantile_of_primary_does_not(directory):
    # of 0.1, 0.2, inf the median is 0.2, of 0.1 and 0.2 alone 0.1
    sql = "select quantile_disc({}, .5) as q from planned where method = 'ns+gp1'"
    assert rows(directory, sql.format("outcome")) == [{"q": 0.2}]
    assert rows(directory, sql.format('"primary"')) == [{"q": 0.1}]


def test_the_tables_join_and_keep_their_types(directory):
    found = query(directory, "select t.seed, h.evaluation, h.primary from trials t join history h using (trial_id)")
    assert len(found) == 14
    assert [str(kind) for kind in found.schema.types] == ["int32", "int32", "double"]


def test_a_pivot_and_a_description_are_reading_too(directory):
    found = rows(directory, "pivot planned on status using count(*) group by method order by method")
    assert found[0]["diverged"] == 1
    assert {row["column_name"] for row in rows(directory, "describe planned")} >= {"outcome", "w2sq", "threshold"}
    names = [row["name"] for row in rows(directory, "show tables")]
    assert names == ["history", "plan", "planned", "samples", "trials"]


def test_views_name_every_column_with_its_meaning(directory):
    found = views(directory)
    assert list(found) == ["plan", "trials", "history", "samples", "planned"]
    assert [column.name for column in found["plan"]] == [column.name for column in schema.PLAN]
    assert all(column.meaning for columns in found.values() for column in columns)
    assert found["trials"][-1].meaning.endswith("; the primary metric of manifold-d2")


def test_a_plan_without_results_can_be_asked(tmp_path):
    directory, _ = plan(tmp_path / "run")
    assert rows(directory, "select count(*) as n, count(status) as done from planned") == [{"n": 8, "done": 0}]
    assert rows(directory, "select * from history") == []


def test_parts_of_an_older_version_lack_columns_which_are_null(tmp_path):
    directory, planned = plan(tmp_path / "run")
    for method, metrics in (("ns", ("w2sq",)), ("ns+gp1", ("w2sq", "coverage"))):
        end(directory, planned[method], [0.1] * 4, metrics=metrics)
    part = planned["ns"][0]["pack"]
    directory.write_part("trials", part, directory.read_part("trials", part).drop_columns(["network", "updates"]))
    found = rows(directory, "select method, count(coverage) as c from planned group by 1 order by 1")
    assert found == [{"method": "ns", "c": 0}, {"method": "ns+gp1", "c": 4}]


def test_a_broken_part_is_left_out(directory):
    path = next(Path(f"{directory}/trials").glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="not a whole Parquet file: its rows are left out"):
        assert rows(directory, "select count(distinct method) as n from trials") == [{"n": 1}]


@pytest.mark.parametrize("name", ["a'b", "lr=3", "[x]", "with space", "a*b"])
def test_any_name_of_a_directory_will_do(tmp_path, name):
    directory = finished(tmp_path / name / "run", ENDINGS)
    found = query(directory, "select * from trials")
    assert (len(found), "lr" in found.column_names) == (7, False)


def test_elsewhere_than_on_a_local_disk_the_store_reads(directory):
    remote = RunDirectory(f"file://{directory.root}")
    remote.local = False
    assert rows(remote, "select count(*) as n from planned") == [{"n": 8}]


def test_asking_writes_nothing(directory, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = tree(tmp_path)
    rows(directory, "select count(*) from planned join history using (trial_id)")
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("drop view trials", "this is DROP"),
        ("create table x as select 1", "this is CREATE"),
        ("set threads = 1", "this is SET"),
        ("install httpfs", "this is LOAD"),
        ("attach 'x.db'", "this is ATTACH"),
        ("copy trials to '{root}/trials/x.csv'", "this is COPY"),
        ("/* with */ copy (pivot trials on status using count(*)) to '{root}/trials/x.csv'", "this is MULTI"),
        ("select 1; drop view trials", "one statement is needed, found 2"),
        ("", "one statement is needed, found 0"),
        ("-- nothing", "one statement is needed, found 0"),
        ("select 1 as a, 2 as a", "two columns of the result are called 'a'"),
        ("select * from '{root}/sweep.toml'", "Table with name"),
        ("select * from read_text('{root}/sweep.toml')", "Permission Error"),
        ("select * from glob('/etc/*')", "Permission Error"),
        ("select foo from trials", r'Referenced column "foo" not found .* \(views: plan, trials'),
        ("select * from trails", r'Table with name trails does not exist! Did you mean "trials"\? \(views: '),
        ("selec 1", 'syntax error at or near "selec"'),
        ("select 'a'::int", "Conversion Error"),
    ],
)
def test_what_is_no_reading_or_wrong_is_one_sentence(directory, sql, words):
    before = tree(directory.root)
    with pytest.raises(UserError, match=words) as caught:
        query(directory, sql.format(root=directory.root))
    assert str(caught.value).startswith("SQL: ")
    assert "\n" not in str(caught.value)
    assert tree(directory.root) == before


def test_variables_of_the_process_are_no_tables(directory):
    secret = query(directory, "select 1 as a")
    assert len(secret) == 1
    with pytest.raises(UserError, match="Table with name secret does not exist"):
        query(directory, "select * from secret")


def test_what_is_no_run_directory_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a run directory: it has no plan"):
        query(RunDirectory(tmp_path), "select 1")


def test_tables_of_a_newer_version_are_refused(directory):
    part = directory.parts("trials")[0]
    newer = str(schema.SCHEMA_VERSION + 1)
    table = directory.read_part("trials", part)
    directory.write_part("trials", part, table.replace_schema_metadata({"schema_version": newer}))
    with pytest.raises(UserError, match=f"has schema version {newer}, this manypaths reads up to"):
        query(directory, "select * from planned")


# Forms


SQL = """
select 1::bigint as n, 'a|b' as word, 'inf'::double as x, true as yes, null::int as nothing, [1, 2] as list
union all select null, 'c' || chr(10) || 'd', 'nan'::double, false, 2, [] order by n
"""


def test_csv_keeps_whole_numbers_whole_and_missing_ones_empty(directory):
    found = list(csv.DictReader(io.StringIO(write(query(directory, SQL), "csv").decode())))
    assert [row["n"] for row in found] == ["1", ""]
    assert [row["x"] for row in found] == ["inf", "nan"]
    assert [row["word"] for row in found] == ["a|b", "c\nd"]
    assert [row["nothing"] for row in found] == ["", "2"]


def test_json_says_infinity_in_a_word_so_that_a_failure_is_not_undecided(directory):
    found = json.loads(write(query(directory, SQL), "json"))
    assert [row["x"] for row in found] == ["Infinity", None]
    assert [row["n"] for row in found] == [1, None]
    assert [row["list"] for row in found] == [[1, 2], []]


def test_parquet_gives_the_rows_back(directory, tmp_path):
    import pyarrow.parquet as pq

    table = query(directory, "select * from planned order by trial_id")
    (tmp_path / "x.parquet").write_bytes(write(table, "parquet"))
    assert pq.read_table(tmp_path / "x.parquet").to_pylist() == table.to_pylist()


def test_markdown_is_a_table_whatever_the_cells_hold(directory):
    lines = write(query(directory, SQL), "markdown").decode().splitlines()
    assert lines[:3] == [
        "| n | word | x | yes | nothing | list |",
        "| --- | --- | --- | --- | --- | --- |",
        "| 1 | a\\|b | inf | True |  | [1, 2] |",
    ]
    assert lines[3].startswith("|  | c d | nan |")


def test_text_is_aligned_and_a_table_without_rows_has_its_head(directory):
    lines = write(query(directory, "select 'long word' as a, 1.5 as b, null as c"), "table").decode().splitlines()
    assert lines == ["a          b    c", "long word  1.5  -"]
    for form in FORMATS:
        assert b"a" in write(query(directory, "select 1 as a where false"), form) or form == "json"
    assert json.loads(write(query(directory, "select 1 as a where false"), "json")) == []


def test_an_unknown_form_names_those_that_exist(directory):
    with pytest.raises(UserError, match="unknown format 'xml': choose from csv, json, markdown, parquet, table"):
        write(query(directory, "select 1"), "xml")


def test_bytes_are_base64_in_json_and_a_size_in_text(directory):
    table = query(directory, "select 'ab'::blob as b")
    assert json.loads(write(table, "json")) == [{"b": "YWI="}]
    assert write(table, "table") == b"b\n2 bytes\n"


def test_no_home_folder_is_touched(directory, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    rows(directory, "select count(*) from trials")
    assert not os.path.exists(tmp_path / "home")  # noqa: PTH110 - the point is that nothing is there
