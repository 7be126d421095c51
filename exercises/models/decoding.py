"""Greedy and beam search

A language model says how likely each token is to come next. Decoding turns that into a sequence. To keep the model
out of the way, it is a table here: log_probs has shape (V, V), and log_probs[a, b] is the log-probability that token b
follows token a. The next token depends on the last one only.

Greedy search takes the likeliest next token each time. Beam search keeps several hypotheses (sequences so far) and goes
on with the best of all their extensions, because a token that looks worse now may lead to a better sequence.

Rules of greedy search:
- It begins with start_id and adds the likeliest next token, the lowest id if several are equally likely.
- It ends once it has added end_id, or has added max_len tokens.
- The list that it returns begins with start_id and ends with the last token added, end_id included.

Rules of beam search:
- A hypothesis is a sequence that begins with start_id. It is finished when its last token is end_id or when it has
  max_len tokens after the start; otherwise it is open. The start itself never ends a sequence, also where start_id
  equals end_id.
- Its score is log_prob / n_tokens ** length_penalty. Here log_prob is the sum of the log-probabilities of its tokens,
  and n_tokens counts them: the start is not counted, the end is. The log-probabilities are added from left to right,
  as Python floats. With length_penalty = 0 the score is log_prob itself.
- The beam begins with the start alone. At each step the candidates are the finished hypotheses of the beam, unchanged,
  and every extension of the open ones by one token, whichever token it is. The beam_size candidates with the highest
  scores are the next beam (all of them, if there are fewer). Of two with the same score the lexicographically smaller
  sequence is better: [0, 1, 9] is smaller than [0, 2], and [0, 2] is smaller than [0, 2, 1], as Python compares lists.
- The scores decide at every step, length penalty included, not only at the end. A finished hypothesis takes a place in
  the beam like any other, and loses it when enough candidates are better.
- It ends when no hypothesis of the beam is open. That beam is returned, best first.

Other rules:
- Tokens are Python ints and scores are Python floats.
- log_probs is float32, float64 or bfloat16, with any strides and on any device. It is not modified. The probabilities
  of a row need not sum to 1. Its numbers are used in the precision that they come in: those of float64 are not
  rounded to float32.
- Loops are allowed. Nothing in PyTorch is forbidden, and nothing of it is needed either.

Not asked for: entries of -inf or NaN, entries above 0, negative length penalties, ids outside the table.

Source: Graves 2012, Sequence Transduction with Recurrent Neural Networks (arXiv 1211.3711), section 3; Wu et al. 2016,
Google's Neural Machine Translation System (arXiv 1609.08144), section 7, for length penalties (with another formula).
"""

from torch import Tensor


def greedy_decode(log_probs: Tensor, start_id: int, end_id: int, max_len: int) -> list[int]:
    """Return the sequence that takes the likeliest next token each time.

    Args:
        log_probs: Shape (V, V): row = last token, column = next token. Not modified.
        start_id: The first token of the sequence.
        end_id: The token that ends a sequence.
        max_len: How many tokens are added at most.

    Returns:
        Token ids as Python ints: the start, then 1 to ``max_len`` tokens.

    Raises:
        ValueError: If ``max_len`` is below 1.
    """
    raise NotImplementedError


def beam_search(
    log_probs: Tensor, start_id: int, end_id: int, max_len: int, beam_size: int, length_penalty: float = 0.0
) -> list[tuple[list[int], float]]:
    """Return the last beam of a beam search.

    Args:
        log_probs: Shape (V, V): row = last token, column = next token. Not modified.
        start_id: The first token of every sequence.
        end_id: The token that ends a sequence.
        max_len: How many tokens a hypothesis has after the start at most.
        beam_size: How many hypotheses are kept at each step.
        length_penalty: Exponent of the number of tokens that divides the log-probability; 0 or above.

    Returns:
        Pairs (sequence, score), the best first: token ids as Python ints, with the start, and the score of the whole
        sequence. At most ``beam_size`` pairs.

    Raises:
        ValueError: If ``max_len`` or ``beam_size`` is below 1.
    """
    raise NotImplementedError
