"""The group `synth`: how synthetic HR images are made of LR ones."""

from typing import Literal, Self

from pydantic import Field, model_validator

from zssr_gan.settings.base import Settings


class SynthSettings(Settings):
    """How synthetic HR images are made of LR ones, without any HR image."""

    preset: str = "quality"
    """Zero-shot settings: `paper`, `original`, `quality`, `fast`, or a YAML file."""
    scale: float = Field(2.0, ge=1, le=8)
    """Factor per side."""
    init: Literal["scratch", "shared"] = "shared"
    """`scratch`: a network of its own for each image (the paper's way; label internal). `shared`: one network learnt
    on the LR images of the training part (label case)."""
    init_from: str | None = None
    """With `shared`: a kept shared model (.safetensors) instead of learning one."""
    degradation: str = Field("bicubic", min_length=1)
    """How the cameras shrank the scene: `bicubic`, without noise and compression; `estimate`, from the LR images of the
    training part, of each camera for itself (label case); or the file of an estimate, for all images."""
    noise: float | None = Field(None, ge=0, le=0.5)
    """Standard deviation of the cameras' noise, [0, 1] units, where `degradation` is bicubic; null: none."""
    shard: int = Field(256, ge=1, le=100_000)
    """Images of one file of the store: what a kill may cost each process, at most twice."""

    @model_validator(mode="after")
    def _start(self) -> Self:
        if self.init_from is not None and self.init != "shared":
            raise ValueError("init_from names a shared model, and init is scratch: set init to shared")
        if self.init_from is not None and self.noise is not None:
            raise ValueError("a shared model is used as it was learnt: leave noise out, or init_from")
        if self.noise is not None and self.degradation != "bicubic":
            raise ValueError("noise is part of the degradation: leave noise out, or set degradation to bicubic")
        return self

    @property
    def degradation_from(self) -> Literal["bicubic", "noise", "estimate", "file"]:
        """Where the degradation comes from."""
        if self.degradation == "bicubic":
            return "noise" if self.noise else "bicubic"
        return "estimate" if self.degradation == "estimate" else "file"
