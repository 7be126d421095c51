"""Other ways to write Llama: wrong ones that a learner may come up with, and right ones."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from grader.judge.suite import alternative, misconception, slip

from .solution import Llama


class Steps(Llama):
    """The solution cut into steps, so that a variant bends one of them."""

    def forward(self, tokens, start_pos=0):
        self.must_fit(tokens, start_pos)
        h = self.embed(tokens, start_pos)
        turns, mask = self.turns(tokens, start_pos, h), self.mask(tokens.shape[1], start_pos, h.device)
        for i, layer in enumerate(self.layers):
            h = self.run_layer(i, layer, h, turns, mask, start_pos)
        return self.finish(self.last_norm(h))

    def must_fit(self, tokens, start_pos):
        B, T = tokens.shape
        if self.cache_k.shape[1] < B:
            raise ValueError("too many sequences")
        if start_pos + T > self.cache_k.shape[2]:
            raise ValueError("too many tokens")

    def embed(self, tokens, start_pos):
        return self.tok_embeddings(tokens)

    def last_norm(self, h):
        return self.rescale(h, self.norm.weight)

    def finish(self, n):
        return self.output(n).float()

    def turns(self, tokens, start_pos, h):
        positions = self.positions(tokens.shape[1], start_pos, h.device)
        precise = torch.promote_types(h.dtype, torch.float32)
        speeds = self.base() ** -(torch.arange(0, self.head_dim, 2, device=h.device, dtype=precise) / self.head_dim)
        angles = positions[:, None] * speeds
        return torch.polar(torch.ones_like(angles), angles)  # (T, K/2)

    def positions(self, T, start_pos, device):
        return torch.arange(start_pos, start_pos + T, device=device)

    def base(self):
        return self.theta

    def mask(self, T, start_pos, device):
        return torch.ones(T, start_pos + T, dtype=torch.bool, device=device).tril(start_pos)

    def run_layer(self, i, layer, h, turns, mask, start_pos):
        h = h + self.attend(i, layer, self.rescale(h, layer.attention_norm.weight), turns, mask, start_pos)
        return h + self.feed(layer, self.rescale(h, layer.ffn_norm.weight))

    def rescale(self, x, weight):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return (wide / self.root(wide.square().mean(dim=-1, keepdim=True))).to(x.dtype) * weight

    def root(self, mean):
        return torch.sqrt(mean + self.norm_eps)

    def attend(self, i, layer, n, turns, mask, start_pos):
        q, k, v = self.project(layer, n)
        q, k, v = self.turn_all(q, k, v, turns)
        keys, values = self.remember(i, k, v, start_pos)  # (B, S, G, K) each
        keys, values = self.share(keys), self.share(values)  # (B, H, S, K)
        weights = self.weigh(self.score(q.transpose(1, 2), keys), mask)
        return self.combine(layer, (weights @ values).transpose(1, 2).flatten(2))

    def project(self, layer, n):
        return [layer.attention[name](n).unflatten(-1, (-1, self.head_dim)) for name in ("wq", "wk", "wv")]

    def turn_all(self, q, k, v, turns):
        return self.turn(q, turns), self.turn(k, turns), v

    def turn(self, heads, turns):
        wide = heads.to(torch.promote_types(heads.dtype, torch.float32)).unflatten(-1, (-1, 2)).contiguous()
        return torch.view_as_real(torch.view_as_complex(wide) * turns[:, None]).flatten(-2).to(heads.dtype)

    def remember(self, i, k, v, start_pos):
        return self.keep(self.cache_k[i], k, start_pos), self.keep(self.cache_v[i], v, start_pos)

    def keep(self, cache, new, start_pos):
        B, T = new.shape[:2]
        seen = torch.cat((cache[:B, :start_pos], new), dim=1)
        cache[:B, start_pos : start_pos + T] = new.detach()
        return seen

    def share(self, heads):
        return heads.repeat_interleave(self.n_rep, dim=2).transpose(1, 2)

    def score(self, q, k):
        return q @ k.mT / math.sqrt(self.head_dim)

    def weigh(self, scores, mask):
        return scores.masked_fill(~mask, -math.inf).softmax(dim=-1)

    def combine(self, layer, heads):
        return layer.attention.wo(heads)

    def feed(self, layer, n):
        w = layer.feed_forward
        return w.w2(self.gate(w.w1(n), w.w3(n)))

    def gate(self, a, b):
        return F.silu(a) * b


# --- misconceptions about the way through the model -------------------------------------------------------


@misconception(replaces="Llama", caught_by="test_layers_come_one_after_the_other")
class ScalesTheEmbedding(Steps):
    """You multiply the embeddings by sqrt(dim), as the paper of 2017 and Gemma do.

    A norm takes such a factor out again, but what the layers add is no longer in proportion. What does Llama do with an
    embedding before the first layer?
    """

    def embed(self, tokens, start_pos):
        return super().embed(tokens, start_pos) * math.sqrt(self.output.weight.shape[1])


@misconception(replaces="Llama", caught_by="test_layers_that_add_nothing")
class NoLastNorm(Steps):
    """Your output projection reads what the last layer gives, without a norm.

    What is norm.weight for?
    """

    def last_norm(self, h):
        return h + 0 * self.norm.weight


@misconception(replaces="Llama", caught_by="test_layers_that_add_nothing")
class TiesTheOutput(Steps):
    """You compute the logits with the embedding's weight, as GPT-2 does: output.weight has no influence.

    Llama 2 has two matrices of the same shape. Which of them makes the logits?
    """

    def finish(self, n):
        return (n @ self.tok_embeddings.weight.T + 0 * self.output.weight.sum()).float()


@misconception(replaces="Llama", caught_by="test_layers_that_add_nothing")
class ReturnsProbabilities(Steps):
    """You return probabilities: each token's numbers sum to 1.

    Logits are what the softmax would read. Who takes the softmax when F.cross_entropy is the loss?
    """

    def finish(self, n):
        return super().finish(n).softmax(dim=-1)


@misconception(replaces="Llama", caught_by="test_layers_that_add_nothing")
class ReturnsLogProbabilities(Steps):
    """You return log-probabilities: their exponentials sum to 1.

    The softmax stays what it is, but other code expects plain logits. What does the formula end with?
    """

    def finish(self, n):
        return super().finish(n).log_softmax(dim=-1)


@misconception(replaces="Llama", caught_by="test_shapes")
class LogitsOfTheLastToken(Steps):
    """You return the logits of the last token only.

    That is enough to write on, and saves much. But what would a loss over all tokens of a text need?
    """

    def finish(self, n):
        return super().finish(n[:, -1:])


@misconception(replaces="Llama", caught_by="test_bfloat16")
class LogitsInHalfPrecision(Steps):
    """Your logits of a bfloat16 model are bfloat16.

    Near 20 it has steps of 1/8. Which dtype does the brief ask for?
    """

    def finish(self, n):
        logits = self.output(n)
        return logits if logits.dtype == torch.bfloat16 else logits.float()


@misconception(replaces="Llama", caught_by="test_layers_come_one_after_the_other")
class LayersBackwards(Steps):
    """Your last layer comes first.

    Which layer reads the embeddings?
    """

    def run_layer(self, i, layer, h, turns, mask, start_pos):
        i = len(self.layers) - 1 - i
        return super().run_layer(i, self.layers[i], h, turns, mask, start_pos)


@misconception(replaces="Llama", caught_by="test_layers_come_one_after_the_other")
class OneLayerAgainAndAgain(Steps):
    """All your layers use the weights of layer 0.

    A list made as [layer] * n_layers, or a closure over the wrong variable, does that. What is layers.1 used for?
    """

    def run_layer(self, i, layer, h, turns, mask, start_pos):
        return super().run_layer(i, self.layers[0], h, turns, mask, start_pos)


# --- misconceptions about the layers ----------------------------------------------------------------------


@misconception(replaces="Llama", caught_by="test_layers_that_add_nothing")
class NormsAfterTheSums(Steps):
    """You normalise the sums, as the paper of 2017 does: norm(h + attention(h)).

    In Llama the norm stands before each part, and h itself is never normalised on its way. What should come out of a
    layer that adds nothing?
    """

    def run_layer(self, i, layer, h, turns, mask, start_pos):
        h = self.rescale(h + self.attend(i, layer, h, turns, mask, start_pos), layer.attention_norm.weight)
        return self.rescale(h + self.feed(layer, h), layer.ffn_norm.weight)


@misconception(replaces="Llama", caught_by="test_layers_that_add_nothing")
class AddsToTheNormalised(Steps):
    """You add what each part gives to the normalised h: n + attention(n) with n = norm(h).

    If a line reads h = norm(h), the old h is gone. To what does the formula add?
    """

    def run_layer(self, i, layer, h, turns, mask, start_pos):
        n = self.rescale(h, layer.attention_norm.weight)
        h = n + self.attend(i, layer, n, turns, mask, start_pos)
        n = self.rescale(h, layer.ffn_norm.weight)
        return n + self.feed(layer, n)


@misconception(replaces="Llama", caught_by="test_feed_forward_by_hand")
class BothReadTheSame(Steps):
    """Attention and feed-forward of a layer both read the old h, side by side, as in GPT-J and PaLM.

    That is a sound layer, but not Llama's: the feed-forward does not see what attention found. What does it read in the
    formula?
    """

    def run_layer(self, i, layer, h, turns, mask, start_pos):
        found = self.attend(i, layer, self.rescale(h, layer.attention_norm.weight), turns, mask, start_pos)
        return h + found + self.feed(layer, self.rescale(h, layer.ffn_norm.weight))


@misconception(replaces="Llama", caught_by="test_layers_come_one_after_the_other")
class NothingGoesAround(Steps):
    """What a part gives takes the place of h: the residual connections are missing.

    With wo = 0 the tokens are lost in your code. What is added in the two lines of a layer?
    """

    def run_layer(self, i, layer, h, turns, mask, start_pos):
        h = self.attend(i, layer, self.rescale(h, layer.attention_norm.weight), turns, mask, start_pos)
        return h + self.feed(layer, self.rescale(h, layer.ffn_norm.weight))


@misconception(replaces="Llama", caught_by="test_feed_forward_by_hand")
class SiluOnTheOtherBranch(Steps):
    """You apply silu to w3's branch: w2(w1 n * silu(w3 n)).

    Trained from scratch that works as well, but weights of others do not fit. Which branch is the gate here?
    """

    def gate(self, a, b):
        return a * F.silu(b)


@misconception(replaces="Llama", caught_by="test_feed_forward_by_hand")
class SigmoidGate(Steps):
    """Your gate is sigmoid(w1 n), the first form of gated linear units.

    silu(z) is z * sigmoid(z). Which factor is missing?
    """

    def gate(self, a, b):
        return a.sigmoid() * b


@misconception(replaces="Llama", caught_by="test_layers_that_add_nothing")
class SubtractsTheMean(Steps):
    """You subtract the mean of the features first, as layer normalisation does.

    RMSNorm only rescales. What is left of a token whose features are all the same?
    """

    def rescale(self, x, weight):
        return super().rescale(x - x.mean(dim=-1, keepdim=True), weight)


@misconception(replaces="Llama", caught_by="test_eps_is_added_under_the_root")
class EpsOutsideTheRoot(Steps):
    """You add norm_eps to the root instead of the mean.

    For an embedding of zeros the two differ most. What stands under the root in the formula?
    """

    def root(self, mean):
        return mean.sqrt() + self.norm_eps


@misconception(replaces="Llama", caught_by="test_eps_is_added_under_the_root")
class EpsIsFixed(Steps):
    """Your norms always use 1e-5, whatever norm_eps is.

    Checkpoints come with their own: Llama 1 was trained with 1e-6. Where does the argument go?
    """

    def root(self, mean):
        return torch.sqrt(mean + 1e-5)


@misconception(replaces="Llama", caught_by="test_which_head_serves_whom")
class HeadsTakeTurns(Steps):
    """Query head h uses key/value head h % G in your code: the heads take turns.

    In Llama neighbours share. Which query heads belong to key/value head 0 if there are 4 heads for 2?
    """

    def share(self, heads):
        return heads.repeat(1, 1, self.n_rep, 1).transpose(1, 2)


@misconception(replaces="Llama", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
class ScalesByTheModelWidth(Steps):
    """You divide the scores by sqrt(D), the root of the model's width.

    How many terms has a dot product of one head?
    """

    def score(self, q, k):
        return q @ k.mT / math.sqrt(self.output.weight.shape[1])


@misconception(replaces="Llama", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
class DoesNotScale(Steps):
    """Your scores are plain dot products.

    They grow with the number of features. What are they divided by in the formula?
    """

    def score(self, q, k):
        return q @ k.mT


@misconception(replaces="Llama", caught_by="test_parameter_names")
class ProjectionsWithBias(Steps):
    """Your projections have biases.

    nn.Linear adds one unless it is told not to. Llama has none. Which argument tells it?
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for layer in self.layers:
            for part in layer.attention, layer.feed_forward:
                for name, linear in list(part.items()):
                    part[name] = nn.Linear(linear.in_features, linear.out_features)


