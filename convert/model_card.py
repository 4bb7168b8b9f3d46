"""README.md of a converted folder: its source, how it was converted, and its error."""

from collections.abc import Mapping

from magistral_mlx.convert.output.journal import FinishedTensor
from magistral_mlx.convert.output.manifest import package_versions
from magistral_mlx.convert.plan import ConversionPlan
from magistral_mlx.convert.rounding.stored_form import SAMPLED_ROWS


def model_card(plan: ConversionPlan, finished: Mapping[str, FinishedTensor]) -> str:
    """The card, with the Hub's header. It has no date: the same conversion gives the same bytes."""
    source = plan.source
    revision = f" at commit {source.revision}" if source.revision else ""
    versions = ", ".join(f"{name} {value}" for name, value in package_versions().items())
    lines = [
        "---",
        "library_name: mlx",
        *([f"license: {source.licence}"] if source.licence else []),
        *([f"base_model: {source.name}"] if source.revision else []),
        "pipeline_tag: text-generation",
        "tags:",
        "- mlx",
        "---",
        "",
        f"# {source.name.rpartition('/')[2]}, {_kind(plan)}",
        "",
        f"Converted for MLX from {source.name}{revision} ({source.layout} layout) with {versions}.",
        "",
        f"- Weights: {plan.nbytes / 1e9:.2f} GB, {_kind(plan)}, scales and norms in "
        f"{plan.config.dtype}.",
        f"- {_method(plan)}",
        f"- {_error(finished)}",
        f"- Licence: {source.licence or 'as for the source'}.",
        "",
        "`conversion.json` lists every tensor with its checksum and error.",
        "",
    ]
    return "\n".join(lines)


def _kind(plan: ConversionPlan) -> str:
    quantization = plan.config.quantization
    if quantization is None:
        return f"not quantised ({plan.config.dtype})"
    kind = f"{quantization.bits} bits in groups of {quantization.group_size}"
    if quantization.mode != "affine":
        kind += f" ({quantization.mode})"
    own = len(plan.config.module_quantization)
    return f"{kind}, {own} modules with other bits" if own else kind


def _method(plan: ConversionPlan) -> str:
    if plan.config.quantization is None:
        return "The weights are the source's, cast to that type."
    if plan.recipe.rtn or not plan.config.quantization.has_biases:
        return "The weights were rounded to the nearest step."
    if plan.calibration is not None:
        tokens = sum(map(len, plan.calibration))
        return (
            f"The weights were calibrated on {tokens:,} tokens of text: later columns compensate "
            "the error of earlier ones (GPTQ), which the error below does not show."
        )
    weighted = ", weighted by importance" if plan.importance is not None else ""
    return f"Scales and biases were chosen for the least squared error of the weights{weighted}."


def _error(finished: Mapping[str, FinishedTensor]) -> str:
    errors = {
        name.removesuffix(".weight"): done.error.mean
        for name, done in sorted(finished.items())
        if done.error is not None
    }
    if not errors:
        return "No tensor was quantised."
    worst = max(errors, key=errors.__getitem__)
    mean = sum(errors.values()) / len(errors)
    return (
        f"Error of the weights (norm of the difference over norm of the weights, every "
        f"{SAMPLED_ROWS}th row): {mean:.2%} on average, {errors[worst]:.2%} at most ({worst})."
    )
