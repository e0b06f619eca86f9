"""Errors that the command line reports in one line, without a traceback."""


class ConfigError(ValueError):
    """A configuration that cannot be trained; names the setting and the reason."""


class DataError(Exception):
    """Data that is missing or corrupt; names the file, the reason and the remedies."""


class OutputError(Exception):
    """Output that cannot be written without changing files of someone else."""


class ResultsError(Exception):
    """Results that are missing or unreadable."""


class Diverged(Exception):
    """A training whose loss or parameters are no longer finite."""


class Stopped(Exception):
    """A training that was stopped by a signal after its state was saved."""

    def __init__(self, signal: int, step: int) -> None:
        super().__init__(f"stopped after step {step:,}")
        self.signal = signal
        """The number of the signal."""
        self.step = step
        """The step of the saved state; 0 if there is none."""


class OutOfMemory(Exception):
    """A training step for which a device has too little memory."""


class Lost(Exception):
    """A training that another of its processes has left."""
