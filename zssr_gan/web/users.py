"""Who may use the page: a file of names with scrypt hashes of their passwords."""

import base64
import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Annotated

from pydantic import Field

from zssr_gan.errors import SettingsError
from zssr_gan.files import atomic_write, canonical_sha256
from zssr_gan.provenance import FileModel, read_json

NAME = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"
SHORTEST_PASSWORD = 10

# RFC 7914's parameters, as OWASP's cheat sheet of password storage has them: 32 MiB, about 0.1 s on one core.
_N, _R, _P = 2**15, 8, 1
_MEMORY = 64 << 20


class User(FileModel):
    """One of the file: `salt` and `hash` in Base64; an `admin` sees the cases of all."""

    name: Annotated[str, Field(pattern=NAME)]
    salt: str
    hash: str
    admin: bool = False

    @property
    def proof(self) -> str:
        """Changes with the password."""
        return canonical_sha256([self.salt, self.hash])


class Users(FileModel):
    """The file, by which `zssr-gan web --users FILE` knows who may come in."""

    users: tuple[User, ...] = ()

    def find(self, name: str) -> User | None:
        """The user of that name."""
        return next((user for user in self.users if user.name == name), None)

    def check(self, name: str, password: str) -> User | None:
        """The user whose name and password these are. Takes as long for a name that is not there."""
        user = self.find(name)
        salt = base64.b64decode(user.salt) if user else bytes(16)
        expected = base64.b64decode(user.hash) if user else bytes(32)
        return user if hmac.compare_digest(_scrypt(password, salt), expected) and user else None


def read_users(path: Path) -> Users:
    """The users of a file. Raises SettingsError where it cannot be read or holds nobody."""
    if not path.exists():
        raise SettingsError(f"{path}: no such file; 'zssr-gan web-user add NAME --users {path}' makes it.")
    users = read_json(path, Users, SettingsError)
    if not users.users:
        raise SettingsError(f"{path}: names no user; add one: zssr-gan web-user add NAME --users {path}")
    return users


def add_user(path: Path, name: str, password: str, *, admin: bool = False, overwrite: bool = False) -> None:
    """Add a user to a file, which is made where it is missing and can be read by its owner alone.

    Args:
        path: of the file.
        name: letters, digits, and `._@-`.
        password: at least `SHORTEST_PASSWORD` characters.
        admin: sees the cases of all users.
        overwrite: replace the password of a user who is there.

    Raises:
        SettingsError: the name or the password will not do, or the name is taken.
        OutputError: the file cannot be written.
    """
    if len(password) < SHORTEST_PASSWORD:
        raise SettingsError(f"a password has at least {SHORTEST_PASSWORD} characters; this one has {len(password)}.")
    users = read_json(path, Users, SettingsError).users if path.exists() else ()
    if any(user.name == name for user in users) and not overwrite:
        raise SettingsError(f"{path}: {name} is there already; --overwrite gives a new password.")
    salt = secrets.token_bytes(16)
    encoded = [base64.b64encode(part).decode() for part in (salt, _scrypt(password, salt))]
    try:
        user = User(name=name, salt=encoded[0], hash=encoded[1], admin=admin)
    except ValueError:
        raise SettingsError(
            f"{name!r} cannot be a name: take up to 64 letters, digits, '.', '_', '@' and '-', a letter or digit first."
        ) from None
    _write(path, (*(other for other in users if other.name != name), user))


def remove_user(path: Path, name: str) -> None:
    """Remove a user. Raises SettingsError where there is none of that name."""
    users = read_users(path)
    if users.find(name) is None:
        raise SettingsError(f"{path}: has no user {name!r}.")
    _write(path, tuple(user for user in users.users if user.name != name))


def _write(path: Path, users: tuple[User, ...]) -> None:
    atomic_write(path, Users(users=users).model_dump_json(indent=2).encode() + b"\n", overwrite=True)
    path.chmod(0o600)


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, n=_N, r=_R, p=_P, maxmem=_MEMORY)
