"""Reading the policy: what is reported, and what is nobody's business."""

from __future__ import annotations

import time

import pytest

from grader.policy import is_forbidden, read_policy

SOFTMAX = ("softmax", "log_softmax", "logsumexp", "logaddexp", "logcumsumexp")
NORMS = ("layer_norm", "rms_norm", "batch_norm", "group_norm", "instance_norm")
CALL, IMPORT, HIDDEN, OFF = "forbidden call", "forbidden import", "hidden name", "off limits"

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"  # what follows begins at line 4


def report(source, forbids=SOFTMAX, names=("softmax",)):
    return [(finding.rule, finding.name, finding.line) for finding in read_policy(source, names, forbids)]


REJECTED = {
    "plain function": ("def softmax(x, dim=-1):\n    return F.softmax(x, dim)", (CALL, "F.softmax", 5)),
    "function of torch": ("def softmax(x, dim=-1):\n    return torch.softmax(x, dim)", (CALL, "torch.softmax", 5)),
    "method": ("def softmax(x, dim=-1):\n    return x.softmax(dim)", (CALL, "x.softmax", 5)),
    "method of a result": ("def softmax(x):\n    return (x - x.max()).softmax(-1)", (CALL, "(…).softmax", 5)),
    "method over lines": (
        "def softmax(x):\n    return (\n        x\n        .softmax(-1)\n    )",
        (CALL, "x.softmax", 7),
    ),
    "unbound method": ("def softmax(x):\n    return torch.Tensor.softmax(x, -1)", (CALL, "torch.Tensor.softmax", 5)),
    "method of the type": ("def softmax(x):\n    return type(x).softmax(x, -1)", (CALL, "(…).softmax", 5)),
    "module": ("def softmax(x):\n    return nn.Softmax(-1)(x)", (CALL, "nn.Softmax", 5)),
    "module by its full path": (
        "def softmax(x):\n    return nn.modules.activation.Softmax(-1)(x)",
        (CALL, "nn.modules.activation.Softmax", 5),
    ),
    "module kept in self": (
        "class softmax(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.sm = nn.Softmax(-1)\n"
        "    def forward(self, x):\n        return self.sm(x)",
        (CALL, "nn.Softmax", 7),
    ),
    "base class": ("class softmax(nn.Softmax):\n    pass", (CALL, "nn.Softmax", 4)),
    "special function": (
        "def softmax(x):\n    return torch.special.softmax(x, -1)",
        (CALL, "torch.special.softmax", 5),
    ),
    "log-softmax": ("def softmax(x):\n    return F.log_softmax(x, -1).exp()", (CALL, "F.log_softmax", 5)),
    "method logsumexp": ("def softmax(x):\n    return (x - x.logsumexp(-1, True)).exp()", (CALL, "x.logsumexp", 5)),
    "a relative in the family": ("def softmax(x):\n    return torch.logaddexp2(x, x)", (CALL, "torch.logaddexp2", 5)),
    "import of the module": (
        "import torch.nn.functional as G\ndef softmax(x):\n    return G.softmax(x, -1)",
        (CALL, "G.softmax", 6),
    ),
    "import of the function": (
        "from torch.nn.functional import softmax as sm\ndef softmax(x):\n    return sm(x, -1)",
        (CALL, "sm (torch.nn.functional.softmax)", 6),
    ),
    "graded name is an import": ("from torch.nn.functional import softmax", (CALL, "softmax", 4)),
    "graded name is an alias": ("softmax = torch.softmax", (CALL, "softmax", 4)),
    "graded name by a star": ("from torch.nn.functional import *", (CALL, "softmax", 4)),
    "a star after one's own": (
        "def softmax(x):\n    return x\nfrom torch.nn.functional import *",
        (CALL, "softmax", 4),
    ),
    "star import": (
        "from torch import *\ndef attend(x):\n    return log_softmax(x, -1)\ndef softmax(x):\n    return attend(x)",
        (CALL, "log_softmax", 6),
    ),
    "from torch import": (
        "from torch import nn as layers\ndef softmax(x):\n    return layers.functional.softmax(x, -1)",
        (CALL, "layers.functional.softmax", 6),
    ),
    "helper of the transformer": (
        "from torch.nn.modules.transformer import _generate_square_subsequent_mask as mask\n"
        "def softmax(x):\n    return x + mask(len(x))",
        (CALL, "mask (torch.nn.modules.transformer._generate_square_subsequent_mask)", 6),
    ),
    "import inside": (
        "def softmax(x):\n    from torch.nn import functional\n    return functional.softmax(x, -1)",
        (CALL, "functional.softmax", 6),
    ),
    "alias of the module's": (
        "sm = F.softmax\ndef softmax(x):\n    return sm(x, -1)",
        (CALL, "sm (torch.nn.functional.softmax)", 6),
    ),
    "alias inside": (
        "def softmax(x):\n    f = torch\n    g = f.softmax\n    return g(x, -1)",
        (CALL, "g (torch.softmax)", 7),
    ),
    "alias in a class": (
        "class softmax:\n    act = F.softmax\n    def run(self, x):\n        return type(self).act(x, -1)",
        (CALL, "F.softmax", 5),
    ),
    "alias by a condition": (
        "def softmax(x, fast=True):\n    f = torch.softmax if fast else None\n    return f(x, -1)",
        (CALL, "torch.softmax", 5),
        (CALL, "f (torch.softmax)", 6),
    ),
    "walrus": (
        "def softmax(x):\n    return (f := torch.softmax)(x, -1)",
        (CALL, "torch.softmax", 5),
    ),
    "global alias": (
        "def setup():\n    global sm\n    sm = F.softmax\nsetup()\ndef softmax(x):\n    return sm(x, -1)",
        (CALL, "sm (torch.nn.functional.softmax)", 9),
    ),
    "handed on": (
        "import functools\nsm = functools.partial(F.softmax, dim=-1)\ndef softmax(x):\n    return sm(x)",
        (CALL, "F.softmax", 5),
    ),
    "a default": ("def softmax(x, f=F.softmax):\n    return f(x, -1)", (CALL, "F.softmax", 4)),
    "lambda": ("softmax = lambda x: F.softmax(x, -1)", (CALL, "F.softmax", 4)),
    "comprehension": ("def softmax(x):\n    return [F.softmax(row, -1) for row in x]", (CALL, "F.softmax", 5)),
    "helper of a helper": (
        "def a(x):\n    return F.softmax(x, -1)\ndef b(x):\n    return a(x)\ndef softmax(x):\n    return b(x)",
        (CALL, "F.softmax", 5),
    ),
    "a decorator that keeps it": (
        "kept = []\ndef keep(f):\n    kept.append(f)\n@keep\ndef a(x):\n    return F.softmax(x, -1)\n"
        "def softmax(x):\n    return kept[0](x)",
        (CALL, "F.softmax", 9),
    ),
    "code of the module": (
        "table = F.softmax(torch.ones(3), 0)\ndef softmax(x):\n    return table",
        (CALL, "F.softmax", 4),
    ),
    "else of the main guard": (
        "if __name__ == '__main__':\n    pass\nelse:\n    y = torch.ones(2).softmax(0)",
        (CALL, "(…).softmax", 7),
    ),
    "getattr": ("def softmax(x):\n    return getattr(F, 'softmax')(x, -1)", (CALL, "getattr(F, 'softmax')", 5)),
    "getattr of a sum": (
        "def softmax(x):\n    return getattr(F, 'soft' + 'max')(x, -1)",
        (CALL, "getattr(F, 'soft' + 'max') (torch.nn.functional.softmax)", 5),
    ),
    "getattr of a tensor": (
        "def softmax(x):\n    return getattr(x, 'softmax')(-1)",
        (CALL, "getattr(x, 'softmax')", 5),
    ),
    "getattr by a variable": (
        "def softmax(x):\n    end = 'max'\n    return getattr(torch, f'soft{end}')(x, -1)",
        (CALL, "getattr(torch, f'soft{end}') (torch.softmax)", 6),
    ),
    "getattr of a join": (
        "def softmax(x):\n    return getattr(torch, ''.join(['so', 'ftmax']))(x, -1)",
        (CALL, "getattr(torch, ''.join(['so', 'ftmax'])) (torch.softmax)", 5),
    ),
    "getattr hidden": ("def softmax(x, name):\n    return getattr(F, name)(x, -1)", (HIDDEN, "getattr(F, name)", 5)),
    "getattr backwards": (
        "def softmax(x):\n    return getattr(torch, 'xamtfos'[::-1])(x, -1)",
        (HIDDEN, "getattr(torch, 'xamtfos'[::-1])", 5),
    ),
    "vars": ("def softmax(x):\n    return vars(F)['softmax'](x, -1)", (CALL, "vars(F)['softmax']", 5)),
    "vars hidden": ("def softmax(x, name):\n    return vars(F)[name](x, -1)", (HIDDEN, "vars(F)", 5)),
    "dict": ("def softmax(x):\n    return F.__dict__['softmax'](x, -1)", (CALL, "F.__dict__['softmax']", 5)),
    "dict hidden": ("def softmax(x):\n    return list(F.__dict__.values())[7](x)", (HIDDEN, "F.__dict__", 5)),
    "getattribute": (
        "def softmax(x, name):\n    return object.__getattribute__(F, name)(x)",
        (HIDDEN, "F", 5),
        (HIDDEN, "object.__getattribute__", 5),
    ),
    "getattribute of a tensor": (
        "def softmax(x):\n    return x.__getattribute__('softmax')(-1)",
        (HIDDEN, "x.__getattribute__", 5),
    ),
    "module handed on": (
        (
            "def pick(module, name):\n    return getattr(module, name)\ndef softmax(x):\n"
            "    return pick(F, 'softmax')(x, -1)"
        ),
        (HIDDEN, "F", 7),
    ),
    "attrgetter": (
        "import operator\ndef softmax(x):\n    return operator.attrgetter('nn.functional.softmax')(torch)(x, -1)",
        (CALL, "nn.functional.softmax", 6),
        (HIDDEN, "torch", 6),
    ),
    "methodcaller": (
        "from operator import methodcaller\ndef softmax(x):\n    return methodcaller('softmax', -1)(x)",
        (CALL, "softmax", 6),
    ),
    "eval": ("def softmax(x):\n    return eval('F.softmax(x, -1)')", (CALL, "F.softmax", 5)),
    "exec hidden": ("def softmax(x, code):\n    exec(code)", (HIDDEN, "exec(code)", 5)),
    "eval by another name": ("run = eval\ndef softmax(x, code):\n    return run(code)", (HIDDEN, "run(code)", 6)),
    "globals": ("def softmax(x):\n    return globals()['F']", (HIDDEN, "globals()", 5)),
    "import_module": (
        "import importlib\ndef softmax(x):\n    return importlib.import_module('torch').softmax(x, -1)",
        (CALL, "(…).softmax", 6),
    ),
    "__import__": ("def softmax(x):\n    return __import__('torch').softmax(x, -1)", (CALL, "(…).softmax", 5)),
    "__import__ hidden": ("def softmax(x, name):\n    return __import__(name)", (HIDDEN, "__import__(name)", 5)),
    "operator": (
        "def softmax(x):\n    return torch.ops.aten._softmax.default(x, -1, False)",
        (CALL, "torch.ops.aten._softmax", 5),
    ),
    "operator, safe": (
        "def softmax(x):\n    return torch.ops.aten._safe_softmax(x, -1)",
        (CALL, "torch.ops.aten._safe_softmax", 5),
    ),
    "private function": (
        "def softmax(x):\n    return torch._C._nn.log_softmax(x)",
        (CALL, "torch._C._nn.log_softmax", 5),
    ),
    "subclass of a tensor": (
        "class softmax(torch.Tensor):\n    def go(self):\n        return self.softmax(-1)",
        (CALL, "self.softmax", 6),
    ),
    "own method elsewhere": (
        "class A:\n    def softmax(self):\n        return 0\ndef softmax(x):\n    return x.softmax(-1)",
        (CALL, "x.softmax", 8),
    ),
    "another library's": (
        "from scipy.special import softmax as s\ndef softmax(x):\n    return s(x)",
        (CALL, "s (scipy.special.softmax)", 6),
    ),
    "used before one's own": (
        "from torch import softmax\nt = softmax\nu = t(1)\ndef softmax(x):\n    return u",
        (CALL, "t (torch.softmax)", 6),
    ),
    "attention": (
        "def softmax(q, k, v):\n    return F.scaled_dot_product_attention(q, k, v)",
        (CALL, "F.scaled_dot_product_attention", 5),
    ),
    "attention module": ("def softmax(d):\n    return nn.MultiheadAttention(d, 2)", (CALL, "nn.MultiheadAttention", 5)),
    "attention function": (
        "def softmax(*a):\n    return F.multi_head_attention_forward(*a)",
        (CALL, "F.multi_head_attention_forward", 5),
    ),
    "transformer": ("def softmax(d):\n    return nn.Transformer(d)", (CALL, "nn.Transformer", 5)),
    "encoder layer": (
        "def softmax(d):\n    return nn.TransformerEncoderLayer(d, 2)",
        (CALL, "nn.TransformerEncoderLayer", 5),
    ),
    "attention operator": (
        "def softmax(*a):\n    return torch.ops.aten._scaled_dot_product_flash_attention(*a)",
        (CALL, "torch.ops.aten._scaled_dot_product_flash_attention", 5),
    ),
    "encoder operator": (
        "def softmax(*a):\n    return torch._transformer_encoder_layer_fwd(*a)",
        (CALL, "torch._transformer_encoder_layer_fwd", 5),
    ),
    "native operator": (
        "def softmax(*a):\n    return torch._native_multi_head_attention(*a)",
        (CALL, "torch._native_multi_head_attention", 5),
    ),
    "flex attention": (
        "from torch.nn.attention.flex_attention import flex_attention\ndef softmax(*a):\n    return flex_attention(*a)",
        (CALL, "flex_attention", 6),
    ),
    "a kit": ("import transformers", (IMPORT, "transformers", 4)),
    "a kit's part": ("from x_transformers.nn import A, B", (IMPORT, "x_transformers.nn", 4)),
    "a kit inside": ("def softmax(x):\n    import flash_attn as f\n    return f.f(x)", (IMPORT, "flash_attn", 5)),
    "a kit by name": ("import importlib\nm = importlib.import_module('xformers.ops')", (IMPORT, "xformers.ops", 5)),
    "the grader": ("from grader.judge import suite", (OFF, "grader.judge", 4)),
    "dispatch modes": (
        "from torch.utils._python_dispatch import _disable_current_modes",
        (OFF, "torch.utils._python_dispatch", 4),
    ),
    "function modes": ("def softmax(x):\n    with torch.overrides.X():\n        return x", (OFF, "torch.overrides", 5)),
    "switching it off": (
        "def softmax(x):\n    with torch._C.DisableTorchFunctionSubclass():\n        return x",
        (OFF, "torch._C", 5),
    ),
    "switching it off by a back door": (
        "from torch._tensor import _C as door\ndef softmax(x):\n    return door.DisableTorchFunction()",
        (OFF, "door.DisableTorchFunction", 6),
    ),
    "frames": ("import sys\ndef softmax(x):\n    return sys._getframe(1)", (OFF, "sys._getframe", 6)),
    "frames by inspect": (
        "import inspect\ndef softmax(x):\n    return inspect.currentframe()",
        (OFF, "inspect.currentframe", 6),
    ),
    "frames of an error": (
        "def softmax(e):\n    return e.__traceback__.tb_frame",
        (OFF, "e.__traceback__.tb_frame", 5),
    ),
    "globals of a function": ("def softmax(x):\n    return softmax.__globals__", (OFF, "softmax.__globals__", 5)),
    "garbage collector": ("import gc\ndef softmax(x):\n    return gc.get_objects()", (OFF, "gc", 4)),
    "foreign memory": ("import ctypes", (OFF, "ctypes", 4)),
    "another thread": ("from threading import Thread", (OFF, "threading", 4)),
    "modules": ("import sys\nm = sys.modules\ndef softmax(x):\n    return m['torch']", (OFF, "m", 7)),
    "changing PyTorch": ("def mine(x):\n    return x\ntorch.exp = mine", (OFF, "torch.exp", 6)),
    "changing PyTorch by setattr": ("setattr(torch.Tensor, 'exp', 1)", (OFF, "setattr(torch.Tensor, 'exp', 1)", 4)),
}


