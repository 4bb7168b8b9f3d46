"""A block of code as HTML: coloured by its language, with a button that copies it."""

from html import escape

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

MOST_COLOURED = 20_000
"""Characters of code; colouring more takes long enough to be felt while it streams."""


def code_block(code: str, language: str) -> str:
    """One <figure>; the page's script names the button in the user's language."""
    return (
        '<figure class="code" dir="ltr"><figcaption>'
        f"<span>{escape(language[:40])}</span>"
        '<button type="button" class="copy-code"></button></figcaption>'
        f'<pre tabindex="0"><code>{_coloured(code, language)}</code></pre></figure>'
    )


def _coloured(code: str, language: str) -> str:
    lexer = _lexer(language) if len(code) <= MOST_COLOURED else None
    if lexer is None:
        return escape(code, quote=False)
    html: str = highlight(code, lexer, HtmlFormatter(nowrap=True, classprefix="hl-"))
    return html


def _lexer(language: str) -> Lexer | None:
    try:
        return get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return None
