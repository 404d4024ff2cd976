"""Public tables: flattened from files that look like their origins', kept only with a known sum."""

import hashlib
import json
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

import public_tables


@pytest.fixture
def origin(tmp_path):
    """A local HTTP server over tmp_path / "web": (its address, the folder)."""
    web = tmp_path / "web"
    web.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=web))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", web
    server.shutdown()
    server.server_close()


def put(web, table, path, text):
    file = web / table.origin / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def known(table, text):
    return replace(table, sha256=hashlib.sha256(text.encode()).hexdigest())


def fetch(monkeypatch, capsys, address, out):
    monkeypatch.setattr("sys.argv", ["public_tables.py", "--base", address, "--out", str(out)])
    code = public_tables.script.run(public_tables.main)
    told = capsys.readouterr()
    return code, told.out + told.err


def test_a_table_is_fetched_flattened_checked_and_not_fetched_again(
    origin, tmp_path, monkeypatch, capsys
):
    address, web = origin
    text = "sparsity,scale,val-loss,steps\n0.5,0.25,2.75,250000.0\n"
    table = known(public_tables.TABLES["frantar_t5.csv"], text)
    monkeypatch.setattr(public_tables, "TABLES", {"frantar_t5.csv": table})
    rows = ",sparsity,scale,val-loss,steps\n0,0.5,0.25,2.75,250000.0\n"
    put(web, table, "jaxpruner/projects/bigsparse/t5-data.csv", rows)

    out = tmp_path / "out"
    assert fetch(monkeypatch, capsys, address, out)[0] == 0
    assert (out / "frantar_t5.csv").read_bytes() == text.encode()
    # There and whole: no origin is asked. Cut: made again.
    assert "there" in fetch(monkeypatch, capsys, "http://127.0.0.1:9", out)[1]
    (out / "frantar_t5.csv").write_text(text[:-3])
    assert "fetched" in fetch(monkeypatch, capsys, address, out)[1]
    assert (out / "frantar_t5.csv").read_text() == text


def test_other_numbers_are_refused_and_nothing_is_written(origin, tmp_path, monkeypatch, capsys):
    address, web = origin
    table = public_tables.TABLES["chinchilla.csv"]
    monkeypatch.setattr(public_tables, "TABLES", {"chinchilla.csv": table})
    code, told = fetch(monkeypatch, capsys, address, tmp_path / "out")
    assert code == 2 and "404" in told and table.origin in told
    put(web, table, "data/epoch_chinchilla_svg_extracted_data.csv", "Model Size,loss\n1,2\n")
    code, told = fetch(monkeypatch, capsys, address, tmp_path / "out")
    assert code == 2 and "sha256" in told and table.sha256 in told
    assert not (tmp_path / "out").exists()


def test_runs_become_rows():
    """The two origins of many files, from the parts of them that are read."""
    result = {"loss": 4.25, "loss_sequences_lower_95": 4.0, "loss_sequences_upper_95": 4.5}
    shards = ("x/c4_val/shard-{0..1}.tar", "x/val_tok_mult/ptb/00000001.tar", "de-en/val_de-en.tar")

    def read(path):
        name = path.removeprefix("exp_data/models/").removesuffix(".json")
        return json.dumps({
            "dataset_name": name.split("-")[0],
            "hyperparameters": {
                "model": "scaling/open_lm_configs/d=96_l=8_h=4.json",
                "chinchilla_multiplier": 0.5, "params": 10, "tokens": 100,
            },
            "results": [result | {"val_data": [shard]} for shard in shards],
        })  # fmt: skip

    rows = public_tables.gadre_models(read).splitlines()
    assert len(rows) == 1 + 104
    assert rows[0].split(",")[6:] == [
        f"{part}_{held}"
        for held in ("c4_val", "ptb", "val_de-en")
        for part in ("loss", "lo95", "hi95")
    ]
    assert rows[1] == (
        "c4_original-d=96_l=8_h=4-0.25.json,c4_original,d=96_l=8_h=4,0.5,10,100"
        + 3 * ",4.25,4.0,4.5"
    )

    header = "_step,eval/c4_en-validation/CrossEntropyLoss,throughput/total_tokens\n"
    losses = "".join(f"{step},{9 - step}.5,{1000 * step}.0\n" for step in range(1, 8))
    rows = public_tables.olmo_ladder_c4(lambda path: header + losses).splitlines()
    assert len(rows) == 1 + 16 and rows[1] == "190M-1xC,190354176,7000,4.5"  # mean of 6.5 .. 2.5
