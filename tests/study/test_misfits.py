import pytest

from study.methods import parse_method
from study.misfits import misfit
from study.tasks.table import get_task


@pytest.mark.parametrize(
    ("task", "method", "architecture", "reason"),
    [
        ("digits", "ns+gp1", (("norm_d", "batch"),), "batch normalisation in the discriminator lets samples see each"),
        ("digits", "ns", (("network", "dcgan"), ("norm_d", "batch")), "there is no layer to normalise"),
        ("digits", "ns+gp1", (("network", "random"), ("depth_d", 4), ("norm_d", "batch")), "batch norm"),
        ("digits", "ns", (("norm_d", "batch"),), None),
        ("digits", "ns+gp1", (("norm_d", "layer"),), None),
        ("digits", "ns+gp1", (("norm_g", "batch"),), None),
        ("digits", "ns+vbn", (("norm_g", "batch"),), "vbn takes the place of the generator's normalisation"),
        ("digits", "ns+vbn", (("norm_g", "layer"),), "vbn takes the place of the generator's normalisation"),
        ("digits", "ns+vbn", (("norm_g", "none"),), None),
        ("digits", "ns", (("norm_g", "instance"),), "instance normalisation needs maps"),
        ("ring8", "ns", (("network", "dcgan"),), "it needs images of (channels, s, s), s a power of two from 8"),
        ("ring8", "ns", (("network", "mlp"), ("depth_g", 4), ("activation_d", "softplus")), None),
        ("manifold-d2", "ns", (("width_g", 32),), "the task measures its own networks' parameters: width_g cannot"),
        ("manifold-d2", "ns", (("network", "mlp"),), "the task measures its own networks' parameters: network cannot"),
        ("manifold-d2", "ns", (("depth_d", 3), ("width_d", 32)), None),  # of which nothing is measured
        ("finite", "ns", (("width_d", 32),), "the task measures its own networks' parameters: width_d cannot"),
        ("manifold-d2", "ns+cond", (), "cond needs classes, and the task has none"),
        ("ring8-sequential", "ns+cond", (), "cond needs classes, the same throughout"),
        ("digits", "ns+cond", (("network", "dcgan"),), None),
        ("digits", "zerosum", (), "zerosum is for games without data, and digits has data: write wgan with a penalty"),
        ("digits-ssl", "ns", (), "digits-ssl is for ssl"),
        ("digits-ssl", "ssl", (), None),
        ("digits-critic", "ns+mix", (), "the task measures one network's parameters or outputs, and mix has several"),
        ("dirac", "ns+sn", (), "sn leaves a discriminator of one weight nothing but its sign"),
    ],
)
def test_what_does_not_go_together_is_told_with_the_reason(task, method, architecture, reason):
    found = misfit(get_task(task), parse_method(method), architecture)
    assert found is None if reason is None else found is not None and reason.lower() in found.lower()
