"""``python -m mula_lib.metrics``: see :mod:`mula_lib.scoring`, which reads the files that these modules do not know."""

import sys

from mula_lib.scoring import main

sys.exit(main())
