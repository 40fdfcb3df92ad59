"""The ways out of a value: to a file, to a drawing, to a page. They alone call upwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sae_circuits.graph.annotations import Groups, Texts

if TYPE_CHECKING:
    from sae_circuits.evaluation import Curve
    from sae_circuits.explorer.view import CircuitView
    from sae_circuits.features.dictionary import FeatureDictionary
    from sae_circuits.graph import AttributionGraph, Circuit, SpanCircuit

    AnyDrawn = Circuit | SpanCircuit | AttributionGraph


class Saved:
    """A value that one file holds."""

    def save(self, path: str | Path) -> Path:
        """Write to one file, from which `sae_circuits.load` reads it back.

        Args:
            path: ends in .safetensors for scores, values of nodes and weights, in .json for all
                else.

        Raises:
            OutputError: another suffix, or a place that cannot be written.
        """
        from sae_circuits.io import save

        return save(self, path)


class Drawn(Saved):
    """A circuit or an attribution graph, which is drawn, explored, and shown in notebooks."""

    def render(
        self,
        path: str | Path,
        *,
        title: str | None = None,
        max_edges: int | None = None,
        labels: Texts | None = None,
        notes: Texts | None = None,
        groups: Groups | None = None,
    ) -> Path:
        """Draw to a file; the suffix says how (svg, png, pdf, dot, html). See `viz.render`.

        It is one drawing as it is; `explore` makes a page on which it is filtered and grouped. Of a
        circuit by span, the edges that are in at any span are drawn.
        """
        from sae_circuits.viz import render

        return render(
            cast("AnyDrawn", self), path, title=title, max_edges=max_edges, labels=labels,
            notes=notes, groups=groups,
        )  # fmt: skip

    def explore(
        self,
        path: str | Path | None = None,
        *,
        other: AnyDrawn | None = None,
        curve: Curve | None = None,
        stores: Sequence[FeatureDictionary] = (),
        links: Mapping[str, str] | None = None,
        title: str | None = None,
        names: tuple[str, str] | None = None,
        max_edges: int | None = None,
        labels: Texts | None = None,
        notes: Texts | None = None,
        groups: Groups | None = None,
        arrangement: str | Path | None = None,
    ) -> CircuitView:
        """Make the page on which it is filtered, grouped and compared.

        Args:
            path: where to write the page, which needs no network: ends in .html.
            other: a second circuit of the same graph, to compare with; nothing else is compared.
            curve: of the same scores, by the same order; the page shows it beside the size.
            stores: of dictionaries in the graph, for labels, statistics and examples.
            links: by place, such as "m3" or "mlp_out.3", the address of a page of its features,
                such as "../m3/index.html".
            title: of the page.
            names: of the two circuits; by default those of their methods.
            max_edges: how many edges the page holds at most; by default the circuit's and the 2,000
                that would come next by their scores.
            labels: a short text in a node, by its name with or without position, or in a supernode.
            notes: a longer one beside it.
            groups: node names by the name of the supernode that they are in at first, such as
                `clusters.groups()`.
            arrangement: a file that the page's "Save" wrote.

        Returns:
            What the page shows, which shows itself in a notebook.

        Raises:
            OutputError: a path that does not end in .html, or that cannot be written.
            GraphError: circuits of two graphs; a group of what are no nodes' names.
            OptionError: what does not go together, such as a curve of other scores, or an address
                that can be none.
            NumericalError: a score that is not a finite number.
            StoreError: a store of a dictionary that is not in the graph.
            FileFormatError: a file that is no arrangement, or one of another circuit.

        >>> import sae_circuits as sc
        >>> model = sc.load_model("demo")
        >>> task = sc.tasks.ioi(model, n=8, seed=0)
        >>> scores = sc.attribute(model, sc.TensorGraph.from_model(model), task, method="eap")
        >>> sc.prune.top_n(scores, 47).explore()
        CircuitView('demo · ioi · eap': 47 edges of 479)
        """
        from sae_circuits.explorer.build import circuit_view
        from sae_circuits.explorer.view import require_page

        if path is not None:
            require_page(path)
        view = circuit_view(
            cast("AnyDrawn", self), other, curve=curve, stores=stores, links=links or {},
            title=title, names=names, max_edges=max_edges, labels=labels or {}, notes=notes or {},
            groups=groups or {}, arrangement=arrangement,
        )  # fmt: skip
        if path is not None:
            view.render(path)
        return view

    def _repr_html_(self) -> str:
        from sae_circuits.viz import circuit_html

        return circuit_html(cast("AnyDrawn", self))
