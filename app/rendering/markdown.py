"""Markdown to HTML that is safe to show: the model writes it, and nobody has read it before."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from mdit_py_plugins.amsmath import amsmath_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.texmath import texmath_plugin

from magistral_mlx.app.rendering.code_blocks import code_block
from magistral_mlx.app.rendering.mathml import mathml

LINK_SCHEMES = frozenset({"http", "https", "mailto"})

_TEXT_TAGS = frozenset(
    {"p", "li", "blockquote", "td", "th", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol"}
)

_NUMBERED = re.compile(r"\\(begin|end)\{(align|equation|gather|flalign|multline|eqnarray)\}")


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a document (a paragraph, a list, a table), as one HTML element.

    start: the line of the text, from 0, on which it begins; None where the parser does not say.
    """

    html: str
    start: int | None


class MarkdownRenderer:
    """Renders texts; threads may share one."""

    def __init__(self) -> None:
        """Set the rules up once; `html(text)` is a whole text, and remembers the last ones."""
        self._markdown = _markdown()
        # A conversation is drawn anew more often than it changes.
        self.html = lru_cache(maxsize=1_000)(self._whole)

    def blocks(self, text: str) -> list[Block]:
        """The blocks of a text, from top to bottom.

        Raw HTML is shown as text. Links lead to the web or to mail only, in a tab of their own
        that knows nothing of this one. Images become links: nothing is loaded from anywhere.
        """
        env: EnvType = {}
        tokens = self._markdown.parse(text, env)
        for token in tokens:
            if token.tag in _TEXT_TAGS and token.nesting == 1:
                token.attrSet("dir", "auto")
        return [
            Block(self._html(group, env), group[0].map[0] if group[0].map else None)
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
    dollarmath_plugin(
        markdown,
        allow_labels=False,
        allow_space=False,
        allow_digits=False,
        allow_blank_lines=False,
        double_inline=True,
    )
    texmath_plugin(markdown, delimiters="brackets")
    amsmath_plugin(markdown)
    markdown.add_render_rule("math_inline", _inline_formula)
    markdown.add_render_rule("math_inline_double", _inline_formula)
    markdown.add_render_rule("math_block", _formula)
    markdown.add_render_rule("amsmath", _formula)
    return markdown


def _inline_formula(
    renderer: RendererHTML, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType
) -> str:
    return mathml(tokens[idx].content, display=False)


def _formula(
    renderer: RendererHTML, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType
) -> str:
    # The starred environments are the same without numbers, which nothing would refer to.
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
        return code_block(tokens[idx].content, language[0] if language else "")

    def code_block(
        self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType
    ) -> str:
        """Code that is set in."""
        return code_block(tokens[idx].content, "")

    def link_open(
        self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType
    ) -> str:
        """A link, in a tab of its own."""
        return f"<a {_link_attributes(str(tokens[idx].attrGet('href') or ''))}>"

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """An image, as a link to it."""
        token = tokens[idx]
        url = str(token.attrGet("src") or "")
        label = self.renderInlineAsText(token.children, options, env) or url
        return f'<a class="image" {_link_attributes(url)}>{escape(label)}</a>'


def _link_attributes(url: str) -> str:
    return f'href="{escape(url)}" target="_blank" rel="noopener noreferrer nofollow"'
