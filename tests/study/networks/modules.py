"""The networks of images as torch.nn modules, written from the papers, with the parameters of a `Network` copied in."""

import torch
from torch import nn

ACTIVATIONS = {
    "relu": nn.ReLU(),
    "leaky_relu": nn.LeakyReLU(0.2),
    "tanh": nn.Tanh(),
}


class Softplus(nn.Module):
    """log(1 + exp(2 x + 2)) / 2 - 1."""

    def forward(self, x):
        return torch.log1p(torch.exp(2 * x + 2)) / 2 - 1


ACTIVATIONS["softplus"] = Softplus()


class Virtual(nn.Module):
    """Virtual batch normalisation of a batch that starts with n reference samples.

    A live sample's statistics are those of the reference batch with the sample added to it.
    """

    def __init__(self, n, norm):
        super().__init__()
        self.n, self.norm = n, norm

    def forward(self, x):
        reference, live = x[: self.n], x[self.n :]
        rows = [self.norm(torch.cat([row[None], reference]))[:1] for row in live]
        return torch.cat([self.norm(reference), *rows])


class Residual(nn.Module):
    def __init__(self, main, shortcut):
        super().__init__()
        self.main, self.shortcut = main, shortcut

    def forward(self, x):
        return self.main(x) + self.shortcut(x)


class Build:
    """Modules with parameters of given names copied in; every parameter must be used, and once."""

    def __init__(self, parameters, *, norm, activation, reference=0):
        self.parameters, self.left = parameters, set(parameters)
        self.kind, self.reference = norm, reference
        self.act = ACTIVATIONS[activation]

    def take(self, name):
        self.left.remove(name)
        return nn.Parameter(self.parameters[name])

    def biased(self, module, name):
        if f"bias{name}" in self.left and not hasattr(module, "normalises"):
            module.bias = self.take(f"bias{name}")
        return module

    def linear(self, name, *, bias=True):
        weight = self.take(f"weight{name}")
        module = nn.Linear(*weight.shape, bias=False)
        module.weight = nn.Parameter(weight.detach().T)
        return self.biased(module, name) if bias else module

    def conv(self, name, *, stride=1, transposed=False, bias=True):
        weight = self.take(f"weight{name}").detach()
        size, _, inputs, outputs = weight.shape
        kind, order = (nn.ConvTranspose2d, (2, 3, 0, 1)) if transposed else (nn.Conv2d, (3, 2, 0, 1))
        padding = {1: 0, 3: 1, 4: 1}[size]
        module = kind(inputs, outputs, size, stride=stride, padding=padding, bias=False)
        module.weight = nn.Parameter(weight.permute(order))
        return self.biased(module, name) if bias else module

    def norm(self, gain, bias, *, kind=None):
        kind = kind or self.kind
        if kind == "none":
            return nn.Identity()
        gain, bias = self.take(gain), self.take(bias)
        width = len(gain)
        module = {
            "batch": lambda: nn.BatchNorm2d(width, track_running_stats=False),
            "virtual": lambda: nn.BatchNorm2d(width, track_running_stats=False),
            "instance": lambda: nn.InstanceNorm2d(width, affine=True),
            "layer": lambda: nn.GroupNorm(1, width),
        }[kind]()
        module.weight, module.bias = gain, bias
        return Virtual(self.reference, module) if kind == "virtual" else module

    def hidden(self, name, product, *rest, kind=None):
        """A product, its normalisation (whose bias is the layer's) and the activation."""
        norm = self.norm(f"gain{name}", f"bias{name}", kind=kind)
        return nn.Sequential(product, *rest, norm, self.act)


def dcgan_generator(build, *, size, extra, bounded=True):
    """extra: convolutions of 3 x 3 after each of the hidden maps, the smallest first."""
    bias = build.kind == "none"
    maps = nn.Unflatten(1, (-1, 4, 4))
    layers = [build.hidden("0", build.linear("0", bias=bias), maps)]
    number, side = 1, 4
    for count in extra:
        if side > 4:
            name, number = str(number), number + 1
            layers.append(build.hidden(name, build.conv(name, stride=2, transposed=True, bias=bias)))
        for _ in range(count):
            name, number = str(number), number + 1
            layers.append(build.hidden(name, build.conv(name, bias=bias)))
        side *= 2
    assert side == size
    last = build.conv(str(number), stride=2, transposed=True)
    return nn.Sequential(*layers, last, nn.Tanh() if bounded else nn.Identity(), nn.Flatten())


def dcgan_discriminator(build, *, shape, extra):
    """extra: as of the generator, the largest maps first."""
    bias = build.kind == "none"
    layers, number = [nn.Unflatten(1, shape)], 0
    for count in extra:
        for stride in (2, *[1] * count):
            name, number = str(number), number + 1
            first = number == 1
            product = build.conv(name, stride=stride, bias=bias or first)
            layers.append(build.hidden(name, product, kind="none" if first else None))
    return nn.Sequential(*layers, nn.Flatten(), build.linear(str(number)))


def resnet_block(build, name, resampling):
    def norm(letter):
        return build.norm(f"gain{name}{letter}", f"shift{name}{letter}")

    up = nn.Upsample(scale_factor=2, mode="nearest") if resampling == "double" else nn.Identity()
    down = nn.AvgPool2d(2) if resampling == "halve" else nn.Identity()
    main = [norm("a"), build.act, up, build.conv(f"{name}a"), norm("b"), build.act, build.conv(f"{name}b"), down]
    shortcut = [] if resampling == "keep" else [up, build.conv(f"{name}s"), down]
    return Residual(nn.Sequential(*main), nn.Sequential(*shortcut))


def resnet_generator(build, *, size, bounded=True):
    layers, side, number = [build.linear("0"), nn.Unflatten(1, (-1, 4, 4))], 4, 1
    while side < size:
        layers.append(resnet_block(build, str(number), "double"))
        side, number = 2 * side, number + 1
    layers += [build.norm(f"gain{number}", f"shift{number}"), build.act, build.conv(str(number))]
    return nn.Sequential(*layers, nn.Tanh() if bounded else nn.Identity(), nn.Flatten())


def resnet_discriminator(build, *, shape, plan):
    first = Residual(
        nn.Sequential(build.conv("0a"), build.act, build.conv("0b"), nn.AvgPool2d(2)),
        nn.Sequential(nn.AvgPool2d(2), build.conv("0s")),
    )
    blocks = [resnet_block(build, str(i + 1), resampling) for i, resampling in enumerate(plan)]
    end = [build.act, nn.AdaptiveAvgPool2d(1), nn.Flatten(), build.linear(str(len(plan) + 1))]
    return nn.Sequential(nn.Unflatten(1, shape), first, *blocks, *end)
