"""What the templates print: valid for whoever reads it, and every word of the user's quoted."""

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
from importlib import metadata
from pathlib import Path, PurePosixPath

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from typer.testing import CliRunner

import manypaths
from cluster.shipping import shipment_of
from cluster.templates.job import Job, Sizes, check_sizes
from study.errors import UserError
from study.spec import read_sweep

SCHEMA = json.loads(Path(__file__).with_name("rayjob-v1.json").read_text())
DEFINITION = os.environ.get("MANYPATHS_RAYJOB_CRD")
"""KubeRay's own ray.io_rayjobs.yaml, where somebody has it."""

SWEEP = """
name = "small"
tasks = ["manifold-d2", "parts/my task's.py:points"]
methods = ["ns+gp1"]
budget = { steps = 4, evaluations = 2 }
space = { override = { lr = 1e-3 } }
design = { points = 2 }
"""
TASK = """# it's "quoted" $HOME `id` @x é
from study.metrics.samples import energy_distance
from study.tasks.base import Task

points = Task(
    shape=(1,),
    draws=1,
    sample=lambda uniforms: uniforms.round(),
    evaluate=lambda at: {"m_n64": energy_distance(at.samples, at.samples.new_tensor([[0.0], [1.0]]))},
    evaluation_samples=64,
    metrics=("m_n64",),
    primary="m_n64",
    threshold=0.05,
    anchors=(0.01, 1.0),
)
"""
NASTY = 's3://bucket/it\'s $(touch hacked) `id`; "x" # é'


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A sweep file with a file of the user's, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("parts").mkdir()
    Path("parts/mytasks.py").write_text(TASK)
    Path("sweep.toml").write_text(SWEEP.replace("my task's.py", "mytasks.py"))
    return Path("sweep.toml")


def printed(*arguments, code=0):
    result = CliRunner().invoke(manypaths.app, ["template", *map(str, arguments)])
    if code == 2 and result.exception is not None:
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def with_execution(file, text):
    file.write_text(file.read_text() + f"execution = {text}\n")
    return file


# --- Kubernetes


def rayjob(*arguments):
    text = printed("kuberay", *arguments)
    config, job = yaml.safe_load_all(text)
    return config, job


VARIANTS = [
    ("--out", "s3://b/x"),
    ("--claim", "runs", "--namespace", "team-a", "--service-account", "writer"),
    ("--out", "gs://b/x", "--max-workers", "7", "--workers", "3", "--cpus", "4", "--memory", "9"),
]


def closed(schema):
    """A structural schema of Kubernetes as one that refuses what a server would silently drop."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]} | {k: v for k, v in schema.items() if k == "pattern"}
    found = {
        key: schema[key] for key in ("type", "enum", "required", "minimum", "minItems", "pattern") if key in schema
    }
    if "properties" in schema:
        found["properties"] = {key: closed(value) for key, value in schema["properties"].items()}
        found["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    elif "additionalProperties" in schema:
        found["additionalProperties"] = closed(schema["additionalProperties"])
    if "items" in schema:
        found["items"] = closed(schema["items"])
    return found


@pytest.fixture(scope="module")
def definition():
    if DEFINITION is None:
        pytest.skip("set MANYPATHS_RAYJOB_CRD to KubeRay's helm-chart/kuberay-operator/crds/ray.io_rayjobs.yaml")
    content = yaml.load(Path(DEFINITION).read_text(), Loader=yaml.CSafeLoader)
    version = next(version for version in content["spec"]["versions"] if version["name"] == "v1")
    assert version["served"]
    whole = closed(version["schema"]["openAPIV3Schema"])
    whole["properties"]["metadata"] = {"type": "object"}
    return whole


@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: options[0])
def test_the_rayjob_holds_only_what_its_definition_knows(file, options):
    _, job = rayjob(file, *options)
    jsonschema.validate(job, SCHEMA)


@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: options[0])
def test_the_rayjob_is_valid_by_kuberays_own_definition(file, options, definition):
    _, job = rayjob(file, *options)
    jsonschema.validate(job, definition)


def paths_of(schema, prefix=()):
    """Each key's path, type and enumeration."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    yield prefix, schema.get("type"), tuple(schema.get("enum", ())), tuple(sorted(schema.get("required", ())))
    for key, value in schema.get("properties", {}).items():
        yield from paths_of(value, (*prefix, key))
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from paths_of(schema[key], (*prefix, key))


