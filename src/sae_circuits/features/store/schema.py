"""The tables of a store. Undefined numbers are NULL; none is NaN or infinite. See docs/store.md."""

from __future__ import annotations

from typing import NamedTuple

FORMAT, SCHEMA = "sae-circuits features", 3

OWN = "features"
"""Among what the neighbours are that are features of the store itself."""

TABLES = {
    "meta": """
        key VARCHAR PRIMARY KEY,
        value JSON NOT NULL""",
    "features": """
        feature INTEGER PRIMARY KEY,
        name VARCHAR,
        type VARCHAR NOT NULL,
        n_active BIGINT NOT NULL,
        density DOUBLE,
        mean DOUBLE, std DOUBLE, max DOUBLE, min DOUBLE,
        mean_active DOUBLE, std_active DOUBLE, max_active DOUBLE, min_active DOUBLE,
        importance DOUBLE,
        token_entropy DOUBLE,
        decoder_norm DOUBLE,
        logit_std DOUBLE, logit_skew DOUBLE, logit_kurtosis DOUBLE""",
    "distributions": """
        feature INTEGER NOT NULL,
        kind VARCHAR NOT NULL,
        edges DOUBLE[] NOT NULL,
        counts BIGINT[] NOT NULL""",
    "examples": """
        feature INTEGER NOT NULL,
        kind VARCHAR NOT NULL,
        "group" INTEGER NOT NULL,
        rank INTEGER NOT NULL,
        prompt BIGINT NOT NULL,
        position INTEGER NOT NULL,
        activation FLOAT NOT NULL,
        times BIGINT NOT NULL,
        first INTEGER NOT NULL,
        tokens INTEGER[] NOT NULL,
        activations FLOAT[] NOT NULL,
        text VARCHAR NOT NULL""",
    "tokens": """
        token INTEGER PRIMARY KEY,
        text VARCHAR NOT NULL,
        special BOOLEAN NOT NULL,
        n BIGINT NOT NULL""",
    "feature_tokens": """
        feature INTEGER NOT NULL,
        rank INTEGER NOT NULL,
        token INTEGER NOT NULL,
        n BIGINT NOT NULL,
        share DOUBLE NOT NULL,
        recall DOUBLE NOT NULL,
        lift DOUBLE NOT NULL,
        mean DOUBLE NOT NULL""",
    "positions": """
        feature INTEGER NOT NULL,
        position INTEGER NOT NULL,
        n BIGINT NOT NULL,
        share DOUBLE NOT NULL""",
    "logits": """
        feature INTEGER NOT NULL,
        kind VARCHAR NOT NULL,
        rank INTEGER NOT NULL,
        token INTEGER NOT NULL,
        effect DOUBLE NOT NULL""",
    "neurons": """
        feature INTEGER NOT NULL,
        rank INTEGER NOT NULL,
        neuron INTEGER NOT NULL,
        value DOUBLE NOT NULL,
        share DOUBLE NOT NULL""",
    "heads": """
        feature INTEGER NOT NULL,
        head INTEGER NOT NULL,
        share DOUBLE NOT NULL""",
    "correlations": """
        feature INTEGER NOT NULL,
        among VARCHAR NOT NULL,
        measure VARCHAR NOT NULL,
        rank INTEGER NOT NULL,
        other INTEGER NOT NULL,
        value DOUBLE NOT NULL""",
    "labels": """
        feature INTEGER NOT NULL,
        strategy VARCHAR NOT NULL,
        text VARCHAR NOT NULL,
        shown BOOLEAN NOT NULL,
        score DOUBLE,
        precision DOUBLE, precision_low DOUBLE, precision_high DOUBLE,
        recall DOUBLE, recall_low DOUBLE, recall_high DOUBLE,
        base_rate DOUBLE,
        provenance JSON NOT NULL,
        time VARCHAR NOT NULL""",
}


class Derived(NamedTuple):
    """A table that follows from another one, and is made anew when that changes."""

    columns: str
    of: str
    query: str


DERIVED = {
    "best": Derived(
        """
        feature INTEGER PRIMARY KEY,
        text VARCHAR NOT NULL""",
        "labels",
        """
        SELECT feature, first(text ORDER BY score DESC NULLS FIRST, strategy) AS text
        FROM labels WHERE shown GROUP BY feature ORDER BY feature""",
    ),
    "contexts": Derived(
        """
        text VARCHAR PRIMARY KEY,
        features INTEGER[] NOT NULL,
        activations FLOAT[] NOT NULL""",
        "examples",
        """
        SELECT text, list(feature ORDER BY feature) AS features,
               list(activation ORDER BY feature) AS activations
        FROM (SELECT text, feature, max(activation) AS activation FROM examples GROUP BY ALL)
        GROUP BY text ORDER BY text""",
    ),
}

CREATE = ";".join(
    f'CREATE TABLE "{name}" ({columns})'
    for name, columns in [*TABLES.items(), *((name, own.columns) for name, own in DERIVED.items())]
)
