"""``python impatient_command.py ARGUMENTS``: ``longhand ARGUMENTS``, quicker with the hung.

Four looks without a sign of life are enough, not twelve, and they follow each other sooner.
"""

import cli.embedded.watch

if __name__ == "__main__":
    cli.embedded.watch.MISSED_LOOKS = 4
    cli.embedded.watch.LOOK_EVERY_S = cli.embedded.watch.LOOK_LIMIT_S = 3.0
    from cli.main import main

    main()
