"""`zssr-gan fuse` says what it made, of which frames, and refuses in one line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.video.bursts import burst, motion
from tests.video.faces import REGION, scene, shifted, write
from zssr_gan.cli.main import main
from zssr_gan.imaging.colour import to_levels
from zssr_gan.video.tracks import region_corners


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
    for none in (tmp_path / "none", tmp_path / "crops" / "0.png"):
        assert main(["fuse", str(none), "-o", str(tmp_path / "x.png")]) == 2


def test_a_part_of_a_video_is_fused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = [shifted(region_corners(REGION), 1.3 * n, 0.4 * n) for n in range(4)]
    clip = write(tmp_path / "a.mkv", [scene(one) for one in truth])
    words = ["fuse", str(clip), "-o", str(tmp_path / "face.png"), "--degradation", "bicubic", "-s", "1"]
    region = ["--region", "36,26,24,20", "--frame", "0"]
    assert main([*words, *region]) == 0
    shown = capsys.readouterr()
    assert "followed through frames 0 to 3" in shown.err
    assert "face.png: " in shown.out
    assert main(["video", "track", str(clip), *region, "-o", str(tmp_path / "t.json")]) == 0
    text = (tmp_path / "t.json").read_text("utf-8")
    (tmp_path / "t.json").write_text(text.replace('"status": "tracked"}\n', '"status": "blurred"}\n'), "utf-8")
    capsys.readouterr()
    assert main([*words, "--track", str(tmp_path / "t.json"), "--overwrite"]) == 0
    shown = capsys.readouterr()
    assert "t.json: was edited after it was written" in shown.err
    for change, said in ((["-o", "x.jpg"], "is a .png or .tif file"), ([], "exists already")):  # before it is followed
        assert main([*words, *region, *change]) in (1, 2)
        shown = " ".join(capsys.readouterr().err.split())
        assert said in shown
        assert "followed" not in shown
    other = write(tmp_path / "b.mkv", [scene(one) for one in truth[:2]])
    for change, code, said in (
        (["--track", str(tmp_path / "t.json"), *region], 2, "give one of them"),
        ([], 2, "is a video: say what is fused of it"),
        (["--region", "36,26,24,20"], 2, "say what is to be followed"),
        ([*region, "--aspect", "auto"], 1, "its sample aspect ratio is not known"),
        ([*region, "--reference", "9"], 2, "frame 9 is not in the track, which has frames 0 to 3"),
        ([*region, str(other)], 2, "are of one video, and 2 inputs are given"),
    ):
        assert main([*words, "--overwrite", *change]) == code, change
        assert said in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "face_track.png").is_file()
    words[1] = str(other)
    assert main([*words, "--overwrite", "--track", str(tmp_path / "t.json")]) == 1
    assert "that of another video (a.mkv)" in " ".join(capsys.readouterr().err.split())


def test_a_clip_that_stands_still_gives_its_frame_restored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = write(tmp_path / "a.mkv", [scene(region_corners(REGION))] * 4)
    output = tmp_path / "face.png"
    region = ["--region", ",".join(map(str, REGION)), "--frame", "0"]
    assert main(["fuse", str(clip), "-o", str(output), *region, "-s", "2"]) == 0
    printed = capsys.readouterr()
    assert "frame 1 has no part: repeats frame 0" in printed.err
    assert "the reference frame alone, restored" in printed.out
    assert main(["verify", str(output.with_suffix(".json")), "--rerun"]) == 0


def test_what_is_read_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not the stills of a folder that has no part, nor a track with its sheet."""
    clip = write(tmp_path / "a.mkv", [scene(shifted(region_corners(REGION), n, 0)) for n in range(3)])
    assert main(["video", "frames", str(clip), "-o", str(tmp_path / "stills")]) == 0
    assert (
        main(["video", "track", str(clip), "--region", "36,26,24,20", "--frame", "0", "-o", str(tmp_path / "t.json")])
        == 0
    )
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    last = max((tmp_path / "stills").glob("*.png"))
    part = ["--region", "36,26,24,20", "--frame", "0", "--frames", "2"]
    for words in (
        ["fuse", str(tmp_path / "stills"), *part, "-o", str(last)],
        ["fuse", str(clip), "--track", str(tmp_path / "t.json"), "-o", str(tmp_path / "t.png")],
        ["video", "track", str(tmp_path / "stills"), *part[:4], "-o", str(last.with_suffix(".json"))],
    ):
        capsys.readouterr()
        assert main([*words, "--overwrite"]) == 1
        assert "is an input, and an input is never written over" in capsys.readouterr().err
    assert all(path.read_bytes() == data for path, data in before.items())
