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

from p2law.architectures import configs, counts
from p2law.checkpoints import products
from p2law.errors import UserError
from p2law.pruning import depth, layer, names, oneshot, shapes, width
from p2law.pruning.blocks import Blocks
from p2law.pruning.calibration import DEFAULT_GIB, Source, read_windows
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
            solved = {n: self._solve(v) for n, v in stale.items()}
            with products.fast():
                for name, variant in stale.items():
                    self._make(name, variant, solved[name])
        return self._write_method(started)

    @cached_property
    def settings(self) -> Json:
        """The method's settings with defaults filled in."""
        return names.complete(self.spec["prune"], f"method {self.spec.get('method')}")

    @cached_property
    def blocks(self) -> Blocks:
        """The base checkpoint."""
        record = manifest.read_manifest(self.base)
        if record["stage"] == "prune":
            raise UserError(f"{self.base}: this checkpoint was pruned already; name a base model")
        return Blocks(self.base.parent, self.device)

    @cached_property
    def source(self) -> Source:
        """The base on its calibration windows."""
        asked = self.spec["calibration"]
        vocabulary = self.blocks.config["vocab_size"]
        windows = read_windows(self.corpus.parent, asked["windows"], self.spec["seed"], vocabulary)
        self.out.mkdir(parents=True, exist_ok=True)
        return Source(self.blocks, windows, self.out, asked.get("memory_gib", DEFAULT_GIB))

    @cached_property
    def scores(self) -> Any:
        """What the criterion measures on the unpruned model, once for all rates."""
        if self.settings["prune"] == "depth":
            criterion = depth.CRITERIA[self.settings["criterion"]]
            return criterion.measure(self.source if criterion.reads_text else None)
        return width.CRITERIA[self.settings["criterion"]](self.source)

    def _solve(self, variant: Mapping[str, Any]) -> Json:
        solved = shapes.solve(self.blocks.config, self.settings, variant["rate"])
        if "layers" in variant and variant["layers"] != solved["removed"].get("layers", 0):
            raise UserError(
                f"rate {variant['rate']}: the spec removes {variant['layers']} layers, the"
                f" checkpoint's shape gives {solved['removed'].get('layers', 0)}"
            )
        return solved

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
        before = counts.parameters(self.blocks.config)
        make = {"depth": self._depth, "width": self._width, "weights": self._weights}
        kind = self.settings["prune"] if solved["removed"] else "depth"
        variant, details = make[kind](folder, solved)
        files = variant.close() + details.pop("mask_files", [])
        after = variant.writer.parameters - details.get("zeros", 0)
        embedding = counts.parameters(variant.config)["embedding"]
        measured = "source" in self.__dict__
        return files, {
            "rate": 1 - after / before["total"],
            "N0": before["total"],
            "N": after,
            "N0_nonembedding": before["nonembedding"],
            "N_nonembedding": after - embedding,
            "calibration_sha256": self.source.calibration.sha256 if measured else None,
            **details,
        }

    def _depth(self, folder: Path, solved: Json) -> tuple[Variant, Json]:
        blocks, n = self.blocks, solved["removed"].get("layers", 0)
        gone = depth.removed_blocks(self.scores, len(blocks), n, self.settings) if n else []
        kept = [i for i in range(len(blocks)) if i not in gone]
        variant = Variant(blocks, folder, configs.with_layers(blocks.config, kept), kept)
        variant.outer_first()
        for new in range(len(kept)):
            variant.block(new)
        variant.outer_last()
        return variant, {"layers_removed": gone} | ({"scores": self.scores} if n else {})

    def _width(self, folder: Path, solved: Json) -> tuple[Variant, Json]:
        config, to = self.blocks.config, {k: w["to"] for k, w in solved["removed"].items()}
        head_dim = self.blocks.arch.sizes(config)["head"]
        variant = Variant(self.blocks, folder, solved["config"], range(len(self.blocks)))
        outside = width.kept_indices(self.scores, None, config, head_dim, to)
        inside = [
            width.kept_indices(self.scores, i, config, head_dim, to)
            for i in range(len(self.blocks))
        ]
        variant.outer_first(outside)
        for i, index in enumerate(inside):
            variant.block(i, index)
        variant.outer_last(outside)
        kept = dict(outside)
        for i, index in enumerate(inside):
            named = {k: v for k, v in index.items() if k not in outside}
            kept |= {f"{self.blocks.prefix(i)}{axis}": v for axis, v in named.items()}
        files = width.write_kept(folder, kept, self.blocks.arch.sizes(config))
        return variant, {"widths": solved["removed"], "mask_files": files}

    def _weights(self, folder: Path, solved: Json) -> tuple[Variant, Json]:
        source = self.source if layer.needs_calibration(self.settings) else None
        variant = Variant(self.blocks, folder, self.blocks.config, range(len(self.blocks)))
        method = oneshot.OneShot(self.blocks, self.settings, source)
        return variant, method.prune(solved["removed"]["share_of_linear"], variant)

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
