"""Delayed Gaussian-process models of neural recordings from several brain regions.

Their estimates come with honest uncertainty.

The public names are listed in ``__init__.pyi``. Each is imported when it is first asked for: JAX and ArviZ take
seconds, and a question to the command line should not wait for them.
"""

import pkgutil

import lazy_loader

# Started from the repository root, the source folder would hide an installed `mrgp.models`: look in both.
__path__ = pkgutil.extend_path(__path__, __name__)

from mrgp.runtime import devices  # noqa: F401  double precision, before any array exists

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
