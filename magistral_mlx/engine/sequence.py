"""One request on its way: its tokens, its KV and its limits."""

from collections.abc import Callable

import mlx.core as mx

from magistral_mlx.engine.output import OutputEnd, OutputItem
from magistral_mlx.engine.repetition import is_looping
from magistral_mlx.engine.request import Limits, Request
from magistral_mlx.engine.status import Stopwatch
from magistral_mlx.events import (
    Failed,
    Finished,
    FinishReason,
    PrefillProgress,
    TokenLogprob,
    Usage,
)
from magistral_mlx.kv.cache import KVCache, KVPrecision
from magistral_mlx.sampling.log_probabilities import RowLogprobs, read_logprobs
from magistral_mlx.sampling.logit_rules import logit_rules
from magistral_mlx.sampling.sampler import fresh_seed
from magistral_mlx.text.guidance import GrammarMatcher, GuidanceError, open_matcher
from magistral_mlx.text.output_text import OutputToken
from magistral_mlx.text.reasoning import OutputSplitter
from magistral_mlx.text.tokenizer import Tokenizer


class Sequence:
    """The state of one request. Only the engine's thread touches it after it is submitted.

    `ids` are the known tokens, prompt and output. Because steps are pipelined, the cache may be
    one token ahead of them: the token that was drawn last and is not read yet.
    """

    def __init__(
        self,
        request: Request,
        limits: Limits,
        tokenizer: Tokenizer,
        emit: Callable[[OutputItem], None],
        *,
        precision: KVPrecision,
    ) -> None:
        """emit: gets tokens and events, on the engine's thread. precision: of the KV.

        Raises RequestError for an unusable grammar or ids outside the vocabulary.
        """
        self.request = request
        self.precision = precision
        self.ids = list(request.prompt)
        self.cache: KVCache | None = None
        seed = request.options.sampling.seed
        self.seed = fresh_seed() if seed is None else seed
        self.finished = False
        self.kv_at_end = (0, 0)
        """Tokens and bytes of the cache when the request finished."""
        self._limits = limits
        self._tokenizer = tokenizer
        self._splitter = OutputSplitter(
            tokenizer, state=request.state, tool_calls=request.tool_calls
        )
        self._rules = logit_rules(
            request.options.sampling,
            request.prompt,
            tokenizer,
            # An ignored end token need not be forbidden.
            min_tokens=0 if request.options.ignore_eos else request.options.min_tokens,
            guided=request.options.guidance is not None,
        )
        guidance = request.options.guidance
        self._grammar = (
            None if guidance is None else open_matcher(guidance, tokenizer, request.state)
        )
        self._cached_tokens: int | None = None
        self._emit = emit
        self._reasoning_start = len(self.ids)
        self._closed_by_force = False
        self._answer_now = False
        self._prompt_is_prefilled = False
        self._stopwatch = Stopwatch()

    @property
    def has_begun(self) -> bool:
        """Whether it has ever been admitted; it may be paused now."""
        return self._cached_tokens is not None

    @property
    def expired(self) -> bool:
        """Whether its timeout has passed."""
        timeout = self.request.options.timeout
        return timeout is not None and self._stopwatch.elapsed >= timeout

    @property
    def output_length(self) -> int:
        """Tokens after the prompt, including forced tokens and the end token."""
        return len(self.ids) - len(self.request.prompt)

    @property
    def unrun_tokens(self) -> int:
        """Known tokens that have not run; 0 if the next one is still in flight."""
        return len(self.ids) - (self.cache.length if self.cache else 0)

    @property
    def room(self) -> int:
        """Number of tokens that may still be added."""
        return self._limits.end - len(self.ids)

    def start(self, cache: KVCache) -> None:
        """Start, or resume after a pause, with the KV that is known already."""
        self.cache = cache
        if self._cached_tokens is not None:
            return
        self._cached_tokens = cache.length
        self._stopwatch.begin_prefill()
        if self.room > 0 and self._splitter.state == "reasoning" and self._reasoning_is_spent():
            self._close_reasoning()

    def answer_now(self) -> None:
        """Close the reasoning at its next token, or as soon as it begins."""
        self._answer_now = True

    def prefilled(self, tokens: int) -> None:
        """`tokens` tokens have their KV now."""
        prompt = len(self.request.prompt)
        if not self._prompt_is_prefilled:
            self._prompt_is_prefilled = tokens >= prompt
            done, cached = min(tokens, prompt), self._cached_tokens or 0
            self._emit(PrefillProgress(done, prompt, cached))
        if self.room <= 0 and tokens == len(self.ids):
            self.finish("length")

    @property
    def has_rules(self) -> bool:
        """Whether rules change its logits, which requires that all earlier tokens are known."""
        return self._rules is not None

    def ruled(self, logits: mx.array) -> mx.array:
        """The logits (1, vocab) of the next token, after its rules."""
        assert self._rules is not None
        allowed = None
        if self._grammar is not None:
            try:
                allowed = self._grammar.allowed(logits.shape[-1])
            except GuidanceError as error:
                self.fail(f"The grammar cannot be followed any further: {error}.")
                return logits
        return self._rules.apply(logits, self.ids[len(self.request.prompt) :], allowed)

    def logprob_of(self, row: RowLogprobs, token: int, *, redrawn: bool) -> TokenLogprob:
        """The log-probabilities of a token drawn for it."""
        count = self.request.options.logprobs or 0
        return read_logprobs(
            row, token, alternatives=count, redrawn=redrawn, tokenizer=self._tokenizer
        )

    def accept(self, token: int, logprob: TokenLogprob | None = None) -> None:
        """Add a drawn token; then end, close the reasoning or continue."""
        self._stopwatch.count_token()
        self._add(token, logprob)
        if self.finished:
            return
        if self._splitter.state == "reasoning":
            if self._reasoning_is_spent():
                self._close_reasoning()
        elif self._is_looping():
            self.finish("repetition")
        if self._grammar is not None:
            self._follow(self._grammar)

    def finish(self, reason: FinishReason) -> None:
        """End the request; later calls do nothing."""
        if not self.finished:
            self.finished = True
            if self.cache is not None:
                self.kv_at_end = (self.cache.length, self.cache.nbytes)
            pieces = self._splitter.finish()
            self._emit(OutputEnd(pieces, self.end(reason, self.output_length)))

    def fail(self, message: str) -> None:
        """End the request with an error; later calls do nothing."""
        if not self.finished:
            self.finished = True
            self.cache = None  # a failed step may have damaged it
            self._emit(Failed(message))

    def stop(self, tokens: int) -> None:
        """End at a stop string, after `tokens` tokens of output; drop forced tokens after it."""
        if not self.finished:
            self.finished = True
            del self.ids[len(self.request.prompt) + tokens :]

    def end(self, reason: FinishReason, tokens: int) -> Finished:
        """The last event of an output of `tokens` tokens. Any thread may call it."""
        prompt, cached = len(self.request.prompt), self._cached_tokens or 0
        usage = Usage(
            prompt_tokens=prompt,
            completion_tokens=tokens,
            reasoning_tokens=self._splitter.reasoning_tokens,
            cached_tokens=cached,
        )
        timings = self._stopwatch.timings(prefilled_tokens=prompt - cached)
        return Finished(reason, usage, timings, self._closed_by_force)

    def release(self) -> tuple[list[int], KVCache] | None:
        """Give up the KV: the tokens and their cache, or None if there is none."""
        if self.finished:
            self._rules = self._grammar = None
        cache, self.cache = self.cache, None
        if cache is None or cache.length == 0:
            return None
        known = min(cache.length, len(self.ids))
        cache.trim(known)
        return self.ids[:known], cache

    def _reasoning_is_spent(self) -> bool:
        budget = self.request.options.thinking_budget
        closing = len(self._tokenizer.think_close_ids)
        return (
            self._answer_now
            or (budget is not None and len(self.ids) - self._reasoning_start >= budget)
            or len(self.ids) + closing >= self._limits.reasoning_end
            or self._is_looping()
        )

    def _is_looping(self) -> bool:
        return self.request.options.stop_repetition and is_looping(
            self.ids, start=len(self.request.prompt)
        )

    def _close_reasoning(self) -> None:
        self._closed_by_force = True
        if self._grammar is not None:
            self._grammar.forget_reasoning()
        for token in self._tokenizer.think_close_ids:
            if not self.finished:
                self._add(token)

    def _follow(self, matcher: GrammarMatcher) -> None:
        """Add the tokens that the grammar forces, and end where it ends."""
        # Log-probabilities need every token drawn.
        for token in matcher.forced() if self.request.options.logprobs is None else []:
            if not self.finished:
                self._add(token)
        if matcher.ended:
            self.finish("stop")

    def _add(self, token: int, logprob: TokenLogprob | None = None) -> None:
        """Add a token to the output, which may end with it."""
        self.ids.append(token)
        if token in self._tokenizer.end_ids and not self.request.options.ignore_eos:
            self.finish("stop")
            return
        if self._grammar is not None:
            try:
                self._grammar.take(token)
            except GuidanceError as error:
                self.fail(f"The grammar cannot be followed any further: {error}.")
                return
        before = self._splitter.state
        pieces = self._splitter.push(token)
        may_stop = self.output_length > self.request.options.min_tokens
        self._emit(OutputToken(pieces, before, self._splitter.state, logprob, may_stop))
        if before == "auto":
            self._reasoning_start = len(self.ids)
        if self.room <= 0:
            self.finish("length")
