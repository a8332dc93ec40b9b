"""What the routes work on: who is signed in, the cases, the uploads."""

import asyncio
import contextlib
import getpass
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from starlette.requests import Request

from zssr_gan.errors import OutputError, ZssrGanError
from zssr_gan.files import sha256_file
from zssr_gan.web import log
from zssr_gan.web.case_folder import CASE_FILE, SERVER_FOLDER, Case, CaseError, Original, open_case
from zssr_gan.web.events import Events
from zssr_gan.web.guard import Address, cookie_of
from zssr_gan.web.log import NAME as LOG
from zssr_gan.web.log import LogCheck, verify_log
from zssr_gan.web.memo import Memo, stamp
from zssr_gan.web.names import slug
from zssr_gan.web.pictures import Decoder, Pictures
from zssr_gan.web.queue import Job
from zssr_gan.web.rebuild import open_queue
from zssr_gan.web.refusals import Refusal, sentence
from zssr_gan.web.sessions import Sessions
from zssr_gan.web.uploads import Uploads
from zssr_gan.web.users import User, Users, read_users

_LONGEST_WAIT_S = 60.0
_PLACES = {"queue.sqlite": "file", "sessions.json": "file", LOG: "file", "measured.json": "file"} | dict.fromkeys(
    ("uploads", "pictures", "previews"), "folder"
)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Person:
    """Who sends a request; an `admin` sees the cases of all."""

    name: str
    admin: bool


