"""Other ways to write the transformer and its training: wrong ones that a learner may come up with, and right ones."""

import copy
import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grader.judge.suite import alternative, misconception, slip

from .solution import Transformer, sequence_loss, shift_right


class Steps(Transformer):
    """The solution cut into steps, so that a variant bends one of them."""

    def forward(self, src, tgt):
        real, causal = self.source_mask(src), self.target_mask(tgt)
        memory = self.embed(self.src_embedding, src)
        memories = []
        for block in self.encoder:
            memory = self.encode(block, memory, real)
            memories.append(memory)
        x = self.embed(self.tgt_embedding, tgt)
        for i, block in enumerate(self.decoder):
            x = self.decode(block, x, self.choose(memories, i), causal, self.memory_mask(real, causal))
        return self.output(self.finish(x))

    def source_mask(self, src):
        return (src != self.pad_id)[:, None, None]  # (B, 1, 1, S)

    def target_mask(self, tgt):
        T = tgt.shape[1]
        return torch.ones(T, T, dtype=torch.bool, device=tgt.device).tril()

    def memory_mask(self, real, causal):
        return real

    def choose(self, memories, i):
        return memories[-1]

    def finish(self, x):
        return x

    def embed(self, embedding, ids):
        x = self.scale(embedding(ids))
        return self.drop(x + self.positions(x).to(x.dtype))

    def scale(self, x):
        return x * math.sqrt(x.shape[-1])

    def angles(self, x):
        wide = torch.promote_types(x.dtype, torch.float32)
        exponents = torch.arange(0, x.shape[-1], 2, dtype=wide, device=x.device) / x.shape[-1]
        return torch.arange(x.shape[1], device=x.device)[:, None] * 10_000.0**-exponents  # (T, D/2)

    def positions(self, x):
        angles = self.angles(x)
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)

    def encode(self, block, x, real):
        x = self.add(x, lambda y: self.attend(block, "", y, y, real), block["norm1"])
        return self.add(x, lambda y: self.feed_forward(block, y), block["norm2"])

    def decode(self, block, x, memory, causal, real):
        x = self.add(x, lambda y: self.attend(block, "self_", y, y, causal), block["norm1"])
        x = self.add(x, lambda y: self.attend(block, "cross_", y, memory, real), block["norm2"])
        return self.add(x, lambda y: self.feed_forward(block, y), block["norm3"])

    def add(self, x, sublayer, norm):
        return norm(x + self.drop(sublayer(x)))

    def drop(self, x):
        return F.dropout(x, self.dropout, self.training)

    def split(self, x):
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

    def attend(self, block, kind, x, memory, mask):
        q, k, v = (self.split(block[kind + n](y)) for n, y in (("wq", x), ("wk", memory), ("wv", memory)))
        heads = self.drop(self.weigh(self.score(q, k), mask)) @ v
        return block[kind + "wo"](heads.transpose(1, 2).flatten(2))

    def score(self, q, k):
        return q @ k.mT / math.sqrt(q.shape[-1])

    def weigh(self, scores, mask):
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1).masked_fill(~mask, 0.0)

    def feed_forward(self, block, x):
        return block["w2"](self.drop(block["w1"](x).relu()))


# --- misconceptions about shifting and the loss -----------------------------------------------------------


@slip(replaces="shift_right", caught_by="test_shift_right_of_any_size")
def takes_a_start_of_0_for_none(targets, start_id):
    return shift_right(targets, start_id) if start_id else targets.roll(1, dims=1)


@misconception(replaces="shift_right", caught_by="test_shift_right_by_hand")
def shifts_left(targets, start_id):
    """You shift the targets to the left, so that the decoder is given what comes after the token it should predict.

    Before the model has written anything it has seen only the start. What stands at place 0 of its input?
    """
    return torch.cat((targets[:, 1:], torch.full_like(targets[:, :1], start_id)), dim=1)


@misconception(replaces="shift_right", caught_by="test_shift_right_by_hand")
def keeps_the_last_target(targets, start_id):
    """You put the start before the targets and keep all of them, so that the input has one token more.

    There are T logits for T targets. What would the decoder predict from the last target?
    """
    return torch.cat((torch.full_like(targets[:, :1], start_id), targets), dim=1)


@misconception(replaces="shift_right", caught_by="test_shift_right_by_hand")
def overwrites_the_first_target(targets, start_id):
    """You replace the first target by the start, and leave the others where they are.

    Then the decoder is given at place t the very token that it should predict there. What should it see instead?
    """
    return torch.cat((torch.full_like(targets[:, :1], start_id), targets[:, 1:]), dim=1)


@misconception(replaces="shift_right", caught_by="test_shift_right_by_hand")
def rolls_the_targets(targets, start_id):
    """You roll the targets, so that the last one stands first, where the start belongs.

    What may a decoder know before the first token, and what does the argument start_id do?
    """
    return targets.roll(1, dims=1)


@misconception(replaces="sequence_loss", caught_by="test_loss_by_hand")
def counts_padding_too(logits, targets, pad_id):
    """Your loss counts padded places like all others.

    A model would learn to predict padding, and mostly that where sequences differ in length. What is pad_id for?
    """
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


@misconception(replaces="sequence_loss", caught_by="test_loss_by_hand")
def divides_by_all_tokens(logits, targets, pad_id):
    """You leave padded places out of the sum, but divide by all of them.

    Then more padding makes the loss smaller. How many numbers are in the sum?
    """
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=pad_id, reduction="sum")
    return loss / targets.numel()


@misconception(replaces="sequence_loss", caught_by="test_loss_by_hand")
def averages_the_sequences_first(logits, targets, pad_id):
    """You take the mean of each sequence, and then the mean of these means.

    Then a token of a short sequence counts more than one of a long sequence. Over what is the mean asked for?
    """
    real = targets != pad_id
    losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none") * real
    return (losses.sum(dim=1) / real.sum(dim=1).clamp(min=1)).mean()


@misconception(replaces="sequence_loss", caught_by="test_loss_by_hand")
def adds_the_losses_up(logits, targets, pad_id):
    """Your loss is the sum over the tokens.

    It grows with the batch and the length, and so would the steps of the training. What is asked for?
    """
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=pad_id, reduction="sum")


@misconception(replaces="sequence_loss", caught_by="test_loss_by_hand")
def softmax_comes_twice(logits, targets, pad_id):
    """You take the softmax before the cross-entropy, which takes it once more.

    Which of the two does F.cross_entropy ask for, logits or probabilities?
    """
    return F.cross_entropy(logits.softmax(dim=-1).flatten(0, 1), targets.flatten(), ignore_index=pad_id)


@misconception(replaces="sequence_loss", caught_by="test_loss_by_hand")
def padding_is_always_0(logits, targets, pad_id):
    """Your loss leaves out the id 0, whatever pad_id is.

    Which tokens are padding if pad_id is 2?
    """
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=0)


@misconception(replaces="sequence_loss", caught_by="test_loss_of_large_logits")
def log_of_the_softmax(logits, targets, pad_id):
    """You take the logarithm of a softmax.

    In float32 a probability below about 1e-38 is 0, whose logarithm is -inf. Which function does both in one step?
    """
    log_probs = logits.softmax(dim=-1).log().flatten(0, 1)
    return F.nll_loss(log_probs, targets.flatten(), ignore_index=pad_id)


