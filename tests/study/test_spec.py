import re
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.domains import Choice, Cross, Fixed, LogUniform, Published, Uniform, When
from study.errors import UserError
from study.forms import read_domain, write_domain
from study.spec import parse_sweep, read_sweep, to_toml

FILE = """
name = "tiny"
tasks = ["manifold-d2"]
methods = ["ns", "ns+gp1"]
budget.steps = 12
budget.evaluations = 3
space.override.lr = {log_uniform = [1e-3, 1e-1]}
design.points = 4
"""
NUMBER = "must be a number, written without quotes"
FORMS = "must be a number, {uniform = [low, high]}, {log_uniform = [low, high]}, {choice = [...]}, {cross = [...]}"


def refusal(text):
    with pytest.raises(UserError, match=r"^f\.toml: ") as caught:
        parse_sweep(tomllib.loads(text), source="f.toml")
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence.removeprefix("f.toml: ")


def with_line(line):
    """The sweep file with one more line, or with the line of the same key replaced."""
    key = line.partition("=")[0].strip()
    kept = [old for old in FILE.splitlines() if old.partition("=")[0].strip() != key]
    return "\n".join([line, *kept] if "." not in key else [*kept, line])


LR = [
    ('"1e-3"', f'space.override.lr = "1e-3": {NUMBER}'),
    ("-1.0", "space.override.lr = -1.0: must be above 0"),
    ("0", "space.override.lr = 0: must be above 0"),
    ("inf", "space.override.lr = Infinity: must be finite"),
    ("nan", "space.override.lr = NaN: must be finite"),
    ("true", f"space.override.lr = true: {FORMS} or 'published'"),
    ("[1e-3, 1e-2]", f"space.override.lr = [0.001, 0.01]: {FORMS} or 'published'"),
    ("{uniform = [2, 1]}", 'space.override.lr = {"uniform": [2, 1]}: uniform needs low < high, got low = 2, high = 1'),
    ("{uniform = [-1, 1]}", "space.override.lr = -1.0: must be above 0"),
    ("{uniform = [0, inf]}", "uniform needs finite bounds, got [0, inf]"),
    ("{uniform = [true, 2]}", "uniform takes two numbers, written without quotes, got [True, 2]"),
    ('{uniform = ["1", 2]}', "uniform takes two numbers, written without quotes, got ['1', 2]"),
    ("{uniform = [1]}", "uniform takes two numbers, written without quotes, got [1]"),
    ("{uniform = 1}", "uniform takes a list, got 1"),
    ("{log_uniform = [0, 1]}", "log_uniform needs low > 0, got low = 0"),
    ("{log_uniform = [-1, 1]}", "log_uniform needs low > 0, got low = -1"),
    ("{unifrom = [1, 2]}", f'space.override.lr = {{"unifrom": [1, 2]}}: {FORMS} or'),
    ("{uniform = [1, 2], choice = [1]}", f"{FORMS} or 'published'"),
    ("{choice = []}", "choice needs at least one value, got []"),
    ("{choice = [1, 1]}", "choice needs distinct values, got [1, 1]"),
    ("{choice = [true]}", f"space.override.lr = true: {NUMBER}"),
    ("{choice = [[1]]}", "choice takes numbers and texts, got [1]"),
    ("{choice = [1979-05-27]}", "choice takes numbers and texts, got 1979-05-27"),
    ("{cross = [1, 2]}", "space.override.lr = {cross = ...}: only n_critic, optimiser, network, depth_g,"),
    ('"published"', "space.override.lr = 'published': only a method's own hyperparameters have a published value"),
    ("{when.optimiser.sgd = 0, choice = [1]}", "space.override.lr = 0: must be above 0"),
    (
        "{when.optimiser.sgdd = 1, choice = [1]}",
        "unknown optimiser in space.override.lr.when: 'sgdd': choose from sgd,",
    ),
    ("{when.n_critic.two = 1, choice = [1]}", "unknown n_critic in space.override.lr.when: 'two': must be a whole"),
    ("{when.penalty.gp1 = 1, choice = [1]}", "space.override.lr depends on penalty: methods share it"),
    ("{when.depth.a = 1}", "'when' names exactly one of optimiser, n_critic, penalty"),
    ("{when.optimiser = 1}", "when.optimiser needs a domain for each value"),
    ("{when.optimiser.sgd = {cross = [1, 2]}, choice = [1]}", "no 'when' or 'cross' inside"),
    ('{when.optimiser.sgd = "published", choice = [1]}', "space.override.lr = 'published': only a method's own"),
]


