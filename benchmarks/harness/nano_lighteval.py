"""The demo model's held-out arithmetic as a task of lighteval: docs/evaluation.md."""

from lighteval.metrics.metrics import Metrics
from lighteval.tasks.lighteval_task import LightevalTaskConfig
from lighteval.tasks.requests import Doc


def ask(line: dict[str, str], task_name: str) -> Doc:
    """The question and its answer."""
    return Doc(task_name=task_name, query=line["question"], choices=[line["answer"]], gold_index=0)


TASKS_TABLE = [
    LightevalTaskConfig(
        name="nano_arithmetic",
        prompt_function=ask,
        hf_repo="benchmarks/harness/nano_arithmetic",
        hf_subset="default",
        hf_avail_splits=["test"],
        evaluation_splits=["test"],
        metrics=[Metrics.expr_gold_metric],
        generation_size=512,
        stop_sequence=[],
    )
]