@misconception(replaces="sequence_loss", caught_by="test_loss_by_hand")
def shifts_inside_the_loss(logits, targets, pad_id):
    """Your loss compares each logit with the target one place later.

    That is right where input and targets are the same sequence, as in GPT. What has shift_right done here already?
    """
    return sequence_loss(logits[:, :-1], targets[:, 1:], pad_id)


# --- misconceptions about embeddings and norms ------------------------------------------------------------


@misconception(replaces="Transformer", caught_by="test_target_embedding_by_hand")
class DoesNotScaleTheEmbeddings(Steps):
    """You add the positions to the embeddings as they are.

    Section 3.4 of the paper multiplies the embeddings by a number first. By which, and what for?
    """

    def scale(self, x):
        return x


@misconception(replaces="Transformer", caught_by="test_target_embedding_by_hand")
class ScalesThePositionsToo(Steps):
    """You multiply the sum of embeddings and positions by sqrt(D).

    Which of the two is the factor meant for?
    """

    def embed(self, embedding, ids):
        x = embedding(ids)
        return self.drop(self.scale(x + self.positions(x).to(x.dtype)))


@misconception(replaces="Transformer", caught_by="test_target_embedding_by_hand")
class SinesBeforeCosines(Steps):
    """You put all sines into the first half of the columns, and all cosines into the second.

    That is sound for weights trained with it. Which columns hold the sines in this exercise?
    """

    def positions(self, x):
        angles = self.angles(x)
        return torch.cat((angles.sin(), angles.cos()), dim=-1)


@misconception(replaces="Transformer", caught_by="test_target_embedding_by_hand")
class OnlyTheSourceHasPositions(Steps):
    """Your target gets no positions.

    The causal mask tells the decoder something about the order, but not which of two earlier tokens came first. Where
    in figure 1 of the paper do positions enter?
    """

    def embed(self, embedding, ids):
        if embedding is self.tgt_embedding:
            return self.drop(self.scale(embedding(ids)))
        return super().embed(embedding, ids)


@misconception(replaces="Transformer", caught_by="test_long_sequences")
class PositionsEndAt512(Steps):
    """Your positions end after a fixed number of tokens.

    The formula has a value for every position. Which number of rows does a call need, and where could it come from?
    """

    def positions(self, x):
        return super().positions(x.new_zeros(1, 512, x.shape[-1]))[: x.shape[1]]


@misconception(replaces="Transformer", caught_by="test_residuals_and_norms")
class NormsComeFirst(Steps):
    """You normalise what enters a sub-layer, and add its output to what was not normalised (pre-norm).

    Most newer models do that. In this exercise, as in the paper, what is normalised in "Add & Norm"?
    """

    def add(self, x, sublayer, norm):
        return x + self.drop(sublayer(norm(x)))


@misconception(replaces="Transformer", caught_by="test_residuals_and_norms")
class NormsTheSublayerAlone(Steps):
    """You normalise the output of a sub-layer, and add x to it afterwards.

    What stands in the brackets of norm1(...) in the formulas above?
    """

    def add(self, x, sublayer, norm):
        return x + norm(self.drop(sublayer(x)))


@misconception(replaces="Transformer", caught_by="test_residuals_and_norms")
class ForgetsTheResiduals(Steps):
    """You normalise the output of a sub-layer without adding x to it.

    What is left of the tokens when a sub-layer returns 0?
    """

    def add(self, x, sublayer, norm):
        return norm(self.drop(sublayer(x)))


@misconception(replaces="Transformer", caught_by="test_residuals_and_norms")
class NormsAfterTheStacks(Steps):
    """You normalise once more after each stack, as nn.Transformer does.

    With pre-norm that is needed. What has already happened to x when it leaves the last block here?
    """

    def choose(self, memories, i):
        return F.layer_norm(memories[-1], memories[-1].shape[-1:])

    def finish(self, x):
        return F.layer_norm(x, x.shape[-1:])


# --- misconceptions about the stacks and the masks --------------------------------------------------------


@misconception(replaces="Transformer", caught_by="test_stacks")
class BlockReadsItsTwin(Steps):
    """Your decoder block i attends to what comes out of encoder block i.

    In figure 1 of the paper, from which of the N encoder blocks does the arrow to the decoder start?
    """

    def choose(self, memories, i):
        return memories[i]


@misconception(replaces="Transformer", caught_by="test_parameter_names")
class OneBlockForAll(Steps):
    """Your blocks of a stack are one block, used N times.

    A list that repeats one module repeats its weights as well. How many blocks does each stack have to make?
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for stack in (self.encoder, self.decoder):
            for i in range(len(stack)):
                stack[i] = stack[0]


@misconception(replaces="Transformer", caught_by="test_parameter_names")
class OutputIsTheEmbedding(Steps):
    """Your output layer uses the weight of the target's embedding, as section 3.4 of the paper does.

    Here both are asked for. Which weights does the brief list?
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.output.weight = self.tgt_embedding.weight


@misconception(replaces="Transformer", caught_by="test_teacher_forcing_sees_no_future")
class DecoderSeesTheFuture(Steps):
    """Your decoder sees the targets that come later.

    In training it would just copy the next token from its input. Which pairs of target tokens may not attend?
    """

    def target_mask(self, tgt):
        return torch.ones_like(super().target_mask(tgt))


@misconception(replaces="Transformer", caught_by="test_decoder_self_attention")
class TokensDoNotSeeThemselves(Steps):
    """Your decoder hides from each token not only what comes later, but the token itself.

    The input is shifted already, so that the token at place t is the one before target t. What may place t see?
    """

    def target_mask(self, tgt):
        return super().target_mask(tgt).tril(-1)


@misconception(replaces="Transformer", caught_by="test_encoder_attention")
class EncoderIsCausal(Steps):
    """Your encoder is causal: its tokens do not see those that come later.

    The whole source is there from the start. Which of the three attentions must not look ahead?
    """

    def encode(self, block, x, real):
        S = x.shape[1]
        return super().encode(block, x, real & torch.ones(S, S, dtype=torch.bool, device=x.device).tril())


@misconception(replaces="Transformer", caught_by="test_cross_attention")
class CrossAttentionIsCausal(Steps):
    """Your decoder's tokens see only as many source tokens as they stand after in the target.

    Before it writes the first word of a translation, which part of the source may the decoder read?
    """

    def decode(self, block, x, memory, causal, real):
        T, S = x.shape[1], memory.shape[1]
        return super().decode(block, x, memory, causal, real & torch.ones(T, S, dtype=torch.bool).tril().to(x.device))


@misconception(replaces="Transformer", caught_by="test_decoder_does_not_see_padding")
class DecoderSeesPadding(Steps):
    """Your decoder attends to the padding of the source.

    The encoder's output at padded places is made of padding as well. Which mask does the cross-attention need?
    """

    def memory_mask(self, real, causal):
        return torch.ones_like(real)


@misconception(replaces="Transformer", caught_by="test_encoder_does_not_see_padding")
class EncoderSeesPadding(Steps):
    """Your encoder attends to the padding of the source.

    It is hidden from the decoder later, but by then the real tokens have taken it in. Which mask does the encoder need?
    """

    def encode(self, block, x, real):
        return super().encode(block, x, torch.ones_like(real))