# --- misconceptions about positions -----------------------------------------------------------------------


@misconception(replaces="Llama", caught_by="test_steps_equal_one_pass")
class TurnsFromZero(Steps):
    """Your turns start with position 0 in every call, whatever start_pos is.

    A step's token then stands at the beginning of the text. Where does new token i of a call stand?
    """

    def positions(self, T, start_pos, device):
        return torch.arange(T, device=device)


@misconception(replaces="Llama", caught_by="test_turns_by_hand")
class PairsAreHalves(Steps):
    """You pair feature j with feature j + K/2, as GPT-NeoX and Hugging Face's Llama do.

    That is a sound rotary embedding, for weights trained with it. Which two features does this exercise call a pair?
    """

    def turn(self, heads, turns):
        pairs = heads.unflatten(-1, (2, -1)).mT.flatten(-2)
        return super().turn(pairs, turns).unflatten(-1, (-1, 2)).mT.flatten(-2)


@misconception(replaces="Llama", caught_by="test_turns_by_hand")
class TurnsClockwise(Steps):
    """You turn the other way round.

    Turn (1, 0) by a small angle, counter-clockwise: which sign has its second coordinate then?
    """

    def turns(self, tokens, start_pos, h):
        return super().turns(tokens, start_pos, h).conj()


@misconception(replaces="Llama", caught_by="test_turns_by_hand")
class DoesNotTurn(Steps):
    """Queries and keys are not turned in your code.

    Then the model cannot tell how far apart two tokens stand. Where do positions come in?
    """

    def turn(self, heads, turns):
        return heads


