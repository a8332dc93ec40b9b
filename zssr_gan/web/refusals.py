"""A request that is refused: one sentence and a status of HTTP."""

from pydantic import JsonValue

from zssr_gan.errors import ZssrGanError


class Refusal(ZssrGanError):
    """What the server answers in place of what was asked for.

    Args:
        status: of HTTP, 400 to 499; 507 where there is no room.
        sentence: cause and mend.
        facts: beside it, for the page.
    """

    def __init__(self, status: int, sentence: str, **facts: JsonValue) -> None:
        super().__init__(sentence)
        self.status, self.facts = status, facts


def sentence(error: ZssrGanError) -> str:
    """What an error says, ended by one full stop."""
    text = str(error)
    return text if text.endswith(".") else f"{text}."
