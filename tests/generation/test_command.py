"""``mot-lab generate``: prompts of every kind in, lines and files out."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile
from tiny_studies import CODES, SPOKEN, TINY_SCENES

from mot_lab.cli import main
from mot_lab.data.prepare import DataConfig, prepare
from mot_lab.module import ModelConfig, MultimodalModule
from mot_lab.parsing import from_dict
from mot_lab.trained import Trained

TRANSFUSION = TINY_SCENES
CHAMELEON_SPEECH = {**TINY_SCENES, "image": CODES, "speech": SPOKEN, "row_length": 160}
MODEL = {"backbone": {"width": 16, "layers": 1, "heads": 2, "feed_forward_multiple": 16}}
Run = Callable[..., str]


def trained(settings: dict) -> Trained:
    """A model as it is before its first step."""
    data = prepare(from_dict(DataConfig, settings))
    module = MultimodalModule(from_dict(ModelConfig, MODEL), data.interface, "mot")
    return Trained(module.eval(), data, 0)


@pytest.fixture
def run(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """The command on a model of the test's setting; gives what it prints."""
    model = trained(request.param)
    monkeypatch.setattr("mot_lab.trained.load_trained", lambda _: model)
    capsys.readouterr()  # what preparing the data said

    def run(*arguments: object) -> str:
        out = ["--out", str(tmp_path), "--steps", "2"]
        main(["generate", "a.ckpt", *out, *(str(each) for each in arguments)])
        return capsys.readouterr().out

    return run


def picture(path: Path, colour: str) -> Path:
    Image.new("RGB", (20, 12), colour).save(path)
    return path


@pytest.mark.parametrize("run", [TRANSFUSION], indirect=True)
def test_transfusion(run: Run, tmp_path: Path) -> None:
    given = picture(tmp_path / "given.gif", "red")
    assert run("--caption", "a cat", "--caption", "a dog") == (
        f"a cat[{tmp_path}/0.png]\na dog[{tmp_path}/1.png]\n"
    )
    drawn = [np.asarray(Image.open(tmp_path / f"{i}.png")) for i in range(2)]
    assert [each.shape for each in drawn] == [(8, 8, 3)] * 2
    assert not np.array_equal(*drawn)
    assert run("--text", "a cat", "--want", "image", "--seed", 0).startswith("a cat[")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "0.png")), drawn[0])
    run("--text", "a cat", "--want", "image", "--guidance", 3, "--seed", 0)
    assert not np.array_equal(np.asarray(Image.open(tmp_path / "0.png")), drawn[0])

    said = run("--text", "here ", "--picture", given, "--text", " and", "--max-tokens", 5)
    assert said.startswith(f"here [{given}] and")
    assert run("--picture", given, "--number", 2) == 2 * run("--picture", given)
    _, first, second = run("--picture", given, "--number", 2, "--temperature", 1).split(
        f"[{given}]"
    )
    assert first != second


@pytest.mark.parametrize("run", [CHAMELEON_SPEECH], indirect=True)
def test_chameleon_with_speech(run: Run, tmp_path: Path) -> None:
    given = picture(tmp_path / "given.png", "green")
    sound = tmp_path / "given.wav"
    wave_n = np.sin(np.arange(8000) * 0.2) * np.linspace(0, 1, 8000)
    wavfile.write(sound, 16_000, (20_000 * wave_n).astype(np.int16))
    assert run("--caption", "a cat") == f"a cat[{tmp_path}/0.png]\n"
    assert Image.open(tmp_path / "0.png").size == (8, 8)

    said = run("--picture", given, "--want", "speech", "--max-units", 5)
    assert said == f"[{given}][{tmp_path}/0.wav]\n"
    rate, samples_n = wavfile.read(tmp_path / "0.wav")
    assert samples_n.dtype == np.int16
    assert 1 <= len(samples_n) / rate * 25 <= 5
    heard = run("--speech", sound, "--temperature", 1, "--top-p", 0.5)
    assert heard.startswith(f"[{sound}]")
    free = run(
        *("--speech", sound, "--text", " is", "--picture", given, "--want", "free"),
        *("--number", 4, "--max-units", 5, "--temperature", 4),
    )
    assert free.count(f"[{sound}] is[{given}]") == 4
    files = re.findall(rf"\[({tmp_path}/\d\S*\.(?:png|wav))\]", free)
    assert all(Path(name).exists() for name in files)


@pytest.mark.parametrize("run", [TRANSFUSION], indirect=True)
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to go on from: give --text, --picture, --speech or --want"),
        (["--picture", "no.png"], "no.png"),
        (["--speech", "no.wav"], "no.wav"),
        (["--text", "a", "--want", "smell"], "want 'smell' is none of text, image, free"),
        (["--text", "a", "--want", "speech"], "want 'speech' is none of text, image, free"),
        (["--caption", "a", "--text", "b"], "--caption is a prompt of its own"),
        (["--caption", "a", "--want", "text"], "--caption is a prompt of its own"),
        (["--caption", "a", "--sampler", "flow"], "sampler 'flow' does not fit"),
        (["--caption", "a", "--steps", "0"], "steps 0 must be 1 to 1000"),
        (["--text", "a", "--top-p", "2"], "top_p 2.0 must be above 0"),
        (["--text", "a", "--number", "0"], "--number 0 must be at least 1"),
    ],
)
def test_refusals_are_one_line(
    run: Run, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mot-lab:") and said in line


@pytest.mark.parametrize("run", [TRANSFUSION], indirect=True)
def test_a_recording_for_a_model_without_speech_is_refused(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = tmp_path / "given.wav"
    wavfile.write(sound, 16_000, np.full(800, 1000, np.int16))
    with pytest.raises(SystemExit):
        run("--speech", sound)
    assert "the model was trained without speech" in capsys.readouterr().err
