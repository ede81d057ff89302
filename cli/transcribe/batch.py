"""The files of one command: a few at a time, their transcripts printed in the order asked for."""

import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

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
    """Some files and what becomes of them; ``run`` it once, in the main thread."""

    def __init__(self, jobs: FileJobs, sources: Sequence[Source]) -> None:
        self._jobs = jobs
        self._progress = jobs.progress
        self._works = [Work(source) for source in sources]
        self._unprinted = list(self._works)
        self._tally = Tally(self._works, time.monotonic)
        self._total_at_s = 0.0

    def run(self, *, skipped: int = 0, refused: int = 0) -> bool:
        """Transcribe all files; return whether all succeeded.

        The closing summary counts files ``skipped``, as they were done before, and names refused.

        Raises:
            CommandError: stdout cannot be written to.
            BrokenPipeError: nobody reads stdout any more.
            Stopped: a signal came; the jobs are canceled, what they have said so far is kept.
        """
        waiting = queue.SimpleQueue[Work]()
        for work in self._works:
            waiting.put(work)
        for _ in range(min(self._jobs.request.jobs, len(self._works))):
            # Daemons: a server that does not answer must not keep this process after Ctrl-C.
            threading.Thread(target=self._serve, args=(waiting,), name="job", daemon=True).start()
        try:
            self._jobs.platform.run(self._look)
        except (Stopped, CommandError, OSError) as error:
            self._progress.finish()
            stopped = isinstance(error, Stopped)
            self._abandon(keep=stopped)
            if stopped:
                with suppress(CommandError, OSError):  # the terminal may be what has ended
                    self._print(in_order=False)
                self._summarize(skipped, refused)
            raise
        finally:
            self._jobs.stop.set()
        self._progress.finish()
        self._jobs.client.close()
        self._summarize(skipped, refused)
        return all(work.state is State.DONE for work in self._works)

    def _serve(self, waiting: "queue.SimpleQueue[Work]") -> None:
        """Take one file after the other, in a thread of its own."""
        with suppress(queue.Empty):
            while not self._jobs.stop.is_set():
                work = waiting.get_nowait()
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

    def _look(self) -> bool:
        """Show the total and print what has ended; return whether all files have."""
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
            if self._jobs.outputs is None and work.state is State.DONE:
                text, work.text = work.text, ""
                if self._jobs.request.several:
                    text = as_printed(text, work.source.name, self._jobs.request.formats[0])
                self._progress.aside(partial(print_text, text))

    def _summarize(self, skipped: int, refused: int) -> None:
        for work in self._works:
            if work.state is State.FAILED:
                self._progress.say(error_line(f"{work.source.name}: {work.problem}"))
        if len(self._works) + skipped + refused > 1:
            self._progress.say(note(self._tally.summary(skipped=skipped, refused=refused)))

    def _abandon(self, *, keep: bool) -> None:
        """Cancel the jobs, so that those of the next run do not wait behind them.

        With ``keep``, what they have said so far is written to the output folder first.
        """
        left = tuple(self._jobs.under_way.items())  # before the stop, at which they are dropped
        self._jobs.stop.set()
        outputs = self._jobs.outputs if keep else None
        threads = [
            threading.Thread(target=self._give_up, args=(*job, outputs), daemon=True)
            for job in left
        ]
        if threads and outputs is not None:
            self._progress.say(note("keeping what was done so far"))
        for thread in threads:
            thread.start()
        deadline_s = time.monotonic() + ABANDON_S
        for thread in threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        if self._jobs.outputs is not None:
            self._jobs.outputs.close()

    def _give_up(self, job_id: str, work: Work, outputs: TranscriptFiles | None) -> None:
        try:
            if outputs is not None:
                self._jobs.keep_partial(job_id, work.source, outputs)
        except CommandError as error:
            self._progress.say(error_line(str(error)))
        finally:
            self._jobs.cancel(job_id)
