"""`python -m zssr_gan` is `zssr-gan`."""

import sys

from zssr_gan.cli.main import main

sys.exit(main())
