"""``python -m api`` with a hard limit of open files, which is the first argument."""

import resource
import runpy
import sys

limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
runpy.run_module("api", run_name="__main__", alter_sys=True)
