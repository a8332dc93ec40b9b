from pathlib import Path

from pipelines.tour import make_case
from zssr_gan.web.case_folder import list_cases


def test_the_tours_case_is_made_once(tmp_path: Path) -> None:
    make_case(tmp_path / "cases")
    make_case(tmp_path / "cases")
    (case,) = list_cases(tmp_path / "cases")
    assert [(one.name, one.kind) for one in case.originals()] == [
        ("astronaut.png", "image"),
        ("clip.mkv", "video"),
        ("face-000.png", "image"),
        ("face-005.png", "image"),
    ]
    assert [path.name for path in (tmp_path / "cases").iterdir()] == [case.id]