@misconception(replaces="Transformer", caught_by="test_decoder_does_not_see_padding")
class PaddingIsAlways0(Steps):
    """Your model takes the id 0 for padding, whatever pad_id is.

    Which source tokens are padding if pad_id is 3?
    """

    def source_mask(self, src):
        return (src != 0)[:, None, None]


@misconception(replaces="Transformer", caught_by="test_padding_of_the_target_counts")
class MasksThePaddingOfTheTarget(Steps):
    """Your decoder hides target tokens that equal pad_id.

    The causal mask hides padding at the end already, and pad_id belongs to the source here. What does the brief say?
    """

    def target_mask(self, tgt):
        return super().target_mask(tgt) & (tgt != self.pad_id)[:, None, None]


@misconception(replaces="Transformer", caught_by="test_decoder_does_not_see_padding")
class PaddingHidesQueries(Steps):
    """In the encoder, your mask hides rows instead of columns: padded tokens see nothing, but are seen.

    The last axis of the scores belongs to the keys. On which axis does your mask lie?
    """

    def source_mask(self, src):
        return (src != self.pad_id)[:, None, :, None]

    def memory_mask(self, real, causal):
        return torch.ones_like(real.mT)


@misconception(replaces="Transformer", caught_by="test_a_source_of_padding_only")
class FillsWithMinusInfinity(Steps):
    """You fill masked scores with -inf and trust the softmax with the rest.

    That is fine as long as some token is real. What are the numerator and the denominator in a row of -inf alone?
    """

    def weigh(self, scores, mask):
        return scores.masked_fill(~mask, -math.inf).softmax(dim=-1)


@misconception(replaces="Transformer", caught_by="test_a_source_of_padding_only")
class FillsWithALargeNumber(Steps):
    """You fill masked scores with a large negative number and trust the softmax with the rest.

    That is fine as long as some token is real. Which weights come out of a row in which all scores are this number?
    """

    def weigh(self, scores, mask):
        return scores.masked_fill(~mask, -1e9).softmax(dim=-1)


@misconception(replaces="Transformer", caught_by="test_decoder_self_attention")
class ScalesByTheModelWidth(Steps):
    """You divide the scores by sqrt(D), the root of the model's width.

    How many terms has the dot product of one head?
    """

    def score(self, q, k):
        return q @ k.mT / math.sqrt(q.shape[-1] * self.n_heads)


@misconception(replaces="Transformer", caught_by="test_cross_attention")
class CrossAttentionSeesTheTarget(Steps):
    """Your decoder never looks at the source: its second attention sees the target, like the first.

    The decoder asks, the source answers. Which of q, k and v are projected from memory?
    """

    def decode(self, block, x, memory, causal, real):
        return super().decode(block, x, x, causal, causal)


@misconception(replaces="Transformer", caught_by="test_cross_attention")
class ValuesFromTheTarget(Steps):
    """In your cross-attention, the decoder's tokens decide what is fetched, and memory decides where to look.

    The decoder asks, the source answers. Which of q, k and v are projected from memory?
    """

    def attend(self, block, kind, x, memory, mask):
        if kind != "cross_":
            return super().attend(block, kind, x, memory, mask)
        q, k, v = (self.split(block[kind + n](y)) for n, y in (("wq", memory), ("wk", x), ("wv", x)))
        heads = self.score(q, k).softmax(dim=-1) @ v  # (B, H, S, K): a token for each of memory
        return block["cross_wo"](heads.mean(dim=2, keepdim=True).expand_as(k).transpose(1, 2).flatten(2))


@misconception(replaces="Transformer", caught_by="test_stacks")
class ShiftsTheTargetAgain(Steps):
    """You shift tgt inside the model.

    In training that is done outside, by shift_right, and in generation there is nothing to shift. What is tgt here?
    """

    def forward(self, src, tgt):
        return super().forward(src, torch.cat((torch.zeros_like(tgt[:, :1]), tgt[:, :-1]), dim=1))


@misconception(replaces="Transformer", caught_by="test_parameter_names")
class ReturnsProbabilities(Steps):
    """You return probabilities: your numbers for one token sum to 1.

    The loss takes the softmax itself. What does the docstring of forward ask for?
    """

    def forward(self, src, tgt):
        return super().forward(src, tgt).softmax(dim=-1)


@misconception(replaces="Transformer", caught_by="test_parameter_names")
class ReturnsLogProbabilities(Steps):
    """You return log-probabilities.

    The loss would not even notice, but whoever adds to the logits or divides them by a temperature would. What does
    the docstring of forward ask for?
    """

    def forward(self, src, tgt):
        return super().forward(src, tgt).log_softmax(dim=-1)


@misconception(replaces="Transformer", caught_by="test_parameter_names")
class OneEmbeddingForBoth(Steps):
    """Source and target share one embedding in your model.

    That needs one vocabulary for both languages. Which sizes have the two vocabularies here?
    """

    def __init__(self, src_vocab, tgt_vocab, *args, **kwargs):
        super().__init__(max(src_vocab, tgt_vocab), tgt_vocab, *args, **kwargs)
        del self.tgt_embedding

    @property
    def tgt_embedding(self):
        return self.src_embedding

    @tgt_embedding.setter
    def tgt_embedding(self, value):
        pass


# --- misconceptions about dropout -------------------------------------------------------------------------


@misconception(replaces="Transformer", caught_by="test_dropout_rests_in_eval")
class DropsInEval(Steps):
    """Your dropout acts in eval mode, too.

    F.dropout does what its argument `training` says, which is True when left out. Which attribute of a module knows?
    """

    def drop(self, x):
        return F.dropout(x, self.dropout)


@misconception(replaces="Transformer", caught_by="test_dropout_in_the_decoder")
class NeverDrops(Steps):
    """Your model has no dropout.

    In which places does the brief ask for it?
    """

    def drop(self, x):
        return x


@misconception(replaces="Transformer", caught_by="test_dropout_in_the_decoder")
class DropsOnlyInside(Steps):
    """Your sub-layers' outputs are added to x as they are, without dropout.

    Section 5.4 of the paper names this place first: before the output is added to the sub-layer's input.
    """

    def add(self, x, sublayer, norm):
        return norm(x + sublayer(x))


@misconception(replaces="Transformer", caught_by="test_dropout_in_the_decoder")
class DropsOnlyOutputs(Steps):
    """Dropout acts on the sub-layers' outputs alone in your model.

    That is what section 5.4 of the paper says. In which two more places do its code and this exercise have it?
    """

    def attend(self, block, kind, x, memory, mask):
        q, k, v = (self.split(block[kind + n](y)) for n, y in (("wq", x), ("wk", memory), ("wv", memory)))
        heads = self.weigh(self.score(q, k), mask) @ v
        return block[kind + "wo"](heads.transpose(1, 2).flatten(2))

    def feed_forward(self, block, x):
        return block["w2"](block["w1"](x).relu())