def account() -> str:
    """The name of the account that this runs under: the one user of a server without a users' file."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name
        return "operator"


def job_facts(job: Job) -> dict[str, object]:
    """A job as the page gets it."""
    facts = {name: getattr(job, name) for name in ("id", "case", "user", "kind", "title", "command", "state")}
    facts |= {name: getattr(job, name) for name in ("position", "progress", "message", "created", "started", "ended")}
    return facts | {"seconds": job.seconds}


class Site:
    """One running server.

    Args:
        cases: folder of the cases.
        address: where it is reached.
        users: the users' file, read again when it changes; None: whoever started the server, alone.
        upload_limit_bytes: of one file.
        device: that jobs run on.
        on_token: see `Sessions`.
        decoder: see `Pictures`.
    """

    def __init__(
        self,
        cases: Path,
        address: Address,
        *,
        users: Path | None = None,
        upload_limit_bytes: int = 20 * 10**9,
        device: str = "cpu",
        on_token: Callable[[str], None] = lambda _token: None,
        decoder: Decoder | None = None,
    ) -> None:
        self.cases, self.address, self.device = cases, address, device
        self._users_file = users
        self.state = cases / SERVER_FOLDER
        _check_places(self.state)
        for gone in self.state.glob("deleted-*"):  # a kill came before all of a deleted case was removed
            shutil.rmtree(gone, ignore_errors=True)
        self._memo = Memo()
        self.sessions = Sessions(self.state / "sessions.json", on_token)
        self.uploads = Uploads(self.state / "uploads", upload_limit_bytes)
        self.queue, self.queue_notice = open_queue(cases)
        self.pictures = Pictures(self.state / "pictures", decoder)
        self.events = Events(self.queue, job_facts)
        self.cookie = f"zssr_gan_{address.port}"  # browsers send cookies to all ports of a host
        self._sign_in = asyncio.Lock()
        self._failures: dict[str, tuple[int, float]] = {}

    @property
    def has_users(self) -> bool:
        """Whether people sign in by name and password."""
        return self._users_file is not None

    def users(self) -> Users:
        """The users by now. Raises SettingsError where their file cannot be read."""
        assert self._users_file is not None
        path = self._users_file
        return self._memo.get("users", stamp(path), lambda: read_users(path))

    def admit(self, request: Request) -> Person:
        """Who sends a request. Raises Refusal without a valid cookie."""
        session = self.sessions.find(cookie_of(request, self.cookie))
        if session is not None and not self.has_users and not session.proof:
            return Person(session.user, admin=True)
        if session is not None and self.has_users:
            user = self.users().find(session.user)
            if user is not None and user.proof == session.proof:
                return Person(user.name, user.admin)
        mend = "sign in." if self.has_users else "open the address that 'zssr-gan web' printed last in its window."
        raise Refusal(401, f"you are not signed in here (any more): {mend}", users=self.has_users)

    def case(self, name: str, person: Person) -> Case:
        """A case that this person may see. Raises Refusal, also for one of somebody else."""
        try:
            path = self.cases / slug(name) / CASE_FILE
            case = self._memo.get(("case", name), stamp(path), lambda: open_case(self.cases, name))
        except CaseError as error:
            raise Refusal(404, sentence(error)) from error
        if not (person.admin or case.facts.owner == person.name):
            raise Refusal(404, f"there is no case {name}; it was deleted, or lies in another folder of cases.")
        return case

    def cases_of(self, person: Person) -> list[Case]:
        """The cases that a person may see, by their folders' names; what cannot be read is left out."""
        found = []
        for path in sorted(self.cases.glob(f"*/{CASE_FILE}")):
            with contextlib.suppress(Refusal):
                found.append(self.case(path.parent.name, person))
        return found

    def unreadable(self, person: Person) -> list[dict[str, str]]:
        """Folders of cases that cannot be read, and why; of nobody's, so an admin sees them alone."""
        found = []
        for path in sorted(self.cases.glob(f"*/{CASE_FILE}")) if person.admin else ():
            try:
                open_case(self.cases, path.parent.name)
            except CaseError as error:
                found.append({"id": path.parent.name, "problem": str(error)})
        return found

    def originals(self, case: Case) -> dict[str, Original]:
        """The originals of a case by their ids."""
        return self._memo.get(
            ("originals", case.id), stamp(case.folder / LOG), lambda: {one.id: one for one in case.originals()}
        )

    def log_of(self, case: Case) -> LogCheck:
        """Whether the log of a case is whole."""
        return self._memo.get(("log", case.id), stamp(case.folder / LOG), lambda: verify_log(case.folder))

    def hash_of(self, path: Path) -> str:
        """SHA-256 of a file as it is now."""
        return self._memo.get(("hash", path), stamp(path), lambda: sha256_file(path))

    def made(self, case: Case, kind: str, find: Callable[[Case], _T]) -> _T:
        """What jobs made in a case, read again after a second, since files come while a job runs."""
        now = stamp(case.folder / LOG), int(time.monotonic())
        return self._memo.get((kind, case.id), now, lambda: find(case))

    def sees(self, person: Person, name: str) -> bool:
        """Whether a case is there for this person."""
        try:
            self.case(name, person)
        except ZssrGanError:
            return False
        return True

    def close(self) -> None:
        """End open pages and what is being decoded."""
        self.events.close()
        self.pictures.close()

    async def sign_in(self, name: str, password: str) -> User:
        """The user of a password, checked one at a time; each wrong one of a name doubles the wait for the next.

        Raises Refusal: wrong, too soon, or this server has no users.
        """
        if not self.has_users:
            raise Refusal(400, "this server has no users: open the address that 'zssr-gan web' printed in its window.")
        async with self._sign_in:
            count, until = self._failures.get(name, (0, 0.0))
            if (wait := until - time.monotonic()) > 0:
                raise Refusal(429, f"too many wrong passwords: try again in {wait:.0f} seconds.")
            user = await asyncio.to_thread(self.users().check, name, password)
            if user is None:
                if len(self._failures) > 10_000:
                    self._failures.clear()
                self._failures[name] = count + 1, time.monotonic() + min(_LONGEST_WAIT_S, 0.5 * 2**count)
                shown = name if self.users().find(name) else "unknown name"  # which may be a password, typed too early
                with contextlib.suppress(OutputError):  # a full disk lets nobody in
                    await asyncio.to_thread(log.append, self.state, "", "sign-in refused", name=shown)
                raise Refusal(403, "this name and password do not belong together.")
            self._failures.pop(name, None)
        return user


def _check_places(state: Path) -> None:
    """Raise OutputError where a file lies in the place of a folder of the server's, or a folder in that of a file."""
    for name, kind in _PLACES.items():
        path = state / name
        if path.exists() and path.is_dir() != (kind == "folder"):
            other = "file" if kind == "folder" else "folder"
            raise OutputError(f"{path}: is a {other}, where this program has a {kind} of its own: move it away.")
