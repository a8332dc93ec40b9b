import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.demo import write_clip
from tests.web.client import Client
from zssr_gan.cli.main import main
from zssr_gan.files import sha256_bytes
from zssr_gan.imaging.sheets import LIMITS
from zssr_gan.web.case_folder import open_case
from zssr_gan.web.log import read_log
from zssr_gan.web.report import make_report
from zssr_gan.web.results import results
from zssr_gan.web.site import Site
from zssr_gan.web.worker import preview_of


@pytest.fixture
def case(tmp_path: Path, site: Site, client: Client, monkeypatch: pytest.MonkeyPatch) -> str:
    """A case with a picture and what its job, run here by the command that the server queued, made of it."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    name: str = client.post("/api/cases", {"title": "a"}).json["id"]
    open_case(site.cases, name).add_original(tmp_path / "a.png", "a.png", "me")
    asked = {"kind": "enhance", "originals": ["1"], "options": {"method": "fast", "scale": 2, "degradation": "bicubic"}}
    plan = client.post(f"/api/cases/{name}/plan", asked).json
    assert plan.keys() >= {"command", "label", "sentence", "seconds", "notices"}
    job = client.post(f"/api/cases/{name}/jobs", asked)
    assert (job.status, job.json["state"], job.json["command"]) == (201, "queued", plan["command"])
    claimed = site.queue.claim("cpu")
    assert claimed
    monkeypatch.chdir(site.cases / name)
    assert main(claimed.argv) == 0
    site.queue.finish(claimed.id, "done", None)
    failed = site.cases / name / "results" / "2_enhance"  # of a job that made nothing
    failed.mkdir()
    (failed / "printed.txt").write_text("error: no memory")
    return f"/api/cases/{name}"


def test_a_result_is_shown_beside_its_plain_enlargement(tmp_path: Path, site: Site, client: Client, case: str) -> None:
    (one,) = client.get(case).json["results"]
    assert (one["width"], one["height"], one["label"], one["bicubic"]) == (18, 16, "internal", True)
    assert not any(key.startswith("_") for key in one)
    place = f"{case}/results/{one['id']}"
    scale = json.loads(client.get(f"{place}/evidence.png").header("x-zssr-gan-scale") or "")
    assert scale["bright"] in LIMITS
    assert (scale["dark"], scale["unit"]) == (0, "levels of 255")
    for name in ("view.png", "bicubic.png", "evidence.png"):
        answer = client.get(f"{place}/{name}")
        (tmp_path / "shown.png").write_bytes(answer.body)
        with Image.open(tmp_path / "shown.png") as shown:
            assert shown.size == (18, 16), name
    assert client.get(f"{place}/record.json").json["output"]["width"] == 18
    saved = client.get(f"{place}/file")
    assert (saved.header("content-disposition") or "").startswith("attachment")
    *_, last = read_log(site.cases / "a")
    taken = {"file": "results/1_enhance/a_x2.png", "sha256": sha256_bytes(saved.body)}
    assert (last["act"], last["facts"]) == ("downloaded", taken)
    assert client.send("HEAD", f"{place}/file").status == 200
    assert read_log(site.cases / "a")[-1] == last
    assert client.get(f"{place}/lossy").status == 404
    assert client.get(f"{case}/results/none/view.png").error == "the case has no result none; load the page again."
    (listed,) = client.get("/api/cases").json
    assert listed["results"] == 1
    # What is not there yet says so.
    assert client.get(f"{case}/package.zip").error == "no package was made of this case yet: make one first."
    assert client.get(f"{case}/report/index.html").status == 404
    assert client.get(f"{case}/tracks/1").status == 404
    assert client.send("PUT", f"{case}/tracks/1", [b'{"frames": []}']).status == 400
    assert client.send("PUT", f"{case}/tracks/1/name", [b'{"name": "a"}']).error == (
        "the case has no track 1; load the page again."
    )
    assert client.get(f"{case}/estimates/1/plot.png").status == 404
    wrong = client.post(f"{case}/jobs", {"kind": "enhance", "originals": ["7"], "options": {}})
    assert wrong.status == 400
    report = site.cases / "a" / "report" / "index.html"
    report.parent.mkdir(exist_ok=True)
    report.write_text("<script>")
    policy = (client.get(f"{case}/report/index.html").header("content-security-policy") or "").split("; ")
    assert {"sandbox", "default-src 'none'"} <= set(policy)
    # Nothing of a case outlives it.
    assert [*(site.state / "pictures").iterdir()]
    preview = preview_of(site.cases, 1)
    preview.parent.mkdir()
    preview.touch()
    assert client.send("DELETE", case, [b'{"title": "a"}']).status == 200
    assert [*(site.state / "pictures").iterdir(), *preview.parent.iterdir()] == []
    assert {method["id"] for method in client.get("/api/methods").json} >= {"fast", "fuse"}


def test_a_video_result_is_shown_beside_the_plain_enlargement_of_its_frame(
    tmp_path: Path, site: Site, client: Client
) -> None:
    write_clip(tmp_path / "a.mkv")
    name: str = client.post("/api/cases", {"title": "a"}).json["id"]
    case = open_case(site.cases, name)
    original = case.add_original(tmp_path / "a.mkv", "a.mkv", "me")
    place = case.folder / "results" / "1_video"
    place.mkdir()
    write_clip(place / "b.mkv")
    camera = {"values": None, "why": "a"}
    record = {
        **{"clip_version": 1, "label": "internal", "label_means": "m", "lossy": None},
        "request": {"degradation": camera, "scale": [2, 2], "region": None, "preset": "fast"},
        "output": {"name": "b.mkv", "width": 64, "height": 48},
        "input": {"sha256": original.sha256},
        "notices": ["sound is left out: the result holds the frames alone", "a notice"],
        "frames": [{"index": number, "field": None, "box": [8, 4, 32, 24]} for number in (2, 3)],
    }
    (place / "b.json").write_text(json.dumps(record))
    (one,) = client.get(f"/api/cases/{name}").json["results"]
    assert (one["bicubic"], one["frame"], one["notices"]) == (True, 2, ["a notice"])
    assert one["made"] == "2 frames of the video, without its sound"
    view = client.get(f"/api/cases/{name}/results/{one['id']}/bicubic.png")
    frames = client.get(f"/api/cases/{name}/originals/1/frames/2.png")
    assert client.get(f"/api/cases/{name}/originals/1/frames/1.png").body != frames.body
    with Image.open(io.BytesIO(view.body)) as plain, Image.open(io.BytesIO(frames.body)) as frame:
        box = frame.convert("RGB").crop((8, 4, 40, 28)).resize((64, 48), Image.Resampling.BICUBIC)
        difference = np.abs(np.asarray(plain, int) - np.asarray(box, int))
    assert difference[4:-4, 4:-4].mean() < 1
    # And so is any other frame.
    shown = f"/api/cases/{name}/results/{one['id']}"
    assert (one["frames"], client.get(f"{shown}/frames").json) == (2, [2, 3])
    second = client.get(f"{shown}/view.png?frame=1").body
    assert second == client.get(f"/api/cases/{name}/originals/1/frames/1.png").body  # the result has the clip's own
    assert second != client.get(f"{shown}/view.png").body == client.get(f"{shown}/view.png?frame=0").body
    assert client.get(f"{shown}/bicubic.png?frame=1").body != view.body == client.get(f"{shown}/bicubic.png").body
    for number in ("2", "-1", "x", "9" * 30):
        assert "has no frame" in client.get(f"{shown}/view.png?frame={number}").error
        assert client.get(f"{shown}/bicubic.png?frame={number}").status == 404
    page = make_report(case).decode()
    assert page.count("<img") == 2
    assert "plain enlargement (bicubic), frame 2" in page
    record["frames"] = [{**one, "field": "top"} for one in record["frames"]]
    (place / "b.json").write_text(json.dumps(record))
    assert [one["bicubic"] for one in results(case)] == [False]
