"""The errors a user can mend: each message names the file or argument at fault and what to do about it."""


class MulaError(Exception):
    """Base of every error that is the user's to mend; command lines print it as one line and exit with 2."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows (IPython asks for it by this name): the line, without the way it came."""
        return [f"{type(self).__name__}: {self}"]


class DataError(MulaError):
    """A data file or tree that is missing, unreadable or not what its format promises."""


class ConfigError(MulaError):
    """An unknown name or an impossible setting: profile, experiment, width, crop, data set."""


class CheckpointError(MulaError):
    """A checkpoint or weights file that is damaged, or belongs to another configuration."""


class StorageError(MulaError, OSError):
    """A file that cannot be written: no room, no permission, a failing disk. What was there before still is."""

    def __str__(self) -> str:  # OSError would show the first two of several arguments only
        return str(self.args[0])


class BusyError(MulaError):
    """Another process is at work on the very same thing."""
