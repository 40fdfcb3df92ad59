"""Every error the library raises on purpose, as one tree.

CircuitsError
├── ArgumentError        an argument of another kind than is asked for
├── UnknownName          a task, method, metric, model, node or edge that does not exist
├── GraphError           nodes, edges and circuits that do not fit their graph
├── TaskError            prompts and answers
│   ├── AlignmentError   a clean and a corrupt prompt of different token length
│   └── ContextError     a prompt longer than the model's context
├── ModelError           models
│   ├── UnsupportedModel a model that the graph cannot describe
│   └── DictionaryError  an SAE or transcoder that cannot be read, or fits no model here
├── OptionError          an option that a method does not have, or a value it does not take
├── MetricError          a metric that is constant, of the wrong shape or not differentiable
├── NoSolution           constraints that no circuit satisfies, or no solution in the time given
├── NumericalError       NaN or infinity, with the node and the example
├── FileFormatError      a file that is damaged, truncated, of another kind or newer
├── OutputError          a place that cannot be written
├── ShardError           parts of a long job that failed, with what is in them
├── WorkerError          workers that cannot be had, or that went away
└── MissingProgram       an external program that is not installed

CircuitsWarning
├── LabelsLeftOut        features that a language model gave no label, with the reason
├── PairsLeftOut         pairs of a file or a list that do not fit a tokenizer and were left out
└── WeakTask             a task that the model hardly does, or whose corruption hardly matters
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

NONE: Mapping[str, str] = MappingProxyType({})  # no name of elsewhere


class CircuitsError(Exception):
    """The root: catch this to catch all that the library raises on purpose."""


class ArgumentError(CircuitsError, TypeError):
    """An argument of another kind than is asked for, such as two in each other's place."""


class UnknownName(CircuitsError, KeyError):
    """A name that does not exist; the message lists the nearest ones."""

    def __str__(self) -> str:  # KeyError would show the message's repr
        return str(self.args[0]) if self.args else ""


class GraphError(CircuitsError, ValueError):
    """Nodes, edges or circuits that do not fit their graph."""


class TaskError(CircuitsError, ValueError):
    """Prompts or answers that cannot make a task."""


class AlignmentError(TaskError):
    """A clean and a corrupt prompt of different token length."""


class ContextError(TaskError):
    """A prompt longer than the model's context."""


class ModelError(CircuitsError, ValueError):
    """A model that cannot be loaded or used."""


class UnsupportedModel(ModelError):
    """A model that the graph cannot describe, with the reason."""


class DictionaryError(ModelError):
    """An SAE or transcoder that cannot be read, has no closed form, or does not fit the model."""


class CorpusError(CircuitsError, ValueError):
    """Tokens or texts that make no corpus, or do not fit what is asked of them."""


class OptionError(CircuitsError, ValueError):
    """An option that a method does not have, or a value that it does not take."""


class MetricError(CircuitsError, ValueError):
    """A metric that is constant, of the wrong shape or not differentiable."""


class NoSolution(CircuitsError, ValueError):
    """Constraints that no circuit satisfies, or a solver that ran out of time."""


class NumericalError(CircuitsError, ArithmeticError):
    """NaN or infinity in activations, gradients or a metric."""


class FileFormatError(CircuitsError, ValueError):
    """A file that is damaged, truncated, of another kind or of a newer version."""


class StoreError(FileFormatError):
    """A store of features that is damaged, of another version, or of other data."""


class OutputError(CircuitsError, OSError):
    """A place that exists already or cannot be written."""


class ShardError(CircuitsError, RuntimeError):
    """Parts of a long job that failed, where the others went on; `bad` has each with its error."""

    bad: tuple[Any, ...] = ()


class WorkerError(CircuitsError, RuntimeError):
    """A cluster that does not answer, or workers that went away."""


class MissingProgram(CircuitsError, RuntimeError):
    """A program that is not installed; the message names the package."""


class CircuitsWarning(UserWarning):
    """The root of what the library warns of."""


class LabelsLeftOut(CircuitsWarning):
    """Features that a language model gave no label, or no test of it; the message says why."""


class PairsLeftOut(CircuitsWarning):
    """Pairs that do not fit a tokenizer and were left out, as was asked; the message lists them."""


class WeakTask(CircuitsWarning):
    """A task that the model hardly does, or whose corruption hardly changes the metric."""


def unknown(
    kind: str, value: object, known: Iterable[str], elsewhere: Mapping[str, str] = NONE
) -> UnknownName:
    """Make the error for a name that is not among the known ones.

    Args:
        kind: what it would name.
        value: what was given.
        known: the names that there are.
        elsewhere: what other libraries call some of them.

    >>> str(unknown("method", "eap-gi", ["eap", "eap-ig", "exact"]))
    "unknown method 'eap-gi': did you mean 'eap-ig' or 'eap'? (known: eap, eap-ig, exact)"
    >>> str(unknown("method", "hisp", ["eap", "exact"]))
    "unknown method 'hisp' (known: eap, exact)"
    """
    names = sorted(known)
    near = nearest(value, names, elsewhere)
    guess = f": did you mean {' or '.join(map(repr, near))}?" if near else ""
    listed = ", ".join(names[:20]) + (f", ... {len(names) - 20} more" if len(names) > 20 else "")
    return UnknownName(f"unknown {kind} {value!r}{guess} (known: {listed})")


def nearest(
    value: object, known: Iterable[str], elsewhere: Mapping[str, str] = NONE
) -> tuple[str, ...]:
    """The names that may have been meant, up to three, whatever their case, `-` and `_`.

    >>> nearest("EAP", ["eap", "eap-ig"]), nearest("logit-dif", ["kl", "logit_diff"])
    (('eap',), ('logit_diff',))
    >>> nearest("EAP-IG-inputs", ["eap", "eap-ig"], {"eap-ig-inputs": "eap-ig"})
    ('eap-ig',)
    """
    alike = dict[str, list[str]]()
    for name in known:
        alike.setdefault(_plain(name), []).append(name)
    said = _plain(value)
    if said in elsewhere:
        return (elsewhere[said],)
    found = [said] if said in alike else difflib.get_close_matches(said, alike, n=3, cutoff=0.6)
    return tuple(name for each in found for name in alike[each])[:3]


def _plain(name: object) -> str:
    return str(name).casefold().replace("_", "-").replace(" ", "-")


def no_attribute(module: str, name: str, known: Iterable[str]) -> AttributeError:
    """Make the error for a name that a module does not have.

    >>> str(no_attribute("sae_circuits.prune", "topn", ["best_first", "top_n"]))
    "module 'sae_circuits.prune' has no attribute 'topn'. Did you mean 'top_n'?"
    """
    near = nearest(name, known)
    guess = f". Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return AttributeError(f"module {module!r} has no attribute {name!r}{guess}")


def require(what: str, value: object, kind: type | tuple[type, ...], remedy: str) -> None:
    """Refuse an argument of another kind.

    Args:
        what: the argument's name.
        kind: what it must be.
        remedy: what to give instead.

    Raises:
        ArgumentError: with what was given.

    >>> require("task", None, str, "a name")
    Traceback (most recent call last):
    sae_circuits.errors.ArgumentError: task is None: give a name
    """
    if not isinstance(value, kind):
        raise ArgumentError(f"{what} is {in_words(value)}: give {remedy}")


def in_words(value: object) -> str:
    """A wrong value for a message: a short one itself, of any other its class.

    >>> in_words("demo"), in_words(None), in_words([1, 2])
    ("'demo'", 'None', 'a list')
    """
    if value is None or isinstance(value, (str, int, float)):
        return repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:56]}..."
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"
