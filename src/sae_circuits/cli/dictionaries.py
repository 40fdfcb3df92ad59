"""Which dictionaries a command takes, by its options `--sae`, `--sae-id` and `--sae-kind`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sae_circuits.cli import names
from sae_circuits.errors import OptionError, unknown

if TYPE_CHECKING:
    from sae_circuits.graph import Circuit
    from sae_circuits.models.dictionaries import Dictionary

Sae = Annotated[
    str | None,
    typer.Option(
        help="Split heads, MLPs or the stream into features: 'demo' (bundled), a folder that "
        "sae-lens wrote or a folder of such, or a release that sae-lens knows."
    ),
]
SaeId = Annotated[
    list[str] | None,
    typer.Option(
        help="Which of them, such as z.0; give it several times. By default all.",
        autocompletion=names.of(names.SAES),
    ),
]
SaeKind = Annotated[
    str | None,
    typer.Option(
        help="Only these: sae, transcoder or skip-transcoder.", autocompletion=names.of(names.KINDS)
    ),
]
Neurons = Annotated[
    str | None,
    typer.Option(
        help="Write by neuron: mlp (hidden units), heads (output coordinates) or all.",
        autocompletion=names.of(names.NEURONS),
    ),
]
Features = Annotated[
    int,
    typer.Option(
        min=0, help="With --sae or --neurons: keep the N strongest features or neurons; 0 for all."
    ),
]
Through = Annotated[
    bool,
    typer.Option(
        "--through",
        help="With --sae: features of what heads or an MLP write read the stream too, each "
        "through its own copy of them.",
    ),
]


@dataclass(frozen=True)
class Dictionaries:
    """A source of dictionaries, and which of them to take."""

    source: str | None = None
    ids: tuple[str, ...] = ()
    kind: str | None = None

    @classmethod
    def of(cls, source: str | None, ids: list[str] | None, kind: str | None) -> Dictionaries:
        """What the options say."""
        return cls(source, tuple(ids or ()), kind)

    @classmethod
    def named(cls, source: str, ids: list[str] | None, kind: str | None) -> Dictionaries:
        """The same, where a source may be the name of a bundled dictionary, such as resid_post.1.

        A folder of that name comes first.
        """
        from sae_circuits.models.load import demo_path

        is_name = source != "demo" and (demo_path() / "saes" / source).is_dir()
        if is_name and not ids and not Path(source).exists():
            return cls("demo", (source,), kind)
        return cls.of(source, ids, kind)

    @classmethod
    def each(
        cls, sources: list[str], ids: list[str] | None, kind: str | None
    ) -> tuple[Dictionaries, ...]:
        """Those of several sources: of one the ids are all its own, else each has one.

        Raises:
            OptionError: several sources, and not as many ids.
        """
        if len(sources) == 1 or not ids:
            return tuple(cls.named(source, ids, kind) for source in sources)
        if len(ids) != len(sources):
            raise OptionError(
                f"--sae is given {len(sources)} times and --sae-id {len(ids)} times: give an id "
                "for each, in their order, or none"
            )
        return tuple(cls.of(one, [own], kind) for one, own in zip(sources, ids, strict=True))

    def check(self) -> None:
        """Refuse what can be seen to be wrong before a model is loaded.

        Raises:
            OptionError: a choice among no dictionaries, or a release without ids.
            UnknownName: of a kind.
        """
        from sae_circuits.models.dictionaries.load import KINDS

        if self.source is None:
            if self.ids or self.kind:
                option = "--sae-id" if self.ids else "--sae-kind"
                raise OptionError(f"{option} chooses among dictionaries: say which with --sae")
            return
        if self.kind is not None and self.kind not in KINDS:
            raise unknown("kind of dictionary", self.kind, KINDS)
        if self.source != "demo" and not Path(self.source).is_dir() and not self.ids:
            raise OptionError(
                f"--sae {self.source!r} is no folder; if it is a release of sae-lens, say which "
                "of its dictionaries with --sae-id, such as --sae-id blocks.8.hook_resid_pre"
            )

    def said(self) -> dict[str, Any]:
        """What the record says of them: nothing where there are none."""
        from sae_circuits.cli.folder import stamp

        if self.source is None:
            return {}
        content = {"sae": self.source, "sae_id": list(self.ids), "sae_kind": self.kind}
        folder = Path(self.source)
        return {**content, "sae_files": stamp(folder)} if folder.is_dir() else content

    def load(self, device: Any) -> list[Dictionary]:
        """Load them; none where there is no source."""
        from sae_circuits.models.dictionaries import load_saes

        if self.source is None:
            return []
        return load_saes(self.source, list(self.ids) or None, kind=self.kind, device=device)


def with_dictionaries(circuit: Circuit, saes: Dictionaries, device: Any) -> Circuit:
    """A circuit from a file with the dictionaries that it was found with.

    Without ids, those that it was not found with are passed over.

    Raises:
        GraphError: other dictionaries than the graph was made with.
    """
    if saes.source is None:
        return circuit
    loaded = saes.load(device)
    known = {record.fingerprint for record in circuit.graph.made_with}
    own = [] if saes.ids else [sae for sae in loaded if sae.fingerprint in known]
    return circuit.with_saes(own or loaded)


def require_given(circuit: Circuit, saes: Dictionaries) -> None:
    """Refuse a circuit with features and no dictionaries, or the other way round.

    Raises:
        OptionError: with what to give, as far as the file says.
    """
    has_features = circuit.graph.lacks_saes
    if has_features and saes.source is None:
        names = " ".join(f"--sae-id {record.name}" for record in circuit.graph.made_with)
        raise OptionError(
            "the circuit has features, and files hold no dictionaries: say where they are with "
            f"--sae{f', such as --sae demo {names}' if names else ''}"
        )
    if not has_features and saes.source is not None:
        raise OptionError("the circuit has no features: leave out --sae")
