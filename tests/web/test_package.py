import html
import json
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from zssr_gan.cli.main import main
from zssr_gan.files import sha256_bytes, sha256_file
from zssr_gan.inference.verify import Verification, verify_record
from zssr_gan.settings.base import write_yaml
from zssr_gan.web import log
from zssr_gan.web.case_folder import Case, create_case, edit_case, read_case
from zssr_gan.web.opened import open_folder
from zssr_gan.web.package import PackageError, make_package, verify_package
from zssr_gan.web.report import make_report
from zssr_gan.web.results import results

TINY = {"network": {"depth": 2, "width": 4}, "schedule": {"kind": "cosine", "iterations": 2}}


def run_job(case: Case, number: int, source: str) -> None:
    """What a worker does for one job of enhancing."""
    folder = f"results/{number}_enhance"
    argv = ["enhance", source, "-o", f"{folder}/", "--preset", "tiny.yaml", "--threads", "1", "-q", "--evidence"]
    log.append_once(case.folder, "ann", "job queued", number, 1, kind="enhance", argv=argv)
    (case.folder / folder).mkdir()
    assert main(argv) == 0
    files = {path.relative_to(case.folder).as_posix(): sha256_file(path) for path in (case.folder / folder).iterdir()}
    log.append_once(case.folder, "ann", "job ended", number, 1, code=0, state="done", message=None, files=files)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, face: Tensor) -> Path:
    """A case with one original and its result; shared, so not to be changed."""
    folder = tmp_path_factory.mktemp("cases")
    made = create_case(folder, "Car <park>", "ann")
    Image.fromarray(np.round(face[0].numpy() * 255).astype(np.uint8)).save(folder / "upload.png")
    made.add_original(folder / "upload.png", "My face.png", "ann")
    (made.folder / "tiny.yaml").write_text(write_yaml(TINY), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.folder)
        run_job(made, 1, "originals/My-face.png")
    return made.folder


