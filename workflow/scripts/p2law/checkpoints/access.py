"""Whether the hub gives what a study names, asked before any job starts."""

from collections.abc import Iterable

from p2law.checkpoints.imported import hub_errors
from p2law.errors import UserError

HELP = (
    "Downloads run where snakemake runs: it needs a way to the hub (HTTPS_PROXY, or HF_ENDPOINT for"
    " a mirror). Without one, bring the files here by other means and name them in the study as"
    " source: folder (models), kind: folder (tokenizers) and kind: files (text)"
)


def check_access(repositories: Iterable[tuple[str, str, str]]) -> None:
    """Ask the hub for each (kind, name, revision); kind is ``model`` or ``dataset``.

    Raises :class:`UserError` naming the first that cannot be had, and what to set: no way to the
    hub, no such repository or revision, terms that were not accepted, a token that is missing.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    for kind, name, revision in sorted(set(repositories)):
        try:
            with hub_errors(f"{kind} {name}@{revision[:12]}"):
                api.auth_check(name, repo_type=kind)
                api.repo_info(name, revision=revision, repo_type=kind, timeout=20)
        except UserError as error:
            raise UserError(f"{error}. {HELP}") from error
