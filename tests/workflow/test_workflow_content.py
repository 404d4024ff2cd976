"""What a study takes from outside counts by its content: text files, a folder's checkpoint."""

import shutil

import pytest
import yaml

FILES = "studies/files.yaml"
PRUNED = ("--", "results/files/pruned/given/depth/manifest.json")


@pytest.fixture
def finished_of_files(first, tmp_path):
    """A study of a text folder and a checkpoint folder, finished up to its pruned models."""
    made = type(first)(tmp_path / "files")
    shutil.copytree(first.folder, made.folder)
    shutil.rmtree(made.folder / "results")
    (made.folder / "texts").mkdir()
    for k in range(40):
        lines = (f"Document {k} says {i} times {i * (i + k)} in line {i}." for i in range(400))
        (made.folder / "texts" / f"a{k}.txt").write_text("\n".join(lines))
    shutil.copytree(first.results / "base/tiny-16", made.folder / "given")
    for extra in ("manifest.json", "state"):
        path = made.folder / "given" / extra
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    study = yaml.safe_load((first.folder / "studies/tiny.yaml").read_text())
    del study["posttrain"], study["pretrain"]
    study |= {"study": "files", "evaluate": {"tokens": 1024}}
    study["corpus"] |= {"source": {"kind": "files", "path": "texts"}, "validation_share": 0.5}
    family = study["families"]["tiny"]
    family["tokenizer"] = {"kind": "folder", "path": str(first.results / "corpus/tiny")}
    family["models"] = {"given": {"source": "folder", "path": "given"}}
    family["config"] = {}
    (made.folder / FILES).write_text(yaml.safe_dump(study, sort_keys=False))
    made.run(*PRUNED, study=FILES)
    return made


def test_a_changed_text_file_reruns_all_of_its_family(finished_of_files):
    made = finished_of_files
    assert made.planned(*PRUNED, study=FILES) == {}
    for path in (made.folder / "texts").iterdir():
        path.touch()
    assert made.planned(*PRUNED, study=FILES) == {}
    text = made.folder / "texts" / "a7.txt"
    text.write_text(text.read_text() + "One more line.\n")
    assert {"corpus", "prune"} <= made.planned(*PRUNED, study=FILES).keys()
    assert "text.a7.txt has changed" in made.run("-n", *PRUNED, study=FILES)


def test_changed_weights_of_a_folder_base_rerun_what_follows_it(finished_of_files):
    made = finished_of_files
    weights = made.folder / "given" / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    planned = made.planned(*PRUNED, study=FILES)
    assert "corpus" not in planned
    assert {"base", "prune"} <= planned.keys()
    assert "model.safetensors has changed" in made.run("-n", *PRUNED, study=FILES)
