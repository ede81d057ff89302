"""``python tests/impatientcommand.py ARGUMENTS``: ``longhand ARGUMENTS``, quicker with the hung.

Four looks without a sign of life are enough, not twelve.
"""

import cli.embedded.watch

if __name__ == "__main__":
    cli.embedded.watch.MISSED_LOOKS = 4
    from cli.main import main

    main()
