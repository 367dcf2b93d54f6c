"""The game of `digits`, told from the discriminator's side: does what it learned hold for real images it has not seen?

After the overfitting study of Thanh-Tung and Tran (2019), who watch a discriminator's accuracy on real images held
out. Beside it the slope of the discriminator's output, which explodes where it learns single images by heart.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from study.lazy import torch
from study.metrics.gaussian import Gaussian, frechet
from study.metrics.trials import all_finite_or_nan, by_rows, in_order
from study.tasks import digits_data
from study.tasks.base import Control, Snapshot, Task
from study.tasks.critics import ONE_LOGIT, lengths, show, show_both
from study.tasks.digits import digits, references
from study.tasks.digits_classifier import logits

if TYPE_CHECKING:
    from torch import Tensor


FAKES = 1024
"""Generated samples that an evaluation looks at."""
WITHIN = 50.0
"""The distance of generated samples from digits that there has to be something to tell apart: half of the start's, and
less than that of uniform noise, which is 60."""
SLOPES = 450
"""Training images, generated samples, and lines between them at one point each, where slopes are looked at."""
BINS = 10
"""Parts of the line from generated to real that mean slopes are taken over."""
CLASSES = 10
TURN = (5**0.5 - 1) / 2
"""Multiples of it modulo 1 are spread evenly, in whatever order the images come."""


class Slopes(NamedTuple):
    """Norms of the discriminator's gradient in its input: at training images, generated samples, and between them."""

    real: Tensor
    fake: Tensor
    line: Tensor


def positions(count: int) -> Tensor:
    """Where on the lines from generated (0) to real (1) the points between lie, (count,), float64."""
    return torch.arange(count, dtype=torch.float64) * TURN % 1


def evaluate(at: Snapshot) -> dict[str, Tensor]:
    """Metrics of discriminators on real images and on generated samples (c, 1024, 64), each (c,)."""
    samples, trials, batch = at.samples, len(at.samples), digits().batch

    def outputs(points: Tensor) -> Tensor:
        return show(at, at.critic, points.to(samples.device), trials=trials, batch=batch)[..., 0]

    data, distance = digits_data.load(), frechet_to_test(at)
    train, fake, slopes = _looked_at(at)
    labels = data.train.labels[:SLOPES].to(samples.device)
    heldout, kept = outputs(data.test.images), outputs(data.selection.images)
    ordered = in_order(fake)
    ranks = [ranked_above(real, ordered) for real in (train, heldout, kept)]
    values = {
        "rank_gap": _where_there_is_a_game(ranks[0] - ranks[1], distance),
        "rank_train": ranks[0],
        "rank_heldout_n445": ranks[1],
        "gap_logit": train.mean(-1) - heldout.mean(-1),
        "gap_accuracy": _positive(train) - _positive(heldout),
        "logit_train": train.mean(-1),
        "logit_heldout_n445": heldout.mean(-1),
        "logit_fakes_n1024": fake.mean(-1),
        "accuracy_train": _positive(train),
        "accuracy_heldout_n445": _positive(heldout),
        "accuracy_fakes_n1024": 1 - _positive(fake),
        **{f"slope_mean_{where}_n450": norms.mean(-1) for where, norms in slopes._asdict().items()},
        **{f"slope_max_{where}_n450": norms.amax(-1) for where, norms in slopes._asdict().items()},
        "slope_variation_classes_n450": _variation(slopes.real, labels, CLASSES),
        "slope_variation_line_n450": _variation(slopes.line, _bins(slopes.line), BINS),
        "fd_digitsnet_logits_n1024": distance,
        "selection": _where_there_is_a_game(ranks[0] - ranks[2], distance),
    }
    evidence = train, heldout, kept, fake, *slopes, samples
    return all_finite_or_nan(values, *evidence)


def _looked_at(at: Snapshot) -> tuple[Tensor, Tensor, Slopes]:
    """Outputs (c, n) at training images and at generated samples, and slopes at the first of both and between these."""
    trials, batch = len(at.samples), digits().batch
    real = digits_data.load().train.images.to(at.samples.device).expand(trials, -1, -1)
    samples = at.samples.to(real.dtype)
    t = positions(SLOPES).to(real.device, real.dtype)[:, None]
    line = torch.lerp(samples[:, :SLOPES], real[:, :SLOPES], t)
    outputs, slopes = [], []
    for x in (real, samples):
        first, slope = show_both(at, x[:, :SLOPES], trials=trials, batch=batch)
        others = show(at, at.critic, x[:, SLOPES:], trials=trials, batch=batch)
        outputs.append(torch.cat([first, others], 1)[..., 0])
        slopes.append(slope)
    slopes.append(show(at, at.slope, line, trials=trials, batch=batch))
    return outputs[0], outputs[1], Slopes(*map(lengths, slopes))


