"""A server with the nano behind it, and clients of it; opening it takes seconds."""

from collections.abc import Iterator

import openai
import pytest

import magistral_mlx
from magistral_mlx import GenerationOptions, Magistral, SamplingParams
from magistral_mlx.engine.status import StepReport
from tests.server.running_server import RunningServer, running_server

QUESTION = "What is 12 + 30?"


@pytest.fixture(scope="session")
def steps() -> list[StepReport]:
    """What every step of the model has run."""
    return []


@pytest.fixture(scope="session")
def model(steps: list[StepReport]) -> Iterator[Magistral]:
    with magistral_mlx.open_model("demo", on_step=steps.append) as opened:
        yield opened


@pytest.fixture(scope="session")
def server(model: Magistral) -> Iterator[RunningServer]:
    with running_server(model) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.v1, api_key="EMPTY", max_retries=0) as opened:
        yield opened


@pytest.fixture(scope="session")
def name(model: Magistral) -> str:
    return model.name


@pytest.fixture(scope="session")
def reply(model: Magistral) -> magistral_mlx.Reply:
    """The greedy reply to QUESTION by the Python API."""
    return model.generate(QUESTION, GenerationOptions(sampling=SamplingParams(temperature=0)))
