"""Some of a command's parts, as `--only` names them."""

from collections.abc import Sequence

from zssr_gan.errors import SettingsError


def chosen(only: str | None, known: Sequence[str], kind: str) -> tuple[str, ...]:
    """Those of `known` that are asked for, in their own order; all where nobody asks.

    Args:
        only: names with commas between, as the user wrote them.
        known: all names.
        kind: what one of them is, for the error.

    Raises:
        SettingsError: an unknown name, or none at all.
    """
    if only is None:
        return tuple(known)
    asked = [name.strip() for name in only.split(",")]
    if not any(asked):
        raise SettingsError(f"--only: names no {kind}: use some of {', '.join(known)}.")
    strange = next((name for name in asked if name not in known), None)
    if strange is not None:
        raise SettingsError(f"--only {only}: there is no {kind} {strange!r}: use {', '.join(known)}.")
    return tuple(name for name in known if name in asked)
