"""The process that decodes one video: limits itself, then writes what it finds to standard output.

Run by `zssr_gan.video.io`, which reads the messages. Each is one line of JSON, of a frame followed by its planes and
its QP map as raw bytes: {"info": ...} first, {"frame": ...} for each, {"end": ...} or {"error": sentence} last.
"""

import contextlib
import gc
import hashlib
import heapq
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import inf
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_OLDEST_PYAV = 18  # the first that shows the order of fields
MAX_PIXELS = 100_000_000  # a frame
_BUFFER = 1 << 20  # bytes that are read at once

RAW = {"h264": "H.264", "hevc": "H.265"}
"""Bare streams that are read on request, by their names in libav."""

_MATRICES = {
    0: "rgb", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco", 9: "bt2020nc",
    10: "bt2020c",
}  # fmt: skip
_RANGES = {1: "limited", 2: "full"}  # ITU-T H.273 names both of these tables' codes
_FIELD_ORDERS = {1: "progressive", 2: "top field first", 3: "bottom field first", 4: "top coded first, bottom shown "
                 "first", 5: "bottom coded first, top shown first"}  # fmt: skip
_TYPES = ("", "I", "P", "B", "S", "SI", "SP", "BI")
_COMBING = ("tff", "bff", "progressive", "undetermined")
_NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS

# The same samples, a plane for each component.
_PLANAR = {
    "nv12": "yuv420p", "nv21": "yuv420p", "nv16": "yuv422p", "nv24": "yuv444p", "nv42": "yuv444p",
    "yuyv422": "yuv422p", "uyvy422": "yuv422p", "yvyu422": "yuv422p", "uyyvyy411": "yuv411p",
    "p010le": "yuv420p10le", "p016le": "yuv420p16le", "p210le": "yuv422p10le", "y210le": "yuv422p10le",
    "monow": "gray", "monob": "gray", "ya8": "gray", "ya16le": "gray16le", "pal8": "gbrp",
}  # fmt: skip


class Refused(Exception):
    """Why a video cannot be read, to follow its name."""


def main() -> None:
    """Decode the video that the JSON in the last argument asks for."""
    request = json.loads(sys.argv[-1])
    output = os.fdopen(os.dup(1), "wb", buffering=_BUFFER)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever else prints
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both; the reader ends this process
        try:
            import av
        except ImportError as error:
            raise Refused(f"PyAV cannot be loaded ({error}): pip install 'zssr-gan[video]'.") from error
        if int(av.__version__.partition(".")[0]) < _OLDEST_PYAV:
            raise Refused(f"PyAV {av.__version__} is too old: pip install -U 'zssr-gan[video]'.")
        av.logging.set_level(av.logging.PANIC)
        gc.freeze()
        limit_memory(request["memory_bytes"])
        limit_time(request["seconds"])
        for message, payload in _decode(av, request):
            limit_time(request["seconds"])
            _write(output, message, payload)
            output.flush()
            del message, payload
            gc.collect()  # PyAV's frames and their side data hold each other: large frames must not wait for their turn
    except Refused as refused:
        _write(output, {"error": str(refused)})
    except MemoryError:
        _write(output, {"error": f"needs more memory to decode than {request['memory_bytes'] / 2**30:.2g} GiB."})
    except BrokenPipeError:  # the reader has seen enough
        os._exit(0)
    except Exception as error:  # of a library, on damaged bytes
        _write(output, {"error": f"cannot be decoded ({' '.join(f'{type(error).__name__}: {error}'.split())})."})
    output.flush()
    os._exit(0)  # what libraries do at their end can no longer fail


def limit_memory(size: int) -> None:
    """Let no more than `size` bytes be allocated beside what is loaded; where the system cannot, nothing happens."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # not on Windows; macOS has no /proc
        import resource

        size += int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_time(seconds: float) -> None:
    """Let the system end this process where it computes so long before the next message, reader or no reader."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 1, hard))


def _write(output: BinaryIO, message: dict[str, Any], payload: Sequence[NDArray[Any]] = ()) -> None:
    size = sum(array.nbytes for array in payload)
    output.write(json.dumps({**message, "bytes": size}).encode() + b"\n")
    for array in payload:
        output.write(array.data)


def _decode(av: Any, request: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[NDArray[Any]]]]:
    # Opened here: libav can neither write to it nor open what the file names (playlists, other files, the network).
    with Path(request["path"]).open("rb") as file:
        head = file.read(_BUFFER)
        file.seek(0)
        with _opened(av, file, head, request) as container:
            yield from _frames(av, container, request)


def _opened(av: Any, file: BinaryIO, head: bytes, request: dict[str, Any]) -> Any:
    raw = request["raw"]
    try:
        container = av.open(
            file,
            format=raw,
            options={"protocol_whitelist": "none", "max_pixels": str(MAX_PIXELS)},
            metadata_errors="replace",
            buffer_size=_BUFFER,
        )
    except av.error.MemoryError as error:
        raise MemoryError from error
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise Refused(_unreadable(head, raw, error)) from error
    kind = container.format.name
    if kind.endswith("_pipe") or kind in ("image2", "tty"):
        raise Refused(f"is {'text' if kind == 'tty' else 'a picture, which zssr-gan enhance reads'}, not a video.")
    if kind in RAW and raw is None:
        raise Refused(f"is a bare {RAW[kind]} stream without times: --raw {kind} reads it, its times 'not known'.")
    return container


