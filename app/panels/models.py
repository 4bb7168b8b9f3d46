"""The models that can be opened, the open one, conversion, and what fits on which Mac."""

from dataclasses import asdict

from pydantic import Field

from magistral_mlx.app.models import conversion
from magistral_mlx.app.models.holder import available_models
from magistral_mlx.app.panels.calls import Form, Nothing, Result, ServerCall, server_calls
from magistral_mlx.app.panels.services import Services


class OpenForm(Form):
    """A model to open; `stop_runs` stops the answers in progress."""

    name: str
    stop_runs: bool = False


class ConvertForm(Form):
    """A model to convert."""

    source: str = Field(min_length=1)
    bits: int = 4


def models_calls(services: Services) -> list[ServerCall]:
    """The calls of the model picker, the gauges and the conversion."""

    def models(form: Nothing) -> Result:
        return {"models": [asdict(entry) for entry in available_models()]}

    def status(form: Nothing) -> Result:
        return {
            "model": _model(services),
            "memory": _memory(services),
            "conversion": _conversion(services),
        }

    def open_model(form: OpenForm) -> Result:
        services.models.open(form.name, stop_runs=form.stop_runs)
        return _model(services)

    def convert(form: ConvertForm) -> Result:
        services.conversion.start(form.source, bits=form.bits)
        return _conversion(services)

    def cancel_conversion(form: Nothing) -> Result:
        services.conversion.cancel()
        return _conversion(services)

    def what_fits(form: Nothing) -> Result:
        return {"fits": [{**asdict(fit), "fits": fit.fits} for fit in conversion.what_fits()]}

    return server_calls(models, status, open_model, convert, cancel_conversion, what_fits)


def _model(services: Services) -> Result:
    now = services.models.snapshot()
    return {
        "state": now.state,
        "choice": now.choice,
        "name": now.name,
        "seconds": now.seconds,
        "message": now.message,
        "window": now.model.window if now.model is not None else None,
    }


def _memory(services: Services) -> Result | None:
    """Bytes: the memory plan, and the KV in use."""
    model = services.models.snapshot().model
    if model is None:
        return None
    plan, status = model.plan, model.status
    return {
        "limit": plan.limit,
        "weights": plan.weights,
        "step": plan.step,
        "kvLimit": status.kv_limit_bytes,
        "kvRunning": status.kv_running_bytes,
        "kvStored": status.kv_stored_bytes,
        "headroom": plan.headroom,
    }


def _conversion(services: Services) -> Result:
    now = services.conversion.snapshot()
    return {
        "state": now.state,
        "source": now.source,
        "done": now.progress.done if now.progress else 0,
        "total": now.progress.total if now.progress else 0,
        "tensor": now.progress.tensor if now.progress else None,
        "seconds": now.seconds,
        "bytesPerSecond": now.bytes_per_second,
        "secondsLeft": now.seconds_left,
        "folder": now.folder.name if now.folder else None,
        "message": now.message,
    }
