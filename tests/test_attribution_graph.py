from __future__ import annotations

from dataclasses import replace

import pytest

from sae_circuits.errors import GraphError
from sae_circuits.graph import parse_node
from small_graphs import EDGES, traced


def test_edges_and_weights_go_by_name() -> None:
    graph = traced()
    assert [edge.name for edge in graph.edges] == list(EDGES)
    assert {name: graph[name] for name in EDGES} == EDGES
    with pytest.raises(GraphError, match=r"'input@1->m0\.f3@0' is not an edge"):
        graph["input@1->m0.f3@0"]


def test_the_prompt_is_the_tokens_as_one_text() -> None:
    assert traced().prompt == "Mary and John"
    assert replace(traced(), text=("Mary", "and", "John")).prompt == "Mary and John"
    apart = replace(traced(), text=("So", "said", "Mary", "and", "John"))
    assert repr(apart).startswith("AttributionGraph('said Mary and John': ")
    assert repr(traced()).startswith("AttributionGraph('Mary and John': ")


@pytest.mark.parametrize(
    ("name", "text"), [("input@1", " and"), ("logits.t5@2", " gave"), ("logits.t9@2", " said")]
)
def test_tokens_have_strings(name: str, text: str) -> None:
    assert traced().token_text(parse_node(name)) == text


def test_a_logits_string_may_be_known_from_the_prompt_or_not_at_all() -> None:
    graph = replace(traced(), predicted=(), tokens=(3, 9, 4))
    assert graph.token_text(parse_node("logits.t9@2")) == " and"
    assert graph.token_text(parse_node("logits.t5@2")) == ""


@pytest.mark.parametrize("name", ["m0.f3@0", "input@7", "logits.t4@2"])
def test_other_nodes_are_no_tokens(name: str) -> None:
    with pytest.raises(GraphError, match=f"'{name}' is not an input or a logit of"):
        traced().token_text(parse_node(name))
