"""What `run.json` holds besides the spec."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from encode_once.cache import Feature, Spec
from encode_once.cache.format.spec_file import EncoderRecord, encoder_records
from encode_once.cache.names import JOINED, OWN, TEXT, FeatureName, captioner
from encode_once.cache.representation import short_repr
from encode_once.cache.views import without_view
from encode_once.classify.data.columns import is_of_column
from encode_once.classify.runs import own_files
from encode_once.classify.runs.origin import Origin, library_versions


@dataclass(frozen=True)
class FittedFeature:
    """A stored feature that a run was fitted on, and the encoder that made it."""

    key: str
    spec: Spec
    dim: int
    weights_file: str | None = None  # the encoder's local weights
    captions: str = OWN  # the kind of captions, if it encodes captions
    length: int = 1  # of its sequences, as the head takes them
    licence: str = ""  # of the encoder's published weights; "": not recorded
    trained_on: str = ""  # the data of these weights; "": not recorded
    libraries: dict[str, str] = field(default_factory=dict)  # package → version that encoded it

    __repr__ = short_repr

    @property
    def is_random(self) -> bool:
        """Whether it was made by an encoder with random weights, as a trial."""
        return str(self.spec.get("weights")).startswith("RANDOM")

    @classmethod
    def of(cls, feature: Feature, captions: str = OWN, length: int = 1) -> "FittedFeature":
        """The record of a feature as it is in the store."""
        provenance = feature.record.provenance
        rights = provenance.get("licence", ""), provenance.get("trained_on", "")
        return cls(
            feature.key,
            feature.spec,
            feature.width,
            feature.weights_file,
            captions,
            length,
            *rights,
            library_versions(provenance),
        )


@dataclass(frozen=True)
class RunRecord:
    """What `run.json` holds besides the spec: what the run was fitted on, by which program, and when."""

    features: dict[str, FittedFeature | None]  # by name; None: the run learned the feature itself
    classes: list[str]
    store: str
    table: str
    id_column: str
    label_separator: str
    created: str
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    captioners: dict[str, FittedFeature] = field(default_factory=dict)  # by encoder
    scales: dict[str, str] = field(default_factory=dict)  # by feature, see `standardise.standardisation`
    identity: str = ""  # `FitSpec.identity`
    code: str = ""  # `spec.code_key` of the program that fitted it
    # "id", "image", "captions", "labels" or "unknown" → the columns that the user named for it in extract
    named_columns: dict[str, list[str]] = field(default_factory=dict)
    corrections: str = ""  # the file by which labels were corrected in extract
    untrained: list[str] = field(default_factory=list)  # classes without a positive row to fit on
    own_code: dict[str, str] = field(default_factory=dict)  # file of the user's own → hash, see `own_files`
    # Runs of earlier programs have none of the following.
    defaults: dict[str, Any] = field(default_factory=dict)  # the head's options that were not set → value
    table_keys: dict[str, str] = field(default_factory=dict)  # by part, see `rows.part_keys`
    label_set_columns: list[str] = field(default_factory=list)  # if it learned a label set, `FitSpec.labels`
    origin: Origin = field(default_factory=Origin)
    asked_validation: str = ""  # that of the spec says what "auto" chose
    unknown_marks: list[str] = field(
        default_factory=list
    )  # of unknown labels, which the user named in extract
    uncertain: str = ""  # what the user said that -1 means; "": nothing

    __repr__ = short_repr

    @property
    def stored(self) -> dict[str, FittedFeature]:
        """The features that a store has to hold."""
        return {name: record for name, record in self.features.items() if record}

    @property
    def columns_to_read(self) -> dict[str, list[str]]:
        """The named columns by which other data is read: for labels, those of the label set it learned.

        A column of unknown labels is of the table's own labels, not of a label set.
        """
        own = {"labels": self.label_set_columns, "unknown": [""]}
        return self.named_columns | (own if self.label_set_columns else {})

    @property
    def names(self) -> dict[FeatureName, FittedFeature]:
        """The same by their parsed names."""
        return {FeatureName.parse(name, record.captions): record for name, record in self.stored.items()}

    @property
    def encoded(self) -> dict[FeatureName, FittedFeature]:
        """Those that encoders make; the others are imported."""
        return {name: record for name, record in self.names.items() if record.spec["modality"] != "row"}

    @property
    def inputs(self) -> set[str]:
        """What the features are made of: "images", "captions" and so on, as in `model_card.TASKS`."""
        inputs = set[str]()
        for name, feature in self.features.items():
            if feature is None:
                inputs.add("other columns of a table" if is_of_column(name) else "captions")
            elif feature.spec["modality"] != "caption":
                inputs.add("images" if feature.spec["modality"] == "image" else "imported vectors")
            else:
                generated = captioner(feature.captions)
                inputs |= {"images"} if generated else set()
                inputs |= {"captions"} if not generated or feature.captions.startswith(JOINED) else set()
        return inputs

    @property
    def requested(self) -> list[str]:
        """The values of `extract --encoder` that make all features."""
        captioners = (name.captioner for name in self.encoded if name.captioner)
        return list(
            dict.fromkeys([*(name.requested for name in self.encoded), *captioners, *self.captioners])
        )

    @property
    def encoder_features(self) -> list[str]:
        """The features in the store that encoders make for it, as `encode` takes them."""
        return [f"{encoder}/{output}" for encoder, outputs in self.specs.items() for output in outputs]

    @property
    def encoders(self) -> dict[str, EncoderRecord]:
        """Encoder, without its view, → what is recorded of it, for all encoders that the features need."""
        needed = dict.fromkeys(
            (encoder for name in self.encoded for encoder in name.encoders), EncoderRecord()
        )
        features = [
            *((without_view(name.encoder), feature) for name, feature in self.encoded.items()),
            *self.captioners.items(),
        ]
        return needed | encoder_records((encoder, f.weights_file, f.spec) for encoder, f in features)

    @property
    def encoder_code(self) -> dict[str, str]:
        """Path → hash of the files of the user's own encoders."""
        return own_files.of_encoders(self.encoders)

    @property
    def bit_depth(self) -> int | None:
        """The bits by which 16-bit images were scaled; None without features of images."""
        specs = [feature.spec for feature in self.stored.values() if feature.spec["modality"] == "image"]
        depths = {int(spec.get("bit_depth", 16)) for spec in specs}
        return depths.pop() if len(depths) == 1 else None

    @property
    def specs(self) -> dict[str, dict[str, Spec]]:
        """Encoder → output → spec, of all that encoders have to make for the features."""
        specs: dict[str, dict[str, Spec]] = {}
        for name, feature in self.encoded.items():
            specs.setdefault(name.encoder, {})[name.output] = feature.spec
        for encoder, feature in self.captioners.items():
            specs.setdefault(encoder, {})[TEXT] = feature.spec
        return specs

    def with_paths(self, change: Callable[[str], str]) -> "RunRecord":
        """A copy in which every path is changed."""

        def changed(feature: FittedFeature) -> FittedFeature:
            is_path = feature.weights_file and not feature.is_random
            return replace(feature, weights_file=change(feature.weights_file or "")) if is_path else feature

        return replace(
            self,
            features={name: feature and changed(feature) for name, feature in self.features.items()},
            captioners={name: changed(feature) for name, feature in self.captioners.items()},
            store=change(self.store),
            table=change(self.table),
            corrections=change(self.corrections),
        )

    @property
    def captions(self) -> list[str]:
        """The kinds of captions that the features need."""
        records = [record for record in self.stored.values() if record.spec["modality"] == "caption"]
        return list(dict.fromkeys(record.captions for record in records)) or [OWN]