@pytest.mark.parametrize("case", REJECTED)
def test_a_use_is_reported_with_its_line(case):
    source, *expected = REJECTED[case]

    found = report(HEAD + source)

    assert found == expected


ACCEPTED = {
    "by hand": "def softmax(x, dim=-1):\n    e = (x - x.amax(dim, True)).exp()\n    return e / e.sum(dim, True)",
    "own name": "def softmax(x):\n    return x\ndef other(x):\n    return softmax(x)\ny = softmax(torch.ones(1))",
    "comment": "def softmax(x):\n    # F.softmax(x) would be too easy\n    return x",
    "docstring": 'def softmax(x):\n    """Like F.softmax(x) and x.softmax(-1)."""\n    return x',
    "string": "def softmax(x):\n    print('F.softmax')\n    raise ValueError('torch.softmax')",
    "parameter": "def softmax(x, softmax=None):\n    return softmax(x)",
    "local": "def softmax(x):\n    log_softmax = x.exp\n    return log_softmax()",
    "nested function": "def softmax(x):\n    def logsumexp(y):\n        return y\n    return logsumexp(x)",
    "own method": (
        "class softmax(nn.Module):\n    def softmax(self, x):\n        return x\n"
        "    def forward(self, x):\n        return self.softmax(x)"
    ),
    "own attribute": (
        "class softmax(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.softmax = Mine()\n"
        "    def forward(self, x):\n        return self.softmax(x)\nclass Mine(nn.Module):\n    pass"
    ),
    "own instance": (
        "class A:\n    def softmax(self, x):\n        return x\ndef softmax(x):\n    a = A()\n    return a.softmax(x)"
    ),
    "instance of the module's": (
        "class A:\n    def softmax(self, x):\n        return x\na = A()\ndef softmax(x):\n    return a.softmax(x)"
    ),
    "instance in self": (
        "class A:\n    def softmax(self, x):\n        return x\nclass softmax:\n"
        "    def __init__(self):\n        self.a = A()\n"
        "    def run(self, x):\n        return self.a.softmax(x)"
    ),
    "class method": (
        "class softmax:\n    @classmethod\n    def make(cls):\n        return cls.softmax()\n"
        "    @staticmethod\n    def softmax():\n        return 1"
    ),
    "inherited method": (
        "class A:\n    def softmax(self):\n        return 1\nclass B(A):\n    def run(self):\n"
        "        return super().softmax() + self.softmax()\nsoftmax = B"
    ),
    "unbound own method": (
        "class A:\n    def softmax(self):\n        return 1\ndef softmax(x):\n    return A.softmax(x)"
    ),
    "unused import": (
        "from torch.nn.functional import softmax as s, scaled_dot_product_attention\ndef softmax(x):\n    return x"
    ),
    "import that one's own replaces": (
        "from torch.nn.functional import softmax\ndef softmax(x):\n    return x\ndef two(x):\n    return softmax(x)"
    ),
    "unused alias": "reference = F.softmax\ndef softmax(x):\n    return x",
    "a self-test that nothing calls": (
        "def softmax(x):\n    return x\ndef test():\n    assert F.scaled_dot_product_attention and torch.softmax"
    ),
    "a self-test under the guard": (
        "def softmax(x):\n    return x\ndef test():\n    F.softmax(1)\nif __name__ == '__main__':\n"
        "    test()\n    F.softmax(2)"
    ),
    "a guard the other way round": "if '__main__' == __name__:\n    F.softmax(2)",
    "a class that nothing mentions": (
        "class Test:\n    def test(self):\n        return F.softmax(1)\ndef softmax(x):\n    return x"
    ),
    "type checking": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import transformers",
    "annotation": (
        "def softmax(x: nn.Softmax, y: 'F.softmax' = None) -> nn.MultiheadAttention:\n"
        "    z: nn.Softmax = x\n    return z"
    ),
    "isinstance": "def softmax(m):\n    return isinstance(m, (nn.Softmax, nn.Transformer))",
    "comparison of types": ("def softmax(m):\n    return type(m) is nn.Softmax or type(m) in (nn.Tanh, nn.Softmax)"),
    "what is allowed": (
        "def softmax(x):\n    return F.cross_entropy(F.silu(x), F.relu(x)) + F.gelu(x) + nn.Linear(1, 2)(x)"
    ),
    "norms": "def softmax(x):\n    return F.layer_norm(x, (1,)) + nn.RMSNorm(3)(x) + x.norm()",
    "a name with the letters": "def softmax(x):\n    return torch.special.expit(x) + F.softplus(x) + F.softsign(x)",
    "literal getattr": "def softmax(x):\n    return getattr(torch, 'exp')(x) + getattr(x, 'shape')[0]",
    "dynamic getattr of self": "class softmax:\n    def run(self, i):\n        return getattr(self, f'w{i}')",
    "dynamic getattr of an argument": "def softmax(model, names):\n    return [getattr(model, n) for n in names]",
    "setattr of self": (
        "class softmax:\n    def __init__(self, n):\n        for i in range(n):\n            setattr(self, f'w{i}', i)"
    ),
    "hasattr": "def softmax(x):\n    return hasattr(F, 'scaled_dot_product_attention') and hasattr(torch, 'x')",
    "dtype by name": "def softmax(x):\n    return x.to(getattr(torch, 'float' + '32'))",
    "vars of self": "class softmax:\n    def run(self):\n        return vars(self), self.__dict__",
    "model.eval": "def softmax(model):\n    model.eval()\n    return model.train()",
    "own eval": "def softmax(x):\n    def eval(y):\n        return y\n    return eval(x)",
    "compile of re and torch": "import re\np = re.compile('softmax')\n@torch.compile\ndef softmax(x):\n    return x",
    "standard library": (
        "import math, functools, itertools, copy, warnings, os, sys, inspect, collections, abc, typing\n"
        "def softmax(x):\n    return math.exp(1), sys.float_info, inspect.signature(softmax)"
    ),
    "numpy and einops": (
        "import numpy as np\nfrom einops import rearrange\ndef softmax(x):\n    return rearrange(x, 'a b -> b a')"
    ),
    "settings of torch": "torch.backends.cudnn.deterministic = True\ntorch.set_default_dtype(torch.float64)",
    "star of math": "from math import *\ndef softmax(x):\n    return exp(1) + logsumexp(2)",
    "register": (
        "class softmax(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.register_buffer('softmax', torch.ones(1))\n    def forward(self):\n"
        "        return self.softmax"
    ),
    "F as a width": "def softmax(x, F):\n    return x.view(F) + F.layer_norm(x)",
    "dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass Config:\n    softmax: bool = True\n"
        "def softmax(c: Config):\n    return Config().softmax"
    ),
    "custom function": (
        "class Exp(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x):\n"
        "        ctx.save_for_backward(x)\n        return x.exp()\nsoftmax = Exp.apply"
    ),
    "no grad": "@torch.no_grad()\ndef softmax(x):\n    return x",
    "own class of that name": (
        "class Transformer(nn.Module):\n    pass\nclass MultiheadAttention(nn.Module):\n    pass\n"
        "def softmax():\n    return Transformer(), MultiheadAttention()"
    ),
    "own function of that name": (
        "def scaled_dot_product_attention(q):\n    return q\ndef softmax(q):\n"
        "    return scaled_dot_product_attention(q)"
    ),
    "attribute transformer": (
        "class softmax(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.transformer = nn.ModuleList()\n    def forward(self, x):\n"
        "        return self.transformer, x.transformer"
    ),
    "relu imported": "from torch.nn.functional import relu, silu\ndef softmax(x):\n    return relu(x) + silu(x)",
    "names in __all__": "__all__ = ['softmax', 'log_softmax']",
    "deleting": "def softmax(x):\n    log_softmax = 1\n    del log_softmax",
    "namespaces shown": "print(torch)\nF\nprint(torch.__version__)",
    "getattr override": (
        "class softmax(nn.Module):\n    def __getattr__(self, name):\n        return super().__getattr__(name)"
    ),
    "relative import": "from .solution import MultiHeadAttention\ndef softmax(d):\n    return MultiHeadAttention(d)",
    "pattern": "def softmax(m):\n    match m:\n        case nn.Softmax():\n            return 1",
    "not Python": "def softmax(x:\n    return F.softmax(",
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_is_ones_own_or_cannot_matter_is_not_reported(case):
    assert report(HEAD + ACCEPTED[case]) == []


