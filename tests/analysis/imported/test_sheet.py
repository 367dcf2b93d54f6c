import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.imported.sheet import read_sheet
from study.errors import UserError


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"", "the table .*t.csv is empty"),
        ("t.csv", b"  \n\n", "the table .*t.csv is empty"),
        ("t.csv", b"lr,loss\n", "the table .*t.csv has no rows"),
        ("t.csv", "naïve,loss\n1,2\n".encode("latin-1"), "is not UTF-8 text: save it as UTF-8, e.g. iconv -f latin1"),
        ("t.csv", "lr,loss\n1,é\n".encode("latin-1"), "is not UTF-8 text"),
        ("t.csv", "lr,loss\n1,2\n".encode("utf-16"), "is not UTF-8 text"),
        ("t.csv", b"lr;loss\n0,1;0,2\n", "are separated by semicolons: save it with commas"),
        ("t.csv", b"lr\tloss\n1\t2\n", "are separated by tabs: save it with commas"),
        ("t.tsv", b"lr,loss\n1,2\n", "are separated by commas: save it with commas .* or tabs"),
        ("t.csv", b"lr,loss,lr\n1,2,3\n", "has two columns called 'lr': rename one of them"),
        ("t.csv", b"lr,loss\n1,2\n1,2,3\n", "line 3 of the table .*t.csv has 3 cells instead of 2"),
        ("t.csv", b"lr,loss\n1,2,3\n4,5,6\n", "the rows of the table .*t.csv have more cells than its first line has"),
        ("t.csv", b'lr,loss\n1,"2\n', "is damaged: look for a quotation mark that is not closed"),
        ("t.parquet", b"PAR0", r"cannot read .*t\.parquet"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        read_sheet(tmp_path / name)
    assert "\n" not in str(error.value)
    assert not any(word in str(error.value) for word in ("codec", "pandas", "tokeniz", "C error"))


def test_folders_are_no_tables(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the table .*: Is a directory"):
        read_sheet(tmp_path)


def test_two_columns_of_a_name_in_parquet(tmp_path):
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["lr", "lr"])
    pq.write_table(twice, tmp_path / "t.parquet")
    with pytest.raises(UserError, match="has two columns called 'lr'"):
        read_sheet(tmp_path / "t.parquet")


def test_columns_stay_where_they_are(tmp_path):
    """Commas at the ends of lines, and an index without a name as pandas writes it, shift nothing."""
    (tmp_path / "t.csv").write_text("lr,loss\n1,2,\n3,4,\n")
    assert read_sheet(tmp_path / "t.csv").to_dict("list") == {"lr": [1, 3], "loss": [2, 4]}
    pd.DataFrame({"lr": [1, 3], "loss": [2, 4]}).to_csv(tmp_path / "i.csv")
    assert read_sheet(tmp_path / "i.csv")[["lr", "loss"]].to_dict("list") == {"lr": [1, 3], "loss": [2, 4]}
    (tmp_path / "n.csv").write_text("lr,,\n1,2,3\n")
    assert read_sheet(tmp_path / "n.csv").shape == (1, 3)


def test_marked_as_utf_8(tmp_path):
    (tmp_path / "t.csv").write_bytes("naïve,loss\n1,2\n".encode("utf-8-sig"))
    assert list(read_sheet(tmp_path / "t.csv")) == ["naïve", "loss"]
