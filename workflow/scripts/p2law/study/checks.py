"""What a study can be told before any job starts, beyond the form of its file.

Each check raises :class:`UserError` with the file, the key, its value and what is allowed.
"""

from glob import glob
from importlib import metadata
from pathlib import Path

from p2law.checkpoints import gguf
from p2law.checkpoints.imported import refuse_pruned
from p2law.errors import UserError, within
from p2law.results.manifest import is_finished, read_manifest
from p2law.study.grid import Study
from p2law.study.stages import Stages

LAW_SIZES = 3
LAW_BUDGETS = 3
"""The P² law has three constants in N0 beside L0 (N_C, alpha, delta) and three in D (D_C, beta, E):
with two sizes its Jacobian has rank 6 of 7, with two budgets E and beta trade off exactly."""


def check_study(stages: Stages, origin: str) -> None:
    """Run every check; ``origin`` names the study's file(s)."""
    for check in (_text, _text_size, _bases, _rates, _rows, _warmup, _layers, _law):
        with within(origin):
            check(stages.study)
    with within(origin):
        _tokens(stages)


def _text(study: Study) -> None:
    """The text, tokenizer and checkpoint folders that the study names are there."""
    source = study.settings.corpus.source
    if source.kind in ("packages", "docstrings"):
        for name in source.packages:
            try:
                metadata.version(name)
            except metadata.PackageNotFoundError:
                raise UserError(
                    f"corpus.source.packages: {name!r} is not installed; allowed: packages of"
                    " this environment"
                ) from None
    if source.kind == "files" and not (Path(source.path).exists() or glob(source.path)):
        raise UserError(f"corpus.source.path = {source.path!r}: no such file, folder or glob")
    for name, family in study.settings.families.items():
        tokenizer = family.tokenizer
        if tokenizer.kind == "folder" and not Path(tokenizer.path).is_dir():
            raise UserError(f"families.{name}.tokenizer.path = {tokenizer.path!r}: no such folder")
        if tokenizer.kind == "gguf":
            with within(f"families.{name}.tokenizer"):
                gguf.find(tokenizer.model_dump())


def _bases(study: Study) -> None:
    """No folder of a base holds a pruned checkpoint."""
    for model in study.models.values():
        if model.settings.source == "folder":
            with within(f"families.{model.family}.models.{model.name}"):
                refuse_pruned(Path(model.settings.path).expanduser())


def _needs(study: Study, family: str) -> dict[str, tuple[str, int]]:
    """Split -> (the settings that ask for its tokens, how many)."""
    corpus = study.settings.corpus
    calibration = corpus.calibration_windows * corpus.sequence_length
    return {
        "train": ("posttrain.budgets and models' tokens", study.needs_tokens(family)),
        "validation": ("evaluate.tokens", study.settings.evaluate.tokens),
        "calibration": ("corpus.calibration_windows", calibration),
    }


def _text_size(study: Study) -> None:
    """Text that is sure to be too small is refused unread: a token is at least one byte of it."""
    corpus = study.settings.corpus
    if corpus.max_bytes is None:
        return
    for family in study.settings.families:
        needs = _needs(study, family)
        asked = sum(tokens for _, tokens in needs.values())
        if asked > corpus.max_bytes:
            parts = ", ".join(f"{tokens} by {what}" for what, tokens in needs.values())
            raise UserError(
                f"corpus.max_bytes = {corpus.max_bytes}: {family} asks for {asked} tokens"
                f" ({parts}), each at least one byte of text; lower them or raise it"
            )


def _tokens(stages: Stages) -> None:
    """A corpus that is packed already is large enough: no training row is seen twice.

    One of other settings is about to be made anew, and says nothing of what it will hold.
    """
    study = stages.study
    for family in study.settings.families:
        stage = stages["corpus"]
        path = stage.path(family)
        if not is_finished(path, stage.spec(family)["key"]):
            continue
        splits = read_manifest(path)["results"]["splits"]
        for split, (what, needs) in _needs(study, family).items():
            held = splits[split]["rows"] * study.settings.corpus.sequence_length
            if held < needs:
                raise UserError(
                    f"{what} ask for {needs} {split} tokens of {family}, but {path} holds {held}:"
                    " tokens would repeat; lower them or add text"
                )


def _rates(study: Study) -> None:
    """Learning rates by model name each model, and no other."""
    sections = {"pretrain": study.settings.pretrain} if study.settings.pretrain else {}
    sections |= {f"posttrain.recipes.{name}": recipe for name, recipe in study.recipes.items()}
    for where, section in sections.items():
        rates = section.learning_rate
        if not isinstance(rates, dict):
            continue
        asked = [m.name for m in study.models.values()
                 if where != "pretrain" or m.settings.source == "pretrain"]  # fmt: skip
        wrong = sorted(set(rates) - set(study.models)) + sorted(set(asked) - set(rates))
        if wrong:
            raise UserError(
                f"{where}.learning_rate names {', '.join(rates)}: must be one for each of"
                f" {', '.join(asked)}"
            )


def _rows(study: Study) -> None:
    """Batches and the evaluation set are whole rows."""
    rows = study.settings.corpus.sequence_length
    sizes = {"evaluate.tokens": study.settings.evaluate.tokens}
    if study.settings.pretrain:
        sizes["pretrain.batch_tokens"] = study.settings.pretrain.batch_tokens
    for name, recipe in study.recipes.items():
        sizes[f"posttrain.recipes.{name}.batch_tokens"] = recipe.batch_tokens
    for key, tokens in sizes.items():
        if tokens % rows:
            raise UserError(
                f"{key} = {tokens}: must be a multiple of corpus.sequence_length = {rows}"
            )
    for model in study.models.values():
        tokens = getattr(model.settings, "tokens", 0)
        if tokens and tokens % study.settings.pretrain.batch_tokens:
            batch = study.settings.pretrain.batch_tokens
            raise UserError(
                f"families.{model.family}.models.{model.name}.tokens = {tokens}: must be a"
                f" multiple of pretrain.batch_tokens = {batch}"
            )


def _warmup(study: Study) -> None:
    """The warm-up of a model that is trained here ends before its decay begins."""
    train = study.settings.pretrain
    for model in study.models.values():
        tokens = getattr(model.settings, "tokens", 0)
        if tokens and (1 - train.decay) * tokens < train.warmup_tokens:
            raise UserError(
                f"pretrain.warmup_tokens = {train.warmup_tokens}: the decay of {model.name} begins"
                f" after {(1 - train.decay) * tokens:.0f} tokens; warm up before that"
            )


def _layers(study: Study) -> None:
    """A layers-only recipe finds its layers in every variant."""
    for run in study.runs.values():
        layers, has = study.recipes[run.recipe].layers, run.variant.shape["config"]
        if layers != "all" and layers.last > has["num_hidden_layers"]:
            raise UserError(
                f"posttrain.recipes.{run.recipe}.layers.last = {layers.last}: {run.variant.model}"
                f" {run.variant.name} has {has['num_hidden_layers']} layers"
            )


def _law(study: Study) -> None:
    """The grid determines the P² law, unless there is none or the study asks only to be told."""
    if study.settings.law.identify == "report" or not study.runs:
        return
    budgets = len(study.budgets)
    for name, family in study.settings.families.items():
        sizes = {study.models[model].parameters["total"] for model in family.models}
        if len(sizes) < LAW_SIZES or budgets < LAW_BUDGETS:
            raise UserError(
                f"families.{name}.models has {len(sizes)} sizes and posttrain.budgets has"
                f" {budgets}: the P² law needs at least {LAW_SIZES} of each to be determined;"
                " add some, or set law.identify: report"
            )
