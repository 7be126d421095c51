"""Self-attention weights for all tokens, without parameters (Raschka, ch. 3.3)

Self-attention in its simplest form: no queries, keys and values yet, and nothing to train. Each token is compared with
every token, itself included, and gets a context vector: the average of all tokens, in which those that are like it
count more. Three steps, one function each:

    scores  = x x^T                         every dot product of two tokens, (T, T)
    weights = softmax of each row           row i says how much token i takes from each token, (T, T)
    context = weights x                     row i is the average of all tokens by row i of the weights, (T, D)

Letters: T tokens, D features of a token.

The chapter's example has six tokens of three features,

    0.43 0.15 0.89      0.55 0.87 0.66      0.57 0.85 0.64      0.22 0.58 0.33      0.77 0.25 0.10      0.05 0.80 0.55

and prints, among others, the scores of the first token, the weights of the second and its context vector:

    0.9995 0.9544 0.9422 0.4753 0.4576 0.6310
    0.1385 0.2379 0.2333 0.1240 0.1082 0.1581
    0.4419 0.6515 0.5683

Rules, besides those in the docstrings:

- The scores are plain dot products: they are not divided by anything.
- Each function works by itself, on any numbers: weights may come from elsewhere, and scores need not be symmetric.
- Results have the dtype (float32, float64 or bfloat16) and the device of the inputs. Compute in that dtype or in a more
  precise one.
- Gradients flow to all inputs. Inputs are never modified, and they may have any strides.
- A call is right whatever was called before.
- No loop over tokens (the chapter begins with one): the number of tensor operations does not grow with T.
- Not allowed: F.scaled_dot_product_attention, nn.MultiheadAttention, F.multi_head_attention_forward, nn.Transformer*,
  and other libraries' attention. All else of PyTorch is allowed, torch.softmax included.

Not asked for: leading dimensions, empty inputs, -inf or NaN among the numbers, masks.

Source: Sebastian Raschka 2024, *Build a Large Language Model (From Scratch)*, section 3.3.
"""

import torch
from torch import Tensor


def attention_scores(x: Tensor) -> Tensor:
    """Return the dot product of every pair of tokens.

    Args:
        x: Tokens, shape (T, D). Not modified.

    Returns:
        Shape (T, T): the number in row i and column j is the dot product of tokens i and j, not scaled.
    """
    ### BEGIN SOLUTION
    return x @ x.T  # (T, D) @ (D, T) -> (T, T)
    ### END SOLUTION


def attention_weights(scores: Tensor) -> Tensor:
    """Return the softmax of each row of the scores.

    Args:
        scores: Any finite numbers, shape (T, T), also of many thousands, above 0 or below. Not modified.

    Returns:
        Shape (T, T). No weight is negative, and every row sums to 1.
    """
    ### BEGIN SOLUTION
    return torch.softmax(scores, dim=-1)
    ### END SOLUTION


def context_vectors(weights: Tensor, x: Tensor) -> Tensor:
    """Return the weighted sum of all tokens for each token.

    Args:
        weights: Shape (T, T): row i holds the weights of token i. Used as they are. Not modified.
        x: Tokens, shape (T, D). Not modified.

    Returns:
        Shape (T, D): row i is the sum over j of ``weights[i, j]`` times token j.
    """
    ### BEGIN SOLUTION
    return weights @ x  # (T, T) @ (T, D) -> (T, D)
    ### END SOLUTION
