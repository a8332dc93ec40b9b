"""Errors that a user can mend: each message is one sentence that names the cause and the way out.

The command line prints the message alone; a traceback is kept for what is our own mistake.
"""


class ZssrGanError(Exception):
    """Base of every error that is said to a user in one sentence."""


class ImageError(ZssrGanError):
    """An image that cannot be read, is refused, or cannot be worked on."""


class OutputError(ZssrGanError):
    """A result that cannot be written: exists already, would replace its input, or the disk refuses it."""


class StoreError(ZssrGanError):
    """A store of synthetic images that is missing, in use, damaged, or made with other settings."""


class SettingsError(ZssrGanError):
    """A setting, preset or kernel that is unknown, out of range or at odds with another."""


class DeviceError(ZssrGanError):
    """A device that is not there, or has too little memory."""


class NumericalError(ZssrGanError):
    """NaN or infinity where pixels belong."""
