"""Pictures of one scene give one picture of the same kind, with a record of every frame, and a label."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from pipelines.demo import FACE, clip_box, write_clip
from tests.video.bursts import burst, motion
from zssr_gan import fuse
from zssr_gan.degradation.footage import jpeg_of_webp
from zssr_gan.degradation.model import Degradation, GaussianBlur, Noise
from zssr_gan.errors import ImageError, OutputError, SettingsError
from zssr_gan.files import sha256_file
from zssr_gan.imaging.colour import from_levels, luma_of, psnr_db, to_levels
from zssr_gan.imaging.convert import picture_of
from zssr_gan.imaging.io import decode_picture, read_provenance
from zssr_gan.imaging.picture import Picture
from zssr_gan.inference.record import RecordError
from zssr_gan.provenance import LABELS, label_of
from zssr_gan.video import learnt
from zssr_gan.video.case_mean import MeanOption
from zssr_gan.video.crops import TrackSource, read_crops
from zssr_gan.video.fuse import BurstFrame, fuse_stills
from zssr_gan.video.fuse_files import fuse_files, verify_fusion
from zssr_gan.video.tracking import Mark, follow

CAMERA = Degradation(blur=GaussianBlur(sigma_major=0.55, sigma_minor=0.4), noise=Noise(sigma=2 / 255))


def crops(count: int, *, colour: bool = False) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames `16 16` or `16 16 3` and the truth, twice as large, uint8."""
    frames, truth = burst(motion(count), CAMERA, noise=2 / 255, colour=colour)
    levels = [to_levels(one).permute(1, 2, 0).numpy() for one in (*frames[..., 4:20, 4:20], truth[:, 8:40, 8:40])]
    squeezed = [one if colour else one[..., 0] for one in levels]
    return squeezed[:-1], squeezed[-1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four stills."""
    (tmp_path / "crops").mkdir()
    for place, frame in enumerate(crops(4)[0]):
        Image.fromarray(frame).save(tmp_path / "crops" / f"{place:02}.png")
    return tmp_path / "crops"


def stills(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_arrays_give_an_array_nearer_the_truth_than_interpolation() -> None:
    frames, truth = crops(5)
    made = fuse(frames, degradation=CAMERA, affine=False)
    plain = np.array(Image.fromarray(frames[0]).resize((32, 32), Image.Resampling.BICUBIC))

    def psnr(image: np.ndarray) -> float:
        error = from_levels(torch.from_numpy(image)) - from_levels(torch.from_numpy(truth))
        return psnr_db(float(error[4:-4, 4:-4].square().mean()))

    assert (made.dtype, made.shape) == (np.uint8, (32, 32))
    assert psnr(made) > psnr(plain) + 1.5


def test_pictures_keep_their_kind() -> None:
    frames, _ = crops(3, colour=True)
    made = fuse([Image.fromarray(frame) for frame in frames], 1, degradation="bicubic")
    assert (made.mode, made.size) == ("RGB", (16, 16))
    with pytest.raises(SettingsError, match="frames 0 to 2, not 3"):
        fuse(frames, reference=3)


def test_the_record_has_every_frame_and_what_was_done_to_it(folder: Path, tmp_path: Path) -> None:
    Image.new("L", (16, 16), 90).save(folder / "99.png")
    done = fuse_files(stills(folder), tmp_path / "face.png", camera=CAMERA, affine=False)
    record = json.loads((tmp_path / "face.json").read_text("utf-8"))
    assert (record["label"], record["label_means"]) == ("fused", LABELS["fused"])
    assert [frame["sha256"] for frame in record["frames"]] == [sha256_file(path) for path in stills(folder)]
    assert record["frames"][4]["rejected"].startswith("it shows something else")
    assert record["frames"][1]["shift"] == pytest.approx(motion(4).shift[1].tolist(), abs=0.1)
    assert record["output"]["sha256"] == sha256_file(tmp_path / "face.png")
    assert record["plain"]["sha256"] == sha256_file(tmp_path / "face_bicubic.png")
    assert record["verdict"]["fuse"] is done.verdict.fuse
    assert read_provenance(tmp_path / "face.png")["zssr-gan:label"].startswith("fused")


def test_a_record_is_verified_and_made_again_to_the_byte(folder: Path, tmp_path: Path) -> None:
    fuse_files(stills(folder)[:3], tmp_path / "face.png", reference=1, camera=CAMERA, affine=False)
    record = tmp_path / "face.json"
    found = verify_fusion(record, rerun=True)
    assert found.ok
    assert [check.name for check in found.checks] == ["frame"] * 3 + ["output", "plain", "evidence", "label", "rerun"]
    written = json.loads(record.read_text("utf-8"))
    for false in ({"statement": "This is an original."}, {"label_means": "Every pixel is proven."}):
        record.write_text(json.dumps(written | false), "utf-8")
        assert [check.name for check in verify_fusion(record).checks if not check.ok] == ["label"]
    frames = [written["frames"][0] | {"residual": 0.0}, *written["frames"][1:]]
    record.write_text(json.dumps(written | {"frames": frames, "support": {"mean": 99.0, "least": 99.0}}), "utf-8")
    (rerun,) = [check for check in verify_fusion(record, rerun=True).checks if not check.ok]
    assert (rerun.name, "another record, in support.mean, support.least, frames" in rerun.text) == (
        "rerun",
        True,
    )
    old = {"versions": written["versions"] | {"torch": "1.0"}, "output": written["output"] | {"sha256": "0" * 64}}
    record.write_text(json.dumps(written | old), "utf-8")
    (output, rerun) = [check for check in verify_fusion(record, rerun=True).checks if not check.ok]
    assert (output.name, rerun.text) == (
        "output",
        "made again from the record: the same pixels, in other bytes; library versions differ from the recorded ones",
    )
    record.write_text(json.dumps(written), "utf-8")
    stills(folder)[2].write_bytes(stills(folder)[3].read_bytes())
    wrong = [(check.name, check.ok) for check in verify_fusion(record).checks if not check.ok]
    assert wrong == [("frame", False)]
    record.write_text('{"fusion_version": 1}', "utf-8")
    with pytest.raises(RecordError, match="a broken record"):
        verify_fusion(record)


def test_the_same_stills_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    for name in "ab":
        fuse_files(stills(folder), tmp_path / f"{name}.png", camera=CAMERA)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        fuse_files(stills(folder), tmp_path / "a.png", camera=CAMERA)


def test_where_fusing_does_not_pay_the_reference_frame_is_restored_alone(folder: Path, tmp_path: Path) -> None:
    paths = stills(folder)
    done = fuse_files(paths[:2], tmp_path / "two.png", camera=CAMERA)
    same = fuse_files([paths[0], paths[3]], tmp_path / "others.png", camera=CAMERA)
    assert not done.verdict.fuse
    assert torch.equal(done.picture.pixels, same.picture.pixels)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda paths: paths[:1], SettingsError, "zssr-gan enhance"),
        (
            lambda paths: [*paths, paths[0].parent / "large.png"],
            ImageError,
            "00.png and large.png have 16x16 and 20x16",
        ),
        (lambda paths: [*paths, paths[0].parent / "none.png"], ImageError, "none.png"),
    ],
)
def test_stills_that_cannot_be_fused_are_named(folder: Path, tmp_path: Path, change, error, words: str) -> None:
    paths = stills(folder)
    Image.new("L", (20, 16), 90).save(folder / "large.png")
    with pytest.raises(error, match=words):
        fuse_files(change(paths), tmp_path / "face.png", camera=CAMERA)


def test_a_result_is_an_image_file(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"\.png or \.tif"):
        fuse_files(stills(folder), tmp_path / "face.jpg")


@pytest.mark.parametrize("kind", ["clip", "stills"])
def test_the_clip_of_the_tour_gives_more_than_interpolation(kind: str, tmp_path: Path) -> None:
    """Its frames have noise that is equal in red, green and blue, and levels of video, though no codec changed them.

    Stills that do not say so were taken for a compressed video's, whose frames have no noise, and gave chequers.
    """
    write_clip(tmp_path / "clip.mkv")
    x, y, width, height = map(int, FACE.split(","))
    track = follow(tmp_path / "clip.mkv", Mark.of((x, y, width, height), 4, None), most=5)
    found = read_crops(TrackSource(tmp_path / "clip.mkv", track, 4, 5))
    frames = [BurstFrame.of(crop) for crop in found.crops]
    if kind == "stills":
        frames = [replace(one, frame=None, box=None, picture=replace(one.picture, footage=None)) for one in frames]
    done = fuse_stills(frames, reference=found.reference, affine=False)
    scene = Image.fromarray(data.astronaut()).resize((192, 160), Image.Resampling.BICUBIC, box=clip_box(4))
    truth = luma_of(picture_of(scene).pixels)[2 * y : 2 * (y + height), 2 * x : 2 * (x + width)]

    def psnr(picture: Picture) -> float:
        return psnr_db(float((luma_of(picture.pixels) - truth)[4:-4, 4:-4].square().mean()))

    gain = psnr(done.picture) - psnr(done.plain)
    assert done.verdict.fuse
    assert gain > 3


def test_stills_in_lossy_webp_are_no_videos_frames() -> None:
    """Their files say how coarsely they are quantised."""
    files = [io.BytesIO() for _ in range(4)]
    for file, frame in zip(files, crops(4, colour=True)[0], strict=True):
        Image.fromarray(frame).save(file, "WEBP", quality=60)
    pictures = [decode_picture(file.getvalue(), "x.webp") for file in files]
    steps = [picture.webp_step for picture in pictures]
    facts = fuse_stills([BurstFrame(picture, f"{n}", f"{n}") for n, picture in enumerate(pictures)]).degradation
    assert facts.codec == "webp"
    assert facts.values.jpeg in [jpeg_of_webp(step) for step in steps if step is not None]
    assert "WebP" in facts.why
    assert "video" not in facts.why


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """Two tracks of four stills of 24 pixels."""
    frames, _ = burst(motion(4), CAMERA, noise=2 / 255)
    for name, track in (("one", frames), ("two", frames.flip(-1))):
        (tmp_path / "case" / name).mkdir(parents=True)
        for place, frame in enumerate(track):
            Image.fromarray(to_levels(frame)[0].numpy()).save(tmp_path / "case" / name / f"{place:02}.png")
    return tmp_path / "case"


def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning is quick."""
    schedule = learnt.OWN_SETTINGS.schedule.model_copy(update={"iterations": 5})
    monkeypatch.setattr(learnt, "OWN_SETTINGS", learnt.OWN_SETTINGS.model_copy(update={"schedule": schedule}))
    monkeypatch.setattr(learnt, "_BURSTS", 3)


def test_a_mean_of_the_tracks_own_frames_is_internal(case: Path, tmp_path: Path, monkeypatch) -> None:
    few(monkeypatch)
    paths = stills(case / "one")
    done = fuse_files(paths, tmp_path / "own.png", camera=CAMERA, affine=False, mean=MeanOption("own"))
    assert 0 < done.added.mean() < 5
    record = json.loads((tmp_path / "own.json").read_text("utf-8"))
    assert record["label"] == "internal"
    assert "these 4 frames of this track" in record["label_means"]
    assert "these 4 frames of this track" in read_provenance(tmp_path / "own.png")["zssr-gan:label"]
    assert [image["sha256"] for image in record["mean"]["model"]["images"]] == sorted(map(sha256_file, paths))
    assert verify_fusion(tmp_path / "own.json", rerun=True).ok
    record["label"] = "fused"
    (tmp_path / "own.json").write_text(json.dumps(record), "utf-8")
    assert not verify_fusion(tmp_path / "own.json").ok


def test_a_mean_of_the_case_has_a_file_that_serves_again(case: Path, tmp_path: Path, monkeypatch) -> None:
    few(monkeypatch)
    one, model = stills(case / "one"), tmp_path / "own_mean.safetensors"
    fuse_files(one, tmp_path / "own.png", camera=CAMERA, affine=False, mean=MeanOption("shared", case))
    record = json.loads((tmp_path / "own.json").read_text("utf-8"))
    assert (record["label"], record["mean"]["model"]["path"]) == ("case", model.name)
    assert len(record["mean"]["model"]["images"]) == 8
    assert verify_fusion(tmp_path / "own.json", rerun=True).ok
    again = fuse_files(one, tmp_path / "again.png", affine=False, mean=MeanOption("shared", model))
    assert again.degradation.values == CAMERA
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "own.png").read_bytes()
    other = CAMERA.model_copy(update={"noise": Noise(sigma=3 / 255)})
    with pytest.raises(SettingsError, match="another degradation"):
        fuse_files(one, tmp_path / "b.png", camera=other, affine=False, mean=MeanOption("shared", model))
    model.write_bytes(model.read_bytes() + b" ")
    assert [check.name for check in verify_fusion(tmp_path / "own.json").checks if not check.ok] == ["mean"]


@pytest.mark.parametrize(("kind", "path"), [("shared", None), ("own", Path("a")), ("others", None)])
def test_a_mean_that_makes_no_sense_is_named(kind: str, path: Path | None) -> None:
    with pytest.raises(SettingsError, match=r"--mean shared|none, own or shared"):
        MeanOption(kind, path)


def test_a_degradation_that_others_taught_makes_it_a_case() -> None:
    assert label_of("a", ["a", "b"], frames=["a", "b"]) == "fused"
    assert label_of("a", ["a", "c"], frames=["a", "b"]) == "case"
    assert label_of("a", ["a"]) == "internal"
