"""A learner's file for the tests of the proxy: a bit of everything that code under a suite may do."""

import sys

import torch
from torch import Tensor, nn

calls = 0


class OddNumberError(ValueError):
    pass


class Unhappy(Exception):  # noqa: N818
    pass


# --- functions -----------------------------------------------------------------------------------------------------


def echo(value):
    return value


def scale(x, factor=2.0, *, shift=0.0):
    return x * factor + shift


def weigh(x, y):
    return (x * y.sin()).exp()


def two(x, y):
    return x * y, x + y**2


def first(x, y):
    return x * 2


def twice(x):
    y = x * 2
    return y, [y], {"again": y}


def top(x):
    return x.max(dim=-1)


def halves(parts, *, extra):
    return sum(part.sum() for part in parts) * extra


def detached(x):
    return x.detach() * 2


def identity(x):
    return x


def spin(x):
    return torch.polar(torch.ones_like(x), x)


def turn(z, x):
    return z * spin(x)


def strides(x):
    return list(x.stride()), x.is_contiguous()


def are_one(x, y):
    return x is y


def wants(x):
    return x.requires_grad, x.is_leaf, torch.is_grad_enabled()


def count():
    global calls  # noqa: PLW0603
    calls += 1
    return calls


def draw():
    return torch.randn(3)


def fresh():
    return torch.arange(3.0)


def slow_modules():
    return [name for name in ("sympy", "torch._dynamo", "torch.distributed.tensor") if name in sys.modules]


# --- functions that do what they should not ------------------------------------------------------------------------


def add_in_place(x):
    return x.add_(1)


def sort_a_part(x):
    x[1:].zero_()
    return x.sum()


def resize(x):
    x.unsqueeze_(0)
    return x * 2


def odd(n):
    if n % 2:
        raise ValueError(f"{n} is odd")  # here
    return torch.ones(n)


def odd_in_my_own_words(n):
    raise OddNumberError(n)


def unhappy():
    raise Unhappy("leave me")


def divide(n):
    return 1 / n


def look_up(name):
    return {}[name]


def leave():
    raise SystemExit(3)


def interrupt():
    raise KeyboardInterrupt


def unwritten():
    raise NotImplementedError


def talk_back():
    class RudeError(ValueError):
        def __str__(self):
            raise RuntimeError

    raise RudeError


def recurse(n):
    return recurse(n + 1)


def endless():
    knot = []
    knot.append(knot)
    return knot


def strange():
    return {"set": {1}, "sparse": torch.eye(2).to_sparse(), "object": object(), "function": echo}


class BadBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, gradient):
        raise ValueError("no way back")


def no_way_back(x):
    return BadBackward.apply(x)


# --- functions for the trace ---------------------------------------------------------------------------------------


def loop(x):
    return torch.stack([row.exp() for row in x])


def at_once(x):
    return torch.exp(x)


def outer(x):
    return (x[:, None] * x[None, :]).sum()


def many(x, n):
    for _ in range(n):
        x = x + 1
    return x


def index_with_new(x):
    return x[torch.arange(2)]


def index_a_new_one(i):
    return torch.arange(8.0)[i]


def embed_in_new(i):
    return nn.functional.embedding(i, torch.ones(8, 2))


def multiply_new(x):
    return x @ torch.ones(x.shape[-1], 2)


def follow(x):
    return x @ torch.ones(x.shape[-1], 2, device=x.device) + torch.zeros_like(x[..., :2])


def to_cpu(x):
    return x.cpu() * 2


def looks_at_a_value(x):
    made = torch.tensor([7], device=x.device)  # from Python's numbers, which must be there afterwards
    return x * 2 if x.sum().item() >= 0 and made.item() == 7 else x[0]


# --- modules -------------------------------------------------------------------------------------------------------


class Affine(nn.Module):
    def __init__(self, size: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(size) * 2)
        self.bias = nn.Parameter(torch.ones(size)) if bias else None
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("cache", torch.arange(3.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        y = x @ self.weight.T
        y = y if self.bias is None else y + self.bias
        return y * 10 if self.training else y

    def step(self, x: Tensor, *, times: int) -> Tensor:
        for _ in range(times):
            x = x @ self.weight
        return x

    @torch.no_grad()
    def reset(self) -> None:
        self.weight.fill_(3.0)

    def size(self) -> int:
        return len(self.weight)

    def itself(self):
        return self


class Block(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.inner = Affine(size)
        self.layers = nn.ModuleList(nn.Linear(size, size, bias=False) for _ in range(2))
        for number, layer in enumerate(self.layers):
            nn.init.constant_(layer.weight, 0.1 * (number + 1))

    def forward(self, x):
        x = self.inner(x)
        for layer in self.layers:
            x = layer(x)
        return x, self.inner.seen


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight
        nn.init.constant_(self.embed.weight, 0.5)

    def forward(self, tokens):
        return self.head(self.embed(tokens))


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.base = nn.Parameter(torch.ones(2), requires_grad=False)
        self.gain = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return x * self.base * self.gain


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = None

    def forward(self, x):
        if self.weight is None:
            self.weight = nn.Parameter(torch.full((x.shape[-1],), 3.0))
        return x * self.weight


class Quiet(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def train(self, mode=True):
        self.training = mode  # and no `return self`

    def forward(self, x):
        return x * self.weight * (2 if self.training else 1)


class Restless(nn.Module):
    """Its parameters change in ways that leave no version behind."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.bias = nn.Parameter(torch.zeros(2))

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "training" and "bias" in self._parameters:
            self.bias.data.add_(1)

    def merge(self):
        self.weight.data += 1

    def exchange(self):
        self.weight.data = self.weight.data * 3

    def freeze(self):
        self.bias.requires_grad_(False)

    def forward(self, x):
        return x * self.weight + self.bias


class Switched(nn.Module):
    """Its parameter follows a switch that is a property."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    @property
    def training(self):
        return self.__dict__.get("mode", True)

    @training.setter
    def training(self, mode):
        self.__dict__["mode"] = mode
        if "weight" in self.__dict__.get("_parameters", ()):
            self.weight.data.mul_(2)

    def forward(self, x):
        return x * self.weight


def tame(x):
    """Put numbers for what is none, in place."""
    for odd, number in ("inf", 3.4028234663852886e38), ("-inf", -3.4028234663852886e38), ("nan", 0.0):
        x.masked_fill_(x.isnan() if odd == "nan" else x == float(odd), number)


def is_one(x, y, *, z):
    y += 1
    return x is z


def make_affine(size):
    return Affine(size)


def make_pair(size):
    return Affine(size), Affine(size)


@torch.no_grad()
def halve(module):
    for parameter in module.parameters():
        parameter.div_(2)


def run(module, x):
    return module(x)