@pytest.mark.parametrize(("value", "sentence"), LR)
def test_a_range_that_may_not_be_is_refused_with_its_key_value_and_rule(value, sentence):
    assert sentence in refusal(with_line(f"space.override.lr = {value}"))


LINES = [
    # unknown keys, at the top and inside, with the nearest known one
    ('notcie = "x"', "unknown key 'notcie': did you mean 'notice'? known here are budget, claims, confirmatory,"),
    ("interval = 3", "unknown key 'interval': known here are budget, claims, confirmatory, design, execution,"),
    ("budget.evaluation = 3", "unknown key 'budget.evaluation': did you mean 'evaluations'? known here are evalu"),
    ("execution.pakc = 1", "unknown key 'execution.pakc': did you mean 'pack'? known here are data, device, gpu, "),
    ("space.overide.lr = 1", "unknown key 'space.overide': did you mean 'override'? known here are override, preset"),
    # unknown names, nearest first
    ('methods = ["nss"]', "unknown loss in method 'nss': 'nss': choose from ns, ssl, FILE.py:NAME, "),
    ('methods = ["ns+gp2"]', "unknown part in method 'ns+gp2': 'gp2': choose from gp1, gp0, r2, "),
    ('tasks = ["digit"]', "unknown task 'digit': choose from digits, "),
    ('space.preset = "narow"', "unknown space.preset 'narow': choose from narrow, "),
    ("space.override.lrr = 1", "unknown hyperparameter in space.override: 'lrr': choose from lr, lr_d_ratio, "),
    ("variant.a.beta3 = 0.5", "unknown hyperparameter in variant.a: 'beta3': choose from beta2, beta1, "),
    (
        'methods = ["ns@ttr"]\nvariant.ttur.lr_d_ratio = 3',
        "unknown variant in method 'ns@ttr': 'ttr': choose from ttur",
    ),
    ('methods = ["ns@ttur"]', "unknown variant in method 'ns@ttur': 'ttur': choose from none: there is no"),
    ('methods = ["ns@"]', "unknown variant in method 'ns@': ''"),
    ('budget.unit = "steps"', 'budget.unit = "steps": must be one of generator_steps, discriminator_steps, updates'),
    ('design.kind = "sobl"', "design.kind = \"sobl\": input should be 'sobol', 'random', 'grid' or 'table'"),
    ('execution.device = "tpu"', "execution.device = \"tpu\": input should be 'auto', 'cpu' or 'cuda'"),
    ('space.override.optimiser = "adan"', 'space.override.optimiser = "adan": must be one of adam, rmsprop, sgd'),
    # methods that make no sense
    ('methods = ["ns", "mm", "ns"]', "methods names 'ns' twice"),
    (
        'methods = ["wgan"]',
        "method 'wgan': needs a device that bounds the discriminator's slope: choose from wgan+clip,",
    ),
    (
        'methods = ["wgan+gp1+smooth"]',
        "method 'wgan+gp1+smooth': label smoothing moves the target of a cross-entropy, and wgan is none: use it with "
        "mm, ns, ssl",
    ),
    (
        'methods = ["wgan+gp0-prob"]',
        "method 'wgan+gp0-prob': gp0-prob acts on the discriminator's probability, and wgan has none",
    ),
    (
        'methods = ["ns+witness"]',
        "method 'ns+witness': witness is for mmd-rbf, mmd-rq, mmd-energy: ns has no witness function",
    ),
    (
        'methods = ["ns+gp1+minibatch"]',
        "method 'ns+gp1+minibatch': minibatch discrimination lets samples see each other, as batch normalisation "
        "would, and gp1 takes the gradient of each sample by itself",
    ),
    ('methods = ["ns+ema+average"]', "method 'ns+ema+average': ema and average do not go together: each decides which"),
    ('methods = ["ns+fm+fm-l1"]', "fm and fm-l1 do not go together: each replaces the generator's loss"),
    ('methods = ["ns+simultaneous+extragradient"]', "simultaneous and extragradient do not go together: "),
    ('methods = ["ns+clip+sn"]', "clip and sn do not go together: spectral normalisation takes the scale"),
    (
        'methods = ["mm+fm"]',
        "method 'mm+fm': feature matching replaces the generator's loss, in which alone mm differs",
    ),
    ('methods = ["ns+r2+r1"]', "method 'ns+r2+r1': its parts have one order, write 'ns+r1+r2'"),
    ('methods = ["ns+ema+sn"]', "method 'ns+ema+sn': its parts have one order, write 'ns+sn+ema'"),
    ('methods = ["ns+gp1+r1"]', "method 'ns+gp1+r1' has 2 penalties, gp1 and r1: at most one goes"),
    ('methods = ["ns+gp1+gp1"]', "method 'ns+gp1+gp1' names a part twice"),
    ('tasks = ["ring8", "ring8"]', "tasks names 'ring8' twice"),
    ("methods = []", "methods = []: list should have at least 1 item"),
    ('tasks = "ring8"', 'tasks = "ring8": input should be a valid list'),
    # confirmatory pairs
    ('confirmatory = [["ns", "mm"]]', "unknown method in confirmatory pair ['ns', 'mm']: 'mm': choose from "),
    ('confirmatory = [["ns", "ns"]]', "confirmatory pair ['ns', 'ns'] compares a method with itself"),
    ('confirmatory = ["ns"]', 'confirmatory = ["ns"]: must be a list of pairs of methods'),
    # sizes
    ("design.points = 2097152", "design.points = 2097152: input should be less than or equal to 1048576"),
    ("design.points = 12", "design.points = 12: a sobol design needs a power of two, e.g. 8 or 16"),
    ("design.points = 0", "design.points = 0: input should be greater than 0"),
    ("design.points = true", "design.points = true: input should be a valid integer"),
    ("design.seeds = 0", "design.seeds = 0: input should be greater than 0"),
    ('design.seeds = "2"', 'design.seeds = "2": input should be a valid integer'),
    ("design.seed = -1", "design.seed = -1: input should be greater than or equal to 0"),
    ("budget.steps = 0", "budget.steps = 0: input should be greater than 0"),
    ("budget.steps = 1.5", "budget.steps = 1.5: input should be a valid integer"),
    ("budget.steps = 1e3", "input should be a valid integer, written without point and exponent: 1000"),
    ("budget.steps = 1e300", "budget.steps = 1e+300: input should be a valid integer"),
    ("budget.steps = 10000000000000", "input should be less than or equal to 1000000000000"),
    ("budget.evaluations = 0", "budget.evaluations = 0: input should be 'auto', or input should be greater than 0"),
    (
        "budget.evaluations = 5.0",
        "input should be 'auto', or input should be a valid integer, written without point and exponent: 5",
    ),
    ('budget.schedule = "latest"', "budget.schedule = \"latest\": input should be 'even' or 'late'"),
    ("execution.pack = 0", "execution.pack = 0: input should be 'auto', or input should be greater than 0"),
    (
        'execution.workers = "all"',
        "execution.workers = \"all\": input should be 'auto', or input should be a valid int",
    ),
    # designs that do not have what is given
    ('design.kind = "grid"', "design.points = 4: a grid design has no points"),
    ("design.levels = 3", "design.levels = 3: a sobol design has no levels"),
    ('design.table = "x.csv"', "design.kind = 'sobol' with design.table = 'x.csv': a table design names a file"),
    # structure
    ("space.override.n_critic = 0", "space.override.n_critic = 0: must be at least 1"),
    ("space.override.n_critic = 1.5", "space.override.n_critic = 1.5: must be a whole number"),
    ("space.override.n_critic = nan", "space.override.n_critic = NaN: must be finite"),
    (
        "space.override.n_critic = {choice = [1, 5]}",
        "space.override.n_critic changes the program: give one value or cr",
    ),
    ("space.override.n_critic = {cross = []}", "cross needs at least one value, got []"),
    ("variant.a.n_critic = {cross = [1, 5]}", "variant.a.n_critic = {cross = ...}: a variant takes one value"),
    ("variant.a.lr = -1", "variant.a.lr = -1: must be above 0"),
    ("space.override.penalty_weight = -1", "space.override.penalty_weight = -1: must be at least 0"),
    (
        "space.override.penalty_weight = {when.penalty.gp2 = 1, choice = [1]}",
        "unknown penalty in space.override.penalty_weight.when: 'gp2': choose from gp",
    ),
    # the name is a folder's
    ('name = "a/b"', 'name = "a/b": must begin with a letter or digit and hold only letters, digits, '),
    ('name = ".."', 'name = "..": must begin with a letter or digit and hold only letters, digits, '),
    ('name = "a\\n"', "must begin with a letter or digit"),
    ("name = 3", "name = 3: input should be a valid string"),
]


