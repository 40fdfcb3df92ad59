"""Questions to a language model behind an OpenAI-compatible address: the only door to httpx."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlparse

from sae_circuits.errors import MissingProgram, OptionError

Answer = TypeVar("Answer")


class Unanswered(Exception):  # noqa: N818  strategies catch it; no user sees it
    """No usable answer, with the reason."""


class BudgetSpent(Unanswered):
    """As many calls or tokens as were allowed have been used."""


class BadForm(ValueError):  # noqa: N818  no user sees it either
    """An answer that does not say what was asked; worth another try."""


class _Again(Exception):  # noqa: N818
    """A failure that may pass.

    Args:
        reason: what failed.
        after: seconds to wait at least, where the server says so.
    """

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


@dataclass
class Budget:
    """What may be used, and what has been."""

    max_calls: int
    max_tokens: int
    calls: int = 0
    tokens: int = 0

    def check(self) -> None:
        """Refuse another call once the budget is used up.

        Raises:
            BudgetSpent: with what was used.
        """
        if self.calls >= self.max_calls or self.tokens >= self.max_tokens:
            raise BudgetSpent(
                f"the budget is spent: {self.calls} of {self.max_calls} calls and {self.tokens} of "
                f"{self.max_tokens} tokens; give more with max_calls and max_tokens"
            )


@dataclass(frozen=True, eq=False)
class Endpoint:
    """A language model at an address.

    Args:
        base_url: of an OpenAI-compatible server, such as "http://localhost:8000/v1".
        model: its name there.
        key: the environment variable with the key; a server that needs none may find none.
        budget: of all calls together, retries among them.
        timeout: seconds for one call.
        retries: after a call that failed: a timeout, a lost connection, status 408, 409, 429 or
            5xx, or an answer of another form than asked for.
        backoff: seconds before the first retry; each next one waits twice as long, to 60 at most,
            and at least as long as the server asks for.
        parameters: more of the request's fields, such as `{"temperature": 0}`.
    """

    base_url: str
    model: str
    key: str
    budget: Budget
    timeout: float = 60.0
    retries: int = 4
    backoff: float = 1.0
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = urlparse(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise OptionError(
                f"base_url={self.base_url!r}: give the address of an OpenAI-compatible server, "
                "such as 'http://localhost:8000/v1'"
            )
        if not self.model:
            raise OptionError("model='': give the name that the server knows its model by")
        if self.timeout <= 0 or self.retries < 0 or self.backoff < 0:
            raise OptionError(
                f"timeout={self.timeout}, retries={self.retries}, backoff={self.backoff}: a "
                "timeout above 0, and none of the others below"
            )
        _libraries()

    def ask(self, prompt: str, parse: Callable[[str], Answer]) -> Answer:
        """Ask until there is an answer that `parse` understands.

        Args:
            parse: of the answer's text; it raises `BadForm` for what it does not understand.

        Raises:
            Unanswered: none in as many tries as are allowed, or the budget is spent.
            OptionError: the server refuses the request, the key or the model.
        """
        _, tenacity = _libraries()
        grows = tenacity.wait_exponential(multiplier=self.backoff, max=60)

        def wait(state: Any) -> float:
            failed = state.outcome.exception()
            return max(grows(state), min(failed.after, 60.0))

        tries = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.retries + 1),
            retry=tenacity.retry_if_exception_type(_Again),
            wait=wait,
            reraise=True,
        )
        try:
            return tries(self._once, prompt, parse)
        except _Again as failed:
            raise Unanswered(f"{failed}, in {self.retries + 1} tries") from failed

    def _once(self, prompt: str, parse: Callable[[str], Answer]) -> Answer:
        self.budget.check()
        self.budget.calls += 1
        text = self._text(self._post(prompt), prompt)
        try:
            return parse(text)
        except BadForm as error:
            raise _Again(f"{self.model!r} answered in another form than asked: {error}") from error

    def _post(self, prompt: str) -> Any:
        httpx, _ = _libraries()
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            **self.parameters,
        }
        secret = os.environ.get(self.key)
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        url = self.base_url.rstrip("/") + "/chat/completions"
        try:
            return httpx.post(url, json=body, headers=headers, timeout=self.timeout)
        except httpx.TransportError as error:
            raise _Again(f"{url}: {type(error).__name__}: {error}") from error

    def _text(self, response: Any, prompt: str) -> str:
        """The answer's text; its tokens are counted."""
        status, where = response.status_code, f"{self.base_url} answered {response.status_code}"
        if status in (408, 409, 429) or status >= 500:
            raise _Again(where, _seconds(response.headers.get("retry-after")))
        if status >= 300:
            raise OptionError(
                f"{where}: {response.text[:200]!r}: look at base_url, model={self.model!r} and the "
                f"key in the environment variable {self.key!r}"
            )
        try:
            document = response.json()
            text = document["choices"][0]["message"]["content"]
            used = document.get("usage") or {}
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            self.budget.tokens += len(prompt) // 4
            raise _Again(f"{where} with something else than a chat completion") from error
        text = text if isinstance(text, str) else ""
        guess = (len(prompt) + len(text)) // 4  # where the server does not count
        total = used.get("total_tokens") if isinstance(used, dict) else None
        self.budget.tokens += total if isinstance(total, int) else guess
        return text


def _seconds(said: str | None) -> float:
    try:
        return max(float(said or 0), 0.0)
    except ValueError:  # it may be a date; then the growing waits have to do
        return 0.0


def _libraries() -> tuple[Any, Any]:
    try:
        import httpx
        import tenacity
    except ImportError as error:
        raise MissingProgram(
            f"labels by a language model need {error.name}: pip install 'sae-circuits[explain]'"
        ) from error
    return httpx, tenacity
