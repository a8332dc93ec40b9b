"""`python -m zssr_gan` is `zssr-gan`."""

import sys

from zssr_gan.cli import main

sys.exit(main())
