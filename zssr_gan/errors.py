"""Errors that a user can mend: each message is one sentence that names the cause and the way out.

The command line prints the message alone; tracebacks are for our own mistakes.
"""


class ZssrGanError(Exception):
    """Base of all errors that are a sentence for a user."""


class ImageError(ZssrGanError):
    """An image that cannot be read, is refused, or cannot be worked on.

    `reason` is the message without the file's name, the working directory and a decoder's own words: the same on every
    machine.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message

    @classmethod
    def damaged(cls, kind: str, detail: str = "") -> "ImageError":
        """Of a file of a kind (`PNG`) whose bytes are not whole; `detail` says where."""
        reason = f"the {kind} file is damaged or truncated"
        return cls(f"{reason} ({detail})" if detail else reason, reason)


class VideoError(ImageError):
    """A video that cannot be read, is refused, or holds too little for what is asked."""


class OutputError(ZssrGanError):
    """A result that cannot be written: exists already, would replace its input, or the disk refuses it."""


class StoreError(ZssrGanError):
    """A store of synthetic images that is missing, in use, damaged, or made with other settings."""


class SettingsError(ZssrGanError):
    """A setting, preset or kernel that is unknown, out of range or at odds with another."""


class WeightsError(ZssrGanError):
    """Weights of a network that are missing, cannot be fetched, or are not what their name or hash says."""


class DeviceError(ZssrGanError):
    """A device that is not there, or has too little memory."""


class FigureError(ZssrGanError):
    """A figure that cannot be computed, where something cannot do without it."""


class ResultWarning(UserWarning):
    """A result not to be trusted: a generator's is black, of one colour or far from its input; or transparency lost."""


class NumericalError(ZssrGanError):
    """NaN or infinity where pixels belong."""


# In torch's messages where it has no error of its own: the CPU's allocator, Apple's GPU, a CUDA call.
_NO_MEMORY = ("can't allocate memory", "defaultcpuallocator", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's own error, torch's (known by name, since torch is not imported here), or a
    RuntimeError with such words."""
    if isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in message for words in _NO_MEMORY)