def test_the_schema_here_says_what_kuberays_own_definition_says(definition):
    theirs = {path: rest for path, *rest in paths_of(definition)}
    for path, kind, enum, required in paths_of({"properties": {"spec": SCHEMA["properties"]["spec"]}}):
        if path and path[-1] != "submissionMode":  # listed in its description only
            assert [kind, enum, required] == theirs[path], path


@pytest.mark.parametrize("key", ["spec", "rayClusterSpec", "headGroupSpec", "container"])
def test_a_key_that_kubernetes_would_drop_is_noticed(file, key):
    _, job = rayjob(file, "--out", "s3://b/x")
    cluster = job["spec"]["rayClusterSpec"]
    head = cluster["headGroupSpec"]
    container = head["template"]["spec"]["containers"][0]
    {"spec": job["spec"], "rayClusterSpec": cluster, "headGroupSpec": head, "container": container}[key][
        "backofLimit"
    ] = 1
    with pytest.raises(jsonschema.ValidationError, match="backofLimit"):
        jsonschema.validate(job, SCHEMA)


def test_the_config_map_lays_out_what_submit_would_ship(file):
    config, job = rayjob(file, "--out", "s3://b/x")
    shipment = shipment_of(file)
    for group in (job["spec"]["rayClusterSpec"]["headGroupSpec"], *job["spec"]["rayClusterSpec"]["workerGroupSpecs"]):
        volume = group["template"]["spec"]["volumes"][0]["configMap"]
        assert volume["name"] == config["metadata"]["name"] == f"manypaths-{shipment.hash}"
        laid = {item["path"]: config["data"][item["key"]].encode() for item in volume["items"]}
        assert laid.pop("run.sh")
        assert laid == dict(shipment.files)
    assert len(shipment.files) == 2
    for item in volume["items"]:  # Kubernetes' rules for keys and paths
        assert re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", item["key"])
        assert not item["path"].startswith(("/", ".."))
        assert ".." not in PurePosixPath(item["path"]).parts


def test_a_table_that_is_not_text_travels_too(file):
    import pandas as pd

    pd.DataFrame({"lr": [0.1, 0.2]}).to_parquet("points.parquet")
    file.write_text(
        SWEEP.replace(', "parts/my task\'s.py:points"', "").replace(
            "points = 2", 'kind = "table", table = "points.parquet"'
        )
    )
    config, _ = rayjob(file, "--out", "s3://b/x")
    (kept,) = config["binaryData"].values()
    assert base64.b64decode(kept) == Path("points.parquet").read_bytes()


def test_the_shell_sees_the_users_words_once_and_whole(file, tmp_path):
    config, job = rayjob(file, "--out", NASTY)
    assert job["spec"]["entrypoint"] == "bash /sweep/run.sh"  # nothing in it that two shells could read differently
    seen = arguments_of(tmp_path, config["data"]["run.sh"], RAY_ADDRESS="10.0.0.1:6379")
    assert seen == ["run", "/sweep/shipped/small.toml", "--out", NASTY, "--address", "10.0.0.1:6379"]
    assert not Path("hacked").exists()


def arguments_of(folder, script, **environment):
    """What a script calls `manypaths` with."""
    tool(folder, "manypaths", 'printf "%s\\0" "$@" >"$SEEN"')
    seen = folder / "seen"
    env = {"PATH": f"{folder / 'tools'}:{os.environ['PATH']}", "HOME": str(folder), "SEEN": str(seen)} | environment
    subprocess.run(["bash", "-c", script], env=env, check=True, cwd=folder, timeout=30)
    return seen.read_text().split("\0")[:-1]


def tool(folder, name, body):
    path = folder / "tools" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def test_a_changed_file_of_the_users_is_another_job(file):
    first, _ = rayjob(file, "--out", "s3://b/x")
    again, _ = rayjob(file, "--out", "s3://b/x")
    Path("parts/mytasks.py").write_text(TASK + "# changed\n")
    other, _ = rayjob(file, "--out", "s3://b/x")
    assert first["metadata"]["name"] == again["metadata"]["name"] != other["metadata"]["name"]
    assert len(first["metadata"]["name"]) <= 47  # KubeRay's limit


