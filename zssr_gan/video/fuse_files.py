"""Files of frames in, an image out with its evidence and a record of every frame; and a record verified, made again."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import JsonValue
from torch import Tensor

from zssr_gan.devices import RunOptions, machine
from zssr_gan.errors import SettingsError, ZssrGanError
from zssr_gan.files import check_unchanged, relative_path, sha256_bytes, write_together
from zssr_gan.imaging.io import encode_picture
from zssr_gan.imaging.picture import Metadata
from zssr_gan.imaging.sheets import encode_sheet, map_sheet
from zssr_gan.inference.batch import written_file
from zssr_gan.inference.outputs import check_new_files
from zssr_gan.inference.record import DegradationFacts, RecordError, encode_json, versions
from zssr_gan.inference.request import find_file
from zssr_gan.inference.verify import Check, Verification, check_files, check_label, check_rerun, difference, own_text
from zssr_gan.provenance import LABELS, STATEMENT, Label, label_of, provenance_text, strongest
from zssr_gan.video.case_mean import MeanOption, OnProgress
from zssr_gan.video.crops import TrackSource
from zssr_gan.video.folder import files_of
from zssr_gan.video.fuse import NO_MEAN, Camera, FusedStills, fuse_stills
from zssr_gan.video.fuse_input import FusionInput, recorded_source, shown_as_asked, size_of
from zssr_gan.video.learnt import PULL
from zssr_gan.zeroshot.shared import encode_shared

_METHOD = (
    "registration: Lucas and Kanade 1981, Baker and Matthews 2004",
    "camera at sub-pixel places: Elad and Feuer 1997",
    "robust maximum a posteriori: Farsiu et al. 2004; like patches: Buades et al. 2005",
    "compression: Gunturk et al. 2004; of video: Segall et al. 2004",
    "refined motion: Hardie et al. 1997",
    "frames held out: Stone 1974",
)

_FOLLOWED = ("tracking: Lewis 1995, Kalal et al. 2010",)

_LEARNT = ("pairs across scales: Shocher et al. 2018", "learnt proximal step: Zhang et al. 2017")

_OWN = "The pixels were learnt from these {} frames of this track alone; no other image had a part in them."


def fuse_files(
    source: Sequence[Path] | TrackSource,
    output: Path,
    scale: int = 2,
    reference: int = 0,
    camera: Camera = None,
    *,
    affine: bool = True,
    mean: MeanOption = NO_MEAN,
    options: Sequence[Path] = (),
    sheet: bytes | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> FusedStills:
    """Fuse the stills in files, and write the result, the reference frame enlarged plainly, and a record beside it.

    Args:
        source: the files in the order of time, or the frames of a track, whose own reference then counts.
        output: a .png or .tif; `NAME_bicubic`, `NAME_evidence.png` and `NAME.json` come beside it, and
            `NAME_mean.safetensors` where a mean is learnt on a case.
        scale, reference, camera, affine, mean: see `fuse`.
        options: files that options name, none of which is ever replaced.
        sheet: a PNG file of where a track's region was found, written as `NAME_track.png`.
        overwrite: replace files that exist.
        on_progress: called while a mean is learnt, with the stage, how much is done, and how much there is.

    Raises:
        ImageError: a file cannot be read or was changed meanwhile; and as `fuse`.
        SettingsError: as `fuse`.
        OutputError: a file exists, or cannot be written.
    """
    inputs = [*(files_of(source.video) if isinstance(source, TrackSource) else source), *options]
    check_outputs(output, inputs, mean, followed=sheet is not None, overwrite=overwrite)
    done, contents = _made(source, output, scale, reference, camera, affine=affine, mean=mean, on_progress=on_progress)
    if sheet is not None:
        contents[_sheet_of(output)] = sheet
    write_together(contents, replaceable=list(contents) if overwrite else [])
    return done


def check_outputs(output: Path, inputs: Sequence[Path], mean: MeanOption, *, followed: bool, overwrite: bool) -> None:
    """Make sure, before any work, that a result and what comes beside it can be written.

    Args:
        output: the result.
        inputs: files that must not be written over.
        mean: what it is pulled to, whose model may be written.
        followed: whether a region is followed now, whose sheet is written.
        overwrite: replace files that exist.

    Raises:
        SettingsError: the output is no .png or .tif.
        OutputError: a file exists, is an input, or cannot be written.
    """
    if output.suffix.lower() not in (".png", ".tif", ".tiff"):
        raise SettingsError(f"-o {output}: the result is a .png or .tif file, with its record beside it")
    *always, model = _outputs(output)
    learns = mean.init_from is not None and mean.init_from.is_dir()
    check_new_files([*always, *[model] * learns, *[_sheet_of(output)] * followed], inputs, overwrite=overwrite)


def _outputs(output: Path) -> tuple[Path, Path, Path, Path, Path]:
    """Result, plain enlargement, evidence, record, and the model of a mean."""
    plain, evidence, model = (
        output.with_name(f"{output.stem}_{end}")
        for end in (f"bicubic{output.suffix}", "evidence.png", "mean.safetensors")
    )
    return output, plain, evidence, output.with_suffix(".json"), model


def _sheet_of(output: Path) -> Path:
    return output.with_name(f"{output.stem}_track.png")


def _made(
    source: Sequence[Path] | TrackSource,
    output: Path,
    scale: int,
    reference: int,
    camera: Camera,
    *,
    affine: bool,
    mean: MeanOption,
    on_progress: OnProgress | None = None,
) -> tuple[FusedStills, dict[Path, bytes]]:
    """A result, and the files that are written of it."""
    _, plain, evidence, record, new_model = _outputs(output)
    with machine(RunOptions("cpu", threads=1)):  # sums in one order, for the same bytes
        given = FusionInput.of(source, reference, output.parent)
        stills, reference = given.stills, given.reference
        done = fuse_stills(
            stills, scale, reference, camera,
            affine=affine, start=given.start, mask=given.mask, mean=mean, on_progress=on_progress,
        )  # fmt: skip
        if isinstance(source, TrackSource):
            done = shown_as_asked(done, source, stills[reference])
            done = replace(done, left_out=given.left_out)
    hashes = [still.sha256 for still in stills]
    shared = done.mean is not None and mean.kind == "shared"
    label = _label(hashes, reference, done.degradation, None if done.mean is None else mean.kind)
    means = _OWN.format(len(stills)) if label == "internal" else LABELS[label]
    facts = {"reference": stills[reference].name, "frames": str(len(stills)), "scale": str(scale)}

    def text(kind: str) -> dict[str, str]:
        fields = provenance_text(kind=kind, version=versions()["zssr-gan"], label=label, facts=facts)
        return fields | {"zssr-gan:label": f"{label}: {means}"}

    contents = {
        path: encode_picture(replace(picture, metadata=Metadata()), path.suffix, text(kind))
        for path, kind, picture in ((output, "result", done.picture), (plain, "plain enlargement", done.plain))
    }
    contents[evidence] = encode_sheet(_maps(done), "evidence map", text("evidence map"))
    model_file = None
    if shared and done.mean is not None:
        if mean.init_from is not None and mean.init_from.is_dir():
            contents[new_model] = encode_shared(done.mean.weights_P, done.mean.facts)
            model_file = new_model
        else:
            model_file = mean.init_from
    for path, sha256 in given.files.items():
        check_unchanged(path, sha256)
    contents[record] = encode_json(
        {
            "fusion_version": 1,
            "tool": {"name": "zssr-gan", "version": versions()["zssr-gan"]},
            "versions": dict(versions()),
            "label": label,
            "label_means": means,
            "statement": STATEMENT,
            "method": [*_FOLLOWED * (given.video is not None), *_METHOD, *_LEARNT * (done.mean is not None)],
            "scale": scale,
            "affine": affine,
            "reference": reference,
            "degradation": done.degradation.model_dump(mode="json"),
            "compression": done.compression,
            "verdict": _json(done.verdict),
            "mean": None
            if done.mean is None
            else {
                "kind": mean.kind,
                "pull": PULL,
                "added_levels": {"mean": float(done.added.mean()), "largest": float(done.added.max())},
                "model": {
                    "path": None if model_file is None else relative_path(model_file, output.parent),
                    "sha256": done.mean.sha256,
                    "settings_sha256": done.mean.facts.settings_sha256,
                    "images": [image.model_dump(mode="json") for image in done.mean.facts.images],
                },
            },
            "phases": list(done.fused.phases),
            "support": {"mean": float(done.shown.support.mean()), "least": float(done.shown.support.min())},
            "reference_alone": done.fused.alone,
            "video": given.video,
            "aspect": None
            if done.stored is None
            else {"from": list(done.stored), "to": size_of(done.picture), "by": "antialiased bicubic (Keys, a = -0.5)"},
            "frames": [{**one, **_json(fact)} for one, fact in zip(given.frames, done.fused.frames, strict=True)],
            "output": written_file(output, contents).model_dump(mode="json"),
            "plain": written_file(plain, contents).model_dump(mode="json"),
            "evidence": written_file(evidence, contents).model_dump(mode="json"),
        }
    )
    return done, contents


def _label(hashes: Sequence[str], reference: int, camera: DegradationFacts, mean: str | None) -> Label:
    """Of a result of these frames, with the kind of mean that it was pulled to."""
    label = label_of(hashes[reference], camera.learnt_from, frames=hashes, shared=mean == "shared")
    return label if mean is None else strongest(label, "internal")


def _maps(done: FusedStills) -> Tensor:
    """The evidence: how many frames pixels rest on, what the reference frame misses, and what was learnt."""
    maps = [
        (done.shown.support, "How many frames each pixel rests on, in effect"),
        (done.shown.residual.abs(), "How far the reference frame is from the result as its camera takes it (levels)"),
    ]
    if done.mean is not None:
        maps.append((done.added, "What the learnt mean changed (levels of 255)"))
    return map_sheet(maps)


def verify_fusion(path: Path, *, rerun: bool = False) -> Verification:
    """Compare the frames and files of a fusion with its record; with `rerun`, fuse again; compare bytes and records.

    Raises:
        RecordError: a broken record, or one of another version.
    """
    try:
        record = json.loads(path.read_bytes())
        if record["fusion_version"] != 1:
            raise RecordError(f"{path}: a record of fusion {record['fusion_version']}; this program reads version 1")
        folder = path.absolute().parent
        source, checks = recorded_source(record, folder)
        output = folder / Path(record["output"]["name"]).name
        checks += check_files(folder, *((kind, record.get(kind)) for kind in ("output", "plain", "evidence")))
        camera = DegradationFacts.model_validate(record["degradation"])
        hashes = [frame["sha256"] for frame in record["frames"]]
        used, model = record.get("mean"), None
        least = _label(hashes, record["reference"], camera, None if used is None else used["kind"])
        if used is not None and used["model"]["path"] is not None:
            model = find_file(used["model"]["path"], folder)
            checks += check_files(folder, ("mean", used["model"]))
        mean = MeanOption("none" if used is None else used["kind"], model)
        means, statement = record["label_means"], record["statement"]
        checks.append(check_label(record["label"], least, own_text(output), means=means, statement=statement))
        if rerun:
            try:
                scale, reference, affine = record["scale"], record["reference"], record["affine"]
                _, made = _made(source, output, scale, reference, camera, affine=affine, mean=mean)
                again = json.loads(made[output.with_suffix(".json")])
                same = again["versions"] == record["versions"]
                versions_differ = "" if same else "; library versions differ from the recorded ones"
                if sha256_bytes(made[output]) == record["output"]["sha256"]:
                    checks.append(check_rerun(record, again, versions_differ))
                else:
                    how = difference(made[output], output)
                    checks.append(Check("rerun", False, f"made again from the record: {how}{versions_differ}"))
            except ZssrGanError as error:
                checks.append(Check("rerun", False, f"not made: {error}"))
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise RecordError(f"{path}: a broken record: {type(error).__name__}: {error}") from error
    return Verification(path, tuple(checks))


def _json(facts: Any) -> dict[str, JsonValue]:
    return dict(asdict(facts))
