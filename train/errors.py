"""Errors that the command line reports in one line, without a traceback."""


class ConfigError(ValueError):
    """A configuration that cannot be trained; names the setting and the reason."""


class DataError(Exception):
    """Data that is missing or corrupt; names the file, the reason and the remedies."""


class OutputError(Exception):
    """Output that cannot be written without changing files of someone else."""


class ResultsError(Exception):
    """Results that are missing or unreadable."""
