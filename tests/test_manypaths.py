import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

import manypaths
from study import schema, worker

ROOT = Path(__file__).parents[1]
FILE = """
name = "tiny"
tasks = ["manifold-d2"]
methods = ["ns", "ns+gp1"]
budget.steps = 6
budget.evaluations = 2
space.override.lr = {log_uniform = [1e-3, 1e-1]}
design.points = 2
execution.pack = 2
execution.device = "cpu"
"""


@pytest.fixture
def cli(monkeypatch, capsys):
    """A function running a command line; gives its exit code, standard output and standard error."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["manypaths", *map(str, arguments)])
        capsys.readouterr()
        try:
            manypaths.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    yield call
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(FILE)
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def run(cli, file, out):
    """A finished run."""
    assert cli("run", file, "--out", out, "--in-process")[0] == 0
    return out


def data(result):
    """The JSON of a command that ended well."""
    code, printed, _ = result
    assert code == 0
    return json.loads(printed)


# Looking things up


@pytest.mark.parametrize("verb", ["methods", "tasks", "spaces"])
def test_lists_are_printed_in_words_and_as_json(cli, verb):
    entries = data(cli(verb, "--json"))
    code, printed, words = cli(verb)
    assert (code, words) == (0, "")
    assert len(entries) > 2
    assert all(entry["name"] in printed.splitlines() for entry in entries)


@pytest.mark.parametrize(
    ("verb", "name", "part"),
    [("methods", "wgan+gp1", "Gulrajani"), ("tasks", "manifold-d2", "must fail"), ("spaces", "lucic_wide", "Lucic")],
)
def test_one_entry_is_printed_in_full(cli, verb, name, part):
    code, printed, words = cli(verb, name)
    assert (code, words) == (0, "")
    assert printed.startswith(name.partition("+")[0])
    assert part in printed
    assert part in json.dumps(data(cli(verb, name, "--json")))


# Plan


def test_plan_says_what_would_run_and_runs_nothing(cli, file, monkeypatch):
    monkeypatch.chdir(file.parent)
    found = data(cli("plan", file, "--json"))
    assert (found["trials"], found["packs"], found["points"]) == (4, 2, 2)
    code, printed, words = cli("plan", file)
    assert code == 0
    assert "4 trials in 2 packs (100% of slots filled), prior own, 2 points" in printed
    assert "95 % intervals to come" in printed
    assert "2 points are few for a verdict" in words
    assert sorted(path.name for path in file.parent.iterdir()) == ["tiny.toml"]


# Run


def test_a_run_prints_its_directory_and_its_progress_apart(cli, file, out):
    code, printed, words = cli("run", file, "--out", out, "--in-process")
    assert (code, printed) == (0, f"{out}\n")
    assert "4 of 4 trials done" in words
    assert len(pd.read_parquet(out / "trials")) == 4


def test_a_second_run_trains_nothing(cli, file, run, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("trained")

    monkeypatch.setattr(worker, "train", refuse)
    found = data(cli("run", file, "--out", run, "--in-process", "--json"))
    assert found == {"out": str(run), "planned": 4, "done": 4, "lost": 0, "completed": 4}
    assert cli("run", file, "--out", run, "--in-process") == (0, f"{run}\n", "")


def test_without_out_the_directory_is_named_by_the_sweep(cli, file, monkeypatch):
    monkeypatch.chdir(file.parent)
    code, printed, _ = cli("run", file, "--in-process")
    assert (code, printed.strip()) == (0, str(file.parent / "runs" / "tiny"))


def test_a_run_of_which_nothing_was_tried_has_no_log_and_says_so(cli, run):
    told = cli("logs", run)
    assert (told[0], told[2]) == (0, "")
    assert len(told[1].splitlines()) == 2
    for note in (run / "attempts").iterdir():
        note.unlink()
    assert cli("logs", run) == (0, "", f"nothing was tried in {run} yet\n")


def test_a_grown_sweep_says_so(cli, file, run):
    file.write_text(FILE + "design.seeds = 2\n")
    code, _, words = cli("run", file, "--out", run, "--in-process")
    assert code == 0
    assert f"the file plans 4 trials more than {run} was begun with: they are appended" in words
    assert len(pd.read_parquet(run / "trials")) == 8


def test_lost_trials_are_exit_code_1_and_the_next_run_repairs_them(cli, file, out, monkeypatch):
    real = worker.train

    def train(trials, **options):
        if trials[0].label == "ns":
            raise ValueError("boom")
        return real(trials, **options)

    monkeypatch.setattr(worker, "train", train)
    code, printed, words = cli("run", file, "--out", out, "--in-process", "--json")
    assert code == 1
    assert json.loads(printed) == {"out": str(out), "planned": 4, "done": 2, "lost": 2, "completed": 2}
    assert words.endswith(f"2 trials were lost: {out}/attempts says why, and the same command tries them again\n")
    assert "Traceback" not in words
    lost = {row["method"]: row["lost"] for row in data(cli("status", out, "--json"))["methods"]}
    assert lost == {"ns": 2, "ns+gp1": 0}
    monkeypatch.setattr(worker, "train", real)
    assert cli("run", file, "--out", out, "--in-process")[0] == 0


def test_an_interrupted_run_keeps_what_is_finished(cli, file, out, monkeypatch):
    real, seen = worker.train, []

    def train(trials, **options):
        seen.append(trials)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(trials, **options)

    monkeypatch.setattr(worker, "train", train)
    code, printed, words = cli("run", file, "--out", out, "--in-process")
    assert (code, printed) == (128 + signal.SIGTERM, "")
    assert f"stopped: what is finished is kept in {out}; the same command goes on from there" in words
    assert len(pd.read_parquet(out / "trials")) == 2
    monkeypatch.setattr(worker, "train", real)
    assert data(cli("run", file, "--out", out, "--in-process", "--json"))["done"] == 4


def test_one_trial_is_trained_again_and_compared(cli, file, run):
    stored = pd.read_parquet(run / "trials").iloc[0]
    code, printed, words = cli("run", file, "--out", run, "--trial", stored["trial_id"], "--json")
    row = json.loads(printed)
    assert (code, words) == (0, "equal, to the bit, to the stored row\n")
    assert (row["trial_id"], row["primary"]) == (stored["trial_id"], stored["primary"])
    code, printed, _ = cli("run", file, "--out", run, "--trial", stored["trial_id"])
    assert code == 0
    assert stored["trial_id"] in printed


def test_a_trial_without_a_row_has_nothing_to_be_compared_with(cli, file, run, tmp_path):
    name = pd.read_parquet(run / "trials")["trial_id"].iloc[0]
    code, _, words = cli("run", file, "--out", tmp_path / "none", "--trial", name)
    assert (code, words) == (0, "no stored row to compare with\n")


# Status and report


def test_status_counts_and_says_who_runs_it(cli, run):
    found = data(cli("status", run, "--json"))
    assert (found["planned"], found["done"], found["driver"]) == (4, 4, None)
    assert [(row["method"], row["completed"]) for row in found["methods"]] == [("ns", 2), ("ns+gp1", 2)]
    code, printed, words = cli("status", run)
    assert (code, words) == (0, "")
    assert "4 of 4 trials done (100%); nobody is running it" in printed


def test_status_of_a_run_that_has_no_result_yet(cli, file, out, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("boom")

    monkeypatch.setattr(worker, "train", refuse)
    assert cli("run", file, "--out", out, "--in-process")[0] == 1
    code, printed, _ = cli("status", out)
    assert code == 0
    assert "0 of 4 trials done (0%)" in printed
    assert data(cli("status", out, "--json"))["methods"][0]["success"] is None


def test_report_prints_where_everything_is(cli, run):
    found = data(cli("report", run, "--json"))
    assert all(Path(path).stat().st_size > 0 for path in (found["html"], found["summary"], *found["figures"]))
    assert Path(found["html"]).parent == run


# Mistakes


MISTAKES = [
    (("plan", "none.toml"), "cannot read the sweep file none.toml: No such file or directory"),
    (("run", "none.toml"), "cannot read the sweep file none.toml: No such file or directory"),
    (("status", "nowhere"), "nowhere is not a run directory: it has no sweep.toml and plan"),
    (("report", "nowhere"), "nowhere is not a run directory: it has no sweep.toml and plan"),
    (("methods", "nss"), "unknown loss in method 'nss': 'nss': choose from ns, ssl, FILE.py:NAME, "),
    (("tasks", "ring"), "unknown task 'ring': choose from ring8,"),
    (("spaces", "lucic"), "unknown space 'lucic': choose from lucic_wide,"),
    (("status", "a-file"), "a-file is a file: a run directory has to be a folder, or not to exist yet"),
    (("status", "gopher://x"), "cannot open the run directory gopher://x"),
]


@pytest.mark.parametrize("json_", [(), ("--json",)], ids=["words", "json"])
@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_a_mistake_is_one_sentence_and_exit_code_2(cli, tmp_path, monkeypatch, arguments, sentence, json_):
    monkeypatch.chdir(tmp_path)
    Path("a-file").touch()
    code, printed, words = cli(*arguments, *json_)
    assert (code, printed) == (2, "")
    assert words.startswith("error: ")
    assert sentence in words
    assert words.count("\n") == 1


S3 = "s3://AKIA:hunter2@nobucket/x?endpoint_override=127.0.0.1:1&scheme=http"


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "tiny.toml", "--out", S3),
        ("status", S3),
        ("report", S3),
        ("doctor", S3),
        ("logs", S3),
        ("stop", S3),
        ("submit", "tiny.toml", "--address", "http://127.0.0.1:1", "--out", S3),
        ("template", "slurm", "tiny.toml", "--out", S3),
        ("plan", "tiny.toml", "--confirm-region", S3, "--method", "ns"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_key_in_the_address_of_a_run_is_refused_and_not_printed(cli, file, monkeypatch, arguments):
    monkeypatch.chdir(file.parent)
    code, printed, words = cli(*arguments)
    assert (code, printed) == (2, "")
    assert words.startswith("error: the address of the run directory holds a key or password")
    assert words.count("\n") == 1
    assert "AKIA" not in words
    assert "hunter2" not in words


def test_nobody_at_an_address_is_found_out_before_anything_is_written(cli, file, out, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    code, printed, words = cli("run", file, "--out", out, "--address", "127.0.0.1:1")
    assert (code, printed) == (2, "")
    assert words == "error: cannot reach the Ray cluster at 127.0.0.1:1: Connection refused\n"
    assert not out.exists()
    assert cli("run", file, "--out", out, "--address", "nonsense")[0] == 2
    assert not out.exists()


@pytest.mark.parametrize("verb", ["plan", "run"])
@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('lr = "1e-3"', "unknown key 'lr': "),
        ("design.seeds = 0", "design.seeds = 0: input should be greater than 0"),
        ("budget.unit = 'updates'\nspace.override.n_critic = 5", "budget.evaluations = 2: more than the 1 generator"),
    ],
)
def test_a_wrong_file_is_refused_before_anything_is_written(cli, file, out, verb, line, sentence):
    file.write_text(FILE + line)
    arguments = ("--out", out, "--in-process") if verb == "run" else ()
    code, printed, words = cli(verb, file, *arguments)
    assert (code, printed) == (2, "")
    assert words.startswith(f"error: {file}: {sentence}")
    assert words.count("\n") == 1
    assert not out.exists()


def test_a_changed_file_is_refused_and_the_run_left_alone(cli, file, run):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    file.write_text(FILE.replace("steps = 6", "steps = 8"))
    code, printed, words = cli("run", file, "--out", run, "--in-process")
    assert (code, printed) == (2, "")
    assert "was begun with another plan: budget.steps was 6 and is 8; a plan may only grow, so choose another" in words
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_run_of_a_newer_version_is_refused_by_every_verb(cli, file, run):
    path = next((run / "plan").glob("*.parquet"))
    newer = pq.read_table(path).replace_schema_metadata({"schema_version": str(schema.SCHEMA_VERSION + 1)})
    pq.write_table(newer, path)
    for arguments in (("status", run), ("report", run), ("run", file, "--out", run, "--in-process")):
        code, printed, words = cli(*arguments)
        assert (code, printed) == (2, "")
        assert f"has schema version {schema.SCHEMA_VERSION + 1}" in words
        assert words.count("\n") == 1


@pytest.mark.parametrize("arguments", [("run",), ("walk",), ("plan", "a.toml", "--fast")])
def test_a_command_line_that_may_not_be_is_exit_code_2(cli, arguments):
    code, printed, words = cli(*arguments)
    assert (code, printed) == (2, "")
    assert "Error" in words
    assert "Traceback" not in words


# The front door opens fast


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    code = "import sys, manypaths\ntry: manypaths.main()\nexcept SystemExit: pass\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("Usage: ")
    loaded = set(done.stderr.split())
    heavy = {"torch", "ray", "numpy", "pandas", "pyarrow", "scipy", "sklearn", "matplotlib"}
    assert loaded & heavy == set()


@pytest.mark.parametrize("arguments", [["methods"], ["tasks", "digits"], ["spaces"], ["plan", "tiny.toml"]])
def test_what_trains_nothing_imports_no_torch(arguments, file):
    code = "import sys, manypaths\ntry: manypaths.main()\nexcept SystemExit: pass\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=file.parent,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout
    assert set(done.stderr.split()) & {"torch", "ray", "pandas"} == set()


TRAINS_NOTHING = """
import sys
import cluster.tune
import manypaths