def test_sizes_reach_the_pods(file):
    with_execution(file, '{ device = "cuda" }')
    _, job = rayjob(
        file,
        "--out",
        "s3://b/x",
        *["--workers", "3", "--max-workers", "9", "--cpus", "4", "--memory", "30", "--gpus", "2"],
    )
    cluster = job["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"cpu": 4, "memory": "30Gi", "nvidia.com/gpu": 2}
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (3, 3, 9)
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["rayVersion"] == metadata.version("ray")
    assert cluster["authOptions"] == {"mode": "token"}
    assert "enableInTreeAutoscaling" not in rayjob(file, "--out", "s3://b/x")[1]["spec"]["rayClusterSpec"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "--out is missing"),
        (("--out", "runs/x"), "--out .*/runs/x is a path"),
        (("--out", "file:///x"), "share no disk"),
        (("--out", "s3://key:secret@host/b"), "holds a key or password"),
        (
            ("--out", "/elsewhere", "--claim", "disk"),
            "--claim disk with --out /elsewhere: the claim is mounted at /runs",
        ),
        (("--out", "s3://b/x", "--claim", "disk"), "--claim disk with --out s3://b/x: .*leave one of them out"),
        (("--out", "s3://b/x", "--namespace", "a\nb: c"), "--namespace"),
        (("--out", "s3://b/x", "--namespace", "Upper"), "lower-case"),
        (("--out", "s3://b/x", "--image", "x; rm -rf /"), "--image 'x; rm -rf /'"),
        (("--out", "s3://b/x", "--claim", "../x"), "--claim '../x'"),
        (("--out", "s3://b/x\n", "--claim", "x"), "must be a path or a URI"),
        (("--out", "s3://b/x", "--gpus", "1"), "execution.device = "),
        (("--out", "s3://b/x", "--workers", "3", "--max-workers", "2"), "--max-workers 2: must be at least"),
    ],
)
def test_kuberay_refuses_in_a_sentence(file, options, words):
    with pytest.raises(UserError, match=words):
        printed("kuberay", file, *options, code=2)


def test_gpus_follow_the_sweep(file):
    sweep = read_sweep(with_execution(file, '{ device = "cuda" }'))
    with pytest.raises(UserError, match=r"--gpus 0 with execution\.device"):
        check_sizes(Sizes(workers=1, max_workers=1, cpus=1, gpus=0), sweep)
    assert '"nvidia.com/gpu": 1' in json.dumps(rayjob(file, "--out", "s3://b/x")[1])


def test_a_sweep_too_large_for_a_config_map_is_refused(file):
    Path("parts/mytasks.py").write_text(TASK + "#" * 10**6)
    with pytest.raises(UserError, match="a ConfigMap holds"):
        printed("kuberay", file, "--out", "s3://b/x", code=2)


def test_data_beside_the_file_are_not_on_the_cluster(file):
    Path("data").mkdir()
    with_execution(file, '{ data = "data" }')
    with pytest.raises(UserError, match=r"execution.data = 'data'"):
        printed("kuberay", file, "--out", "s3://b/x", code=2)


@pytest.mark.parametrize("verb", ["kuberay", "slurm", "aws", "gcp"])
def test_a_bad_sweep_file_is_refused(tmp_path, verb):
    (tmp_path / "x.toml").write_text("name = 3")
    with pytest.raises(UserError, match="name = 3"):
        printed(verb, tmp_path / "x.toml", code=2)
    with pytest.raises(UserError, match="cannot read the sweep file"):
        printed(verb, tmp_path / "none.toml", code=2)


# --- SLURM


def test_the_batch_script_is_bash(file):
    script = printed("slurm", file)
    assert script.startswith("#!/bin/bash\n#SBATCH ")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("options", [(), ("--out", NASTY)], ids=["plain", "nasty"])
def test_shellcheck_finds_nothing_in_the_batch_script(file, options):
    script = printed("slurm", file, *options)
    found = subprocess.run(["shellcheck", "--shell=bash", "-"], input=script, text=True, capture_output=True)
    assert found.stdout == ""
    assert found.returncode == 0


def directives(script):
    return dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script, flags=re.MULTILINE))


