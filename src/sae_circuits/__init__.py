"""Find, test and show circuits in language models.

>>> import sae_circuits as sc
>>> model = sc.load_model("demo")
>>> task = sc.tasks.ioi(model, n=16, seed=0)
>>> graph = sc.TensorGraph.from_model(model)
>>> scores = sc.attribute(model, graph, task, method="eap-ig", steps=5)
>>> circuit = sc.prune.top_n(scores, 200)
>>> report = sc.evaluate(model, circuit, task, metric=sc.metrics.logit_diff)
>>> len(circuit.edges), report.faithfulness > 0.8
(200, True)
"""

from sae_circuits import errors, metrics, prune, tasks, viz
from sae_circuits._version import __version__
from sae_circuits.ablate import ablate
from sae_circuits.attribute import Method, attribute, methods
from sae_circuits.evaluate import curve, evaluate
from sae_circuits.graph import Architecture, Circuit, Edge, Node, Scores, TensorGraph
from sae_circuits.io import load, save
from sae_circuits.models import load_model
from sae_circuits.tasks import Task

__all__ = [
    "Architecture",
    "Circuit",
    "Edge",
    "Method",
    "Node",
    "Scores",
    "Task",
    "TensorGraph",
    "__version__",
    "ablate",
    "attribute",
    "curve",
    "errors",
    "evaluate",
    "load",
    "load_model",
    "methods",
    "metrics",
    "prune",
    "save",
    "tasks",
    "viz",
]
