"""The trie against plain search in a list."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from magistral_mlx.kv.token_trie import TokenTrie

tokens = st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple)


def shared(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


class TrieAgainstDict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.trie: TokenTrie[tuple[int, ...]] = TokenTrie()
        self.stored: set[tuple[int, ...]] = set()

    @rule(key=tokens)
    def insert(self, key: tuple[int, ...]) -> None:
        self.trie.insert(key, key)
        self.stored.add(key)

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.stored:
            key = data.draw(st.sampled_from(sorted(self.stored)))
            self.trie.remove(key)
            self.stored.remove(key)

    @rule(key=tokens)
    def find(self, key: tuple[int, ...]) -> None:
        best = max((shared(key, other) for other in self.stored), default=0)
        found = self.trie.closest(key)
        if best == 0:
            assert found is None
        else:
            assert found is not None
            assert found[1] == best
            assert found[0] in self.stored
            assert shared(key, found[0]) == best

    @invariant()
    def holds_what_was_stored(self) -> None:
        assert sorted(self.trie) == sorted(self.stored)


TestTrieAgainstDict = TrieAgainstDict.TestCase


@given(st.lists(tokens, min_size=1, max_size=8))
def test_a_stored_sequence_is_found_whole(keys: list[tuple[int, ...]]) -> None:
    trie: TokenTrie[int] = TokenTrie()
    for number, key in enumerate(keys):
        trie.insert(key, number)
    for key in keys:
        found = trie.closest((*key, 9))
        assert found is not None
        assert found[1] == len(key)