def test_the_tables_are_as_long_as_they_should_be():
    assert len(REJECTED) >= 40
    assert len(ACCEPTED) >= 40


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("F.layer_norm(x, (3,))", "F.layer_norm"),
        ("torch.layer_norm(x, (3,))", "torch.layer_norm"),
        ("nn.LayerNorm(3)(x)", "nn.LayerNorm"),
        ("torch.native_layer_norm(x)", "torch.native_layer_norm"),
        ("nn.BatchNorm1d(3)(x)", "nn.BatchNorm1d"),
        ("nn.SyncBatchNorm(3)(x)", "nn.SyncBatchNorm"),
        ("nn.RMSNorm(3)(x)", "nn.RMSNorm"),
        ("torch.ops.aten._fused_rms_norm(x)", "torch.ops.aten._fused_rms_norm"),
        ("nn.GroupNorm(1, 3)(x)", "nn.GroupNorm"),
        ("nn.InstanceNorm1d(3)(x)", "nn.InstanceNorm1d"),
    ],
)
def test_a_family_is_covered(line, name):
    source = f"{HEAD}def f(x):\n    return {line}"

    assert report(source, NORMS, ["f"]) == [(CALL, name, 5)]


def test_a_method_that_no_tensor_has_is_somebodys_own():
    assert report("def f(block, x):\n    return block.layer_norm(x)", NORMS, ["f"]) == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import torch", "torch"),
        ("import torch.nn as nn", "torch.nn"),
        ("from torch import nn", "torch"),
        ("from torch.nn.functional import *", "torch.nn.functional"),
        ("def f():\n    import torch", "torch"),
        ("t = __import__('torch')", "torch"),
    ],
)
def test_a_whole_module_can_be_forbidden(source, name):
    found = report(source, ["import torch"], ["f"])

    assert found == [(IMPORT, name, source.count("\n") + 1)]
    assert report(source, [], ["f"]) == []
    assert report("import math, torchmetrics", ["import torch"]) == []


