"""The command's course: open the sound, provide a platform, hold the session."""

import threading
import time
from pathlib import Path

from longhand_sdk.live import LiveOptions

from cli.listen.captions import Captions
from cli.listen.session import Session
from cli.listen.sound import Sound, open_sound
from cli.progress.lines import progress_on_stderr
from cli.server import connect
from cli.signals import StopFlag, Stopped
from cli.transcribe.platform import Platform, platform_for
from shared.models.options import JobOptions

END_LIMIT_S = 15.0
"""How long an interrupted session may take to its last final."""


def listen(name: Path, options: JobOptions, server: str | None, data: Path) -> None:
    """Print what is said in a file or on standard input while it is being said.

    ``server`` and ``data`` are those of ``platform_for``.

    Raises:
        CommandError: the sound cannot be read, or the server cannot be used.
        BrokenPipeError: nobody reads the text any more.
        OSError: the file cannot be read.
        Stopped: a signal came; what had been said by then is printed.
    """
    flag = StopFlag()
    with flag.installed(), progress_on_stderr() as progress, open_sound(name) as sound:
        if server is not None:
            connect(server).close()  # a wrong address is told at once
        with platform_for(
            options, server, data, size_bytes=0, flag=flag, progress=progress
        ) as platform:
            progress.finish()
            _hold_session(platform, sound, options, flag)


def _hold_session(platform: Platform, sound: Sound, options: JobOptions, flag: StopFlag) -> None:
    captions = Captions()
    chosen = LiveOptions()
    if platform.model is not None:
        chosen["model"] = platform.model
    if options.language is not None:
        chosen["language"] = options.language
    session = Session(
        platform.url,
        chosen,
        on_partial=captions.partial,
        on_final=captions.final,
        on_warning=captions.warn,
    )
    # A daemon: a server that does not answer must not keep this process after Ctrl-C.
    thread = threading.Thread(target=session.run, args=(sound,), name="session", daemon=True)
    thread.start()
    try:
        platform.run(session.done.is_set)
    except Stopped:
        session.end()
        deadline = time.monotonic() + END_LIMIT_S
        while not session.done.wait(0.05) and not flag.urgent and time.monotonic() < deadline:
            pass
        raise
    finally:
        captions.clear()
    session.check()
