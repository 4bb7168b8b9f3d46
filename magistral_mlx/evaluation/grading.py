"""Is an answer right? Each kind of question has its own way to find what an answer comes to."""

from magistral_mlx.evaluation.bold_number import grade_bold_number
from magistral_mlx.evaluation.grade import Grade
from magistral_mlx.evaluation.letter import grade_letter
from magistral_mlx.evaluation.mathematics import grade_mathematics
from magistral_mlx.evaluation.question import Question


def grade(question: Question, answer: str) -> Grade:
    """Grade the answer alone; the reasoning before it counts for nothing.

    Call it on the main thread: math-verify ends endless simplifications with an alarm signal.
    """
    graders = {
        "mathematics": grade_mathematics,
        "letter": grade_letter,
        "bold number": grade_bold_number,
    }
    return graders[question.check](answer, expected=question.expected)
