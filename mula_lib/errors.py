"""The errors a user can mend: each message names the file or argument at fault and what to do about it."""


class MulaError(Exception):
    """Base of every error that is the user's to mend; command lines print it as one line and exit with 2."""


class DataError(MulaError):
    """A data file or tree that is missing, unreadable or not what its format promises."""


class ConfigError(MulaError):
    """An unknown name or an impossible setting: profile, experiment, width, crop, data set."""


class CheckpointError(MulaError):
    """A checkpoint or weights file that is damaged, or belongs to another configuration."""
