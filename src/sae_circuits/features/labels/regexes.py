"""Patterns of text that features fire on, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from sae_circuits.errors import OptionError

Extent = Literal["whole", "any", "first"]


@dataclass(frozen=True)
class Pattern:
    """A regular expression over a prompt's text, and which tokens a match stands for.

    Args:
        name: what people read.
        regex: as of Python's `re`.
        extent: the tokens that lie "whole" in matches, white space around them aside; "any" token
            that a match touches; or the one in which a match has its "first" character.
        condition: of a match's text, where a regex cannot say it.
    """

    name: str
    regex: str
    extent: Extent = "whole"
    condition: Callable[[str], bool] | None = None

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """The regex, compiled.

        Raises:
            OptionError: it does not compile.
        """
        try:
            return re.compile(self.regex)
        except re.error as error:
            raise OptionError(
                f"the pattern {self.name!r} does not compile: {self.regex!r}: {error}"
            ) from error

    def keeps(self, text: str) -> bool:
        """Whether a match's text fulfils the condition."""
        return self.condition is None or self.condition(text)


def _shouted(word: str) -> bool:
    return len(word) > 1 and word.isupper()


def _capitalised(word: str) -> bool:
    return word[0].isupper() and not _shouted(word)


def _words(words: str, *, any_case: bool = True) -> str:
    return ("(?i)" if any_case else "") + rf"\b(?:{'|'.join(words.split())})\b"


_WORD = r"[^\W\d_]+"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)[a-z]*\.?"
_PRONOUNS = """I me my mine myself you your yours yourself he him his himself she her hers herself
    it its itself we us our ours ourselves they them their theirs themselves yourselves"""
_PREPOSITIONS = """about above across after against along among around at before behind below
    beneath beside between beyond by despite down during except for from in inside into like near of
    off on onto out outside over past since through throughout to toward towards under until up upon
    with within without"""
_KEYWORDS = """def class return import from lambda yield None True False elif except try finally
    assert async await function var let const new null true false undefined void int public private
    static final struct enum typedef namespace template extends implements switch case default break
    continue while for if else with as pass raise throw catch fn impl mut pub use func package"""

# In the order in which ties are settled: the narrow ones first.
PATTERNS: dict[str, Pattern] = {
    pattern.name: pattern
    for pattern in (
        Pattern("e-mail", r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", "any"),
        Pattern("URL", r"(?i)(?:https?://|www\.)[^\s<>\"')\]]+", "any"),
        Pattern(
            "date",
            rf"\b\d{{4}}-\d{{1,2}}-\d{{1,2}}\b|\b\d{{1,2}}([/.])\d{{1,2}}\1\d{{2,4}}\b"
            rf"|\b{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?\b(?:,? \d{{4}}\b)?"
            rf"|\b\d{{1,2}}(?:st|nd|rd|th)? {_MONTH}(?: \d{{4}}\b)?",
            "any",
        ),
        Pattern("article", _words("the a an")),
        Pattern("pronoun", _words(_PRONOUNS)),
        Pattern("preposition", _words(_PREPOSITIONS)),
        Pattern("code keyword", _words(_KEYWORDS, any_case=False)),
        Pattern("number", r"\d+(?:[.,]\d+)*"),
        Pattern("white space", r"\s+"),
        Pattern("punctuation", r"(?:[^\w\s]|_)+"),
        Pattern("upper case", _WORD, condition=_shouted),
        Pattern("capitalised", _WORD, "first", _capitalised),
    )
}


def patterns_of(custom: Mapping[str, str]) -> dict[str, Pattern]:
    """The patterns above and those of a user, `{name: regex}`, which stand for all they touch.

    Raises:
        OptionError: a name that is taken, or a regex that does not compile.
    """
    own = {name: Pattern(name, regex, "any") for name, regex in custom.items()}
    for name, pattern in own.items():
        if name in PATTERNS:
            raise OptionError(f"there is a pattern {name!r} already: take another name")
        _ = pattern.compiled
    return {**own, **PATTERNS}
