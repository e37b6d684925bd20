"""Every error that nightmill raises, below one root. A docstring is its error's default message."""

from __future__ import annotations


class NightmillError(Exception):
    """Something went wrong in nightmill."""

    def __init__(self, message: str | None = None) -> None:
        """Take `message`; None takes the docstring of the class."""
        super().__init__(message or (self.__doc__ or "").strip())


class SettingsError(NightmillError):
    """A setting is missing or out of range."""


class InvalidParamsError(NightmillError):
    """A request breaks the Messages contract; the text names field, given and allowed values."""

    def __init__(self, field: str, problem: str, *, line: int | None = None) -> None:
        """Name the field and its problem.

        `field` is a dotted path, "" for the whole request. `line` counts a source's lines from 1,
        None for a request that comes from no source.
        """
        self.field = field
        self.problem = problem
        self.line = line
        where = f"line {line}: " if line is not None else ""
        super().__init__(f"{where}{field}: {problem}" if field else f"{where}{problem}")

    def at_line(self, line: int) -> InvalidParamsError:
        """Return the same error for `line` of a source, counted from 1."""
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
    """The batch was cancelled or its deadline has passed: it takes no more jobs."""

    def __init__(self, batch: str, flag: str) -> None:
        """Name the batch; `flag` says how it ended: "cancelled" or "expired"."""
        self.batch, self.flag = batch, flag
        if flag == "expired":
            how = f'the deadline of batch "{batch}" has passed'
            way_out = f"nightmill adjust {batch} --expires 24h sets another, "
        else:
            how = f'batch "{batch}" was cancelled'
            way_out = f"nightmill retry {batch} --cancelled runs its cancelled jobs after all, "
        super().__init__(f"{how}: {way_out}--batch NAME starts a new batch")


class InvalidLimitError(NightmillError):
    """A limit of a batch is out of range."""


class InvalidAcceptanceError(NightmillError):
    """What a batch accepts as a result is not one of the allowed values."""


class SchemaError(InvalidAcceptanceError):
    """A JSON Schema cannot be used; the text names the place, given and allowed values."""


class BatchBusyError(NightmillError):
    """Another process is already feeding this batch."""


class BatchChangedError(NightmillError):
    """The request of a stored id is not the one that its row answers."""


class BatchStoppedError(NightmillError):
    """A batch cannot go on by itself; the text says why."""


class BatchTimeoutError(NightmillError):
    """The batch was not done in time; its jobs are still queued or in flight."""


class WrongLoopError(NightmillError, RuntimeError):
    """A Producer belongs to one event loop, and was used in another one.

    Make a Producer in each loop (asyncio.run makes a new loop each time), or use SyncProducer.
    """

    def __init__(self) -> None:
        """Say it on one line."""
        super().__init__(" ".join((self.__doc__ or "").split()))


class QueueUnavailableError(NightmillError):
    """Redis cannot be reached."""


class QueueRefusedError(QueueUnavailableError):
    """Redis refuses this user or these keys, and would refuse them again; the text says the fix."""


class QueueFullError(NightmillError):
    """Redis is out of memory and refuses new jobs; no job of this call was enqueued."""


class StoreError(NightmillError):
    """The results store refused an operation."""


class StoreUnavailableError(StoreError):
    """The results store cannot be reached, is full, or is read-only."""


class StoreMissingError(StoreError):
    """Reading stored results needs the store: pip install 'nightmill[store]'."""


class StoreMismatchError(StoreError):
    """The given results store is not the one that this Redis is used with."""


class ResultTimeoutError(NightmillError):
    """The result was not there in time; the job is still queued or in flight."""


class JobNotFoundError(NightmillError):
    """No such job: neither queued nor stored."""


class JobFailedError(NightmillError):
    """The job ended without a message; the text says why and how to fix it."""


class AnswerNotJSONError(NightmillError, ValueError):
    """The text of the answer is not JSON."""


class ServerError(NightmillError):
    """The embedded server could not be started."""


class ExportError(NightmillError):
    """The results cannot be written in the given form or to the given place."""


class ExtraMissingError(ExportError):
    """The chosen format or URL needs an optional part of nightmill that is not installed."""