def _unreadable(head: bytes, raw: str | None, error: Exception) -> str:
    if not head:
        return "is empty."
    begins = f"it begins with {head[:8].hex(' ')}"
    if raw is not None:
        return f"no {RAW[raw]} stream is found in it ({begins})."
    why = getattr(error, "strerror", None) or str(error)
    more = ""
    if b"\0\0\1\x67" in head or b"\0\0\1\x27" in head:
        more = "; an H.264 stream seems to be inside: --raw h264 reads it, its times 'not known'"
    elif b"\0\0\1\x40\1" in head:
        more = "; an H.265 stream seems to be inside: --raw hevc reads it, its times 'not known'"
    return f"is damaged, or no video of a kind that is read ({why}; {begins}){more}."


def _frames(av: Any, container: Any, request: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[NDArray[Any]]]]:
    cover = av.stream.Disposition.attached_pic
    videos = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not videos:
        raise Refused(f"holds no video ({container.format.long_name}).")
    stream = videos[0]
    context = stream.codec_context
    if context is None:
        raise Refused("its video is coded in a way that this build of PyAV does not decode.")
    if context.width * context.height > MAX_PIXELS:
        raise Refused(
            f"its frames have {context.width}x{context.height} px, more than {MAX_PIXELS // 10**6} megapixels."
        )
    # One thread: what is concealed of damaged frames does not depend on which thread was faster.
    context.thread_count = 1
    context.options = {
        "export_side_data": "venc_params",  # QP
        "flags": "+output_corrupt", "flags2": "+showall",  # flagged, not dropped
        "max_pixels": str(MAX_PIXELS),
    }  # fmt: skip
    timed = not container.format.flags & _NO_TIMESTAMPS
    top_first = _Filter(av, "select", "eq(interlace_type,TOPFIRST)")  # a flag that PyAV shows to filters alone
    idet = _Filter(av, "idet", "") if request["combing"] else None  # counts what looks interlaced, whatever the flags
    index, undecodable, ended, combing, moved, lost = 0, 0, "", dict[str, int](), False, inf
    if request["seek"] is not None:
        container.seek(request["seek"], stream=stream)
    # AVI stores when packets are decoded, not when frames are shown: the k-th frame shown has the k-th of its times.
    reordered: list[int] | None = [] if container.format.name == "avi" else None
    packets = container.demux(stream)
    while True:
        try:
            if (packet := next(packets, None)) is None:
                break
        except av.error.FFmpegError as error:
            ended = error.strerror
            break
        if reordered is not None and packet.pts is not None and packet.size:
            heapq.heappush(reordered, packet.pts)
        try:
            decoded = packet.decode()
        except (av.error.MemoryError, MemoryError) as error:
            raise MemoryError from error
        except av.error.FFmpegError:
            undecodable += 1
            lost = min(lost, -inf if packet.pts is None else packet.pts)  # until a frame comes that is shown later
            if reordered and packet.pts in reordered:
                reordered.remove(packet.pts)
                heapq.heapify(reordered)
            continue
        for frame in decoded:
            if not index:
                yield {"info": _info(container, stream, frame, len(videos))}, []
            pts = heapq.heappop(reordered) if reordered and frame.pts is not None else frame.pts
            moved |= pts != frame.pts
            message, payload = _message(frame, stream.codec.name, index, stream.index)
            first = bool(list(top_first.frames(frame))) if frame.interlaced_frame else None
            gone = (inf if frame.pts is None else frame.pts) > lost
            lost = inf if gone else lost
            message |= {"pts": pts if timed else None, "top_field_first": first, "after_damage": gone}
            for seen in idet.frames(frame) if idet is not None else ():
                combing = {kind: round(float(seen.metadata[f"lavfi.idet.multiple.{kind}"])) for kind in _COMBING}
            yield {"frame": message}, payload
            index += 1
    if not index:
        raise Refused(f"no frame of it can be decoded (damaged packets: {undecodable}).")
    counts = {"undecodable": undecodable, "frames": index, "declared": stream.frames or index}
    yield {"end": {**counts, "ended": ended, "combing": combing, "moved": moved}}, []