@pytest.mark.parametrize(("line", "sentence"), LINES)
def test_whatever_may_not_be_is_refused_in_one_sentence(line, sentence):
    assert sentence in refusal(with_line(line))


@pytest.mark.parametrize("key", ["name", "tasks", "methods", "budget.steps"])
def test_a_missing_key_is_named(key):
    text = "\n".join(line for line in FILE.splitlines() if not line.startswith(key))
    assert refusal(text) == f"{key} is missing"


@pytest.mark.parametrize(("right", "wrong"), [("budget.steps", "budget.step"), ("tasks", "task"), ("name", "nam")])
def test_a_key_that_is_missing_since_it_is_misspelt_is_named_as_it_is(right, wrong):
    text = "\n".join(wrong + line.removeprefix(right) if line.startswith(right) else line for line in FILE.splitlines())
    own = right.rpartition(".")[2]
    assert refusal(text).startswith(f"unknown key '{wrong}': did you mean '{own}'? known here are ")


def test_a_space_without_a_learning_rate_is_refused():
    assert refusal(with_line("space.override.lr = 1").replace("lr = 1", "beta1 = 0.5")).endswith(
        "space has no lr: give a preset or override.lr"
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty: start from examples/quickstart.toml"),
        (b" \n\n", "is empty: start from examples/quickstart.toml"),
        (b"name = tiny\n", r"is not TOML: .*line 1"),
        (b"\x89PNG\xff\x00", "cannot read the sweep file .*: not a UTF-8 text file"),
    ],
)
def test_a_file_that_is_no_sweep_file_is_refused(tmp_path, content, sentence):
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{re.escape(str(path))}.*{sentence}|{sentence}") as caught:
        read_sweep(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mark_at_the_beginning_of_a_file_is_no_fault(tmp_path):
    plain, marked = tmp_path / "plain.toml", tmp_path / "marked.toml"
    plain.write_text(FILE, encoding="utf-8")
    marked.write_text(FILE, encoding="utf-8-sig")
    assert marked.read_bytes()[:3] == b"\xef\xbb\xbf"
    assert read_sweep(marked) == read_sweep(plain)


def test_a_missing_file_and_a_directory_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the sweep file .*none\.toml: No such file"):
        read_sweep(tmp_path / "none.toml")
    with pytest.raises(UserError, match=r"cannot read the sweep file .*: Is a directory"):
        read_sweep(tmp_path)


DOMAINS = [
    (0.5, Fixed(0.5)),
    ("adam", Fixed("adam")),
    ({"uniform": [0, 1]}, Uniform(0.0, 1.0)),
    ({"log_uniform": [1e-3, 1]}, LogUniform(1e-3, 1.0)),
    ({"choice": [1, 2]}, Choice((1, 2))),
    ({"cross": ["adam", "sgd"]}, Cross(("adam", "sgd"))),
    ("published", Published()),
    (
        {"when": {"optimiser": {"sgd": {"uniform": [1, 2]}, "rmsprop": 3}}, "choice": [4, 5]},
        When("optimiser", {"sgd": Uniform(1.0, 2.0), "rmsprop": Fixed(3)}, Choice((4, 5))),
    ),
    ({"when": {"penalty": {"gp1": "published"}}}, When("penalty", {"gp1": Published()}, None)),
]


@pytest.mark.parametrize(("form", "domain"), DOMAINS)
def test_every_form_of_a_domain_is_read_and_written(form, domain):
    assert read_domain(form) == domain
    assert read_domain(write_domain(domain)) == domain


def round_trip(sweep):
    return parse_sweep(tomllib.loads(to_toml(sweep)), source="again.toml")


ROUND = [
    "",
    'design.kind = "random"',
    'space.preset = "lucic_wide"',
    'notice = "é \\U0001F600 \\u007f \\"quoted\\"\\nand a second line \\\\ "',
    'confirmatory = [["ns", "ns+gp1"]]',
    "variant.ttur.lr_d_ratio = 5",
    'variant."two words".lr = 1',
    "variant.none = {}",
    "execution.pack = 4",
    "space.override.n_critic = {cross = [1, 5]}",
    "space.override.beta1 = {uniform = [0, 1]}",
    "space.override.beta1 = {when.optimiser.sgd = {uniform = [0, 1]}, choice = [0.5]}",
    'space.override.penalty_weight = {when.penalty.gp1 = "published", log_uniform = [0.1, 10]}',
    "space.override.lr = {choice = [1e-300, 1e16, 123456789]}",
    'budget.schedule = "late"',
    'budget.evaluations = "auto"',
    "budget.evaluations = 1000000",
]


@pytest.mark.parametrize("line", ROUND)
def test_the_normalised_file_is_the_same_sweep(line):
    sweep = parse_sweep(tomllib.loads(with_line(line) if line else FILE), source="f.toml")
    assert round_trip(sweep) == sweep
    assert to_toml(round_trip(sweep)) == to_toml(sweep)


CLAIM = {"id": "c", "statement": "s", "source": "p", "methods": "ns", "direction": "lower"}
PRUNED = {"trials": 8, "batch": 2, "pruner": "median"}


@pytest.mark.parametrize(
    ("budget", "others", "evaluations", "schedule"),
    [
        # of ring8, whose evaluation takes as long as 20 steps or so
        ({"steps": 1000}, {}, 5, "late"),
        ({"steps": 3000}, {}, 15, "late"),
        ({"steps": 5000}, {}, 25, "even"),  # where late ones are even
        ({"steps": 4000, "unit": "updates"}, {}, 10, "late"),
        ({"steps": 1000}, {"tasks": ["manifold-d2"]}, 25, "even"),
        # as the file says
        ({"steps": 1000, "evaluations": "auto"}, {}, 5, "late"),
        ({"steps": 1000, "evaluations": 10}, {}, 10, "even"),
        ({"steps": 1000, "evaluations": 10, "schedule": "late"}, {}, 10, "late"),
        ({"steps": 1000, "evaluations": 30, "schedule": "late"}, {}, 30, "even"),
        ({"steps": 3}, {}, 3, "late"),
        ({"steps": 1000, "schedule": "late"}, {}, 5, "late"),
        ({"steps": 1000, "schedule": "even"}, {}, 25, "even"),
        # something looks at trials on their way
        ({"steps": 1000}, {"claims": [CLAIM | {"measures": ["rising"]}]}, 25, "even"),
        ({"steps": 1000}, {"claims": [CLAIM | {"measures": ["success"], "steps": 500}]}, 25, "even"),
        ({"steps": 1000}, {"claims": [CLAIM | {"measures": ["success"], "at": "best"}]}, 25, "even"),
        ({"steps": 1000}, {"claims": [CLAIM | {"measures": ["success"]}]}, 5, "late"),
        ({"steps": 1000, "schedule": "late"}, {"search": PRUNED, "execution": {"pack": 1}}, 25, "even"),
        ({"steps": 1000}, {"search": PRUNED, "execution": {"pack": 1}}, 25, "even"),
        ({"steps": 1000}, {"search": {"trials": 8}}, 5, "late"),
        ({"steps": 1000, "evaluations": 7}, {"claims": [CLAIM | {"measures": ["rising"]}]}, 7, "even"),
    ],
)
def test_evaluations_that_are_not_said_are_few_and_late_unless_something_looks_at_the_way(
    budget, others, evaluations, schedule
):
    raw = {"name": "a", "tasks": ["ring8"], "methods": ["ns"], "space": {"override": {"lr": 0.1}}}
    sweep = parse_sweep(raw | {"budget": budget} | others, source="f.toml")
    found = sweep.budget.of(sweep.tasks[0], 1)
    assert (found.evaluations, found.schedule) == (evaluations, schedule)
    assert round_trip(sweep).budget == sweep.budget
    assert ("schedule" in tomllib.loads(to_toml(sweep))["budget"]) == (sweep.budget.schedule == "late")


@pytest.mark.parametrize("design", ['kind = "grid"', 'kind = "grid"\nlevels = 4', 'kind = "table"\ntable = "x.csv"'])
def test_the_normalised_file_leaves_out_what_its_design_has_not(design):
    text = FILE.replace("design.points = 4", f"[design]\n{design}")
    sweep = parse_sweep(tomllib.loads(text), source="f.toml")
    assert round_trip(sweep) == sweep
    assert "design.points" not in to_toml(sweep)


POSITIVE = st.floats(1e-12, 1e12)
PAIRS = st.tuples(POSITIVE, POSITIVE).filter(lambda pair: pair[0] < pair[1]).map(list)
PLAIN = st.one_of(
    POSITIVE,
    st.builds(lambda pair: {"uniform": pair}, PAIRS),
    st.builds(lambda pair: {"log_uniform": pair}, PAIRS),
    st.builds(lambda values: {"choice": values}, st.lists(POSITIVE, min_size=1, max_size=3, unique=True)),
)
DEPENDENT = st.builds(
    lambda cases, rest: {"when": {"optimiser": cases}} | rest,
    st.dictionaries(st.sampled_from(["adam", "sgd"]), PLAIN, min_size=1),
    PLAIN.filter(lambda form: isinstance(form, dict)),
)
SWEEPS = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
        "tasks": st.lists(st.sampled_from(["manifold-d2", "ring8"]), min_size=1, unique=True),
        "methods": st.lists(st.sampled_from(["ns", "mm+r1", "wgan+clip", "ns@v"]), min_size=1, unique=True),
        "budget": st.fixed_dictionaries({"steps": st.integers(1, 10**9)}, optional={"unit": st.just("updates")}),
        "space": st.fixed_dictionaries({"override": st.fixed_dictionaries({"lr": PLAIN | DEPENDENT})}),
        "variant": st.fixed_dictionaries({"v": st.dictionaries(st.just("lr_d_ratio"), PLAIN)}),
    },
    optional={
        "notice": st.text(st.characters(codec="utf-8"), max_size=20),
        "design": st.fixed_dictionaries({"points": st.sampled_from([1, 2, 64]), "seeds": st.integers(1, 9)}),
        "execution": st.fixed_dictionaries({"pack": st.integers(1, 512) | st.just("auto")}),
    },
)


@given(SWEEPS)
@settings(max_examples=60, deadline=None)
def test_any_sweep_survives_being_written_and_read(raw):
    sweep = parse_sweep(raw, source="drawn")
    assert round_trip(sweep) == sweep


def test_a_preset_and_its_overrides_name_the_prior():
    assert parse_sweep(tomllib.loads(FILE), source="f").space.title == "own"
    text = FILE.replace("space.override.lr = {log_uniform = [1e-3, 1e-1]}", 'space.preset = "narrow"')
    sweep = parse_sweep(tomllib.loads(text), source="f")
    assert sweep.space.title == "narrow"
    assert sweep.space.domains["lr"] == LogUniform(1e-4, 1e-3)
    sweep = parse_sweep(tomllib.loads(text + "space.override.lr = 0.5\n"), source="f")
    assert sweep.space.title == "narrow with its own lr"
    assert sweep.space.domains["lr"] == Fixed(0.5)
    assert sweep.space.domains["beta1"] == Choice((0.0, 0.5))
