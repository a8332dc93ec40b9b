"""`zssr-gan fuse` says what it made, of which frames, and refuses in one line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.video.bursts import burst, motion
from zssr_gan.cli.main import main
from zssr_gan.imaging.colour import to_levels


def test_a_folder_gives_an_image_a_plain_enlargement_and_a_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "crops").mkdir()
    for place, frame in enumerate(burst(motion(3), noise=2 / 255)[0][:, 0, :14, :14]):
        Image.fromarray(to_levels(frame).numpy()).save(tmp_path / "crops" / f"{place}.png")
    Image.fromarray(np.full((14, 14), 80, np.uint8)).save(tmp_path / "crops" / "9.png")
    words = ["fuse", str(tmp_path / "crops"), "-o", str(tmp_path / "face.png"), "--degradation", "bicubic", "--shifts"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "9.png has no part: it shows something else" in shown.err
    assert "face.png: " in shown.out
    made = {"face.png", "face_bicubic.png", "face_evidence.png", "face.json"}
    assert {path.name for path in tmp_path.iterdir()} == {"crops"} | made
    assert main(words) == 1
    assert "exists already" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--mean", "shared"]) == 2
    assert "--mean shared takes --init-from" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--reference", "7"]) == 2
    assert "the reference is one of the frames 0 to 3, not 7" in capsys.readouterr().err
    assert main(["fuse", str(tmp_path / "none"), "-o", str(tmp_path / "x.png")]) == 1
