"""Uploads: raw bytes that are streamed to the disk and hashed on the way, and go on where a connection broke.

An upload in work is a folder `ID` with `upload.json` and the bytes that came so far. The name that a user gives is text
in it and never a path.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.requests import ClientDisconnect

from zssr_gan.errors import ZssrGanError
from zssr_gan.files import atomic_write, sha256_bytes
from zssr_gan.progress import printable
from zssr_gan.provenance import FileModel, read_json
from zssr_gan.web.refusals import Refusal

CHUNK_BYTES = 8 << 20  # that the page sends at once; any length is taken
PROOF_BYTES = 4 << 20
LONGEST_NAME = 255
_WRITE_BYTES = 1 << 20
_RESERVE_BYTES = 512 << 20  # left free, for results and the queue
_SILENCE_S = 30.0  # after which a connection counts as broken
_LIFE_S = 7 * 24 * 3600.0  # since bytes came last
_EMPTY_LIFE_S = 3600.0  # of one without bytes
_RESERVED_S = 900.0  # since bytes came last: so long the room for the rest is held


def _megabytes(count: int) -> str:
    return "under 1 MB" if 0 < count < 10**6 else f"{count / 1e6:,.0f} MB"


class _Facts(FileModel):
    case: str
    user: str
    name: str
    bytes: int
    began: float


class Upload:
    """One upload in work; `lock`: of who receives bytes."""

    def __init__(self, folder: Path, facts: _Facts) -> None:
        self.folder, self.facts, self.lock = folder, facts, asyncio.Lock()
        self.path = folder / "bytes"
        self._hash: hashlib._Hash | None = None  # None: of what an earlier process received, not known yet

    @property
    def id(self) -> str:
        """The upload's name."""
        return self.folder.name

    @property
    def offset(self) -> int:
        """Bytes that are here."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def last(self) -> float:
        """When bytes came last, or it began, in seconds since 1970."""
        try:
            return self.path.stat().st_mtime
        except FileNotFoundError:
            return self.facts.began

    async def receive(self, offset: int, pieces: AsyncIterator[bytes]) -> None:
        """Append what comes, flushed to the disk at the end. A broken connection leaves what came before it.

        Raises:
            Refusal: `offset` is not where it goes on, more bytes come than were announced, or the disk is full.
        """
        async with self.lock:
            if offset != (here := self.offset):
                raise Refusal(409, f"the upload goes on at byte {here:,}, not at {offset:,}.", offset=here)
            try:
                while block := await self._block(pieces):
                    here += len(block)
                    if here > self.facts.bytes:
                        raise Refusal(413, f"more bytes come than the {self.facts.bytes:,} announced: begin again.")
                    await asyncio.to_thread(self._append, block)
            finally:
                await asyncio.to_thread(self._flush)

    async def _block(self, pieces: AsyncIterator[bytes]) -> bytes:
        """The next bytes, about a MiB; those before a broken connection too; none at the end."""
        block = bytearray()
        with contextlib.suppress(StopAsyncIteration, TimeoutError, ClientDisconnect):
            while len(block) < _WRITE_BYTES:
                block += await asyncio.wait_for(anext(pieces), _SILENCE_S)
        return bytes(block)

    def _append(self, block: bytes) -> None:
        digest = self._digest()
        try:
            with self.path.open("ab", buffering=0) as file:
                rest = memoryview(block)
                while rest:
                    rest = rest[file.write(rest) :]
        except OSError as error:
            self._hash = None
            raise Refusal(507, f"the upload stopped ({error.strerror}): make room on the disk, then go on.") from error
        digest.update(block)

    def _digest(self) -> "hashlib._Hash":
        if self._hash is None:
            self._hash = hashlib.sha256()
            if self.path.exists():
                with self.path.open("rb") as file:
                    while block := file.read(_WRITE_BYTES):
                        self._hash.update(block)
        return self._hash

    def proof(self) -> str:
        """SHA-256 of the SHA-256s of the pieces of what is here, by which a page sees that its file is the same."""
        pieces = bytearray()
        if self.path.exists():
            with self.path.open("rb") as file:
                while block := file.read(PROOF_BYTES):
                    pieces += hashlib.sha256(block).digest()
        return sha256_bytes(bytes(pieces))

    def _flush(self) -> None:
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def sha256(self) -> str:
        """The hash of the bytes that are here."""
        return self._digest().hexdigest()


class Uploads:
    """All uploads in work.

    Args:
        folder: in which each has a folder.
        limit_bytes: of one file.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._uploads: dict[str, Upload] = {}
        for found in folder.iterdir():
            try:
                facts = read_json(found / "upload.json", _Facts, ZssrGanError)
            except ZssrGanError:
                shutil.rmtree(found, ignore_errors=True)
                continue
            self._uploads[found.name] = Upload(found, facts)

    def free_bytes(self, user: str = "") -> int:
        """Room for new uploads of a user: without a reserve and what uploads in work still need; old ones are dropped.

        The uploads of other users, which may never come, hold half of the room at most.
        """
        owed = Counter[str]()
        for upload in list(self._uploads.values()):
            silent = time.time() - upload.last
            if silent > (_LIFE_S if upload.offset else _EMPTY_LIFE_S):
                self.drop(upload)
            elif silent < _RESERVED_S:
                owed[upload.facts.user] += upload.facts.bytes - upload.offset
        free = max(0, shutil.disk_usage(self.folder).free - _RESERVE_BYTES)
        return max(0, free - owed[user] - min(free // 2, owed.total() - owed[user]))

    def begin(self, case: str, user: str, name: str, size: int) -> Upload:
        """Prepare for a file of `size` bytes.

        Raises Refusal: it is empty or over the limit, there is no room, or its name will not do.
        """
        shown = printable(name)[:LONGEST_NAME]
        if not name.strip() or len(name) > LONGEST_NAME:
            raise Refusal(400, f"a file's name has 1 to {LONGEST_NAME} characters; this one has {len(name)}.")
        if size <= 0:
            raise Refusal(400, f"{shown}: is empty.")
        if size > self.limit_bytes:
            limit = f"{self.limit_bytes / 1e9:.3g} GB"
            raise Refusal(
                413, f"{shown}: has {size / 1e9:.3g} GB, more than the limit of {limit} (zssr-gan web --upload-limit)."
            )
        if size > (free := self.free_bytes(user)):
            raise Refusal(
                507,
                f"{shown}: there is no room for {_megabytes(size)} ({_megabytes(free)} are free, besides what uploads "
                "in work still need): make room, or wait for these.",
            )
        folder = self.folder / secrets.token_hex(12)
        facts = _Facts(case=case, user=user, name=shown, bytes=size, began=time.time())
        atomic_write(folder / "upload.json", facts.model_dump_json().encode())
        upload = self._uploads[folder.name] = Upload(folder, facts)
        return upload

    def find(self, case: str, name: str) -> Upload:
        """An upload of a case. Raises Refusal where there is none."""
        upload = self._uploads.get(name)
        if upload is None or upload.facts.case != case:
            raise Refusal(404, "there is no such upload (any more): begin it again.")
        return upload

    def of_case(self, case: str) -> list[Upload]:
        """Those in work, the oldest first."""
        return sorted(
            (one for one in self._uploads.values() if one.facts.case == case), key=lambda one: one.facts.began
        )

    def drop(self, upload: Upload) -> None:
        """Forget an upload, and remove what is left of it."""
        self._uploads.pop(upload.id, None)
        shutil.rmtree(upload.folder, ignore_errors=True)

    def drop_all(self, case: str) -> None:
        """Drop the uploads of a case that is deleted."""
        for upload in self.of_case(case):
            self.drop(upload)
