"""Counting Llama's parameters

How large is a Llama, and of what? Write down the shape of every weight, count the parameters, and work out what the
cache of keys and values takes. It is all arithmetic, in plain Python.

The weights have the names of the published checkpoints. Outside of the layers:

    tok_embeddings.weight       a row of dim numbers for each of the vocab_size tokens
    norm.weight                 the gain of the last norm, dim numbers
    output.weight               the matrix from dim to vocab_size, a weight of its own

and in each layer, with i counted from 0:

    layers.{i}.attention_norm.weight, layers.{i}.ffn_norm.weight                        gains of the norms, dim numbers
    layers.{i}.attention.wq.weight                                                      from dim to H * K
    layers.{i}.attention.wk.weight, layers.{i}.attention.wv.weight                      from dim to G * K, each
    layers.{i}.attention.wo.weight                                                      from H * K to dim
    layers.{i}.feed_forward.w1.weight, layers.{i}.feed_forward.w3.weight                from dim to F, each
    layers.{i}.feed_forward.w2.weight                                                   from F to dim

H is the number of query heads (n_heads), G that of key/value heads (n_kv_heads), and K = dim / H the width of a head,
which may be odd here. The hidden width F is two thirds of 4 * dim, rounded down; times ffn_dim_multiplier, as a product
of Python floats, and rounded down, if there is one; rounded up to a multiple of multiple_of.

Rules, besides those in the docstrings below:

- A matrix from a to b has the shape (b, a), as nn.Linear(a, b) keeps it; a gain of dim numbers has the shape (dim,).
- There are no biases and no other weights, and none for the positions: no rope.freqs.
- All numbers are Python ints, all names are strings. The order of the names is up to you.
- A call is right whatever was called before: each call returns a new dict.
- Sizes and counts below 1 raise ValueError, and so does a number of heads that does not divide: n_heads must divide
  dim, and n_kv_heads must divide n_heads. The multiplier is not checked.
- No PyTorch: torch must not be imported.

Not asked for: multipliers of 0 or below, or so small that no hidden width is left.

Sources: Touvron et al. 2023, *Llama 2*, arXiv:2307.09288, section 2.2 and appendix A.2.1; the class ModelArgs and the
layers in model.py of its reference code.
"""

import math


def parameter_shapes(
    dim: int,
    n_layers: int,
    n_heads: int,
    vocab_size: int,
    n_kv_heads: int | None = None,
    multiple_of: int = 256,
    ffn_dim_multiplier: float | None = None,
) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight.

    Args:
        dim: Width of the model.
        n_layers: Number of layers.
        n_heads: Number H of query heads.
        vocab_size: Number of tokens in the vocabulary.
        n_kv_heads: Number G of key/value heads; as many as query heads if it is None.
        multiple_of: The hidden width is a multiple of this number.
        ffn_dim_multiplier: Factor for the hidden width; None for none.

    Returns:
        Name of the weight -> its shape.

    Raises:
        ValueError: If a size or count is below 1, or a number of heads does not divide.
    """
    raise NotImplementedError


def parameter_count(
    dim: int,
    n_layers: int,
    n_heads: int,
    vocab_size: int,
    n_kv_heads: int | None = None,
    multiple_of: int = 256,
    ffn_dim_multiplier: float | None = None,
) -> int:
    """Return the number of parameters in all weights together.

    Args:
        dim: See ``parameter_shapes``, here and below.
        n_layers: Number of layers.
        n_heads: Number of query heads.
        vocab_size: Number of tokens in the vocabulary.
        n_kv_heads: Number of key/value heads; as many as query heads if it is None.
        multiple_of: The hidden width is a multiple of this number.
        ffn_dim_multiplier: Factor for the hidden width; None for none.

    Returns:
        The count; for Llama 2 7B (4096, 32, 32, 32000) it is 6738415616.

    Raises:
        ValueError: As ``parameter_shapes``.
    """
    raise NotImplementedError


def kv_cache_bytes(
    n_layers: int, n_kv_heads: int, head_dim: int, batch: int, length: int, bytes_per_value: int = 2
) -> int:
    """Return how many bytes the keys and the values of all tokens take.

    Every layer keeps a key and a value of head_dim numbers for each of its key/value heads, for each token of each
    sequence.

    Args:
        n_layers: Number of layers.
        n_kv_heads: Number of key/value heads.
        head_dim: Numbers in one key, and in one value.
        batch: Number of sequences.
        length: Tokens in each sequence.
        bytes_per_value: Bytes that one number takes; 2 in float16 or bfloat16.

    Returns:
        Bytes, of keys and values together.

    Raises:
        ValueError: If an argument is below 1.
    """
    raise NotImplementedError
