"""README.md of a converted folder: what it was made from, how, and how exact it is."""

from collections.abc import Mapping

from magistral_mlx.convert.output.journal import Finished
from magistral_mlx.convert.output.manifest import package_versions
from magistral_mlx.convert.plan import ConversionPlan
from magistral_mlx.convert.rounding.weight_error import SAMPLED_ROWS


def model_card(plan: ConversionPlan, finished: Mapping[str, Finished]) -> str:
    """The card, with the Hub's header. It holds no date: the same conversion gives the same."""
    source, settings = plan.source, plan.settings
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
        f"{settings.dtype}.",
        f"- {_method(plan)}",
        f"- {_error(finished)}",
        f"- Licence: {source.licence or 'that of the model it was converted from'}.",
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
    return f"{kind}, {own} modules otherwise" if own else kind


def _method(plan: ConversionPlan) -> str:
    if plan.config.quantization is None:
        return "Weights are the source's, in that type."
    if plan.settings.method == "rtn" or not plan.config.quantization.has_biases:
        return "Weights were rounded to the nearest step."
    if plan.calibration is not None:
        tokens = sum(map(len, plan.calibration))
        return (
            f"Weights were calibrated on {tokens:,} tokens of a text: columns make up for the "
            "error of those before them (GPTQ), which the error below does not show."
        )
    chosen = "Scale and bias of every group were chosen for the least squared error of its weights"
    return chosen + (", weighted by importance." if plan.importance is not None else ".")


def _error(finished: Mapping[str, Finished]) -> str:
    errors = {
        name.removesuffix(".weight"): done.error.mean
        for name, done in finished.items()
        if done.error is not None
    }
    if not errors:
        return "No tensor was quantised."
    worst = max(sorted(errors), key=lambda name: errors[name])
    mean = sum(errors[name] for name in sorted(errors)) / len(errors)
    return (
        f"Error of the weights (norm of the difference over norm of the weights, every "
        f"{SAMPLED_ROWS}th row): {mean:.2%} in the mean of the tensors, {errors[worst]:.2%} at "
        f"most ({worst})."
    )
