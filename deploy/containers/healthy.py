"""Exit 0 if a page on this machine answers: ``healthy.py http://127.0.0.1:4200/api/health``. For health checks."""

import sys
import urllib.request

try:
    with urllib.request.urlopen(sys.argv[1], timeout=4) as answer:
        sys.exit(answer.status != 200)
except OSError as error:
    sys.exit(f"{sys.argv[1]}: {error}")
