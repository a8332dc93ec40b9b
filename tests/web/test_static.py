"""The files of the page: all of it comes from this server, and nothing in it is inline."""

import re
from pathlib import Path

import pytest

import zssr_gan.web

STATIC = Path(zssr_gan.web.__file__).parent / "static"
FILES = sorted(STATIC.iterdir())
SCRIPTS = [file for file in FILES if file.suffix == ".js"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_names_no_other_host(file: Path) -> None:
    named = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", file.read_text("utf-8")))
    assert named <= {"http://www.w3.org"}  # the name space of SVG, which nobody asks for


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_a_file_refers_to_is_there(file: Path) -> None:
    text = file.read_text("utf-8")
    named = set(re.findall(r"/static/([\w.-]+)", text)) | set(re.findall(r'from "\./([\w.-]+)"', text))
    assert named <= {other.name for other in FILES}


def test_every_file_is_used() -> None:
    texts = "".join(file.read_text("utf-8") for file in FILES)
    used = set(re.findall(r'(?:/static/|from "\./)([\w.-]+)"', texts))
    assert {file.name for file in FILES} - used == {"index.html"}


def test_nothing_is_inline() -> None:
    page = (STATIC / "index.html").read_text("utf-8")
    assert not re.findall(r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*\ssrc=)", page)
    for script in SCRIPTS:
        assert not re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", script.read_text("utf-8")
        )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.name)
def test_what_a_script_imports_is_exported(script: Path) -> None:
    for names, module in re.findall(r'import \{([^}]*)\} from "\./([\w.-]+)"', script.read_text("utf-8")):
        exported = re.findall(
            r"export (?:async )?(?:const|let|function|class) (\w+)", (STATIC / module).read_text("utf-8")
        )
        wanted = {name.split(" as ")[0].strip() for name in names.split(",")}
        assert wanted <= set(exported), module


def test_scripts_are_short() -> None:
    assert not {file.name for file in SCRIPTS if len(file.read_text("utf-8").splitlines()) > 350}
