"""``mot-lab evaluate`` on files: what it prints and writes, and what it refuses."""

import json
from urllib.error import URLError

import pytest
from picture_files import blobs, fixed_extractor, save_all
from PIL import Image

from evaluation.metric import Metric
from evaluation.metrics import caption_metrics, evaluators
from evaluation.metrics.suite import Evaluators
from evaluation.trained import runs as trained_runs
from mot_lab.cli import main


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two folders of pictures; every extractor is the fixed network."""
    monkeypatch.setattr(evaluators, "load_evaluators", lambda *_: Evaluators((fixed_extractor(),)))
    made = save_all(blobs(30, 0, tint=40), tmp_path / "made")
    Image.fromarray(blobs(1, 5)[0]).convert("L").save(made / "grey.png")
    return made, save_all(blobs(40, 1), tmp_path / "real")


def refused(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *map(str, arguments)])
    assert end.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("mot-lab: ")
    return lines[-1]


def test_pictures_are_scored_printed_and_written(folders, tmp_path, capsys):
    made, real = folders
    main(["evaluate", "--generated", str(made), "--reference", str(real), "--out", str(tmp_path)])
    out, err = capsys.readouterr()
    written = json.loads((tmp_path / "evaluation.json").read_text())
    frechet, kernel = (Metric(**metric) for metric in written["metrics"])
    assert len(frechet.draws) == len(kernel.draws) == 1000
    line = out.splitlines()[0]
    assert line.startswith("Frechet distance (fixed)") and f"{frechet.value:.4g}" in line
    assert f"[{frechet.low:.4g}, {frechet.high:.4g}]" in line and "n=31" in line
    assert "generated: 31 pictures scored (1 grey)" in out
    assert "reference: 40 pictures scored" in out
    assert "generated pictures: 31 of 31" in err


def test_json_is_all_of_standard_output(folders, capsys):
    made, real = folders
    main(["evaluate", "--generated", str(made), "--reference", str(real), "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert [metric["name"] for metric in printed["metrics"]] == [
        "Frechet distance (fixed)",
        "kernel distance (fixed)",
    ]
    assert printed["metrics"][0]["n"] == 31 and "draws" not in printed["metrics"][0]
    assert printed["counts"][0] == "generated: 31 pictures scored (1 grey)"


def test_caption_results_are_scored_with_every_metric(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(caption_metrics, "java_runs", lambda: False)
    annotations = [{"image_id": place, "caption": f"a thing {place}"} for place in range(3)]
    (tmp_path / "a.json").write_text(json.dumps({"annotations": annotations}))
    (tmp_path / "r.json").write_text(json.dumps(annotations))
    files = ["--generated", str(tmp_path / "r.json"), "--captions", str(tmp_path / "a.json")]
    main(["evaluate", *files])
    out = capsys.readouterr().out
    names = ["CIDEr", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "SPICE"]
    assert [line.split()[0] for line in out.splitlines()] == [*names, "3"]
    assert out.count("not available") == 2 and "install a Java runtime" in out


def test_inception_is_the_default_and_says_where_its_weights_are(tmp_path, capsys, monkeypatch):

    def unreachable(*_, **__):
        raise URLError("no route")

    monkeypatch.setattr(
        "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", unreachable
    )
    folder = save_all(blobs(3, 0), tmp_path / "a")
    line = refused(["--generated", folder, "--reference", folder], capsys)
    assert "Inception-v3 weights are not at hand" in line and "give its path" in line


def test_combinations_without_sense_are_one_line(tmp_path, capsys):
    folder = save_all(blobs(3, 0), tmp_path / "a")
    results = tmp_path / "r.json"
    results.write_text("[]")
    cases = {
        (): "takes either a checkpoint or files",
        ("a.ckpt", "--generated", folder): "takes either a checkpoint or files",
        ("a.ckpt", "--reference", folder): "--reference has no meaning beside a checkpoint",
        ("a.ckpt", "--captions", results): "--captions has no meaning beside a checkpoint",
        ("--generated", folder, "--images", 3): "--images has no meaning beside --generated",
        ("--generated", folder, "--steps", 3): "--steps has no meaning beside --generated",
        ("--generated", tmp_path / "no"): "does not exist",
        ("--generated", folder): "nothing to compare",
        ("--generated", results): "needs real captions",
        ("--generated", results, "--reference", folder): "no meaning beside generated captions",
        ("--generated", results, "--captions", results): "holds no captions",
        ("--generated", folder, "--reference", tmp_path / "no"): "is no folder",
        ("--generated", folder, "--reference", folder, "--extractor", "scene_clip"): "scenes of a",
        ("--generated", folder, "--reference", folder, "--extractor", "x"): "no model",
        ("--generated", folder, "--captions", results): "no CLIP model was named",
    }
    for arguments, said in cases.items():
        assert said in refused(arguments, capsys), arguments


def test_a_checkpoints_routing_and_causality_are_printed(tmp_path, capsys, monkeypatch):
    routing = {
        "losses": [{"split": "test", "modality": "text", "training": 1.0, "causal": 1.25, "n": 9}],
        "router": {},
        "experts": [
            {
                "layer": 2, "tower": "text", "modality": "text", "tokens": 9,
                "unrouted_training": 0.1, "unrouted_causal": 0.2,
            }
        ],
    }  # fmt: skip
    causality = [
        {"routing": "training", "positions": 60, "changed": 7, "largest": 0.5, "leaks": True},
        {"routing": "causal", "positions": 60, "changed": 0, "largest": 0.0, "leaks": False},
    ]
    metric = Metric("perplexity", 3.0, None, None, 9, "BPE", None, None)

    def scored(path, config, out):
        assert (config.images, config.sample_steps) == (256, 4)
        out.mkdir()
        (out / "evaluation.json").write_text(
            json.dumps({"metrics": [], "routing": routing, "causality": causality})
        )
        return [metric]

    monkeypatch.setattr(trained_runs, "evaluate_checkpoint", scored)
    main(["evaluate", str(tmp_path / "a.ckpt"), "--steps", "4"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("perplexity")
    assert "training routing 1, causal routing 1.25, leak 0.25  n=9" in lines[1]
    assert "no expert took: training routing 10.0%, causal routing 20.0%" in lines[2]
    assert lines[3] == (
        "causality, training routing: LEAKS: the past depends on the future; "
        "7 of 60 past positions changed, by 0.5 at most"
    )
    assert lines[4].startswith("causality, causal routing: no leak; 0 of 60")
