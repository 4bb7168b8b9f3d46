"""The decoder of one rank, when a model is divided by layers.

Hidden states go from each rank to the one before it, inside the graph: one message a step and
stage. Rank 0's last layer alone can leave out the tokens that nothing is drawn from.
"""

from collections.abc import Sequence

import mlx.core as mx
from mlx.utils import tree_flatten

from magistral_mlx.checkpoint.config import ModelConfig
from magistral_mlx.checkpoint.folder import Checkpoint, load_weights
from magistral_mlx.model.decoder import Decoder
from magistral_mlx.model.token_axis import Segment
from magistral_mlx.ranks.leading_decoder import LeadingDecoder
from magistral_mlx.ranks.division import Stage


class StageDecoder(Decoder):
    """Of a rank but 0: filled by `load_stage`."""

    def __init__(self, config: ModelConfig, stage: Stage, group: mx.distributed.Group) -> None:
        """config: of the whole model."""
        super().__init__(config)
        self._stage = stage
        self._group = group

    def hidden(self, tokens: mx.array, segments: Sequence[Segment]) -> mx.array:
        """(T, hidden) that the next stage gets, once they are evaluated: this must be done."""
        if self._stage.embeds:
            hidden = self.model.embed_tokens(tokens)
        else:
            hidden = _receive(self, tokens, self._group)
        hidden = self.pass_through(hidden, segments)
        return mx.distributed.send(hidden, self._stage.rank - 1, group=self._group)


class LeadingStage(LeadingDecoder):
    """Rank 0's: filled by `load_stage`."""

    def hidden(self, tokens: mx.array, segments: Sequence[Segment]) -> mx.array:
        """As Decoder.hidden, from what the other stages have made of the tokens."""
        return self.finish(_receive(self, tokens, self._group), segments)


def load_stage(decoder: Decoder, checkpoint: Checkpoint, stage: Stage, *, dtype: mx.Dtype) -> None:
    """Fill a decoder that was made for the whole config with one rank's layers.

    No other tensor is read.
    """
    config = checkpoint.config
    decoder.load(load_weights(checkpoint), dtype)
    decoder.model.layers = decoder.model.layers[stage.start : stage.stop]
    for index, layer in enumerate(decoder.model.layers):
        layer.self_attn.index = index
    if not (stage.embeds or (stage.draws and config.tie_word_embeddings)):
        del decoder.model.embed_tokens
    if not (stage.draws or config.tie_word_embeddings):
        del decoder.lm_head
    decoder.config = stage.part_of(config)
    for named in tree_flatten(decoder.parameters()):
        mx.eval(named[1])
        mx.clear_cache()  # what q, k and v were before they became one matrix


def _receive(decoder: Decoder, tokens: mx.array, group: mx.distributed.Group) -> mx.array:
    """What the stage before has made of a step's tokens, (T, hidden).

    MLX sees nothing that a message received depends on. So that all ranks exchange theirs in the
    same order, the token ids are sent on their way before it, and it before what comes later,
    whether or not anything is drawn from it.
    """
    mx.async_eval(tokens)
    dtype = decoder.model.norm.weight.dtype
    shape = (tokens.shape[0], decoder.config.hidden_size)
    hidden = mx.distributed.recv(shape, dtype, group.rank() + 1, group=group)
    mx.async_eval(hidden)
    return hidden