@pytest.fixture
def case(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(finished, tmp_path / "case")
    return tmp_path / "case"


@pytest.fixture(scope="session")
def package(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its package; shared, so not to be changed."""
    path = tmp_path_factory.mktemp("package") / "case.zip"
    assert main(["case", "package", str(finished), "-o", str(path)]) == 0
    return path


def test_a_folder_is_no_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 2
    assert f"make the package of a case first: zssr-gan case package {tmp_path} -o case.zip" in " ".join(
        capsys.readouterr().err.split()
    )


def test_a_package_is_checked_and_made_again(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(package), "--rerun"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["files", "ok"], ["log", "ok"], ["log", "ok"], ["record", "ok"]]
    assert "made again from the record: the same bytes" in lines[-1]
    with zipfile.ZipFile(package) as content:
        names = content.namelist()
        assert names[:4] == ["README.txt", "COMMANDS.txt", "VERSIONS.txt", "log.jsonl"]
        assert names[-1] == "manifest.json"
        assert {"originals/My-face.png", "results/1_enhance/My-face_x2.png", "case.json"} <= set(names)
        assert not [name for name in names if "/." in name or name.startswith(".")]
        assert "not an identification" in content.read("README.txt").decode().lower()
        assert "zssr-gan enhance originals/My-face.png -o results/1_enhance/" in content.read("COMMANDS.txt").decode()


def test_one_case_gives_one_zip(
    package: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again.zip"
    assert main(["case", "package", str(finished), "-o", str(again)]) == 0
    assert again.read_bytes() == package.read_bytes()
    assert sha256_file(again) in capsys.readouterr().out
    assert main(["case", "package", str(finished), "-o", str(again)]) == 1
    assert main(["case", "package", str(finished / "results"), "-o", str(tmp_path / "x.zip")]) == 2
    assert not (tmp_path / "x.zip").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("results/1_enhance/My-face_x2.png", "was changed"),
        ("results/1_enhance/My-face_x2.json", "was changed"),
        ("originals/My-face.png", "was changed"),
        ("log.jsonl", "was changed"),
        ("COMMANDS.txt", "was changed"),
    ],
)
def test_a_changed_file_is_named(package: Path, tmp_path: Path, name: str, message: str) -> None:
    def change(file: str, data: bytes) -> bytes | None:
        return data[:-2] + b"~~" if file == name else data

    found = checks(rewritten(package, tmp_path, change))
    assert f"file {name}: {message}" in found


def test_a_missing_or_added_file_is_named(package: Path, tmp_path: Path) -> None:
    found = checks(rewritten(package, tmp_path, lambda name, data: None if name == "case.json" else data))
    assert "file case.json: is missing" in found
    found = checks(rewritten(package, tmp_path, lambda _name, data: data, {"results/new.png": b"x"}))
    assert "file results/new.png: is not in the manifest.json" in found


def test_who_changes_the_manifest_too_is_found_by_the_log(case: Path, tmp_path: Path) -> None:
    result = case / "results" / "1_enhance" / "My-face_x2.png"
    result.write_bytes(result.read_bytes() + b"x")
    assert main(["case", "package", str(case), "-o", str(tmp_path / "p.zip")]) == 0
    found = checks(tmp_path / "p.zip")
    assert "log results/1_enhance/My-face_x2.png: the log has another hash" in found
    assert any(line.startswith("record results/1_enhance/My-face_x2.json: output") for line in found)


def test_a_track_is_as_the_log_says(case: Path, tmp_path: Path) -> None:
    track = case / "tracks" / "2_a-edited-1.json"
    track.parent.mkdir(exist_ok=True)
    track.write_text("{}")
    log.append(case, "ann", "track edited", written=f"tracks/{track.name}", sha256=sha256_file(track))
    for number, (data, found) in enumerate((("{}", False), ("[]", True))):
        track.write_text(data)
        assert main(["case", "package", str(case), "-o", str(tmp_path / f"{number}.zip")]) == 0
        said = checks(tmp_path / f"{number}.zip")
        assert (f"log tracks/{track.name}: the log has another hash" in said) == found


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("results/1_enhance/My-face_x2.png", None, "is in the log, but is not here"),
        ("results/1_enhance/My-face_x2.json", None, "is in the log, but is not here"),
        ("originals/My-face.png", None, "is in the log, but is not here"),
        ("originals/other.png", b"x", "was not received, as the log says"),
        ("results/1_enhance/planted.png", b"x", "is not in the log: no job made it"),
        ("case.json", b"{}", "is not as the log says"),
        ("README.txt", b"an identification", "is not as this program writes it of the log"),
        ("VERSIONS.txt", b"zssr-gan 1\nan identification\n", "is not as this program writes it of the log"),
        ("VERDICT.pdf", b"x", "is no file of a package"),
        ("COMMANDS.txt", b"head\nzssr-gan enhance other.png\n", "is not as this program writes it of the log"),
    ],
)
def test_what_the_log_does_not_tell_is_named(
    package: Path, tmp_path: Path, name: str, data: bytes | None, message: str
) -> None:
    def change(file: str, old: bytes) -> bytes | None:
        if file == "manifest.json":
            manifest = json.loads(old)
            manifest["files"].pop(name, None)
            if data is not None:
                manifest["files"][name] = {"bytes": len(data), "sha256": sha256_bytes(data)}
            return json.dumps(manifest).encode()
        return data if file == name else old

    added = {} if data is None or name in content_of(package) else {name: data}
    assert f"log {name}: {message}" in checks(rewritten(package, tmp_path, change, added))


def test_an_exit_code_in_a_comment_is_compared(package: Path, tmp_path: Path) -> None:
    content = content_of(package)
    content["COMMANDS.txt"] = content["COMMANDS.txt"].replace(b"done with exit code 0", b"failed with exit code 1")
    manifest = json.loads(content["manifest.json"])
    facts = {"bytes": len(content["COMMANDS.txt"]), "sha256": sha256_bytes(content["COMMANDS.txt"])}
    manifest["files"]["COMMANDS.txt"] = facts
    content["manifest.json"] = json.dumps(manifest).encode()
    found = checks(rewritten(package, tmp_path, lambda name, _data: content[name]))
    assert found == ["log COMMANDS.txt: is not as this program writes it of the log"]


def test_a_changed_original_is_not_packed(case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original = case / "originals" / "My-face.png"
    original.chmod(0o644)
    original.write_bytes(b"other")
    assert main(["case", "package", str(case), "-o", str(tmp_path / "p.zip")]) == 1
    assert "was changed after it was received" in capsys.readouterr().err
    assert list(tmp_path.glob("*.zip")) == []


def test_a_report_marks_what_was_changed_or_went(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, original = read_case(case), case / "originals" / "My-face.png"
    assert b">unchanged<" in make_report(made)
    original.chmod(0o644)
    original.write_bytes(original.read_bytes() + b"x")
    assert b">CHANGED after it was received<" in make_report(made)
    original.unlink()
    (one,) = results(made)
    (case / "results" / "1_enhance" / "My-face_x2_evidence.png").unlink()
    monkeypatch.setattr("zssr_gan.web.results.results", lambda _case: [one])  # it went meanwhile
    assert b">MISSING<" in make_report(made)


def test_the_report_of_a_package_has_the_title_of_its_log(case: Path, tmp_path: Path) -> None:
    read = read_case(case)
    edit_case(read, "ann", "Another title", "", "")
    make_package(read, tmp_path / "p.zip")
    assert "<title>Another title</title>" in content_of(tmp_path / "p.zip")["report/index.html"].decode()


def test_what_changes_while_a_case_is_packed_costs_nothing(tmp_path: Path) -> None:
    case = create_case(tmp_path, "Race", "ann")
    (tmp_path / "a").write_bytes(b"a")
    case.add_original(tmp_path / "a", "a.png", "ann")
    (case.folder / "results" / "1_fuse").mkdir()
    (case.folder / "results" / "1_fuse" / "z.png").write_bytes(b"z")

    def act(stage: str, *_: object) -> None:
        if stage == "packing" and not (tmp_path / "late").exists():
            (case.folder / "results" / "1_fuse" / "z.png").unlink()
            (tmp_path / "late").write_bytes(b"")
            (tmp_path / "b").write_bytes(b"b")
            case.add_original(tmp_path / "b", "late.png", "ann")
            edit_case(case, "ann", "Other title", "", "")
            log.append_once(case.folder, "ann", "job queued", 1, 1, kind="fuse", argv=["fuse"])

    make_package(case, tmp_path / "p.zip", act)
    assert (tmp_path / "late").exists()
    assert not checks(tmp_path / "p.zip")
    edited = read_case(case.folder)
    assert (edited.facts.title, len(edited.originals())) == ("Other title", 2)
    make_package(edited, tmp_path / "q.zip")
    assert not checks(tmp_path / "q.zip")
    make_package(case, tmp_path / "r.zip")  # was read before its title was edited
    assert (tmp_path / "r.zip").read_bytes() == (tmp_path / "q.zip").read_bytes()


@pytest.mark.parametrize("resumed", ["before", "while", "never"])
def test_files_of_a_resumed_job_are_no_forgeries(tmp_path: Path, resumed: str) -> None:
    case = create_case(tmp_path, "Race", "ann")
    printed, name = case.folder / "results" / "3_fuse" / "printed.txt", "results/3_fuse/printed.txt"
    printed.parent.mkdir()
    (printed.parent / "a.png").write_bytes(b"a")
    printed.write_text("no room")
    files = {path: sha256_file(case.folder / path) for path in (name, "results/3_fuse/a.png")}
    log.append_once(case.folder, "ann", "job queued", 3, 1, kind="fuse", argv=["fuse"])
    log.append_once(case.folder, "ann", "job ended", 3, 1, code=1, state="failed", message="m", files=files)

    def resume(stage: str, *_: object) -> None:
        if (stage == "packing") == (resumed == "while"):
            if resumed != "never":
                log.append_once(case.folder, "ann", "job resumed", 3, 2)
            printed.write_text("it goes on")

    make_package(case, tmp_path / "p.zip", resume)
    assert checks(tmp_path / "p.zip") == ([] if resumed != "never" else [f"log {name}: the log has another hash"])


def test_what_no_job_made_is_named(case: Path, tmp_path: Path) -> None:
    (case / "results" / "9_enhance").mkdir()
    planted = case / "results" / "9_enhance" / "planted.png"
    planted.write_bytes(b"x")
    (case / "originals" / "half.png").write_bytes(b"x")  # a kill came before the log had it
    make_package(read_case(case), tmp_path / "p.zip")
    name = "results/9_enhance/planted.png"
    assert f"log {name}: was found in the case when it was packed: no job made it" in checks(
        tmp_path / "p.zip", ok=True
    )
    assert not checks(tmp_path / "p.zip")
    planted.write_bytes(b"y")
    make_package(read_case(case), tmp_path / "q.zip")
    assert checks(tmp_path / "q.zip") == [f"log {name}: the log has another hash"]


@pytest.mark.parametrize(
    "names", [["IMG.png", "img.png"], ["a\nb.png", "a:b.png", "a%3ab.png"], ["1/a.png", "2/a.png"]]
)
def test_whatever_the_files_of_an_opened_folder_are_named(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / "faces" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "faces" / name).write_text(name)
    case = open_folder(tmp_path / "cases", tmp_path / "faces", "ann")
    make_package(case, tmp_path / "p.zip")
    assert not checks(tmp_path / "p.zip")


def test_records_of_an_opened_folder_have_their_own_originals(tmp_path: Path) -> None:
    for place in ("1", "2"):
        (tmp_path / "faces" / place).mkdir(parents=True)
        (tmp_path / "faces" / place / "a.png").write_text(place)
    case = open_folder(tmp_path / "cases", tmp_path / "faces", "ann")
    for one in case.originals():
        facts = {"path": f"../../../faces/{one.name}", "sha256": one.sha256}
        record = case.folder / "results" / f"{one.id}_enhance" / "a.json"
        record.parent.mkdir()
        record.write_text(json.dumps({"schema_version": 2, "output": {}, "input": facts}))
    make_package(case, tmp_path / "p.zip")
    shutil.rmtree(tmp_path / "faces")
    found = []

    def verify(record: Path) -> Verification:
        source = json.loads(record.read_bytes())["input"]
        found.append(sha256_file(record.with_name("a.png")) == source["sha256"])
        return Verification(record, ())

    assert all(check.ok for check in verify_package(tmp_path / "p.zip", verify))
    assert found == [True, True]


def test_an_opened_folder_is_packed_with_its_originals(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faces").mkdir()
    shutil.copyfile(finished / "originals" / "My-face.png", tmp_path / "faces" / "a.png")
    case = open_folder(tmp_path / "cases", tmp_path / "faces", "ann")
    shutil.copyfile(finished / "tiny.yaml", case.folder / "tiny.yaml")
    monkeypatch.chdir(case.folder)
    run_job(case, 1, case.originals()[0].path)
    make_package(case, tmp_path / "p.zip")
    shutil.rmtree(tmp_path / "faces")
    assert [line for line in checks(tmp_path / "p.zip", ok=True) if not line.startswith(("files", "log"))] == [
        "record results/1_enhance/a_x2.json: as recorded"
    ]


def test_a_report_needs_no_other_file(case: Path, tmp_path: Path) -> None:
    assert main(["case", "report", str(case), "-o", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img ") == 3
    assert page.count('src="data:image/png;base64,') == 3
    assert "Car &lt;park&gt;" in page
    assert "Car <park>" not in page
    assert "not an identification" in page
    assert "http" not in page.replace("http-equiv", "")
    assert sha256_file(case / "originals" / "My-face.png") in page
    size = (case / "originals" / "My-face.png").stat().st_size
    assert f'<td data-name="Bytes" class="number">{size:,}</td>' in page  # named where a narrow window stacks cells
    assert main(["case", "report", str(case), "-o", str(tmp_path / "page.html")]) == 1
    assert main(["case", "package", str(case), "-o", str(tmp_path / "p.zip")]) == 0
    assert not checks(tmp_path / "p.zip")


def entry(name: str, **facts: int) -> Callable[[zipfile.ZipFile], None]:
    def add(package: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        info.filename = name
        for key, value in facts.items():
            setattr(info, key, value)
        package.writestr(info, b"x" * 1000)

    return add


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (entry("../evil"), "leads out"),
        (entry("/etc/evil"), "leads out"),
        (entry("a/../../evil"), "leads out"),
        (entry("C:\\evil"), "leads out"),
        (entry("a\\..\\evil"), "leads out"),
        (entry("a//b"), "leads out"),
        (entry("./a"), "leads out"),
        (entry("link", external_attr=0o120777 << 16), "a link"),
        (entry("device", external_attr=0o020666 << 16), "a link"),
        (entry("folder/"), "leads out"),
        (entry("bomb", compress_type=zipfile.ZIP_DEFLATED), "compressed"),
        (entry("CASE.JSON"), "twice"),
    ],
)
def test_a_hostile_zip_is_one_sentence(
    package: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    add: Callable[[zipfile.ZipFile], None],
    message: str,
) -> None:
    path = tmp_path / "hostile.zip"
    shutil.copyfile(package, path)
    with zipfile.ZipFile(path, "a") as content:
        add(content)
    assert main(["verify", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert {one.name for one in tmp_path.iterdir()} == {"hostile.zip"}


@pytest.mark.parametrize(("count", "seed"), [(60, 0), pytest.param(2000, 1, marks=pytest.mark.slow)])
def test_mutated_zips_are_refused_or_named(package: Path, tmp_path: Path, count: int, seed: int) -> None:
    draws, whole = random.Random(seed), package.read_bytes()
    path = tmp_path / "mutated.zip"
    for _ in range(count):
        data = bytearray(whole)
        at = draws.randrange(len(data) - 600, len(data)) if draws.random() < 0.5 else draws.randrange(len(data))
        way = draws.choice(["flip", "cut", "insert", "zero"])
        if way == "flip":
            data[at] ^= 1 << draws.randrange(8)
        elif way == "cut":
            del data[at:]
        elif way == "insert":
            data[at:at] = draws.randbytes(draws.randrange(1, 40))
        else:
            data[at : at + 30] = bytes(len(data[at : at + 30]))
        path.write_bytes(data)
        try:
            wrong = checks(path)
        except PackageError as error:
            assert "\n" not in str(error)  # noqa: PT017
            continue
        assert wrong or content_of(path) == content_of(package)


def content_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as package:
        return {name: package.read(name) for name in package.namelist()}


def checks(path: Path, *, ok: bool = False) -> list[str]:
    """What is wrong (or all that is found), a line each."""
    return [f"{one.name} {one.text}" for one in verify_package(path, verify_record) if ok or not one.ok]


def rewritten(
    package: Path,
    folder: Path,
    change: Callable[[str, bytes], bytes | None],
    more: dict[str, bytes] | None = None,
) -> Path:
    """The zip with other files, and the same manifest."""
    path = folder / "rewritten.zip"
    with zipfile.ZipFile(package) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            if (data := change(name, old.read(name))) is not None:
                new.writestr(name, data)
        for name, data in (more or {}).items():
            new.writestr(name, data)
    return path


def test_no_package_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.writestr("a.txt", b"x")
    with zipfile.ZipFile(tmp_path / "newer.zip", "w") as newer:
        newer.writestr("manifest.json", json.dumps({"package_version": 2, "files": {}}))
    (tmp_path / "text.zip").write_text("no zip")
    for name, message in (
        ("other.zip", "has no manifest.json"),
        ("newer.zip", "version 2; this program reads 1: upgrade it"),
        ("text.zip", "is no zip"),
        ("none.zip", "no such file"),
    ):
        assert main(["verify", str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err


def test_the_report_of_a_package_names_every_result_in_it(case: Path, tmp_path: Path) -> None:
    made = read_case(case)
    for number, act in ((1, "first"), (2, "result"), (2, "title"), (3, "typed")):
        if act == "result":  # it ends after a report was made
            shutil.copytree(case / "results" / "1_enhance", case / "results" / "2_enhance")
            paths = [path.relative_to(case).as_posix() for path in (case / "results" / "2_enhance").iterdir()]
            files = {name: sha256_file(case / name) for name in paths}
            log.append_once(case, "ann", "job ended", 2, 1, code=0, state="done", message=None, files=files)
        elif act == "title":
            made = edit_case(made, "ann", "Another title", "17/26", "A. L.")
        elif act == "typed":  # of a command that no log tells
            shutil.copytree(case / "results" / "1_enhance", case / "results" / "by_hand")
        path = tmp_path / f"{act}.zip"
        assert main(["case", "package", str(case), "-o", str(path)]) == 0
        assert not checks(path)
        content = content_of(path)
        page = content["report/index.html"].decode()
        results = [name for name in content if name.startswith("results/") and name.endswith("_x2.png")]
        assert len(results) == page.count("<h3>") == number
        assert f"<title>{html.escape(made.facts.title)}" in page
    content["report/index.html"] += b" "
    with zipfile.ZipFile(path) as package:
        manifest = json.loads(package.read("manifest.json"))
    facts = manifest["files"]["report/index.html"]
    facts |= {"bytes": facts["bytes"] + 1, "sha256": sha256_bytes(content["report/index.html"])}
    content["manifest.json"] = json.dumps(manifest).encode()
    changed = rewritten(path, tmp_path, lambda name, _data: content[name])
    assert checks(changed) == ["log report/index.html: the log has another hash"]
