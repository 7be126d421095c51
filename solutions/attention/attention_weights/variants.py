"""Other ways to write attention without parameters: wrong ones that a learner may come up with, and right ones."""

import math

import torch
from torch.nn import functional as F

from grader.judge.suite import alternative, misconception, slip

from .solution import attention_scores, attention_weights, context_vectors

# --- misconceptions about the scores ---------------------------------------------------------------------


@misconception(replaces="attention_scores", caught_by="test_scores_are_not_scaled")
def scores_are_scaled(x):
    """You divide the scores by the root of the number of features.

    Scaled dot-product attention does so, which comes later. What does this exercise say about scaling?
    """
    return x @ x.T / math.sqrt(x.shape[1])


@misconception(replaces="attention_scores", caught_by="test_scores_printed_in_the_chapter")
def cosines_of_angles(x):
    """Your scores are cosines: you seem to bring all tokens to length 1 first.

    What is the score of a token with itself in your code, and what is the dot product of (3, 4) with itself?
    """
    return F.normalize(x, dim=1) @ F.normalize(x, dim=1).T


@misconception(replaces="attention_scores", caught_by="test_shapes")
def compares_features(x):
    """You compare features with each other instead of tokens: your scores are (D, D).

    Which factor of the product has to be transposed so that rows of x meet rows of x?
    """
    return x.T @ x


@misconception(replaces="attention_scores", caught_by="test_scores_worked_out_by_hand")
def leaves_out_the_token_itself(x):
    """Your tokens do not look at themselves: the scores on the diagonal are missing.

    "Every pair" includes the pair of a token with itself. What is the first of the six printed scores?
    """
    return (x @ x.T).fill_diagonal_(0.0)


@misconception(replaces="attention_scores", caught_by="test_scores_worked_out_by_hand")
def distances_instead_of_products(x):
    """Your scores are distances between tokens: 0 for a token with itself.

    A token that is like another should get a large score. What is the dot product of a token with itself?
    """
    return (x[:, None] - x).square().sum(dim=-1).clamp(min=1e-12).sqrt() * (1 - torch.eye(len(x), device=x.device))


@misconception(replaces="attention_scores", caught_by="test_scores_worked_out_by_hand")
def scores_are_weights_already(x):
    """Your scores sum to 1 in every row: you seem to take the softmax in this function already.

    Which of the three functions turns scores into weights?
    """
    return attention_weights(x @ x.T)


# --- misconceptions about the weights --------------------------------------------------------------------


@misconception(replaces="attention_weights", caught_by="test_weights_worked_out_by_hand")
def columns_sum_to_1(scores):
    """Your columns sum to 1 instead of your rows.

    Row i belongs to the token that looks. Whose attention is shared out, that of the token that looks or that of the
    token that is looked at?
    """
    return torch.softmax(scores, dim=0)


@misconception(replaces="attention_weights", caught_by="test_weights_worked_out_by_hand")
def everything_sums_to_1(scores):
    """All your weights together sum to 1.

    Every token averages for itself. What should a single row sum to?
    """
    return torch.softmax(scores.flatten(), dim=0).view(scores.shape)


@misconception(replaces="attention_weights", caught_by="test_weights_printed_in_the_chapter")
def divides_by_the_sum(scores):
    """You divide the scores of a row by their sum.

    The chapter begins with that and then changes to something better. What do you get for the scores -1, 0 and 1?
    """
    return scores / scores.sum(dim=1, keepdim=True)


@misconception(replaces="attention_weights", caught_by="test_scores_of_thousands")
def exp_overflows(scores):
    """You take exp of the scores as they come, which overflows for scores of a hundred already.

    What can be subtracted from a row so that its weights stay the same and no power is larger than 1?
    """
    return scores.exp() / scores.exp().sum(dim=1, keepdim=True)


@misconception(replaces="attention_weights", caught_by="test_weights_worked_out_by_hand")
def sums_lose_their_dimension(scores):
    """You divide each column by the sum of a row: the sums seem to have lost their dimension.

    PyTorch lines up a row of T sums with the columns. Which shape must they have to stay beside their rows?
    """
    return scores.exp() / scores.exp().sum(dim=1)


@misconception(replaces="attention_weights", caught_by="test_weights_printed_in_the_chapter")
def weights_are_scaled(scores):
    """You divide the scores by a root before the softmax.

    Scaled dot-product attention does so, by the root of the number of features, which this function cannot know. What
    does this exercise say about scaling?
    """
    return torch.softmax(scores / math.sqrt(scores.shape[1]), dim=1)


@misconception(replaces="attention_weights", caught_by="test_weights_worked_out_by_hand")
def looks_at_earlier_tokens_only(scores):
    """Your tokens look at themselves and at those before them only.

    That is a causal mask, which comes later in the chapter. Whom may a token look at here?
    """
    future = torch.ones_like(scores, dtype=torch.bool).triu(1)
    return torch.softmax(scores.masked_fill(future, -math.inf), dim=1)