def ranked_above(real: Tensor, ordered: Tensor) -> Tensor:
    """How often (c,) one of the first outputs (c, n) is above one of the second (c, m), which are in order; ties half.

    The area under the ROC curve, which no scale and no constant in the outputs changes.
    """
    real = real.contiguous()
    below, up_to = (torch.searchsorted(ordered, real, right=right) for right in (False, True))
    return (below + up_to).double().mean(-1) / (2 * ordered.shape[-1])


def frechet_to_test(at: Snapshot) -> Tensor:
    """The Frechet distance (c,) of `digits` for a snapshot's samples (c, n, 64), which falls as n grows."""
    features = by_rows(logits, at.samples, native=at.native)
    real = references()
    moments = Gaussian(*(moment.to(features.device) for moment in real.logits))
    return 100 / real.logits_variance * frechet(features, moments, native=at.native)


def _where_there_is_a_game(gap: Tensor, distance: Tensor) -> Tensor:
    return torch.where(distance < WITHIN, gap.abs(), 1.0)


def _positive(logit: Tensor) -> Tensor:
    return (logit > 0).double().mean(-1)


def _bins(norms: Tensor) -> Tensor:
    return (positions(norms.shape[-1]) * BINS).long().to(norms.device)


def _variation(norms: Tensor, group: Tensor, groups: int) -> Tensor:
    """Standard deviation over mean (c,), with no correction for their number, of the groups' means of norms (c, n)."""
    means = torch.stack([norms[:, group == i].mean(-1) for i in range(groups)], -1)
    return means.std(-1, correction=0) / means.mean(-1).clamp(min=1e-12)


def digits_critic() -> Task:
    """The task `digits-critic`: data and networks are those of `digits`, without classes."""
    return replace(
        digits(),
        name="digits-critic",
        version=2,
        summary="the game of digits, judged by whether its discriminator rates unseen images as those it was shown",
        source="after Thanh-Tung and Tran (2019); data and networks as digits, metrics, threshold and anchors: ours",
        label=None,
        classes=1,
        rank=None,
        metrics=METRICS,
        primary="rank_gap",
        evaluation_samples=FAKES,
        evaluate=evaluate,
        looks_at_critic=True,
        losses=ONE_LOGIT,
        threshold=0.05,
        anchors=(0.013, 0.5),
        reasoning=REASONING,
        controls=CONTROLS,
    )


METRICS = (
    "rank_gap",
    "rank_train",
    "rank_heldout_n445",
    "gap_logit",
    "gap_accuracy",
    "logit_train",
    "logit_heldout_n445",
    "logit_fakes_n1024",
    "accuracy_train",
    "accuracy_heldout_n445",
    "accuracy_fakes_n1024",
    "slope_mean_real_n450",
    "slope_mean_fake_n450",
    "slope_mean_line_n450",
    "slope_max_real_n450",
    "slope_max_fake_n450",
    "slope_max_line_n450",
    "slope_variation_classes_n450",
    "slope_variation_line_n450",
    "fd_digitsnet_logits_n1024",
)

REASONING = (
    "How often a real image is rated above a generated one, among training images minus among images held out: what "
    "the discriminator knows of its images and not of digits. It is absolute, for to rate unseen images above those "
    "shown is no better. Ranks, because a difference of outputs or of accuracies changes with their scale and "
    "constant, which a loss leaves open (wgan, rpgan) or a penalty shrinks a hundredfold; gap_logit and gap_accuracy "
    "are there for comparison with other work, accuracy_* being at D = 1/2, which is an output of 0 and means nothing "
    "to losses but mm, ns and hinge. An untrained discriminator has nothing by heart, so where generated samples are "
    "still far from digits the value is 1. By chance of which images were held out, outputs that know nothing differ "
    "by 0.013 on average: score 1. The threshold is three standard deviations of that, below a fifth of the images "
    "known by heart. Score 0 is every image by heart under a perfect generator. slope_variation_* is the standard "
    "deviation over mean of mean slopes, of digits and of tenths of the lines from generated to training images."
)

CONTROLS = (
    Control(name="contrast", value=0.002, must="pass", why="rates images by their mean square"),
    Control(name="ink", value=0.017, must="pass", why="rates images by their mean"),
    Control(name="D = 1/2", value=0.0, must=None, why="nothing by heart, and nothing else either"),
    Control(name="a fifth by heart", value=0.1, must="fail", why="knows 180 training images, and else nothing"),
    Control(name="by heart", value=0.5, must="fail", why="rates training images above everything else"),
    Control(name="nearness", value=0.5, must="fail", why="rates images by how close the nearest training image is"),
    Control(name="contrast at the start", value=1.0, must="fail", why="the generator untrained: no game yet"),
)
"""Generated samples are fresh images, the selection split drawn with replacement, but for the last."""
