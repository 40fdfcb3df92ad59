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

from typing import Any

import lazy_loader

from sae_circuits.errors import no_attribute

# What stands in `__init__.pyi` is imported when it is first asked for, so that the command line
# shows its help without waiting for torch.
_found, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name in __all__:
        return _found(name)
    raise no_attribute(__name__, name, __all__)