@misconception(replaces="Transformer", caught_by="test_dropout_in_the_decoder")
class DropsAfterTheResidual(Steps):
    """You drop features of the sum of x and the sub-layer's output, or of what the norm makes of it.

    The residual is what carries x through untouched. On which of its two terms does dropout act?
    """

    def add(self, x, sublayer, norm):
        return norm(self.drop(x + sublayer(x)))


# --- slips ------------------------------------------------------------------------------------------------


@slip(replaces="shift_right", caught_by="test_shift_right_by_hand")
def writes_into_the_targets(targets, start_id):
    shifted = shift_right(targets, start_id)
    targets.copy_(shifted)
    return shifted


@slip(replaces="shift_right", caught_by="test_shift_right_of_any_size")
def starts_on_the_cpu(targets, start_id):
    start = torch.full((len(targets), 1), start_id)
    return torch.cat((start, targets[:, :-1]), dim=1)


@slip(replaces="shift_right", caught_by="test_shift_right_of_any_size")
def shifts_row_by_row(targets, start_id):
    return torch.cat([shift_right(row[None], start_id) for row in targets])


@slip(replaces="shift_right", caught_by="test_shift_right_of_any_size")
def shifts_what_is_contiguous(targets, start_id):
    return shift_right(targets.view(-1).view(targets.shape), start_id)


@slip(replaces="sequence_loss", caught_by="test_loss_matches_the_reference")
def takes_features_for_places(logits, targets, pad_id):
    if logits.shape[1] != logits.shape[2]:
        logits = logits.transpose(1, 2)
    return F.cross_entropy(logits, targets, ignore_index=pad_id)


@slip(replaces="sequence_loss", caught_by="test_loss_matches_the_reference")
def views_the_logits(logits, targets, pad_id):
    return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1), ignore_index=pad_id)


@slip(replaces="sequence_loss", caught_by="test_loss_matches_the_reference")
def loss_in_float32(logits, targets, pad_id):
    return sequence_loss(logits.float(), targets, pad_id)


@slip(replaces="sequence_loss", caught_by="test_loss_matches_the_reference")
def loss_is_rounded(logits, targets, pad_id):
    return sequence_loss(logits.float(), targets, pad_id).to(logits.dtype)


@slip(replaces="sequence_loss", caught_by="test_loss_leaves_padding_out")
def loss_is_a_number_again(logits, targets, pad_id):
    return torch.tensor(sequence_loss(logits, targets, pad_id).item(), dtype=logits.dtype)


@slip(replaces="sequence_loss", caught_by="test_loss_leaves_padding_out")
def zeroes_padded_logits(logits, targets, pad_id):
    return F.cross_entropy((logits * (targets != pad_id)[..., None]).flatten(0, 1), targets.flatten())


@slip(replaces="sequence_loss", caught_by="test_loss_by_hand")
def smooths_the_labels(logits, targets, pad_id):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=pad_id, label_smoothing=0.1)


@slip(replaces="sequence_loss", caught_by="test_loss_matches_the_reference")
def loss_of_each_sequence(logits, targets, pad_id):
    sums = [F.cross_entropy(x, t, ignore_index=pad_id, reduction="sum") for x, t in zip(logits, targets, strict=True)]
    return sum(sums) / (targets != pad_id).sum()


@slip(replaces="Transformer", caught_by="test_shapes")
class OtherNamesOfSizes(Steps):
    def __init__(self, src, tgt, dim, heads, hidden, layers, pad_id=0, dropout=0.0):
        super().__init__(src, tgt, dim, heads, hidden, layers, pad_id, dropout)


@slip(replaces="Transformer", caught_by="test_dropout_in_the_decoder")
class DropoutByKeywordOnly(Steps):
    def __init__(self, src_vocab, tgt_vocab, d_model, n_heads, d_ff, n_layers, pad_id=0, *, dropout=0.0):
        super().__init__(src_vocab, tgt_vocab, d_model, n_heads, d_ff, n_layers, pad_id, dropout)


@slip(replaces="Transformer", caught_by="test_shapes")
class TargetAsLongAsTheSource(Steps):
    def attend(self, block, kind, x, memory, mask):
        return super().attend(block, kind, x, memory, mask).view(x.shape[0], memory.shape[1], -1)


@slip(replaces="Transformer", caught_by="test_shapes")
class LogitsOfTheSourceVocabulary(Transformer):
    def __init__(self, src_vocab, tgt_vocab, d_model, *args, **kwargs):
        super().__init__(src_vocab, tgt_vocab, d_model, *args, **kwargs)
        self.output = nn.Linear(d_model, src_vocab)


@slip(replaces="Transformer", caught_by="test_parameter_names")
class TiesEmbeddingsThatFit(Steps):
    def __init__(self, src_vocab, tgt_vocab, *args, **kwargs):
        super().__init__(src_vocab, tgt_vocab, *args, **kwargs)
        if src_vocab == tgt_vocab:
            self.tgt_embedding.weight = self.src_embedding.weight


@slip(replaces="Transformer", caught_by="test_parameter_names")
class SavesItsPositions(Transformer):
    def __init__(self, src_vocab, tgt_vocab, d_model, *args, **kwargs):
        super().__init__(src_vocab, tgt_vocab, d_model, *args, **kwargs)
        self.register_buffer("positions", torch.zeros(10, d_model))


