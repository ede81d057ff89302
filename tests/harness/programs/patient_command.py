"""``python patient_command.py ARGUMENTS``: ``longhand ARGUMENTS``, whose Ctrl-C waits longer.

It asks the server for what was done, and to cancel, and waits a minute for each answer.
"""

import cli.transcribe.batch
import cli.transcribe.file_jobs

if __name__ == "__main__":
    cli.transcribe.file_jobs.LAST_WORDS_S = cli.transcribe.file_jobs.CANCEL_S = 60.0
    cli.transcribe.batch.ABANDON_S = 120.0
    from cli.main import main

    main()
