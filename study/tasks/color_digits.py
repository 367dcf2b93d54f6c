"""Real digits of 8 x 8 pixels in a random colour."""

from __future__ import annotations

from study.tasks.base import Control, Task
from study.tasks.digit_sets import CLASSES, DIGITS
from study.tasks.tinted import Tinted

SAMPLES = 4096
FEW = 1024
"""Samples that the metrics beside the primary one look at."""


def color_digits() -> Task:
    """The task `color-digits`; the data are read when it is sampled or evaluated, not before."""
    made = Tinted(DIGITS, SAMPLES, FEW)
    return Task(
        name="color-digits",
        version=2,
        summary="handwritten digits of 8 x 8 pixels, each in a colour of its own, on black; values in [-1, 1]",
        source="idea: Color MNIST of Fedus et al. (2018), whose construction is not known; data as in digits",
        shape=(3, 8, 8),
        bounded=True,
        latent=16,
        batch=64,
        family="mlp",
        draws=2,
        sample=made.sample,
        label=made.label,
        classes=CLASSES,
        rank=made.rank,
        metrics=made.metrics,
        primary=made.metrics[0],
        evaluation_samples=SAMPLES,
        evaluation_steps=25,
        evaluate=made.evaluate,
        threshold=0.75,
        anchors=(0.39, 103.0),
        reasoning=REASONING,
        controls=CONTROLS,
    )


REASONING = (
    "A Frechet distance between the classifier's logits for the three channels, 30 numbers together, in hundredths of "
    "their total variance: channels rather than brightness, because what makes a colour is how channels go together, "
    "and one distance then sees missing digits, missing colours and digits of one colour each. The reference is 10,000 "
    "images of the test split in colours all round the circle. The threshold lies below the mildest control that must "
    "fail, images without the digit 8 (0.92, sd 0.09 of one evaluation). Score 1 is a perfect sampler of the training "
    "set, score 0 a constant image. kl_digits_n1024 is the reverse KL in nats of the classes of the brightest channel "
    "to uniform, 9 / 2048 = 0.004 of a perfect sampler and 0.1 where one is missing; colour_spread_n1024 the variance "
    "of images' colours over that of real ones, 0 for grey images; novelty_n128 is as in digits, of the brightest "
    "channel."
)

CONTROLS = (
    Control(name="memorised training set", value=0.39, must="pass", why="the best fit; novelty_n128 is 0"),
    Control(name="fresh images", value=0.35, must="pass", why="digits of the selection split in new colours"),
    Control(name="no 8", value=0.92, must="fail", why="one digit missing, the one it is least visible for"),
    Control(name="no 9", value=1.32, must="fail", why="one digit missing"),
    Control(name="no 3", value=3.46, must="fail", why="one digit missing, the one it is most visible for"),
    Control(name="six colours", value=1.03, must="fail", why="red, yellow, green, cyan, blue, magenta, none between"),
    Control(name="a sixth of the colours missing", value=2.13, must="fail", why="no hue from magenta to red"),
    Control(name="half of the colours", value=20.9, must="fail", why="hues from red to cyan"),
    Control(name="one colour", value=91.9, must="fail", why="red digits; colour_spread_n1024 is near 0"),
    Control(name="grey images", value=112.0, must="fail", why="digits without colour"),
    Control(name="each digit its colour", value=23.9, must="fail", why="all digits and ten colours, not all pairs"),
    Control(name="noisy images", value=1.55, must="fail", why="training images and noise of standard deviation 0.3"),
    Control(name="class means", value=1.67, must="fail", why="one image a digit, in all colours"),
    Control(name="50 images copied", value=11.1, must="fail", why="fifty images in all; depends on which (sd 2)"),
    Control(name="Gaussian fitted to pixels", value=7.3, must="fail", why="right mean and covariance of pixels"),
    Control(name="uniform noise", value=50.2, must="fail", why="no structure at all"),
    Control(name="constant image", value=103.4, must="fail", why="the training set's mean"),
    Control(name="untrained generator", value=109.0, must="fail", why="the start"),
    Control(name="one class only", value=135.0, must="fail", why="zeros and nothing else"),
)
