"""The files of one command: a few at a time, their transcripts printed in the order asked for."""

import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Self

from cli.errors import CommandError, os_reason
from cli.messages import error as error_line
from cli.messages import note
from cli.signals import Stopped
from cli.transcribe.file_jobs import FileJobs
from cli.transcribe.sources import Source
from cli.transcribe.streams import as_printed, print_text
from cli.transcribe.tally import Tally
from cli.transcribe.transcript_files import TranscriptFiles
from cli.transcribe.work import State, Work

TOTAL_S = 1.0
"""How often the total is shown anew."""
ABANDON_S = 6.0
"""How long an interrupted batch waits for what its jobs have said so far."""


class Batch:
    """Some files and what becomes of them, for the main thread; ``with`` ends what is under way.

    Left by an exception it cancels its jobs. By ``Stopped``, a signal, it keeps what they have said
    so far; by others, as when nobody reads stdout any more, it does not.
    """

    def __init__(self, jobs: FileJobs, *, skipped: int = 0, refused: int = 0) -> None:
        """Begin without files; summaries also count files ``skipped`` and names ``refused``."""
        self._jobs = jobs
        self._skipped, self._refused = skipped, refused
        self._progress = jobs.progress
        self._waiting = queue.SimpleQueue[Work | None]()
        """None: there is no more."""
        self._n_threads = 0
        self._begin()

    def _begin(self) -> None:
        self._works: list[Work] = []
        self._unprinted: list[Work] = []
        self._tally = Tally(self._works, time.monotonic)
        self._total_at_s = 0.0
        self._jobs.n_files = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._progress.finish()
        if isinstance(error, Stopped | CommandError | OSError):
            stopped = isinstance(error, Stopped)
            self._abandon(keep=stopped)
            if stopped:
                with suppress(CommandError, OSError):  # the terminal may be what has ended
                    self._print(in_order=False)
                self.summarize()
        self._jobs.stop.set()
        for _ in range(self._n_threads):
            self._waiting.put(None)
        if error is None:
            self._jobs.client.close()

    def add(self, sources: Sequence[Source], outputs: TranscriptFiles | None) -> None:
        """Begin to transcribe files, as many at a time as was asked for."""
        works = [Work(source, outputs) for source in sources]
        self._jobs.n_files += len(works)
        self._works += works
        self._unprinted += works
        for work in works:
            self._waiting.put(work)
            if self._n_threads < self._jobs.request.jobs:
                self._n_threads += 1
                # Daemons: a server that does not answer must not keep this process after Ctrl-C.
                threading.Thread(target=self._serve, name="job", daemon=True).start()

    def _serve(self) -> None:
        """Take one file after the other, in a thread of its own."""
        while (work := self._waiting.get()) is not None and not self._jobs.stop.is_set():
            try:
                self._jobs.transcribe(work)
            except CommandError as error:
                self._jobs.fail(work, str(error))
            except OSError as error:
                self._jobs.fail(work, os_reason(error))
            except Exception as error:  # noqa: BLE001 - it must not cost the other files
                self._jobs.fail(work, f"unexpected error: {type(error).__name__}: {error}")
            finally:
                work.ended.set()

    def look(self) -> bool:
        """Show the total and print what has ended; return whether all files have.

        Raises:
            CommandError: stdout cannot be written to.
            BrokenPipeError: nobody reads stdout any more.
        """
        now_s = time.monotonic()
        if now_s - self._total_at_s >= TOTAL_S:
            self._total_at_s = now_s
            self._progress.total(self._tally.total())
        all_ended = all(work.ended.is_set() for work in self._works)
        self._print()  # after the look at all: what ends in between is printed in the next round
        return all_ended

    def _print(self, *, in_order: bool = True) -> None:
        """Print the transcripts that are there: in order up to the first that is not, or all."""
        for work in tuple(self._unprinted):
            if not work.ended.is_set():
                if in_order:
                    return
                continue
            self._unprinted.remove(work)
            if work.outputs is None and work.state is State.DONE:
                text, work.text = work.text, ""
                if self._jobs.request.several:
                    text = as_printed(text, work.source.name, self._jobs.request.formats[0])
                self._progress.aside(partial(print_text, text))

    def summarize(self) -> bool:
        """Name the files that failed and count all; forget them; return whether all succeeded."""
        self._progress.finish()
        for work in self._works:
            if work.state is State.FAILED:
                self._progress.say(error_line(f"{work.source.name}: {work.problem}"))
        if len(self._works) + self._skipped + self._refused > 1:
            self._progress.say(
                note(self._tally.summary(skipped=self._skipped, refused=self._refused))
            )
        succeeded = all(work.state is State.DONE for work in self._works)
        self._begin()
        return succeeded

    def _abandon(self, *, keep: bool) -> None:
        """Cancel the jobs, so that those of the next run do not wait behind them.

        With ``keep``, what they have said so far is written to the output folder first.
        """
        left = tuple(self._jobs.under_way.items())  # before the stop, at which they are dropped
        self._jobs.stop.set()
        threads = [
            threading.Thread(target=self._give_up, args=(*job, keep), daemon=True) for job in left
        ]
        if keep and any(work.outputs is not None for _, work in left):
            self._progress.say(note("keeping what was done so far"))
        for thread in threads:
            thread.start()
        deadline_s = time.monotonic() + ABANDON_S
        for thread in threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        for outputs in {work.outputs for work in self._works if work.outputs is not None}:
            outputs.close()

    def _give_up(self, job_id: str, work: Work, keep: bool) -> None:
        try:
            if keep and work.outputs is not None:
                self._jobs.keep_partial(job_id, work.source, work.outputs)
        except CommandError as error:
            self._progress.say(error_line(str(error)))
        finally:
            self._jobs.cancel(job_id)