# --- misconceptions about the context --------------------------------------------------------------------


@misconception(replaces="context_vectors", caught_by="test_context_worked_out_by_hand")
def weights_are_transposed(weights, x):
    """You use the columns of the weights: a token is averaged by what the others give to it.

    Row i holds the weights of token i. Which index does the sum run over, the first or the second?
    """
    return weights.T @ x


@misconception(replaces="context_vectors", caught_by="test_context_worked_out_by_hand")
def adds_the_token(weights, x):
    """You add each token to its context vector.

    A transformer block does so around its attention. What is the context of a token that gives all its weight to
    another one?
    """
    return weights @ x + x


@misconception(replaces="context_vectors", caught_by="test_context_worked_out_by_hand")
def weighs_a_second_time(weights, x):
    """You take a softmax of the weights once more.

    They sum to 1 already. What does a softmax make of the weights 1 and 0?
    """
    return torch.softmax(weights, dim=1) @ x


@misconception(replaces="context_vectors", caught_by="test_context_worked_out_by_hand")
def ignores_the_weights(weights, x):
    """You compute the weights from x again, so that the argument `weights` has no influence.

    A caller may have masked them, or dropped some. What should come out if all weight lies on the first token?
    """
    return torch.softmax(x @ x.T, dim=1) @ x


@misconception(replaces="context_vectors", caught_by="test_context_worked_out_by_hand")
def each_token_by_its_own_weight(weights, x):
    """You multiply each token by its weight for itself and do not add the others up.

    How much of the other tokens is in a context vector?
    """
    return weights.diagonal()[:, None] * x


# --- slips -----------------------------------------------------------------------------------------------


@slip(replaces="attention_scores", caught_by="test_scores_are_not_scaled")
def only_the_first_32_features(x):
    return attention_scores(x[:, :32])


@slip(replaces="attention_scores", caught_by="test_the_order_of_the_tokens_does_not_matter")
def counts_positions(x):
    return attention_scores(x) + 0.01 * torch.arange(len(x), device=x.device, dtype=x.dtype)


@slip(replaces="attention_scores", caught_by="test_matches_the_reference")
def drops_the_single_token(x):
    return attention_scores(x).squeeze()


@slip(replaces="attention_scores", caught_by="test_matches_the_reference")
def wants_contiguous_tokens(x):
    return attention_scores(x.view(-1).view(x.shape))


@slip(replaces="attention_scores", caught_by="test_float64")
def scores_in_float32(x):
    return attention_scores(x.float()).to(x.dtype)


@slip(replaces="attention_scores", caught_by="test_bfloat16")
def float32_scores_for_bfloat16(x):
    return attention_scores(x.to(torch.promote_types(x.dtype, torch.float32)))


@slip(replaces="attention_scores", caught_by="test_gradients")
def one_side_is_detached(x):
    return x @ x.detach().T


@slip(replaces="attention_scores", caught_by="test_no_loop")
def pair_by_pair(x):
    return torch.stack([torch.stack([row.dot(other) for other in x]) for row in x])


@slip(replaces="attention_scores", caught_by="test_repeated_calls")
def keeps_the_first_scores(x):
    kept = keeps_the_first_scores.__dict__.setdefault("kept", {})
    return kept.setdefault((x.shape, x.dtype, x.device), attention_scores(x))


@slip(replaces="attention_scores", caught_by="test_follows_the_device")
def begins_with_zeros_on_the_cpu(x):
    return torch.zeros(len(x), len(x), dtype=x.dtype) + attention_scores(x)


@slip(replaces="attention_weights", caught_by="test_rows_sum_to_1")
def small_number_in_the_denominator(scores):
    powers = (scores - scores.amax(dim=1, keepdim=True)).exp()
    return powers / (powers.sum(dim=1, keepdim=True) + 1e-6)


@slip(replaces="attention_weights", caught_by="test_adding_a_number_to_a_row_changes_nothing")
def clamps_the_scores(scores):
    return attention_weights(scores.clamp(-10.0, 10.0))


@slip(replaces="attention_weights", caught_by="test_scores_of_thousands")
def clamps_at_ten_thousand(scores):
    return attention_weights(scores.clamp(-1e4, 1e4))


@slip(replaces="attention_scores", caught_by="test_gradients")
def one_token_trains_one_side(x):
    return x @ (x.detach() if len(x) == 1 else x).T


@slip(replaces="attention_weights", caught_by="test_gradients")
def ones_for_a_single_token(scores):
    return attention_weights(scores) if len(scores) > 1 else torch.ones_like(scores)


