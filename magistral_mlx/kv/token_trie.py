"""A radix trie over token ids: finds the stored sequence with the longest common prefix."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass(slots=True)
class _Node(Generic[Value]):
    """The tokens on the edge from the parent, and the value at its end."""

    tokens: tuple[int, ...]
    value: Value | None = None
    children: "dict[int, _Node[Value]]" = field(default_factory=dict)


class TokenTrie(Generic[Value]):
    """Values by token sequences; one value for each sequence."""

    def __init__(self) -> None:
        self._root: _Node[Value] = _Node(())

    def __iter__(self) -> Iterator[Value]:
        nodes = [self._root]
        while nodes:
            node = nodes.pop()
            nodes.extend(node.children.values())
            if node.value is not None:
                yield node.value

    def insert(self, tokens: Sequence[int], value: Value) -> None:
        """Store a value; it replaces an older one of the same tokens."""
        node, start = self._root, 0
        while start < len(tokens):
            child = node.children.get(tokens[start])
            if child is None:
                node.children[tokens[start]] = _Node(tuple(tokens[start:]), value)
                return
            shared = _shared(child.tokens, tokens, start)
            if shared < len(child.tokens):
                child = _split(node, child, shared)
            node, start = child, start + shared
        node.value = value

    def closest(self, tokens: Sequence[int]) -> tuple[Value, int] | None:
        """A value whose tokens share the longest prefix with these, and the prefix's length."""
        node, length = self._root, 0
        while length < len(tokens):
            child = node.children.get(tokens[length])
            if child is None:
                break
            shared = _shared(child.tokens, tokens, length)
            node, length = child, length + shared
            if shared < len(child.tokens):
                break
        return (_any_value(node), length) if length else None

    def remove(self, tokens: Sequence[int]) -> None:
        """Remove the value of these tokens; it must be there."""
        path, start = [self._root], 0
        while start < len(tokens):
            child = path[-1].children[tokens[start]]
            path.append(child)
            start += len(child.tokens)
        assert path[-1].value is not None
        path[-1].value = None
        _prune(path)


def _shared(edge: tuple[int, ...], tokens: Sequence[int], start: int) -> int:
    """How many tokens of an edge equal those of the sequence from `start` on."""
    stop = min(len(edge), len(tokens) - start)
    if tuple(tokens[start : start + stop]) == edge[:stop]:
        return stop
    return next(i for i in range(stop) if edge[i] != tokens[start + i])


def _split(parent: _Node[Value], child: _Node[Value], at: int) -> _Node[Value]:
    upper: _Node[Value] = _Node(child.tokens[:at], None, {child.tokens[at]: child})
    parent.children[child.tokens[0]] = upper
    child.tokens = child.tokens[at:]
    return upper


def _any_value(node: _Node[Value]) -> Value:
    """A value below a node: every leaf has one."""
    while node.value is None:
        node = next(iter(node.children.values()))
    return node.value


def _prune(path: list[_Node[Value]]) -> None:
    """Remove nodes without values from the end of the path upwards."""
    for parent, node in zip(reversed(path[:-1]), reversed(path[1:]), strict=True):
        if node.value is None and not node.children:
            del parent.children[node.tokens[0]]
        elif node.value is None and len(node.children) == 1:
            [only] = node.children.values()
            only.tokens = node.tokens + only.tokens
            parent.children[only.tokens[0]] = only
