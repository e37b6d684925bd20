"""Every error nightmill raises: one root, and the docstring is the default message."""

from __future__ import annotations


class NightmillError(Exception):
    """Something went wrong in nightmill."""

    def __init__(self, message: str | None = None) -> None:
        """Take `message`, or fall back to the class docstring."""
        super().__init__(message or (self.__doc__ or "").strip())


class SettingsError(NightmillError):
    """A setting is missing or out of range."""


class InvalidParamsError(NightmillError):
    """A request breaks the Messages contract: names the field, what was given, what is allowed."""

    def __init__(self, field: str, problem: str, *, line: int | None = None) -> None:
        """Blame `field` (dotted path, "" for the whole request) at `line` (1-based) of a source."""
        self.field = field
        self.problem = problem
        self.line = line
        where = f"line {line}: " if line is not None else ""
        super().__init__(f"{where}{field}: {problem}" if field else f"{where}{problem}")

    def at_line(self, line: int) -> InvalidParamsError:
        """Return the same error, placed at `line` (1-based) of a source."""
        return type(self)(self.field, self.problem, line=line)


class PayloadTooLargeError(InvalidParamsError):
    """A job is larger than MAX_PAYLOAD_BYTES."""


class PayloadError(NightmillError):
    """Bytes found in Redis are not a nightmill job or result."""


class SourceError(NightmillError):
    """An input file cannot be read."""


class BatchNotFoundError(NightmillError):
    """No such batch."""


class BatchEndedError(NightmillError):
    """A batch that was cancelled, or whose deadline has passed, takes no more jobs."""

    def __init__(self, batch: str, flag: str) -> None:
        """Name the batch and how it ended: "cancelled" or "expired"."""
        self.batch, self.flag = batch, flag
        if flag == "expired":
            how = f'the deadline of batch "{batch}" has passed'
            way_out = f"nightmill adjust {batch} --expires 24h sets another"
        else:
            how = f'batch "{batch}" was cancelled'
            way_out = f"nightmill resume {batch} takes that back"
        super().__init__(f"{how}: {way_out}, --batch NAME starts afresh")


class InvalidLimitError(NightmillError):
    """A limit of a batch is out of range."""


class BatchBusyError(NightmillError):
    """Another process is already feeding this batch."""


class BatchChangedError(NightmillError):
    """A request changed under an id that is stored already."""


class BatchStoppedError(NightmillError):
    """A batch cannot go on until somebody acts; the text says why."""


class BatchTimeoutError(NightmillError):
    """A batch was not done in time; its jobs are still on their way."""


class QueueUnavailableError(NightmillError):
    """Redis cannot be reached."""


class QueueFullError(NightmillError):
    """Redis is out of memory and refuses new jobs; nothing of this call was enqueued."""


class StoreError(NightmillError):
    """The results store refused an operation."""


class StoreUnavailableError(StoreError):
    """The results store cannot be reached, is full, or is read-only."""


class StoreMissingError(StoreError):
    """Reading stored results needs the store: pip install 'nightmill[store]'."""


class ResultTimeoutError(NightmillError):
    """The result did not arrive in time; the job is still on its way."""


class JobNotFoundError(NightmillError):
    """No such job: neither queued nor stored."""


class JobFailedError(NightmillError):
    """The job ended without a message; the text says why and what to fix."""


class ServerError(NightmillError):
    """The embedded server could not be started."""


class ExportError(NightmillError):
    """Results cannot be written as asked."""


class ExtraMissingError(ExportError):
    """What was asked for needs an optional part of nightmill that is not installed."""
