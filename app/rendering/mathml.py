"""LaTeX to MathML, which browsers can display; an invalid formula is shown as source.

latex2mathml's own serialiser unescapes entities after it has escaped them, so a formula could
smuggle HTML in. Its element tree is serialised here instead, with known names only.
"""

import re
from collections.abc import Iterator
from html import escape, unescape
from itertools import zip_longest
from xml.etree.ElementTree import Element

from latex2mathml import exceptions
from latex2mathml.converter import convert_to_element

LONGEST = 4_000
"""Characters of a formula; longer ones are shown as source."""

_ELEMENTS = frozenset(
    re.findall(
        r"\w+",
        "math mrow mi mn mo mtext mspace mfrac msqrt mroot mstyle mpadded mphantom menclose msub "
        "msup msubsup munder mover munderover mmultiscripts mprescripts none mtable mtr mtd",
    )
)
_ATTRIBUTES = frozenset(
    re.findall(
        r"\w+",
        "accent accentunder align columnalign columnlines columnspacing depth display displaystyle "
        "fence form height largeop linethickness lspace mathbackground mathcolor mathsize "
        "mathvariant maxsize minsize movablelimits notation rowlines rowspacing rspace scriptlevel "
        "separator stretchy symmetric voffset width",
    )
)
# latex2mathml raises its own errors for most faults, and Python's for the rest.
_REFUSALS: tuple[type[Exception], ...] = (
    *(each for each in vars(exceptions).values() if isinstance(each, type)),
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
)


def mathml(latex: str, *, display: bool) -> str:
    """A <math> element, or the escaped source in a <code> element."""
    source = latex.strip()
    if len(source) > LONGEST:
        return _source(source)
    try:
        tree = convert_to_element(source, display="block" if display else "inline")
        return _written(tree)
    except _REFUSALS:
        return _source(source)


def _source(latex: str) -> str:
    return f'<code class="latex" dir="ltr">{escape(latex)}</code>'


def _written(element: Element) -> str:
    if element.tag == "mi" and unescape(element.text or "") == "~":
        return "<mo>∼</mo>"  # a relation, not a name
    if element.tag not in _ELEMENTS:
        raise ValueError(element.tag)
    attributes = "".join(
        f' {name}="{escape(unescape(value))}"'
        for name, value in element.attrib.items()
        if name in _ATTRIBUTES
    )
    inner = _text(element.text) + "".join(_children(element))
    return f"<{element.tag}{attributes}>{inner}</{element.tag}>"


def _children(element: Element) -> Iterator[str]:
    """The children, with the thin space after "ln" and the like that latex2mathml omits."""
    in_row = element.tag in ("math", "mrow", "mtd", "mstyle")
    children = list(element)
    for child, following in zip_longest(children, children[1:]):
        yield _written(child) + _text(child.tail)
        if in_row and _is_function(child) and following is not None and following.tag != "mo":
            yield '<mspace width="0.17em"></mspace>'


def _is_function(element: Element) -> bool:
    """A name of several letters, with or without an index or exponent."""
    if element.tag in ("msub", "msup", "msubsup") and len(element):
        return _is_function(element[0])
    name = element.text or ""
    return element.tag == "mi" and len(name) > 1 and name.isascii() and name.isalpha()


def _text(text: str | None) -> str:
    return escape(unescape(text or ""), quote=False)
