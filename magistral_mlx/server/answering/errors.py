"""Errors as clients expect them: in OpenAI's shape, or in Anthropic's on its route."""

from collections.abc import Mapping, Sequence

import anthropic.types.shared as anthropic_errors
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from openai.types.shared import ErrorObject
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from magistral_mlx.errors import EngineError, QueueFullError, RequestError, UserError

ANTHROPIC_PATH = "/v1/messages"
MAX_MESSAGE, MAX_PARAM = 2_000, 200
"""Characters of an error's answer: both may quote what the client sent."""
POLICY_VIOLATION = 1008
"""The code that a refused WebSocket is closed with."""


class ErrorBody(BaseModel):
    """The body of every error, except on Anthropic's route."""

    error: ErrorObject


class ApiError(HTTPException):
    """A refused request. The message says what to change."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """retry_after: seconds."""
        headers = None if retry_after is None else {"Retry-After": str(retry_after)}
        super().__init__(status, _shortened(message, MAX_MESSAGE), headers)
        self.code = code
        self.retry_after = retry_after
        self.param = None if param is None else _shortened(param, MAX_PARAM)


OPENAI_TYPES: Mapping[int, str] = {401: "authentication_error", 429: "rate_limit_error"}
ANTHROPIC_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}

_CODES: Mapping[int, str] = {404: "not_found", 405: "method_not_allowed", 400: "bad_request"}

_TAGS = {
    *("system", "developer", "user", "assistant", "tool"),
    *("text", "json_object", "json_schema"),
}

ERRORS: Mapping[int | str, dict[str, object]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in (
        (400, "A value is not possible."),
        (401, "The key is missing or wrong."),
        (403, "The request came by an unknown host name."),
        (404, "There is no such model or response."),
        (408, "The body did not arrive in time."),
        (413, "The body is too large."),
        (415, "The body is compressed."),
        (422, "A field is unknown, missing or of the wrong type."),
        (429, "Too many requests; try again after Retry-After seconds."),
        (500, "The model failed."),
        (503, "The model is loading, or its engine has stopped."),
    )
}
"""Responses of every route in the OpenAPI document."""

ANTHROPIC_ERRORS: Mapping[int | str, dict[str, object]] = {
    status: {"model": anthropic_errors.ErrorResponse, "description": response["description"]}
    for status, response in ERRORS.items()
}


def install_errors(app: FastAPI) -> None:
    """Answer every exception in the shape of its route."""
    for kind in (HTTPException, UserError, EngineError, RequestValidationError, Exception):
        app.add_exception_handler(kind, _respond)


async def refuse(scope: Scope, receive: Receive, send: Send, error: ApiError) -> None:
    """Answer a request with an error, or close a WebSocket."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": POLICY_VIOLATION})
    else:
        await error_response(scope, error)(scope, receive, send)


def as_api_error(error: Exception) -> ApiError:
    """Any exception as an error for the client."""
    match error:
        case ApiError():
            return error
        case RequestError():
            return ApiError(400, str(error), code="invalid_value", param=error.field)
        case UserError():
            return ApiError(400, str(error), code="invalid_value")
        case QueueFullError():
            return ApiError(429, str(error), code="queue_full", retry_after=5)
        case EngineError():
            return ApiError(503, str(error), code="engine_dead")
        case RequestValidationError():
            return _invalid(error)
        case HTTPException(status_code=status, detail=detail):
            return ApiError(status, str(detail), code=_CODES.get(status))
    return ApiError(500, "The server failed on this request; see its log.", code="internal")


def error_response(scope: Scope, error: ApiError) -> JSONResponse:
    """The response to a request that has failed."""
    response = JSONResponse(error_body(scope, error), error.status_code, error.headers)
    if error.status_code in (408, 413):
        response.headers["Connection"] = "close"  # the rest of the body is not read
    if error.status_code == 401:
        # A browser then asks its user: any name, and the key as the password.
        is_browser = "text/html" in Headers(scope=scope).get("accept", "")
        response.headers["WWW-Authenticate"] = "Basic" if is_browser else "Bearer"
    return response


def error_body(scope: Scope, error: ApiError) -> dict[str, object]:
    """The body of that response, or an event in the middle of a stream."""
    if scope["path"].startswith(ANTHROPIC_PATH):
        kind = ANTHROPIC_TYPES.get(error.status_code, "invalid_request_error")
        body = anthropic_errors.ErrorResponse.model_validate(
            {
                "type": "error",
                "error": {"type": kind, "message": error.detail},
                "request_id": scope.get("state", {}).get("request_id"),
            }
        )
        return body.model_dump(mode="json", exclude_none=True)
    fallback = "invalid_request_error" if error.status_code < 500 else "server_error"
    shown = ErrorObject(
        message=error.detail,
        type=OPENAI_TYPES.get(error.status_code, fallback),
        param=error.param,
        code=error.code,
    )
    return {"error": shown.model_dump(mode="json", exclude_unset=True)}


async def _respond(request: Request, error: Exception) -> JSONResponse:
    response = error_response(request.scope, as_api_error(error))
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


def _invalid(error: RequestValidationError) -> ApiError:
    # The member of a union that fits best fails deepest.
    first = max(error.errors(), key=lambda found: len(found["loc"]))
    param = ".".join(_place(first["loc"][1:])) or None
    if first["type"] == "extra_forbidden":
        message = f"The field {param} is not supported: leave it out."
        return ApiError(422, message, code="unknown_parameter", param=param)
    name = param or "The body"
    if first["type"] == "missing":
        return ApiError(422, f"{name} is missing.", code="missing_parameter", param=param)
    reason = first["msg"].removeprefix("Value error, ").rstrip(".")
    return ApiError(422, f"{name}: {reason}.", code="invalid_type", param=param)


def _place(location: Sequence[int | str]) -> list[str]:
    """The path of a field, without pydantic's names for the members of unions."""
    before = ("", *location)
    return [
        str(part)
        for previous, part in zip(before, location, strict=False)
        if not _is_branch(part) and not (part in _TAGS and _is_tagged(previous))
    ]


def _is_tagged(field: int | str) -> bool:
    return isinstance(field, int) or field in ("response_format", "format")


def _is_branch(part: int | str) -> bool:
    if isinstance(part, int):
        return False
    is_type = "A" <= part[:1] <= "Z" or part in ("str", "list", "dict", "none")
    return is_type or any(mark in part for mark in "[(-")


def _shortened(text: str, limit: int) -> str:
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]} … {text[-half:]}"