def run(self, directory, packs, **_):
    print(*sys.modules, file=sys.stderr)

cluster.tune.RayTune.run = run
manypaths.main()
"""


def test_the_process_that_reads_and_plans_imports_neither_torch_nor_ray(file, out):
    """Nor does it while it waits for packs: those train elsewhere."""
    done = subprocess.run(
        [sys.executable, "-c", TRAINS_NOTHING, "run", str(file), "--out", str(out)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1  # the trials are missing
    assert done.stdout == f"{out}\n"
    assert "study.sweep_run" in done.stderr.split()
    assert set(done.stderr.split()) & {"torch", "ray"} == set()


# Ray gets ready while the file is read


@pytest.fixture
def processes(monkeypatch):
    """The processes of drivers that were started, none of them real."""
    started = []

    class Process:
        def __init__(self, address):
            self.address, self.begun, self.closed = address, False, False
            started.append(self)

        def begin(self, _):
            self.begun = True

        def close(self):
            self.closed = True

    monkeypatch.setattr("cluster.process.Process", Process)
    return started


def test_a_bad_file_starts_no_ray_and_leaves_none(cli, file, processes):
    file.write_text(FILE.replace('"ns"', '"nns"'))
    code, printed, words = cli("run", file)
    assert (code, printed, words.count("\n")) == (2, "", 1)
    assert words.startswith(f"error: {file}: unknown loss in method 'nns'")
    assert [(process.begun, process.closed) for process in processes] == [(False, True)]


def test_a_finished_run_starts_no_ray_and_leaves_none(cli, file, run, processes):
    assert cli("run", file, "--out", run)[:2] == (0, f"{run}\n")
    assert [(process.begun, process.closed) for process in processes] == [(False, True)]


def test_what_trains_here_gets_no_driver(cli, file, run, processes):
    trial_id = pq.read_table(run / "trials")["trial_id"][0].as_py()
    assert cli("run", file, "--out", run, "--in-process")[0] == 0
    assert cli("run", file, "--out", run, "--trial", trial_id)[0] == 0
    assert processes == []
