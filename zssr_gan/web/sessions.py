"""Who is signed in: a cookie of random bytes for each browser, of which the server stores the hash.

Sessions outlive a restart of the server, so that an open page goes on. The log beside their file has who signed in
and out. The address that the command prints holds a
token that lets one browser in; then it is spent, and the next one is made.
"""

import contextlib
import hmac
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter

from zssr_gan.errors import OutputError, ZssrGanError
from zssr_gan.files import atomic_write, sha256_bytes
from zssr_gan.provenance import FileModel, read_json
from zssr_gan.web import log

LIFE_S = 7 * 24 * 3600.0  # since the last sign-in


class Session(FileModel):
    """Of one browser; `began`: seconds since 1970."""

    user: str
    began: float
    proof: str
    """Of the password by which its user signed in, so that a new one ends the session; "" of the printed address."""


_FILE = TypeAdapter(dict[str, Session])


class Sessions:
    """All that are signed in.

    Args:
        path: of the file in which they are stored.
        on_token: is called with the next `token` of the address when a browser has used one.
    """

    def __init__(self, path: Path, on_token: Callable[[str], None]) -> None:
        self._path, self._on_token = path, on_token
        try:
            found = read_json(path, dict[str, Session], ZssrGanError)
        except ZssrGanError:  # at the first start; a damaged file means that everybody signs in again
            found = {}
        self._sessions = {key: session for key, session in found.items() if not _is_old(session)}
        self.token = secrets.token_urlsafe(24)

    def spend(self, token: str) -> bool:
        """Whether this is the token; if so, it is spent."""
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode()):
            return False
        self.token = secrets.token_urlsafe(24)
        self._on_token(self.token)
        return True

    def begin(self, user: str, proof: str = "") -> str:
        """Sign a user in; returns the value of the cookie."""
        cookie = secrets.token_urlsafe(32)
        self._sessions[_key(cookie)] = Session(user=user, began=time.time(), proof=proof)
        with contextlib.suppress(OutputError):  # a full disk: signed in until the server ends
            self._save()
            log.append(self._path.parent, user, "signed in")
        return cookie

    def find(self, cookie: str) -> Session | None:
        """The session of this cookie; None where it is unknown or too old."""
        session = self._sessions.get(_key(cookie))
        return None if session is None or _is_old(session) else session

    def end(self, cookie: str) -> None:
        """Sign out."""
        if (session := self._sessions.pop(_key(cookie), None)) is not None:
            self._save()
            log.append(self._path.parent, session.user, "signed out")

    def _save(self) -> None:
        self._sessions = {key: session for key, session in self._sessions.items() if not _is_old(session)}
        atomic_write(self._path, _FILE.dump_json(self._sessions), overwrite=True)
        self._path.chmod(0o600)


def _key(cookie: str) -> str:
    return sha256_bytes(cookie.encode("utf-8", "replace"))


def _is_old(session: Session) -> bool:
    return not 0 <= time.time() - session.began <= LIFE_S
