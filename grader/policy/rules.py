"""What is forbidden: names that no exercise allows, those that one exercise forbids, and what is off limits.

Off limits is what could look at, or get round, the watching of what runs: frames, the garbage collector, other threads,
foreign memory, PyTorch's dispatch modes, changes to PyTorch itself. It is a list of things that no answer to these
exercises has a use for; ``math``, ``functools``, ``dataclasses``, ``einops`` and the like are free.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


ALWAYS = _set(  # families, see `is_forbidden`
    "scaleddotproduct scaleddotattention multihead transformer flexattention flashattention efficientattention "
    "cudnnattention varlenattn"
)
KITS = _set(
    "allennlp apex diffusers fairscale fairseq fairseq2 flash_attn flax haiku jax keras keras_nlp labml labml_nn "
    "lit_gpt liger_kernel litgpt llama llama_models local_attention mamba mamba_ssm megatron mlx peft "
    "performer_pytorch pytorch_transformers reformer_pytorch rotary_embedding_torch sentence_transformers "
    "tensorflow timm tinygrad torchtext torchtitan torchtune transformer_engine transformer_lens transformers trl "
    "unsloth vllm x_transformers xformers"
)
FORBIDDEN_MODULES = _set("torch.nn.modules.transformer")  # with helpers whose own names say nothing
OFF_LIMITS = _set(
    "grader solutions gc ctypes _ctypes cffi builtins.__builtins__ builtins.__loader__ builtins.__spec__ "
    "importlib.reload importlib.util importlib.machinery importlib.abc importlib._bootstrap pkgutil runpy marshal "
    "pickle _pickle dill cloudpickle inspect.stack inspect.currentframe inspect.trace inspect.getmembers "
    "inspect.getouterframes inspect.getinnerframes sys._getframe sys._getframemodulename sys._current_frames "
    "sys.modules sys.settrace sys.setprofile sys.meta_path sys.path_hooks sys.monitoring threading _thread "
    "concurrent multiprocessing subprocess bdb pdb traceback.walk_stack torch._C torch.overrides "
    "torch.utils._python_dispatch torch.utils.cpp_extension torch.multiprocessing"
)
FREE = _set("torch._C._nn torch._C._VariableFunctions torch._C._special torch._C._linalg torch._C._fft")
OFF_LIMITS_FAMILIES = _set(
    "disabletorchfunction disablecurrentmodes torchfunctionmode torchdispatchmode torchfunctionstack torchdispatchstack"
)
OFF_LIMITS_ATTRIBUTES = _set(
    "sys f_back f_globals f_locals f_builtins tb_frame gi_frame cr_frame ag_frame __globals__ __builtins__ "
    "__subclasses__ __code__ __closure__"
)
NAMESPACES = _set(  # handed around, they hide which of their functions is meant
    "torch torch.nn torch.nn.functional torch.special torch.ops torch.ops.aten torch._C._nn torch._VF torch._refs "
    "torch.nn.modules torch.nn.modules.activation torch.nn.modules.normalization"
)

_OPERATORS = ("aten", "prims", "prim", "quantized", "mkldnn", "onednn", "torch_attn")
_NO_METHODS = _set(  # functions and modules only: a method of that name is somebody's own
    "layernorm rmsnorm batchnorm groupnorm instancenorm gelu silu softmin gumbelsoftmax embedding linear dropout "
    "crossentropy"
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+[a-z]*")


def is_forbidden(name: str, forbids: Iterable[str]) -> bool:
    """Return whether a function of PyTorch is forbidden, always or by the exercise.

    A forbidden name covers its family, every name that has it as whole words: ``softmax`` covers ``torch.nn.Softmax``,
    ``log_softmax`` and the operators ``aten::_safe_softmax`` and ``aten::_softmax_backward_data``; ``layer_norm``
    covers ``LayerNorm`` and ``native_layer_norm``; ``exp`` does not cover ``expand``.

    Args:
        name: ``torch.nn.functional.softmax``, ``torch.Tensor.softmax``, ``aten::_softmax`` …
        forbids: Of the exercise. ``import torch`` forbids all of PyTorch.
    """
    return Rules.of(forbids).forbids(name)


@dataclass(frozen=True)
class Rules:
    """What one exercise forbids.

    Attributes:
        names: Bare names without ``_`` in small letters.
        modules: Modules that must not be imported.
    """

    names: frozenset[str]
    modules: frozenset[str]

    @classmethod
    def of(cls, forbids: Iterable[str]) -> Rules:
        """Read the entries of ``exercise.toml``."""
        return _read_rules(tuple(forbids))

    def forbids(self, name: str) -> bool:
        """Return whether a full name is that of a forbidden function, or of a forbidden module's."""
        root = "torch" if name.startswith(("aten::", "aten.")) else name.partition(".")[0]
        return root in self.modules or self.forbids_function(name)

    def forbids_function(self, path: str) -> bool:
        """Return whether a full name is that of a forbidden function.

        Those of the standard library never are, and a relative import brings something of one's own.
        """
        own = path.startswith(".") or path.partition(".")[0] in sys.stdlib_module_names
        within = any(prefix in FORBIDDEN_MODULES for prefix in prefixes(path))
        return not own and (within or _is_of_family(_leaf(path), ALWAYS | self.names))

    def forbids_method(self, name: str) -> bool:
        """Return whether a method of a tensor is forbidden."""
        squashed = _squash(name)
        return squashed in self.names and squashed not in _NO_METHODS

    def forbids_import(self, path: str) -> bool:
        """Return whether a module is another kit's, or one that the exercise does without."""
        return any(prefix in KITS or prefix in self.modules for prefix in prefixes(path))