def _info(container: Any, stream: Any, frame: Any, videos: int) -> dict[str, Any]:
    context, libav = stream.codec_context, sys.modules["av"]
    timed = not container.format.flags & _NO_TIMESTAMPS
    return {
        "container": container.format.long_name,
        "codec": stream.codec.name,
        "codec_name": stream.codec.long_name,
        "profile": context.profile,
        "stream": stream.index,
        "video_streams": videos,
        "width": context.width,
        "height": context.height,
        "sample_aspect_ratio": _ratio(stream.sample_aspect_ratio),
        "pixel_format": frame.format.name,
        "colour_range": _RANGES.get(frame.color_range),
        "matrix": _MATRICES.get(frame.colorspace),
        "rotation": frame.rotation,
        "time_base": _ratio(stream.time_base) if timed else None,
        "average_rate": _ratio(stream.average_rate) if timed else None,
        "base_rate": _ratio(stream.base_rate) if timed else None,
        "start_pts": stream.start_time,
        "duration_ticks": stream.duration,
        "declared_frames": stream.frames or None,
        "field_order": _FIELD_ORDERS.get(context.field_order),
        "metadata": {str(key): str(value) for key, value in {**container.metadata, **stream.metadata}.items()},
        "decoder": {"pyav": libav.__version__}
        | {name: ".".join(map(str, libav.library_versions[name])) for name in ("libavformat", "libavcodec")},
    }


def _ratio(value: Fraction | None) -> list[int] | None:
    return [value.numerator, value.denominator] if value else None


def _message(frame: Any, codec: str, index: int, stream: int) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    planes, pixel_format, bits = _planes(frame)
    digest = hashlib.sha256()
    for plane in planes:
        digest.update(plane.data)
    qp = _qp(frame)
    message = {
        "index": index,
        "stream": stream,
        "time_base": _ratio(frame.time_base),
        "duration": frame.duration or None,
        "picture_type": _TYPES[frame.pict_type],
        "key": frame.key_frame,
        "interlaced": frame.interlaced_frame,
        "corrupt": frame.is_corrupt,
        "pixel_format": pixel_format,
        "bits": bits,
        "colour_range": _RANGES.get(frame.color_range),
        "matrix": _MATRICES.get(frame.colorspace),
        "codec": codec,
        "sha256": digest.hexdigest(),
        "shapes": [plane.shape for plane in planes],
        "qp_shape": None if qp is None else qp.shape,
    }
    return message, planes if qp is None else [*planes, qp]


def _planes(frame: Any) -> tuple[list[NDArray[Any]], str, int]:
    """Its components in stored order without alpha, H W uint8 or uint16 each; their pixel format; bits a sample."""
    name = frame.format.name
    name = name[:-2] + "le" if name.endswith("be") else name
    name = _PLANAR.get(name, name)
    if frame.format.is_rgb and not frame.format.is_planar and not frame.format.is_bayer:
        name = "gbrp" if frame.format.components[0].bits <= 8 else "gbrp16le"
    if name != frame.format.name:
        frame = frame.reformat(format=name)
    shown = [component for component in frame.format.components if not component.is_alpha]
    bits = shown[0].bits
    planar = len({component.plane for component in shown}) == len(shown)
    integers = 8 <= bits <= 16 and "f16" not in name
    if not planar or not integers or any(frame.planes[component.plane].line_size < 0 for component in shown):
        raise Refused(f"its pixels are stored in a way that is not read (pixel format {name}).")
    planes = []
    for place in sorted(component.plane for component in shown):
        plane = frame.planes[place]
        stored = np.frombuffer(plane, np.uint8 if bits == 8 else np.dtype("<u2")).reshape(plane.height, -1)
        planes.append(np.ascontiguousarray(stored[:, : plane.width]))
    return planes, name, bits


def _qp(frame: Any) -> NDArray[np.int16] | None:
    """H W, a value for each macroblock of 16x16 px, where the decoder gives them (H.264, MPEG-1, -2 and -4)."""
    found = frame.side_data.get("VIDEO_ENC_PARAMS")
    shape = (-(-frame.height // 16), -(-frame.width // 16))
    if found is None or found.nb_blocks != shape[0] * shape[1]:
        return None
    blocks = np.frombuffer(found, np.uint8)[found.blocks_offset :][: found.nb_blocks * found.block_size]
    # AVVideoBlockParams: src_x, src_y, w, h, delta_qp; H.264 and MPEG give them row by row.
    deltas = blocks.reshape(-1, found.block_size)[:, 16:20].copy().view(np.int32)
    return np.ascontiguousarray((found.qp + deltas).reshape(shape), np.int16)


class _Filter:
    """A libavfilter graph of one filter, made again where the frames' size or format changes."""

    def __init__(self, av: Any, name: str, arguments: str) -> None:
        self.av, self.name, self.arguments = av, name, arguments
        self.kind: tuple[int, int, str] | None = None

    def frames(self, frame: Any) -> Iterator[Any]:
        kind = (frame.width, frame.height, frame.format.name)
        if kind != self.kind:
            self.kind, self.graph = kind, self.av.filter.Graph()
            size = {"width": frame.width, "height": frame.height}
            source = self.graph.add_buffer(**size, format=frame.format, time_base=Fraction(1, 25))
            chain = [source, self.graph.add(self.name, self.arguments), self.graph.add("buffersink")]
            self.graph.link_nodes(*chain).configure()
        self.graph.push(frame)
        with contextlib.suppress(BlockingIOError, EOFError):
            while True:
                yield self.graph.pull()


if __name__ == "__main__":
    main()
