"""Bodies of requests: JSON of a limited length, as a form."""

import asyncio
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from zssr_gan.provenance import first_problem
from zssr_gan.web.refusals import Refusal

_MOST_BYTES = 1 << 20
_SECONDS = 20.0

_F = TypeVar("_F", bound=BaseModel)


class Form(BaseModel):
    """What a request's body may hold: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)


async def body(request: Request, form: type[_F]) -> _F:
    """A request's body as a form. Raises Refusal: too long, no JSON, or other than the form."""
    data = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            async for piece in request.stream():
                data += piece
                if len(data) > _MOST_BYTES:
                    raise Refusal(413, f"the request is longer than {_MOST_BYTES >> 20} MiB.")
    except TimeoutError as error:
        raise Refusal(408, f"the request did not come within {_SECONDS:g} s: send it again.") from error
    try:
        return form.model_validate_json(bytes(data))
    except ValidationError as error:
        raise Refusal(400, f"the request cannot be read ({first_problem(error)}).") from error