@slip(replaces="context_vectors", caught_by="test_gradients")
def one_token_has_no_weight_to_train(weights, x):
    return context_vectors(weights if len(x) > 1 else weights.detach(), x)


@slip(replaces="attention_weights", caught_by="test_scores_of_thousands")
def subtracts_the_maximum_of_everything(scores):
    powers = (scores - scores.max()).exp()
    return powers / powers.sum(dim=1, keepdim=True)


@slip(replaces="attention_weights", caught_by="test_leaves_the_inputs_alone")
def subtracts_in_place(scores):
    with torch.no_grad():
        scores -= scores.amax(dim=1, keepdim=True)
    return attention_weights(scores)


@slip(replaces="attention_weights", caught_by="test_gradients")
def detaches_the_sum(scores):
    powers = (scores - scores.detach().amax(dim=1, keepdim=True)).exp()
    return powers / powers.sum(dim=1, keepdim=True).detach()


@slip(replaces="attention_weights", caught_by="test_no_loop")
def row_by_row(scores):
    return torch.stack([row.softmax(dim=0) for row in scores])


@slip(replaces="attention_scores", caught_by="test_repeated_calls")
def scales_without_gradients(x):
    scores = x @ x.T
    return scores if torch.is_grad_enabled() else scores / x.shape[1] ** 0.5


@slip(replaces="attention_scores", caught_by="test_bfloat16")
def detaches_in_bfloat16(x):
    return x @ (x.detach() if x.dtype == torch.bfloat16 else x).T


@slip(replaces="attention_weights", caught_by="test_repeated_calls")
def gives_up_on_long_texts(scores):
    return torch.softmax(scores, dim=-1 if len(scores) <= 64 else 0)


@slip(replaces="attention_weights", caught_by="test_gradients")
def chooses_after_the_overflow(scores):
    plain = scores.exp() / scores.exp().sum(dim=-1, keepdim=True)
    return torch.where(scores.abs().amax() < 80, plain, (scores - scores.amax(dim=-1, keepdim=True)).softmax(dim=-1))


@slip(replaces="context_vectors", caught_by="test_gradients")
def gradient_needs_both_inputs(weights, x):
    context = weights @ x
    return context if weights.requires_grad and x.requires_grad else context.detach()


@slip(replaces="context_vectors", caught_by="test_weights_of_one_pick_a_token")
def centres_the_tokens(weights, x):
    return context_vectors(weights, x - x.mean(dim=0))


@slip(replaces="context_vectors", caught_by="test_context_printed_in_the_chapter")
def rounds_to_two_decimals(weights, x):
    return (
        context_vectors(weights, x)
        + (context_vectors(weights, x).round(decimals=2) - context_vectors(weights, x)).detach()
    )


@slip(replaces="context_vectors", caught_by="test_matches_the_reference")
def makes_the_rows_sum_to_1(weights, x):
    return context_vectors(weights / weights.sum(dim=1, keepdim=True), x)


@slip(replaces="context_vectors", caught_by="test_gradients")
def detaches_the_weights(weights, x):
    return context_vectors(weights.detach(), x)


@slip(replaces="context_vectors", caught_by="test_no_loop")
def token_by_token(weights, x):
    return sum(weights[:, j, None] * x[j] for j in range(len(x)))


# --- right, in other styles ------------------------------------------------------------------------------


@alternative(replaces="attention_scores")
def scores_by_einsum(x):
    return torch.einsum("id,jd->ij", x, x)


@alternative(replaces="attention_scores")
def scores_by_broadcasting(x):
    return (x[:, None, :] * x[None, :, :]).sum(dim=-1)


@alternative(replaces="attention_scores")
def scores_by_linear(x):
    return F.linear(x, x)


@alternative(replaces="attention_scores")
def scores_token_by_token_in_parallel(x):
    return torch.vmap(x.mv)(x)


@alternative(replaces="attention_weights")
def weights_by_hand(scores):
    powers = torch.exp(scores - scores.max(dim=1, keepdim=True).values)
    return powers / powers.sum(dim=1, keepdim=True)


@alternative(replaces="attention_weights")
def weights_by_a_module(scores):
    return torch.nn.Softmax(dim=1)(scores)


@alternative(replaces="attention_weights")
def weights_by_logarithms(scores):
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return (wide - wide.logsumexp(dim=1, keepdim=True)).exp().to(scores.dtype)


@alternative(replaces="context_vectors")
def context_by_einsum(weights, x):
    return torch.einsum("ij,jd->id", weights, x)


@alternative(replaces="context_vectors")
def context_by_broadcasting(weights, x):
    return (weights[:, :, None] * x[None]).sum(dim=1)


@alternative(replaces="context_vectors")
def context_from_the_other_side(weights, x):
    return (x.T @ weights.T).T
