"""``python -m otx_xai.cli``."""

import sys

from otx_xai.cli import main

sys.exit(main())