def test_a_file_too_long_to_read_is_reported_as_such():
    assert report("x = [" + "1," * 110_000 + "]") == [(HIDDEN, "more code than can be read", None)]


def test_findings_are_sorted_and_said_once():
    source = (
        f"{HEAD}def softmax(x):\n    b = F.softmax(x, 0) + F.softmax(x, 1)\n    return torch.softmax(b, 0)\nimport gc"
    )

    assert report(source) == [(CALL, "F.softmax", 5), (CALL, "torch.softmax", 6), (OFF, "gc", 7)]


@pytest.mark.parametrize(
    "name",
    [
        "torch.nn.functional.softmax",
        "torch.softmax",
        "torch.Tensor.softmax",
        "torch.Tensor.log_softmax",
        "torch.special.softmax",
        "torch.nn.modules.activation.Softmax",
        "torch.nn.modules.activation.Softmax2d",
        "aten::_softmax",
        "aten::softmax.int",
        "aten._softmax.default",
        "aten::_safe_softmax",
        "aten::_softmax_backward_data",
        "aten::logsumexp.out",
        "torch.ops.aten.softmax.int",
        "torch.nn.functional.scaled_dot_product_attention",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_native_multi_head_attention",
        "aten::_transformer_encoder_layer_fwd",
        "torch.nn.modules.transformer.TransformerEncoder",
        "torch.nn.functional.multi_head_attention_forward",
    ],
)
def test_a_name_that_ran_is_forbidden(name):
    assert is_forbidden(name, SOFTMAX)