def is_off_limits(path: str) -> bool:
    """Return whether a full name is out of bounds in every exercise."""
    if is_free(path):
        return False
    return any(prefix in OFF_LIMITS for prefix in prefixes(path)) or _is_of_family(_leaf(path), OFF_LIMITS_FAMILIES)


def is_free(path: str) -> bool:
    """Return whether a full name is a function although it lies where most things are off limits."""
    return any(prefix in FREE for prefix in prefixes(path))


@lru_cache(maxsize=64)
def _read_rules(forbids: tuple[str, ...]) -> Rules:
    modules = {entry.removeprefix("import ").strip() for entry in forbids if entry.startswith("import ")}
    names = {_squash(entry.rpartition(".")[2]) for entry in forbids if not entry.startswith("import ")}
    return Rules(frozenset(names | {name.removeprefix("native") for name in names} - {""}), frozenset(modules))


@lru_cache(maxsize=4096)
def _is_of_family(leaf: str, families: frozenset[str]) -> bool:
    """Return whether some words of ``native_layer_norm`` or ``LayerNorm``, put together, are one of ``families``."""
    if len(leaf) > 100:  # no name of PyTorch is that long
        return False
    words = [word.lower() for word in _WORD.findall(leaf)]
    runs = ("".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1))
    return any(run in families for run in runs)


def _squash(name: str) -> str:
    return name.replace("_", "").lower()


def _leaf(path: str) -> str:
    """Return the last part of a full name, an operator's without its overload; empty for operators of one's own."""
    parts = path.replace("::", ".").split(".")
    if parts[:2] == ["torch", "ops"]:
        parts = parts[2:]
    elif "::" not in path and parts[0] not in _OPERATORS:
        return parts[-1]
    return parts[1] if len(parts) > 1 and parts[0] in _OPERATORS else ""


def prefixes(path: str) -> Iterator[str]:
    """Yield ``a``, ``a.b`` and ``a.b.c`` for ``a.b.c``."""
    parts = path.split(".")
    return (".".join(parts[:count]) for count in range(1, min(len(parts), 8) + 1))
