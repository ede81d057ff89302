"""``python -m api`` that waits for servers as long as tests do (``patience``).

The first argument is a hard limit of open files; 0: none.
"""

import resource
import runpy
import sys

from api import app as application
from harness.servers.patience import LONG_S, be_patient

limit = int(sys.argv.pop(1))
if limit:
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
be_patient()
application.PAUSE_S = application.FINAL_S = LONG_S
runpy.run_module("api", run_name="__main__", alter_sys=True)