@pytest.mark.parametrize(
    "name",
    [
        "torch.nn.functional.cross_entropy",
        "torch.nn.functional.silu",
        "torch.nn.functional.layer_norm",
        "torch.Tensor.exp",
        "torch.exp",
        "aten::exp",
        "aten::bmm",
        "aten::native_layer_norm",
        "mine::softmax",
        "torch.ops.mine.softmax",
        "torch.nn.functional.softplus",
        "torch.Tensor.__getitem__",
        "",
    ],
)
def test_a_name_that_ran_is_allowed(name):
    assert not is_forbidden(name, SOFTMAX)


def test_entries_may_be_written_in_any_way():
    for entry in "layer_norm", "LayerNorm", "F.layer_norm", "native_layer_norm":
        assert is_forbidden("torch.nn.functional.layer_norm", [entry])
        assert is_forbidden("aten::native_layer_norm", [entry])
        assert is_forbidden("torch.nn.modules.normalization.LayerNorm", [entry])
    assert is_forbidden("torch.matrix_exp", ["exp"])
    assert not is_forbidden("torch.Tensor.expand", ["exp"])
    assert is_forbidden("torch.add", ["import torch"])
    assert is_forbidden("aten::add", ["import torch"])
    assert not is_forbidden("math.exp", ["import torch"])


