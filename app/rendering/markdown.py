"""Markdown to HTML that is safe to show: the model wrote it, and nobody has checked it."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from mdit_py_plugins.amsmath import amsmath_block, amsmath_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from magistral_mlx.app.rendering.mathml import mathml

LINK_SCHEMES = frozenset({"http", "https", "mailto"})
MOST_COLOURED = 20_000
"""Characters of a code block; colouring a longer one would delay the stream."""

_TEXT_TAGS = frozenset(
    {"p", "li", "blockquote", "td", "th", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol"}
)
_NUMBERED = re.compile(r"\\(begin|end)\{(align|equation|gather|flalign|multline|eqnarray)\}")

_CLOSING = {"\\(": "\\)", "\\[": "\\]"}
_NUMBER_BESIDE = re.compile(r"[ \t]*(\([^)$]{1,20}\))?[ \t]*")


@dataclass(frozen=True, slots=True)
class HtmlBlock:
    """One block of a document (a paragraph, a list, a table), as one HTML element.

    start: the line of the text, from 0, on which it begins; None if the parser does not say.
    """

    html: str
    start: int | None


class MarkdownRenderer:
    """Renders texts; threads may share one."""

    def __init__(self) -> None:
        """Set up the rules. `html(text)` renders a whole text, and caches the last ones."""
        self._markdown = _markdown()
        # A conversation is drawn more often than it changes.
        self.html = lru_cache(maxsize=1_000)(self._whole)

    def blocks(self, text: str) -> list[HtmlBlock]:
        """The blocks of a text, from top to bottom.

        Raw HTML is shown as text. Links lead to the web or to mail only, and open a new tab that
        has no access to this one. Images become links: nothing is loaded from elsewhere.
        """
        env: EnvType = {}
        tokens = self._markdown.parse(text, env)
        for token in tokens:
            if token.tag in _TEXT_TAGS and token.nesting == 1:
                token.attrSet("dir", "auto")
        return [
            HtmlBlock(self._html(group, env), group[0].map[0] if group[0].map else None)
            for group in _top_level(tokens)
        ]

    def _whole(self, text: str) -> str:
        return "".join(block.html for block in self.blocks(text))

    def _html(self, tokens: Sequence[Token], env: EnvType) -> str:
        html: str = self._markdown.renderer.render(tokens, self._markdown.options, env).strip()
        if tokens[0].type == "table_open":
            return f'<div class="table" tabindex="0">{html}</div>'
        return html


def _markdown() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False, "breaks": True}, renderer_cls=_SafeRenderer)
    markdown.enable(["table", "strikethrough"])
    markdown.validateLink = _is_allowed_link  # type: ignore[method-assign]
    amsmath_plugin(markdown)
    markdown.block.ruler.at("amsmath", _environment, {"alt": ["paragraph", "blockquote", "list"]})
    markdown.block.ruler.before("fence", "bracket_block", _bracket_block)
    markdown.inline.ruler.before("escape", "bracket_formula", _bracket_formula)
    dollarmath_plugin(
        markdown,
        allow_labels=False,
        allow_space=False,
        allow_digits=False,
        allow_blank_lines=False,
        double_inline=True,
    )
    markdown.add_render_rule("math_inline", _inline_formula)
    markdown.add_render_rule("math_inline_double", _inline_formula)
    markdown.add_render_rule("math_block", _formula)
    markdown.add_render_rule("amsmath", _formula)
    return markdown


def _bracket_formula(state: StateInline, silent: bool) -> bool:
    r"""The rule for \( … \) and \[ … \] inside a paragraph."""
    start = state.pos
    closing = _CLOSING.get(state.src[start : start + 2])
    end = -1 if closing is None else _next(state, closing, start + 3)
    if end < 0:
        return False
    if not silent:
        state.push("math_inline", "math", 0).content = state.src[start + 2 : end]
    state.pos = end + 2
    return True


def _bracket_block(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    r"""The rule for \[ … \] on separate lines, with or without a number: \[ … \] (1)."""
    start = state.bMarks[start_line] + state.tShift[start_line]
    if not state.src.startswith("\\[", start):
        return False
    end = _next(state, "\\]", start + 3)
    if end < 0 or end > state.eMarks[end_line - 1]:
        return False
    line = bisect_left(state.eMarks, end, start_line, end_line)
    if not _NUMBER_BESIDE.fullmatch(state.src, end + 2, state.eMarks[line]):
        return False
    if not silent:
        token = state.push("math_block", "math", 0)
        token.block, token.map = True, [start_line, line + 1]
        token.content = state.src[start + 2 : end]
    state.line = line + 1
    return True


def _environment(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    r"""The plugin's rule for \begin{align} and the like, which searches to the end of the text."""
    start = state.bMarks[start_line] + state.tShift[start_line]
    if not state.src.startswith("\\begin{", start) or state.sCount[start_line] < state.blkIndent:
        return False
    name = state.src[start : state.src.find("}", start, state.eMarks[start_line])]
    unclosed = state.env.setdefault("unclosed", {})
    if start_line >= unclosed.get((name, end_line), end_line):
        return False
    found = amsmath_block(state, start_line, end_line, silent)
    if not found:
        unclosed[name, end_line] = start_line
    return found


