"""Errors as clients expect them: OpenAI's shape, and Anthropic's on its route."""

import re
from collections.abc import Mapping, Sequence

import anthropic.types.shared as anthropic_errors
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from openai.types.shared import ErrorObject
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import Scope

from magistral_mlx.errors import EngineError, QueueFullError, RequestError, UserError

ANTHROPIC_PATH = "/v1/messages"


class ErrorBody(BaseModel):
    """The body of every error, except on Anthropic's route."""

    error: ErrorObject


class ApiError(Exception):
    """A request that is not served. The message says what to change."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after


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
        (400, "The request cannot be served as asked."),
        (401, "No key, or a wrong one."),
        (404, "There is no such model."),
        (408, "The request did not arrive in time."),
        (413, "The request is too large."),
        (415, "The body is not JSON."),
        (403, "It came by a host name that is not served."),
        (422, "A field is unknown, missing or of another type."),
        (429, "Too many requests; try again after Retry-After seconds."),
        (500, "The model failed."),
        (503, "The model is loading, or its engine has died."),
    )
}
"""What the OpenAPI document says of every route."""

ANTHROPIC_ERRORS: Mapping[int | str, dict[str, object]] = {
    status: {"model": anthropic_errors.ErrorResponse, "description": said["description"]}
    for status, said in ERRORS.items()
}


def install_errors(app: FastAPI) -> None:
    """Have every exception answered in the shape of its route."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(UserError, _api_error)
    app.add_exception_handler(EngineError, _api_error)
    app.add_exception_handler(RequestValidationError, _api_error)
    app.add_exception_handler(HTTPException, _api_error)
    app.add_exception_handler(Exception, _api_error)


def as_api_error(error: Exception) -> ApiError:
    """Any exception as what the client is told of it."""
    match error:
        case ApiError():
            return error
        case UserError():
            field = error.field if isinstance(error, RequestError) else None
            return ApiError(400, str(error), code="invalid_value", param=field)
        case QueueFullError():
            return ApiError(429, str(error), code="queue_full", retry_after=5)
        case EngineError():
            return ApiError(503, str(error), code="engine_dead")
        case RequestValidationError():
            return _invalid(error)
        case HTTPException(status_code=status, detail=detail):
            return ApiError(status, str(detail), code=_CODES.get(status))
    return ApiError(500, "The server failed at this request; its log says why.", code="internal")


def error_response(path: str, error: ApiError, *, request_id: str | None = None) -> JSONResponse:
    """The response that an error is told with."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        # A browser asks for the key then; clients of the API do not look at this.
        headers["WWW-Authenticate"] = 'Basic realm="magistral-mlx, key as password"'
    return JSONResponse(error_body(path, error, request_id), error.status, headers)


def error_body(path: str, error: ApiError, request_id: str | None = None) -> dict[str, object]:
    """The body of that response, also an event in the middle of a stream."""
    if path.startswith(ANTHROPIC_PATH):
        kind = ANTHROPIC_TYPES.get(error.status, "invalid_request_error")
        body = anthropic_errors.ErrorResponse.model_validate(
            {
                "type": "error",
                "error": {"type": kind, "message": error.message},
                "request_id": request_id,
            }
        )
        return body.model_dump(mode="json", exclude_none=True)
    fallback = "invalid_request_error" if error.status < 500 else "server_error"
    told = ErrorObject(
        message=error.message,
        type=OPENAI_TYPES.get(error.status, fallback),
        param=error.param,
        code=error.code,
    )
    return {"error": told.model_dump(mode="json", exclude_unset=True)}


async def _api_error(request: Request, error: Exception) -> JSONResponse:
    told = as_api_error(error)
    response = error_response(request.url.path, told, request_id=request_id(request.scope))
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


def request_id(scope: Scope) -> str | None:
    """The id that the request has got, if it came so far."""
    found = scope.get("state", {}).get("request_id")
    return found if isinstance(found, str) else None


def _invalid(error: RequestValidationError) -> ApiError:
    # Of a union's members, the one that fits best fails deepest.
    first = max(error.errors(), key=lambda found: len(found["loc"]))
    param = ".".join(_place(first["loc"][1:])) or None
    if first["type"] == "json_invalid":
        return ApiError(400, f"The body is not JSON: {first['ctx']['error']}.", code="invalid_json")
    if first["type"] == "extra_forbidden":
        message = f"The field {param} is not supported: leave it out."
        return ApiError(422, message, code="unknown_parameter", param=param)
    name = param or "The body"
    if first["type"] == "missing":
        return ApiError(422, f"{name} is missing.", code="missing_parameter", param=param)
    reason = first["msg"].removeprefix("Value error, ").rstrip(".")
    return ApiError(422, f"{name}: {reason}.", code="invalid_type", param=param)


def _place(location: Sequence[int | str]) -> list[str]:
    """The field's name: pydantic's names for the members of unions are no part of it."""
    before = ("", *location)
    return [
        str(part)
        for previous, part in zip(before, location, strict=False)
        if not _is_branch(part) and not (part in _TAGS and _is_tagged(previous))
    ]


def _is_tagged(field: int | str) -> bool:
    return isinstance(field, int) or field in ("response_format", "format")


def _is_branch(part: int | str) -> bool:
    return (
        isinstance(part, str)
        and re.search(r"^[A-Z]|[\[(-]|^(str|list|dict|none)$", part) is not None
    )
