"""Real digits of 8 x 8 pixels stacked as red, green and blue: stacked MNIST, small enough for a laptop."""

from __future__ import annotations

from study.tasks.base import Control, Task
from study.tasks.digit_sets import DIGITS
from study.tasks.stacked import MODES, Stacked

SAMPLES = 2500
LIMITS = (0.4, 0.9)
"""Of the reverse KL of the modes and of the Frechet distance, each below the mildest control that it has to fail."""


def stacked_digits() -> Task:
    """The task `stacked-digits`; the data are read when it is sampled or evaluated, not before."""
    made = Stacked(DIGITS, SAMPLES, LIMITS)
    return Task(
        name="stacked-digits",
        version=3,
        summary="three handwritten digits of 8 x 8 pixels as red, green and blue: 1,000 modes; values in [-1, 1]",
        source="idea: Metz et al. (2017), unrolled GANs; protocol after PacGAN and VEEGAN; data as in digits",
        shape=(3, 8, 8),
        bounded=True,
        latent=32,
        batch=64,
        family="mlp",
        draws=3,
        sample=made.sample,
        label=made.label,
        classes=MODES,
        metrics=made.metrics,
        primary=made.metrics[0],
        evaluation_samples=SAMPLES,
        evaluation_steps=20,
        evaluate=made.evaluate,
        threshold=1.0,
        anchors=(0.560, 114.1),
        reasoning=REASONING,
        controls=CONTROLS,
    )


REASONING = (
    "Two numbers decide, the worse of them over its limit, because each is blind to what the other sees. The reverse "
    "KL in nats of the classifier's modes to the uniform distribution, as for stacked MNIST, sees modes that are "
    "missing or rare, also where no channel or pair of channels is wrong (even sums), and passes a Gaussian fitted to "
    "pixels. The Frechet distance between all 30 logits and the test split's, in hundredths of their variance, sees "
    "how digits look and lets even sums pass. The limits, 0.4 nats and 0.9, lie below the same mildest control for "
    "both, no 8 in any channel: 0.473 nats (sd 0.009) and 1.15 (sd 0.08). Of 2,500 samples of a perfect sampler the KL "
    "is 0.223 (sd 0.009), more than 999 / 5,000, because two or three samples a mode are few; it shows 918 modes. A "
    "mean below 0.21 is an error. 5,000 samples would show 993 modes, but take more than a tenth of the time of short "
    "trials. Score 1 is the training set, score 0 a constant image. The classifier's errors put a few samples into "
    "missing modes: of 100 it sees 132. novelty_n64 is as in digits, of three channels each."
)

CONTROLS = (
    Control(name="memorised training set", value=0.560, must="pass", why="918 modes; novelty_n64 is 0"),
    Control(name="fresh images", value=0.567, must="pass", why="digits of the selection split"),
    Control(name="900 modes", value=0.751, must=None, why="a tenth missing; counted as 849"),
    Control(name="no red 8", value=0.783, must=None, why="one digit missing in one channel"),
    Control(name="no 8", value=1.289, must="fail", why="one digit missing in all channels: 729 modes, counted as 705"),
    Control(name="noisy images", value=1.667, must="fail", why="all modes, but noise of standard deviation 0.3"),
    Control(name="500 modes", value=1.942, must="fail", why="half of the modes missing; counted as 517"),
    Control(
        name="even sums", value=1.950, must="fail", why="half of the modes missing, and no single or pair of digits"
    ),
    Control(name="class means", value=2.395, must="fail", why="all modes, one image each"),
    Control(name="Gaussian fitted to pixels", value=7.69, must="fail", why="no digits, but 879 modes are seen"),
    Control(name="100 modes", value=5.66, must="fail", why="nine tenths missing; counted as 132"),
    Control(name="50 images copied", value=12.4, must="fail", why="fifty images in all; depends on which (sd 1.7)"),
    Control(name="uniform noise", value=66.98, must="fail", why="no structure at all, and 648 modes"),
    Control(name="grey images", value=93.5, must="fail", why="the same digit in all channels: 10 modes"),
    Control(name="constant image", value=114.1, must="fail", why="one mode"),
    Control(name="untrained generator", value=120.4, must="fail", why="the start"),
)
