"""The prune stage: all rates of one (model, method), each variant a folder of its own.

A variant is built in a hidden sibling folder and renamed when whole; one whose manifest carries
the key asked for, and whose files verify, is kept. What a method measures on the unpruned model is
measured once for all its rates.
"""

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from p2law.architectures import counts
from p2law.checkpoints import products
from p2law.errors import UserError
from p2law.pruning import methods
from p2law.pruning.blocks import Blocks
from p2law.pruning.calibration import DEFAULT_GIB, Source, read_windows
from p2law.pruning.methods.method import Method
from p2law.pruning.variant import Variant
from p2law.results import cleaned, manifest

Json = dict[str, Any]


@dataclass
class Stage:
    """One run of the stage. ``spec`` as ``scripts/prune.py --help`` describes it."""

    spec: Json
    base: Path
    corpus: Path
    out: Path
    device: str = "cpu"

    def run(self) -> Path:
        """Make what is missing; return the path of the method's manifest."""
        started = time.time()
        stale = {n: v for n, v in self.spec["variants"].items() if not self._is_whole(n, v)}
        if stale:
            manifest.verify_files(self.base)
            config = self.blocks.config
            solved = {n: self.method.solve(config, v["rate"]) for n, v in stale.items()}
            with products.fast():
                for name, variant in stale.items():
                    self._make(name, variant, solved[name])
        return self._write_method(started)

    @cached_property
    def method(self) -> Method:
        """The method, its settings checked."""
        return methods.read(self.spec["prune"], f"method {self.spec.get('method')}")

    @cached_property
    def blocks(self) -> Blocks:
        """The base checkpoint."""
        record = manifest.read_manifest(self.base)
        if record["stage"] == "prune":
            raise UserError(f"{self.base}: this checkpoint was pruned already; name a base model")
        return Blocks(self.base.parent, self.device)

    @cached_property
    def source(self) -> Source | None:
        """The base on its calibration windows, where the method needs text."""
        if not self.method.needs().text:
            return None
        asked = self.spec["calibration"]
        vocabulary = self.blocks.config["vocab_size"]
        windows = read_windows(self.corpus.parent, asked["windows"], self.spec["seed"], vocabulary)
        self.out.mkdir(parents=True, exist_ok=True)
        return Source(self.blocks, windows, self.out, asked.get("memory_gib", DEFAULT_GIB))

    @cached_property
    def measured(self) -> Any:
        """What the method measures on the unpruned model, once for all rates."""
        return self.method.measure(self.source)

    def _is_whole(self, name: str, variant: Mapping[str, Any]) -> bool:
        path = self.out / name / manifest.NAME
        if cleaned.lacks_weights(path):  # on purpose; nothing that will run needs them
            return manifest.read_manifest(path)["key"] == variant["key"]
        try:
            return manifest.verify_files(path)["key"] == variant["key"]
        except UserError:
            return False

    def _make(self, name: str, variant: Json, solved: Json) -> None:
        started = time.time()
        final, partial = self.out / name, self.out / f".{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            files, results = self._prune(partial, solved)
            results |= {"rate_asked": variant["rate"], "seed": self.spec["seed"]}
            manifest.write_manifest(
                partial,
                stage="prune",
                spec={**_shared(self.spec), **variant},
                inputs={"base": self.base, "corpus": self.corpus},
                files=files,
                results=results,
                started=started,
            )
            for file in partial.iterdir():
                _sync(file)
            shutil.rmtree(final, ignore_errors=True)
            partial.rename(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _prune(self, folder: Path, solved: Json) -> tuple[list[str], Json]:
        """Build one variant in ``folder``; file names, and what was removed and measured."""
        blocks, source = self.blocks, self.source if solved["removed"] else None
        if solved["removed"]:
            variant, details = self.method.apply(blocks, source, self.measured, folder, solved)
        else:
            everything = range(len(blocks))
            variant, details = Variant(blocks, folder, blocks.config, everything).write(), {}
        files = variant.close() + details.pop("mask_files", [])
        before = counts.parameters(blocks.config)
        after = variant.writer.parameters - details.get("zeros", 0)
        return files, {
            "rate": 1 - after / before["total"],
            "N0": before["total"],
            "N": after,
            "N0_nonembedding": before["nonembedding"],
            "N_nonembedding": after - counts.parameters(variant.config)["embedding"],
            "calibration_sha256": source.calibration.sha256 if source else None,
            **details,
        }

    def _write_method(self, started: float) -> Path:
        results = {}
        for name in self.spec["variants"]:
            record = manifest.read_manifest(self.out / name / manifest.NAME)
            weights = {f: r["sha256"] for f, r in record["files"].items() if f.endswith("tensors")}
            results[name] = {"rate": record["results"]["rate"], "weights": weights}
        return manifest.write_manifest(
            self.out,
            stage="prune-method",
            spec=self.spec,
            inputs={"base": self.base, "corpus": self.corpus},
            files=[f"{name}/{manifest.NAME}" for name in self.spec["variants"]],
            results={"variants": results},
            started=started,
        )


def _shared(spec: Json) -> Json:
    return {key: value for key, value in spec.items() if key not in ("key", "variants")}


def _sync(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
