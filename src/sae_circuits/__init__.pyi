from . import errors, metrics, prune, tasks, viz
from ._version import __version__
from .ablation import NodeValues, ablate, intervene, learn_constants
from .attribution import (
    Method,
    active_features,
    attribute,
    attribute_nodes,
    attribute_pairs,
    attribute_spans,
    combine,
    methods,
)
from .benchmarking import benchmark
from .connectome import directions
from .connectome.clusters import cluster
from .connectome.connect import Connections, connections
from .connectome.heads import head_connections
from .connectome.pairs import PairConnections, pair_connections
from .connectome.steer import steer
from .connectome.steering import steering
from .connectome.virtual import virtual_weights
from .dashboards.connectome_view import ConnectomeView
from .dashboards.index import render_index
from .dashboards.layout import Layout
from .dashboards.prompt_view import PromptView
from .dashboards.views import FeatureView
from .distributed import workers
from .evaluation import against, agreement, curve, evaluate, minimality, overlap, stability
from .explorer.view import CircuitView
from .features.corpus import Corpus
from .features.demo_text import demo_corpus
from .features.dictionary import FeatureDictionary as FeatureDictionary
from .features.masks import Masks
from .graph import (
    Architecture,
    AttributionGraph,
    Circuit,
    Clusters,
    Edge,
    Node,
    NodeScores,
    PairScores,
    SampledScores,
    Scores,
    SpanCircuit,
    SpanPairScores,
    SpanScores,
    TensorGraph,
    VirtualWeights,
)
from .io import load, save
from .models import load_model
from .models.dictionaries import Dictionary, load_saes
from .planning.run import plan
from .planning.value import Plan
from .tasks import Task
from .tracing import trace

__all__ = [
    "Architecture",
    "AttributionGraph",
    "Circuit",
    "CircuitView",
    "Clusters",
    "Connections",
    "ConnectomeView",
    "Corpus",
    "Dictionary",
    "Edge",
    "FeatureDictionary",
    "FeatureView",
    "Layout",
    "Masks",
    "Method",
    "Node",
    "NodeScores",
    "NodeValues",
    "PairConnections",
    "PairScores",
    "Plan",
    "PromptView",
    "SampledScores",
    "Scores",
    "SpanCircuit",
    "SpanPairScores",
    "SpanScores",
    "Task",
    "TensorGraph",
    "VirtualWeights",
    "__version__",
    "ablate",
    "active_features",
    "against",
    "agreement",
    "attribute",
    "attribute_nodes",
    "attribute_pairs",
    "attribute_spans",
    "benchmark",
    "cluster",
    "combine",
    "connections",
    "curve",
    "demo_corpus",
    "directions",
    "errors",
    "evaluate",
    "head_connections",
    "intervene",
    "learn_constants",
    "load",
    "load_model",
    "load_saes",
    "methods",
    "metrics",
    "minimality",
    "overlap",
    "pair_connections",
    "plan",
    "prune",
    "render_index",
    "save",
    "stability",
    "steer",
    "steering",
    "tasks",
    "trace",
    "virtual_weights",
    "viz",
    "workers",
]
