"""What every group of settings is: frozen, strict, and without unknown keys."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A group of settings."""

    # strict: text is no number and true is not 1; what a file says is what is meant.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)
