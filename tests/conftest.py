"""One thread for each process of the tests, and for the commands that they call.

`make test` has two at work on two cores. With two threads each, every small operation waits for a
thread that has no core just then, and waiting threads spin: 84 steps of AdamW over 180,000 weights
took 32 s of CPU time instead of 0.1 s.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
