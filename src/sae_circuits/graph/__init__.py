"""The graph as pure data: nodes, edges, scores and circuits. Needs torch and nothing else."""

from sae_circuits.graph.architecture import Architecture
from sae_circuits.graph.attribution_graph import AttributionGraph
from sae_circuits.graph.blocks import Block, depth_of
from sae_circuits.graph.circuit import Circuit
from sae_circuits.graph.clusters import Clusters
from sae_circuits.graph.edges import Edges
from sae_circuits.graph.neurons import Neurons
from sae_circuits.graph.nodes import Edge, Node, Part, parse_edge, parse_node
from sae_circuits.graph.pair_scores import PairScores
from sae_circuits.graph.records import SourceRecord
from sae_circuits.graph.sampled_scores import SampledScores
from sae_circuits.graph.scores import NodeScores, Provenance, Scores
from sae_circuits.graph.span_circuit import SpanCircuit
from sae_circuits.graph.span_scores import Given, SpanPairScores, SpanScores, Where
from sae_circuits.graph.splits import FeatureSource, Split
from sae_circuits.graph.tensor_graph import TensorGraph
from sae_circuits.graph.virtual_weights import VirtualWeights

__all__ = [
    "Architecture",
    "AttributionGraph",
    "Block",
    "Circuit",
    "Clusters",
    "Edge",
    "Edges",
    "FeatureSource",
    "Given",
    "Neurons",
    "Node",
    "NodeScores",
    "PairScores",
    "Part",
    "Provenance",
    "SampledScores",
    "Scores",
    "SourceRecord",
    "SpanCircuit",
    "SpanPairScores",
    "SpanScores",
    "Split",
    "TensorGraph",
    "VirtualWeights",
    "Where",
    "depth_of",
    "parse_edge",
    "parse_node",
]
