"""Hundreds of made-up requests a route, by schemathesis, from the server's own OpenAPI document."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

import magistral_mlx
from magistral_mlx.server.answering.model_slot import ModelSlot
from magistral_mlx.server.answering.settings import ServerSettings
from magistral_mlx.server.app import create_app, create_service
from tests.sample_checkpoints import write_hf

schemathesis = pytest.importorskip("schemathesis")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")
INVALID_SCHEMA = pytest.importorskip("schemathesis.core.errors").InvalidSchema

Schema = Any
Case = Any
"""Of schemathesis, which need not be there."""

CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
ROUTES = [
    "post /v1/chat/completions",
    "post /v1/completions",
    "post /v1/messages",
    "post /v1/messages/count_tokens",
    "post /v1/responses",
    "get /v1/responses/{response_id}",
    "delete /v1/responses/{response_id}",
    "get /v1/models",
    "get /v1/models/{name}",
    "post /tokenize",
    "post /detokenize",
    "get /health",
    "get /metrics",
]
EXAMPLES = {"positive": 150, "negative": 60}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Schema]:
    """The document, with the model's name in every body: any other is only a 404."""
    folder = write_hf(tmp_path_factory.mktemp("x") / "sample")
    with magistral_mlx.open_model(folder, window=800) as model:
        limits = ServerSettings(allowed_hosts=("*",), request_timeout=0.2, max_choices=3)
        app = create_app(create_service(ModelSlot(model), limits))
        schema = schemathesis.openapi.from_asgi("/openapi.json", app)

        schema.hook(map_body)
        yield schema


def map_body(context: object, body: object) -> object:
    """A hook, which schemathesis knows by its name."""
    if isinstance(body, dict) and isinstance(body.get("model"), str):
        return body | {"model": "sample"}
    return body


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("route", ROUTES)
def test_no_request_makes_the_server_fail_or_leave_its_document(
    document: Schema, route: str, mode: str
) -> None:
    method, path = route.split()
    if mode == "negative" and method != "post":
        return  # without a body there is nothing that could be wrong
    cases = document[path][method].as_strategy(generation_mode=schemathesis.GenerationMode(mode))

    tried = 0

    def ask(case: Case) -> None:
        nonlocal tried
        tried += 1
        case.call_and_validate(checks=CHECKS)

    # The same cases each time. Some, schemathesis begins and cannot make up: then others are tried.
    for number in range(20):
        limits = settings(
            max_examples=max(1, EXAMPLES[mode] - tried),
            deadline=None,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        try:
            seed(number)(limits(given(case=cases)(ask)))()
        except INVALID_SCHEMA:
            if tried < EXAMPLES[mode]:
                continue
        return
    pytest.fail(f"schemathesis made up {tried} requests only")


def test_every_route_of_the_document_is_tried(document: Schema) -> None:
    found = [f"{method} {path}" for path in document for method in document[path]]
    assert sorted(route.upper() for route in found) == sorted(route.upper() for route in ROUTES)
