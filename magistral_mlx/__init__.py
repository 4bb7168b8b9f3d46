"""Magistral Small on Apple Silicon: open a converted model, generate, stream.

import magistral_mlx

with magistral_mlx.open_model("demo") as model:
    print(model.generate("What is 12 + 30?").answer)
"""

from magistral_mlx.api import Magistral, Reply, open_model
from magistral_mlx.errors import CheckpointError, EngineError, RequestError, UserError
from magistral_mlx.events import (
    AnswerText,
    Event,
    Failed,
    Finished,
    PrefillProgress,
    ReasoningText,
    Timings,
    TokenLogprob,
    ToolCallArguments,
    ToolCallBegin,
    ToolCallEnd,
    Usage,
)
from magistral_mlx.options import GenerationOptions
from magistral_mlx.sampling.sampler import SamplingParams
from magistral_mlx.text.conversation import Message, ToolCall
from magistral_mlx.text.guidance import JsonSchema, Lark, Regex, ToolCalls

__all__ = [
    "AnswerText",
    "CheckpointError",
    "EngineError",
    "Event",
    "Failed",
    "Finished",
    "GenerationOptions",
    "JsonSchema",
    "Lark",
    "Magistral",
    "Message",
    "PrefillProgress",
    "ReasoningText",
    "Regex",
    "Reply",
    "RequestError",
    "SamplingParams",
    "Timings",
    "TokenLogprob",
    "ToolCall",
    "ToolCallArguments",
    "ToolCallBegin",
    "ToolCallEnd",
    "ToolCalls",
    "Usage",
    "UserError",
    "open_model",
]