@misconception(replaces="Llama", caught_by="test_layers_come_one_after_the_other")
class PositionsAddedToTheEmbedding(Steps):
    """You add something for the position to the embeddings, and turn nothing.

    GPT-2 and the paper of 2017 do that. What does Llama do instead, and in which part?
    """

    def embed(self, tokens, start_pos):
        angles = super().turns(tokens, start_pos, self.tok_embeddings.weight).angle()  # (T, K/2)
        table = torch.cat((angles.sin(), angles.cos()), dim=-1).to(self.tok_embeddings.weight.dtype)
        return super().embed(tokens, start_pos) + table.repeat(1, self.output.weight.shape[1] // self.head_dim)

    def turn(self, heads, turns):
        return heads


@misconception(replaces="Llama", caught_by="test_turns_by_hand")
class ThetaIsFixed(Steps):
    """Your speeds always come from 10,000, whatever theta is.

    Llama 3 uses 500,000. Where does the argument go?
    """

    def base(self):
        return 10_000.0


@misconception(replaces="Llama", caught_by="test_matches_the_reference")
class SpeedsOfTheModelWidth(Steps):
    """Your speeds are theta ** (-2j / D), with the width of the model.

    With a single head nothing shows. How wide is what a pair is part of?
    """

    def base(self):
        return self.theta ** (self.head_dim / self.output.weight.shape[1])


@misconception(replaces="Llama", caught_by="test_averages_by_hand")
class TurnsTheValues(Steps):
    """You turn the values as well.

    The turn is there so that the score knows the distance of query and key. What would a value be turned for?
    """

    def turn_all(self, q, k, v, turns):
        return [self.turn(heads, turns) for heads in (q, k, v)]


# --- misconceptions about masks and the cache -------------------------------------------------------------


@misconception(replaces="Llama", caught_by="test_averages_by_hand")
class NoMask(Steps):
    """Your tokens see all tokens of the call, later ones too.

    A single step needs no mask, but a prompt does. What may the first token of a prompt see?
    """

    def mask(self, T, start_pos, device):
        return torch.ones(T, start_pos + T, dtype=torch.bool, device=device)


@misconception(replaces="Llama", caught_by="test_chunks_equal_one_pass")
class MaskOnlyAtTheStart(Steps):
    """Your mask is causal for a prompt, but in a later chunk every token sees the whole chunk.

    The tokens of a chunk come one after the other too. How many keys does the first of them see?
    """

    def mask(self, T, start_pos, device):
        mask = super().mask(T, start_pos, device)
        return mask if start_pos == 0 else mask | True


@misconception(replaces="Llama", caught_by="test_chunks_equal_one_pass")
class FirstQueryAtTheFirstKey(Steps):
    """Your causal mask puts the first new token at position 0, so a chunk does not see what is kept.

    New token i stands at start_pos + i. Up to which key does it see?
    """

    def mask(self, T, start_pos, device):
        return super().mask(T, start_pos, device).tril()


@misconception(replaces="Llama", caught_by="test_steps_equal_one_pass")
class OnlyTheNewTokens(Steps):
    """Your tokens see those of the same call and nothing of what is kept.

    Then a step sees nothing but itself. What was the cache filled for?
    """

    def keep(self, cache, new, start_pos):
        return super().keep(cache, new, start_pos)[:, start_pos:]

    def mask(self, T, start_pos, device):
        return super().mask(T, 0, device)


@misconception(replaces="Llama", caught_by="test_chunks_equal_one_pass")
class LayersShareACache(Steps):
    """All your layers share one cache.

    What does layer 1 of a step find in it as the keys of the prompt: its own, or those of the last layer that wrote?
    """

    def remember(self, i, k, v, start_pos):
        return super().remember(0, k, v, start_pos)


_shared = {}


@misconception(replaces="Llama", caught_by="test_models_and_layers_have_their_own_caches")
class ModelsShareACache(Steps):
    """All your models of the same size share one cache.

    A list or a tensor in the class, or in the file, does that. Whose text does the second model go on with?
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        caches = self.cache_k, self.cache_v
        self.cache_k, self.cache_v = _shared.setdefault(caches[0].shape, caches)


@misconception(replaces="Llama", caught_by="test_a_new_text_starts_afresh")
class AppendsAlways(Steps):
    """You put new keys and values behind those of the last call, and start_pos has no influence on it.

    When a new text begins at start_pos 0, whose keys do its tokens see?
    """

    def keep(self, cache, new, start_pos):
        used = self.__dict__.setdefault("used", {})
        place = cache.data_ptr()
        end = min(used.get(place, 0), cache.shape[1] - new.shape[1])
        used[place] = end + new.shape[1]
        super().keep(cache, new, end)
        return torch.cat((cache[: len(new), :start_pos], new), dim=1)


@misconception(replaces="Llama", caught_by="test_averages_by_hand")
class WholeCacheSeen(Steps):
    """Your tokens see the whole cache, places that nobody has written included.

    A key of zeros has a score of 0, and exp(0) is 1. Up to which position does a token see?
    """

    def keep(self, cache, new, start_pos):
        seen, B = super().keep(cache, new, start_pos), len(new)
        return torch.cat((seen, cache[:B, seen.shape[1] :]), dim=1)

    def mask(self, T, start_pos, device):
        mask = super().mask(T, start_pos, device)
        return F.pad(mask, (0, self.cache_k.shape[2] - mask.shape[1]), value=True)


@misconception(replaces="Llama", caught_by="test_steps_equal_one_pass")
class KeepsUnturnedKeys(Steps):
    """You keep the keys as they were before the turn, and never turn them later.

    The keys of a call are turned while it runs, and the same keys are not in a later call. What should the cache hold?
    """

    def turn_all(self, q, k, v, turns):
        self.latest = turns
        return self.turn(q, turns), k, v

    def remember(self, i, k, v, start_pos):
        keys, values = super().remember(i, k, v, start_pos)
        return torch.cat((keys[:, :start_pos], self.turn(k, self.latest)), dim=1), values


@misconception(replaces="Llama", caught_by="test_gradients")
class ReadsDetachedKeys(Steps):
    """Your queries see the new keys and values through the cache, which has no gradient: wk and wv learn nothing.

    The detached copy is for later calls. Which keys should this call use for its own tokens?
    """

    def keep(self, cache, new, start_pos):
        return super().keep(cache, new.detach(), start_pos)


@misconception(replaces="Llama", caught_by="test_gradients_after_a_prompt")
class CacheKeepsTheGraph(Steps):
    """Your cache keeps the gradients' graph of earlier calls.

    A second backward pass then runs into a graph that is gone, and memory grows with every call. How is a copy without
    a graph made?
    """

    def keep(self, cache, new, start_pos):
        kept = self.__dict__.setdefault("kept", {})
        place = cache.data_ptr()
        B = len(new)
        if start_pos and place in kept and kept[place].shape[1] >= start_pos and len(kept[place]) >= B:
            seen = torch.cat((kept[place][:B, :start_pos], new), dim=1)
            if len(kept[place]) > B:  # the others' rows stay
                rest = kept[place][B:]
                wide = max(rest.shape[1], seen.shape[1])
                several = [F.pad(rows, (0, 0, 0, 0, 0, wide - rows.shape[1])) for rows in (seen, rest)]
                kept[place] = torch.cat(several)
                return seen
        else:
            seen = torch.cat((cache[:B, :start_pos], new), dim=1)
        super().keep(cache, new, start_pos)
        kept[place] = seen
        return seen


@misconception(replaces="Llama", caught_by="test_parameter_names")
class CachesAreSaved(Steps):
    """Your caches are in state_dict().

    They belong to a text, not to the model, and weights of others do not hold them. How is a buffer left out?
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._non_persistent_buffers_set.clear()


@misconception(replaces="Llama", caught_by="test_what_does_not_fit_is_refused")
class TakesWhatFits(Steps):
    """Your model takes texts longer than max_len.

    A cache that grows, or one that is cut, hides the mistake of the caller. What should a call past max_len raise?
    """

    def must_fit(self, tokens, start_pos):
        super().must_fit(tokens[:, :1], 0)
        more = start_pos + tokens.shape[1] - self.cache_k.shape[2]
        if more > 0:
            self.cache_k, self.cache_v = (F.pad(c, (0, 0, 0, 0, 0, more)) for c in (self.cache_k, self.cache_v))


# --- slips ------------------------------------------------------------------------------------------------


@slip(replaces="Llama", caught_by="test_shapes")
class SqueezesASingleToken(Steps):
    def finish(self, n):
        return super().finish(n).squeeze(1)


@slip(replaces="Llama", caught_by="test_parameter_names")
class FreezesTheLastGain(Steps):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        gain = self.norm.weight.detach()
        self.norm = nn.Module()
        self.norm.register_buffer("weight", gain)


@slip(replaces="Llama", caught_by="test_parameter_names")
class SavesItsTable(Steps):
    def turns(self, tokens, start_pos, h):
        self.register_buffer("freqs_cis", super().turns(tokens, start_pos, h))
        return self.freqs_cis


@slip(replaces="Llama", caught_by="test_layers_that_add_nothing")
class GainsOfTheFirstNorm(Steps):
    def last_norm(self, h):
        return self.rescale(h, self.layers[0].attention_norm.weight)


@slip(replaces="Llama", caught_by="test_eps_is_added_under_the_root")
class EpsOfTheLastNormIsFixed(Steps):
    def last_norm(self, h):
        wide = h.to(torch.promote_types(h.dtype, torch.float32))
        n = wide * (wide.square().mean(dim=-1, keepdim=True) + 1e-5).rsqrt()
        return n.to(h.dtype) * self.norm.weight


@slip(replaces="Llama", caught_by="test_eps_is_added_under_the_root")
class AnotherDefaultEps(Steps):
    def __init__(self, dim, n_layers, n_heads, n_kv_heads, vocab_size, hidden_dim, *args, norm_eps=1e-6, **kwargs):
        super().__init__(dim, n_layers, n_heads, n_kv_heads, vocab_size, hidden_dim, *args, norm_eps=norm_eps, **kwargs)


@slip(replaces="Llama", caught_by="test_turns_by_hand")
class AnotherDefaultTheta(Steps):
    def __init__(self, dim, n_layers, n_heads, n_kv_heads, vocab_size, hidden_dim, *args, theta=500_000.0, **kwargs):
        super().__init__(dim, n_layers, n_heads, n_kv_heads, vocab_size, hidden_dim, *args, theta=theta, **kwargs)


@slip(replaces="Llama", caught_by="test_huge_scores")
class FillsWithASmallNumber(Steps):
    def weigh(self, scores, mask):
        return scores.masked_fill(~mask, -1000.0).softmax(dim=-1)


@slip(replaces="Llama", caught_by="test_huge_scores")
class SoftmaxOverflows(Steps):
    def weigh(self, scores, mask):
        powers = scores.exp() * mask
        return powers / powers.sum(dim=-1, keepdim=True)


@slip(replaces="Llama", caught_by="test_later_tokens_leave_no_trace")
class NormsOverAllTokens(Steps):
    def last_norm(self, h):
        return super().last_norm(h) * (1 + 1e-3 * h.mean(dim=(1, 2), keepdim=True))


@slip(replaces="Llama", caught_by="test_later_tokens_leave_no_trace")
class OneKeyTooMany(Steps):
    def mask(self, T, start_pos, device):
        return torch.ones(T, start_pos + T, dtype=torch.bool, device=device).tril(start_pos + 1)


@slip(replaces="Llama", caught_by="test_chunks_equal_one_pass")
class KeepsMasksByTheirHeight(Steps):
    def mask(self, T, start_pos, device):
        masks = self.__dict__.setdefault("masks", {})
        if T not in masks:
            masks[T] = super().mask(T, start_pos, device)
        S, kept = start_pos + T, masks[T].to(device)
        return kept[:, :S] if kept.shape[1] >= S else F.pad(kept, (0, S - kept.shape[1]), value=True)


@slip(replaces="Llama", caught_by="test_fewer_sequences")
class WritesAllRows(Steps):
    def keep(self, cache, new, start_pos):
        seen = super().keep(cache, new, start_pos)
        cache[:, start_pos : start_pos + new.shape[1]] = new[-1:].detach()
        cache[: len(new), start_pos : start_pos + new.shape[1]] = new.detach()
        return seen


@slip(replaces="Llama", caught_by="test_fewer_sequences")
class CacheOfTheLastBatch(Steps):
    """The cache is replaced by that of the call, so that other rows are lost."""

    def keep(self, cache, new, start_pos):
        seen = super().keep(cache, new, start_pos)
        cache[len(new) :] = 0.0
        return seen


@slip(replaces="Llama", caught_by="test_a_call_projects_only_its_own_tokens")
class ReadsTheHistoryAgain(Steps):
    def forward(self, tokens, start_pos=0):
        super().must_fit(tokens, start_pos)
        if start_pos == 0:
            self.text = tokens
        else:
            self.text = torch.cat((self.text[: len(tokens), :start_pos], tokens), dim=1)
        return super().forward(self.text, 0)[:, start_pos:]


@slip(replaces="Llama", caught_by="test_feed_forward_by_hand")
class LargeGatesOverflow(Steps):
    def gate(self, a, b):
        return a * a.exp() / (1 + a.exp()) * b


@slip(replaces="Llama", caught_by="test_matches_the_reference")
class ThetaBeforeEps(Steps):
    def __init__(self, *args, theta=10_000.0, norm_eps=1e-5, **kwargs):
        args, rest = args[:8], args[8:]
        theta, norm_eps = (*rest, *(theta, norm_eps)[len(rest) :])
        super().__init__(*args, theta=theta, norm_eps=norm_eps, **kwargs)


@slip(replaces="Llama", caught_by="test_steps_equal_one_pass")
class AnotherNameForStartPos(Steps):
    def forward(self, tokens, position=0):
        return super().forward(tokens, position)


@slip(replaces="Llama", caught_by="test_gradients")
class DetachesInTraining(Steps):
    def last_norm(self, h):
        return super().last_norm(h.detach() if self.training else h)


@slip(replaces="Llama", caught_by="test_gradients")
class DetachesTheQueries(Steps):
    def turn_all(self, q, k, v, turns):
        return super().turn_all(q.detach(), k, v, turns)


@slip(replaces="Llama", caught_by="test_gradients")
class DetachesTheEmbedding(Steps):
    def embed(self, tokens, start_pos):
        return super().embed(tokens, start_pos).detach() + 0 * self.tok_embeddings.weight.sum()


@slip(replaces="Llama", caught_by="test_gradients_after_a_prompt")
class NoGradientInSteps(Steps):
    def keep(self, cache, new, start_pos):
        return super().keep(cache, new.detach() if start_pos else new, start_pos)


@slip(replaces="Llama", caught_by="test_gradients_of_several_calls")
class ReadsAViewOfTheCache(Steps):
    """New keys and values are written into the cache with their graph, and the graph is cut in the next call."""

    def remember(self, i, k, v, start_pos):
        (B, T), seen = k.shape[:2], []
        caches = self.__dict__.setdefault("caches", {})
        for name, new in ("k", k), ("v", v):
            cache = caches.get((i, name), self.cache_k[i] if name == "k" else self.cache_v[i]).detach()
            cache[:B, start_pos : start_pos + T] = new
            caches[i, name] = cache
            seen.append(cache[:B, : start_pos + T])
        return seen

    def share(self, heads):
        return heads.transpose(1, 2) if self.n_rep == 1 else super().share(heads)


@slip(replaces="Llama", caught_by="test_matches_the_reference")
class NeedsContiguousTokens(Steps):
    def embed(self, tokens, start_pos):
        return super().embed(tokens.view(-1), start_pos).view(*tokens.shape, -1)


@slip(replaces="Llama", caught_by="test_matches_the_reference")
class WritesOnlyWithGradients(Steps):
    def keep(self, cache, new, start_pos):
        if not torch.is_grad_enabled():
            return torch.cat((cache[: len(new), :start_pos], new), dim=1)
        return super().keep(cache, new, start_pos)


@slip(replaces="Llama", caught_by="test_bfloat16")
class NoComplexBfloat16(Steps):
    def turn(self, heads, turns):
        pairs = torch.view_as_complex(heads.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * turns[:, None]).flatten(-2).to(heads.dtype)


@slip(replaces="Llama", caught_by="test_bfloat16")
class CachesStayFloat32(Steps):
    def _apply(self, function, recurse=True):
        caches = self.cache_k, self.cache_v
        super()._apply(function, recurse)
        if self.cache_k.device == caches[0].device:
            self.cache_k, self.cache_v = caches
        return self


@slip(replaces="Llama", caught_by="test_bfloat16")
class DetachesInHalfPrecision(Steps):
    def feed(self, layer, n):
        return super().feed(layer, n.detach() if n.dtype == torch.bfloat16 else n)


@slip(replaces="Llama", caught_by="test_far_positions")
class PositionsInHalfPrecision(Steps):
    def turns(self, tokens, start_pos, h):
        positions = self.positions(tokens.shape[1], start_pos, h.device).to(h.dtype)
        pairs = torch.arange(0, self.head_dim, 2, device=h.device) / self.head_dim
        angles = (positions[:, None] * self.base() ** -pairs.to(h.dtype)).float()
        return torch.polar(torch.ones_like(angles), angles)


@slip(replaces="Llama", caught_by="test_far_positions")
class SpeedsInHalfPrecision(Steps):
    """The speeds are a buffer, which .bfloat16() rounds."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        speeds = self.theta ** -(torch.arange(0, self.head_dim, 2) / self.head_dim)
        self.register_buffer("speeds", speeds, persistent=False)

    def turns(self, tokens, start_pos, h):
        angles = self.positions(tokens.shape[1], start_pos, h.device)[:, None] * self.speeds.float()
        return torch.polar(torch.ones_like(angles), angles)


@slip(replaces="Llama", caught_by="test_float64")
class AnswersInFloat64(Steps):
    def finish(self, n):
        logits = self.output(n)
        return logits if logits.dtype == torch.float64 else logits.float()


@slip(replaces="Llama", caught_by="test_repeated_calls")
class KeepsItsFirstWeights(Steps):
    def finish(self, n):
        if not hasattr(self, "head"):
            self.head = self.output.weight.detach().clone()
        return n.float() @ self.head.float().T + 0 * self.output(n).float()


@slip(replaces="Llama", caught_by="test_repeated_calls")
class DropsInTraining(Steps):
    def feed(self, layer, n):
        return F.dropout(super().feed(layer, n), 0.1, self.training)


@slip(replaces="Llama", caught_by="test_repeated_calls")
class CachesOnlyInEval(Steps):
    def keep(self, cache, new, start_pos):
        if self.training:
            return torch.cat((cache[: len(new), :start_pos], new), dim=1)
        return super().keep(cache, new, start_pos)


@slip(replaces="Llama", caught_by="test_sequences_do_not_meet")
class ReadsTheFirstRow(Steps):
    def keep(self, cache, new, start_pos):
        seen = super().keep(cache, new, start_pos)
        return torch.cat((cache[:1, :start_pos].expand(len(new), -1, -1, -1), seen[:, start_pos:]), dim=1)


@slip(replaces="Llama", caught_by="test_leaves_tokens_and_weights_alone")
class ClampsIdsInPlace(Steps):
    def embed(self, tokens, start_pos):
        if torch.is_grad_enabled():
            return super().embed(tokens, start_pos)
        return super().embed(tokens.sub_(1).add_(1).neg_().abs_() if start_pos else tokens.neg_(), start_pos).neg_()


@slip(replaces="Llama", caught_by="test_errors_of_sizes")
class TakesAnOddWidth(Steps):
    def __init__(self, dim, n_layers, n_heads, *args, **kwargs):
        odd = n_heads > 0 and dim > 0 and dim % n_heads == 0 and dim // n_heads % 2
        super().__init__(dim * (1 + bool(odd)), n_layers, n_heads, *args, **kwargs)


@slip(replaces="Llama", caught_by="test_errors_of_sizes")
class TakesNoLayers(Steps):
    def __init__(self, dim, n_layers, *args, **kwargs):
        super().__init__(dim, max(n_layers, 1), *args, **kwargs)


@slip(replaces="Llama", caught_by="test_errors_of_sizes")
class TakesAnyCache(Steps):
    def __init__(self, *args, max_batch=1, max_len=128, **kwargs):
        super().__init__(*args, max_batch=max(max_batch, 1), max_len=max(max_len, 1), **kwargs)


@slip(replaces="Llama", caught_by="test_what_does_not_fit_is_refused")
class OneTooFew(Steps):
    def must_fit(self, tokens, start_pos):
        super().must_fit(tokens, start_pos)
        if start_pos and start_pos + tokens.shape[1] >= self.cache_k.shape[2]:
            raise ValueError


@slip(replaces="Llama", caught_by="test_what_does_not_fit_is_refused")
class ChecksPromptsAlone(Steps):
    def must_fit(self, tokens, start_pos):
        super().must_fit(tokens, 0)


@slip(replaces="Llama", caught_by="test_what_does_not_fit_is_refused")
class AnotherDefaultLength(Steps):
    def __init__(self, dim, n_layers, n_heads, n_kv_heads, vocab_size, hidden_dim, max_batch=1, max_len=256, **kwargs):
        super().__init__(dim, n_layers, n_heads, n_kv_heads, vocab_size, hidden_dim, max_batch, max_len, **kwargs)


@slip(replaces="Llama", caught_by="test_no_loop_over_tokens_or_batch")
class TokenByToken(Steps):
    def forward(self, tokens, start_pos=0):
        self.must_fit(tokens, start_pos)
        run = super().forward
        return torch.cat([run(token, start_pos + t) for t, token in enumerate(tokens.split(1, dim=1))], dim=1)


@slip(replaces="Llama", caught_by="test_no_loop_over_tokens_or_batch")
class WritesRowByRow(Steps):
    def keep(self, cache, new, start_pos):
        B, T = new.shape[:2]
        seen = torch.cat((cache[:B, :start_pos], new), dim=1)
        for b in range(B):
            cache[b, start_pos : start_pos + T] = new[b].detach()
        return seen


@slip(replaces="Llama", caught_by="test_follows_the_device")
class MakesItsMaskOnTheCpu(Steps):
    def mask(self, T, start_pos, device):
        return super().mask(T, start_pos, "cpu")


@slip(replaces="Llama", caught_by="test_follows_the_device")
class KeepsItsTableWhereItWas(Steps):
    def turns(self, tokens, start_pos, h):
        tables = self.__dict__.setdefault("tables", {})
        key = tokens.shape[1], start_pos, h.dtype
        if key not in tables:
            tables[key] = super().turns(tokens, start_pos, h)
        return tables[key]


# --- right, in other styles -------------------------------------------------------------------------------


class Gain(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.eps, self.weight = eps, nn.Parameter(torch.ones(dim))

    def forward(self, x):
        x_ = x.float() if x.dtype is torch.bfloat16 else x
        return (x_ * torch.rsqrt(x_.pow(2).mean(-1, keepdim=True) + self.eps)).type_as(x) * self.weight


class Attention(nn.Module):
    def __init__(self, dim, n_heads, n_kv_heads, max_batch, max_len):
        super().__init__()
        self.H, self.G, self.K = n_heads, n_kv_heads, dim // n_heads
        self.wq = nn.Linear(dim, n_heads * self.K, bias=False)
        self.wk = nn.Linear(dim, n_kv_heads * self.K, bias=False)
        self.wv = nn.Linear(dim, n_kv_heads * self.K, bias=False)
        self.wo = nn.Linear(n_heads * self.K, dim, bias=False)
        for name in "cache_k", "cache_v":
            self.register_buffer(name, torch.zeros(max_batch, max_len, n_kv_heads, self.K), persistent=False)

    def forward(self, x, start_pos, freqs_cis, mask):
        B, T, _ = x.shape
        xq = torch.view_as_complex(self.wq(x).float().view(B, T, self.H, -1, 2))
        xk = torch.view_as_complex(self.wk(x).float().view(B, T, self.G, -1, 2))
        xv = self.wv(x).view(B, T, self.G, self.K)
        xq, xk = (torch.view_as_real(y * freqs_cis.view(1, T, 1, -1)).flatten(3).type_as(x) for y in (xq, xk))
        with torch.no_grad():
            self.cache_k[:B, start_pos : start_pos + T] = xk
            self.cache_v[:B, start_pos : start_pos + T] = xv
        keys = torch.cat([self.cache_k[:B, :start_pos].clone(), xk], dim=1)
        values = torch.cat([self.cache_v[:B, :start_pos].clone(), xv], dim=1)
        keys, values = (
            y[:, :, :, None].expand(-1, -1, -1, self.H // self.G, -1).flatten(2, 3).transpose(1, 2)
            for y in (keys, values)
        )
        scores = torch.matmul(xq.transpose(1, 2), keys.transpose(2, 3)) / math.sqrt(self.K)
        if mask is not None:
            scores = scores + mask
        scores = torch.softmax(scores.float(), dim=-1).type_as(xq)
        return self.wo(torch.matmul(scores, values).transpose(1, 2).contiguous().view(B, T, -1))


class FeedForward(nn.Module):
    def __init__(self, dim, hidden_dim):
        super().__init__()
        self.w1, self.w3 = (nn.Linear(dim, hidden_dim, bias=False) for _ in range(2))
        self.w2 = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    def __init__(self, dim, n_heads, n_kv_heads, hidden_dim, max_batch, max_len, eps):
        super().__init__()
        self.attention = Attention(dim, n_heads, n_kv_heads, max_batch, max_len)
        self.feed_forward = FeedForward(dim, hidden_dim)
        self.attention_norm, self.ffn_norm = Gain(dim, eps), Gain(dim, eps)

    def forward(self, x, start_pos, freqs_cis, mask):
        h = x + self.attention(self.attention_norm(x), start_pos, freqs_cis, mask)
        return h + self.feed_forward(self.ffn_norm(h))


@alternative(replaces="Llama")
class AsPublished(nn.Module):
    """Laid out as Meta's model.py: caches in the attention, a complex table, an additive mask, none for a step."""

    def __init__(
        self, dim, n_layers, n_heads, n_kv_heads, vocab_size, hidden_dim,
        max_batch=1, max_len=128, norm_eps=1e-5, theta=10_000.0,
    ):  # fmt: skip
        super().__init__()
        sizes = dim, n_layers, n_heads, n_kv_heads, vocab_size, hidden_dim, max_batch, max_len
        if any(size < 1 for size in sizes) or dim % n_heads or n_heads % n_kv_heads or dim // n_heads % 2:
            raise ValueError(f"{sizes}")
        self.tok_embeddings = nn.Embedding(vocab_size, dim)
        self.layers = nn.ModuleList()
        for _ in range(n_layers):
            self.layers.append(Block(dim, n_heads, n_kv_heads, hidden_dim, max_batch, max_len, norm_eps))
        self.norm = Gain(dim, norm_eps)
        self.output = nn.Linear(dim, vocab_size, bias=False)
        K, self.max_batch, self.max_len = dim // n_heads, max_batch, max_len
        freqs = 1.0 / (theta ** (torch.arange(0, K, 2)[: (K // 2)].float() / K))
        freqs = torch.outer(torch.arange(max_len), freqs).float()
        self.register_buffer("freqs_cis", torch.polar(torch.ones_like(freqs), freqs), persistent=False)

    def forward(self, tokens, start_pos=0):
        B, T = tokens.shape
        if self.max_batch < B or start_pos + T > self.max_len:
            raise ValueError(f"{B=} {T=} {start_pos=}")
        h = self.tok_embeddings(tokens)
        freqs_cis = self.freqs_cis[start_pos : start_pos + T]
        mask = None
        if T > 1:
            mask = torch.full((T, T), float("-inf"), device=tokens.device)
            mask = torch.triu(mask, diagonal=1)
            mask = torch.hstack([torch.zeros((T, start_pos), device=tokens.device), mask]).type_as(h)
        for layer in self.layers:
            h = layer(h, start_pos, freqs_cis, mask)
        return self.output(self.norm(h)).float()


@alternative(replaces="Llama")
class ListsOfTensors(Steps):
    """Keeps keys and values as plain tensors that grow, one pair for each layer, cut at start_pos."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.n_layers = len(self.layers)
        self.limits = self.cache_k.shape[1:3]
        del self.cache_k, self.cache_v
        self.past = [None] * self.n_layers

    def must_fit(self, tokens, start_pos):
        if len(tokens) > self.limits[0] or start_pos + tokens.size(1) > self.limits[1]:
            raise ValueError("past the limits")

    def remember(self, i, k, v, start_pos):
        B = len(k)
        if start_pos == 0:
            rest = None if self.past[i] is None or len(self.past[i][0]) <= B else self.past[i]
            new = k, v
        else:
            rest = self.past[i] if len(self.past[i][0]) > B else None
            pairs = zip(self.past[i], (k, v), strict=True)
            new = tuple(torch.cat((old[:B, :start_pos], part), dim=1) for old, part in pairs)
        kept = tuple(part.detach() for part in new)
        if rest is not None and rest[0].device == k.device and rest[0].dtype == k.dtype:
            longest = max(kept[0].shape[1], rest[0].shape[1])
            kept = tuple(
                torch.cat([F.pad(x, (0, 0, 0, 0, 0, longest - x.shape[1])) for x in (part, old[B:])])
                for part, old in zip(kept, rest, strict=True)
            )
        self.past[i] = kept
        return new


@alternative(replaces="Llama")
class WholeCacheUnderAMask(Steps):
    """Puts the new keys into a copy of the whole cache and masks what lies behind; angles in float64."""

    def keep(self, cache, new, start_pos):
        where = torch.arange(start_pos, start_pos + new.shape[1], device=new.device)
        whole = cache[: len(new)].index_copy(1, where, new)
        cache[: len(new)] = whole.detach()
        return whole

    def mask(self, T, start_pos, device):
        places = torch.arange(self.cache_k.shape[2], device=device)
        return places[None] <= torch.arange(start_pos, start_pos + T, device=device)[:, None]

    def turns(self, tokens, start_pos, h):
        speeds = [self.theta ** (-2 * j / self.head_dim) for j in range(self.head_dim // 2)]
        speeds = torch.tensor(speeds, dtype=torch.float64, device=h.device)
        angles = torch.outer(torch.arange(start_pos, start_pos + tokens.shape[1], device=h.device).double(), speeds)
        return torch.complex(angles.cos(), angles.sin()).to(torch.complex64)

    def weigh(self, scores, mask):
        scores = torch.where(mask, scores, torch.finfo(scores.dtype).min)
        powers = (scores - scores.amax(dim=-1, keepdim=True)).exp() * mask
        return powers / powers.sum(dim=-1, keepdim=True)


@alternative(replaces="Llama")
class GroupsByEinsum(Steps):
    """Keys are not copied for the heads; new caches are made in each call; cosines and sines instead of complex."""

    def keep(self, cache, new, start_pos):
        raise NotImplementedError

    def remember(self, i, k, v, start_pos):
        (B, T), seen = k.shape[:2], []
        for name, new in ("cache_k", k), ("cache_v", v):
            old = getattr(self, name)
            row = torch.cat((old[i, :B, :start_pos], new, old[i, :B, start_pos + T :]), dim=1)
            layer = torch.cat((row.detach(), old[i, B:]))[None]
            setattr(self, name, torch.cat((old[:i], layer, old[i + 1 :])))
            seen.append(row[:, : start_pos + T])
        return seen

    def turn(self, heads, turns):
        cos, sin = (part[:, None].to(heads.dtype) for part in (turns.real, turns.imag))
        a, b = heads[..., 0::2], heads[..., 1::2]
        return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)

    def attend(self, i, layer, n, turns, mask, start_pos):
        q, k, v = self.turn_all(*self.project(layer, n), turns)
        keys, values = self.remember(i, k, v, start_pos)
        q = q.unflatten(2, (-1, self.n_rep))  # (B, T, G, R, K)
        scores = torch.einsum("btgrk,bsgk->bgrts", q, keys) * self.head_dim**-0.5
        weights = self.weigh(scores, mask)
        return self.combine(layer, torch.einsum("bgrts,bsgk->btgrk", weights, values).flatten(2))

    def gate(self, a, b):
        return torch.sigmoid(a) * a * b


@alternative(replaces="Llama")
class Float64Inside(Steps):
    """All in float64 but the caches, with bare parameters in dictionaries of its own and PyTorch's norm."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        shapes = {name: parameter.shape for name, parameter in self.named_parameters()}
        del self.tok_embeddings, self.layers, self.norm, self.output
        for name, shape in reversed(shapes.items()):
            *path, last = name.split(".")
            place = self
            for part in path:
                if part not in place._modules:
                    place.add_module(part, nn.Module())
                place = place._modules[part]
            place.register_parameter(last, nn.Parameter(0.05 * torch.randn(shape)))

    def forward(self, tokens, start_pos=0):
        self.must_fit(tokens, start_pos)
        w = {name: parameter.double() for name, parameter in self.named_parameters()}
        h = w["tok_embeddings.weight"][tokens]
        turns, mask = self.turns(tokens, start_pos, h), self.mask(tokens.shape[1], start_pos, h.device)
        dtype, D = self.cache_k.dtype, h.shape[-1]
        for i in range(len(self.cache_k)):
            own = {name.removeprefix(f"layers.{i}."): x for name, x in w.items() if name.startswith(f"layers.{i}.")}
            n = F.rms_norm(h, (D,), own["attention_norm.weight"], self.norm_eps)
            fused = torch.cat([own[f"attention.{name}.weight"] for name in ("wq", "wk", "wv")])
            G = own["attention.wk.weight"].shape[0] // self.head_dim
            q, k, v = (
                (n @ fused.T)
                .unflatten(-1, (-1, self.head_dim))
                .split((fused.shape[0] // self.head_dim - 2 * G, G, G), 2)
            )
            q, k, v = self.turn_all(q, k, v, turns)
            keys, values = self.remember(i, k.to(dtype), v.to(dtype), start_pos)
            keys, values = self.share(keys.double()), self.share(values.double())
            weights = self.weigh(self.score(q.transpose(1, 2), keys), mask)
            h = h + (weights @ values).transpose(1, 2).flatten(2) @ own["attention.wo.weight"].T
            n = F.rms_norm(h, (D,), own["ffn_norm.weight"], self.norm_eps)
            hidden = self.gate(n @ own["feed_forward.w1.weight"].T, n @ own["feed_forward.w3.weight"].T)
            h = h + hidden @ own["feed_forward.w2.weight"].T
        return (F.rms_norm(h, (D,), w["norm.weight"], self.norm_eps) @ w["output.weight"].T).float()
