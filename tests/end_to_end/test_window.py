"""A sequence that fills the model card's whole window, to the last of its 40,960 tokens."""

from pathlib import Path
from queue import SimpleQueue

import mlx.core as mx
import pytest

from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.engine.engine import Engine
from magistral_mlx.engine.request import Request
from magistral_mlx.events import Event, Finished
from magistral_mlx.model.decoder import load_decoder
from magistral_mlx.model.token_axis import Segment
from magistral_mlx.options import OutputOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.spec import WINDOW
from magistral_mlx.text.tokenizer import Tokenizer
from tests.sample_checkpoints import VOCAB, edit_json, write_hf

HIDDEN, INNER, HEAD_DIM = 64, 64, 16
PROMPT = WINDOW - 48


def small_model(folder: Path) -> Path:
    """Two layers with one head: MLX's CPU backend does not fuse attention."""
    mx.random.seed(1)
    shapes = {"model.embed_tokens": (VOCAB, HIDDEN), "lm_head": (VOCAB, HIDDEN)}
    norms = ["model.norm"]
    for start in ("model.layers.0", "model.layers.1"):
        shapes |= {
            f"{start}.self_attn.q_proj": (HEAD_DIM, HIDDEN),
            f"{start}.self_attn.k_proj": (HEAD_DIM, HIDDEN),
            f"{start}.self_attn.v_proj": (HEAD_DIM, HIDDEN),
            f"{start}.self_attn.o_proj": (HIDDEN, HEAD_DIM),
            f"{start}.mlp.gate_proj": (INNER, HIDDEN),
            f"{start}.mlp.up_proj": (INNER, HIDDEN),
            f"{start}.mlp.down_proj": (HIDDEN, INNER),
        }
        norms += [f"{start}.input_layernorm", f"{start}.post_attention_layernorm"]
    weights = {f"{name}.weight": mx.random.normal(shape) * 0.3 for name, shape in shapes.items()}
    weights |= {f"{name}.weight": mx.ones((HIDDEN,)) for name in norms}
    write_hf(folder, {name: array.astype(mx.bfloat16) for name, array in weights.items()})
    edit_json(
        folder / "config.json",
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=2,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=HEAD_DIM,
        max_position_embeddings=WINDOW,
    )
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_last_token_of_the_window_is_reached_and_right(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(small_model(tmp_path / "tiny"))
    engine = Engine(checkpoint, Tokenizer.open(checkpoint.folder), window=WINDOW)
    prompt = tuple(1000 + (7 * i * i + i // 3) % (VOCAB - 1000) for i in range(PROMPT))
    events = SimpleQueue[Event]()
    request = Request(
        prompt, state="answer", options=OutputOptions(sampling=SamplingParams(temperature=0))
    )
    sequence = engine.submit_to(request, events.put)
    while not isinstance(event := events.get(timeout=800), Finished):
        pass
    engine.close()
    assert event.reason == "length"
    assert event.usage.completion_tokens == 48
    assert len(sequence.ids) == WINDOW

    decoder = load_decoder(checkpoint)
    fed = mx.array(sequence.ids[:-1])
    logits = decoder(fed, [Segment(decoder.make_cache(), WINDOW - 1, 48)])
    assert mx.argmax(logits, axis=-1).tolist() == sequence.ids[-48:]