def test_the_options_reach_sbatch(file):
    with_execution(file, '{ device = "cuda" }')
    options = [
        "--workers",
        "5",
        "--cpus",
        "12",
        "--memory",
        "60",
        "--gpus",
        "4",
        "--time",
        "2-12:00:00",
        "--partition",
        "long",
    ]
    script = printed("slurm", file, *options)
    found = directives(script)
    assert {key: found[key] for key in ("nodes", "cpus-per-task", "mem", "gpus-per-node", "time", "partition")} == {
        "nodes": "5",
        "cpus-per-task": "12",
        "mem": "60G",
        "gpus-per-node": "4",
        "time": "2-12:00:00",
        "partition": "long",
    }
    assert found["signal"] == "B:USR1@120"
    assert {"requeue", "exclusive"} <= found.keys()
    assert "\ncpus=12 gpus=4\n" in script
    assert script.index("\nexport PATH") > script.rindex("#SBATCH")  # sbatch reads none after a command


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--time", "soon"), "--time 'soon': must be a SLURM time"),
        (("--time", "1:00\n#SBATCH --wrap=x"), "must be a SLURM time"),
        (("--time", "1"), "--time 1 is 60 seconds: must be at least 300"),
        (("--time", "00:01:00"), "--time 00:01:00 is 60 seconds: must be at least 300"),
        (("--time", "4:59"), "--time 4:59 is 299 seconds"),
        (("--time", "0-00:04"), "--time 0-00:04 is 240 seconds"),
        (("--time", "0"), "--time 0 is 0 seconds"),
        (("--partition", "a b"), "--partition 'a b'"),
        (("--out", " "), "must be a path or a URI"),
        (("--gpus", "1"), "execution.device = "),
    ],
)
def test_slurm_refuses_in_a_sentence(file, options, words):
    with pytest.raises(UserError, match=words):
        printed("slurm", file, *options, code=2)


@pytest.mark.parametrize("time", ["5", "5:00", "00:05:00", "0-00:05", "0-1", "1-0", "2-12:00:00"])
def test_slurm_takes_every_form_of_a_time(file, time):
    assert directives(printed("slurm", file, "--time", time))["time"] == time


def test_the_batch_script_quotes_the_users_words(file, tmp_path):
    odd = Path("it's $(touch hacked)") / "a b"
    odd.mkdir(parents=True)
    for part in ("sweep.toml", "parts"):
        Path(part).rename(odd / part)
    script = printed("slurm", odd / "sweep.toml", "--out", NASTY)
    line = re.search(r"^sweep=\(.*\)$", script, flags=re.MULTILINE)[0]
    seen = arguments_of(tmp_path, f'{line}\n"${{sweep[@]}}"')
    assert seen == ["run", str((odd / "sweep.toml").absolute()), "--out", NASTY]
    assert not Path("hacked").exists()


def test_the_batch_script_holds_no_token(file, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
    for kind, *options in (["slurm"], ["kuberay", "--out", "s3://b/x"], ["aws", "--out", "s3://b/x"]):
        assert "a" * 64 not in printed(kind, file, *options)


# --- virtual machines

CLOUDS = [("aws",), ("gcp", "--project", "mine")]


def cluster_file(*arguments):
    return yaml.safe_load(printed(*arguments))


@pytest.mark.parametrize("cloud", CLOUDS, ids=lambda cloud: cloud[0])
@pytest.mark.parametrize("options", [(), ("--spot", "--workers", "3", "--max-workers", "12")], ids=["plain", "spot"])
def test_ray_takes_the_cluster_file(file, cloud, options):
    config = cluster_file(cloud[0], file, "--out", "s3://b/x", *cloud[1:], *options)
    # the launcher fills in what is left out, and validates the whole
    prepared = prepare_config(config)
    validate_config(prepared)
    workers = prepared["available_node_types"]["worker"]
    assert (workers["min_workers"], workers["max_workers"]) == ((3, 12) if options else (2, 2))
    assert prepared["available_node_types"]["head"]["resources"] == {"CPU": 0}
    commands = [*prepared["setup_commands"], *prepared["worker_setup_commands"]]
    assert not any("ray-wheels" in command for command in commands)  # the defaults' other Ray
    for option in (["cluster_name"], ["available_node_types", "worker", "node_config"]):
        broken = json.loads(json.dumps(prepared))
        inner = broken
        for key in option[:-1]:
            inner = inner[key]
        inner[option[-1]] = 3
        with pytest.raises(jsonschema.ValidationError):
            validate_config(broken)


@pytest.mark.parametrize("cloud", CLOUDS, ids=lambda cloud: cloud[0])
def test_the_clouds_commands_are_shell_and_quote_the_users_words(file, cloud, tmp_path):
    config = cluster_file(cloud[0], file, "--out", NASTY, *cloud[1:])
    for key in ("head_setup_commands", "head_start_ray_commands", "worker_start_ray_commands"):
        for command in config[key]:
            subprocess.run(["bash", "-n", "-c", command], check=True)
    tool(tmp_path, "python", "case $2 in *node_ip*) echo 10.0.0.1 ;; esac")
    env = {"PATH": f"{tmp_path / 'tools'}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    subprocess.run(["bash", "-c", config["head_setup_commands"][-1]], env=env, check=True)
    seen = arguments_of(tmp_path, "bash ~/run.sh")
    assert seen == ["run", "sweep/shipped/small.toml", "--out", NASTY, "--address", "10.0.0.1:6379"]
    assert not (tmp_path / "hacked").exists()


def test_the_cluster_file_mounts_what_the_sweep_names(file):
    mounts = cluster_file("aws", file, "--out", "s3://b/x")["file_mounts"]
    assert mounts.pop("~/.ray/auth_token") == "~/.ray/auth_token"
    shipment = shipment_of(file)
    assert {path.removeprefix("~/sweep/"): Path(here).read_bytes() for path, here in mounts.items()} == dict(
        shipment.files
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("aws",), "--out is missing"),
        (("aws", "--out", "s3://b/x", "--cpus", "64"), "name the machine type"),
        (("gcp", "--out", "gs://b/x"), "--project is missing"),
        (("aws", "--out", "s3://b/x", "--region", "a b"), "--region 'a b'"),
    ],
)
def test_clouds_refuse_in_a_sentence(file, options, words):
    with pytest.raises(UserError, match=words):
        printed(options[0], file, *options[1:], code=2)


