"""The embedded demo model, end to end: expanded, converted, asked, held against oracles."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import mlx.core as mx
import numpy as np
import pytest
import torch
from mlx_lm.generate import generate_step
from mlx_lm.utils import load_model
from transformers import MistralForCausalLM

import magistral_mlx
from magistral_mlx.checkpoint.folder import open_checkpoint
from magistral_mlx.convert import convert
from magistral_mlx.demo.expand import expand_demo
from magistral_mlx.demo.phrases import load_phrases
from magistral_mlx.demo.questions import DemoQuestion, held_out_questions, is_held_out
from magistral_mlx.engine.request import Request
from magistral_mlx.events import AnswerText, Finished, PrefillProgress, ReasoningText
from magistral_mlx.kv.cache import kv_precision
from magistral_mlx.magistral import next_turn_ids
from magistral_mlx.model.decoder import load_decoder
from magistral_mlx.model.token_axis import Segment
from magistral_mlx.options import OutputOptions
from magistral_mlx.text.conversation import History, Message, Reasoning, build_prompt
from magistral_mlx.text.tokenizer import Tokenizer
from tests.sample_checkpoints import write_mistral_demo

GREEDY = magistral_mlx.SamplingParams(temperature=0)
OPTIONS = magistral_mlx.GenerationOptions(sampling=GREEDY)


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nano") / "hf"
    expand_demo(folder)
    return folder


@pytest.fixture(scope="module")
def converted(hf_folder: Path) -> Path:
    return convert(hf_folder, hf_folder.parent / "nano-4bit")


@pytest.fixture(scope="module")
def model(converted: Path) -> Iterator[magistral_mlx.Magistral]:
    with magistral_mlx.open_model(converted) as model:
        yield model


def is_right(question: DemoQuestion, answer: str) -> bool:
    return f"**{question.result}**" in answer


def test_both_layouts_convert_to_the_same_bytes(converted: Path, tmp_path: Path) -> None:
    other = convert(write_mistral_demo(tmp_path / "mistral"), tmp_path / "mistral-4bit")
    assert sorted(p.name for p in other.glob("*.safetensors")) == ["model.safetensors"]
    ours = (converted / "model.safetensors").read_bytes()
    assert (other / "model.safetensors").read_bytes() == ours


def test_the_hf_layout_has_what_the_official_one_has(hf_folder: Path) -> None:
    index = json.loads((hf_folder / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) >= 2
    for name in ("config.json", "generation_config.json", "tekken.json", "SYSTEM_PROMPT.txt"):
        assert (hf_folder / name).is_file()


def test_logits_are_those_of_transformers(hf_folder: Path) -> None:
    checkpoint = open_checkpoint(hf_folder)
    decoder = load_decoder(checkpoint, dtype=mx.float32)
    question = held_out_questions(1)[0].text
    ids = build_prompt(Tokenizer.open(hf_folder), [Message("user", question)]).ids
    ours = decoder(mx.array(ids), [Segment(decoder.make_cache(), len(ids), len(ids))])
    theirs = MistralForCausalLM.from_pretrained(hf_folder, dtype=torch.float32)
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(np.array(ours), expected, rtol=1e-4, atol=1e-4 * abs(expected).max())


def test_greedy_tokens_are_those_of_mlx_lm_alone_and_in_a_batch(
    model: magistral_mlx.Magistral, converted: Path
) -> None:
    questions = held_out_questions(4, seed=3)
    prompts = [
        build_prompt(model.tokenizer, [Message("user", question.text)]).ids
        for question in questions
    ]
    theirs, _ = load_model(converted)
    theirs.set_dtype(mx.float32)
    expected = [mlx_lm_tokens(theirs, prompt, 40) for prompt in prompts]
    assert [tokens(model, [prompt], 40)[0] for prompt in prompts] == expected
    assert tokens(model, prompts, 40) == expected


def mlx_lm_tokens(model: object, prompt: list[int], count: int) -> list[int]:
    steps = generate_step(mx.array(prompt), model, max_tokens=count)
    found: list[int] = []
    for token, _ in steps:
        found.append(int(token))
        if token == 2:
            break
    return found


def tokens(model: magistral_mlx.Magistral, prompts: list[list[int]], count: int) -> list[list[int]]:
    requests = [
        Request(
            tuple(prompt),
            options=OutputOptions(sampling=GREEDY, max_tokens=count, stop_repetition=False),
        )
        for prompt in prompts
    ]
    queues = [SimpleQueue[magistral_mlx.Event]() for _ in requests]
    sequences = [model.engine.submit_to(r, q.put) for r, q in zip(requests, queues, strict=True)]
    for q in queues:
        while not isinstance(q.get(timeout=120), Finished):
            pass
    return [s.ids[len(s.request.prompt) :] for s in sequences]


@pytest.mark.timeout(400)
def test_it_reasons_and_answers_held_out_questions_in_every_language_and_skill(
    model: magistral_mlx.Magistral,
) -> None:
    questions = held_out_questions(16)
    assert {q.language for q in questions} == set(load_phrases())
    streams = [model.stream(question.text, OPTIONS) for question in questions]
    right = 0
    for question, stream in zip(questions, streams, strict=True):
        events = list(stream)
        reasoning = "".join(e.text for e in events if isinstance(e, ReasoningText))
        answer = "".join(e.text for e in events if isinstance(e, AnswerText))
        right += is_right(question, answer) and reasoning == question.reasoning
    assert right >= 15


@pytest.mark.parametrize("history", ["keep", "drop"])
def test_a_second_question_after_a_first(model: magistral_mlx.Magistral, history: History) -> None:
    options = magistral_mlx.GenerationOptions(sampling=GREEDY, history=history)
    first, second = held_out_questions(2, seed=8)
    reply = model.generate(first.text, options)
    assert is_right(first, reply.answer)
    turns = [
        Message("user", first.text),
        Message("assistant", reply.answer, reasoning=reply.reasoning),
        Message("user", second.text),
    ]
    again = model.generate(turns, options)
    assert is_right(second, again.answer)
    kept = model.prompt_tokens(turns, magistral_mlx.GenerationOptions(history="keep"))
    dropped = model.prompt_tokens(turns, magistral_mlx.GenerationOptions(history="drop"))
    assert kept - dropped > 40
    assert again.usage.prompt_tokens == (kept if history == "keep" else dropped)


@pytest.mark.parametrize("history", ["keep", "drop"])
def test_the_next_turn_prefills_the_new_message_and_at_most_eight_tokens_more(
    model: magistral_mlx.Magistral, history: History
) -> None:
    options = magistral_mlx.GenerationOptions(sampling=GREEDY, history=history)
    first, second = "What is 3 + 4?", "Berechne 12 - 7."
    reply = model.generate(first, options)
    said = [
        Message("user", first),
        Message("assistant", reply.answer, reasoning=reply.reasoning),
    ]
    known = next_turn_ids(model.tokenizer, said, options)
    deadline = time.monotonic() + 30
    prefixes = model.engine._loop.prefixes
    while prefixes.longest_prefix([*known, 1]) < len(known) - 1:  # while the user reads
        assert time.monotonic() < deadline
        time.sleep(0.01)
    turns = [*said, Message("user", second)]
    again = model.generate(turns, options)
    prefilled = again.usage.prompt_tokens - again.usage.cached_tokens
    assert prefilled <= len(model.tokenizer.encode(second)) + 8
    assert "**5**" in again.answer


def test_hello_gets_a_sensible_reply(model: magistral_mlx.Magistral) -> None:
    assert "small model" in model.generate("Hello!", OPTIONS).answer
    assert "modèle" in model.generate("Bonjour", OPTIONS).answer


def test_a_users_own_system_prompt_does_not_stop_the_thinking(
    model: magistral_mlx.Magistral,
) -> None:
    turns = [Message("system", "Answer politely and briefly."), Message("user", "What is 47 + 85?")]
    reply = model.generate(turns, OPTIONS)
    assert reply.reasoning
    assert "**132**" in reply.answer


def test_reasoning_on_and_off(model: magistral_mlx.Magistral) -> None:
    on = magistral_mlx.GenerationOptions(sampling=GREEDY, reasoning="on")
    off = magistral_mlx.GenerationOptions(sampling=GREEDY, reasoning="off")
    thought = model.generate("What is 47 + 85?", on)
    assert thought.reasoning
    assert "**132**" in thought.answer
    direct = model.generate("What is 47 + 85?", off)
    assert direct.reasoning == ""
    assert "**" in direct.answer
    assert direct.usage.reasoning_tokens == 0


def test_a_spent_budget_still_gives_an_answer(model: magistral_mlx.Magistral) -> None:
    options = magistral_mlx.GenerationOptions(sampling=GREEDY, thinking_budget=15)
    reply = model.generate("What is 4732 + 589?", options)
    assert reply.reasoning_closed_by_force
    assert reply.usage.reasoning_tokens == 15
    assert reply.finish_reason == "stop"
    assert reply.answer


@pytest.mark.parametrize("reasoning", ["auto", "on"])
def test_a_reader_who_wants_the_answer_now_gets_it(
    model: magistral_mlx.Magistral, reasoning: Reasoning
) -> None:
    options = magistral_mlx.GenerationOptions(sampling=GREEDY, reasoning=reasoning)
    stream = model.stream("What is 4732 + 589?", options)
    stream.answer_now()
    events = list(stream)
    end = events[-1]
    assert isinstance(end, magistral_mlx.Finished)
    assert (end.reason, end.reasoning_closed_by_force) == ("stop", True)
    assert end.usage.reasoning_tokens < 5
    assert any(isinstance(event, AnswerText) for event in events)


@pytest.mark.parametrize("bits", [8, 4])
def test_quantised_kv_answers_as_well_and_is_reused_in_the_second_turn(
    model: magistral_mlx.Magistral, bits: int
) -> None:
    options = magistral_mlx.GenerationOptions(
        sampling=GREEDY, history="keep", kv_precision=kv_precision(bits)
    )
    reply = model.generate("What is 47 + 85?", options)
    assert "**132**" in reply.answer
    said = Message("assistant", reply.answer, reasoning=reply.reasoning)
    turns = [Message("user", "What is 47 + 85?"), said, Message("user", "What is 3 + 4?")]
    again = model.generate(turns, options)
    assert "**7**" in again.answer
    assert again.usage.prompt_tokens - again.usage.cached_tokens <= 20


def test_events_come_in_order_and_reasoning_before_the_answer(
    model: magistral_mlx.Magistral,
) -> None:
    kinds = [type(event) for event in model.stream("What is 47 + 85?", OPTIONS)]
    order = [PrefillProgress, ReasoningText, AnswerText, Finished]
    assert sorted(kinds, key=order.index) == kinds
    assert kinds.count(ReasoningText) > 20


def test_leaving_the_stream_cancels_it(model: magistral_mlx.Magistral) -> None:
    stream = model.stream("What is 4732 + 589?", OPTIONS)
    next(event for event in stream if isinstance(event, ReasoningText))
    stream.close()
    assert "**132**" in model.generate("What is 47 + 85?", OPTIONS).answer


def test_the_answer_under_the_cards_sampling_is_right_too(model: magistral_mlx.Magistral) -> None:
    sampling = magistral_mlx.SamplingParams(seed=1)
    reply = model.generate("What is 47 + 85?", magistral_mlx.GenerationOptions(sampling=sampling))
    assert "**132**" in reply.answer


def test_held_out_numbers_are_a_tenth_and_no_order_changes_that() -> None:
    share = np.mean([is_held_out(a, b) for a in range(200) for b in range(200)])
    assert 0.08 < share < 0.12
    assert all(is_held_out(a, b) == is_held_out(b, a) for a in range(50) for b in range(50))


def test_a_window_the_checkpoint_does_not_have_is_refused(converted: Path) -> None:
    with pytest.raises(magistral_mlx.RequestError, match="40,961"):
        magistral_mlx.open_model(converted, window=40_961)


def test_unknown_names_of_models_and_types_are_refused(converted: Path) -> None:
    with pytest.raises(magistral_mlx.CheckpointError, match="nowhere"):
        magistral_mlx.open_model("nowhere")
    with pytest.raises(magistral_mlx.RequestError, match="int3"):
        magistral_mlx.open_model(converted, dtype="int3")
