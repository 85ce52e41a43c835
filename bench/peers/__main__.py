"""python -m bench.peers [BOARD]"""

from __future__ import annotations

import sys

from bench.lines import main
from bench.peers import figures

if __name__ == "__main__":
    sys.exit(main("int8 instructions per inference against the best peer", lambda: figures(*sys.argv[1:2])))
