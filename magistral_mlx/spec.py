"""The model card of Magistral Small 2506 as constants, and the version of this package."""

VERSION = "0.1.0"
"""Here, not in pyproject.toml, so that a plain checkout has it too."""

HUB_ID = "mistralai/Magistral-Small-2506"

WINDOW = 40_960
"""Default window: tokens that a sequence may hold, prompt and output together."""

TEMPERATURE = 0.7
TOP_P = 0.95

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"
"""Plain text in tokenizer v11: several tokens each. v13 has control tokens instead."""

SYSTEM_PROMPT = """\
A user will ask you to solve a task. You should first draft your thinking process (inner \
monologue) until you have derived the final answer. Afterwards, write a self-contained summary \
of your thoughts (i.e. your summary should be succinct but contain all the critical steps you \
needed to reach the conclusion). You should use Markdown to format your response. Write both \
your thoughts and summary in the same language as the task posed by the user. NEVER use \\boxed{} \
in your response.

Your thinking process must follow the template below:
<think>
Your thoughts or/and draft, like working through an exercise on scratch paper. Be as casual and \
as long as you want until you are confident to generate a correct answer.
</think>

Here, provide a concise summary that reflects your reasoning and presents a clear final answer \
to the user. Don't mention that this is a summary.

Problem:

"""

LANGUAGES = {
    "en": "English",
    "fr": "French",
    "de": "German",
    "el": "Greek",
    "hi": "Hindi",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "ms": "Malay",
    "ne": "Nepali",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sr": "Serbian",
    "es": "Spanish",
    "sv": "Swedish",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "vi": "Vietnamese",
    "ar": "Arabic",
    "bn": "Bengali",
    "zh": "Chinese",
    "fa": "Farsi",
}
