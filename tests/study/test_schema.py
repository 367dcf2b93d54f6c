import pyarrow as pa
import pytest

from study import schema
from study.store import arrow_type

PROMISED = """
trial_id sweep task method loss penalty config replicate seed pack status reason diverged_step generator_steps
discriminator_steps lr_g lr_d beta1 beta2 n_critic penalty_weight success train_seconds device schema_version
technique clip noise_scale sampler primary capacity engine_epoch updates
"""


@pytest.mark.parametrize("table", schema.TABLES)
def test_a_table_names_each_column_once_with_a_type_and_a_meaning(table):
    columns = schema.TABLES[table]
    assert len({column.name for column in columns}) == len(columns)
    for column in columns:
        assert isinstance(arrow_type(column.type), pa.DataType)
        assert len(column.meaning) > 5


def test_the_trials_table_has_every_promised_column():
    assert {column.name for column in schema.TABLES["trials"]} >= set(PROMISED.split())


def test_a_column_of_two_tables_has_one_type():
    types = {}
    for columns in schema.TABLES.values():
        for column in columns:
            assert types.setdefault(column.name, column.type) == column.type


def test_pending_and_lost_are_never_written():
    assert {status.value for status in schema.Status} == {"completed", "diverged", "oom", "stopped"}