def _next(state: StateInline | StateBlock, mark: str, position: int) -> int:
    """Where `mark` next stands in the text, or -1. Searches no part of the text twice."""
    found: tuple[str, int, int] = state.env.get(mark, ("", 0, -1))
    text, start, end = found
    if text is not state.src or position < start or 0 <= end < position:
        end = state.src.find(mark, position)
        state.env[mark] = (state.src, position, end)
    return end


def _inline_formula(
    renderer: RendererHTML, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType
) -> str:
    return mathml(tokens[idx].content, display=False)


def _formula(
    renderer: RendererHTML, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType
) -> str:
    # The starred environments have no numbers, which nothing here could refer to.
    latex = _NUMBERED.sub(r"\\\1{\2*}", tokens[idx].content)
    return f'<div class="formula" tabindex="0">{mathml(latex, display=True)}</div>'


def _is_allowed_link(url: str) -> bool:
    try:
        return urlsplit(url.strip()).scheme.lower() in LINK_SCHEMES
    except ValueError:
        return False


def _top_level(tokens: Sequence[Token]) -> list[list[Token]]:
    groups: list[list[Token]] = []
    depth = 0
    for token in tokens:
        if depth == 0:
            groups.append([])
        groups[-1].append(token)
        depth += token.nesting
    return groups


class _SafeRenderer(RendererHTML):
    """The rules that differ from markdown-it's."""

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """Code between fences."""
        language = tokens[idx].info.split(maxsplit=1)[:1]
        return _code(tokens[idx].content, language[0] if language else "")

    def code_block(
        self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType
    ) -> str:
        """Indented code."""
        return _code(tokens[idx].content, "")

    def link_open(
        self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType
    ) -> str:
        """A link that opens a new tab."""
        return f"<a {_link_attributes(str(tokens[idx].attrGet('href') or ''))}>"

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """An image, as a link to it."""
        token = tokens[idx]
        url = str(token.attrGet("src") or "")
        label = self.renderInlineAsText(token.children, options, env) or url
        return f'<a class="image" {_link_attributes(url)}>{escape(label)}</a>'


def _link_attributes(url: str) -> str:
    return f'href="{escape(url)}" target="_blank" rel="noopener noreferrer nofollow"'


def _code(code: str, language: str) -> str:
    """A <figure> with a button, which the page's script labels in the user's language."""
    return (
        '<figure class="code" dir="ltr"><figcaption>'
        f"<span>{escape(language[:40])}</span>"
        '<button type="button" class="copy-code"></button></figcaption>'
        f'<pre tabindex="0"><code>{_coloured(code, language)}</code></pre></figure>'
    )


def _coloured(code: str, language: str) -> str:
    if len(code) > MOST_COLOURED:
        return escape(code, quote=False)
    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return escape(code, quote=False)
    html: str = highlight(code, lexer, HtmlFormatter(nowrap=True, classprefix="hl-"))
    return html