@pytest.mark.parametrize(
    "source",
    [
        "a0 = F\n" + "".join(f"a{i + 1} = a{i}\n" for i in range(5000)) + "a5000.softmax(1)",
        "a = 'so'\n" + "".join("a = a + a\n" for _ in range(500)) + "getattr(F, a)",
        "def softmax(x):\n" + "".join(f"    x{i} = x{i + 1}.y\n" for i in range(3000)) + "    x0.softmax()",
        "a = F\n" + "".join(f"a = a.b if {i} else a.c\n" for i in range(3000)) + "a.softmax",
        "if 1: a = F\n" + "if 1: a = a.b\na = a.c\n" * 3000,
        "def softmax(a):\n" + "    a = a.b\n" * 5000 + "    a.c\n" * 5000,
        "class A(A): pass\nclass B(B, A): pass\nB().softmax()\nx = x\ny = z\nz = y\nz.softmax",
        "x = " + "a." * 150 + "softmax",
        "x = " + "-" * 150 + "1",
        "aA" * 5000 + "()",
        "F.\\\n" * 100 + "softmax",
    ],
    ids=range(11),
)
def test_hostile_sources_end_soon(source):
    begin = time.perf_counter()

    read_policy(HEAD + source, ["softmax"], SOFTMAX)

    assert time.perf_counter() - begin < 5