def test_gcp_asks_for_a_driver_where_there_are_gpus(file):
    with_execution(file, '{ device = "cuda" }')
    with pytest.raises(UserError, match="--boot-image is missing"):
        printed("gcp", file, "--out", "gs://b/x", "--project", "mine", code=2)
    config = cluster_file("gcp", file, "--out", "gs://b/x", "--project", "mine", "--boot-image", "projects/x/y")
    worker = config["available_node_types"]["worker"]
    assert worker["resources"] == {"CPU": 8, "GPU": 1}
    assert worker["node_config"]["scheduling"] == [{"onHostMaintenance": "TERMINATE"}]
    assert "scheduling" not in config["available_node_types"]["head"]["node_config"]


# --- the image

INSTRUCTIONS = {"FROM", "RUN", "COPY", "ENV", "ARG", "USER", "WORKDIR", "CMD"}


def instructions():
    """Instruction and arguments, as Docker joins lines."""
    text = re.sub(r"^\s*#.*\n", "", printed("docker"), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def test_the_dockerfile_is_made_of_instructions():
    found = instructions()
    assert {name for name, _ in found} <= INSTRUCTIONS
    assert [name for name, _ in found].index("FROM") == 0
    for name, rest in found:
        if name == "RUN":
            subprocess.run(["bash", "-n", "-c", rest], check=True)
        if name == "CMD":
            assert json.loads(rest)[0] == "manypaths"


def test_the_dockerfile_copies_what_exists_and_pins_what_it_installs():
    root = Path(manypaths.__file__).parent
    copied = [shlex.split(rest) for name, rest in instructions() if name == "COPY"]
    sources = [source for words in copied for source in words[:-1]]
    assert [source for source in sources if not (root / source).exists()] == []
    import tomllib

    settings = tomllib.loads((root / "pyproject.toml").read_text())
    built = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    assert set(built) <= set(sources)
    assert settings["project"]["readme"] in sources
    (install,) = [rest for name, rest in instructions() if "pip install" in rest]
    assert "--constraint constraints.txt" in install


def test_the_image_does_not_run_as_root_and_holds_no_secret():
    found = instructions()
    last = [rest for name, rest in found if name == "USER"][-1]
    assert last.isdigit()  # Kubernetes cannot tell whether a name is root's
    assert int(last) > 0
    text = printed("docker").lower()
    assert [word for word in ("password", "secret_key", "auth_token=") if word in text] == []


def test_the_templates_data_are_in_the_package():
    from importlib import resources

    names = {entry.name for entry in resources.files("cluster.templates").iterdir()}
    assert {"sweep.sbatch", "Dockerfile"} <= names


def test_a_job_is_only_what_was_said(file):
    with pytest.raises(AttributeError):
        Job(sweep=read_sweep(file), file=file, out="x").out = "y"
