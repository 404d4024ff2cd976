"""One more stage is an entry in the table, a rules file and a script: the rest follows."""

import json
import subprocess
import sys

ENTRY = '''"""An example of one more stage."""

from collections.abc import Iterator
from typing import Any

from p2law.study.stage import Json, Names, Ref, Stage, Work


class Norms(Stage):
    """The largest weight of each pruned checkpoint; an example."""

    name, folder, wildcards, room = "norms", "norms", ("model", "method"), "pruning"
    weights, optional = "annealed", True

    def results(self) -> Iterator[Names]:
        yield from self.stages["prune"].jobs()

    def recipe(self, *names: str) -> int:
        return 1

    def reads(self, model: str, method: str) -> dict[str, list[Ref]]:
        rates = [v.asked for v in self.study.group_variants(model, method)]
        return {"pruned": [Ref("prune", (model, method, rate)) for rate in rates]}

    def told(self, model: str, method: str) -> Json:
        return {"norm": "max"}

    def work(self, costs: Any, model: str, method: str) -> Work:
        count = len(self.study.group_variants(model, method))
        return Work(0, count * 1e9, costs.load_memory(model), 100.0)
'''

RULES = '''"""An example: norms of pruned checkpoints."""


rule norms:
    input:
        unpack(inputs("norms")),
    output:
        pattern("norms"),
    log:
        log_of("norms"),
    benchmark:
        benchmark_of("norms")
    params:
        script=script("norms"),
        spec=spec("norms"),
        out=parent,
    message:
        "norms: {wildcards.model} {wildcards.method}"
    shell:
        "{params.script} --spec {params.spec:q} --pruned {input.pruned:q} --out {params.out:q}"
        " > {log:q} 2>&1"


rule all_norms:
    input:
        targets("norms"),
'''

SCRIPT = '''"""The largest weight of pruned checkpoints."""

import sys
import time
from pathlib import Path

from p2law.commands import script
from p2law.results.manifest import write_manifest


def main() -> None:
    started = time.time()
    parser = script.parser(__doc__)
    script.spec_option(parser, "the stage's spec")
    parser.add_argument("--pruned", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    from safetensors.numpy import load_file, save_file

    found = {}
    for path in sorted(args.pruned.parent.glob("*/model.safetensors")):
        found[path.parent.name] = max(abs(w).max() for w in load_file(path).values()).reshape(1)
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(found, args.out / "norms.safetensors")
    write_manifest(
        args.out, stage="norms", spec=args.spec, inputs={"pruned": args.pruned},
        files=["norms.safetensors"], results={"norms": len(found)}, started=started,
    )


if __name__ == "__main__":
    sys.exit(script.run(main))
'''

JOBS = {f"{model} {method}" for model in ("tiny-16", "tiny-24") for method in ("depth", "sparse24")}
TARGET = ("--", "all_norms")


def test_a_stage_more_gets_keys_reruns_costs_actuals_and_reasons(finished):
    made, scripts = finished, "workflow/scripts"
    table, entry = (f"{scripts}/p2law/study/stages/{name}.py" for name in ("__init__", "norms"))
    (made.folder / entry).write_text(ENTRY)
    line = "from p2law.study.stages.shown import"
    made.edit(table, line, f"from p2law.study.stages.norms import Norms\n{line}")
    made.edit(table, "    Corpus, Base, Prune,", "    Corpus, Base, Prune, Norms,")
    (made.folder / "workflow/rules/norms.smk").write_text(RULES)
    (made.folder / scripts / "norms.py").write_text(SCRIPT)
    line = 'include: "workflow/rules/prune.smk"\n'
    made.edit("Snakefile", line, line + line.replace("prune", "norms"))
    assert made.planned() == {}  # nothing that was there runs again
    assert made.planned(*TARGET) == {"norms": JOBS}
    made.run(*TARGET)
    assert made.planned(*TARGET) == {}
    manifest = made.results / "norms/tiny-16/depth/manifest.json"
    assert json.loads(manifest.read_text())["results"] == {"norms": 2}

    # Costs before, actuals after, by the same table.
    line = next(x for x in made.run("--", "cost").splitlines() if x.split()[:1] == ["norms"])
    assert line.split()[1] == "4" and len(line.split()) == 10

    # A changed setting of its own, an upstream change, a lost file; each told by name.
    made.edit(entry, '{"norm": "max"}', '{"norm": "l2"}')
    assert made.planned(*TARGET) == {"norms": JOBS}
    assert "norms: norm: max -> l2" in made.run("-n", *TARGET)
    made.edit(entry, '{"norm": "l2"}', '{"norm": "max"}')
    (manifest.parent / "norms.safetensors").unlink()
    assert made.planned(*TARGET) == {"norms": {"tiny-16 depth"}}
    made.run(*TARGET)
    made.study("rates: [0.15, 0.3]", "rates: [0.15, 0.3, 0.48]")
    assert made.planned(*TARGET)["norms"] == {f"{m} depth" for m in ("tiny-16", "tiny-24")}
    made.study("rates: [0.15, 0.3, 0.48]", "rates: [0.15, 0.3]")

    # Clean-up: what reads the variants must have run; its own weights have no reader and stay.
    clean = [sys.executable, f"{scripts}/clean.py", "studies/tiny.yaml", "--keep", "annealed"]
    told = subprocess.run(clean, cwd=made.folder, capture_output=True, text=True, check=True).stdout
    assert told.count("results/tiny/pruned/") == 6 and "results/tiny/norms/" not in told
    manifest.unlink()
    told = subprocess.run(clean, cwd=made.folder, capture_output=True, text=True, check=True).stdout
    assert told.count("results/tiny/pruned/") == 4  # both rates of tiny-16 by depth are wanted