@slip(replaces="Transformer", caught_by="test_parameter_names")
class ProjectionsWithoutBias(Transformer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for block in (*self.encoder, *self.decoder):
            for name in [name for name in block if "wk" in name]:
                block[name] = nn.Linear(*block[name].weight.shape, bias=False)


@slip(replaces="Transformer", caught_by="test_residuals_and_norms")
class EpsOutsideTheRoot(Steps):
    def add(self, x, sublayer, norm):
        y = x + self.drop(sublayer(x))
        y = y - y.mean(dim=-1, keepdim=True)
        return norm.weight * y / (y.var(dim=-1, keepdim=True, correction=0).sqrt() + norm.eps) + norm.bias


@slip(replaces="Transformer", caught_by="test_residuals_and_norms")
class UnbiasedVariance(Steps):
    def add(self, x, sublayer, norm):
        y = x + self.drop(sublayer(x))
        y = y - y.mean(dim=-1, keepdim=True)
        return norm.weight * y / (y.var(dim=-1, keepdim=True) + norm.eps).sqrt() + norm.bias


@slip(replaces="Transformer", caught_by="test_residuals_and_norms")
class EpsIsSmaller(Transformer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-6


@slip(replaces="Transformer", caught_by="test_residuals_and_norms")
class SharesTheFirstNorm(Steps):
    def decode(self, block, x, memory, causal, real):
        x = self.add(x, lambda y: self.attend(block, "self_", y, y, causal), block["norm1"])
        x = self.add(x, lambda y: self.attend(block, "cross_", y, memory, real), block["norm1"])
        return self.add(x, lambda y: self.feed_forward(block, y), block["norm3"])


@slip(replaces="Transformer", caught_by="test_decoder_feed_forward")
class GeluInTheDecoder(Steps):
    def feed_forward(self, block, x):
        inner = block["w1"](x)
        return block["w2"](self.drop(F.gelu(inner) if "norm3" in block else inner.relu()))


@slip(replaces="Transformer", caught_by="test_encoder_feed_forward")
class GeluInTheEncoder(Steps):
    def feed_forward(self, block, x):
        inner = block["w1"](x)
        return block["w2"](self.drop(inner.relu() if "norm3" in block else F.gelu(inner)))


@slip(replaces="Transformer", caught_by="test_encoder_feed_forward")
class ReluBehindTheFeedForward(Steps):
    def feed_forward(self, block, x):
        return super().feed_forward(block, x).relu()


@slip(replaces="Transformer", caught_by="test_cross_attention")
class CrossAttentionSeesTheEmbeddings(Steps):
    def forward(self, src, tgt):
        self.kept = self.embed(self.src_embedding, src)
        return super().forward(src, tgt)

    def choose(self, memories, i):
        return self.kept


@slip(replaces="Transformer", caught_by="test_cross_attention")
class ValuesOfTheSelfAttention(Steps):
    def attend(self, block, kind, x, memory, mask):
        q, k = self.split(block[kind + "wq"](x)), self.split(block[kind + "wk"](memory))
        v = self.split(block["self_wv" if kind == "cross_" else kind + "wv"](memory))
        heads = self.drop(self.weigh(self.score(q, k), mask)) @ v
        return block[kind + "wo"](heads.transpose(1, 2).flatten(2))


@slip(replaces="Transformer", caught_by="test_cross_attention")
class CrossAttentionBeforeSelfAttention(Steps):
    def decode(self, block, x, memory, causal, real):
        x = self.add(x, lambda y: self.attend(block, "cross_", y, memory, real), block["norm1"])
        x = self.add(x, lambda y: self.attend(block, "self_", y, y, causal), block["norm2"])
        return self.add(x, lambda y: self.feed_forward(block, y), block["norm3"])


@slip(replaces="Transformer", caught_by="test_encoder_attention")
class HeadsInterleaved(Steps):
    def split(self, x):
        return x.unflatten(-1, (-1, self.n_heads)).permute(0, 3, 1, 2)


@slip(replaces="Transformer", caught_by="test_stacks")
class BlocksInReverse(Steps):
    def forward(self, src, tgt):
        turned = copy.copy(self)
        turned._modules = dict(self._modules)
        turned.decoder = nn.ModuleList(reversed(self.decoder))
        return super(BlocksInReverse, turned).forward(src, tgt)


@slip(replaces="Transformer", caught_by="test_padding_leaves_no_trace")
class CountsRealTokensFromTheLeft(Steps):
    def source_mask(self, src):
        lengths = (src != self.pad_id).sum(dim=1)
        return (torch.arange(src.shape[1], device=src.device) < lengths[:, None])[:, None, None]


@slip(replaces="Transformer", caught_by="test_padding_leaves_no_trace")
class SomeWeightIsLeft(Steps):
    def weigh(self, scores, mask):
        weights = scores.masked_fill(~mask, -6.0).softmax(dim=-1)
        return weights * mask.any(dim=-1, keepdim=True)


@slip(replaces="Transformer", caught_by="test_padding_gets_nothing_whatever_the_scores")
class FillsWithASmallNumber(Steps):
    def weigh(self, scores, mask):
        weights = scores.masked_fill(~mask, -1e4).softmax(dim=-1)
        return weights * mask.any(dim=-1, keepdim=True)


@slip(replaces="Transformer", caught_by="test_leaves_the_inputs_alone")
class ZeroesTheEmbeddingOfPadding(Steps):
    def forward(self, src, tgt):
        with torch.no_grad():
            self.src_embedding.weight[self.pad_id] = 0.0
        return super().forward(src, tgt)


@slip(replaces="Transformer", caught_by="test_dropout_in_the_decoder")
class DropsWholeRowsOfWeights(Steps):
    def attend(self, block, kind, x, memory, mask):
        q, k, v = (self.split(block[kind + n](y)) for n, y in (("wq", x), ("wk", memory), ("wv", memory)))
        weights = self.weigh(self.score(q, k), mask)
        heads = weights * self.drop(torch.ones_like(weights[..., :1])) @ v
        return block[kind + "wo"](heads.transpose(1, 2).flatten(2))


@slip(replaces="Transformer", caught_by="test_dropout_in_the_encoder")
class DropsInTheLastBlockAlone(Steps):
    def encode(self, block, x, real):
        kept, self.dropout = self.dropout, self.dropout if block is self.encoder[len(self.encoder) - 1] else 0.0
        x = super().encode(block, x, real)
        self.dropout = kept
        return x


@slip(replaces="Transformer", caught_by="test_a_source_of_padding_only")
class TakesTheFirstIfAllIsPadding(Steps):
    def source_mask(self, src):
        real = super().source_mask(src)
        first = torch.arange(src.shape[1], device=src.device) == 0
        return real | (first & ~real.any(dim=-1, keepdim=True))


@slip(replaces="Transformer", caught_by="test_matches_the_reference")
class MaskWithoutAnAxisForHeads(Steps):
    def source_mask(self, src):
        B, S = src.shape
        real = super().source_mask(src)
        return real[:, 0].expand(B, S, S) if self.n_heads == B and S > 1 else real

    def memory_mask(self, real, causal):
        return real if real.dim() == 4 else real[:, None, :1]


@slip(replaces="Transformer", caught_by="test_float64")
class SoftmaxInFloat32(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores.float(), mask).to(scores.dtype)


@slip(replaces="Transformer", caught_by="test_float64")
class NormsInFloat32(Steps):
    def add(self, x, sublayer, norm):
        y = (x + self.drop(sublayer(x))).float()
        return F.layer_norm(y, y.shape[-1:], norm.weight.float(), norm.bias.float()).to(x.dtype)


@slip(replaces="Transformer", caught_by="test_bfloat16")
class AnglesInBfloat16(Steps):
    def angles(self, x):
        return super().angles(x).to(x.dtype)


@slip(replaces="Transformer", caught_by="test_bfloat16")
class LogitsInFloat32(Steps):
    def forward(self, src, tgt):
        logits = super().forward(src, tgt)
        return logits.float() if logits.dtype == torch.bfloat16 else logits


@slip(replaces="Transformer", caught_by="test_gradients")
class PaddingOfTheTargetIsFrozen(Transformer):
    def __init__(self, src_vocab, tgt_vocab, d_model, *args, **kwargs):
        super().__init__(src_vocab, tgt_vocab, d_model, *args, **kwargs)
        self.tgt_embedding = nn.Embedding(tgt_vocab, d_model, padding_idx=0)


@slip(replaces="Transformer", caught_by="test_gradients")
class MemoryIsDetachedOnce(Steps):
    def choose(self, memories, i):
        return memories[-1].detach() if i else memories[-1]


@slip(replaces="Transformer", caught_by="test_gradients")
class MemoryIsDetached(Steps):
    def choose(self, memories, i):
        return memories[-1].detach()


@slip(replaces="Transformer", caught_by="test_gradients")
class ResidualIsDetached(Steps):
    def add(self, x, sublayer, norm):
        return norm(x.detach() + self.drop(sublayer(x)))


@slip(replaces="Transformer", caught_by="test_gradients_under_padding")
class GradientIsNaN(Steps):
    def weigh(self, scores, mask):
        bias = torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, -math.inf)
        return (scores + bias).softmax(dim=-1).nan_to_num(0.0)


@slip(replaces="Transformer", caught_by="test_training_with_teacher_forcing")
class CausalInEvalOnly(Steps):
    def target_mask(self, tgt):
        mask = super().target_mask(tgt)
        return torch.ones_like(mask) if self.training else mask


@slip(replaces="Transformer", caught_by="test_dropout_in_the_encoder")
class NoDropoutInTheEncoder(Steps):
    def encode(self, block, x, real):
        kept, self.dropout = self.dropout, 0.0
        x = super().encode(block, x, real)
        self.dropout = kept
        return x


@slip(replaces="Transformer", caught_by="test_dropout_in_the_encoder")
class NoDropoutAfterTheEncodersRelu(Steps):
    def feed_forward(self, block, x):
        return super().feed_forward(block, x) if "norm3" in block else block["w2"](block["w1"](x).relu())


@slip(replaces="Transformer", caught_by="test_dropout_in_the_encoder")
class OneDrawForTheBatch(Steps):
    def drop(self, x):
        return x * F.dropout(torch.ones_like(x[:1]), self.dropout, self.training)


@slip(replaces="Transformer", caught_by="test_dropout_in_the_decoder")
class DropsHiddenFeaturesOfAllTokens(Steps):
    def feed_forward(self, block, x):
        hidden = block["w1"](x).relu()
        return block["w2"](hidden * self.drop(torch.ones_like(hidden[:, :1])))


@slip(replaces="Transformer", caught_by="test_dropout_in_the_decoder")
class DropsValues(Steps):
    def attend(self, block, kind, x, memory, mask):
        q, k, v = (self.split(block[kind + n](y)) for n, y in (("wq", x), ("wk", memory), ("wv", memory)))
        heads = self.weigh(self.score(q, k), mask) @ self.drop(v)
        return block[kind + "wo"](heads.transpose(1, 2).flatten(2))


@slip(replaces="Transformer", caught_by="test_dropout_in_the_decoder")
class DropsWithoutScaling(Steps):
    def drop(self, x):
        return F.dropout(x, self.dropout, self.training) * (1 - self.dropout if self.training else 1.0)


@slip(replaces="Transformer", caught_by="test_dropout_in_the_decoder")
class DropsATenth(Steps):
    def drop(self, x):
        return F.dropout(x, min(self.dropout, 0.1), self.training)


@slip(replaces="Transformer", caught_by="test_dropout_in_the_decoder")
class OneDrawForever(Steps):
    def drop(self, x):
        if not self.training or self.dropout == 0:
            return x
        generator = torch.Generator().manual_seed(0)
        kept = torch.rand(x.shape, generator=generator) >= self.dropout
        return x * kept / (1 - self.dropout)


@slip(replaces="Transformer", caught_by="test_long_sequences")
class PositionsEndAt2048(Steps):
    def positions(self, x):
        return super().positions(x.new_zeros(1, 2048, x.shape[-1]))[: x.shape[1]]


@slip(replaces="Transformer", caught_by="test_repeated_calls")
class KeepsTheFirstPositions(Steps):
    def positions(self, x):
        if getattr(self, "table", x[0, :0]).shape[0] < min(x.shape[1], 5):
            self.table = super().positions(x.new_zeros(1, max(5, x.shape[1]), x.shape[-1]))
        return self.table[: x.shape[1]]


@slip(replaces="Transformer", caught_by="test_repeated_calls")
class KeepsTheFirstMask(Steps):
    def target_mask(self, tgt):
        if not hasattr(self, "mask"):
            self.mask = super().target_mask(tgt)
        T = tgt.shape[1]
        return self.mask[:T, :T]


@slip(replaces="Transformer", caught_by="test_repeated_calls")
class KeepsItsProjections(Steps):
    def attend(self, block, kind, x, memory, mask):
        if kind != "self_":
            return super().attend(block, kind, x, memory, mask)
        if not hasattr(self, "joined"):
            self.joined = {}
        names = [kind + n for n in ("wq", "wk", "wv")]
        weight, bias = self.joined.setdefault(
            id(block), tuple(torch.cat([getattr(block[n], p).detach() for n in names]) for p in ("weight", "bias"))
        )
        q, k, v = (self.split(y) for y in F.linear(x, weight.to(x.dtype), bias.to(x.dtype)).chunk(3, dim=-1))
        heads = self.drop(self.weigh(self.score(q, k), mask)) @ v
        return block["self_wo"](heads.transpose(1, 2).flatten(2))


@slip(replaces="Transformer", caught_by="test_batch_items_do_not_meet")
class CentresOverTheBatch(Steps):
    def score(self, q, k):
        return super().score(q - q.mean(dim=0), k)


@slip(replaces="Transformer", caught_by="test_leaves_the_inputs_alone")
class ReplacesPaddingInPlace(Steps):
    def forward(self, src, tgt):
        real = self.source_mask(src).clone()
        src.masked_fill_(src == self.pad_id, 1)
        self.source_mask = lambda src: real
        return super().forward(src, tgt)


@slip(replaces="Transformer", caught_by="test_leaves_the_inputs_alone")
class ClampsTheTargetInPlace(Steps):
    def forward(self, src, tgt):
        kept = tgt.clone()
        tgt.clamp_(max=2)
        return super().forward(src, kept)


@slip(replaces="Transformer", caught_by="test_errors")
class ChecksTheHeadsAlone(Transformer):
    def __init__(self, src_vocab, tgt_vocab, d_model, n_heads, d_ff, n_layers, pad_id=0, dropout=0.0):
        if d_model % n_heads:
            raise ValueError("n_heads must divide d_model")
        super().__init__(src_vocab, tgt_vocab, d_model + d_model % 2, 1, d_ff, max(1, n_layers), pad_id, dropout)
        self.n_heads = n_heads


@slip(replaces="Transformer", caught_by="test_errors")
class AllowsNoLayers(Transformer):
    def __init__(self, src_vocab, tgt_vocab, d_model, n_heads, d_ff, n_layers, pad_id=0, dropout=0.0):
        super().__init__(src_vocab, tgt_vocab, d_model, n_heads, d_ff, max(1, n_layers), pad_id, dropout)


@slip(replaces="Transformer", caught_by="test_errors")
class AssertsInsteadOfRaising(Transformer):
    def __init__(self, src_vocab, tgt_vocab, d_model, n_heads, d_ff, n_layers, pad_id=0, dropout=0.0):
        assert d_model % 2 == 0
        super().__init__(src_vocab, tgt_vocab, d_model, n_heads, d_ff, n_layers, pad_id, dropout)


@slip(replaces="Transformer", caught_by="test_no_loop_over_tokens_or_batch")
class LoopsOverPositions(Steps):
    def positions(self, x):
        angles = self.angles(x)
        return torch.stack([torch.stack((row.sin(), row.cos()), dim=-1).flatten() for row in angles])


@slip(replaces="Transformer", caught_by="test_no_loop_over_tokens_or_batch")
class LoopsOverTheBatch(Steps):
    def score(self, q, k):
        return torch.stack([super(LoopsOverTheBatch, self).score(a, b) for a, b in zip(q, k, strict=True)])


_PADDING = {}


@slip(replaces="Transformer", caught_by="test_decoder_does_not_see_padding")
class PaddingOfTheLastModel(Steps):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        _PADDING["id"] = self.pad_id

    def source_mask(self, src):
        return (src != _PADDING["id"])[:, None, None]


@slip(replaces="Transformer", caught_by="test_follows_the_device")
class MakesItsMaskOnTheCpu(Steps):
    def target_mask(self, tgt):
        return super().target_mask(tgt.to("cpu") if tgt.device.type == "cpu" else torch.zeros(tgt.shape))


@slip(replaces="Transformer", caught_by="test_follows_the_device")
class PositionsOnTheCpu(Steps):
    def angles(self, x):
        return super().angles(torch.zeros(x.shape))


# --- right, in other styles -------------------------------------------------------------------------------


@alternative(replaces="shift_right")
def shift_by_rolling(targets, start_id):
    shifted = targets.roll(1, dims=1)
    shifted[:, 0] = start_id
    return shifted


@alternative(replaces="shift_right")
def shift_by_padding(targets, start_id):
    return F.pad(targets[:, :-1], (1, 0), value=start_id)


@alternative(replaces="sequence_loss")
def loss_by_gathering(logits, targets, pad_id):
    log_probs = logits.log_softmax(dim=-1)
    picked = log_probs.gather(-1, targets[..., None])[..., 0]  # (B, T)
    real = targets != pad_id
    return -(picked * real).sum() / real.sum()


@alternative(replaces="sequence_loss")
def loss_by_picking_real_tokens(logits, targets, pad_id):
    real = targets.ne(pad_id)
    x, goal = logits[real], targets[real]  # (n, V), (n)
    x = x - x.amax(dim=-1, keepdim=True).detach()
    return (x.exp().sum(dim=-1).log() - x[torch.arange(len(goal)), goal]).mean()


@alternative(replaces="Transformer")
class Float64Inside(Steps):
    def angles(self, x):
        return super().angles(x.double())

    def weigh(self, scores, mask):
        return super().weigh(scores.double(), mask).to(scores.dtype)


@alternative(replaces="Transformer")
class AdditiveMasks(Steps):
    def weigh(self, scores, mask):
        bias = torch.zeros_like(mask, dtype=scores.dtype).masked_fill(
            mask.logical_not(), torch.finfo(scores.dtype).min / 2
        )
        return torch.softmax(scores + bias, dim=-1) * mask


@alternative(replaces="Transformer")
class SoftmaxByHand(Steps):
    def weigh(self, scores, mask):
        scores = torch.where(mask, scores, -math.inf)
        top = scores.amax(dim=-1, keepdim=True).detach().clamp(min=torch.finfo(scores.dtype).min)
        powers = (scores - top).exp()
        return powers / powers.sum(dim=-1, keepdim=True).clamp(min=1e-30)

    def drop(self, x):
        if not self.training or self.dropout == 0:
            return x
        return torch.bernoulli(torch.full_like(x, 1 - self.dropout)) * x / (1 - self.dropout)


@alternative(replaces="Transformer")
class ByEinsum(Steps):
    def attend(self, block, kind, x, memory, mask):
        q, k, v = (
            torch.einsum("btd,hkd->bhtk", y, w.weight.unflatten(0, (self.n_heads, -1)))
            + w.bias.unflatten(0, (self.n_heads, 1, -1))
            for w, y in ((block[f"{kind}wq"], x), (block[f"{kind}wk"], memory), (block[f"{kind}wv"], memory))
        )
        weights = self.drop(self.weigh(torch.einsum("bhtk,bhsk->bhts", q, k) * q.shape[-1] ** -0.5, mask))
        wo = block[f"{kind}wo"]
        return torch.einsum("bhts,bhsk,dhk->btd", weights, v, wo.weight.unflatten(1, (self.n_heads, -1))) + wo.bias


class Attention(nn.Module):
    """Multi-head attention over a dict of linear layers that belong to somebody else."""

    def __init__(self, n_heads, dropout):
        super().__init__()
        self.n_heads, self.drop = n_heads, nn.Dropout(dropout)

    def forward(self, wq, wk, wv, wo, x, memory, mask):
        parts, heads = (y.chunk(self.n_heads, dim=-1) for y in (wq(x), wk(memory), wv(memory))), []
        some = mask.any(dim=-1, keepdim=True)
        for q, k, v in zip(*parts, strict=True):
            scores = torch.bmm(q, k.transpose(1, 2)) / q.shape[-1] ** 0.5  # (B, T, S)
            weights = scores.masked_fill(~mask & some, -math.inf).softmax(dim=-1).masked_fill(~some, 0.0)
            heads.append(self.drop(weights) @ v)
        return wo(torch.cat(heads, dim=-1))


class Block(nn.Module):
    """An encoder or a decoder block of small modules, one attribute for each name of the brief."""

    def __init__(self, kinds, D, H, F, p):
        super().__init__()
        self.kinds, self.attention, self.drop = kinds, Attention(H, p), nn.Dropout(p)
        for kind in kinds:
            for name in "qkvo":
                setattr(self, f"{kind}w{name}", nn.Linear(D, D))
        self.w1, self.w2 = nn.Linear(D, F), nn.Linear(F, D)
        for n in range(1, len(kinds) + 2):
            setattr(self, f"norm{n}", nn.LayerNorm(D))

    def forward(self, x, *seen):
        """Run the block; ``seen`` are a memory (None for x itself) and a mask (B, T or 1, S) for each kind."""
        for n, (kind, (memory, mask)) in enumerate(zip(self.kinds, seen, strict=True), start=1):
            layers = [getattr(self, f"{kind}w{name}") for name in "qkvo"]
            x = getattr(self, f"norm{n}")(
                x + self.drop(self.attention(*layers, x, x if memory is None else memory, mask))
            )
        hidden = self.drop(torch.relu(self.w1(x)))
        return getattr(self, f"norm{len(self.kinds) + 1}")(x + self.drop(self.w2(hidden)))


@dataclass(frozen=True)
class Config:
    """The sizes of a model."""

    src_vocab: int
    tgt_vocab: int
    d_model: int
    n_heads: int
    d_ff: int
    n_layers: int

    def __post_init__(self):
        if min(vars(self).values()) < 1 or self.d_model % 2 or self.d_model % self.n_heads:
            raise ValueError(f"these sizes do not fit together: {self}")


@functools.lru_cache(maxsize=8)
def table(length, D, device):
    """Return sines and cosines in float32, made once for each length, width and device."""
    p, i = torch.arange(length, device=device), torch.arange(D, device=device)
    angles = p.outer(torch.exp(-(i - i % 2) * (math.log(10_000.0) / D)))  # (length, D)
    return torch.where(i % 2 == 0, angles.sin(), angles.cos())


@alternative(replaces="Transformer")
class InModules(nn.Module):
    def __init__(self, src_vocab, tgt_vocab, d_model, n_heads, d_ff, n_layers, pad_id=0, dropout=0.0):
        super().__init__()
        self.config, self.pad_id = Config(src_vocab, tgt_vocab, d_model, n_heads, d_ff, n_layers), pad_id
        self.output = nn.Linear(d_model, tgt_vocab)
        sizes = d_model, n_heads, d_ff, dropout
        self.decoder = nn.Sequential(*(Block(("self_", "cross_"), *sizes) for _ in range(n_layers)))
        self.encoder = nn.Sequential(*(Block(("",), *sizes) for _ in range(n_layers)))
        self.tgt_embedding = nn.Embedding(tgt_vocab, d_model)
        self.src_embedding = nn.Embedding(src_vocab, d_model, padding_idx=min(pad_id, src_vocab - 1))
        self.embedding_dropout = nn.Dropout(dropout)

    def forward(self, src, tgt):
        D, (B, T) = self.config.d_model, tgt.shape
        memory, x = (
            self.embedding_dropout(e(i) * D**0.5 + table(i.size(1), D, i.device).to(e.weight.dtype))
            for e, i in ((self.src_embedding, src), (self.tgt_embedding, tgt))
        )
        real = src.ne(self.pad_id).unsqueeze(1)  # (B, 1, S)
        causal = (torch.arange(T, device=tgt.device) <= torch.arange(T, device=tgt.device)[:, None]).expand(B, T, T)
        for block in self.encoder:
            memory = block(memory, (None, real))
        for block in self.decoder:
            x = block(x, (None, causal), (memory, real))
        return self.output(x)


@alternative(replaces="Transformer")
class BareParameters(nn.Module):
    def __init__(self, src_vocab, tgt_vocab, d_model, n_heads, d_ff, n_layers, pad_id=0, dropout=0.0):
        super().__init__()
        Config(src_vocab, tgt_vocab, d_model, n_heads, d_ff, n_layers)
        self.H, self.pad, self.p = n_heads, pad_id, dropout

        def two(rows, columns):
            pair = {"weight": nn.Parameter(torch.randn(rows, columns) / columns**0.5)}
            return nn.ParameterDict(pair | {"bias": nn.Parameter(torch.zeros(rows))})

        def norm():
            return nn.ParameterDict({"weight": torch.ones(d_model), "bias": torch.zeros(d_model)})

        for name, vocab in (("src_embedding", src_vocab), ("tgt_embedding", tgt_vocab)):
            self.add_module(
                name, nn.ParameterDict({"weight": nn.Parameter(torch.randn(vocab, d_model) / d_model**0.5)})
            )
        for stack, kinds in (("encoder", ("",)), ("decoder", ("self_", "cross_"))):
            blocks = nn.ModuleDict()
            for i in range(n_layers):
                parts = {kind + name: two(d_model, d_model) for kind in kinds for name in ("wq", "wk", "wv", "wo")}
                parts |= {"w1": two(d_ff, d_model), "w2": two(d_model, d_ff)}
                parts |= {f"norm{n + 1}": norm() for n in range(len(kinds) + 1)}
                blocks[str(i)] = nn.ModuleDict(parts)
            self.add_module(stack, blocks)
        self.add_module("output", two(tgt_vocab, d_model))
        self.most = 0  # rows in the table, which grows when it has to

    def waves(self, n, like):
        if n > self.most or self.kept.device != like.device:
            self.most, D = max(2 * n, self.most), like.shape[1]
            i = torch.arange(0, D, 2, dtype=torch.float64, device=like.device)
            angles = torch.arange(self.most, device=like.device)[:, None] / 10_000.0 ** (i / D)
            self.kept = torch.zeros(self.most, D, dtype=torch.float64, device=like.device)
            self.kept[:, 0::2], self.kept[:, 1::2] = angles.sin(), angles.cos()
        return self.kept[:n].to(like.dtype)

    def forward(self, src, tgt):
        def lin(p, x):
            return torch.addmm(p["bias"], x.flatten(0, -2), p["weight"].T).unflatten(0, x.shape[:-1])

        def ln(p, x):
            c = x - x.mean(-1, keepdim=True)
            return p["weight"] * (c * (c.square().mean(-1, keepdim=True) + 1e-5).rsqrt()) + p["bias"]

        def dp(x):
            return torch.dropout(x, self.p, self.training)

        def att(b, c, x, m, mask):
            q, k, v = (
                lin(b[c + n], y).view(*y.shape[:2], self.H, -1).movedim(2, 1)
                for n, y in zip(("wq", "wk", "wv"), (x, m, m), strict=True)
            )
            w = (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(~mask, torch.finfo(q.dtype).min).softmax(-1) * mask
            return dp(lin(b[c + "wo"], (dp(w) @ v).movedim(1, 2).flatten(2)))

        def ff(b, x):
            return dp(lin(b["w2"], dp(lin(b["w1"], x).clamp(min=0))))

        (B, S), T = src.shape, tgt.shape[1]
        D = self.output["weight"].shape[1]
        real, causal = (src != self.pad).view(B, 1, 1, S), torch.ones(T, T, device=tgt.device).tril().bool()
        m = self.src_embedding["weight"][src] * D**0.5
        m = m + self.waves(S, m[0])
        for b in self.encoder.values():
            m = ln(b["norm1"], m + att(b, "", m, m, real))
            m = ln(b["norm2"], m + ff(b, m))
        x = F.embedding(tgt, self.tgt_embedding["weight"]) * D**0.5
        x = x + self.waves(T, x[0])
        for b in self.decoder.values():
            x = ln(b["norm1"], x + att(b, "self_", x, x, causal))
            x = ln(b["norm2"], x + att(b, "cross_", x, m, real))
            x = ln(b["norm3"], x + ff(b, x))
        return lin(self.output, x)


@alternative(replaces="Transformer")
class JoinedProjections(Steps):
    def attend(self, block, kind, x, memory, mask):
        layers = [block[kind + name] for name in ("wq", "wk", "wv")]
        weight, bias = torch.cat([w.weight for w in layers]), torch.cat([w.bias for w in layers])
        D = x.shape[-1]
        q = F.linear(x, weight[:D], bias[:D])
        k, v = F.linear(memory, weight[D:], bias[D:]).chunk(2, dim=-1)
        (B, T, _), S, H = x.shape, memory.shape[1], self.n_heads
        q, k, v = (y.reshape(B, -1, H, D // H).transpose(1, 2).reshape(B * H, -1, D // H) for y in (q, k, v))
        scores = torch.baddbmm(q.new_zeros(1), q, k.mT, alpha=(D // H) ** -0.5).view(B, H, T, S)
        heads = torch.bmm(self.drop(self.weigh(scores, mask)).view(B * H, T, S), v)
        return block[kind + "wo"](heads.view(B, H, T, -1).permute(0, 2, 1, 3).reshape(B, T, D))


def embedded(model: Transformer, embedding: nn.Embedding, ids: Tensor) -> Tensor:
    """Return embeddings with positions from complex numbers of length 1."""
    x = embedding(ids)
    D = x.shape[-1]
    speed = 10_000.0 ** (-2 * torch.arange(D // 2, device=ids.device, dtype=torch.float64) / D)
    turns = torch.polar(torch.ones_like(speed), speed * torch.arange(ids.shape[1], device=ids.device)[:, None])
    positions = torch.view_as_real(turns).flip(-1).flatten(-2)
    return D**0.5 * x + positions.to(x.dtype)


@alternative(replaces="Transformer")
class PositionsByComplexNumbers(Steps):
    embed = embedded
