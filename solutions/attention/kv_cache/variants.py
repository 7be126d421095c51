"""Other ways to write kv_cache: wrong ones that a learner may come up with, and right ones."""

import math

import torch
from torch import nn

from grader.judge.suite import alternative, misconception, slip

from .solution import CachedAttention


def turned(x, freqs_cis):
    """Turn pairs of neighbours; x is (B, T, heads, K)."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(-1, (-1, 2)).contiguous()
    return torch.view_as_real(torch.view_as_complex(wide) * freqs_cis[:, None]).flatten(-2).to(x.dtype)


class Steps(CachedAttention):
    """The solution cut into steps, so that a variant bends one of them."""

    def forward(self, x, start_pos, freqs_cis, mask=None):
        self.check(x, start_pos, freqs_cis)
        q, k, v = self.project(x)
        q, k, v = self.turn(q, k, v, freqs_cis)
        self.store(k, v, start_pos)
        k, v = self.load(len(x), start_pos, x.shape[1])  # (B, S, G, K) each
        k, v = self.repeat(k), self.repeat(v)  # (B, S, H, K)
        scores = q.transpose(1, 2) @ k.permute(0, 2, 3, 1) * self.scale()  # (B, H, T, S)
        weights = self.weigh(scores, mask, start_pos)
        return self.wo((weights @ v.transpose(1, 2)).transpose(1, 2).flatten(2))

    def check(self, x, start_pos, freqs_cis):
        if len(x) > self.cache_k.shape[0]:
            raise ValueError("too many sequences")
        if start_pos + x.shape[1] > self.cache_k.shape[1]:
            raise ValueError("too many tokens")
        if len(freqs_cis) != x.shape[1]:
            raise ValueError("freqs_cis")

    def project(self, x):
        return [w(x).unflatten(-1, (-1, self.head_dim)) for w in (self.wq, self.wk, self.wv)]

    def turn(self, q, k, v, freqs_cis):
        return turned(q, freqs_cis), turned(k, freqs_cis), v

    def store(self, k, v, start_pos):
        end = start_pos + k.shape[1]
        self.cache_k[: len(k), start_pos:end], self.cache_v[: len(v), start_pos:end] = k.detach(), v.detach()

    def load(self, B, start_pos, T):
        return self.cache_k[:B, : start_pos + T], self.cache_v[:B, : start_pos + T]

    def repeat(self, heads):
        return heads.repeat_interleave(self.n_heads // self.n_kv_heads, dim=2)

    def scale(self):
        return 1 / math.sqrt(self.head_dim)

    def causal(self, T, S, start_pos, device):
        return torch.ones(T, S, dtype=torch.bool, device=device).tril(start_pos)

    def weigh(self, scores, mask, start_pos):
        if mask is None:
            mask = self.causal(*scores.shape[-2:], start_pos, scores.device)
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1).masked_fill(~mask, 0.0)


# --- misconceptions about the cache ------------------------------------------------------------------------


@misconception(replaces="CachedAttention", caught_by="test_steps_equal_one_pass")
class WholeCacheAttended(Steps):
    """You attend over the whole cache without a mask, positions that nobody has written included.

    A key of zeros has a score of 0, and exp(0) is 1. Up to which position does the cache belong to this sequence?
    """

    def load(self, B, start_pos, T):
        return self.cache_k[:B], self.cache_v[:B]

    def weigh(self, scores, mask, start_pos):
        T, S = scores.shape[-2:]
        if mask is None:  # the causal mask of the new tokens, and the rest of the cache for all
            mask = torch.ones(T, S, dtype=torch.bool, device=scores.device).tril(start_pos)
            mask[:, start_pos + T :] = True
        else:
            mask = nn.functional.pad(mask.expand(*mask.shape[:-1], start_pos + T), (0, S - start_pos - T), value=True)
        return super().weigh(scores, mask, start_pos)


@misconception(replaces="CachedAttention", caught_by="test_steps_equal_one_pass")
class OnlyTheNewTokens(Steps):
    """You store keys and values, but you attend over those of the new tokens alone.

    Then a step sees nothing but itself. What was the cache filled for?
    """

    def forward(self, x, start_pos, freqs_cis, mask=None):
        self.check(x, start_pos, freqs_cis)
        q, k, v = self.turn(*self.project(x), freqs_cis)
        self.store(k, v, start_pos)
        k, v = self.repeat(k), self.repeat(v)
        scores = q.transpose(1, 2) @ k.permute(0, 2, 3, 1) * self.scale()
        mask = mask if mask is None or mask.shape[-1] == 1 else mask[..., start_pos:]
        return self.wo((self.weigh(scores, mask, 0) @ v.transpose(1, 2)).transpose(1, 2).flatten(2))


@misconception(replaces="CachedAttention", caught_by="test_cache_by_hand")
class StoresUnturnedKeys(Steps):
    """You store the keys before they are turned, and turn all of them by the freqs_cis of the new tokens.

    freqs_cis belongs to the new tokens. Which turn does the key of an earlier token need, and when was it known?
    """

    def turn(self, q, k, v, freqs_cis):
        self.latest = freqs_cis
        return turned(q, freqs_cis), k, v

    def load(self, B, start_pos, T):
        k, v = super().load(B, start_pos, T)
        return turned(k, self.latest[torch.arange(start_pos + T, device=k.device) % T]), v


@misconception(replaces="CachedAttention", caught_by="test_cache_by_hand")
class TurnsTheValues(Steps):
    """You turn the values as well.

    The turn is there so that the score knows the distance of query and key. What would a value be turned for?
    """

    def turn(self, q, k, v, freqs_cis):
        return turned(q, freqs_cis), turned(k, freqs_cis), turned(v, freqs_cis)


@misconception(replaces="CachedAttention", caught_by="test_cache_by_hand")
class TurnsTheQueriesAlone(Steps):
    """You turn the queries, but not the keys.

    Then a score depends on where the query stands. On what should it depend?
    """

    def turn(self, q, k, v, freqs_cis):
        return turned(q, freqs_cis), k, v


@misconception(replaces="CachedAttention", caught_by="test_only_distances_count")
class TurnsTheKeysAlone(Steps):
    """You turn the keys, but not the queries.

    Then a score depends on where the key stands. On what should it depend?
    """

    def turn(self, q, k, v, freqs_cis):
        return q, turned(k, freqs_cis), v


@misconception(replaces="CachedAttention", caught_by="test_cache_by_hand")
class PairsAreHalves(Steps):
    """You pair feature i with feature i + K/2, as GPT-NeoX and Hugging Face's Llama do.

    That is a sound rotary embedding, for weights that were trained with it. Which two features are a pair here?
    """

    def turn(self, q, k, v, freqs_cis):
        def halves(x):
            pairs = x.unflatten(-1, (2, -1)).mT.flatten(-2)
            return turned(pairs, freqs_cis).unflatten(-1, (-1, 2)).mT.flatten(-2)

        return halves(q), halves(k), v


@misconception(replaces="CachedAttention", caught_by="test_cache_by_hand")
class WritesAtZero(Steps):
    """You write new keys and values to the beginning of the cache, whatever start_pos is.

    Then they take the places of the first tokens. Where does a token at position start_pos belong?
    """

    def store(self, k, v, start_pos):
        super().store(k, v, 0)


@misconception(replaces="CachedAttention", caught_by="test_a_new_sequence_forgets_the_old_one")
class Appends(Steps):
    """You append new keys and values behind those of the last call, and start_pos has no influence on it.

    When a new sequence begins at start_pos 0, whose keys are at the front of your cache?
    """

    def store(self, k, v, start_pos):
        used = getattr(self, "used", 0)
        if used + k.shape[1] > self.cache_k.shape[1]:
            used = self.cache_k.shape[1] - k.shape[1]
        super().store(k, v, used)
        self.used = used + k.shape[1]


@misconception(replaces="CachedAttention", caught_by="test_the_rest_of_the_cache_stays")
class ClearsTheCacheAtZero(Steps):
    """With start_pos 0 you set the whole cache to 0.

    Nobody reads what lies behind the new tokens, so it need not be cleared, and other rows may still be in use. Which
    part of the cache does a call write?
    """

    def store(self, k, v, start_pos):
        if start_pos == 0:
            self.cache_k.zero_()
            self.cache_v.zero_()
        super().store(k, v, start_pos)


@misconception(replaces="CachedAttention", caught_by="test_what_does_not_fit_is_refused")
class WritesBeforeItChecks(Steps):
    """You write to the cache before you know that the new tokens fit.

    The error is right, but the cache is no longer what it was. Which line should be the first of forward?
    """

    def check(self, x, start_pos, freqs_cis):
        B, T = min(len(x), self.cache_k.shape[0]), min(x.shape[1], self.cache_k.shape[1] - start_pos, len(freqs_cis))
        if T > 0:
            q, k, v = self.project(x[:B, :T])
            self.store(*self.turn(q, k, v, freqs_cis[:T])[1:], start_pos)
        super().check(x, start_pos, freqs_cis)


@misconception(replaces="CachedAttention", caught_by="test_caches_are_buffers")
class CachesAreSaved(Steps):
    """Your caches are in state_dict().

    They belong to a text, not to the model, and weights of others do not hold them. How is a buffer left out?
    """

    def __init__(self, dim, n_heads, n_kv_heads, max_batch, max_len):
        super().__init__(dim, n_heads, n_kv_heads, max_batch, max_len)
        self._non_persistent_buffers_set.clear()


_shared = {}


@misconception(replaces="CachedAttention", caught_by="test_modules_have_their_own_caches")
class OneCacheForAll(Steps):
    """All your modules of the same size share one cache.

    A Llama has 32 such layers. What does layer 2 find in the cache after layer 1 was called?
    """

    def __init__(self, dim, n_heads, n_kv_heads, max_batch, max_len):
        super().__init__(dim, n_heads, n_kv_heads, max_batch, max_len)
        caches = self.cache_k, self.cache_v
        self.cache_k, self.cache_v = _shared.setdefault(caches[0].shape, caches)


# --- misconceptions about masks, heads and scores ----------------------------------------------------------


@misconception(replaces="CachedAttention", caught_by="test_chunks_equal_one_pass")
class FirstQueryAtTheFirstKey(Steps):
    """Your causal mask puts the first new token at position 0, so the tokens of a chunk do not see what is cached.

    New token 0 stands at start_pos. Up to which key does it see?
    """

    def causal(self, T, S, start_pos, device):
        return super().causal(T, S, 0, device)


@misconception(replaces="CachedAttention", caught_by="test_averages_by_hand")
class NoMaskInAPrompt(Steps):
    """Without a mask your tokens see all keys, later ones of the same call included.

    A single step needs no mask, but a prompt does. What may token 0 of a prompt see?
    """

    def causal(self, T, S, start_pos, device):
        return torch.ones(T, S, dtype=torch.bool, device=device)


@misconception(replaces="CachedAttention", caught_by="test_chunks_equal_one_pass")
class MaskOnlyAtTheStart(Steps):
    """Your mask is causal for a prompt, but in a later chunk every token sees the whole chunk.

    The tokens of a chunk come one after the other too. How many keys does the first of them see?
    """

    def causal(self, T, S, start_pos, device):
        return super().causal(T, S, start_pos if start_pos == 0 else S, device)


@misconception(replaces="CachedAttention", caught_by="test_averages_by_hand")
class OneKeyTooMany(Steps):
    """Your tokens see one key too many: the token after themselves.

    New token i stands at start_pos + i. Does it see start_pos + i + 1 keys, or one more?
    """

    def causal(self, T, S, start_pos, device):
        return super().causal(T, S, start_pos + 1, device)


@misconception(replaces="CachedAttention", caught_by="test_averages_by_hand")
class OwnKeyHidden(Steps):
    """Your tokens see the tokens before them but not themselves.

    What is left for the first token of a text?
    """

    def causal(self, T, S, start_pos, device):
        return super().causal(T, S, start_pos - 1, device)


@misconception(replaces="CachedAttention", caught_by="test_true_in_a_mask_means_may_attend")
class MaskInverted(Steps):
    """You hide the keys where the mask is True, as nn.MultiheadAttention does.

    PyTorch has both conventions. What does True mean in this exercise?
    """

    def weigh(self, scores, mask, start_pos):
        return super().weigh(scores, None if mask is None else ~mask, start_pos)


@misconception(replaces="CachedAttention", caught_by="test_true_in_a_mask_means_may_attend")
class MaskBesideTheCausalOne(Steps):
    """A mask that is given only takes keys away: your causal mask still holds beside it.

    The brief says that it replaces the causal one. How would a prompt be read in both directions?
    """

    def weigh(self, scores, mask, start_pos):
        causal = self.causal(*scores.shape[-2:], start_pos, scores.device)
        return super().weigh(scores, causal if mask is None else causal & mask, start_pos)


@misconception(replaces="CachedAttention", caught_by="test_a_query_with_nothing_to_attend_to")
class NothingAllowedAveragesAll(Steps):
    """A token that may attend to nothing gets the average of all values.

    Its scores are all the same very low number, and a softmax only sees differences. What should its output be?
    """

    def weigh(self, scores, mask, start_pos):
        if mask is None:
            mask = self.causal(*scores.shape[-2:], start_pos, scores.device)
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1)


@misconception(replaces="CachedAttention", caught_by="test_a_query_with_nothing_to_attend_to")
class NothingAllowedIsNan(Steps):
    """A token that may attend to nothing gets NaN.

    All its scores are minus infinity, so the softmax divides 0 by 0. What should its output be?
    """

    def weigh(self, scores, mask, start_pos):
        if mask is None:
            mask = self.causal(*scores.shape[-2:], start_pos, scores.device)
        return scores.masked_fill(~mask, -math.inf).softmax(dim=-1)


@misconception(replaces="CachedAttention", caught_by="test_groups_of_heads")
class HeadsTakeTurns(Steps):
    """Query head h uses key/value head h % G in your code: the heads take turns.

    In Llama neighbours share. Which query heads belong to key/value head 0 if there are 4 heads for 2?
    """

    def repeat(self, heads):
        return heads.repeat(1, 1, self.n_heads // self.n_kv_heads, 1)


@misconception(replaces="CachedAttention", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
class DoesNotScale(Steps):
    """Your scores are plain dot products.

    They grow with the number of features. What are they divided by in the formula?
    """

    def scale(self):
        return 1.0


@misconception(replaces="CachedAttention", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
class ScalesByTheModelWidth(Steps):
    """You divide the scores by sqrt(D), the root of the model's width.

    How many terms has a dot product of one head?
    """

    def scale(self):
        return 1 / math.sqrt(self.head_dim * self.n_heads)


# --- slips -------------------------------------------------------------------------------------------------


@slip(replaces="CachedAttention", caught_by="test_shapes")
class DropsSingleDimensions(Steps):
    def forward(self, x, start_pos, freqs_cis, mask=None):
        return super().forward(x, start_pos, freqs_cis, mask).squeeze(1)


@slip(replaces="CachedAttention", caught_by="test_parameter_names")
class WithBiases(Steps):
    def __init__(self, dim, n_heads, n_kv_heads, max_batch, max_len):
        super().__init__(dim, n_heads, n_kv_heads, max_batch, max_len)
        self.wo = nn.Linear(dim, dim)


@slip(replaces="CachedAttention", caught_by="test_caches_are_buffers")
class CachesArePlainTensors(Steps):
    def __init__(self, dim, n_heads, n_kv_heads, max_batch, max_len):
        super().__init__(dim, n_heads, n_kv_heads, max_batch, max_len)
        caches = self.cache_k, self.cache_v
        del self.cache_k, self.cache_v
        self.cache_k, self.cache_v = caches


@slip(replaces="CachedAttention", caught_by="test_caches_are_buffers")
class CachesHeadsFirst(Steps):
    def __init__(self, dim, n_heads, n_kv_heads, max_batch, max_len):
        super().__init__(dim, n_heads, n_kv_heads, max_batch, max_len)
        self.kept_k, self.kept_v = self.cache_k.clone(), self.cache_v.clone()
        self.cache_k, self.cache_v = self.cache_k.transpose(1, 2).clone(), self.cache_v.transpose(1, 2).clone()

    def check(self, x, start_pos, freqs_cis):
        if (
            len(x) > self.cache_k.shape[0]
            or start_pos + x.shape[1] > self.cache_k.shape[2]
            or len(freqs_cis) != x.shape[1]
        ):
            raise ValueError

    def store(self, k, v, start_pos):
        end = start_pos + k.shape[1]
        self.cache_k[: len(k), :, start_pos:end] = k.detach().transpose(1, 2)
        self.cache_v[: len(v), :, start_pos:end] = v.detach().transpose(1, 2)

    def load(self, B, start_pos, T):
        return tuple(cache[:B, :, : start_pos + T].transpose(1, 2) for cache in (self.cache_k, self.cache_v))


@slip(replaces="CachedAttention", caught_by="test_the_rest_of_the_cache_stays")
class WritesAllRows(Steps):
    def store(self, k, v, start_pos):
        rows = self.cache_k.shape[0]
        super().store(k[:1].expand(rows, -1, -1, -1), v[:1].expand(rows, -1, -1, -1), start_pos)
        super().store(k, v, start_pos)


@slip(replaces="CachedAttention", caught_by="test_the_rest_of_the_cache_stays")
class NeverWritesThePrompt(Steps):
    """The cache is replaced by other tensors, beside the buffers."""

    def store(self, k, v, start_pos):
        if start_pos == 0 or not hasattr(self, "own"):
            self.own = k, v
        else:
            self.own = tuple(torch.cat((old[:, :start_pos], new), 1) for old, new in zip(self.own, (k, v), strict=True))

    def load(self, B, start_pos, T):
        return self.own


@slip(replaces="CachedAttention", caught_by="test_items_do_not_meet")
class CentresOverTheBatch(Steps):
    def turn(self, q, k, v, freqs_cis):
        return super().turn(q - 0.5 * q.mean(dim=0), k, v, freqs_cis)


@slip(replaces="CachedAttention", caught_by="test_items_do_not_meet")
class ReadsTheFirstRow(Steps):
    def load(self, B, start_pos, T):
        k, v = super().load(B, start_pos, T)
        return k[:1].expand_as(k), v


@slip(replaces="CachedAttention", caught_by="test_later_tokens_leave_no_trace")
class CentresTheValues(Steps):
    def turn(self, q, k, v, freqs_cis):
        return super().turn(q, k - 0.5 * k.mean(dim=1, keepdim=True), v, freqs_cis)


@slip(replaces="CachedAttention", caught_by="test_a_step_projects_only_the_new_token")
class ProjectsTheHistoryAgain(Steps):
    def forward(self, x, start_pos, freqs_cis, mask=None):
        self.check(x, start_pos, freqs_cis)
        if start_pos == 0:
            self.texts, self.all_turns = x[:, :0], freqs_cis[:0]
        self.texts = torch.cat((self.texts[: len(x), :start_pos], x), dim=1)
        self.all_turns = torch.cat((self.all_turns[:start_pos], freqs_cis))
        output = super().forward(self.texts, 0, self.all_turns, self.whole(mask, start_pos, x.shape[1]))
        return output[:, start_pos:]

    def whole(self, mask, start_pos, T):
        if mask is None:
            return None
        mask = mask.expand(*mask.shape[:-2], T, start_pos + T)
        return nn.functional.pad(mask, (0, 0, start_pos, 0), value=True)


@slip(replaces="CachedAttention", caught_by="test_huge_scores")
class FillsWithASmallNumber(Steps):
    def weigh(self, scores, mask, start_pos):
        if mask is None:
            mask = self.causal(*scores.shape[-2:], start_pos, scores.device)
        return scores.masked_fill(~mask, -10_000.0).softmax(dim=-1) * mask.any(dim=-1, keepdim=True)


@slip(replaces="CachedAttention", caught_by="test_masks_of_every_shape")
class MaskWithoutHeads(Steps):
    def weigh(self, scores, mask, start_pos):
        if mask is not None and mask.dim() == 4:
            mask = mask[:, :1]
        return super().weigh(scores, mask, start_pos)


@slip(replaces="CachedAttention", caught_by="test_masks_of_every_shape")
class MaskOfTheNewTokensAlone(Steps):
    def weigh(self, scores, mask, start_pos):
        if mask is not None and mask.shape[-1] > 1:
            mask = torch.cat((torch.ones_like(mask[..., :start_pos]), mask[..., start_pos:]), dim=-1)
        return super().weigh(scores, mask, start_pos)


@slip(replaces="CachedAttention", caught_by="test_chunks_equal_one_pass")
class KeepsTheFirstMask(Steps):
    def causal(self, T, S, start_pos, device):
        masks = self.__dict__.setdefault("masks", {})
        if (T, device) not in masks:
            masks[T, device] = super().causal(T, T, 0, device)
        return nn.functional.pad(masks[T, device], (S - T if T == 1 else 0, 0 if T == 1 else S - T), value=True)


@slip(replaces="CachedAttention", caught_by="test_matches_the_reference")
class NeedsContiguousInputs(Steps):
    def project(self, x):
        return super().project(x.view(-1).view(x.shape))


@slip(replaces="CachedAttention", caught_by="test_matches_the_reference")
class SqueezesTheSingleHead(Steps):
    def repeat(self, heads):
        return heads.squeeze(2).unsqueeze(2) if heads.shape[0] > 1 else super().repeat(heads.squeeze(0)[None])

    def load(self, B, start_pos, T):
        k, v = super().load(B, start_pos, T)
        return (k.squeeze(1), v.squeeze(1)) if k.shape[-1] == 2 else (k, v)


@slip(replaces="CachedAttention", caught_by="test_bfloat16")
class CachesStayFloat32(Steps):
    def _apply(self, function, recurse=True):
        caches = self.cache_k, self.cache_v
        super()._apply(function, recurse)
        if self.cache_k.device == caches[0].device:
            self.cache_k, self.cache_v = caches
        return self

    def load(self, B, start_pos, T):
        return tuple(x.to(self.wq.weight.dtype) for x in super().load(B, start_pos, T))


@slip(replaces="CachedAttention", caught_by="test_bfloat16")
class TurnsInBfloat16(Steps):
    def turn(self, q, k, v, freqs_cis):
        cos, sin = (part[:, None].repeat_interleave(2, dim=-1) for part in (freqs_cis.real, freqs_cis.imag))

        def by_parts(x):
            return x * cos + torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2) * sin

        return by_parts(q), by_parts(k), v


@slip(replaces="CachedAttention", caught_by="test_leaves_the_inputs_alone")
class TurnsTheTableInPlace(Steps):
    def turn(self, q, k, v, freqs_cis):
        turns = freqs_cis.div_(freqs_cis.abs()).mul_(1.0 + 1e-6)
        return super().turn(q, k, v, turns)


@slip(replaces="CachedAttention", caught_by="test_leaves_the_inputs_alone")
class AllowsTheOwnKeyInPlace(Steps):
    def weigh(self, scores, mask, start_pos):
        return super().weigh(scores, mask if mask is None else ~mask.logical_not_(), start_pos)


@slip(replaces="CachedAttention", caught_by="test_no_loop_over_tokens_or_batch")
class TokenByToken(Steps):
    def forward(self, x, start_pos, freqs_cis, mask=None):
        self.check(x, start_pos, freqs_cis)
        if mask is not None or x.shape[1] == 1:
            return super().forward(x, start_pos, freqs_cis, mask)
        pieces = zip(x.split(1, dim=1), freqs_cis.split(1), strict=True)
        run = super().forward
        return torch.cat([run(token, start_pos + t, turn) for t, (token, turn) in enumerate(pieces)], dim=1)


@slip(replaces="CachedAttention", caught_by="test_no_loop_over_tokens_or_batch")
class WritesRowByRow(Steps):
    def store(self, k, v, start_pos):
        for b in range(len(k)):
            self.cache_k[b, start_pos : start_pos + k.shape[1]] = k[b]
            self.cache_v[b, start_pos : start_pos + k.shape[1]] = v[b]


@slip(replaces="CachedAttention", caught_by="test_follows_the_device")
class MakesItsMaskOnTheCpu(Steps):
    def causal(self, T, S, start_pos, device):
        return super().causal(T, S, start_pos, "cpu")


@slip(replaces="CachedAttention", caught_by="test_errors_of_the_module")
class AssertsTheSizes(Steps):
    def __init__(self, dim, n_heads, n_kv_heads, max_batch, max_len):
        assert n_heads >= 1 and dim % n_heads == 0
        super().__init__(dim, n_heads, n_kv_heads, max_batch, max_len)


@slip(replaces="CachedAttention", caught_by="test_errors_of_the_module")
class TakesAnyCache(Steps):
    def __init__(self, dim, n_heads, n_kv_heads, max_batch, max_len):
        super().__init__(dim, n_heads, n_kv_heads, max(max_batch, 1), max(max_len, 1))


@slip(replaces="CachedAttention", caught_by="test_what_does_not_fit_is_refused")
class GrowsItsCache(Steps):
    def check(self, x, start_pos, freqs_cis):
        if len(freqs_cis) != x.shape[1] or len(x) > len(self.cache_k):
            raise ValueError
        more = start_pos + x.shape[1] - self.cache_k.shape[1]
        if more > 0:
            self.cache_k, self.cache_v = (
                nn.functional.pad(c, (0, 0, 0, 0, 0, more)) for c in (self.cache_k, self.cache_v)
            )


@slip(replaces="CachedAttention", caught_by="test_what_does_not_fit_is_refused")
class BroadcastsOneTurn(Steps):
    def check(self, x, start_pos, freqs_cis):
        super().check(x, start_pos, freqs_cis.expand(x.shape[1], -1) if len(freqs_cis) == 1 else freqs_cis)


@slip(replaces="CachedAttention", caught_by="test_what_does_not_fit_is_refused")
class OneTooFew(Steps):
    def check(self, x, start_pos, freqs_cis):
        super().check(x, start_pos, freqs_cis)
        if start_pos + x.shape[1] >= self.cache_k.shape[1] and start_pos > 0 and x.shape[1] == 1:
            raise ValueError


@slip(replaces="CachedAttention", caught_by="test_repeated_calls")
class TakesTheMaskByNameAlone(Steps):
    def forward(self, x, start_pos, freqs_cis, *, mask=None):
        return super().forward(x, start_pos, freqs_cis, mask)


@slip(replaces="CachedAttention", caught_by="test_repeated_calls")
class KeepsItsFirstWeights(Steps):
    def project(self, x):
        if not hasattr(self, "kept") or self.kept[0].dtype != x.dtype or self.kept[0].device != x.device:
            self.kept = [w.weight.detach().clone() for w in (self.wq, self.wk, self.wv)]
        return [(x @ weight.T).unflatten(-1, (-1, self.head_dim)) for weight in self.kept]


@slip(replaces="CachedAttention", caught_by="test_repeated_calls")
class SharesItsScale(Steps):
    def __init__(self, dim, n_heads, n_kv_heads, max_batch, max_len):
        super().__init__(dim, n_heads, n_kv_heads, max_batch, max_len)
        SharesItsScale.root = math.sqrt(self.head_dim)

    def scale(self):
        return 1 / self.root


@slip(replaces="CachedAttention", caught_by="test_repeated_calls")
class NoCausalMaskInTraining(Steps):
    def forward(self, x, start_pos, freqs_cis, mask=None):
        if self.training and mask is None:
            mask = torch.ones(1, 1, dtype=torch.bool, device=x.device)
        return super().forward(x, start_pos, freqs_cis, mask)


@slip(replaces="CachedAttention", caught_by="test_masks_of_every_shape")
class TakesThreeTokensForThreeSequences(Steps):
    def forward(self, x, start_pos, freqs_cis, mask=None):
        if mask is not None and mask.dim() == 2 and len(mask) == len(x) > 1:
            mask = mask[:, None, None]
        return super().forward(x, start_pos, freqs_cis, mask)


@slip(replaces="CachedAttention", caught_by="test_masks_of_every_shape")
class TurnsAColumnMaskOver(Steps):
    def forward(self, x, start_pos, freqs_cis, mask=None):
        if mask is not None and mask.shape[-1] == 1 and mask.shape[-2] == start_pos + x.shape[1]:
            mask = mask.mT
        return super().forward(x, start_pos, freqs_cis, mask)


@slip(replaces="CachedAttention", caught_by="test_a_query_with_nothing_to_attend_to")
class TheFirstTokenNeedsNoMask(Steps):
    def forward(self, x, start_pos, freqs_cis, mask=None):
        return super().forward(x, start_pos, freqs_cis, None if start_pos + x.shape[1] == 1 else mask)


@slip(replaces="CachedAttention", caught_by="test_bfloat16")
class MaskedRowsSeeEverythingInBfloat16(Steps):
    def forward(self, x, start_pos, freqs_cis, mask=None):
        if mask is not None and x.dtype == torch.bfloat16:
            mask = mask | ~mask.any(dim=-1, keepdim=True)
        return super().forward(x, start_pos, freqs_cis, mask)


@slip(replaces="CachedAttention", caught_by="test_parameter_names")
class SavesItsPosition(Steps):
    def forward(self, x, start_pos, freqs_cis, mask=None):
        self.register_buffer("length", torch.tensor(start_pos + x.shape[1], device=x.device))
        return super().forward(x, start_pos, freqs_cis, mask)


@slip(replaces="CachedAttention", caught_by="test_masks_of_every_shape")
class TakesARowOfKeysForAColumn(Steps):
    def weigh(self, scores, mask, start_pos):
        return super().weigh(scores, mask[:, None] if mask is not None and mask.dim() == 1 else mask, start_pos)


@slip(replaces="CachedAttention", caught_by="test_huge_scores")
class FillsWithMinusTenThousandInBfloat16(Steps):
    def weigh(self, scores, mask, start_pos):
        if mask is None or scores.dtype != torch.bfloat16:
            return super().weigh(scores, mask, start_pos)
        return scores.masked_fill(~mask, -1e4).softmax(dim=-1).masked_fill(~mask, 0.0)


@slip(replaces="CachedAttention", caught_by="test_bfloat16")
class CountsPositionsInTheDtypeOfX(Steps):
    def forward(self, x, start_pos, freqs_cis, mask=None):
        if mask is None and start_pos + x.shape[1] > 1:
            positions = torch.arange(start_pos + x.shape[1], device=x.device).to(x.dtype)
            mask = positions <= positions[start_pos:, None]
        return super().forward(x, start_pos, freqs_cis, mask)


@slip(replaces="CachedAttention", caught_by="test_bfloat16")
class CountsPositionsInBytes(Steps):
    def causal(self, T, S, start_pos, device):
        positions = torch.arange(S, device=device).to(torch.uint8)
        return positions <= positions[start_pos:, None]


@slip(replaces="CachedAttention", caught_by="test_what_does_not_fit_is_refused")
class CountsSequencesAtTheStartAlone(Steps):
    def check(self, x, start_pos, freqs_cis):
        super().check(x if start_pos == 0 else x[:1], start_pos, freqs_cis)


# --- right, in other styles --------------------------------------------------------------------------------


@alternative(replaces="CachedAttention")
class ByEinsumOverGroups(CachedAttention):
    def forward(self, x, start_pos, freqs_cis, mask=None):
        Steps.check(self, x, start_pos, freqs_cis)
        B, T, G, S = x.shape[0], x.shape[1], self.n_kv_heads, start_pos + x.shape[1]
        q, k, v = (w(x).view(B, T, -1, self.head_dim) for w in (self.wq, self.wk, self.wv))
        self.cache_k[:B, start_pos:S] = turned(k, freqs_cis)
        self.cache_v[:B, start_pos:S] = v
        q = turned(q, freqs_cis).view(B, T, G, -1, self.head_dim)  # (B, T, G, R, K)
        scores = torch.einsum("btgrk,bsgk->bgrts", q, self.cache_k[:B, :S]) * self.head_dim**-0.5
        if mask is None:
            mask = torch.arange(S, device=x.device) <= torch.arange(start_pos, S, device=x.device)[:, None]
        mask = mask.expand(B, self.n_heads, T, S).reshape(B, G, -1, T, S)
        weights = torch.where(mask, scores, -torch.inf).softmax(-1).nan_to_num(0.0)
        return self.wo(torch.einsum("bgrts,bsgk->btgrk", weights, self.cache_v[:B, :S]).reshape(B, T, -1))


@alternative(replaces="CachedAttention")
class HeadByHead(CachedAttention):
    def forward(self, x, start_pos, freqs_cis, mask=None):
        B, T, _ = x.shape
        end = start_pos + T
        if self.cache_k.size(0) < B or end > self.cache_k.size(1) or freqs_cis.size(0) != T:
            raise ValueError(f"{B=} {end=} {freqs_cis.shape=}")
        q, k, v = self.wq(x), self.wk(x), self.wv(x)
        K, cos, sin = self.head_dim, freqs_cis.real, freqs_cis.imag

        def rotate(part):  # (B, T, K) of one head
            a, b = part[..., 0::2].to(cos.dtype), part[..., 1::2].to(cos.dtype)
            out = torch.empty_like(part)
            out[..., 0::2], out[..., 1::2] = (a * cos - b * sin).to(x.dtype), (a * sin + b * cos).to(x.dtype)
            return out

        for g in range(self.n_kv_heads):
            self.cache_k[:B, start_pos:end, g] = rotate(k[..., g * K : (g + 1) * K])
            self.cache_v[:B, start_pos:end, g] = v[..., g * K : (g + 1) * K]
        if mask is None:
            mask = torch.tril(torch.ones(T, end, device=x.device), diagonal=start_pos).bool()
        mask = mask.expand(B, self.n_heads, T, end)
        heads = []
        for h in range(self.n_heads):
            g = h * self.n_kv_heads // self.n_heads
            keys, values = self.cache_k[:B, :end, g], self.cache_v[:B, :end, g]
            scores = torch.bmm(rotate(q[..., h * K : (h + 1) * K]), keys.transpose(1, 2)) / K**0.5
            some = mask[:, h].any(dim=-1, keepdim=True)
            weights = torch.softmax(scores.masked_fill(~mask[:, h] & some, float("-inf")), dim=-1) * some
            heads.append(torch.bmm(weights, values))
        return self.wo(torch.cat(heads, dim=-1))


@alternative(replaces="CachedAttention")
class WholeCacheUnderAMask(CachedAttention):
    """Attends over all positions of the cache, those behind the new tokens masked; float32 inside."""

    def forward(self, x, start_pos, freqs_cis, mask=None):
        Steps.check(self, x, start_pos, freqs_cis)
        B, T, _ = x.shape
        length, S = self.cache_k.shape[1], start_pos + T
        q, k, v = Steps.project(self, x)
        where = torch.arange(start_pos, S, device=x.device)
        self.cache_k[:B].index_copy_(1, where, turned(k, freqs_cis))
        self.cache_v[:B].index_copy_(1, where, v)
        precise = torch.promote_types(x.dtype, torch.float32)
        keys, values = (Steps.repeat(self, c[:B].to(precise)).transpose(1, 2) for c in (self.cache_k, self.cache_v))
        scores = turned(q, freqs_cis).to(precise).transpose(1, 2) @ keys.mT / math.sqrt(self.head_dim)
        if mask is None:
            allowed = torch.arange(length, device=x.device) <= where[:, None]
        else:
            allowed = nn.functional.pad(mask.expand(*mask.shape[:-1], S), (0, length - S), value=False)
        top = scores.masked_fill(~allowed, torch.finfo(precise).min).amax(dim=-1, keepdim=True)
        powers = (scores - top).clamp(max=0.0).exp() * allowed
        weights = powers / powers.sum(dim=-1, keepdim=True).clamp(min=1e-30)
        return self.wo((weights @ values).transpose(1, 2).flatten(2).to(x.dtype))


@alternative(replaces="CachedAttention")
class NewBuffersEachCall(Steps):
    """Never writes in place: each call makes new caches and registers them."""

    def store(self, k, v, start_pos):
        B, T = k.shape[:2]
        for name, new in ("cache_k", k), ("cache_v", v):
            old = getattr(self, name)
            rows = torch.cat((old[:B, :start_pos], new.detach(), old[:B, start_pos + T :]), dim=1)
            self.register_buffer(name, torch.cat((rows, old[B:])), persistent=False)


@alternative(replaces="CachedAttention")
class BareParameters(nn.Module):
    def __init__(self, dim, n_heads, n_kv_heads, max_batch, max_len):
        if min(dim, n_heads, n_kv_heads, max_batch, max_len) <= 0 or dim % n_heads or n_heads % n_kv_heads:
            raise ValueError("sizes")
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = n_heads, n_kv_heads, dim // n_heads
        if self.head_dim & 1:
            raise ValueError("odd")
        self.register_buffer("cache_v", torch.zeros(max_batch, max_len, n_kv_heads, self.head_dim), persistent=False)
        self.register_buffer("cache_k", torch.zeros_like(self.cache_v), persistent=False)
        for name, rows in (
            ("wo", dim),
            ("wv", n_kv_heads * self.head_dim),
            ("wk", n_kv_heads * self.head_dim),
            ("wq", dim),
        ):
            self.add_module(name, nn.ParameterDict({"weight": nn.Parameter(torch.randn(rows, dim) / dim**0.5)}))

    def forward(self, x, start_pos, freqs_cis, mask=None):
        Steps.check(self, x, start_pos, freqs_cis)
        heads = [(x @ self.get_submodule(w)["weight"].T).unflatten(-1, (-1, self.head_dim)) for w in ("wq", "wk", "wv")]
        k, v = turned(heads[1], freqs_cis), heads[2]
        k, v = (  # what was there before, and the new ones
            torch.cat((cache[: len(x), :start_pos], new), dim=1).movedim(1, 2)
            for cache, new in ((self.cache_k, k), (self.cache_v, v))
        )
        Steps.store(self, k.movedim(1, 2)[:, start_pos:], v.movedim(1, 2)[:, start_pos:], start_pos)
        q = turned(heads[0], freqs_cis).movedim(1, 2).unflatten(1, (self.n_kv_heads, -1))  # (B, G, R, T, K)
        scores = (q @ k[:, :, None].mT).flatten(1, 2) / self.head_dim**0.5
        weights = Steps.weigh(self, scores, mask, start_pos).unflatten(1, (self.n_kv_heads, -1))
        joined = (weights @ v[:, :, None]).flatten(1, 2).movedim(1, 2).flatten(2)
        return nn.functional.linear(joined, self.wo["weight"])

    causal = Steps.causal


@alternative(replaces="CachedAttention")
class InInferenceMode(Steps):
    """As in Llama's reference code."""

    @torch.inference_mode()
    def forward(self, x, start_pos, freqs_cis, mask=None):
        return super().forward(x, start_pos, freqs_cis, mask)
